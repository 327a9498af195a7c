//! `Session`: windows that last as long as the records of a key come close together.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::time::minutes;
//! use thalweg_operators::{Count, Job, Session, Watermarks};
//!
//! let job = Job::new();
//! let (visits, _) = memory::sink();
//! job.source("clicks", memory::source(vec![("ann", 0_i64), ("bob", 1), ("ann", 2)]))
//!     .map(|(user, time)| (user.to_owned(), time))
//!     .event_time(|click| click.1, Watermarks::bounded_out_of_orderness(minutes(5)))
//!     .key_by(|click| click.0.clone())
//!     .window(Session::with_gap(minutes(30)))
//!     .aggregate("clicks-per-visit", Count)
//!     .results()
//!     .sink("visits", visits);
//! ```

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{Data, EventTime, Key};

use super::assigner::window_millis;
use super::per_key::{self, Fired, KeyWindows};
use super::{Window, WindowOutput, Windows};
use crate::aggregate::{Aggregate, Reduce};
use crate::stream::WindowedStream;

/// Sessions of each key: a record at `ts` opens the window `[ts, ts + gap)`, and windows that
/// overlap or touch are one. A session ends at the greatest `ts + gap` of its records.
///
/// A record is late if the watermark of its split has passed its time by the allowed lateness,
/// whether or not there is a session that it would extend. (Flink judges the merged window by the
/// operator's watermark, so that what is late depends on what has fired.)
pub struct Session<T> {
    gap: Gap<T>,
}

/// The gap of a record, computed from it.
type GapOf<T> = Arc<dyn Fn(&T) -> Duration + Send + Sync>;

enum Gap<T> {
    Fixed(i64),
    By(GapOf<T>),
}

impl<T> Session<T> {
    /// Sessions end when no record has come for `gap`, which is a millisecond at least.
    pub fn with_gap(gap: Duration) -> Self {
        Session { gap: Gap::Fixed(window_millis(gap)) }
    }

    /// As [`with_gap`](Session::with_gap), with a gap for each record. A gap below a millisecond
    /// counts as one.
    pub fn with_gap_by(gap: impl Fn(&T) -> Duration + Send + Sync + 'static) -> Self {
        Session { gap: Gap::By(Arc::new(gap)) }
    }

    pub(super) fn problem(&self) -> Option<String> {
        match self.gap {
            Gap::Fixed(gap) if gap < 1 => {
                Some("the gap of a session must be a millisecond at least".to_owned())
            }
            _ => None,
        }
    }

    #[inline]
    pub(super) fn gap_of(&self, record: &T) -> i64 {
        match &self.gap {
            Gap::Fixed(gap) => *gap,
            Gap::By(gap) => window_millis(gap(record)).max(1),
        }
    }
}

impl<T: 'static> Windows<T> for Session<T> {}

impl<K: Key, T: Data> WindowedStream<K, T, Session<T>> {
    /// Sessions are final, and given out, this much later, and records this late still count.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        self.with_lateness(lateness)
    }

    /// Folds the records of each key and session. When a record joins sessions, the earlier one
    /// comes first in [`Aggregate::merge`].
    ///
    /// # Cost
    /// One table look-up per record, and one per session at its end; a key whose session goes on
    /// is looked at about once per gap.
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> WindowOutput<K, T, A::Out> {
        let mut spec = OperatorSpec::stateful(name, "session window", Location::caller());
        spec.needs_event_time = true;
        spec.problems.extend(self.assigner.problem());
        per_key::aggregate(self, spec, aggregate)
    }

    /// Combines the records of each key and session two by two; records that one session has in
    /// their order of arrival.
    #[track_caller]
    pub fn reduce(
        &self,
        name: impl Into<String>,
        combine: impl Fn(&T, &T) -> T + Send + Sync + 'static,
    ) -> WindowOutput<K, T, T> {
        self.aggregate(name, Reduce::with(combine))
    }
}

/// The sessions of a key: none overlaps or touches another.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Sessions<V> {
    /// The last session, where most records belong; none before the first record.
    last: Option<Open<V>>,
    /// The others, in order of time. Mostly there are none, and nothing is allocated.
    earlier: Vec<Open<V>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Open<V> {
    start: i64,
    end: i64,
    accumulator: V,
}

impl<V> Open<V> {
    fn touches(&self, start: i64, end: i64) -> bool {
        self.start <= end && self.end >= start
    }

    fn extend(&mut self, start: i64, end: i64) {
        self.start = self.start.min(start);
        self.end = self.end.max(end);
    }
}

impl<V> Sessions<V> {
    /// The session that holds `[start, end)`: made, extended, or joined of several.
    fn at(
        &mut self,
        start: i64,
        end: i64,
        create: impl FnOnce() -> V,
        merge: impl Fn(&mut V, &V),
    ) -> &mut V {
        let joins_last = self.last.as_ref().is_some_and(|last| last.touches(start, end));
        if joins_last
            && self.earlier.is_empty()
            && let Some(last) = &mut self.last
        {
            // Most records.
            last.extend(start, end);
            return &mut self.last.as_mut().expect("there is a last session").accumulator;
        }
        // What touches the new span is a run; it cannot touch more once it is joined.
        let low = match self.earlier.last() {
            Some(before) if before.end >= start => {
                self.earlier.partition_point(|open| open.end < start)
            }
            _ => self.earlier.len(),
        };
        let high = low + self.earlier[low..].partition_point(|open| open.start <= end);
        let joined = self.earlier.drain(low..high).reduce(|mut joined, open| {
            joined.extend(open.start, open.end);
            merge(&mut joined.accumulator, &open.accumulator);
            joined
        });
        if joins_last && let Some(last) = &mut self.last {
            last.extend(start, end);
            if let Some(mut joined) = joined {
                merge(&mut joined.accumulator, &last.accumulator);
                last.extend(joined.start, joined.end);
                last.accumulator = joined.accumulator;
            }
        } else {
            let mut open = joined.unwrap_or_else(|| Open { start, end, accumulator: create() });
            open.extend(start, end);
            match &mut self.last {
                Some(last) if last.start > end => {
                    self.earlier.insert(low, open);
                    return &mut self.earlier[low].accumulator;
                }
                last => self.earlier.extend(last.replace(open)),
            }
        }
        &mut self.last.as_mut().expect("there is a last session").accumulator
    }

    /// The session that ends first.
    fn first(&self) -> Option<&Open<V>> {
        self.earlier.first().or(self.last.as_ref())
    }

    fn remove_first(&mut self) -> Option<Open<V>> {
        if self.earlier.is_empty() { self.last.take() } else { Some(self.earlier.remove(0)) }
    }
}

impl<T: Data, A: Aggregate<T>> KeyWindows<T, A> for Session<T> {
    type Contents = Sessions<A::Accumulator>;

    fn create(&self) -> Self::Contents {
        Sessions { last: None, earlier: Vec::new() }
    }

    #[inline]
    fn add(&self, sessions: &mut Self::Contents, aggregate: &A, time: i64, record: &T) {
        let end = time.saturating_add(self.gap_of(record));
        let merge = |accumulator: &mut _, other: &_| aggregate.merge(accumulator, other);
        aggregate.add(sessions.at(time, end, || aggregate.create(), merge), record);
    }

    #[inline]
    fn next_due(&self, sessions: &Self::Contents) -> Option<i64> {
        sessions.first().map(|open| open.end)
    }

    fn fire(
        &self,
        sessions: &mut Self::Contents,
        aggregate: &A,
        due: i64,
    ) -> Option<Fired<A::Out>> {
        sessions.first().filter(|open| open.end <= due)?;
        let Open { start, end, accumulator } = sessions.remove_first()?;
        let window =
            Window { start: EventTime::from_millis(start), end: EventTime::from_millis(end) };
        let value = aggregate.finish(&accumulator);
        Some(Fired { window, time: window.max_time(), value })
    }

    fn forwarded(&self, watermark: EventTime, lateness_ms: i64) -> EventTime {
        // A session that ends just behind `watermark - lateness` has the time of that instant.
        watermark.shifted(-lateness_ms.saturating_add(1))
    }
}
