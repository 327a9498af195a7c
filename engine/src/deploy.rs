//! Deployment: from a plan and a checkpoint to subtasks that are ready to be stepped.
//!
//! Used by both drivers. Nothing runs here; readers, writers and state are opened, so most of
//! what can be wrong with a job's surroundings is found before the first record is read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thalweg_checkpoint::{
    CheckpointId, CheckpointMode, CheckpointStore, Manifest, OperatorPart, OperatorRecord, Run,
    SplitState, SubtaskId, counters_of, operator_parts, source_splits,
};
use thalweg_state::{BackendConfig, KeyGroupCount, KeyGroupRange, RestoreSource};

use crate::channel::{ChannelBounds, Receiver, Sender, channel};
use crate::error::{Error, ErrorKind, Result};
use crate::external::External;
use crate::graph::{ExecutionPlan, JobGraph, Make, NodeId, NodeKind, Partition, Target, TaskInput};
use crate::in_flight::Edge;
use crate::operator::OpenContext;
use crate::park::Waker;
use crate::planted::planted;
use crate::progress::JobMetrics;
use crate::savepoint::open_part;
use crate::sink::{Committer, Start};
use crate::source::{ReaderContext, RestoredSplit, Split};
use crate::state_writer::{StateSource, clip_runs};
use crate::subtask::{
    Chain, ChainGate, ChainNode, Head, InputGate, Outlet, Outlets, RECORDS_READ, SourceInput,
    Subtask, guard,
};
use crate::time::EventTime;
use crate::upgrade::{OperatorTables, recorded_of};

mod crew;
pub(crate) mod in_flight;

pub(crate) use crew::{CheckpointTimes, Crew, Desk, Hands};

/// What a deployment is made from.
pub(crate) struct DeployContext<'a> {
    pub(crate) graph: &'a JobGraph,
    pub(crate) plan: &'a ExecutionPlan,
    /// The tasks to deploy: whole regions.
    pub(crate) tasks: &'a BTreeSet<usize>,
    pub(crate) key_groups: KeyGroupCount,
    /// The bounds of each new channel.
    pub(crate) bounds: &'a mut dyn FnMut() -> ChannelBounds,
    /// Records of a batch.
    pub(crate) batch_records: usize,
    /// The waker of the worker that steps subtask `index` of task `task`.
    pub(crate) waker: &'a dyn Fn(usize, usize) -> Waker,
    /// Where an operator's state is kept, by operator name and subtask index.
    pub(crate) backend: &'a dyn Fn(&str, usize) -> Result<BackendConfig>,
    pub(crate) restored: Option<&'a Manifest>,
    pub(crate) store: Option<&'a dyn CheckpointStore>,
    pub(crate) is_checkpointed: bool,
    /// From how many bytes on restored tables may stay in runs, if not from the usual.
    pub(crate) leave_from: Option<u64>,
    pub(crate) mode: CheckpointMode,
    /// Who carries out calls to the world outside.
    pub(crate) external: External,
    /// The operator that gets its records one at a time, with identities.
    pub(crate) suspect: Option<&'a str>,
}

/// A job, or regions of it, ready to run.
pub(crate) struct Deployment {
    pub(crate) subtasks: Vec<Subtask>,
    pub(crate) metrics: JobMetrics,
    /// Where state changes.
    pub(crate) state: Vec<StateSource>,
    /// The tables of each operator with state.
    pub(crate) tables: OperatorTables,
}

/// Committers by the name of their sink.
pub(crate) type Committers = BTreeMap<String, Box<dyn Committer>>;

/// Opens the committers of the sinks among `nodes` and brings their output to the state of
/// `restored`.
pub(crate) fn open_committers(
    graph: &JobGraph,
    nodes: impl Iterator<Item = NodeId>,
    restored: Option<&Manifest>,
    store: Option<&dyn CheckpointStore>,
) -> Result<Committers> {
    // What was committed may have been taken away by those it was made for.
    let is_committed = match (restored, store) {
        (Some(manifest), Some(store)) => store.is_committed(manifest.id)?,
        _ => false,
    };
    let mut committers = Committers::new();
    for node in nodes {
        let Make::Sink(sink) = &graph.graph[node.0].make else { continue };
        let name = &graph.info(node).name;
        let mut committer = guard(name, || sink.committer())?;
        let pending: Vec<_> = restored
            .into_iter()
            .flat_map(|manifest| &manifest.committables)
            .filter(|committables| committables.sink == *name)
            .filter(|_| !is_committed && !planted!(ForgetPendingCommits))
            .flat_map(|committables| committables.committables.iter().cloned())
            .collect();
        let start = if restored.is_some() { Start::Resumed } else { Start::Fresh };
        guard(name, || committer.recover(&pending, start))?;
        committers.insert(name.clone(), committer);
    }
    Ok(committers)
}

/// Checks that a manifest fits a graph.
///
/// # Errors
/// `Incompatible`, naming what does not fit and what to do.
pub(crate) fn check_manifest(
    graph: &JobGraph,
    manifest: &Manifest,
    key_groups: KeyGroupCount,
) -> Result<()> {
    let incompatible = |message: String| Err(Error::new(ErrorKind::Incompatible, message));
    if manifest.key_group_count != key_groups.get() {
        return incompatible(format!(
            "checkpoint {} has {} key groups and this run {}: the number is fixed for a job's \
             life, start with the former",
            manifest.id,
            manifest.key_group_count,
            key_groups.get()
        ));
    }
    for record in manifest.operators.iter().filter(|record| record.state) {
        if !graph.nodes().any(|node| graph.info(node).name == record.name) {
            return incompatible(format!(
                "checkpoint {} has state of the {} `{}`, which this job does not have: give the \
                 operator its name back, say what it is called now by `Job::renamed`, or give its \
                 state up by `Job::dropped`",
                manifest.id, record.kind, record.name
            ));
        }
    }
    Ok(())
}

/// What a manifest says of the operators of a graph, but for their tables, which only a deployment
/// knows ([`Deployment::tables`]).
pub(crate) fn operator_records(graph: &JobGraph) -> Vec<OperatorRecord> {
    let record = |node: NodeId| {
        let info = graph.info(node);
        let kind = match info.kind {
            NodeKind::Source => "source",
            NodeKind::Operator => "operator",
            NodeKind::Sink => "sink",
        };
        OperatorRecord {
            name: info.name.clone(),
            kind: kind.to_owned(),
            state: info.is_stateful,
            tables: Vec::new(),
        }
    };
    graph.nodes().map(record).collect()
}

impl Deployment {
    /// Builds and opens the subtasks.
    pub(crate) fn new(mut context: DeployContext<'_>) -> Result<Self> {
        let mut wiring = Wiring::new(&mut context);
        let nodes = context.plan.nodes_of(context.tasks);
        let mut splits = SourceSplits::find(context.graph, &nodes)?;
        let counters = context.restored.map(counters_of).unwrap_or_default();
        let mut metrics = JobMetrics::new(counters, splits.record_count);
        let mut subtasks = Vec::new();
        let mut tables = OperatorTables::default();
        let mut state = Vec::new();
        for &t in context.tasks {
            let task = &context.plan.tasks[t];
            for index in 0..task.parallelism {
                let id = SubtaskId { task: t as u32, index: index as u32 };
                let mut builder = Builder {
                    context: &context,
                    wiring: &mut wiring,
                    metrics: &mut metrics,
                    state: &mut state,
                    tables: &mut tables,
                    task: t,
                    index,
                };
                subtasks.push(builder.subtask(id, &mut splits)?);
            }
        }
        Ok(Deployment { subtasks, metrics, state, tables })
    }
}

/// The ends of all channels, until their subtasks take them.
struct Wiring {
    /// By (task, subtask, node, port, place among the port's outlets).
    senders: BTreeMap<(usize, usize, usize, usize, usize), Vec<Sender>>,
    /// By (task, subtask), in the order of the task's inputs, with the input of each.
    receivers: BTreeMap<(usize, usize), Vec<(usize, Receiver)>>,
}

impl Wiring {
    fn new(context: &mut DeployContext<'_>) -> Self {
        let mut wiring = Wiring { senders: BTreeMap::new(), receivers: BTreeMap::new() };
        let plan = context.plan;
        for &to in context.tasks {
            let task = &plan.tasks[to];
            for (i, input) in task.inputs.iter().enumerate() {
                let from = &plan.tasks[input.task];
                let port = input.port as usize;
                let place = from.targets[input.node][port]
                    .iter()
                    .position(|target| *target == Target::Task { task: to, input: i })
                    .expect("a plan lists each edge at both of its ends");
                for upstream in 0..from.parallelism {
                    for downstream in 0..task.parallelism {
                        let is_connected = input.partition.is_all_to_all()
                            || match input.partition {
                                Partition::Global => downstream == 0,
                                _ => upstream == downstream,
                            };
                        if !is_connected {
                            continue;
                        }
                        let (sender, receiver) = channel(
                            (context.bounds)(),
                            (context.waker)(input.task, upstream),
                            (context.waker)(to, downstream),
                        );
                        let key = (input.task, upstream, input.node, port, place);
                        wiring.senders.entry(key).or_default().push(sender);
                        wiring.receivers.entry((to, downstream)).or_default().push((i, receiver));
                    }
                }
            }
        }
        wiring
    }
}

/// The splits of sources.
struct SourceSplits {
    by_source: BTreeMap<NodeId, Vec<Split>>,
    record_count: Option<u64>,
}

impl SourceSplits {
    fn find(graph: &JobGraph, nodes: &BTreeSet<NodeId>) -> Result<Self> {
        let mut by_source = BTreeMap::new();
        let mut record_count = Some(0);
        for &node in nodes {
            let Make::Source(source) = &graph.graph[node.0].make else { continue };
            let splits = guard(&graph.info(node).name, || source.splits())?;
            for (i, split) in splits.iter().enumerate() {
                if splits[..i].contains(split) {
                    return Err(Error::config(format!(
                        "the source {} has two splits named `{}`",
                        graph.info(node).whereabouts(),
                        split.id
                    )));
                }
            }
            by_source.insert(node, splits);
            record_count = record_count.zip(source.record_count_hint()).map(|(a, b)| a + b);
        }
        Ok(SourceSplits { by_source, record_count })
    }
}

/// Builds one subtask.
struct Builder<'a, 'b> {
    context: &'a DeployContext<'b>,
    wiring: &'a mut Wiring,
    metrics: &'a mut JobMetrics,
    state: &'a mut Vec<StateSource>,
    tables: &'a mut OperatorTables,
    task: usize,
    index: usize,
}

impl Builder<'_, '_> {
    fn subtask(&mut self, id: SubtaskId, splits: &mut SourceSplits) -> Result<Subtask> {
        let task = &self.context.plan.tasks[self.task];
        let is_source = task.inputs.is_empty();
        let first = usize::from(is_source);
        let mut gates = Vec::new();
        let mut all_outlets = Vec::new();
        for n in 0..task.nodes.len() {
            let parent = n.checked_sub(first);
            let outlets = [0, 1].map(|port| self.outlets(n, port, first, parent, &mut gates));
            all_outlets.push(outlets);
        }
        let mut all_outlets = all_outlets.into_iter();
        let head_outlets = if is_source { all_outlets.next() } else { None };
        let mut nodes = Vec::new();
        for (n, outlets) in all_outlets.enumerate() {
            nodes.push(self.node(n + first, outlets, first)?);
        }
        let batch_records = self.context.batch_records;
        let mut chain = Chain::new(nodes, gates, batch_records);
        let head = match head_outlets {
            Some(outlets) => Head::Source(self.source(outlets, splits, &mut chain)?),
            None => {
                let receivers = self.wiring.receivers.remove(&(self.task, self.index));
                let receivers = receivers.unwrap_or_default();
                Head::Channels(InputGate::new(receivers, self.edges(), self.context.mode))
            }
        };
        let range = self.key_group_range();
        let mut subtask = Subtask::new(id, (range.start, range.end), head, chain);
        subtask.restore(self.restored_in_flight(first)?);
        Ok(subtask)
    }

    /// The key groups the subtask owns.
    fn key_group_range(&self) -> KeyGroupRange {
        let parallelism = self.context.plan.tasks[self.task].parallelism;
        KeyGroupRange::of_subtask(self.index, parallelism, self.context.key_groups)
    }

    /// The edges into the task, in order; none if one of them cannot be recorded (I6 of
    /// `in_flight.rs`).
    fn edges(&self) -> Vec<Arc<Edge>> {
        let DeployContext { graph, plan, .. } = self.context;
        let task = &plan.tasks[self.task];
        let edge = |input: &TaskInput| match input.partition {
            Partition::Broadcast => None,
            _ => graph.edge(plan.tasks[input.task].nodes[input.node], input.port, task.nodes[0]),
        };
        let edges: Option<Vec<_>> = task.inputs.iter().map(|i| edge(i).map(Arc::new)).collect();
        edges.unwrap_or_default()
    }

    /// The outlets of one port; opens the gates it needs.
    fn outlets(
        &mut self,
        n: usize,
        port: usize,
        first: usize,
        parent: Option<usize>,
        gates: &mut Vec<ChainGate>,
    ) -> Vec<Outlet> {
        let context = self.context;
        let task = &context.plan.tasks[self.task];
        let node = &context.graph.graph[task.nodes[n].0];
        let outlet = |(place, target): (usize, &Target)| match *target {
            Target::Node(child) => Outlet::Node(child - first),
            Target::Task { task: to, input } => {
                let partition = context.plan.tasks[to].inputs[input].partition;
                let key = (self.task, self.index, n, port, place);
                let senders = self.wiring.senders.remove(&key).unwrap_or_default();
                let gate = (node.make_gate[port])(partition, context.key_groups, senders);
                gates.push(ChainGate { gate, parent });
                Outlet::Gate(gates.len() - 1)
            }
        };
        task.targets[n][port].iter().enumerate().map(outlet).collect()
    }

    fn node(&mut self, n: usize, outlets: Outlets, first: usize) -> Result<ChainNode> {
        let task = &self.context.plan.tasks[self.task];
        let graph = self.context.graph;
        let info = graph.info(task.nodes[n]);
        let node = &graph.graph[task.nodes[n].0];
        let combined = self.context.plan.is_combined(graph, task.nodes[n]);
        let make = match &node.make_combined {
            Some(make) if combined => make,
            _ => &node.make,
        };
        let mut operator = match make {
            Make::Operator(factory) => guard(&info.name, || Ok(factory()))?,
            Make::Sink(sink) => sink.operator(),
            Make::Source(_) => return Err(Error::bug("a source stands inside a chain")),
        };
        let mut range = self.key_group_range();
        if planted!(LoseKeyGroup) {
            range.end -= 1;
        }
        let restored = self.restored(&info.name, range)?;
        let mut open = OpenContext {
            operator: &info.name,
            subtask_index: self.index,
            parallelism: task.parallelism,
            key_groups: range,
            key_group_count: self.context.key_groups,
            backend: match info.is_stateful && info.kind == NodeKind::Operator {
                true => (self.context.backend)(&info.name, self.index)?,
                false => BackendConfig::Memory,
            },
            restored: &restored,
            restored_watermark: self.watermark_of(task.nodes[n], range),
            restored_from: self.context.restored.map(|manifest| manifest.id),
            is_checkpointed: self.context.is_checkpointed,
            leave_from: self.context.leave_from,
            waker: (self.context.waker)(self.task, self.index),
            stream: RefCell::default(),
            notified: None,
            external: self.context.external.clone(),
        };
        guard(&info.name, || operator.open(&mut open))?;
        if open.is_checkpointed && info.is_stateful {
            self.tables.add(&info.name, &mut *operator)?;
        }
        let parent = task
            .targets
            .iter()
            .position(|ports| ports.iter().flatten().any(|target| *target == Target::Node(n)));
        let metrics = self.metrics.register(&info.name, false, info.assigns_event_time);
        let parent = parent.and_then(|parent| parent.checked_sub(first));
        let is_captured = self.context.is_checkpointed || info.kind == NodeKind::Sink;
        let (notified, begun) = (open.notified.take(), open.restored_watermark);
        let stream = open.stream.take();
        if let Some(stream) = &stream {
            let id = SubtaskId { task: self.task as u32, index: self.index as u32 };
            let restored = clip_runs(self.restored_runs(&info.name, range), range);
            let (operator, stream) = (info.name.clone(), stream.clone());
            self.state.push(StateSource { subtask: id, operator, stream, restored });
        }
        let floor = self.floor(task.nodes[n], range);
        let mut node = ChainNode::new(info.name.clone(), operator, outlets, parent, metrics);
        (node.is_captured, node.notified, node.begun) = (is_captured, notified, begun);
        node.stream = stream;
        // What it has left in runs is to be taken over.
        node.is_sweeping = !restored.is_empty();
        node.is_suspect = self.context.suspect == Some(&info.name);
        node.floor = floor;
        Ok(node)
    }

    /// The snapshots of an operator that overlap with a range of key groups.
    fn restored(&self, operator: &str, range: KeyGroupRange) -> Result<Vec<RestoreSource>> {
        let (Some(manifest), Some(store)) = (self.context.restored, self.context.store) else {
            return Ok(Vec::new());
        };
        let parts = operator_parts(manifest, operator, range.start..range.end);
        let recorded = recorded_of(self.context.graph, manifest, operator)?;
        let open = |part: &OperatorPart| {
            let source = open_part(part, &mut |file| Ok(store.local_part(file)?))?;
            Ok(source.recorded(recorded.clone()))
        };
        parts.into_iter().map(open).collect()
    }

    /// The runs of the snapshots that an operator is restored from.
    fn restored_runs(
        &self,
        operator: &str,
        range: KeyGroupRange,
    ) -> impl Iterator<Item = &Run> + use<'_> {
        let parts = self
            .context
            .restored
            .map(|manifest| operator_parts(manifest, operator, range.start..range.end));
        parts.into_iter().flatten().flat_map(|part| &part.runs)
    }

    /// What the records of an operator are judged by after a restore. A combiner, which may not
    /// have been part of the plan then, judges for the operator behind it.
    fn watermark_of(&self, node: NodeId, range: KeyGroupRange) -> EventTime {
        let graph = self.context.graph;
        match graph.outputs(node).first() {
            Some((behind, _)) if graph.info(node).prepares_exchange => {
                let all = KeyGroupRange::all(self.context.key_groups);
                self.restored_watermarks(&graph.info(*behind).name, all).1
            }
            // What an operator in front held back, records on their way to the part that had come
            // least far, and those that are read again may be behind the others.
            _ => self.restored_watermarks(&graph.info(node).name, range).0,
        }
    }

    fn is_at_least_once(&self) -> bool {
        self.context.restored.is_some_and(|manifest| manifest.at_least_once)
    }

    /// What the operator is advanced to when the last restored record has passed it. Each of its
    /// subtasks had heard of all those in front of it: none of them is behind the greatest.
    fn floor(&self, node: NodeId, range: KeyGroupRange) -> EventTime {
        let graph = self.context.graph;
        let inputs = graph.inputs(node);
        let hears_all = inputs.iter().all(|(_, edge)| edge.partition.is_all_to_all());
        match hears_all && !inputs.is_empty() && !self.is_at_least_once() {
            true => self.restored_watermarks(&graph.info(node).name, range).1,
            false => EventTime::MIN,
        }
    }

    /// The least and the greatest watermark that a part of the operator's state had worked up to.
    /// No split that the checkpoint knows is behind the latter.
    fn restored_watermarks(&self, operator: &str, range: KeyGroupRange) -> (EventTime, EventTime) {
        let parts =
            self.context.restored.map(|m| operator_parts(m, operator, range.start..range.end));
        let watermarks = || parts.iter().flatten().map(|part| part.watermark);
        let of = |watermark: Option<i64>| watermark.map_or(EventTime::MIN, EventTime::from_millis);
        (of(watermarks().min()), of(watermarks().max()))
    }

    /// Opens the readers of the splits this subtask reads.
    fn source(
        &mut self,
        outlets: Outlets,
        splits: &mut SourceSplits,
        chain: &mut Chain,
    ) -> Result<SourceInput> {
        let context = self.context;
        let task = &context.plan.tasks[self.task];
        let node = task.nodes[0];
        let info = context.graph.info(node);
        let Make::Source(source) = &context.graph.graph[node.0].make else {
            return Err(Error::bug("a task without inputs does not begin with a source"));
        };
        let known = context.restored.map(|m| source_splits(m, &info.name)).unwrap_or_default();
        let mine: Vec<_> = splits.by_source[&node]
            .iter()
            .enumerate()
            .filter(|(i, _)| i % task.parallelism == self.index)
            .map(|(_, split)| {
                let state = known.iter().find(|state| state.split == split.id);
                (split.clone(), state.map(|state| (*state).clone()))
            })
            .collect();
        if self.index == 0
            && let Some(gone) = known
                .iter()
                .filter(|state| !state.finished)
                .find(|state| !splits.by_source[&node].iter().any(|s| s.id == state.split))
        {
            return Err(Error::new(
                ErrorKind::Incompatible,
                format!(
                    "the source `{}` no longer has the split `{}` that the checkpoint has a \
                     position in: bring it back, or start in another checkpoint directory",
                    info.name, gone.split
                ),
            ));
        }
        let mut restored = Vec::with_capacity(mine.len());
        for (i, (split, state)) in mine.into_iter().enumerate() {
            let generators: Vec<(String, Vec<u8>)> = match &state {
                Some(state) => thalweg_state::codec::decode(&state.generator)?,
                None => Vec::new(),
            };
            let read = state.as_ref().map_or(Ok(0), records_read)?;
            let is_finished = state.as_ref().is_some_and(|state| state.finished);
            let position = state.map(|state| state.position);
            let state = position.map(|position| RestoredSplit { position, is_finished, read });
            restored.push((split, state));
            chain.each_origin(|name, origin| {
                let generator = generators.iter().find(|(origin, _)| origin == name);
                origin.add_split(i, generator.map(|(_, bytes)| bytes.as_slice()))?;
                if is_finished {
                    origin.finish_split(i);
                }
                Ok(())
            })?;
        }
        let reader = ReaderContext { waker: (context.waker)(self.task, self.index) };
        let is_identified = context.graph.needs_record_ids(node) || context.suspect.is_some();
        let identified_as = is_identified.then_some(info.name.as_str());
        Ok(SourceInput {
            name: info.name.clone(),
            head: guard(&info.name, || source.open(restored, identified_as, &reader))?,
            outlets,
            metrics: self.metrics.register(&info.name, true, false),
            held: Vec::new(),
            is_suspect: context.suspect == Some(&info.name),
        })
    }
}

/// How many records of a split had been read when it was checkpointed.
///
/// # Errors
/// `Corrupt` if its generators cannot be read.
pub(crate) fn records_read(state: &SplitState) -> Result<u64> {
    let generators: Vec<(String, Vec<u8>)> = thalweg_state::codec::decode(&state.generator)?;
    match generators.iter().find(|(name, _)| name == RECORDS_READ) {
        Some((_, bytes)) => Ok(thalweg_state::codec::decode(bytes)?),
        None => Ok(0),
    }
}

/// The number of the first checkpoint of a run.
pub(crate) fn first_id(
    restored: Option<&Manifest>,
    store: Option<&dyn CheckpointStore>,
) -> CheckpointId {
    let after_restored = restored.map_or(CheckpointId(1), |manifest| manifest.id.next());
    store.map_or(after_restored, |store| store.next_id().max(after_restored))
}
