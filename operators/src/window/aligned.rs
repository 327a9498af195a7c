//! `RecordAligned`: for every record, the window of what came up to it.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::time::minutes;
//! use thalweg_operators::{Count, Job, RecordAligned, Watermarks};
//!
//! let job = Job::new();
//! let (attempts, _) = memory::sink();
//! job.source("logins", memory::source(vec![("ann", 0_i64), ("bob", 1), ("ann", 2)]))
//!     .map(|(user, time)| (user.to_owned(), time))
//!     .event_time(|login| login.1, Watermarks::bounded_out_of_orderness(minutes(1)))
//!     .key_by(|login| login.0.clone())
//!     .window(RecordAligned::of(minutes(10)))
//!     .aggregate("attempts-in-ten-minutes", Count)
//!     .results()
//!     .sink("attempts", attempts);
//! ```

use std::collections::VecDeque;
use std::panic::Location;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{Data, EventTime, Key};

use super::assigner::window_millis;
use super::per_key::{self, Fired, KeyWindows};
use super::two_stacks::TwoStacks;
use super::{Window, WindowOutput, Windows};
use crate::aggregate::{Aggregate, Reduce};
use crate::stream::WindowedStream;

/// For every key and every time `ts` at which it has a record, the window `[ts - span, ts]`, both
/// ends included: the sliding windows of Kafka Streams that end with a record.
///
/// One result per key and time, of the time of the record. A record is late if the watermark of its
/// split has passed its time by the allowed lateness; a late record is in no window, also not in
/// those of later records.
#[derive(Clone, Copy, Debug)]
pub struct RecordAligned {
    span_ms: i64,
}

impl RecordAligned {
    /// Windows of a record and what came up to `span` before it. A span of zero takes together
    /// what has the same time.
    pub fn of(span: Duration) -> Self {
        RecordAligned { span_ms: window_millis(span) }
    }
}

impl<T> Windows<T> for RecordAligned {}

impl<K: Key, T: Data> WindowedStream<K, T, RecordAligned> {
    /// Windows are final, and given out, this much later, and records this late still count.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        self.with_lateness(lateness)
    }

    /// Folds the records of each key and window: records of one time in their order of arrival,
    /// different times in their order.
    ///
    /// # Cost
    /// One table look-up per record and one per result; per result two or three merges on average,
    /// however many records the span holds. State is an accumulator per key and time in the span.
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> WindowOutput<K, T, A::Out> {
        let mut spec = OperatorSpec::stateful(name, "record-aligned window", Location::caller());
        spec.needs_event_time = true;
        per_key::aggregate(self, spec, aggregate)
    }

    /// Combines the records of each key and window two by two, in the order of `aggregate`.
    #[track_caller]
    pub fn reduce(
        &self,
        name: impl Into<String>,
        combine: impl Fn(&T, &T) -> T + Send + Sync + 'static,
    ) -> WindowOutput<K, T, T> {
        self.aggregate(name, Reduce::with(combine))
    }
}

/// What a key has in the span behind the watermark, and before it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Aligned<V> {
    /// The accumulator of each time that is not final, in order of time.
    open: VecDeque<(i64, V)>,
    /// Those of times that are final and may be in windows still to come.
    passed: TwoStacks<V>,
}

impl<T: Data, A: Aggregate<T>> KeyWindows<T, A> for RecordAligned {
    type Contents = Aligned<A::Accumulator>;

    fn create(&self) -> Self::Contents {
        Aligned { open: VecDeque::new(), passed: TwoStacks::new() }
    }

    fn add(&self, contents: &mut Self::Contents, aggregate: &A, time: i64, record: &T) {
        let open = &mut contents.open;
        let place = match open.back() {
            Some(&(last, _)) if last == time => open.len() - 1,
            Some(&(last, _)) if last > time => open.partition_point(|&(at, _)| at < time),
            _ => open.len(),
        };
        if open.get(place).is_none_or(|&(at, _)| at != time) {
            open.insert(place, (time, aggregate.create()));
        }
        aggregate.add(&mut open[place].1, record);
    }

    fn next_due(&self, contents: &Self::Contents) -> Option<i64> {
        match contents.open.front() {
            Some(&(time, _)) => Some(time),
            // Then no window needs what is left.
            None => contents.passed.newest().map(|newest| newest.saturating_add(self.span_ms)),
        }
    }

    fn fire(
        &self,
        contents: &mut Self::Contents,
        aggregate: &A,
        due: i64,
    ) -> Option<Fired<A::Out>> {
        let merge = |accumulator: &mut _, other: &_| aggregate.merge(accumulator, other);
        let Aligned { open, passed } = contents;
        let start = due.saturating_sub(self.span_ms);
        let Some((time, accumulator)) = open.pop_front_if(|(time, _)| *time <= due) else {
            // The next window ends after `due`, so it begins after `start`.
            passed.drop_before(start.saturating_add(1), merge);
            return None;
        };
        passed.drop_before(start, merge);
        passed.push(time, accumulator, merge);
        let value = aggregate.finish(&passed.combined(merge)?);
        let time = EventTime::from_millis(time);
        let window = Window { start: EventTime::from_millis(start), end: time.shifted(1) };
        Some(Fired { window, time, value })
    }

    fn forwarded(&self, watermark: EventTime, lateness_ms: i64) -> EventTime {
        watermark.shifted(-lateness_ms)
    }
}
