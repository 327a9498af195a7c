//! A block of a run being read.

use std::ops::Range;

use super::input::Input;
use super::{BLOCK_HEADER_BYTES, block_checksum};
use crate::error::{Result, StateError};
use crate::state_key::PREFIX_BYTES;

/// A block being read.
#[derive(Default)]
pub(super) struct Block {
    /// Bytes of the file: the block's, and what was read along with them.
    bytes: Vec<u8>,
    /// Where these are in the file.
    start: u64,
    /// Where the block is in the file, for errors.
    offset: u64,
    /// Where, among `bytes`, its entries begin and end, and where the next one is.
    first: usize,
    end: usize,
    next: usize,
    /// The key that was read last, in this block or the one before it.
    key: Vec<u8>,
    value: Option<Range<usize>>,
}

impl Block {
    /// Reads the block at `offset`, which lies before `limit`, and some of what is behind it if
    /// `ahead` is longer than the block.
    pub(super) fn read(
        &mut self,
        input: &Input,
        offset: u64,
        limit: u64,
        ahead: usize,
    ) -> Result<()> {
        self.clear();
        self.offset = offset;
        let overlong = || StateError::corrupt(offset, "block is longer than its key group");
        let room = limit.checked_sub(offset + BLOCK_HEADER_BYTES as u64).ok_or_else(overlong)?;
        let ahead = (ahead as u64).min(room + BLOCK_HEADER_BYTES as u64) as usize;
        let at = self.fill(input, offset, BLOCK_HEADER_BYTES, ahead)?;
        let mut fields = Fields { bytes: &self.bytes[at..], offset };
        let length = fields.take()?;
        let checksum = u32::from_le_bytes(fields.take()?);
        let payload_length = u32::from_le_bytes(length);
        if u64::from(payload_length) > room {
            return Err(overlong());
        }
        let bytes = BLOCK_HEADER_BYTES + payload_length as usize;
        let at = self.fill(input, offset, bytes, ahead)?;
        let first = at + BLOCK_HEADER_BYTES;
        if block_checksum(length, &self.bytes[first..at + bytes]) != checksum {
            return Err(StateError::corrupt(offset, "checksum of a block does not match"));
        }
        (self.first, self.next, self.end) = (first, first, at + bytes);
        Ok(())
    }

    /// Has so many bytes of the file at `offset` among `bytes`, and tells where.
    fn fill(&mut self, input: &Input, offset: u64, needed: usize, ahead: usize) -> Result<usize> {
        if let Some(at) = offset.checked_sub(self.start)
            && at + needed as u64 <= self.bytes.len() as u64
        {
            return Ok(at as usize);
        }
        self.start = offset;
        let read = input.read(offset, needed.max(ahead), &mut self.bytes);
        if read.is_err() {
            self.bytes.clear();
        }
        read.map(|()| 0)
    }

    /// Forgets its entries.
    pub(super) fn clear(&mut self) {
        (self.first, self.next, self.end) = (0, 0, 0);
    }

    /// Whether all entries have been read.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// Whether no entry has been read.
    pub(super) fn is_at_start(&self) -> bool {
        self.next == self.first
    }

    /// Where the block behind it is in the file.
    pub(super) fn end_offset(&self) -> u64 {
        self.start + self.end as u64
    }

    /// An error about it.
    pub(super) fn damaged(&self, detail: impl Into<String>) -> StateError {
        StateError::corrupt(self.offset, detail)
    }

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
        self.next = self.first;
    }

    /// Reads the next entry of a block that was entered at its start; false if there is none.
    pub(super) fn next(&mut self) -> Result<bool> {
        if self.is_done() {
            return Ok(false);
        }
        let starts_group = self.is_at_start();
        self.read_entry(starts_group).map(|()| true)
    }

    /// Reads the next entry. The first one of a block shares nothing with the one before it; the
    /// first one of a key group need not follow it.
    pub(super) fn read_entry(&mut self, starts_group: bool) -> Result<()> {
        let mut fields = Fields { bytes: &self.bytes[self.next..self.end], offset: self.offset };
        let (shared, rest, value) = (fields.varint()?, fields.varint()?, fields.varint()?);
        let rest = fields.slice(rest)?;
        let length = value.saturating_sub(1);
        fields.slice(length)?;
        let end = self.end - fields.bytes.len();
        let most = if self.is_at_start() { 0 } else { self.key.len() };
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
