//! `Waiting`: rows that wait for the watermark, given out in order of (time, encoded key).
//!
//! Rows are kept by spans of time; the span in which rows are being given out is in memory, sorted.
//!
//! # Invariants
//! * I1: rows before `open_until` are in `open`, all others in `later`.

use std::collections::BTreeMap;

use thalweg_engine::state::{OperatorState, Snapshot, StateKey, StateTable, TableId, codec};
use thalweg_engine::{Data, Key, Result};

use crate::join::rows::{Place, RowLists};

/// A row that was waiting.
pub(super) struct Waited<K, A> {
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) row: A,
}

/// Time, encoded key, and a number that keeps equal ones in order of arrival.
type Order = (i64, Vec<u8>, u64);

/// Rows that wait for the watermark.
pub(super) struct Waiting<K, A> {
    bucket_ms: i64,
    later: RowLists<K, (i64, A)>,
    open: BTreeMap<Order, Waited<K, A>>,
    open_until: i64,
    arrivals: u64,
}

impl<K: Key, A: Data> Waiting<K, A> {
    pub(super) fn new(state: &mut OperatorState, table: TableId, bucket_ms: i64) -> Self {
        Waiting {
            bucket_ms,
            later: RowLists::new(state, table),
            open: BTreeMap::new(),
            open_until: i64::MIN,
            arrivals: 0,
        }
    }

    fn place(&self, time: i64) -> Place {
        Place::at(time - time.rem_euclid(self.bucket_ms))
    }

    /// Adds a row that waits for `time`.
    pub(super) fn push(&mut self, time: i64, waited: Waited<K, A>) -> Result<()> {
        if time < self.open_until {
            return self.open(time, waited);
        }
        let (place, Waited { hash, key, row }) = (self.place(time), waited);
        Ok(self.later.push(place, hash, &key, (time, row))?)
    }

    fn open(&mut self, time: i64, waited: Waited<K, A>) -> Result<()> {
        let mut encoded = Vec::new();
        codec::encode_key(&waited.key, &mut encoded)?;
        self.arrivals += 1;
        self.open.insert((time, encoded, self.arrivals), waited);
        Ok(())
    }

    /// The first row with a time up to `limit`.
    pub(super) fn pop(&mut self, limit: i64) -> Result<Option<(i64, Waited<K, A>)>> {
        loop {
            if let Some(first) = self.open.first_entry() {
                if first.key().0 > limit {
                    return Ok(None);
                }
                let ((time, ..), waited) = first.remove_entry();
                return Ok(Some((time, waited)));
            }
            let Some(place) = self.later.places().next() else { return Ok(None) };
            if place.bucket > limit {
                return Ok(None);
            }
            let mut rows = Vec::new();
            self.later.for_each_row(place.bucket, |key, hash, (time, row)| {
                rows.push((*time, Waited { hash, key: key.clone(), row: row.clone() }));
            })?;
            self.later.drop_until(place.bucket)?;
            self.open_until = place.bucket + self.bucket_ms;
            for (time, waited) in rows {
                self.open(time, waited)?;
            }
        }
    }

    pub(super) fn relieve(&mut self) -> Result<()> {
        Ok(self.later.relieve()?)
    }

    /// Adds all rows to a snapshot; call `after_snapshot` when that is finished.
    pub(super) fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        for ((time, ..), Waited { hash, key, row }) in &self.open {
            let place = Place::at(time - time.rem_euclid(self.bucket_ms));
            self.later.push(place, *hash, key, (*time, row.clone()))?;
        }
        self.later.snapshot_into(snapshot)
    }

    /// Forgets what was written for the snapshot alone.
    pub(super) fn after_snapshot(&mut self) -> Result<()> {
        match self.open.is_empty() {
            true => Ok(()),
            false => self.later.drop_until(self.open_until - self.bucket_ms),
        }
    }

    /// The table that `snapshot_into` hands over.
    pub(super) fn state_table(&mut self) -> &mut dyn StateTable {
        self.later.state_table()
    }

    /// Takes rows of a snapshot.
    pub(super) fn restore(
        &mut self,
        entry: &StateKey<'_>,
        value: &[u8],
    ) -> thalweg_engine::state::Result<()> {
        self.later.restore_entry(entry, value)
    }
}
