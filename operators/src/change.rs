//! `Change`: streams that say how a table of results changes, and tables made of them.
//!
//! A result that is corrected later is a row of a table: it is inserted, updated (the old row is
//! taken away, the new one added) and deleted. An aggregate over such rows stays exact, because it
//! takes back what it is told to take back: see [`KeyedStream::aggregate_changes`]. Which
//! intermediate rows there are depends on the order of arrival (level D2); the final table does
//! not.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_operators::{Job, Max, Mean};
//!
//! #[derive(Clone, serde::Serialize, serde::Deserialize)]
//! struct Bid {
//!     auction: u64,
//!     category: u8,
//!     price: i64,
//! }
//!
//! let bids = vec![
//!     Bid { auction: 1, category: 7, price: 10 },
//!     Bid { auction: 1, category: 7, price: 30 },
//!     Bid { auction: 2, category: 7, price: 20 },
//! ];
//! let job = Job::new();
//! let (table, means) = memory::table();
//! job.source("bids", memory::source(bids))
//!     .key_by(|bid| (bid.auction, bid.category))
//!     .aggregate_as_changes("highest", Max::of(|bid: &Bid| bid.price))
//!     .key_changes_by(|highest| highest.key.1)
//!     .aggregate_changes("means", Mean::of(|highest: &Keyed| highest.value.unwrap_or(0)))
//!     .sink_table("means-out", |mean| mean.key, table);
//! # type Keyed = thalweg_operators::Keyed<(u64, u8), Option<i64>>;
//! # use thalweg_engine::sim::{SimPlan, Simulation};
//! # let graph = std::cell::Cell::new(Some(job.into_graph()));
//! # let run = || graph.take().ok_or_else(|| thalweg_engine::Error::config("once"));
//! # Simulation::with_plan(SimPlan::calm(1, 2)).run("bids", run)?;
//! // When the job has run:
//! let rows = means.snapshot();
//! assert_eq!((rows.len(), rows[0].0, rows[0].1.value), (1, 7, Some(25.0)));
//! # Ok::<(), thalweg_engine::Error>(())
//! ```

mod aggregate;
mod upserts;

use serde::{Deserialize, Serialize};
use thalweg_engine::sink::Sink;
use thalweg_engine::{Data, Key};

use crate::stream::{KeyedStream, Stream};

/// How a table changes by one row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Change<T> {
    /// A new row.
    Insert(T),
    /// A row as it was before an update, which follows.
    UpdateBefore(T),
    /// A row as it is after an update.
    UpdateAfter(T),
    /// A row that is no more.
    Delete(T),
}

impl<T> Change<T> {
    /// The row.
    pub fn row(&self) -> &T {
        match self {
            Change::Insert(row)
            | Change::UpdateBefore(row)
            | Change::UpdateAfter(row)
            | Change::Delete(row) => row,
        }
    }

    /// The row, taken out.
    pub fn into_row(self) -> T {
        match self {
            Change::Insert(row)
            | Change::UpdateBefore(row)
            | Change::UpdateAfter(row)
            | Change::Delete(row) => row,
        }
    }

    /// The same change of another row.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Change::Insert(row) => Change::Insert(f(row)),
            Change::UpdateBefore(row) => Change::UpdateBefore(f(row)),
            Change::UpdateAfter(row) => Change::UpdateAfter(f(row)),
            Change::Delete(row) => Change::Delete(f(row)),
        }
    }

    /// True if the row is taken away: `UpdateBefore` and `Delete`.
    pub fn is_retraction(&self) -> bool {
        matches!(self, Change::UpdateBefore(_) | Change::Delete(_))
    }

    /// How often the row is added: 1, or -1 if it is taken away.
    pub fn weight(&self) -> i64 {
        if self.is_retraction() { -1 } else { 1 }
    }

    /// What is done to the row.
    pub fn op(&self) -> ChangeOp {
        match self {
            Change::Insert(_) => ChangeOp::Insert,
            Change::UpdateBefore(_) => ChangeOp::UpdateBefore,
            Change::UpdateAfter(_) => ChangeOp::UpdateAfter,
            Change::Delete(_) => ChangeOp::Delete,
        }
    }
}

/// What a change does, written as Flink writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ChangeOp {
    /// `+I`
    #[serde(rename = "+I")]
    Insert,
    /// `-U`
    #[serde(rename = "-U")]
    UpdateBefore,
    /// `+U`
    #[serde(rename = "+U")]
    UpdateAfter,
    /// `-D`
    #[serde(rename = "-D")]
    Delete,
}

/// A change as a line of a log: as JSON, `{"op":"+U","row":…}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChangeLine<T> {
    /// What is done.
    pub op: ChangeOp,
    /// To which row.
    pub row: T,
}

impl<T: Data> Stream<Change<T>> {
    /// Groups the changes by a key of their rows. Each half of an update goes to where its own
    /// row belongs, so a row can move from one key to another.
    #[track_caller]
    pub fn key_changes_by<K: Key>(
        &self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> KeyedStream<K, Change<T>> {
        self.key_by(move |change| key(change.row()))
    }

    /// The changes as a log, for sinks that write lines: read from its beginning, it is the table.
    #[track_caller]
    pub fn change_log(&self) -> Stream<ChangeLine<T>> {
        self.map(|change| ChangeLine { op: change.op(), row: change.into_row() })
    }

    /// Brings the changes to a table: `sink` takes rows with the key that `key` gives and their
    /// weight, 1 for a row that is added, -1 for one that is taken away. A table that adds the
    /// weights up needs no order: the old row of a key may come from one subtask and the new one
    /// from another.
    #[track_caller]
    pub fn sink_table<K: Key, S: Sink<Item = (K, T, i64)>>(
        &self,
        name: impl Into<String>,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
        sink: S,
    ) {
        let row = move |change: Change<T>| {
            let weight = change.weight();
            let row = change.into_row();
            (key(&row), row, weight)
        };
        self.map(row).sink(name, sink);
    }
}

#[cfg(test)]
mod tests;
