//! Windows with triggers, evictors and functions over all elements: the general path.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::time::{hours, minutes};
//! use thalweg_operators::{Count, EarlyAndLate, Job, Tumbling, Watermarks};
//!
//! let job = Job::new();
//! let (table, _) = memory::sink();
//! let counts = job
//!     .source("clicks", memory::source(vec![("home", 0_i64), ("shop", 1), ("home", 2)]))
//!     .map(|(page, time)| (page.to_owned(), time))
//!     .event_time(|click| click.1, Watermarks::bounded_out_of_orderness(minutes(5)))
//!     .key_by(|click| click.0.clone())
//!     .window(Tumbling::of(hours(1)))
//!     .allowed_lateness(minutes(30))
//!     .trigger(EarlyAndLate::new().early_every(minutes(10)).late_every_record())
//!     .aggregate("clicks-so-far", Count);
//! counts.updates().sink("table", table);
//! ```
//!
//! # Cost
//! A record goes into each of its windows, one by one: a table look-up and an entry per window that
//! overlaps, where windows without a trigger share slices. Timers at the end of a window cost
//! nothing per key, others an entry per key, window and time.

mod entry;
mod logic;
mod operator;

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::time::duration_millis;
use thalweg_engine::{Data, Element, Key};

use logic::Logic;
use operator::TriggeredOperator;

use super::assign::Assign;
use super::evictor::Evictor;
use super::function::{Always, Closure, FoldElements, Folded, Holding, Listed};
use super::function::{WindowContents, WindowFunction};
use super::pane::{PaneOutput, Wanted};
use super::trigger::{EventTimeTrigger, Trigger};
use crate::aggregate::{Aggregate, Reduce};
use crate::stream::{Keyed, Stream, WindowedStream};

/// By which watermark records are judged late.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lateness {
    /// By the watermark of the record's own split, just before the record: what is late does not
    /// depend on scheduling.
    #[default]
    AtSplit,
    /// By the operator's watermark, as Flink does: a record is late if its window, merged with
    /// those it touches, is final. Depends on scheduling: level D2.
    AtOperator,
}

/// A windowed stream with a trigger.
pub struct TriggeredWindow<K, T, W, Tr> {
    stream: Stream<Keyed<K, T>>,
    assigner: Arc<W>,
    trigger: Arc<Tr>,
    lateness: Lateness,
    allowed_lateness_ms: i64,
    evictor: Option<Arc<dyn Evictor<T>>>,
}

impl<K: Key, T: Data, W: Assign<T>> WindowedStream<K, T, W> {
    /// Gives the windows another trigger than [`EventTimeTrigger`].
    #[must_use]
    pub fn trigger<Tr: Trigger<T>>(&self, trigger: Tr) -> TriggeredWindow<K, T, W, Tr> {
        TriggeredWindow {
            stream: self.stream.clone(),
            assigner: self.assigner.clone(),
            trigger: Arc::new(trigger),
            lateness: Lateness::default(),
            allowed_lateness_ms: self.allowed_lateness_ms,
            evictor: None,
        }
    }

    /// Drops elements of windows before or after their function. Results depend on the order of
    /// arrival then, and are of level D2.
    #[must_use]
    pub fn evictor(&self, evictor: impl Evictor<T>) -> TriggeredWindow<K, T, W, EventTimeTrigger> {
        self.trigger(EventTimeTrigger).evictor(evictor)
    }

    /// Says by which watermark records are judged late.
    #[must_use]
    pub fn lateness(&self, lateness: Lateness) -> TriggeredWindow<K, T, W, EventTimeTrigger> {
        self.trigger(EventTimeTrigger).lateness(lateness)
    }

    /// Calls `f` with all elements of a window, in order of time, when the window is final.
    ///
    /// # Cost
    /// Keeps all elements of each window; sorts them when it is final.
    #[track_caller]
    pub fn process<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&WindowContents<'_, K, T>) -> R + Send + Sync + 'static,
    ) -> PaneOutput<K, T, R> {
        self.trigger(EventTimeTrigger).process(name, f)
    }

    /// As [`process`](Self::process), with a function that can fail and has state.
    #[track_caller]
    pub fn process_function<F: WindowFunction<K, T>>(
        &self,
        name: impl Into<String>,
        function: F,
    ) -> PaneOutput<K, T, F::Out> {
        self.trigger(EventTimeTrigger).process_function(name, function)
    }
}

impl<K: Key, T: Data, W: Assign<T>, Tr: Trigger<T>> TriggeredWindow<K, T, W, Tr> {
    /// Windows stay open this much longer, and give out their final results that much later.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        TriggeredWindow { allowed_lateness_ms: duration_millis(lateness), ..self }
    }

    /// Says by which watermark records are judged late.
    #[must_use]
    pub fn lateness(self, lateness: Lateness) -> Self {
        TriggeredWindow { lateness, ..self }
    }

    /// Drops elements of windows before or after their function. Results depend on the order of
    /// arrival then, and are of level D2.
    #[must_use]
    pub fn evictor(self, evictor: impl Evictor<T>) -> Self {
        TriggeredWindow { evictor: Some(Arc::new(evictor)), ..self }
    }

    /// Folds the records of each key and window.
    ///
    /// # Cost
    /// One table look-up per record and window. Behind an evictor all elements are kept, and folded
    /// for each pane.
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> PaneOutput<K, T, A::Out> {
        let mut spec = self.spec(name);
        spec.level = spec.level.min(aggregate.level());
        spec.problems.extend(aggregate.problems());
        match &self.evictor {
            None => self.operator(spec, Folded(aggregate)),
            Some(evictor) => {
                let (function, evictor) = (FoldElements(aggregate), Some(evictor.clone()));
                self.operator(spec, Listed { function, evictor })
            }
        }
    }

    /// Combines the records of each key and window two by two, in order of arrival; behind an
    /// evictor in order of time.
    #[track_caller]
    pub fn reduce(
        &self,
        name: impl Into<String>,
        combine: impl Fn(&T, &T) -> T + Send + Sync + 'static,
    ) -> PaneOutput<K, T, T> {
        self.aggregate(name, Reduce::with(combine))
    }

    /// Calls `f` with all elements of a window, in order of time, for each pane and when the window
    /// is final.
    ///
    /// # Cost
    /// Keeps all elements of each window, as one entry of state; sorts them for each pane.
    #[track_caller]
    pub fn process<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&WindowContents<'_, K, T>) -> R + Send + Sync + 'static,
    ) -> PaneOutput<K, T, R> {
        self.process_function(name, Closure(f))
    }

    /// As [`process`](Self::process), with a function that can fail and has state.
    #[track_caller]
    pub fn process_function<F: WindowFunction<K, T>>(
        &self,
        name: impl Into<String>,
        function: F,
    ) -> PaneOutput<K, T, F::Out> {
        let mut spec = self.spec(name);
        spec.needs_record_ids = true;
        self.operator(spec, Listed { function: Always(function), evictor: self.evictor.clone() })
    }

    #[track_caller]
    fn spec(&self, name: impl Into<String>) -> OperatorSpec {
        let mut spec = OperatorSpec::stateful(name, self.assigner.name(), Location::caller());
        spec.needs_event_time = self.assigner.needs_event_time();
        let depends_on_order = self.lateness == Lateness::AtOperator
            || self.evictor.is_some()
            || !self.trigger.is_accumulating();
        spec.level = if depends_on_order { Level::D2 } else { Level::D4 };
        spec.has_side_results = true;
        spec.problems.extend(self.assigner.problem());
        if self.assigner.merges() && !self.trigger.can_merge() {
            let problem = "windows that merge need a trigger that can: `on_merge` and `can_merge`";
            spec.problems.push(problem.to_owned());
        }
        spec
    }

    fn operator<H: Holding<K, T>>(
        &self,
        spec: OperatorSpec,
        holding: H,
    ) -> PaneOutput<K, T, H::Out> {
        let wanted = Arc::new(Wanted::default());
        let logic = Arc::new(Logic {
            holding,
            trigger: self.trigger.clone(),
            wanted: wanted.clone(),
            lateness: self.lateness,
            lateness_ms: self.allowed_lateness_ms,
            merges: self.assigner.merges(),
            types: PhantomData,
        });
        let assigner = self.assigner.clone();
        let make = move || TriggeredOperator::new(assigner.clone(), logic.clone());
        let results = self.stream.job.operator(&self.stream, spec, make);
        PaneOutput { results, wanted, records: PhantomData }
    }
}

#[cfg(test)]
mod tests;
