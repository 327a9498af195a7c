//! Joins of two keyed streams: by window, by interval, with a table, and without bounds.
//!
//! | join | pairs | level |
//! |---|---|---|
//! | [`KeyedStream::join`] | rows of one key in the same window | D4 |
//! | [`KeyedStream::interval_join`] | rows whose times are not too far apart | D4 |
//! | [`KeyedStream::join_table`], `as_of()` | a row and the version of its time | D4 |
//! | [`KeyedStream::join_table`], `latest()` | a row and the version at its arrival | D2 |
//! | [`KeyedStream::connect`], `inner_join(…)` | all rows of one key, for good | D4 |
//!
//! Rows that are late for a join go to [`JoinOutput::late_left`] and [`JoinOutput::late_right`].
//! The results of a join that judges lateness carry no late mark: the join holds its watermark
//! back so far that none of them can be behind it.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::time::{hours, minutes};
//! use thalweg_operators::{Job, Tumbling, Watermarks};
//!
//! let job = Job::new();
//! let stream = |name: &str, records: Vec<(String, i64)>| {
//!     job.source(name, memory::source(records))
//!         .event_time(|r| r.1, Watermarks::bounded_out_of_orderness(minutes(5)))
//!         .key_by(|r| r.0.clone())
//! };
//! let orders = stream("orders", vec![("anna".into(), 0), ("ben".into(), 1)]);
//! let payments = stream("payments", vec![("anna".into(), 60_000)]);
//!
//! let paid = orders
//!     .interval_join(&payments)
//!     .between(minutes(0), minutes(30))
//!     .left("paid-in-time", |who: &String, _order, payment| (who.clone(), payment.is_some()));
//! paid.results().sink("paid", memory::sink().0);
//! paid.late_left().sink("late-orders", memory::sink().0);
//!
//! let per_hour = orders
//!     .join(&payments)
//!     .window(Tumbling::of(hours(1)))
//!     .inner("paid-in-the-same-hour", |who: &String, order, payment| {
//!         (who.clone(), payment.1 - order.1)
//!     });
//! per_hour.results().sink("per-hour", memory::sink().0);
//! ```

mod pair;
mod rows;
#[cfg(test)]
mod testing;

pub mod as_of;
pub mod interval;
pub mod latest;
mod regular;
pub mod window;

use thalweg_engine::{Data, Key};

use crate::stream::{Either, KeyedStream, Stream};

/// What a join gives out: results, and the late rows of both sides.
pub struct JoinOutput<R, A, B> {
    results: Stream<R>,
    late: Stream<Either<A, B>>,
}

impl<R, A: Data, B: Data> JoinOutput<R, A, B> {
    fn new(results: Stream<R>) -> Self {
        JoinOutput { late: results.side(), results }
    }

    /// The results.
    pub fn results(&self) -> Stream<R> {
        self.results.clone()
    }

    /// The late rows of the left stream. They are counted whether this is used or not.
    #[track_caller]
    pub fn late_left(&self) -> Stream<A> {
        self.late.filter_map(|late| match late {
            Either::Left(row) => Some(row),
            Either::Right(_) => None,
        })
    }

    /// The late rows of the right stream. They are counted whether this is used or not.
    #[track_caller]
    pub fn late_right(&self) -> Stream<B> {
        self.late.filter_map(|late| match late {
            Either::Left(_) => None,
            Either::Right(row) => Some(row),
        })
    }
}

impl<K: Key, A: Data> KeyedStream<K, A> {
    /// Joins rows of equal keys in the same window.
    pub fn join<B: Data>(&self, right: &KeyedStream<K, B>) -> window::Joined<K, A, B> {
        window::Joined { streams: self.connect(right) }
    }

    /// Joins each row `a` of this stream with the rows `b` of `right` that have its key and a time
    /// within an interval around its own: `a.time + lower <= b.time <= a.time + upper`.
    pub fn interval_join<B: Data>(
        &self,
        right: &KeyedStream<K, B>,
    ) -> interval::IntervalJoin<K, A, B> {
        interval::IntervalJoin { streams: self.connect(right) }
    }

    /// Joins each row with a version of the table that `table` describes: its records are upserts,
    /// or, if `None`, deletions of their key.
    pub fn join_table<V: Data>(
        &self,
        table: &KeyedStream<K, Option<V>>,
    ) -> latest::TableJoin<K, A, V> {
        latest::TableJoin { streams: self.connect(table) }
    }
}
