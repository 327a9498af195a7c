//! A pass over a run, entry by entry.

use super::block::Block;
use super::input::Input;
use super::reader::PortableReader;
use crate::error::{Result, StateError};
use crate::key_group::KeyGroupRange;
use crate::state_key::StateKey;

/// So many bytes of a file are read at once.
const READ_AHEAD: usize = 64 << 10;

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

impl Cursor {
    pub(super) fn new(reader: PortableReader, input: Input, range: KeyGroupRange) -> Self {
        let group = reader.groups().partition_point(|index| index.group < range.start);
        Cursor {
            input,
            reader,
            range,
            group,
            block: Block::default(),
            offset: 0,
            is_begun: false,
            is_partial: false,
            entries: 0,
        }
    }

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
        self.block.key()
    }

    /// Its value; none if the key was removed.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.block.value()
    }

    fn try_seek(&mut self, key: &[u8]) -> Result<bool> {
        let group = StateKey::decode(key)?.key_group.get().max(self.range.start);
        let groups = self.reader.groups();
        self.group = groups.partition_point(|index| index.group < group);
        (self.is_begun, self.is_partial, self.entries) = (false, false, 0);
        self.block.clear();
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
        while self.block.is_done() {
            if !self.next_block()? {
                return Ok(false);
            }
        }
        self.block.read_entry(self.entries == 0)?;
        self.entries += 1;
        let group = StateKey::decode(self.block.key())?.key_group.get();
        if group != self.reader.groups()[self.group].group {
            return Err(self.block.damaged("entry of another key group"));
        }
        Ok(true)
    }

    /// Reads the next block; false if there is none.
    fn next_block(&mut self) -> Result<bool> {
        let groups = self.reader.groups();
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
        self.block.read(&self.input, self.offset, index.end, READ_AHEAD)?;
        self.offset = self.block.end_offset();
        Ok(true)
    }
}
