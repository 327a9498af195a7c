//! Timers: at most one per key and time, given out in order of (time, encoded key).
//!
//! Kept as a slice per time with an entry per key, so a timer is registered and deleted without a
//! search, and whether any is due is one look at the first slice. A timer is in the table until it
//! is given out: a snapshot needs nothing besides the table.

use std::collections::VecDeque;

use thalweg_engine::state::{
    self, Namespace, OperatorState, SlicedTable, Snapshot, StateKey, StateTable, TableId, codec,
};
use thalweg_engine::{Data, Key, Result};

/// The timers of one domain, each with a value.
pub(super) struct Timers<K, V> {
    slices: SlicedTable<K, V>,
    /// Timers of the earliest time that is due, in order. One that was deleted meanwhile is no
    /// longer in its slice.
    due: VecDeque<(i64, u64, K)>,
}

/// A timer that is due.
pub(super) struct Due<K, V> {
    pub(super) time: i64,
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) value: V,
}

impl<K: Key, V: Data> Timers<K, V> {
    pub(super) fn open(state: &mut OperatorState, table: TableId) -> Self {
        Timers { slices: state.sliced(table), due: VecDeque::new() }
    }

    pub(super) fn register(&mut self, time: i64, hash: u64, key: &K, value: V) -> Result<()> {
        Ok(self.slices.slice(Namespace(time, 0)).insert(hash, key, value)?)
    }

    /// Takes a timer back; its value, if there was one.
    pub(super) fn delete(&mut self, time: i64, hash: u64, key: &K) -> Result<Option<V>> {
        let namespace = Namespace(time, 0);
        let Some(slice) = self.slices.get_slice(namespace) else { return Ok(None) };
        let value = slice.remove(hash, key)?;
        if slice.is_empty() {
            self.slices.drop_slice(namespace)?;
        }
        Ok(value)
    }

    /// The time of the first timer.
    pub(super) fn first(&self) -> Option<i64> {
        self.slices.namespaces().next().map(|Namespace(time, _)| time)
    }

    /// Takes the first timer that is due at `limit`.
    pub(super) fn next_due(&mut self, limit: i64) -> Result<Option<Due<K, V>>> {
        loop {
            while let Some((time, hash, key)) = self.due.pop_front() {
                if let Some(value) = self.delete(time, hash, &key)? {
                    return Ok(Some(Due { time, hash, key, value }));
                }
            }
            match self.first() {
                Some(time) if time <= limit => self.find_due(time)?,
                _ => return Ok(None),
            }
        }
    }

    /// Puts the timers of one time in order.
    fn find_due(&mut self, time: i64) -> Result<()> {
        let mut keys = Vec::new();
        if let Some(slice) = self.slices.get_slice(Namespace(time, 0)) {
            slice.for_each(|key, hash, _| keys.push((Vec::new(), hash, key.clone())))?;
        }
        for (encoded, _, key) in &mut keys {
            codec::encode_key(key, encoded)?;
        }
        keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if keys.is_empty() {
            self.slices.drop_slice(Namespace(time, 0))?;
        }
        self.due.extend(keys.into_iter().map(|(_, hash, key)| (time, hash, key)));
        Ok(())
    }

    pub(super) fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        self.slices.restore_entry(key, value)
    }

    pub(super) fn relieve(&mut self) -> state::Result<()> {
        self.slices.relieve()
    }

    pub(super) fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        self.slices.snapshot_into(snapshot)
    }

    /// The table that `snapshot_into` hands over.
    pub(super) fn state_table(&mut self) -> &mut dyn StateTable {
        &mut self.slices
    }
}
