//! The portable format: an operator's entries in one file that any backend writes and restores.
//!
//! # Format
//! 1. A header frame: format version (2 bytes), hash version (1), a zero byte, number of key
//!    groups (2). Numbers are little endian throughout.
//! 2. Blocks: payload length (4 bytes), CRC-32 of length and payload (4), payload. A payload is a
//!    run of entries of one key group, closed by the entry that reaches 64 KiB. An entry is three
//!    counts of variable length (key bytes shared with the entry before it in the block, further
//!    key bytes, value bytes), the further key bytes, and the value. They are sorted by state key.
//! 3. A footer frame: number of entries (8), number of key groups with entries (4), and for each
//!    of these its number (2), the offset of its first block (8) and its number of entries (8).
//! 4. The footer frame's length (4) and `TLWE`.
//!
//! # Invariants
//! * I1 Equal entries give equal bytes.
//! * I2 Every byte is covered by a checksum, or checked against its only valid value.

mod reader;
mod writer;

pub use reader::PortableReader;
pub use writer::PortableWriter;

/// The version of the format.
pub const PORTABLE_VERSION: u16 = 1;

/// A block is closed when its payload has reached this many bytes.
const BLOCK_BYTES: usize = 64 << 10;

/// The bytes of a block before its payload.
const BLOCK_HEADER_BYTES: usize = 8;

/// The bytes of the header's payload.
const HEADER_BYTES: usize = 6;

/// The last bytes of the file, after the footer's length.
const END: [u8; 4] = *b"TLWE";

/// What the footer says of one key group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GroupIndex {
    group: u16,
    offset: u64,
    entries: u64,
}

/// The checksum of a block.
fn block_checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
