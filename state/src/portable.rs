//! The portable format: entries of an operator in one file, whatever the backend: a *run*.
//!
//! A run holds what an operator's state was, or what of it changed over some time: entries, keys
//! that were removed, and whole namespaces that were dropped. Runs lie over one another, and the
//! newest wins ([`RestoreSource`](crate::RestoreSource)). One that lies over nothing is a complete
//! state.
//!
//! # Format
//! 1. A header frame: format version (2 bytes), hash version (1), a zero byte, number of key
//!    groups (2). Numbers are little endian throughout.
//! 2. Blocks: payload length (4 bytes), CRC-32 of length and payload (4), payload. A payload is a
//!    run of entries of one key group, closed by the entry that reaches 64 KiB. An entry is three
//!    numbers of variable length (key bytes shared with the entry before it in the block, further
//!    key bytes, and 0 for a removed key or the number of value bytes + 1), the further key bytes,
//!    and the value. They are sorted by state key.
//! 3. A footer frame: number of entries (8), number of key groups with entries (4), and for each
//!    of these its number (2), the offset of its first block (8) and its number of entries (8);
//!    number of drops (4), and for each of these the first key group and the one past the last
//!    (2 each), the table (2), 1 if one namespace is dropped and 0 if all are (1), the namespace
//!    (twice 8).
//! 4. The footer frame's length (4) and `TLWE`.
//!
//! # Invariants
//! * I1 Equal entries and drops give equal bytes.
//! * I2 Every byte is covered by a checksum, or checked against its only valid value.
//! * I3 A drop is about runs below only: the entries of its own run are not touched by it.

mod reader;
mod writer;

pub(crate) use reader::Cursor;
pub use reader::PortableReader;
pub use writer::PortableWriter;

use crate::key_group::KeyGroupRange;
use crate::state_key::{Namespace, StateKey, TableId};

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

/// A part of a table that is gone from all runs below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// The first key group, and one past the last.
    pub key_groups: (u16, u16),
    /// The table.
    pub table: TableId,
    /// The namespace; all of the table's if there is none.
    pub namespace: Option<Namespace>,
}

impl Dropped {
    /// Whether an entry of a run below is gone.
    pub(crate) fn covers(&self, key: &StateKey<'_>) -> bool {
        let groups = KeyGroupRange::new(self.key_groups.0, self.key_groups.1);
        self.table == key.table
            && groups.contains(key.key_group)
            && self.namespace.is_none_or(|namespace| namespace == key.namespace)
    }
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
