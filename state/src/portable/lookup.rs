//! `Lookup`: reads single keys of a run.

use super::block::Block;
use super::index::key_fingerprint;
use super::input::Input;
use super::reader::PortableReader;
use super::{BLOCK_BYTES, BLOCK_HEADER_BYTES};
use crate::error::Result;
use crate::state_key::StateKey;

/// Reads single keys of a run: fastest in ascending order.
///
/// # Cost
/// A binary search of the key group's index and, if the block's filter does not rule the key out,
/// a block read and searched: some microseconds. The index of a key group is read when it is first
/// needed.
pub(crate) struct Lookup {
    reader: PortableReader,
    input: Input,
    block: Block,
    /// The block that is read, and whether the key in it is an entry's.
    at: Option<u64>,
    has_entry: bool,
}

/// So many bytes are read at once: blocks are a little longer than they have to be.
const READ_BYTES: usize = BLOCK_BYTES + BLOCK_HEADER_BYTES + (1 << 10);

/// What a run says of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// Nothing.
    Nothing,
    /// It was removed.
    Removed,
    /// Its value.
    Value(&'a [u8]),
}

impl Lookup {
    pub(crate) fn new(reader: &PortableReader) -> Result<Self> {
        let input = reader.input()?;
        let (reader, block) = (reader.clone(), Block::default());
        Ok(Lookup { reader, input, block, at: None, has_entry: false })
    }

    /// What the run says of an encoded state key.
    ///
    /// # Errors
    /// `Corrupt` if the index or the block is damaged, `Io` if it cannot be read.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Found<'_>> {
        match self.find(key) {
            Ok(true) => Ok(match self.block.value() {
                Some(value) => Found::Value(value),
                None => Found::Removed,
            }),
            Ok(false) => Ok(Found::Nothing),
            Err(error) => self.reader.locate(Err(error)),
        }
    }

    /// Goes to the entry of a key; false if there is none.
    fn find(&mut self, key: &[u8]) -> Result<bool> {
        let group = StateKey::decode(key)?.key_group;
        let Some(place) = self.reader.place_of(group) else { return Ok(false) };
        let index = self.reader.index_of(place, &self.input)?;
        let Some(block) = index.find(key) else { return Ok(false) };
        if !index.may_have(block, key_fingerprint(key)) {
            return Ok(false);
        }
        let offset = index.offset(block);
        if self.at != Some(offset) {
            self.at = None;
            let limit = self.reader.groups()[place].end;
            self.block.read(&self.input, offset, limit, READ_BYTES)?;
            (self.at, self.has_entry) = (Some(offset), false);
        } else if self.has_entry && self.block.key() > key {
            self.block.rewind();
            self.has_entry = false;
        }
        loop {
            if self.has_entry {
                match self.block.key().cmp(key) {
                    std::cmp::Ordering::Less => {}
                    found => return Ok(found.is_eq()),
                }
            }
            if !self.block.next()? {
                return Ok(false);
            }
            self.has_entry = true;
        }
    }
}
