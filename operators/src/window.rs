//! Windows: the kinds there are, the windowed stream, and the operators behind it.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::time::{hours, minutes};
//! use thalweg_operators::{Count, Job, Tumbling, Watermarks};
//!
//! let job = Job::new();
//! let (results, _) = memory::sink();
//! let (late, _) = memory::sink();
//! let counts = job
//!     .source("clicks", memory::source(vec![("home", 0_i64), ("shop", 1), ("home", 2)]))
//!     .map(|(page, time)| (page.to_owned(), time))
//!     .event_time(|click| click.1, Watermarks::bounded_out_of_orderness(minutes(5)))
//!     .key_by(|click| click.0.clone())
//!     .window(Tumbling::of(hours(1)))
//!     .aggregate("clicks-per-hour", Count);
//! counts.results().sink("counts", results);
//! counts.late().sink("late", late);
//! ```

mod assigner;
mod combined;
mod combiner;
mod firing;
mod operator;
mod progress;

mod timers;
mod per_key;
mod session;
mod two_stacks;
mod aligned;
mod global;
mod count;
#[cfg(test)]
mod testing;
pub mod trigger;
mod evictor;
mod assign;
mod function;
mod pane;
mod triggered;
mod processing;

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::{Level, OperatorSpec, Partition};
use thalweg_engine::time::duration_millis;
use thalweg_engine::{Data, EventTime, Key};

pub use aligned::RecordAligned;
pub use assign::Assign;
pub(crate) use assigner::{Slice, Slices};
pub use assigner::{Sliding, Tumbling, WindowAssigner};
use combiner::{Combiner, Part};
pub use count::{CountResult, CountWindow};
pub use evictor::{CountEvictor, DeltaEvictor, Evictor, TimeEvictor};
pub(crate) use firing::{Fired, Firing};
pub use function::{Stamped, WindowContents, WindowFunction};
pub use global::GlobalWindow;
use operator::{Parts, Records, WindowOperator};
pub use pane::{Pane, PaneInfo, PaneOutput, PaneTiming};
pub use processing::{
    ProcessingAssigner, ProcessingResult, ProcessingSession, ProcessingSliding, ProcessingTumbling,
    ProcessingWindow, ProcessingWindowedStream,
};
pub(crate) use progress::{FiringTables, Progress};
pub use session::Session;
pub use triggered::{Lateness, TriggeredWindow};

use crate::aggregate::{Aggregate, Reduce};
use crate::stream::{Keyed, KeyedStream, Stream, WindowedStream};

/// A span of event time: `start` belongs to it, `end` does not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    /// The first instant of the window.
    pub start: EventTime,
    /// The first instant behind it.
    pub end: EventTime,
}

impl Window {
    /// The last instant of the window, which is also the time of its results.
    pub fn max_time(self) -> EventTime {
        self.end.shifted(-1)
    }
}

/// The final result of one key in one window.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WindowResult<K, R> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
    /// The result.
    pub value: R,
}

/// What a windowed operator gives out: results, and the records that were late for all of them.
pub struct WindowOutput<K, T, R> {
    results: Stream<WindowResult<K, R>>,
    late: Stream<T>,
}

impl<K, T, R> WindowOutput<K, T, R> {
    /// Each window's result, once, when it is final: when the watermark has passed its last
    /// instant by the allowed lateness.
    pub fn results(&self) -> Stream<WindowResult<K, R>> {
        self.results.clone()
    }

    /// The records that no window accepts. They are counted whether this is used or not.
    pub fn late(&self) -> Stream<T> {
        self.late.clone()
    }
}

/// What a stream of `T` can be cut into: windows of a [`WindowAssigner`] ([`Tumbling`],
/// [`Sliding`]), [`Session`], [`RecordAligned`], [`GlobalWindow`], [`CountWindow`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say into which windows a stream of `{T}` is cut",
    label = "not a kind of window"
)]
pub trait Windows<T>: Send + Sync + 'static {}

impl<T, W: WindowAssigner> Windows<T> for W {}

impl<T: Data> Stream<T> {
    /// Cuts the stream into windows without a key: one subtask sees all records, and results have
    /// the key `()`.
    ///
    /// # Cost
    /// No more than one subtask works, whatever the job's parallelism.
    #[track_caller]
    pub fn window_all<W: Windows<T>>(&self, windows: W) -> WindowedStream<(), T, W> {
        self.key_by(|_| ()).window(windows)
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Cuts the stream into windows.
    pub fn window<W: Windows<T>>(&self, assigner: W) -> WindowedStream<K, T, W> {
        WindowedStream {
            stream: self.stream.clone(),
            assigner: Arc::new(assigner),
            allowed_lateness_ms: 0,
        }
    }
}

impl<K, T, W> WindowedStream<K, T, W> {
    fn with_lateness(self, lateness: Duration) -> Self {
        WindowedStream { allowed_lateness_ms: duration_millis(lateness), ..self }
    }
}

/// What reaches a window operator from a combiner.
type CombinedRecord<K, T, A> = Keyed<K, Part<T, <A as Aggregate<T>>::Accumulator>>;

impl<K: Key, T: Data, W: WindowAssigner> WindowedStream<K, T, W> {
    /// Windows stay open this much longer, and give out their results that much later.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        self.with_lateness(lateness)
    }

    /// Folds the records of each key and window.
    ///
    /// # Cost
    /// One table look-up per record, however many windows it is in. At the end of a window: where
    /// windows overlap, two merges for each of its keys, and two look-ups and a few merges for each
    /// key of the slice that is new; otherwise a sort of its keys. The number of slices in a window
    /// only counts in memory: an accumulator for each key and slice, which may be moved to disk,
    /// and √(size / slide) more for each key, which may not.
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> WindowOutput<K, T, A::Out> {
        let mut spec = OperatorSpec::stateful(name, self.assigner.name(), Location::caller());
        spec.needs_event_time = true;
        spec.level = aggregate.level();
        spec.problems.extend(aggregate.problems());
        spec.problems.extend(self.assigner.problem());
        let (assigner, lateness) = (self.assigner.clone(), self.allowed_lateness_ms);
        let aggregate = Arc::new(aggregate);
        let job = &self.stream.job;
        let combined = self.combined(&spec, &aggregate);
        let records = {
            let (assigner, aggregate) = (assigner.clone(), aggregate.clone());
            move || {
                WindowOperator::<K, T, A, W, Records>::new(&assigner, aggregate.clone(), lateness)
            }
        };
        let results = match combined {
            Some(combined) => job.operator_behind_combiner(&combined, spec, records, move || {
                WindowOperator::<K, T, A, W, Parts>::new(&assigner, aggregate.clone(), lateness)
            }),
            None => job.operator(&self.stream, spec, records),
        };
        WindowOutput { late: results.side(), results }
    }

    /// The records as they come from a combiner, where their order does not matter.
    fn combined<A: Aggregate<T>>(
        &self,
        behind: &OperatorSpec,
        aggregate: &Arc<A>,
    ) -> Option<Stream<CombinedRecord<K, T, A>>> {
        if behind.level != Level::D4 {
            return None;
        }
        let mut spec = OperatorSpec::stateless("combiner", behind.location);
        spec.name = behind.name.as_ref().map(|name| format!("{name}.combiner"));
        spec.prepares_exchange = true;
        let (assigner, aggregate) = (self.assigner.clone(), aggregate.clone());
        let lateness = self.allowed_lateness_ms;
        let records = self.stream.with_partition(Partition::Forward);
        let combined = self.stream.job.operator(&records, spec, move || {
            Combiner::<K, T, A, W>::new(&assigner, aggregate.clone(), lateness)
        });
        Some(combined.over_exchange(self.stream.partition))
    }

    /// Combines the records of each key and window two by two, in order of arrival.
    #[track_caller]
    pub fn reduce(
        &self,
        name: impl Into<String>,
        combine: impl Fn(&T, &T) -> T + Send + Sync + 'static,
    ) -> WindowOutput<K, T, T> {
        self.aggregate(name, Reduce::with(combine))
    }
}

#[cfg(test)]
mod tests;
