//! `process`: a user's function with keyed state and timers.
//!
//! A function has one state per key that is simply there (`type State`), as many named ones as it
//! declares ([`StateDeclarations`]: values, lists, maps, reducing and aggregating state, each kept
//! for good or for a [time to live](crate::Ttl)), timers in event time and in processing time, a
//! main and a side output.
//!
//! ```
//! use thalweg_engine::{EventTime, Result};
//! use thalweg_operators::{ProcessContext, ProcessFunction};
//!
//! /// Tells of users that have been silent for a minute.
//! struct Silence;
//!
//! impl ProcessFunction<u64, String> for Silence {
//!     type State = i64;
//!     type Out = u64;
//!
//!     fn on_record(
//!         &self,
//!         _click: String,
//!         context: &mut ProcessContext<'_, u64, i64, u64>,
//!     ) -> Result<()> {
//!         context.delete_timer(EventTime::from_millis(*context.state));
//!         *context.state = context.time().millis() + 60_000;
//!         context.register_timer(EventTime::from_millis(*context.state));
//!         Ok(())
//!     }
//!
//!     fn on_timer(
//!         &self,
//!         _time: EventTime,
//!         context: &mut ProcessContext<'_, u64, i64, u64>,
//!     ) -> Result<()> {
//!         context.emit(*context.key());
//!         Ok(())
//!     }
//! }
//! ```
//!
//! With named state and a side output, whose type is the third parameter of the trait:
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::Result;
//! use thalweg_operators::{Job, ListState, MapState, ProcessContext, ProcessFunction};
//!
//! /// Counts what each user buys, and puts purchases of one kind too many aside.
//! struct Baskets {
//!     counts: MapState<String, u32>,
//!     history: ListState<String>,
//! }
//!
//! impl ProcessFunction<u64, (u64, String), String> for Baskets {
//!     type State = ();
//!     type Out = u32;
//!
//!     fn on_record(
//!         &self,
//!         (_user, article): (u64, String),
//!         context: &mut ProcessContext<'_, u64, (), u32, String>,
//!     ) -> Result<()> {
//!         let count = context.map(&self.counts).update(&article, || 0, |count| {
//!             *count += 1;
//!             *count
//!         })?;
//!         context.list(&self.history).push(article.clone())?;
//!         if count > 2 {
//!             context.emit_side(article);
//!         } else {
//!             context.emit(count);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let job = Job::new();
//! let ((counts, _), (aside, _)) = (memory::sink(), memory::sink());
//! let baskets = job
//!     .source("purchases", memory::source(vec![(1, "pear".to_owned()), (2, "nut".to_owned())]))
//!     .key_by(|purchase| purchase.0)
//!     .process_with("baskets", |states| Baskets {
//!         counts: states.map("counts"),
//!         history: states.list("history"),
//!     });
//! baskets.sink("counts", counts);
//! baskets.side().sink("aside", aside);
//! ```

pub(crate) mod context;
mod keyed;
pub mod records;
mod rules;
pub mod states;
mod timers;

pub mod broadcast;

use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::{
    Advance, Batch, Context, Data, EachTable, Element, EventTime, Key, Marks, OpenContext,
    Operator, Outputs, ProcessingTime, Result, SnapshotContext,
};

use context::{Moment, at};
pub use context::{ProcessContext, RecordContext};
use keyed::{KeyedCalls, TimerCalls};
use states::Declared;
pub use states::StateDeclarations;

use crate::stream::{Keyed, KeyedStream, Stream};

/// What a `process` operator does with each record and timer. `D` is what goes to the side output.
pub trait ProcessFunction<K: Key, T, D: Element = ()>: Send + Sync + 'static {
    /// What is kept per key; keys that were not seen have the default. `()` costs nothing.
    type State: Data + Default;
    /// What is given out.
    type Out: Element;

    /// Whether it wants to know which record a record is: sources attach identities then.
    const NEEDS_RECORD_IDS: bool = false;

    /// A record has come.
    ///
    /// # Errors
    /// Fails the job.
    fn on_record(
        &self,
        record: T,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()>;

    /// A timer is due: the watermark has reached its time.
    ///
    /// # Errors
    /// Fails the job.
    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()> {
        let _ = (time, context);
        Ok(())
    }

    /// A processing-time timer is due: the clock has reached its time, or the input has ended.
    ///
    /// # Errors
    /// Fails the job.
    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()> {
        let _ = (time, context);
        Ok(())
    }
}

/// What a function gives out: its results, and its side output.
pub struct ProcessStream<O, D> {
    results: Stream<O>,
    side: PhantomData<fn() -> D>,
}

impl<O, D> ProcessStream<O, D> {
    pub(crate) fn new(results: Stream<O>) -> Self {
        ProcessStream { results, side: PhantomData }
    }

    /// The results, which is also what this derefs to.
    pub fn results(&self) -> Stream<O> {
        self.results.clone()
    }

    /// What was given to the side output. Where that is an enum, `filter_map` takes it apart.
    pub fn side(&self) -> Stream<D> {
        self.results.side()
    }
}

impl<O, D> Deref for ProcessStream<O, D> {
    type Target = Stream<O>;

    fn deref(&self) -> &Stream<O> {
        &self.results
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Calls a function with keyed state and timers. Its results may depend on the order of
    /// arrival: level D2.
    #[track_caller]
    pub fn process<D: Element, P: ProcessFunction<K, T, D>>(
        &self,
        name: impl Into<String>,
        function: P,
    ) -> ProcessStream<P::Out, D> {
        self.process_with(name, |_| function)
    }

    /// As [`process`](KeyedStream::process), for a function with named state: `declare` is called
    /// once, here, and returns the function.
    #[track_caller]
    pub fn process_with<D: Element, P: ProcessFunction<K, T, D>>(
        &self,
        name: impl Into<String>,
        declare: impl FnOnce(&mut StateDeclarations<K>) -> P,
    ) -> ProcessStream<P::Out, D> {
        let spec = spec(name.into(), "process", Location::caller());
        self.stream.process_keyed(spec, declare)
    }
}

impl<K: Key, T: Data> Stream<Keyed<K, T>> {
    /// Calls a function for the records of this stream.
    pub(crate) fn process_keyed<D: Element, P: ProcessFunction<K, T, D>>(
        &self,
        mut spec: OperatorSpec,
        declare: impl FnOnce(&mut StateDeclarations<K>) -> P,
    ) -> ProcessStream<P::Out, D> {
        let (function, declared) = declaration(declare, &mut spec);
        spec.needs_record_ids = P::NEEDS_RECORD_IDS;
        let factory = move || Process::<K, T, D, P>::new(function.clone(), declared.clone());
        ProcessStream::new(self.job.operator(self, spec, factory))
    }
}

/// The spec of an operator that calls a function.
pub(crate) fn spec(
    name: String,
    what: &'static str,
    location: &'static Location<'static>,
) -> OperatorSpec {
    OperatorSpec { level: Level::D2, ..OperatorSpec::stateful(name, what, location) }
}

/// Has a function declare its states; what is wrong with them is a problem of `spec`.
fn declaration<K: Key, P>(
    declare: impl FnOnce(&mut StateDeclarations<K>) -> P,
    spec: &mut OperatorSpec,
) -> (Arc<P>, Arc<Declared<K>>) {
    let mut declarations = StateDeclarations::new();
    let function = Arc::new(declare(&mut declarations));
    let (declared, problems) = declarations.finish();
    spec.problems.extend(problems);
    spec.needs_event_time |= declared.needs_event_time;
    spec.note = declared.note();
    (function, declared)
}

pub(crate) struct Process<K: Key, T, D: Element, P: ProcessFunction<K, T, D>> {
    calls: KeyedCalls<K, P::State, P::Out, D>,
    function: OnTimers<T, P>,
}

/// A function as what is called when timers are due.
struct OnTimers<T, P>(Arc<P>, PhantomData<fn(T)>);

impl<K, T, D, P> TimerCalls<K, P::State, P::Out, D> for OnTimers<T, P>
where
    K: Key,
    D: Element,
    P: ProcessFunction<K, T, D>,
{
    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, K, P::State, P::Out, D>,
    ) -> Result<()> {
        self.0.on_timer(time, context)
    }

    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        context: &mut ProcessContext<'_, K, P::State, P::Out, D>,
    ) -> Result<()> {
        self.0.on_processing_timer(time, context)
    }
}

impl<K: Key, T: Data, D: Element, P: ProcessFunction<K, T, D>> Process<K, T, D, P> {
    fn new(function: Arc<P>, declared: Arc<Declared<K>>) -> Self {
        Process { calls: KeyedCalls::new(declared), function: OnTimers(function, PhantomData) }
    }
}

impl<K, T, D, P> Operator for Process<K, T, D, P>
where
    K: Key,
    T: Data,
    D: Element,
    P: ProcessFunction<K, T, D>,
{
    type In = Keyed<K, T>;
    type Out = P::Out;
    type Side = D;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.calls.open(context, |_| Ok(()), |(), _, _| Ok(()))
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, P::Out, D>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let function = &*self.function.0;
        let at = at(self.calls.watermark, context);
        self.calls.has_ids |= !input.ids.is_empty();
        let mut marks = Marks::of(&input.behind);
        let mut taken = 0;
        let mut values = std::mem::take(&mut input.values).into_iter();
        for Keyed { key, value } in values.by_ref() {
            let moment = Moment::of(input, taken, &mut marks, at);
            let owner = (&key, input.hashes[taken]);
            self.calls.call(owner, moment, out, |context| function.on_record(value, context))?;
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        input.drain_columns(taken);
        input.values = values.collect();
        self.calls.finish_batch(context)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, P::Out, D>,
        context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.calls.advance(&self.function, watermark, out, context)
    }

    fn on_time(
        &mut self,
        out: &mut Outputs<'_, P::Out, D>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        self.calls.on_time(&self.function, out, context)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        self.calls.snapshot(context, |_| Ok(()))
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        self.calls.each_table(f)
    }
}

#[cfg(test)]
pub(crate) mod tests;
