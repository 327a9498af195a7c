//! Chaining: cuts the logical graph into tasks.
//!
//! An operator joins the task of the operator before it if there is only one, the parallelism is
//! the same, and the edge is one-to-one: a forward edge, or any edge where both have one subtask.
//! A task is therefore a tree whose root, the head, is a source or is fed by channels.

use petgraph::algo::toposort;

use super::logical::{JobGraph, NodeId, Partition, Port};
use crate::error::{Error, Result};

/// A job cut into tasks.
#[derive(Debug)]
pub struct ExecutionPlan {
    /// The tasks, each after those it reads from.
    pub tasks: Vec<Task>,
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

impl ExecutionPlan {
    /// Cuts `graph` into tasks, with `parallelism` for operators that do not insist on one.
    ///
    /// # Errors
    /// `Bug` if the graph has a cycle.
    pub fn new(graph: &JobGraph, parallelism: usize) -> Result<Self> {
        let order =
            toposort(&graph.graph, None).map_err(|_| Error::bug("the job graph has a cycle"))?;
        let mut order: Vec<NodeId> = order.into_iter().map(NodeId).collect();
        // Declaration order is a topological order too, and the one the user knows.
        order.sort_by_key(|node| node.index());
        let wanted = |node| graph.info(node).parallelism.unwrap_or(parallelism);
        let mut plan = ExecutionPlan { tasks: Vec::new() };
        let mut place: Vec<(usize, usize)> = vec![(0, 0); order.len()];
        for &node in &order {
            let inputs = graph.inputs(node);
            let chained = match inputs[..] {
                [(from, edge)] => {
                    let (mine, theirs) = (wanted(node), wanted(from));
                    let is_one_to_one = edge.partition == Partition::Forward || mine == 1;
                    (mine == theirs && is_one_to_one).then_some((from, edge.port))
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
                    for (from, edge) in inputs {
                        let (from_task, from_node) = place[from.index()];
                        check_edge(graph, edge.partition, from, node, &wanted)?;
                        let input = plan.tasks[task].inputs.len();
                        plan.tasks[task].inputs.push(TaskInput {
                            task: from_task,
                            node: from_node,
                            port: edge.port,
                            partition: edge.partition,
                        });
                        plan.tasks[from_task].targets[from_node][edge.port as usize]
                            .push(Target::Task { task, input });
                    }
                    place[node.index()] = (task, 0);
                }
            }
        }
        Ok(plan)
    }

    fn join(&mut self, node: NodeId, task: usize, at: usize, port: Port) -> (usize, usize) {
        let position = self.tasks[task].nodes.len();
        let chain = &mut self.tasks[task];
        chain.nodes.push(node);
        chain.targets.push(Default::default());
        chain.targets[at][port as usize].push(Target::Node(position));
        (task, position)
    }

    /// The number of subtasks of all tasks.
    pub fn subtask_count(&self) -> usize {
        self.tasks.iter().map(|task| task.parallelism).sum()
    }
}
