//! Opens a run: its header, its footer, the indexes of its key groups; its entries are read by
//! cursors and lookups.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::block::Fields;
use super::cursor::Cursor;
use super::footer::Footer;
use super::index::{BlockIndex, WORTH_AN_INDEX};
use super::input::{Input, Source};
use super::{Dropped, END, FIRST_VERSION, GroupIndex, HEADER_BYTES, PORTABLE_VERSION, Space};
use crate::codec::{FRAME_HEADER_BYTES, FrameKind, unframe_kind};
use crate::error::{Result, StateError};
use crate::hash::HASH_VERSION;
use crate::key_group::{KeyGroup, KeyGroupCount, KeyGroupRange};
use crate::state_key::StateKey;

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
        self.source.length()
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
        let source = Source::Open(self.source.open()?, self.source.length());
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
        Ok(Cursor::new(self.clone(), self.input()?, range))
    }

    /// The key groups that have entries, ascending.
    pub(super) fn groups(&self) -> &[GroupIndex] {
        &self.groups
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
        match self.source.path() {
            None => result,
            Some(path) => result.map_err(|error| error.in_file(path)),
        }
    }

    fn open(source: Source) -> Result<Self> {
        let input = source.open()?;
        let length = source.length().min(input.length()?);
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
