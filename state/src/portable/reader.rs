//! Reads the portable format, block by block.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{BLOCK_HEADER_BYTES, END, GroupIndex, HEADER_BYTES, PORTABLE_VERSION, block_checksum};
use crate::codec::{FRAME_HEADER_BYTES, FrameKind, unframe_kind};
use crate::error::{Result, StateError};
use crate::hash::HASH_VERSION;
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::state_key::StateKey;

/// The bytes of the file before its blocks.
const BLOCKS_START: usize = FRAME_HEADER_BYTES + HEADER_BYTES;

/// The bytes of the file after its footer.
const TRAILER_BYTES: usize = 8;

/// The bytes of one key group in the footer.
const GROUP_BYTES: usize = 18;

/// Reads a snapshot in the portable format; holds one block of a file in memory at a time.
#[derive(Clone, Debug)]
pub struct PortableReader {
    source: Source,
    count: KeyGroupCount,
    groups: Vec<GroupIndex>,
    entries: u64,
    blocks_end: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Bytes(Arc<[u8]>),
    File(PathBuf),
}

/// A source open for reading.
enum Input<'a> {
    Bytes(&'a [u8]),
    File(File, &'a Path),
}

impl PortableReader {
    /// Reads from bytes in memory.
    ///
    /// # Errors
    /// `Corrupt` if the header or footer is damaged, `Unsupported` if its version is unknown.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self> {
        Self::open(Source::Bytes(bytes.into()))
    }

    /// Reads from a file, which is opened again for each pass.
    ///
    /// # Errors
    /// As for [`of_bytes`](PortableReader::of_bytes), and `Io` if it cannot be read.
    pub fn of_file(path: &Path) -> Result<Self> {
        Self::open(Source::File(path.to_owned())).map_err(|error| error.in_file(path))
    }

    /// The number of key groups of the job that wrote it.
    pub fn key_group_count(&self) -> KeyGroupCount {
        self.count
    }

    /// The number of entries.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Calls `f` with every entry whose key group is in `range`, sorted by state key.
    ///
    /// # Errors
    /// `Corrupt` if a block of these key groups is damaged, `Io` if the file cannot be read, and
    /// what `f` returns.
    pub fn for_each(
        &self,
        range: KeyGroupRange,
        f: &mut dyn FnMut(StateKey<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut input = self.source.open()?;
        let mut block = Vec::new();
        for (i, index) in self.groups.iter().enumerate() {
            if index.group < range.start || index.group >= range.end {
                continue;
            }
            let end = self.groups.get(i + 1).map_or(self.blocks_end, |next| next.offset);
            let mut state_key = Vec::new();
            let (mut offset, mut entries) = (index.offset, 0);
            while offset < end {
                self.locate(input.read_block(offset, end, &mut block))?;
                let visit = |key: &[u8], value: &[u8]| {
                    let key = StateKey::decode(key)?;
                    match key.key_group.get() == index.group {
                        true => f(key, value),
                        false => Err(StateError::corrupt(offset, "entry of another key group")),
                    }
                };
                entries += self.locate(read_entries(&block, offset, &mut state_key, visit))?;
                offset += (BLOCK_HEADER_BYTES + block.len()) as u64;
            }
            if entries != index.entries {
                let detail = format!(
                    "key group {} has {entries} entries, not {}",
                    index.group, index.entries
                );
                return self.locate(Err(StateError::corrupt(index.offset, detail)));
            }
        }
        Ok(())
    }

    /// Names the file in an error that comes from it.
    fn locate<T>(&self, result: Result<T>) -> Result<T> {
        match &self.source {
            Source::Bytes(_) => result,
            Source::File(path) => result.map_err(|error| error.in_file(path)),
        }
    }

    fn open(source: Source) -> Result<Self> {
        let mut input = source.open()?;
        let length = input.length()?;
        let mut bytes = Vec::new();
        if length < (BLOCKS_START + TRAILER_BYTES) as u64 {
            return Err(StateError::corrupt(length, "file is too short"));
        }
        input.read(0, BLOCKS_START, &mut bytes)?;
        let count = read_header(&bytes)?;
        let trailer = length - TRAILER_BYTES as u64;
        input.read(trailer, TRAILER_BYTES, &mut bytes)?;
        let mut fields = Fields { bytes: &bytes, offset: trailer };
        let footer_length = u64::from(u32::from_le_bytes(fields.take()?));
        if fields.bytes != END {
            return Err(StateError::corrupt(trailer, "file does not end with TLWE"));
        }
        let blocks_end = trailer
            .checked_sub(footer_length)
            .filter(|&end| end >= BLOCKS_START as u64)
            .ok_or_else(|| StateError::corrupt(trailer, "footer is longer than the file"))?;
        input.read(blocks_end, footer_length as usize, &mut bytes)?;
        drop(input);
        let (entries, groups) = read_footer(&bytes, blocks_end, count)?;
        Ok(PortableReader { source, count, groups, entries, blocks_end })
    }
}

impl Source {
    fn open(&self) -> Result<Input<'_>> {
        match self {
            Source::Bytes(bytes) => Ok(Input::Bytes(bytes)),
            Source::File(path) => {
                let file = File::open(path).map_err(|error| StateError::io(path, error))?;
                Ok(Input::File(file, path))
            }
        }
    }
}

impl Input<'_> {
    fn length(&self) -> Result<u64> {
        match self {
            Input::Bytes(bytes) => Ok(bytes.len() as u64),
            Input::File(file, path) => {
                Ok(file.metadata().map_err(|error| StateError::io(path, error))?.len())
            }
        }
    }

    /// Reads `length` bytes at `offset`; both are known to lie in the file.
    fn read(&mut self, offset: u64, length: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self {
            Input::Bytes(bytes) => {
                let found = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
                let found = found.and_then(|bytes| bytes.get(..length));
                out.extend_from_slice(
                    found.ok_or_else(|| StateError::corrupt(offset, "file is too short"))?,
                );
            }
            Input::File(file, path) => {
                let io = |error| StateError::io(path, error);
                file.seek(SeekFrom::Start(offset)).map_err(io)?;
                file.take(length as u64).read_to_end(out).map_err(io)?;
                if out.len() < length {
                    return Err(StateError::corrupt(offset, "file is too short"));
                }
            }
        }
        Ok(())
    }

    /// Reads the payload of the block at `offset`, which lies before `end`.
    fn read_block(&mut self, offset: u64, end: u64, out: &mut Vec<u8>) -> Result<()> {
        let payload = offset + BLOCK_HEADER_BYTES as u64;
        let overlong = || StateError::corrupt(offset, "block is longer than its key group");
        let room = end.checked_sub(payload).ok_or_else(overlong)?;
        self.read(offset, BLOCK_HEADER_BYTES, out)?;
        let mut fields = Fields { bytes: out, offset };
        let length = fields.take()?;
        let checksum = u32::from_le_bytes(fields.take()?);
        let payload_length = u32::from_le_bytes(length);
        if u64::from(payload_length) > room {
            return Err(overlong());
        }
        self.read(payload, payload_length as usize, out)?;
        if block_checksum(length, out) != checksum {
            return Err(StateError::corrupt(offset, "checksum of a block does not match"));
        }
        Ok(())
    }
}

fn read_header(bytes: &[u8]) -> Result<KeyGroupCount> {
    let damaged = |detail: String| StateError::corrupt(0, detail);
    let header = unframe_kind(FrameKind::PORTABLE_HEADER, bytes)
        .map_err(|error| damaged(error.to_string()))?;
    let mut fields = Fields { bytes: header, offset: FRAME_HEADER_BYTES as u64 };
    let version = u16::from_le_bytes(fields.take()?);
    let [hash_version, _] = fields.take()?;
    if version != PORTABLE_VERSION || hash_version != HASH_VERSION {
        return Err(StateError::Unsupported(format!(
            "the snapshot has format version {version} and hash version {hash_version}; this \
             program reads {PORTABLE_VERSION} and {HASH_VERSION}"
        )));
    }
    let count = u16::from_le_bytes(fields.take()?);
    KeyGroupCount::try_from(count).map_err(damaged)
}

/// The number of entries, and the key groups in ascending order.
fn read_footer(
    bytes: &[u8],
    blocks_end: u64,
    count: KeyGroupCount,
) -> Result<(u64, Vec<GroupIndex>)> {
    let damaged = |detail: &str| StateError::corrupt(blocks_end, detail);
    let footer = unframe_kind(FrameKind::PORTABLE_FOOTER, bytes)
        .map_err(|error| damaged(&error.to_string()))?;
    let mut fields = Fields { bytes: footer, offset: blocks_end };
    let entries = u64::from_le_bytes(fields.take()?);
    let group_count = u32::from_le_bytes(fields.take()?) as usize;
    if fields.bytes.len() != group_count * GROUP_BYTES {
        return Err(damaged("footer has another number of key groups than it says"));
    }
    let mut groups: Vec<GroupIndex> = Vec::with_capacity(group_count);
    for _ in 0..group_count {
        let index = GroupIndex {
            group: u16::from_le_bytes(fields.take()?),
            offset: u64::from_le_bytes(fields.take()?),
            entries: u64::from_le_bytes(fields.take()?),
        };
        let is_next = match groups.last() {
            None => index.offset == BLOCKS_START as u64,
            Some(last) => last.group < index.group && last.offset < index.offset,
        };
        if !is_next || index.offset >= blocks_end || index.group >= count.get() {
            return Err(damaged("footer's key groups are not in order"));
        }
        groups.push(index);
    }
    let sum = groups.iter().try_fold(0_u64, |sum, index| sum.checked_add(index.entries));
    let has_gap = groups.is_empty() && blocks_end != BLOCKS_START as u64;
    if sum != Some(entries) || has_gap {
        return Err(damaged("footer's key groups do not add up"));
    }
    Ok((entries, groups))
}

/// Calls `f` with the encoded state key and value of each entry of a block; returns their number.
/// `last_key` holds the last key of the key group's block before this one.
fn read_entries(
    block: &[u8],
    block_offset: u64,
    last_key: &mut Vec<u8>,
    mut f: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<u64> {
    let mut fields = Fields { bytes: block, offset: block_offset };
    let mut state_key = Vec::new();
    let mut entries = 0;
    while !fields.bytes.is_empty() {
        let (shared, rest, value) = (fields.varint()?, fields.varint()?, fields.varint()?);
        let rest = fields.slice(rest)?;
        let value = fields.slice(value)?;
        if shared > state_key.len() {
            return Err(fields.damaged("entry shares more than the key before it has"));
        }
        state_key.truncate(shared);
        state_key.extend_from_slice(rest);
        if state_key <= *last_key {
            return Err(fields.damaged("entries are not in ascending order"));
        }
        f(&state_key, value)?;
        last_key.clone_from(&state_key);
        entries += 1;
    }
    Ok(entries)
}

/// Bytes from which fields are taken, one after the other.
struct Fields<'a> {
    bytes: &'a [u8],
    /// Where they are in the file, for errors.
    offset: u64,
}

impl<'a> Fields<'a> {
    fn damaged(&self, detail: &str) -> StateError {
        StateError::corrupt(self.offset, detail)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) =
            self.bytes.split_first_chunk().ok_or_else(|| self.damaged("field is cut off"))?;
        self.bytes = rest;
        Ok(*field)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8]> {
        let (slice, rest) =
            self.bytes.split_at_checked(length).ok_or_else(|| self.damaged("entry is cut off"))?;
        self.bytes = rest;
        Ok(slice)
    }

    fn varint(&mut self) -> Result<usize> {
        let mut number = 0_u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| self.damaged("number is too large"));
            }
        }
        Err(self.damaged("number is too long"))
    }
}
