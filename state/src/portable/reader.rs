//! Reads the portable format, block by block.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::footer::Footer;
use super::index::{BlockIndex, WORTH_AN_INDEX};
use super::{
    BLOCK_HEADER_BYTES, Dropped, END, FIRST_VERSION, GroupIndex, HEADER_BYTES, PORTABLE_VERSION,
    Space, block_checksum,
};
use crate::codec::{FRAME_HEADER_BYTES, FrameKind, unframe_kind};
use crate::error::{Result, StateError};
use crate::hash::HASH_VERSION;
use crate::key_group::{KeyGroup, KeyGroupCount, KeyGroupRange};
use crate::state_key::{PREFIX_BYTES, StateKey};

/// The bytes of the file before its blocks.
pub(super) const BLOCKS_START: usize = FRAME_HEADER_BYTES + HEADER_BYTES;

/// The bytes of the file after its footer.
const TRAILER_BYTES: usize = 8;

/// Reads a file in the portable format; a pass holds one block in memory at a time.
#[derive(Clone, Debug)]
pub struct PortableReader {
    source: Source,
    count: KeyGroupCount,
    groups: Arc<[GroupIndex]>,
    drops: Arc<[Dropped]>,
    spaces: Arc<[Space]>,
    /// The indexes of the key groups that were needed; none in the first version.
    indexes: Option<Arc<[OnceLock<BlockIndex>]>>,
    entries: u64,
}

#[derive(Clone, Debug)]
enum Source {
    Bytes(Arc<[u8]>),
    /// A file from an offset on, and how many bytes of it.
    File(Arc<Path>, u64, u64),
    /// The same, kept open.
    Open(Arc<Mutex<File>>, Arc<Path>, u64, u64),
}

/// A source open for reading.
pub(super) enum Input {
    Bytes(Arc<[u8]>),
    File { file: Arc<Mutex<File>>, path: Arc<Path>, start: u64, length: u64 },
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
            Source::File(.., length) | Source::Open(.., length) => *length,
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

    /// The parts of tables that it has entries of.
    pub(crate) fn spaces(&self) -> &[Space] {
        &self.spaces
    }

    /// Whether single keys can be read: not of the first version.
    pub(crate) fn is_indexed(&self) -> bool {
        self.indexes.is_some()
    }

    /// The same, with its file held open: it may be deleted meanwhile.
    pub(crate) fn kept_open(self) -> Result<Self> {
        let source = match self.source {
            Source::File(path, start, length) => {
                let file = File::open(&path).map_err(|error| StateError::io(&path, error))?;
                Source::Open(Arc::new(Mutex::new(file)), path, start, length)
            }
            source => source,
        };
        Ok(PortableReader { source, ..self })
    }

    /// Opens it for reading.
    pub(super) fn input(&self) -> Result<Input> {
        self.source.open()
    }

    /// The place of a key group in the footer; none if there are no entries of it.
    pub(super) fn place_of(&self, group: KeyGroup) -> Option<usize> {
        self.groups.binary_search_by_key(&group.get(), |index| index.group).ok()
    }

    /// Where the blocks of the key group at a place end.
    pub(super) fn blocks_end_of(&self, place: usize) -> u64 {
        self.groups[place].end
    }

    /// The index of the blocks of the key group at a place.
    pub(super) fn index_of(&self, place: usize, input: &Input) -> Result<&BlockIndex> {
        let missing = || StateError::Unsupported("the run has no index of its keys".to_owned());
        let known = self.indexes.as_ref().and_then(|all| all.get(place)).ok_or_else(missing)?;
        if let Some(index) = known.get() {
            return Ok(index);
        }
        let GroupIndex { offset, end, next, .. } = self.groups[place];
        let index = if end == next && end - offset < WORTH_AN_INDEX {
            BlockIndex::of_block(offset)
        } else {
            let mut bytes = Vec::new();
            input.read(end, (next - end) as usize, &mut bytes)?;
            BlockIndex::read(&bytes, offset, end)?
        };
        Ok(known.get_or_init(|| index))
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
            is_partial: false,
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
    pub(super) fn locate<T>(&self, result: Result<T>) -> Result<T> {
        match &self.source {
            Source::Bytes(_) => result,
            Source::File(path, ..) | Source::Open(_, path, ..) => {
                result.map_err(|error| error.in_file(path))
            }
        }
    }

    fn open(source: Source) -> Result<Self> {
        let input = source.open()?;
        let length = input.length()?;
        let mut bytes = Vec::new();
        if length < (BLOCKS_START + TRAILER_BYTES) as u64 {
            return Err(StateError::corrupt(length, "file is too short"));
        }
        input.read(0, BLOCKS_START, &mut bytes)?;
        let (version, count) = read_header(&bytes)?;
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
        let footer = Footer::read(&bytes, blocks_end, (version, count))?;
        let Footer { entries, groups, drops, spaces } = footer;
        let indexes =
            (version > FIRST_VERSION).then(|| groups.iter().map(|_| OnceLock::new()).collect());
        let (groups, drops, spaces) = (groups.into(), drops.into(), spaces.into());
        Ok(PortableReader { source, count, groups, drops, spaces, indexes, entries })
    }
}

impl Source {
    fn open(&self) -> Result<Input> {
        match self {
            Source::Bytes(bytes) => Ok(Input::Bytes(bytes.clone())),
            Source::File(path, start, length) => {
                let file = File::open(path).map_err(|error| StateError::io(path, error))?;
                let (file, path) = (Arc::new(Mutex::new(file)), path.clone());
                Ok(Input::File { file, path, start: *start, length: *length })
            }
            Source::Open(file, path, start, length) => {
                let (file, path) = (file.clone(), path.clone());
                Ok(Input::File { file, path, start: *start, length: *length })
            }
        }
    }
}

impl Input {
    fn length(&self) -> Result<u64> {
        match self {
            Input::Bytes(bytes) => Ok(bytes.len() as u64),
            Input::File { file, path, start, length } => {
                let file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let found = file.metadata().map_err(|error| StateError::io(path, error))?.len();
                Ok(found.saturating_sub(*start).min(*length))
            }
        }
    }

    /// Reads `length` bytes at `offset`; both are known to lie in the file.
    fn read(&self, offset: u64, length: usize, out: &mut Vec<u8>) -> Result<()> {
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
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(*start + offset)).map_err(io)?;
                out.reserve(length);
                (&mut *file).take(length as u64).read_to_end(out).map_err(io)?;
                if out.len() < length {
                    return Err(StateError::corrupt(offset, "file is too short"));
                }
            }
        }
        Ok(())
    }

    /// Reads the block at `offset`, which lies before `end`.
    pub(super) fn read_block(&self, offset: u64, end: u64, block: &mut Block) -> Result<()> {
        let out = &mut block.bytes;
        (block.offset, block.next) = (offset, 0);
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

/// The version of the format, and the number of key groups.
fn read_header(bytes: &[u8]) -> Result<(u16, KeyGroupCount)> {
    let damaged = |detail: String| StateError::corrupt(0, detail);
    let header = unframe_kind(FrameKind::PORTABLE_HEADER, bytes)
        .map_err(|error| damaged(error.to_string()))?;
    let mut fields = Fields { bytes: header, offset: FRAME_HEADER_BYTES as u64 };
    let version = u16::from_le_bytes(fields.take()?);
    let [hash_version, _] = fields.take()?;
    if !(FIRST_VERSION..=PORTABLE_VERSION).contains(&version) || hash_version != HASH_VERSION {
        return Err(StateError::Unsupported(format!(
            "the snapshot has format version {version} and hash version {hash_version}; this \
             program reads {PORTABLE_VERSION} and {HASH_VERSION}"
        )));
    }
    let count = u16::from_le_bytes(fields.take()?);
    Ok((version, KeyGroupCount::try_from(count).map_err(damaged)?))
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
    /// Whether it was entered in the middle.
    is_partial: bool,
    /// The entries of the key group that were read.
    entries: u64,
}

/// A block being read.
#[derive(Default)]
pub(super) struct Block {
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

    /// Goes to the first entry whose key is not before `key`; false if there is none. The run must
    /// have an index.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<bool> {
        let found = self.try_seek(key);
        self.reader.locate(found)
    }

    /// The encoded state key of the entry.
    pub(crate) fn key(&self) -> &[u8] {
        &self.block.key
    }

    /// Its value; none if the key was removed.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.block.value()
    }

    fn try_seek(&mut self, key: &[u8]) -> Result<bool> {
        let group = StateKey::decode(key)?.key_group.get().max(self.range.start);
        let groups = &self.reader.groups;
        self.group = groups.partition_point(|index| index.group < group);
        (self.is_begun, self.is_partial, self.entries) = (false, false, 0);
        self.block.bytes.clear();
        self.block.rewind();
        let Some(index) = groups.get(self.group).filter(|index| index.group < self.range.end)
        else {
            return Ok(false);
        };
        if index.group == group {
            let blocks = self.reader.index_of(self.group, &self.input)?;
            if let Some(block) = blocks.find(key) {
                (self.is_begun, self.is_partial) = (true, true);
                self.offset = blocks.offset(block);
            }
        }
        while self.try_advance()? {
            if self.key() >= key {
                return Ok(true);
            }
        }
        Ok(false)
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
            if self.offset >= index.end {
                if self.entries != index.entries && !self.is_partial {
                    let detail = format!(
                        "key group {} has {} entries, not {}",
                        index.group, self.entries, index.entries
                    );
                    return Err(StateError::corrupt(index.offset, detail));
                }
                (self.is_begun, self.is_partial, self.entries) = (false, false, 0);
                self.group += 1;
            }
        }
        let Some(index) = groups.get(self.group).filter(|g| g.group < self.range.end) else {
            return Ok(false);
        };
        if !self.is_begun {
            (self.is_begun, self.offset) = (true, index.offset);
        }
        self.input.read_block(self.offset, index.end, &mut self.block)?;
        self.offset += (BLOCK_HEADER_BYTES + self.block.bytes.len()) as u64;
        Ok(true)
    }
}

impl Block {
    /// The key that was read last.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Its value; none if it was removed.
    pub(super) fn value(&self) -> Option<&[u8]> {
        self.value.clone().map(|range| &self.bytes[range])
    }

    /// Goes back to its start.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Reads the next entry of a block that was entered at its start; false if there is none.
    pub(super) fn next(&mut self) -> Result<bool> {
        let has_next = self.next < self.bytes.len();
        if has_next {
            let is_first = self.next == 0;
            self.read_entry(is_first, is_first)?;
        }
        Ok(has_next)
    }

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
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
    /// Where they are in the file, for errors.
    pub(super) offset: u64,
}

impl<'a> Fields<'a> {
    pub(super) fn damaged(&self, detail: &str) -> StateError {
        StateError::corrupt(self.offset, detail)
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) =
            self.bytes.split_first_chunk().ok_or_else(|| self.damaged("field is cut off"))?;
        self.bytes = rest;
        Ok(*field)
    }

    /// How many parts of this length follow.
    pub(super) fn count(&mut self, bytes: usize) -> Result<usize> {
        let count = u32::from_le_bytes(self.take()?) as usize;
        match count.checked_mul(bytes).is_some_and(|bytes| bytes <= self.bytes.len()) {
            true => Ok(count),
            false => Err(self.damaged("there are more parts than room for them")),
        }
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8]> {
        let (slice, rest) =
            self.bytes.split_at_checked(length).ok_or_else(|| self.damaged("entry is cut off"))?;
        self.bytes = rest;
        Ok(slice)
    }

    pub(super) fn varint(&mut self) -> Result<usize> {
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
