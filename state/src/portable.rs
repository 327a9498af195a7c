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
//!    run of entries of one key group, closed by the entry that reaches 8 KiB. An entry is three
//!    numbers of variable length (key bytes shared with the entry before it in the block, further
//!    key bytes, and 0 for a removed key or the number of value bytes + 1), the further key bytes,
//!    and the value. They are sorted by state key. Behind a key group's blocks stands their index
//!    (`portable/index.rs`), by which single keys are read, unless they have less than 1 KiB.
//! 3. A footer frame: number of entries (8), number of key groups with entries (4), and for each
//!    of these its number (2), the offsets of its first block and of its index (8 each), and its
//!    number of entries (8); number of drops (4), and for each of these the first key group and the
//!    one past the last (2 each), the table (2), 1 if one namespace is dropped, 0 if all are (1),
//!    the namespace (twice 8); number of spaces (4), which are the namespaces of tables that have
//!    entries, and for each of these the table (2), the namespace (twice 8), the number of entries
//!    (8).
//! 4. The footer frame's length (4) and `TLWE`.
//!
//! Version 1, which is read too, has no indexes and no spaces, and blocks of 64 KiB.
//!
//! # Invariants
//! * I1 Equal entries and drops give equal bytes.
//! * I2 Every byte is covered by a checksum, or checked against its only valid value.
//! * I3 A drop is about runs below only: the entries of its own run are not touched by it.

mod block;
mod cursor;
mod footer;
mod index;
mod input;
mod lookup;
mod reader;
mod writer;

pub(crate) use cursor::Cursor;
pub(crate) use lookup::{Found, Lookup};
pub use reader::PortableReader;
pub use writer::PortableWriter;

use crate::key_group::KeyGroupRange;
use crate::state_key::{Namespace, StateKey, TableId};

/// The version of the format.
pub const PORTABLE_VERSION: u16 = 2;

/// The oldest version that is read.
const FIRST_VERSION: u16 = 1;

/// A block is closed when its payload has reached this many bytes.
const BLOCK_BYTES: usize = 8 << 10;

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
    /// Where its blocks end and their index begins.
    end: u64,
    /// Where the next key group begins, or the footer. It is not written.
    next: u64,
    entries: u64,
}

/// The entries of a table's namespace in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) table: TableId,
    pub(crate) namespace: Namespace,
    /// Entries and removed keys.
    pub(crate) entries: u64,
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

    /// What of it is about these key groups, if anything.
    pub(crate) fn limited_to(self, range: KeyGroupRange) -> Option<Self> {
        let (start, end) = self.key_groups;
        let both = KeyGroupRange::new(start, end).intersection(range);
        (!both.is_empty()).then_some(Dropped { key_groups: (both.start, both.end), ..self })
    }

    /// Whether all entries of these key groups in a namespace are gone.
    pub(crate) fn covers_all(
        &self,
        table: TableId,
        namespace: Namespace,
        groups: KeyGroupRange,
    ) -> bool {
        let (start, end) = self.key_groups;
        self.table == table
            && self.namespace.is_none_or(|dropped| dropped == namespace)
            && start <= groups.start
            && groups.end <= end
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
