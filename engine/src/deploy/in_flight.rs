//! Restores records that were on their way when a checkpoint was taken (`in_flight.rs`).

use std::sync::Arc;

use thalweg_checkpoint::{CheckpointId, InFlightPart, Manifest, SubtaskId};
use thalweg_state::{Fit, Schema};

use super::Builder;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{ExecutionPlan, JobGraph, NodeId, Partition};
use crate::in_flight::{Edge, Owned};
use crate::subtask::Restored;
use crate::upgrade::schema_of_json;

/// An edge that a checkpoint has records of, in the graph of this run.
struct Found {
    edge: Arc<Edge>,
    partition: Partition,
}

/// All recorded edges of a checkpoint, in the order of the subtasks that recorded them.
pub(crate) fn parts(manifest: &Manifest) -> impl Iterator<Item = (SubtaskId, &InFlightPart)> {
    let records = manifest.subtasks.iter();
    records.flat_map(|record| record.snapshot.in_flight.iter().map(|part| (record.subtask, part)))
}

/// The plan of a job that goes on from a checkpoint, if there is one, with every edge that the
/// checkpoint has records of.
///
/// # Errors
/// `Incompatible` if the job does not have such an edge, or its records do not become what they are
/// now, naming it and what to do; as [`ExecutionPlan::new`].
pub(crate) fn plan(
    graph: &JobGraph,
    parallelism: usize,
    restored: Option<&Manifest>,
) -> Result<ExecutionPlan> {
    let plan = ExecutionPlan::resuming(graph, parallelism, restored)?;
    if let Some(manifest) = restored {
        for (_, part) in parts(manifest) {
            let Found { edge, .. } = find(graph, &plan, part, manifest.id)?;
            let migrations = graph.upgrades.migrations_of(&part.to);
            let fit = recorded(part)?.map(|schema| edge.codec.record().fit(&schema, &migrations));
            if let Some(Fit::Refused { reason }) = fit {
                let what = format!("of a type that is no longer theirs ({reason})");
                return Err(incompatible(manifest.id, part, &what));
            }
        }
    }
    Ok(plan)
}

fn find(
    graph: &JobGraph,
    plan: &ExecutionPlan,
    part: &InFlightPart,
    id: CheckpointId,
) -> Result<Found> {
    let to = graph.nodes().find(|node| graph.info(*node).name == part.to);
    let is_from = |node: NodeId, port: u8| graph.info(node).name == part.from && port == part.port;
    let inputs = to.map(|to| plan.inputs(graph, to)).unwrap_or_default();
    let found = inputs.into_iter().find(|(from, port, _)| is_from(*from, *port as u8));
    let found = found.and_then(|(from, port, partition)| {
        let edge = graph.edge(from, port, to?)?;
        Some(Found { edge: Arc::new(edge), partition })
    });
    found.ok_or_else(|| incompatible(id, part, "an edge that this job does not have"))
}

fn incompatible(id: CheckpointId, part: &InFlightPart, what: &str) -> Error {
    Error::new(
        ErrorKind::Incompatible,
        format!(
            "checkpoint {id} has records on their way from `{}` to `{}`, {what}: resume the former \
             job, stop it in order, and resume this one from its last checkpoint",
            part.from, part.to
        ),
    )
}

/// What records were written under, if that is known.
fn recorded(part: &InFlightPart) -> Result<Option<Schema>> {
    part.record.as_ref().map(|json| schema_of_json(json, &part.from)).transpose()
}

impl Builder<'_, '_> {
    /// The restored records that this subtask takes before anything else.
    pub(super) fn restored_in_flight(&self, first: usize) -> Result<Vec<Restored>> {
        let context = self.context;
        let (Some(manifest), Some(store)) = (context.restored, context.store) else {
            return Ok(Vec::new());
        };
        let task = &context.plan.tasks[self.task];
        let mut restored = Vec::new();
        // Those that are further down the chain had been given out before.
        for (n, node) in task.nodes.iter().enumerate().skip(first).rev() {
            let name = &context.graph.info(*node).name;
            let migrations = context.graph.upgrades.migrations_of(name);
            for (subtask, part) in parts(manifest).filter(|(_, part)| part.to == *name) {
                let Found { edge, partition } =
                    find(context.graph, context.plan, part, manifest.id)?;
                let owned = match partition {
                    Partition::Hash => Some(self.owned()),
                    _ if subtask.index as usize % task.parallelism == self.index => None,
                    _ => continue,
                };
                let bytes = store.read_part(&part.file)?;
                let (recorded, migrations) = (recorded(part)?, &migrations);
                let plan = recorded.as_ref().and_then(|r| edge.codec.record().plan(r, migrations));
                for batch in edge.codec.decode(&bytes, owned, plan.as_ref())? {
                    restored.push(Restored { node: n - first, edge: edge.clone(), batch });
                }
            }
        }
        Ok(restored)
    }

    fn owned(&self) -> Owned {
        (self.key_group_range(), self.context.key_groups)
    }
}
