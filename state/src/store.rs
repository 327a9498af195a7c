//! `SpillStore`: the sorted store behind the tables of one operator, and a table's region in it.
//!
//! # Invariants
//! * I1 One subtask uses a store, from one thread at a time, and a store holds one operator's
//!   state. It is scratch: what it holds is gone after a crash.
//! * I2 A region never reads or writes outside its table, namespace and key group range.

use std::sync::Arc;

use serde::Serialize;

use crate::buffer::EntryBuffer;
use crate::codec;
use crate::error::{Result, StateError};
use crate::key_group::{KeyGroup, KeyGroupCount, KeyGroupRange};
use crate::state_key::{Namespace, PREFIX_BYTES, StateKey, TableId, prefix};

/// With more entries than this a region is removed as a whole instead of key by key.
const ENTRIES_WORTH_A_RANGE: u64 = 1_024;

/// A table, or one slice of one, and the key groups of a store.
pub(crate) type Space = (TableId, Namespace, KeyGroupRange);

/// What a scan calls with each encoded state key and value.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// What a reading of some keys calls with the place of a key and its value.
pub(crate) type VisitPlace<'a> = dyn FnMut(usize, &[u8]) -> Result<()> + 'a;

/// A map from encoded state keys to values outside the tables' memory, sorted within each space.
pub(crate) trait SpillStore: Send + Sync {
    /// Reads the value of `key` into `value`; false if there is none.
    fn read(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool>;

    /// Reads the values of some keys, in ascending order and each once, and calls `f` with the
    /// place of each that there is, and its value.
    fn read_sorted(&self, keys: &[&[u8]], f: &mut VisitPlace<'_>) -> Result<()>;

    /// Writes all entries of the buffer.
    fn write(&self, entries: &mut EntryBuffer) -> Result<()>;

    /// Removes some entries.
    fn remove(&self, keys: &[Vec<u8>]) -> Result<()>;

    /// Removes all entries of a space.
    fn remove_space(&self, space: Space) -> Result<()>;

    /// Calls `f` with all entries of a space, in the order of their state keys.
    fn scan(&self, space: Space, f: &mut Visit<'_>) -> Result<()>;
}

/// Where the entries of one table, or one slice of one, lie in an operator's state.
#[derive(Clone)]
pub(crate) struct Region {
    pub(crate) table: TableId,
    pub(crate) namespace: Namespace,
    pub(crate) count: KeyGroupCount,
    pub(crate) range: KeyGroupRange,
    pub(crate) store: Option<Arc<dyn SpillStore>>,
}

impl Region {
    /// The key group of a key with this hash.
    pub(crate) fn key_group(&self, hash: u64) -> KeyGroup {
        KeyGroup::of(hash, self.count)
    }

    /// Appends the encoded state key of a key.
    pub(crate) fn encode_key<K: Serialize>(
        &self,
        hash: u64,
        key: &K,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        out.extend_from_slice(&prefix(self.key_group(hash), self.table, self.namespace));
        Ok(codec::encode_key(key, out)?)
    }

    /// The encoded state key of a key.
    pub(crate) fn state_key<K: Serialize>(&self, hash: u64, key: &K) -> Result<Vec<u8>> {
        let mut state_key = Vec::with_capacity(PREFIX_BYTES + 16);
        self.encode_key(hash, key, &mut state_key)?;
        Ok(state_key)
    }

    /// Reads the encoded value of a state key from the store; false if it has none.
    pub(crate) fn read(&self, state_key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        match &self.store {
            Some(store) => store.read(state_key, value),
            None => Ok(false),
        }
    }

    /// Removes a key's entry from the store.
    pub(crate) fn remove<K: Serialize>(&self, hash: u64, key: &K) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        store.remove(&[self.state_key(hash, key)?])
    }

    /// Removes all entries of the region, `stored` in number, from the store.
    ///
    /// A range that is removed at once burdens later reads of the store, so it must be worth it.
    pub(crate) fn remove_all(&self, stored: u64) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        if stored > ENTRIES_WORTH_A_RANGE {
            return store.remove_space(self.space());
        }
        let mut keys = Vec::new();
        store.scan(self.space(), &mut |key, _| {
            keys.push(key.to_owned());
            Ok(())
        })?;
        store.remove(&keys)
    }

    fn space(&self) -> Space {
        (self.table, self.namespace, self.range)
    }

    /// Calls `f` with the encoded key and value of all entries in the store, in order.
    pub(crate) fn scan(&self, f: &mut Visit<'_>) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
        store.scan(self.space(), &mut |state_key, value| f(StateKey::decode(state_key)?.key, value))
    }

    /// Refuses an entry that does not belong here or whose key does not hash to its key group.
    pub(crate) fn check_restored(&self, key: &StateKey<'_>, hash: u64) -> Result<()> {
        let refuse = |detail: String| Err(StateError::corrupt(0, detail));
        if key.table != self.table {
            return refuse(format!("entry of table {} given to table {}", key.table, self.table));
        }
        if !self.range.contains(key.key_group) {
            return refuse(format!("key group {} is not in {}", key.key_group, self.range));
        }
        let expected = self.key_group(hash);
        if expected != key.key_group {
            return refuse(format!(
                "a key of key group {expected} is stored in key group {}: the key's type or the \
                 number of key groups has changed",
                key.key_group
            ));
        }
        Ok(())
    }
}
