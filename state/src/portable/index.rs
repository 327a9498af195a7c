//! The index of a key group's blocks: the first key of each, and a filter of its keys.
//!
//! # Format
//! A frame with, for each block: bytes that its first key shares with that of the block before, the
//! number of further bytes, the block's length with its header, the bytes of its filter (numbers of
//! variable length); the further bytes; the filter. That is a Bloom filter (Bloom, 1970) whose bits
//! are found by double hashing (Kirsch and Mitzenmacher, 2006) of the state key's XXH3.

use xxhash_rust::xxh3::xxh3_64;

use super::block::Fields;
use super::writer::{common_prefix, put_varint};
use crate::codec::{FrameKind, frame, unframe_kind};
use crate::error::{Result, StateError};

/// A key group whose blocks have fewer bytes, one block, has no index.
pub(super) const WORTH_AN_INDEX: u64 = 1 << 10;

/// Bits of a filter for each key: one key in a hundred that is missing is looked for in vain.
const FILTER_BITS: usize = 10;

/// Bits that a key sets.
const FILTER_PROBES: u32 = 6;

/// What filters know a key by.
pub(crate) fn key_fingerprint(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The bits of a key in a filter of this many bytes.
fn filter_bits(fingerprint: u64, bytes: usize) -> impl Iterator<Item = usize> {
    let (first, step) = (fingerprint as u32, (fingerprint >> 32) as u32 | 1);
    let bits = bytes as u64 * 8;
    (0..FILTER_PROBES).map(move |i| {
        let mixed = first.wrapping_add(step.wrapping_mul(i));
        // Scaled to the number of bits without a division (Lemire, 2016).
        ((u64::from(mixed) * bits) >> 32) as usize
    })
}

/// Gathers the index of a key group while its blocks are written.
#[derive(Debug, Default)]
pub(super) struct IndexWriter {
    out: Vec<u8>,
    /// The first key of the last block that was closed.
    last_first: Vec<u8>,
    /// The first key of the open block.
    first: Vec<u8>,
    /// The fingerprints of the open block's keys.
    fingerprints: Vec<u64>,
}

impl IndexWriter {
    /// An entry is in the open block.
    pub(super) fn add(&mut self, key: &[u8]) {
        if self.fingerprints.is_empty() {
            self.first.clear();
            self.first.extend_from_slice(key);
        }
        self.fingerprints.push(key_fingerprint(key));
    }

    /// The open block is complete, and has this many bytes with its header.
    pub(super) fn close_block(&mut self, length: usize) {
        let filter_bytes = (self.fingerprints.len() * FILTER_BITS).div_ceil(8);
        let shared = common_prefix(&self.last_first, &self.first);
        let rest = &self.first[shared..];
        put_varint(shared as u64, &mut self.out);
        put_varint(rest.len() as u64, &mut self.out);
        put_varint(length as u64, &mut self.out);
        put_varint(filter_bytes as u64, &mut self.out);
        self.out.extend_from_slice(rest);
        let start = self.out.len();
        self.out.resize(start + filter_bytes, 0);
        let filter = &mut self.out[start..];
        for fingerprint in self.fingerprints.drain(..) {
            filter_bits(fingerprint, filter_bytes)
                .for_each(|bit| filter[bit / 8] |= 1 << (bit % 8));
        }
        std::mem::swap(&mut self.last_first, &mut self.first);
    }

    /// The index of the key group, which is complete.
    pub(super) fn finish_group(&mut self) -> Vec<u8> {
        let index = frame(FrameKind::PORTABLE_INDEX, &self.out);
        self.clear();
        index
    }

    /// Forgets the key group.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.last_first.clear();
    }
}

/// The index of a key group's blocks.
#[derive(Debug)]
pub(crate) struct BlockIndex {
    blocks: Vec<IndexedBlock>,
    /// The first keys of all blocks, one after the other.
    firsts: Vec<u8>,
    filters: Vec<u8>,
}

#[derive(Debug)]
struct IndexedBlock {
    offset: u64,
    /// Where its first key and its filter end.
    first_end: u32,
    filter_end: u32,
}

impl BlockIndex {
    /// The index of a key group of one block, that has none: any key may be there.
    pub(super) fn of_block(offset: u64) -> Self {
        let block = IndexedBlock { offset, first_end: 0, filter_end: 0 };
        BlockIndex { blocks: vec![block], firsts: Vec::new(), filters: Vec::new() }
    }

    /// Reads the index of the blocks from `offset` up to `end`, where it stands itself.
    pub(super) fn read(bytes: &[u8], mut offset: u64, end: u64) -> Result<Self> {
        let damaged = |detail: &str| StateError::corrupt(end, detail);
        let payload = unframe_kind(FrameKind::PORTABLE_INDEX, bytes)
            .map_err(|error| damaged(&error.to_string()))?;
        let mut index = BlockIndex { blocks: Vec::new(), firsts: Vec::new(), filters: Vec::new() };
        let mut fields = Fields { bytes: payload, offset: end };
        let mut first = Vec::new();
        while !fields.bytes.is_empty() {
            let (shared, rest) = (fields.varint()?, fields.varint()?);
            let (length, filter) = (fields.varint()?, fields.varint()?);
            let rest = fields.slice(rest)?;
            if shared > first.len() {
                return Err(damaged("index shares more than the key before it has"));
            }
            first.truncate(shared);
            first.extend_from_slice(rest);
            index.firsts.extend_from_slice(&first);
            index.filters.extend_from_slice(fields.slice(filter)?);
            index.blocks.push(IndexedBlock {
                offset,
                // An index is much smaller than 4 GiB, as what it was read from.
                first_end: index.firsts.len() as u32,
                filter_end: index.filters.len() as u32,
            });
            offset += length as u64;
        }
        match offset == end && !index.blocks.is_empty() {
            true => Ok(index),
            false => Err(damaged("index does not end where the blocks do")),
        }
    }

    fn first(&self, block: usize) -> &[u8] {
        let start = block.checked_sub(1).map_or(0, |before| self.blocks[before].first_end);
        &self.firsts[start as usize..self.blocks[block].first_end as usize]
    }

    /// The block that has the key if there is one: the last that does not begin behind it.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.blocks.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.first(middle) <= key {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low.checked_sub(1)
    }

    /// Where a block begins.
    pub(super) fn offset(&self, block: usize) -> u64 {
        self.blocks[block].offset
    }

    /// Whether a block may have a key with this fingerprint.
    pub(super) fn may_have(&self, block: usize, fingerprint: u64) -> bool {
        let start = block.checked_sub(1).map_or(0, |before| self.blocks[before].filter_end);
        let filter = &self.filters[start as usize..self.blocks[block].filter_end as usize];
        filter.is_empty()
            || filter_bits(fingerprint, filter.len())
                .all(|bit| filter[bit / 8] & (1 << (bit % 8)) != 0)
    }
}
