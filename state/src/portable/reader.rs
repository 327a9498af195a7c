//! Reads the portable format, block by block.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{
    BLOCK_HEADER_BYTES, Dropped, END, GroupIndex, HEADER_BYTES, PORTABLE_VERSION, block_checksum,
};
use crate::codec::{FRAME_HEADER_BYTES, FrameKind, unframe_kind};
use crate::error::{Result, StateError};
use crate::hash::HASH_VERSION;
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::state_key::{Namespace, PREFIX_BYTES, StateKey, TableId};

/// The bytes of the file before its blocks.
const BLOCKS_START: usize = FRAME_HEADER_BYTES + HEADER_BYTES;

/// The bytes of the file after its footer.
const TRAILER_BYTES: usize = 8;

/// The bytes of one key group in the footer.
const GROUP_BYTES: usize = 18;

/// The bytes of a drop in the footer.
const DROP_BYTES: usize = 23;

/// Reads a file in the portable format; a pass holds one block in memory at a time.
#[derive(Clone, Debug)]
pub struct PortableReader {
    source: Source,
    count: KeyGroupCount,
    groups: Arc<[GroupIndex]>,
    drops: Arc<[Dropped]>,
    entries: u64,
    blocks_end: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Bytes(Arc<[u8]>),
    /// A file from an offset on, and how many bytes of it.
    File(Arc<Path>, u64, u64),
}

/// A source open for reading.
enum Input {
    Bytes(Arc<[u8]>),
    File { file: File, path: Arc<Path>, start: u64, length: u64 },
}

/// What is called with a key and its value; none if the key was removed.
type VisitEntry<'a> = dyn FnMut(StateKey<'_>, Option<&[u8]>) -> Result<()> + 'a;

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
        let metadata = std::fs::metadata(path).map_err(|error| StateError::io(path, error))?;
        Self::of_file_part(path, 0, metadata.len())
    }

    /// Reads from a part of a file: `length` bytes from `start` on.
    ///
    /// # Errors
    /// As for [`of_file`](PortableReader::of_file).
    pub fn of_file_part(path: &Path, start: u64, length: u64) -> Result<Self> {
        Self::open(Source::File(path.into(), start, length)).map_err(|error| error.in_file(path))
    }

    /// The number of key groups of the job that wrote it.
    pub fn key_group_count(&self) -> KeyGroupCount {
        self.count
    }

    /// Its length, in bytes.
    pub fn length(&self) -> u64 {
        match &self.source {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File(_, _, length) => *length,
        }
    }

    /// The number of entries.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// What is gone from the runs below.
    pub fn drops(&self) -> &[Dropped] {
        &self.drops
    }

    /// The entries whose key group is in `range`, sorted by state key.
    pub(crate) fn cursor(&self, range: KeyGroupRange) -> Result<Cursor> {
        let first = self.groups.iter().position(|index| index.group >= range.start);
        Ok(Cursor {
            input: self.source.open()?,
            reader: self.clone(),
            range,
            group: first.unwrap_or(self.groups.len()),
            block: Block::default(),
            offset: 0,
            is_begun: false,
            entries: 0,
        })
    }

    /// Calls `f` with every entry whose key group is in `range`, sorted by state key; none for a
    /// key that was removed.
    ///
    /// # Errors
    /// `Corrupt` if a block of these key groups is damaged, `Io` if the file cannot be read, and
    /// what `f` returns.
    pub fn for_each(&self, range: KeyGroupRange, f: &mut VisitEntry<'_>) -> Result<()> {
        let mut cursor = self.cursor(range)?;
        while cursor.advance()? {
            f(StateKey::decode(cursor.key())?, cursor.value())?;
        }
        Ok(())
    }

    /// Names the file in an error that comes from it.
    fn locate<T>(&self, result: Result<T>) -> Result<T> {
        match &self.source {
            Source::Bytes(_) => result,
            Source::File(path, ..) => result.map_err(|error| error.in_file(path)),
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
        let Footer { entries, groups, drops } = read_footer(&bytes, blocks_end, count)?;
        let (groups, drops) = (groups.into(), drops.into());
        Ok(PortableReader { source, count, groups, drops, entries, blocks_end })
    }
}

impl Source {
    fn open(&self) -> Result<Input> {
        match self {
            Source::Bytes(bytes) => Ok(Input::Bytes(bytes.clone())),
            Source::File(path, start, length) => {
                let file = File::open(path).map_err(|error| StateError::io(path, error))?;
                let (path, start, length) = (path.clone(), *start, *length);
                Ok(Input::File { file, path, start, length })
            }
        }
    }
}

impl Input {
    fn length(&self) -> Result<u64> {
        match self {
            Input::Bytes(bytes) => Ok(bytes.len() as u64),
            Input::File { file, path, start, length } => {
                let found = file.metadata().map_err(|error| StateError::io(path, error))?.len();
                Ok(found.saturating_sub(*start).min(*length))
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
            Input::File { file, path, start, .. } => {
                let io = |error| StateError::io(path, error);
                file.seek(SeekFrom::Start(*start + offset)).map_err(io)?;
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

/// What the footer says: the number of entries, the key groups in ascending order, the drops.
struct Footer {
    entries: u64,
    groups: Vec<GroupIndex>,
    drops: Vec<Dropped>,
}

fn read_footer(bytes: &[u8], blocks_end: u64, count: KeyGroupCount) -> Result<Footer> {
    let damaged = |detail: &str| StateError::corrupt(blocks_end, detail);
    let footer = unframe_kind(FrameKind::PORTABLE_FOOTER, bytes)
        .map_err(|error| damaged(&error.to_string()))?;
    let mut fields = Fields { bytes: footer, offset: blocks_end };
    let entries = u64::from_le_bytes(fields.take()?);
    let group_count = u32::from_le_bytes(fields.take()?) as usize;
    if fields.bytes.len() < group_count * GROUP_BYTES {
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
    let drop_count = u32::from_le_bytes(fields.take()?) as usize;
    if fields.bytes.len() != drop_count * DROP_BYTES {
        return Err(damaged("footer has another number of drops than it says"));
    }
    let drops = (0..drop_count).map(|_| read_drop(&mut fields)).collect::<Result<_>>()?;
    Ok(Footer { entries, groups, drops })
}

fn read_drop(fields: &mut Fields<'_>) -> Result<Dropped> {
    let mut number = || fields.take().map(u16::from_le_bytes);
    let (key_groups, table) = ((number()?, number()?), TableId(number()?));
    let [has_namespace] = fields.take()?;
    let start = i64::from_le_bytes(fields.take()?);
    let namespace = Namespace(start, i64::from_le_bytes(fields.take()?));
    match has_namespace {
        0 => Ok(Dropped { key_groups, table, namespace: None }),
        1 => Ok(Dropped { key_groups, table, namespace: Some(namespace) }),
        _ => Err(fields.damaged("footer has a drop that is not understood")),
    }
}

/// A pass over entries, one after the other.
pub(crate) struct Cursor {
    input: Input,
    reader: PortableReader,
    range: KeyGroupRange,
    /// The place of the key group in the footer.
    group: usize,
    block: Block,
    /// Where the next block is.
    offset: u64,
    /// Whether a block of the key group has been read.
    is_begun: bool,
    /// The entries of the key group that were read.
    entries: u64,
}

/// A block being read.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    /// Where it is in the file.
    offset: u64,
    /// Where the next entry is in it.
    next: usize,
    /// The key that was read last, in this block or the one before it.
    key: Vec<u8>,
    value: Option<Range<usize>>,
}

impl Cursor {
    /// Goes to the next entry; false if there is none.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        let found = self.try_advance();
        self.reader.locate(found)
    }

    /// The encoded state key of the entry.
    pub(crate) fn key(&self) -> &[u8] {
        &self.block.key
    }

    /// Its value; none if the key was removed.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.block.value.clone().map(|range| &self.block.bytes[range])
    }

    fn try_advance(&mut self) -> Result<bool> {
        while self.block.next >= self.block.bytes.len() {
            if !self.next_block()? {
                return Ok(false);
            }
        }
        let is_first = self.block.next == 0;
        self.block.read_entry(is_first, self.entries == 0)?;
        self.entries += 1;
        let group = StateKey::decode(&self.block.key)?.key_group.get();
        if group != self.reader.groups[self.group].group {
            return Err(StateError::corrupt(self.block.offset, "entry of another key group"));
        }
        Ok(true)
    }

    /// Reads the next block; false if there is none.
    fn next_block(&mut self) -> Result<bool> {
        let groups = &self.reader.groups;
        if self.is_begun {
            let index = groups[self.group];
            let end = groups.get(self.group + 1).map_or(self.reader.blocks_end, |g| g.offset);
            if self.offset >= end {
                if self.entries != index.entries {
                    let detail = format!(
                        "key group {} has {} entries, not {}",
                        index.group, self.entries, index.entries
                    );
                    return Err(StateError::corrupt(index.offset, detail));
                }
                (self.is_begun, self.entries) = (false, 0);
                self.group += 1;
            }
        }
        let Some(index) = groups.get(self.group).filter(|g| g.group < self.range.end) else {
            return Ok(false);
        };
        if !self.is_begun {
            (self.is_begun, self.offset) = (true, index.offset);
        }
        let end = groups.get(self.group + 1).map_or(self.reader.blocks_end, |g| g.offset);
        self.input.read_block(self.offset, end, &mut self.block.bytes)?;
        (self.block.offset, self.block.next) = (self.offset, 0);
        self.offset += (BLOCK_HEADER_BYTES + self.block.bytes.len()) as u64;
        Ok(true)
    }
}

impl Block {
    /// Reads the next entry. The first one of a block shares nothing with the one before it; the
    /// first one of a key group need not follow it.
    fn read_entry(&mut self, is_first: bool, starts_group: bool) -> Result<()> {
        let mut fields = Fields { bytes: &self.bytes[self.next..], offset: self.offset };
        let (shared, rest, value) = (fields.varint()?, fields.varint()?, fields.varint()?);
        let rest = fields.slice(rest)?;
        let length = value.saturating_sub(1);
        fields.slice(length)?;
        let end = self.bytes.len() - fields.bytes.len();
        let most = if is_first { 0 } else { self.key.len() };
        if shared > most {
            return Err(fields.damaged("entry shares more than the key before it has"));
        }
        // What is shared is equal: the rest decides the order.
        let ascends = starts_group
            || (shared < self.key.len() && *rest > self.key[shared..])
            || (shared == self.key.len() && !rest.is_empty());
        if !ascends {
            return Err(fields.damaged("entries are not in ascending order"));
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        if self.key.len() < PREFIX_BYTES {
            return Err(fields.damaged("key is cut off"));
        }
        self.value = (value > 0).then_some(end - length..end);
        self.next = end;
        Ok(())
    }
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
