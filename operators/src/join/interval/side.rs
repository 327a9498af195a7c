//! The rows of one side of an interval join, and the search for a row's partners among them.

use serde::{Deserialize, Serialize};
use thalweg_engine::state::{Namespace, StateKey};
use thalweg_engine::{Data, EventTime, Key, Result};

use crate::join::rows::{Place, RowLists, Visit};
use crate::stream::Either;

/// A row that waits for partners.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Row<T> {
    pub(super) time: i64,
    /// Whether it has had a partner; kept up to date where rows without one are given out.
    pub(super) matched: bool,
    pub(super) value: T,
}

/// The rows of one input.
pub(super) struct Side<K, T> {
    pub(super) rows: RowLists<K, Row<T>>,
    /// How much later than a row its last partner may be, in milliseconds.
    pub(super) reach: i64,
    pub(super) is_outer: bool,
    /// Whether a restored row is not in its bucket.
    has_moved: bool,
}

impl<K: Key, T: Data> Side<K, T> {
    pub(super) fn new(rows: RowLists<K, Row<T>>, reach: i64, is_outer: bool) -> Self {
        Side { rows, reach, is_outer, has_moved: false }
    }

    /// The watermark at which no partner of a row at `time` can come any more.
    pub(super) fn expiry(&self, time: i64, lateness: i64) -> i64 {
        time.saturating_add(self.reach).saturating_add(lateness)
    }

    pub(super) fn first_bucket(&self) -> Option<i64> {
        self.rows.places().next().map(|place| place.bucket)
    }

    /// Drops the first bucket; its rows without a partner go to `found`, if they are wanted.
    pub(super) fn drop_first<A, B>(
        &mut self,
        found: &mut Vec<Unmatched<K, A, B>>,
        tag: fn(T) -> Either<A, B>,
    ) -> Result<()> {
        let Some(bucket) = self.first_bucket() else { return Ok(()) };
        if self.is_outer {
            self.rows.for_each_row(bucket, |key, hash, row| {
                if !row.matched {
                    let (key, row_of) = (key.clone(), tag(row.value.clone()));
                    found.push(Unmatched { time: row.time, hash, key, row: row_of });
                }
            })?;
        }
        self.rows.drop_until(bucket)
    }

    /// Takes rows of a snapshot; call `finish_restore` when all are taken.
    pub(super) fn restore_entry(
        &mut self,
        entry: &StateKey<'_>,
        value: &[u8],
        bucket_ms: i64,
    ) -> thalweg_engine::state::Result<()> {
        let Namespace(bucket, _) = entry.namespace;
        let rows = RowLists::<K, Row<T>>::decode_rows(value)?;
        self.has_moved |= rows.iter().any(|row| bucket_of(row.time, bucket_ms) != bucket);
        self.rows.restore_entry(entry, value)
    }

    /// Puts the rows into other buckets, if those of the snapshot were of another length.
    ///
    /// # Cost
    /// None if they were not; otherwise all rows are in memory for a while.
    pub(super) fn finish_restore(&mut self, bucket_ms: i64) -> Result<()> {
        if !std::mem::take(&mut self.has_moved) {
            return Ok(());
        }
        let mut rows = Vec::new();
        while let Some(bucket) = self.first_bucket() {
            self.rows.for_each_row(bucket, |key, hash, row| {
                rows.push((key.clone(), hash, row.clone()));
            })?;
            self.rows.drop_until(bucket)?;
        }
        for (key, hash, row) in rows {
            let place = Place::at(bucket_of(row.time, bucket_ms));
            self.rows.push(place, hash, &key, row)?;
        }
        Ok(self.rows.relieve()?)
    }
}

/// Where the search for a row's partners goes on.
#[derive(Clone, Copy, Default)]
pub(super) struct Cursor {
    /// The bucket, unless the search begins.
    pub(super) bucket: Option<i64>,
    /// The number of the row in its list.
    pub(super) row: usize,
    /// Whether a partner was found.
    pub(super) matched: bool,
}

/// A row without a partner that is to be given out.
pub(super) struct Unmatched<K, A, B> {
    pub(super) time: i64,
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) row: Either<A, B>,
}

/// The search for the partners of a row that has come.
pub(super) struct Search<'a, K> {
    pub(super) key: &'a K,
    pub(super) hash: u64,
    pub(super) time: EventTime,
    pub(super) bucket_ms: i64,
}

impl<K: Key> Search<'_, K> {
    /// Calls `found` with each partner among `others` and the time of the pair; `reach` says how
    /// far their times are from this one's. True if all partners were found, false if `found`
    /// stopped the search, which goes on at the cursor then.
    pub(super) fn run<T: Data>(
        &self,
        others: &mut Side<K, T>,
        reach: (i64, i64),
        cursor: &mut Cursor,
        mut found: impl FnMut(&T, i64) -> Visit,
    ) -> Result<bool> {
        let time = self.time.millis();
        let (from, to) = (time.saturating_add(reach.0), time.saturating_add(reach.1));
        let mut matched = cursor.matched;
        let mut visit = |row: &Row<T>| {
            if row.time < from || row.time > to {
                return Visit::Next;
            }
            let visit = found(&row.value, time.max(row.time));
            matched |= visit == Visit::Next;
            visit
        };
        let mut bucket = cursor.bucket.unwrap_or(bucket_of(from, self.bucket_ms));
        let mut first = cursor.row;
        while bucket <= to {
            let (place, key) = (Place::at(bucket), (self.hash, self.key));
            let stopped = match others.is_outer {
                false => others.rows.visit(place, key, first, &mut visit)?,
                true => others.rows.visit_mut(place, key, first, |row| {
                    let outcome = visit(row);
                    row.matched |= outcome == Visit::Next && row.time >= from && row.time <= to;
                    outcome
                })?,
            };
            if let Some(row) = stopped {
                *cursor = Cursor { bucket: Some(bucket), row, matched };
                return Ok(false);
            }
            (bucket, first) = (bucket + self.bucket_ms, 0);
        }
        cursor.matched = matched;
        Ok(true)
    }
}

/// The start of the bucket that holds `time`.
pub(super) fn bucket_of(time: i64, bucket_ms: i64) -> i64 {
    time - time.rem_euclid(bucket_ms)
}
