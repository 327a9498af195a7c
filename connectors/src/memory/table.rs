//! A table in memory: what is left when rows that were taken away again are left out.

use std::collections::BTreeMap;
use std::fmt;

use thalweg_engine::Element;

use super::collect::{Collected, MemorySink, sink};

/// A sink that takes rows with a key and a weight, 1 for a row that is added and -1 for one that
/// is taken away, and the handle that sees the table they make. Exactly-once, as [`sink`](sink()).
///
/// ```
/// let (rows, table) = thalweg_connectors::memory::table::<u64, String>();
/// // … changes.sink_table("rows", |row| row.id, rows), run …
/// assert!(table.snapshot().is_empty());
/// # drop(rows);
/// ```
pub fn table<K: Element, R: Element>() -> (TableSink<K, R>, CollectedTable<K, R>) {
    let (sink, changes) = sink();
    (sink, CollectedTable { changes })
}

/// The sink of [`table`]: of rows with a key and a weight.
pub type TableSink<K, R> = MemorySink<(K, R, i64)>;

/// Sees the table that the committed rows of a sink of [`table`] make.
pub struct CollectedTable<K, R> {
    changes: Collected<(K, R, i64)>,
}

impl<K: Element + Ord, R: Element + PartialEq> CollectedTable<K, R> {
    /// The rows by key, in order of the keys. The order in which rows were added and taken away
    /// does not matter; a key has several rows if that is what was said.
    ///
    /// # Cost
    /// Goes over all changes that were ever committed.
    pub fn snapshot(&self) -> Vec<(K, R)> {
        let mut table = BTreeMap::<K, Vec<(R, i64)>>::new();
        for (key, row, weight) in self.changes.snapshot() {
            let rows = table.entry(key).or_default();
            let place = rows.iter().position(|(known, _)| *known == row);
            let place = place.unwrap_or_else(|| {
                rows.push((row, 0));
                rows.len() - 1
            });
            rows[place].1 += weight;
            if rows[place].1 == 0 {
                rows.swap_remove(place);
            }
        }
        let rows = table.into_iter().flat_map(|(key, rows)| {
            rows.into_iter().map(move |(row, weight)| (key.clone(), row, weight))
        });
        rows.filter(|(_, _, weight)| *weight > 0).map(|(key, row, _)| (key, row)).collect()
    }
}

impl<K, R> Clone for CollectedTable<K, R> {
    fn clone(&self) -> Self {
        CollectedTable { changes: self.changes.clone() }
    }
}

impl<K, R> fmt::Debug for CollectedTable<K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectedTable").field("changes", &self.changes.len()).finish()
    }
}
