//! The logical graph: operators as the user declared them, on petgraph.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::EdgeRef;
use thalweg_state::{Data, Element, KeyGroupCount};

use crate::channel::Sender;
use crate::in_flight::{self, WireCodec};
use crate::operator::Operator;
use crate::sink::Sink;
use crate::source::Source;
use crate::subtask::{
    ErasedGate, ErasedOperator, ErasedSink, ErasedSource, Gate, OperatorCell, SourceCell,
};
use crate::upgrade::Upgrades;

/// An operator of the job, as an index that is stable while the graph is built.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub(crate) NodeIndex);

impl NodeId {
    /// The position in the order of declaration.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// Which output of an operator an edge starts at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(usize)]
pub enum Port {
    /// The results.
    Main = 0,
    /// Late records or dead letters.
    Side = 1,
}

/// How records are distributed over the subtasks of the next operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Partition {
    /// To the subtask of the same index.
    Forward,
    /// By the key group of the record's key hash.
    Hash,
    /// To each subtask in turn, a batch at a time.
    Rebalance,
    /// A copy to every subtask.
    Broadcast,
    /// All to the first subtask.
    Global,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Partition::Forward => "forward",
            Partition::Hash => "hash",
            Partition::Rebalance => "rebalance",
            Partition::Broadcast => "broadcast",
            Partition::Global => "global",
        })
    }
}

/// What an operator's results may depend on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// The same results when the recorded order is replayed.
    D2,
    /// The same set of results for every schedule, parallelism, crash and rescale.
    D4,
}

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeKind {
    /// Reads splits.
    Source,
    /// Transforms records.
    Operator,
    /// Writes records.
    Sink,
}

/// What is known of an operator apart from its code.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// The name: the identity of its state.
    pub name: String,
    /// What it is: `map`, `window`, `csv sink`.
    pub what: String,
    /// Source, operator or sink.
    pub kind: NodeKind,
    /// The line of user code that declared it.
    pub location: &'static Location<'static>,
    /// The parallelism it insists on, or the job's.
    pub parallelism: Option<usize>,
    /// True if it keeps state in checkpoints.
    pub is_stateful: bool,
    /// True if it assigns event times.
    pub assigns_event_time: bool,
    /// True if it works in event time.
    pub needs_event_time: bool,
    /// True if it orders records by their identities.
    pub needs_record_ids: bool,
    /// True if its side output has results too: then the main output may be left unused.
    pub has_side_results: bool,
    /// True if it only prepares records for the exchange behind it: plans without that exchange
    /// leave it out.
    pub prepares_exchange: bool,
    /// What its results may depend on.
    pub level: Level,
    /// What is wrong with how it was declared, for the user who declared it.
    pub problems: Vec<String>,
    /// What its user should know and may well want, such as state that grows without end.
    pub note: Option<String>,
}

impl NodeInfo {
    /// `name` (file:line), for messages.
    pub fn whereabouts(&self) -> String {
        format!("`{}` ({}:{})", self.name, self.location.file(), self.location.line())
    }
}

/// A source to be added to a graph.
pub struct SourceSpec {
    /// The name: the identity of its splits in checkpoints.
    pub name: String,
    /// The line of user code that declared it.
    pub location: &'static Location<'static>,
    /// The parallelism it insists on, or the job's.
    pub parallelism: Option<usize>,
}

/// An operator to be added to a graph; see [`NodeInfo`] for the fields.
pub struct OperatorSpec {
    /// The name, or none for a stateless operator, which gets one from `what` and its place.
    pub name: Option<String>,
    /// What it is.
    pub what: &'static str,
    /// The line of user code that declared it.
    pub location: &'static Location<'static>,
    /// True if it keeps state in checkpoints.
    pub is_stateful: bool,
    /// True if it assigns event times.
    pub assigns_event_time: bool,
    /// True if it works in event time.
    pub needs_event_time: bool,
    /// The parallelism it insists on, or the job's.
    pub parallelism: Option<usize>,
    /// True if it orders records by their identities: sources in front of it attach them.
    pub needs_record_ids: bool,
    /// True if its side output has results too: then the main output may be left unused.
    pub has_side_results: bool,
    /// True if it only prepares records for the exchange behind it; the operator there must have
    /// been given a variant for each case by [`JobGraph::set_combined`].
    pub prepares_exchange: bool,
    /// What its results may depend on.
    pub level: Level,
    /// What is wrong with how it was declared; reported with its name and line by
    /// [`JobGraph::validate`].
    pub problems: Vec<String>,
    /// What its user should know and may well want, such as state that grows without end, and what
    /// would change it; plans for a terminal show it.
    pub note: Option<String>,
}

impl OperatorSpec {
    /// A stateless operator of level D4 without a name of its own.
    pub fn stateless(what: &'static str, location: &'static Location<'static>) -> Self {
        OperatorSpec {
            name: None,
            what,
            location,
            is_stateful: false,
            assigns_event_time: false,
            needs_event_time: false,
            parallelism: None,
            needs_record_ids: false,
            has_side_results: false,
            prepares_exchange: false,
            level: Level::D4,
            problems: Vec::new(),
            note: None,
        }
    }

    /// A stateful operator of level D4.
    pub fn stateful(
        name: impl Into<String>,
        what: &'static str,
        location: &'static Location<'static>,
    ) -> Self {
        OperatorSpec {
            name: Some(name.into()),
            is_stateful: true,
            ..Self::stateless(what, location)
        }
    }
}

/// How the code of a node is made, one instance per subtask.
pub(crate) enum Make {
    Source(Arc<dyn ErasedSource>),
    Operator(Box<dyn Fn() -> Box<dyn ErasedOperator> + Send + Sync>),
    Sink(Arc<dyn ErasedSink>),
}

/// Makes the gate behind an output port.
pub(crate) type MakeGate = fn(Partition, KeyGroupCount, Vec<Sender>) -> Box<dyn ErasedGate>;

pub(crate) struct Node {
    pub(crate) info: NodeInfo,
    pub(crate) make: Make,
    /// How it is made where its records come from a combiner.
    pub(crate) make_combined: Option<Make>,
    pub(crate) make_gate: [MakeGate; 2],
    /// How records of a port are written down, where their type allows it.
    pub(crate) codecs: [Option<WireCodec>; 2],
}

pub(crate) struct Edge {
    pub(crate) port: Port,
    pub(crate) partition: Partition,
}

/// The logical graph of a job.
#[derive(Default)]
pub struct JobGraph {
    pub(crate) graph: DiGraph<Node, Edge>,
    /// What the job declares about earlier versions of itself.
    pub upgrades: Upgrades,
}

fn make_gate<T: Element>(
    partition: Partition,
    key_groups: KeyGroupCount,
    senders: Vec<Sender>,
) -> Box<dyn ErasedGate> {
    Box::new(Gate::<T>::new(partition, key_groups, senders))
}

impl JobGraph {
    /// Adds a source.
    pub fn add_source<S: Source>(&mut self, spec: SourceSpec, source: S) -> NodeId {
        let info = NodeInfo {
            name: spec.name,
            what: source.describe(),
            kind: NodeKind::Source,
            location: spec.location,
            parallelism: spec.parallelism,
            is_stateful: true,
            assigns_event_time: false,
            needs_event_time: false,
            needs_record_ids: false,
            has_side_results: false,
            prepares_exchange: false,
            level: Level::D4,
            problems: Vec::new(),
            note: None,
        };
        let make = Make::Source(Arc::new(SourceCell::new(Arc::new(source))));
        let make_gate = [make_gate::<S::Item> as MakeGate, make_gate::<S::Dead>];
        NodeId(self.graph.add_node(Node {
            info,
            make,
            make_combined: None,
            make_gate,
            codecs: [None; 2],
        }))
    }

    /// Adds an operator; `factory` makes one per subtask.
    pub fn add_operator<O: Operator>(
        &mut self,
        spec: OperatorSpec,
        factory: impl Fn() -> O + Send + Sync + 'static,
    ) -> NodeId {
        let index = self.graph.node_count();
        let info = NodeInfo {
            name: spec.name.unwrap_or_else(|| format!("{}-{index}", spec.what)),
            what: spec.what.to_owned(),
            kind: NodeKind::Operator,
            location: spec.location,
            parallelism: spec.parallelism,
            is_stateful: spec.is_stateful,
            assigns_event_time: spec.assigns_event_time,
            needs_event_time: spec.needs_event_time,
            needs_record_ids: spec.needs_record_ids,
            has_side_results: spec.has_side_results,
            prepares_exchange: spec.prepares_exchange,
            level: spec.level,
            problems: spec.problems,
            note: spec.note,
        };
        let make = Make::Operator(Box::new(move || Box::new(OperatorCell::new(factory()))));
        let make_gate = [make_gate::<O::Out> as MakeGate, make_gate::<O::Side>];
        NodeId(self.graph.add_node(Node {
            info,
            make,
            make_combined: None,
            make_gate,
            codecs: [None; 2],
        }))
    }

    /// Gives `node` a variant for plans in which the combiner in front of it is not left out. It
    /// differs in the type of its input, and in nothing else.
    pub fn set_combined<O: Operator>(
        &mut self,
        node: NodeId,
        factory: impl Fn() -> O + Send + Sync + 'static,
    ) {
        let make = Make::Operator(Box::new(move || Box::new(OperatorCell::new(factory()))));
        self.graph[node.0].make_combined = Some(make);
    }

    /// Adds a sink.
    pub fn add_sink<S: Sink>(
        &mut self,
        name: impl Into<String>,
        location: &'static Location<'static>,
        sink: S,
    ) -> NodeId {
        let info = NodeInfo {
            name: name.into(),
            what: sink.describe(),
            kind: NodeKind::Sink,
            location,
            parallelism: None,
            is_stateful: true,
            assigns_event_time: false,
            needs_event_time: false,
            needs_record_ids: false,
            has_side_results: false,
            prepares_exchange: false,
            level: Level::D4,
            problems: Vec::new(),
            note: None,
        };
        let make = Make::Sink(Arc::new(Arc::new(sink)));
        let make_gate = [make_gate::<()> as MakeGate; 2];
        NodeId(self.graph.add_node(Node {
            info,
            make,
            make_combined: None,
            make_gate,
            codecs: [None; 2],
        }))
    }

    /// Leads an output port of `from` to the input of `to`. The fluent API sees to it that the
    /// record types agree. Behind an operator that insists on a parallelism only an exchange
    /// changes it, or a union whose first stream has another one.
    pub fn connect(&mut self, from: NodeId, port: Port, to: NodeId, partition: Partition) {
        let is_first = self.inputs(to).is_empty();
        let inherits = is_first && self.info(to).parallelism.is_none();
        if partition == Partition::Forward && inherits {
            self.graph[to.0].info.parallelism = self.info(from).parallelism;
        }
        self.graph.add_edge(from.0, to.0, Edge { port, partition });
    }

    /// Notes that records of a port can be written down: only then can records that are on their
    /// way from there be part of a checkpoint. `T` is the port's record type.
    pub fn set_data<T: Data>(&mut self, node: NodeId, port: Port) {
        self.graph[node.0].codecs[port as usize] = Some(WireCodec::of::<T>());
    }

    /// An edge whose records can be written down.
    pub(crate) fn edge(&self, from: NodeId, port: Port, to: NodeId) -> Option<in_flight::Edge> {
        let codec = self.graph[from.0].codecs[port as usize]?;
        let (from, to) = (self.info(from).name.clone(), self.info(to).name.clone());
        Some(in_flight::Edge { from, port: port as u8, to, codec })
    }

    /// What is known of a node.
    pub fn info(&self, node: NodeId) -> &NodeInfo {
        &self.graph[node.0].info
    }

    /// All nodes, in the order in which they were declared.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.graph.node_indices().map(NodeId)
    }

    /// The level of the whole job: that of its least operator.
    pub fn level(&self) -> Level {
        self.nodes().map(|node| self.info(node).level).min().unwrap_or(Level::D4)
    }

    /// True if records reach `node` whose split may have been idle: its watermark may then be
    /// behind the operator's.
    pub(crate) fn may_be_idle(&self, node: NodeId) -> bool {
        let before = petgraph::visit::Reversed(&self.graph);
        let mut nodes = petgraph::visit::Bfs::new(before, node.0);
        while let Some(node) = nodes.next(before) {
            let info = &self.graph[node].info;
            if info.assigns_event_time && info.level == Level::D2 {
                return true;
            }
        }
        false
    }

    /// True if an operator behind `node` orders records by their identities.
    pub(crate) fn needs_record_ids(&self, node: NodeId) -> bool {
        let mut behind = petgraph::visit::Bfs::new(&self.graph, node.0);
        while let Some(node) = behind.next(&self.graph) {
            if self.graph[node].info.needs_record_ids {
                return true;
            }
        }
        false
    }

    /// The edges into a node, in the order in which they were declared.
    pub(crate) fn inputs(&self, node: NodeId) -> Vec<(NodeId, &Edge)> {
        let mut edges: Vec<_> = self.graph.edges_directed(node.0, Direction::Incoming).collect();
        edges.sort_by_key(|edge| edge.id());
        edges.iter().map(|edge| (NodeId(edge.source()), edge.weight())).collect()
    }

    /// The edges out of a node, in the order in which they were declared.
    pub(crate) fn outputs(&self, node: NodeId) -> Vec<(NodeId, &Edge)> {
        let mut edges: Vec<_> = self.graph.edges_directed(node.0, Direction::Outgoing).collect();
        edges.sort_by_key(|edge| edge.id());
        edges.iter().map(|edge| (NodeId(edge.target()), edge.weight())).collect()
    }
}
