//! The encoding of keys, values and files: the only module that knows bincode.
//!
//! # Formats
//! * A *value* is bincode 2 in its standard configuration (little endian, variable-length
//!   integers), 64 MiB at most.
//! * A *key* is bincode 2 with big-endian integers of fixed length, so that unsigned numbers sort
//!   as numbers.
//! * A *frame* is `TLWG`, codec id, frame version, kind (one byte each), a zero byte, the payload's
//!   length (8 bytes, little endian), a CRC-32 of all that and the payload (4 bytes, little
//!   endian), and the payload.

use bincode::config::{
    BigEndian, Configuration, Fixint, Limit, LittleEndian, Varint, legacy, standard,
};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

mod probe;

pub use probe::check_key;

/// The longest value and key, in encoded bytes.
pub const MAX_ENCODED_BYTES: usize = 64 << 20;

/// The bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 20;

const MAGIC: [u8; 4] = *b"TLWG";
const CODEC_BINCODE_2: u8 = 1;
const FRAME_VERSION: u8 = 1;

const VALUES: Configuration<LittleEndian, Varint, Limit<MAX_ENCODED_BYTES>> =
    standard().with_limit::<MAX_ENCODED_BYTES>();
const KEYS: Configuration<BigEndian, Fixint, Limit<MAX_ENCODED_BYTES>> =
    legacy().with_big_endian().with_limit::<MAX_ENCODED_BYTES>();

/// A key, value or frame that cannot be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The type's `Serialize` failed, or it uses what the encoding does not know.
    #[error("cannot encode: {0}")]
    Encode(String),
    /// The bytes are not an encoding of the type.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// Bytes are left after the value.
    #[error("{left} bytes are left after the value")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// The encoding is longer than [`MAX_ENCODED_BYTES`].
    #[error("encoding has {length} bytes, more than the limit of {MAX_ENCODED_BYTES}")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
    },
    /// A frame is damaged, or is none.
    #[error("bad frame: {0}")]
    Frame(String),
    /// A frame was written by a codec or version that this program does not know.
    #[error("frame has codec {codec}, version {version}; this program reads codec 1, version 1")]
    UnknownFrame {
        /// The codec id.
        codec: u8,
        /// The frame version.
        version: u8,
    },
}

impl serde::ser::Error for CodecError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        CodecError::Encode(message.to_string())
    }
}

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameKind(pub u8);

impl FrameKind {
    /// The header of a portable snapshot.
    pub const PORTABLE_HEADER: FrameKind = FrameKind(1);
    /// The footer of a portable snapshot.
    pub const PORTABLE_FOOTER: FrameKind = FrameKind(2);
    /// The index of a portable snapshot's blocks.
    pub const PORTABLE_INDEX: FrameKind = FrameKind(3);
}

/// Appends to a byte vector.
struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends the encoding of a value.
///
/// # Errors
/// `Encode` if the type cannot be serialised, `TooLong` if the encoding exceeds the limit; `out`
/// is then as it was.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    encode_as(value, out, VALUES)
}

/// The value that `bytes` encode, all of them.
///
/// # Errors
/// If they are not exactly one encoded `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    decode_as(bytes, VALUES)
}

/// Appends the encoding of a key.
///
/// # Errors
/// As for [`encode`].
pub fn encode_key<K: Serialize + ?Sized>(key: &K, out: &mut Vec<u8>) -> Result<(), CodecError> {
    encode_as(key, out, KEYS)
}

/// The key that `bytes` encode, all of them.
///
/// # Errors
/// If they are not exactly one encoded `K`.
pub fn decode_key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, CodecError> {
    decode_as(bytes, KEYS)
}

/// What `seed` makes of an encoded value, all of it.
///
/// # Errors
/// As for [`decode`].
pub(crate) fn decode_seed<'de, S: DeserializeSeed<'de>>(
    seed: S,
    bytes: &'de [u8],
) -> Result<S::Value, CodecError> {
    decode_seed_as(seed, bytes, VALUES)
}

/// What `seed` makes of an encoded key, all of it.
///
/// # Errors
/// As for [`decode_key`].
pub(crate) fn decode_key_seed<'de, S: DeserializeSeed<'de>>(
    seed: S,
    bytes: &'de [u8],
) -> Result<S::Value, CodecError> {
    decode_seed_as(seed, bytes, KEYS)
}

fn decode_seed_as<'de, S: DeserializeSeed<'de>>(
    seed: S,
    bytes: &'de [u8],
    config: impl bincode::config::Config,
) -> Result<S::Value, CodecError> {
    let (value, used) = bincode::serde::seed_decode_from_slice(seed, bytes, config)
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CodecError::TrailingBytes { left }),
    }
}

fn encode_as<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
    config: impl bincode::config::Config,
) -> Result<(), CodecError> {
    let start = out.len();
    let encoded = bincode::serde::encode_into_writer(value, Appender(out), config);
    let length = out.len() - start;
    let result = match encoded {
        Err(error) => Err(CodecError::Encode(error.to_string())),
        Ok(()) if length > MAX_ENCODED_BYTES => Err(CodecError::TooLong { length }),
        Ok(()) => return Ok(()),
    };
    out.truncate(start);
    result
}

fn decode_as<T: DeserializeOwned>(
    bytes: &[u8],
    config: impl bincode::config::Config,
) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CodecError::TrailingBytes { left }),
    }
}

/// A frame of this kind around `payload`.
pub fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[CODEC_BINCODE_2, FRAME_VERSION, kind.0, 0]);
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    let checksum = frame_checksum(&out, payload);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// The payload of a frame that `bytes` are, exactly, of whatever kind.
///
/// # Errors
/// `Frame` if they are damaged or no frame, `UnknownFrame` if a later version wrote them.
pub fn unframe(bytes: &[u8]) -> Result<&[u8], CodecError> {
    let bad = |detail: &str| Err(CodecError::Frame(detail.to_owned()));
    let Some((header, payload)) = bytes.split_at_checked(FRAME_HEADER_BYTES) else {
        return bad("shorter than a frame's header");
    };
    let Some(([magic @ .., codec, version, _kind, _zero], tail)) = header.split_first_chunk::<8>()
    else {
        return bad("shorter than a frame's header");
    };
    if magic != MAGIC.as_slice() {
        return bad("does not begin with TLWG");
    }
    let (length, checksum) = tail.split_at(8);
    if checksum != frame_checksum(&header[..16], payload).to_le_bytes() {
        // A later version may place the checksum elsewhere: name the version if it differs.
        return match (*codec, *version) {
            (CODEC_BINCODE_2, FRAME_VERSION) => bad("checksum does not match"),
            (codec, version) => Err(CodecError::UnknownFrame { codec, version }),
        };
    }
    if (*codec, *version) != (CODEC_BINCODE_2, FRAME_VERSION) {
        return Err(CodecError::UnknownFrame { codec: *codec, version: *version });
    }
    if length != (payload.len() as u64).to_le_bytes() {
        return bad("length does not match");
    }
    Ok(payload)
}

/// The payload of a frame of this kind that `bytes` are, exactly.
///
/// # Errors
/// As for [`unframe`], and `Frame` if it is of another kind.
pub fn unframe_kind(kind: FrameKind, bytes: &[u8]) -> Result<&[u8], CodecError> {
    let payload = unframe(bytes)?;
    let found = bytes[6];
    if found == kind.0 {
        Ok(payload)
    } else {
        Err(CodecError::Frame(format!("is of kind {found}, not {}", kind.0)))
    }
}

fn frame_checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
