//! Chaining: cuts the logical graph into tasks.
//!
//! An operator joins the task of the operator before it if there is only one, the parallelism is
//! the same, and the edge is one-to-one: a forward edge, or any edge where both have one subtask.
//! A task is therefore a tree whose root, the head, is a source or is fed by channels.
//!
//! An operator that only prepares records for an exchange (a combiner) is left out where there is
//! none, and so is one whose records may come from a split that had been idle: the operator behind
//! it then takes the records as they are.

use std::collections::BTreeSet;

use petgraph::algo::toposort;
use petgraph::unionfind::UnionFind;
use thalweg_checkpoint::Manifest;

use super::logical::{Edge, JobGraph, NodeId, Partition, Port};
use crate::error::{Error, Result};

/// A job cut into tasks.
#[derive(Debug)]
pub struct ExecutionPlan {
    /// The tasks, each after those it reads from.
    pub tasks: Vec<Task>,
    /// Combiners that are left out.
    left_out: Vec<NodeId>,
}

/// Operators that run as one: a tree, head first, parents before children.
#[derive(Debug)]
pub struct Task {
    /// The operators.
    pub nodes: Vec<NodeId>,
    /// The number of subtasks.
    pub parallelism: usize,
    /// What feeds the head, if it is not a source.
    pub inputs: Vec<TaskInput>,
    /// Per node of `nodes` and port, where its records go.
    pub targets: Vec<[Vec<Target>; 2]>,
}

/// An edge into a task.
#[derive(Clone, Copy, Debug)]
pub struct TaskInput {
    /// The task that sends.
    pub task: usize,
    /// The position of the sending operator in that task.
    pub node: usize,
    /// The output port of that operator.
    pub port: Port,
    /// How records are distributed.
    pub partition: Partition,
}

/// Where the records of an output port go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// To an operator of the same task, by its position.
    Node(usize),
    /// To another task.
    Task {
        /// The task.
        task: usize,
        /// Which of its inputs this is.
        input: usize,
    },
}

/// Refuses edges that would leave a subtask without a channel.
fn check_edge(
    graph: &JobGraph,
    partition: Partition,
    from: NodeId,
    to: NodeId,
    wanted: &dyn Fn(NodeId) -> usize,
) -> Result<()> {
    let is_whole = match partition {
        Partition::Global => wanted(to) == 1,
        Partition::Forward => wanted(from) == wanted(to),
        _ => true,
    };
    if is_whole {
        return Ok(());
    }
    Err(Error::config(format!(
        "a {partition} edge leads from {} with parallelism {} to {} with parallelism {}",
        graph.info(from).whereabouts(),
        wanted(from),
        graph.info(to).whereabouts(),
        wanted(to)
    )))
}

/// Whether a checkpoint's plan had left a combiner out, as far as records on their way tell.
fn was_left_out(graph: &JobGraph, combiner: NodeId, restored: Option<&Manifest>) -> Option<bool> {
    let (behind, _) = *graph.outputs(combiner).first()?;
    let subtasks = restored?.subtasks.iter();
    let mut parts = subtasks.flat_map(|record| &record.snapshot.in_flight);
    let part = parts.find(|part| part.to == graph.info(behind).name)?;
    Some(part.from != graph.info(combiner).name)
}

impl ExecutionPlan {
    /// Cuts `graph` into tasks, with `parallelism` for operators that do not insist on one.
    ///
    /// # Errors
    /// `Bug` if the graph has a cycle.
    pub fn new(graph: &JobGraph, parallelism: usize) -> Result<Self> {
        Self::resuming(graph, parallelism, None)
    }

    /// As [`new`](Self::new), for a job that goes on from a checkpoint: where that has records on
    /// their way to or from a combiner, the combiner is left out if it was then, and only then.
    ///
    /// # Errors
    /// `Bug` if the graph has a cycle.
    pub fn resuming(
        graph: &JobGraph,
        parallelism: usize,
        restored: Option<&Manifest>,
    ) -> Result<Self> {
        let order =
            toposort(&graph.graph, None).map_err(|_| Error::bug("the job graph has a cycle"))?;
        let mut order: Vec<NodeId> = order.into_iter().map(NodeId).collect();
        // Declaration order is a topological order too, and the one the user knows.
        order.sort_by_key(|node| node.index());
        let wanted = |node| graph.info(node).parallelism.unwrap_or(parallelism);
        let is_left_out = |node: &NodeId| {
            let is_useless = || wanted(*node) == 1 || graph.may_be_idle(*node);
            graph.info(*node).prepares_exchange
                && was_left_out(graph, *node, restored).unwrap_or_else(is_useless)
        };
        let left_out = graph.nodes().filter(is_left_out).collect();
        let mut plan = ExecutionPlan { tasks: Vec::new(), left_out };
        let mut place: Vec<(usize, usize)> = vec![(0, 0); order.len()];
        for &node in order.iter().filter(|node| !is_left_out(node)) {
            let mut inputs = plan.inputs(graph, node);
            if inputs.len() > 1 {
                // The streams of a union need not have the same parallelism.
                for (from, _, partition) in &mut inputs {
                    if *partition == Partition::Forward && wanted(*from) != wanted(node) {
                        *partition = Partition::Rebalance;
                    }
                }
            }
            let chained = match inputs[..] {
                [(from, port, partition)] => {
                    let (mine, theirs) = (wanted(node), wanted(from));
                    let is_one_to_one = partition == Partition::Forward || mine == 1;
                    (mine == theirs && is_one_to_one).then_some((from, port))
                }
                _ => None,
            };
            match chained {
                Some((from, port)) => {
                    let (task, at) = place[from.index()];
                    place[node.index()] = plan.join(node, task, at, port);
                }
                None => {
                    let task = plan.tasks.len();
                    plan.tasks.push(Task {
                        nodes: vec![node],
                        parallelism: wanted(node),
                        inputs: Vec::new(),
                        targets: vec![Default::default()],
                    });
                    for (from, port, partition) in inputs {
                        let (from_task, from_node) = place[from.index()];
                        check_edge(graph, partition, from, node, &wanted)?;
                        let input = plan.tasks[task].inputs.len();
                        plan.tasks[task].inputs.push(TaskInput {
                            task: from_task,
                            node: from_node,
                            port,
                            partition,
                        });
                        plan.tasks[from_task].targets[from_node][port as usize]
                            .push(Target::Task { task, input });
                    }
                    place[node.index()] = (task, 0);
                }
            }
        }
        Ok(plan)
    }

    /// The edges into a node, past combiners that are left out.
    pub(crate) fn inputs(&self, graph: &JobGraph, node: NodeId) -> Vec<(NodeId, Port, Partition)> {
        let edges = graph.inputs(node).into_iter();
        let past = |(from, edge): (NodeId, &Edge)| match graph.inputs(from)[..] {
            [(before, into)] if self.left_out.contains(&from) => {
                (before, into.port, edge.partition)
            }
            _ => (from, edge.port, edge.partition),
        };
        edges.map(past).collect()
    }

    /// True if the records of `node` come from a combiner.
    pub(crate) fn is_combined(&self, graph: &JobGraph, node: NodeId) -> bool {
        let is_combiner =
            |from: NodeId| graph.info(from).prepares_exchange && !self.left_out.contains(&from);
        graph.inputs(node).into_iter().any(|(from, _)| is_combiner(from))
    }

    fn join(&mut self, node: NodeId, task: usize, at: usize, port: Port) -> (usize, usize) {
        let position = self.tasks[task].nodes.len();
        let chain = &mut self.tasks[task];
        chain.nodes.push(node);
        chain.targets.push(Default::default());
        chain.targets[at][port as usize].push(Target::Node(position));
        (task, position)
    }

    /// The region of each task, numbered from 0: tasks that edges connect, by whatever way, are in
    /// one, and no record passes between two.
    pub(crate) fn regions(&self) -> Vec<usize> {
        let mut connected = UnionFind::<usize>::new(self.tasks.len());
        for (to, task) in self.tasks.iter().enumerate() {
            for input in &task.inputs {
                connected.union(to, input.task);
            }
        }
        let mut names = Vec::new();
        let mut number = |name: usize| {
            names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            })
        };
        connected.into_labeling().into_iter().map(&mut number).collect()
    }

    /// The tasks of a task's region.
    pub(crate) fn region_of(&self, task: usize) -> BTreeSet<usize> {
        let regions = self.regions();
        (0..regions.len()).filter(|other| regions[*other] == regions[task]).collect()
    }

    /// The operators of some tasks.
    pub(crate) fn nodes_of(&self, tasks: &BTreeSet<usize>) -> BTreeSet<NodeId> {
        tasks.iter().flat_map(|task| self.tasks[*task].nodes.iter().copied()).collect()
    }

    /// Whether another plan has the same tasks under the same numbers.
    pub(crate) fn has_tasks_of(&self, other: &ExecutionPlan) -> bool {
        let is_same = |(a, b): (&Task, &Task)| a.nodes == b.nodes && a.parallelism == b.parallelism;
        self.tasks.len() == other.tasks.len() && self.tasks.iter().zip(&other.tasks).all(is_same)
    }

    /// The number of subtasks of all tasks.
    pub fn subtask_count(&self) -> usize {
        self.tasks.iter().map(|task| task.parallelism).sum()
    }
}
