//! Writes the portable format, into memory or a file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::index::{IndexWriter, WORTH_AN_INDEX};
use super::{
    BLOCK_BYTES, BLOCK_HEADER_BYTES, Dropped, END, GroupIndex, HEADER_BYTES, PORTABLE_VERSION,
    block_checksum,
};
use crate::codec::{FrameKind, frame};
use crate::error::{Result, StateError};
use crate::hash::HASH_VERSION;
use crate::key_group::KeyGroupCount;
use crate::state_key::{Namespace, StateKey, TableId};

/// A file gets what has gathered to this many bytes.
const WRITE_BYTES: usize = 1 << 20;

/// Writes entries, given in order, in the portable format.
#[derive(Debug)]
pub struct PortableWriter {
    /// What the file, if there is one, does not have yet.
    out: Vec<u8>,
    file: Option<(File, PathBuf)>,
    /// The bytes that are in the file.
    written: u64,
    /// Where the open block's header begins, if a block is open.
    block: Option<usize>,
    groups: Vec<GroupIndex>,
    index: IndexWriter,
    /// The number of entries of each space, without those of the last key's.
    spaces: BTreeMap<(TableId, Namespace), u64>,
    space: ((TableId, Namespace), u64),
    last_key: Vec<u8>,
    entries: u64,
    drops: Vec<Dropped>,
}

impl PortableWriter {
    /// A writer for a job with this many key groups.
    pub fn new(count: KeyGroupCount) -> Self {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&PORTABLE_VERSION.to_le_bytes());
        header.extend_from_slice(&[HASH_VERSION, 0]);
        header.extend_from_slice(&count.get().to_le_bytes());
        PortableWriter {
            out: frame(FrameKind::PORTABLE_HEADER, &header),
            file: None,
            written: 0,
            block: None,
            groups: Vec::new(),
            index: IndexWriter::default(),
            spaces: BTreeMap::new(),
            space: ((TableId(0), Namespace::default()), 0),
            last_key: Vec::new(),
            entries: 0,
            drops: Vec::new(),
        }
    }

    /// A writer into a new file.
    ///
    /// # Errors
    /// `Io` if it cannot be made, or is there already.
    pub fn to_file(count: KeyGroupCount, path: &Path) -> Result<Self> {
        let file = File::create_new(path).map_err(|error| StateError::io(path, error))?;
        Ok(PortableWriter { file: Some((file, path.to_owned())), ..Self::new(count) })
    }

    /// The number of bytes so far.
    pub fn length(&self) -> u64 {
        self.written + self.out.len() as u64
    }

    /// Whether nothing was put into it.
    pub fn is_empty(&self) -> bool {
        self.entries == 0 && self.drops.is_empty()
    }

    /// Says that a part of a table is gone from all runs below.
    pub fn drop_below(&mut self, dropped: Dropped) {
        self.drops.push(dropped);
    }

    /// Adds an entry: an encoded [`StateKey`] greater than the one before it, and a value.
    ///
    /// # Errors
    /// `Corrupt` if the state key is not one, or not greater; `Io` if the file cannot be written.
    pub fn push(&mut self, state_key: &[u8], value: &[u8]) -> Result<()> {
        self.put(state_key, Some(value))
    }

    /// Adds an entry, or says that its key was removed. See [`push`](Self::push).
    ///
    /// # Errors
    /// As for [`push`](Self::push).
    pub fn put(&mut self, state_key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let StateKey { key_group, table, namespace, .. } = StateKey::decode(state_key)?;
        let group = key_group.get();
        if self.entries > 0 && *state_key <= *self.last_key {
            let offset = self.length();
            return Err(StateError::corrupt(offset, "entries are not in ascending order"));
        }
        if self.groups.last().is_none_or(|index| index.group != group) {
            self.close_group()?;
            let offset = self.length();
            self.groups.push(GroupIndex { group, offset, end: 0, next: 0, entries: 0 });
        }
        if self.space.0 != (table, namespace) {
            self.close_space();
            self.space.0 = (table, namespace);
        }
        self.space.1 += 1;
        self.index.add(state_key);
        let start = self.open_block();
        let is_first = self.out.len() == start + BLOCK_HEADER_BYTES;
        let shared = if is_first { 0 } else { common_prefix(&self.last_key, state_key) };
        let rest = &state_key[shared..];
        put_varint(shared as u64, &mut self.out);
        put_varint(rest.len() as u64, &mut self.out);
        put_varint(value.map_or(0, |value| value.len() as u64 + 1), &mut self.out);
        self.out.extend_from_slice(rest);
        self.out.extend_from_slice(value.unwrap_or_default());
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(rest);
        self.entries += 1;
        if let Some(index) = self.groups.last_mut() {
            index.entries += 1;
        }
        if self.out.len() - start >= BLOCK_BYTES {
            self.close_block()?;
        }
        Ok(())
    }

    /// The complete bytes; nothing of a writer into a file, which is complete then, but not synced.
    ///
    /// # Errors
    /// `Io` if the file cannot be written.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.close_group()?;
        self.close_space();
        let mut footer = Vec::new();
        footer.extend_from_slice(&self.entries.to_le_bytes());
        footer.extend_from_slice(&(self.groups.len() as u32).to_le_bytes());
        for index in &self.groups {
            footer.extend_from_slice(&index.group.to_le_bytes());
            footer.extend_from_slice(&index.offset.to_le_bytes());
            footer.extend_from_slice(&index.end.to_le_bytes());
            footer.extend_from_slice(&index.entries.to_le_bytes());
        }
        self.drops.sort_unstable();
        self.drops.dedup();
        footer.extend_from_slice(&(self.drops.len() as u32).to_le_bytes());
        for dropped in &self.drops {
            footer.extend_from_slice(&dropped.key_groups.0.to_le_bytes());
            footer.extend_from_slice(&dropped.key_groups.1.to_le_bytes());
            footer.extend_from_slice(&dropped.table.0.to_le_bytes());
            footer.push(u8::from(dropped.namespace.is_some()));
            let namespace = dropped.namespace.unwrap_or_default();
            footer.extend_from_slice(&namespace.0.to_le_bytes());
            footer.extend_from_slice(&namespace.1.to_le_bytes());
        }
        footer.extend_from_slice(&(self.spaces.len() as u32).to_le_bytes());
        for ((table, namespace), entries) in &self.spaces {
            footer.extend_from_slice(&table.0.to_le_bytes());
            footer.extend_from_slice(&namespace.0.to_le_bytes());
            footer.extend_from_slice(&namespace.1.to_le_bytes());
            footer.extend_from_slice(&entries.to_le_bytes());
        }
        let footer = frame(FrameKind::PORTABLE_FOOTER, &footer);
        self.out.extend_from_slice(&footer);
        self.out.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&END);
        self.flush()?;
        Ok(self.out)
    }

    /// Where the open block begins; opens one if there is none.
    fn open_block(&mut self) -> usize {
        *self.block.get_or_insert_with(|| {
            let start = self.out.len();
            self.out.extend_from_slice(&[0; BLOCK_HEADER_BYTES]);
            start
        })
    }

    fn close_block(&mut self) -> Result<()> {
        let Some(start) = self.block.take() else { return Ok(()) };
        let (header, payload) = self.out[start..].split_at_mut(BLOCK_HEADER_BYTES);
        // A block ends with the entry that fills it, and an entry is limited to 128 MiB.
        self.index.close_block(BLOCK_HEADER_BYTES + payload.len());
        let length = (payload.len() as u32).to_le_bytes();
        header[..4].copy_from_slice(&length);
        header[4..].copy_from_slice(&block_checksum(length, payload).to_le_bytes());
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Closes the last block of a key group, and adds their index.
    fn close_group(&mut self) -> Result<()> {
        self.close_block()?;
        let end = self.length();
        let Some(group) = self.groups.last_mut() else { return Ok(()) };
        group.end = end;
        if end - group.offset >= WORTH_AN_INDEX {
            self.out.extend_from_slice(&self.index.finish_group());
        } else {
            self.index.clear();
        }
        Ok(())
    }

    fn close_space(&mut self) {
        let (space, entries) = &mut self.space;
        if *entries > 0 {
            *self.spaces.entry(*space).or_default() += std::mem::take(entries);
        }
    }

    /// Gives the file what it does not have; does nothing where there is none.
    fn flush(&mut self) -> Result<()> {
        let Some((file, path)) = &mut self.file else { return Ok(()) };
        file.write_all(&self.out).map_err(|error| StateError::io(path, error))?;
        self.written += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }
}

pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// LEB128: seven bits a byte, least first.
pub(super) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
