//! `Job`: what a builder function adds sources, operators and sinks to.

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;

use thalweg_engine::Data;
use thalweg_engine::graph::{JobGraph, NodeId, OperatorSpec, Partition, Port, SourceSpec};
use thalweg_engine::operator::Operator;
use thalweg_engine::sink::Sink;
use thalweg_engine::source::Source;

use crate::stream::{SourceStream, Stream};

/// A job under construction.
///
/// A job is a function that builds it: the binary's `main`, a service that embeds the engine and
/// the simulator call the same function, each with a new `Job`.
#[derive(Clone, Default)]
pub struct Job {
    graph: Rc<RefCell<JobGraph>>,
}

impl Job {
    /// An empty job.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source; its name is the identity of its positions in checkpoints.
    #[track_caller]
    pub fn source<S: Source>(
        &self,
        name: impl Into<String>,
        source: S,
    ) -> SourceStream<S::Item, S::Dead> {
        let spec =
            SourceSpec { name: name.into(), location: Location::caller(), parallelism: None };
        let node = self.graph.borrow_mut().add_source(spec, source);
        SourceStream::new(self.clone(), node)
    }

    /// Says that the source, operator or sink `new` was called `old` in earlier versions of the
    /// job: it takes over what that has left in checkpoints and savepoints.
    #[track_caller]
    pub fn renamed(&self, old: impl Into<String>, new: impl Into<String>) {
        let location = Location::caller();
        self.graph.borrow_mut().upgrades.renamed(old.into(), new.into(), location);
    }

    /// Says that the job has done away with the source, operator or sink `name`, and that its state
    /// is not needed any more. Without this, state that nobody takes over is an error.
    #[track_caller]
    pub fn dropped(&self, name: impl Into<String>) {
        self.graph.borrow_mut().upgrades.dropped(name.into(), Location::caller());
    }

    /// Makes a `New` of each `Old` in the state of `operator` when it is restored: of values that
    /// are an `Old`, and of structs and enums within values. `Old` is told by its schema (fields or
    /// variants, and their types), so here it may have any name.
    ///
    /// Many changes need no function: see [`schema`](thalweg_engine::state::schema).
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// # use thalweg_operators::Job;
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct InCents {
    ///     cents: i64,
    /// }
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Amount {
    ///     euros: f64,
    /// }
    ///
    /// # let job = Job::new();
    /// job.migrate("balance", |old: InCents| Amount { euros: old.cents as f64 / 100.0 });
    /// ```
    #[track_caller]
    pub fn migrate<Old: Data, New: Data>(
        &self,
        operator: impl Into<String>,
        f: impl Fn(Old) -> New + Send + Sync + 'static,
    ) {
        let location = Location::caller();
        self.graph.borrow_mut().upgrades.migrate(operator.into(), f, location);
    }

    /// The graph that has been built.
    pub fn into_graph(self) -> JobGraph {
        self.graph.take()
    }

    /// Adds an operator behind `input` and returns its main output.
    pub(crate) fn operator<O: Operator>(
        &self,
        input: &Stream<O::In>,
        spec: OperatorSpec,
        factory: impl Fn() -> O + Send + Sync + 'static,
    ) -> Stream<O::Out> {
        let node = self.graph.borrow_mut().add_operator(spec, factory);
        self.connect(input, node);
        Stream::new(self.clone(), node, Port::Main)
    }

    /// Adds an operator behind a combiner: `records` makes the one for plans that leave the
    /// combiner out, `parts` the one for those that do not.
    pub(crate) fn operator_behind_combiner<O, C>(
        &self,
        combined: &Stream<C::In>,
        spec: OperatorSpec,
        records: impl Fn() -> O + Send + Sync + 'static,
        parts: impl Fn() -> C + Send + Sync + 'static,
    ) -> Stream<O::Out>
    where
        O: Operator,
        C: Operator<Out = O::Out, Side = O::Side>,
    {
        let node = self.graph.borrow_mut().add_operator(spec, records);
        self.graph.borrow_mut().set_combined(node, parts);
        self.connect(combined, node);
        Stream::new(self.clone(), node, Port::Main)
    }

    /// Adds an operator behind two streams and returns its main output.
    pub(crate) fn operator2<O: Operator>(
        &self,
        left: &Stream<O::In>,
        right: &Stream<O::In>,
        spec: OperatorSpec,
        factory: impl Fn() -> O + Send + Sync + 'static,
    ) -> Stream<O::Out> {
        let out = self.operator(left, spec, factory);
        self.connect(right, out.node);
        out
    }

    /// Leads a stream into an operator.
    pub(crate) fn connect<T>(&self, input: &Stream<T>, node: NodeId) {
        let Stream { node: from, port, partition, .. } = *input;
        self.graph.borrow_mut().connect(from, port, node, partition);
    }

    /// True if `stream` is the main output of an operator of this kind, as it comes from there.
    pub(crate) fn is_behind<T>(&self, stream: &Stream<T>, what: &str) -> bool {
        let Stream { node, port, partition, .. } = *stream;
        let is_direct = port == Port::Main && partition == Partition::Forward;
        is_direct && self.graph.borrow().info(node).what == what
    }

    pub(crate) fn sink<S: Sink>(
        &self,
        input: &Stream<S::Item>,
        name: String,
        location: &'static Location<'static>,
        sink: S,
    ) {
        let node = self.graph.borrow_mut().add_sink(name, location, sink);
        self.connect(input, node);
    }
}

impl<T: Data> Stream<T> {
    /// The stream as it goes over an exchange of this kind.
    pub(crate) fn over_exchange(&self, partition: Partition) -> Stream<T> {
        self.job.graph.borrow_mut().set_data::<T>(self.node, self.port);
        self.with_partition(partition)
    }
}

impl<T> Stream<T> {
    pub(crate) fn with_partition(&self, partition: Partition) -> Stream<T> {
        Stream { partition, ..self.clone() }
    }
}
