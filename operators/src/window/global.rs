//! `GlobalWindow`: one window per key, over all of its records.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_operators::{Count, GlobalWindow, Job};
//!
//! let job = Job::new();
//! let (totals, _) = memory::sink();
//! job.source("words", memory::source(vec!["to", "be", "or", "not", "to", "be"]))
//!     .map(str::to_owned)
//!     .key_by(|word| word.clone())
//!     .window(GlobalWindow)
//!     .aggregate("count", Count)
//!     .results()
//!     .sink("totals", totals);
//! ```

use std::panic::Location;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{Data, EventTime, Key};

use super::per_key::{self, END, Fired, KeyWindows};
use super::{Window, WindowOutput, Windows};
use crate::aggregate::{Aggregate, Reduce};
use crate::stream::WindowedStream;

/// One window per key that never ends by itself: its result is given out once, at the end of the
/// input, and with an input that has no end, never.
///
/// No record is late, and none needs an event time. The result has the greatest event time of the
/// key's records, and the window is `[MIN, MAX)`. What comes behind sees no event time pass before
/// the end, so that no result is late there.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlobalWindow;

impl<T> Windows<T> for GlobalWindow {}

impl<K: Key, T: Data> WindowedStream<K, T, GlobalWindow> {
    /// Folds the records of each key, all of them.
    ///
    /// # Cost
    /// One table look-up per record, and at the end a sort of all keys. State is one accumulator
    /// per key, for good.
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> WindowOutput<K, T, A::Out> {
        let spec = OperatorSpec::stateful(name, "global window", Location::caller());
        per_key::aggregate(self, spec, aggregate)
    }

    /// Combines the records of each key two by two, in order of arrival.
    #[track_caller]
    pub fn reduce(
        &self,
        name: impl Into<String>,
        combine: impl Fn(&T, &T) -> T + Send + Sync + 'static,
    ) -> WindowOutput<K, T, T> {
        self.aggregate(name, Reduce::with(combine))
    }
}

/// All records of a key.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Whole<V> {
    /// The greatest event time.
    max_time: i64,
    /// None once it has been given out.
    accumulator: Option<V>,
}

impl<T: Data, A: Aggregate<T>> KeyWindows<T, A> for GlobalWindow {
    type Contents = Whole<A::Accumulator>;

    fn create(&self) -> Self::Contents {
        Whole { max_time: i64::MIN, accumulator: None }
    }

    #[inline]
    fn add(&self, whole: &mut Self::Contents, aggregate: &A, time: i64, record: &T) {
        whole.max_time = whole.max_time.max(time);
        let accumulator = whole.accumulator.get_or_insert_with(|| aggregate.create());
        aggregate.add(accumulator, record);
    }

    #[inline]
    fn next_due(&self, whole: &Self::Contents) -> Option<i64> {
        whole.accumulator.as_ref().map(|_| END)
    }

    fn fire(&self, whole: &mut Self::Contents, aggregate: &A, _due: i64) -> Option<Fired<A::Out>> {
        let value = aggregate.finish(&whole.accumulator.take()?);
        let window = Window { start: EventTime::MIN, end: EventTime::MAX };
        Some(Fired { window, time: EventTime::from_millis(whole.max_time), value })
    }

    fn is_late(&self, _time: i64, _lateness_ms: i64, _watermark: i64) -> bool {
        false
    }

    fn forwarded(&self, watermark: EventTime, _lateness_ms: i64) -> EventTime {
        if watermark == EventTime::MAX { watermark } else { EventTime::MIN }
    }
}
