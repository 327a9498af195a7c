//! `connect_broadcast`: a stream beside a stream of rules that every subtask knows.
//!
//! The rules are a map that every subtask has alike. A function changes it for each record of the
//! rules' stream and reads it for each record of the other. Changes see the rule, its event time
//! and the map, and nothing that differs between subtasks; and all rules pass one subtask first,
//! so that all see them in one order. Hence the maps agree, whatever the function does. (In Flink
//! rules from several subtasks may arrive in different orders, and the maps drift apart.)
//!
//! A record meets the rules that have arrived, not those of its event time: there are no versions,
//! and results depend on scheduling, level D2. The watermark is the lesser of both streams', so
//! rules that come without end and seldom need idleness.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use thalweg_connectors::memory;
//! use thalweg_engine::{EventTime, Result};
//! use thalweg_operators::{BroadcastFunction, Job, RecordContext};
//!
//! /// Lets pass what is below the limit of its kind.
//! struct Limits;
//!
//! impl BroadcastFunction<(String, u64), (String, u64)> for Limits {
//!     type Out = (String, u64);
//!     type RuleKey = String;
//!     type Rule = u64;
//!
//!     fn on_record(
//!         &self,
//!         record: (String, u64),
//!         limits: &BTreeMap<String, u64>,
//!         context: &mut RecordContext<'_, (String, u64)>,
//!     ) -> Result<()> {
//!         if limits.get(&record.0).is_none_or(|limit| record.1 < *limit) {
//!             context.emit(record);
//!         }
//!         Ok(())
//!     }
//!
//!     fn on_broadcast(
//!         &self,
//!         (kind, limit): (String, u64),
//!         _time: EventTime,
//!         limits: &mut BTreeMap<String, u64>,
//!     ) -> Result<()> {
//!         limits.insert(kind, limit);
//!         Ok(())
//!     }
//! }
//!
//! let job = Job::new();
//! let (sink, _) = memory::sink();
//! let records = job.source("records", memory::source(vec![("nut".to_owned(), 3)]));
//! let limits = job.source("limits", memory::source(vec![("nut".to_owned(), 2)]));
//! records.connect_broadcast(&limits).process("limited", Limits).sink("out", sink);
//! ```

mod keyed;
mod records;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::panic::Location;

use thalweg_engine::graph::{OperatorSpec, Partition};
use thalweg_engine::{
    Batch, Context, Data, Element, EventTime, Key, Operator, Outputs, ProcessingTime, Result,
};

use super::context::{ProcessContext, RecordContext};
use super::states::StateDeclarations;
use super::{ProcessStream, declaration, spec};
use crate::stream::{Either, Keyed, KeyedStream, Stream};

/// What is done with records beside rules. `D` is what goes to the side output.
pub trait BroadcastFunction<T, R, D: Element = ()>: Send + Sync + 'static {
    /// What is given out.
    type Out: Element;
    /// What rules are known by.
    type RuleKey: Key + Ord;
    /// What is known of a rule.
    type Rule: Data;

    /// Whether it wants to know which record a record is: sources attach identities then.
    const NEEDS_RECORD_IDS: bool = false;

    /// A record has come.
    ///
    /// # Errors
    /// Fails the job.
    fn on_record(
        &self,
        record: T,
        rules: &BTreeMap<Self::RuleKey, Self::Rule>,
        context: &mut RecordContext<'_, Self::Out, D>,
    ) -> Result<()>;

    /// A rule has come, with its event time. Every subtask is told, and all must do the same.
    ///
    /// # Errors
    /// Fails the job.
    fn on_broadcast(
        &self,
        rule: R,
        time: EventTime,
        rules: &mut BTreeMap<Self::RuleKey, Self::Rule>,
    ) -> Result<()>;
}

/// What is done with keyed records beside rules, with keyed state and timers. `D` is what goes to
/// the side output.
pub trait BroadcastProcessFunction<K: Key, T, R, D: Element = ()>: Send + Sync + 'static {
    /// What is kept per key; keys that were not seen have the default. `()` costs nothing.
    type State: Data + Default;
    /// What is given out.
    type Out: Element;
    /// What rules are known by.
    type RuleKey: Key + Ord;
    /// What is known of a rule.
    type Rule: Data;

    /// Whether it wants to know which record a record is: sources attach identities then.
    const NEEDS_RECORD_IDS: bool = false;

    /// A record has come.
    ///
    /// # Errors
    /// Fails the job.
    fn on_record(
        &self,
        record: T,
        rules: &BTreeMap<Self::RuleKey, Self::Rule>,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()>;

    /// A rule has come, with its event time. Every subtask is told, and all must do the same.
    ///
    /// # Errors
    /// Fails the job.
    fn on_broadcast(
        &self,
        rule: R,
        time: EventTime,
        rules: &mut BTreeMap<Self::RuleKey, Self::Rule>,
    ) -> Result<()>;

    /// A timer is due: the watermark has reached its time.
    ///
    /// # Errors
    /// Fails the job.
    fn on_timer(
        &self,
        time: EventTime,
        rules: &BTreeMap<Self::RuleKey, Self::Rule>,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()> {
        let _ = (time, rules, context);
        Ok(())
    }

    /// A processing-time timer is due: the clock has reached its time, or the input has ended.
    ///
    /// # Errors
    /// Fails the job.
    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        rules: &BTreeMap<Self::RuleKey, Self::Rule>,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()> {
        let _ = (time, rules, context);
        Ok(())
    }
}

/// A stream beside a stream of rules.
pub struct BroadcastConnectedStream<T, R> {
    records: Stream<T>,
    rules: Stream<R>,
}

/// A keyed stream beside a stream of rules.
pub struct KeyedBroadcastConnectedStream<K, T, R> {
    records: KeyedStream<K, T>,
    rules: Stream<R>,
}

impl<T: Data> Stream<T> {
    /// This stream beside a stream of rules that every subtask is told.
    pub fn connect_broadcast<R: Data>(&self, rules: &Stream<R>) -> BroadcastConnectedStream<T, R> {
        BroadcastConnectedStream { records: self.clone(), rules: rules.clone() }
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// This stream beside a stream of rules that every subtask is told.
    pub fn connect_broadcast<R: Data>(
        &self,
        rules: &Stream<R>,
    ) -> KeyedBroadcastConnectedStream<K, T, R> {
        let records = KeyedStream { stream: self.stream.clone() };
        KeyedBroadcastConnectedStream { records, rules: rules.clone() }
    }
}

impl<T: Data, R: Data> BroadcastConnectedStream<T, R> {
    /// Calls a function for the records, beside rules.
    #[track_caller]
    pub fn process<D: Element, P: BroadcastFunction<T, R, D>>(
        &self,
        name: impl Into<String>,
        function: P,
    ) -> ProcessStream<P::Out, D> {
        let mut spec = spec(name.into(), "broadcast", Location::caller());
        spec.needs_record_ids = P::NEEDS_RECORD_IDS;
        let (records, rules) = either(&self.records, &self.rules);
        let function = std::sync::Arc::new(function);
        let factory = move || records::Broadcast::<T, R, D, P>::new(function.clone());
        ProcessStream::new(records.job.operator2(&records, &rules, spec, factory))
    }
}

impl<K: Key, T: Data, R: Data> KeyedBroadcastConnectedStream<K, T, R> {
    /// Calls a function with keyed state and timers for the records, beside rules.
    #[track_caller]
    pub fn process<D: Element, P: BroadcastProcessFunction<K, T, R, D>>(
        &self,
        name: impl Into<String>,
        function: P,
    ) -> ProcessStream<P::Out, D> {
        self.process_with(name, |_| function)
    }

    /// As [`process`](KeyedBroadcastConnectedStream::process), for a function with named state:
    /// `declare` is called once, here, and returns the function.
    #[track_caller]
    pub fn process_with<D: Element, P: BroadcastProcessFunction<K, T, R, D>>(
        &self,
        name: impl Into<String>,
        declare: impl FnOnce(&mut StateDeclarations<K>) -> P,
    ) -> ProcessStream<P::Out, D> {
        let mut spec = spec(name.into(), "keyed broadcast", Location::caller());
        spec.needs_record_ids = P::NEEDS_RECORD_IDS;
        let (records, rules) = either(&self.records.stream, &self.rules);
        let (function, declared) = declaration(declare, &mut spec);
        let factory =
            move || keyed::KeyedBroadcast::<K, T, R, D, P>::new(function.clone(), declared.clone());
        ProcessStream::new(records.job.operator2(&records, &rules, spec, factory))
    }
}

/// Records and rules, as streams of either.
type Both<L, R> = (Stream<Either<L, R>>, Stream<Either<L, R>>);

/// Two streams as inputs of one operator: records as they are distributed, rules to all, in one
/// order.
#[track_caller]
fn either<L: Element, R: Data>(records: &Stream<L>, rules: &Stream<R>) -> Both<L, R> {
    let left = records.with_partition(Partition::Forward).map(Either::Left);
    let mut spec = OperatorSpec::stateless("in_one_order", Location::caller());
    spec.parallelism = Some(1);
    let rules = rules.with_partition(Partition::Global);
    let right = rules.job.operator(&rules, spec, || InOneOrder(PhantomData));
    (left.with_partition(records.partition), right.with_partition(Partition::Broadcast))
}

/// Hands rules on, from one subtask.
struct InOneOrder<L, R>(PhantomData<fn(R) -> L>);

impl<L: Element, R: Element> Operator for InOneOrder<L, R> {
    type In = R;
    type Out = Either<L, R>;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<R>,
        out: &mut Outputs<'_, Either<L, R>, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        out.main.values.extend(input.values.drain(..).map(Either::Right));
        out.main.take_columns(input);
        Ok(())
    }
}

/// A record with its key, or a rule.
type KeyedOrRule<K, T, R> = Either<Keyed<K, T>, R>;

#[cfg(test)]
mod tests;
