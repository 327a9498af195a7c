//! `Crew`: all that works on a job, and what of it goes on when a region of the job has failed.
//!
//! # Regions
//! Tasks that are connected by edges are a region ([`ExecutionPlan::region_of`]). Where a subtask
//! fails, its region is deployed anew from the newest checkpoint, as the whole job would be. The
//! subtasks of other regions know nothing of it: they stay as they are, with their state, their
//! channels and their prepared output.
//!
//! # Invariants
//! * I1: checkpoints are of the whole job: none is taken while a region is missing. The one under
//!   way is given up.
//! * I2: what is deployed anew starts from the newest checkpoint that is published. That is a
//!   consistent cut for it, since no record passes between regions.
//! * I3: a checkpoint that ends the job is not survived: subtasks may have stopped at its barrier.
//! * I4: what is published and perhaps not committed is committed by the next coordinator; that of
//!   a region that failed also by its committers, when they are opened again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use thalweg_checkpoint::{
    CheckpointId, Coordinator, CoordinatorConfig, OperatorRecord, SinkCommittables, SubtaskId,
};
use thalweg_state::KeyGroupCount;

use super::{Committers, Deployment};
use crate::error::{Error, Result};
use crate::graph::{ExecutionPlan, JobGraph};
use crate::progress::JobMetrics;
use crate::sink::Committer;
use crate::state_writer::StateWriter;
use crate::subtask::{Control, Subtask};

/// See the module's documentation.
pub(crate) struct Crew {
    pub(crate) hands: Hands,
    pub(crate) desk: Desk,
}

/// What of a crew threads may own.
pub(crate) struct Hands {
    pub(crate) subtasks: Vec<Subtask>,
    /// Writes their state.
    pub(crate) writer: StateWriter,
}

/// What of a crew is the coordinating driver's.
pub(crate) struct Desk {
    pub(crate) committers: Committers,
    pub(crate) metrics: JobMetrics,
    /// What manifests say of the operators.
    pub(crate) records: Vec<OperatorRecord>,
    /// The number of the next checkpoint.
    next_id: CheckpointId,
    /// What is published and perhaps not committed.
    pending_commits: Vec<SinkCommittables>,
    /// The tasks that are missing: whole regions.
    pub(crate) missing: BTreeSet<usize>,
}

/// When a coordinator does something. See [`CoordinatorConfig`].
#[derive(Clone, Copy)]
pub(crate) struct CheckpointTimes {
    pub(crate) interval_ms: Option<i64>,
    pub(crate) timeout_ms: i64,
    pub(crate) unaligned_after_ms: Option<i64>,
    pub(crate) resend_ms: i64,
}

impl Desk {
    /// The committer of a sink.
    pub(crate) fn committer(&mut self, sink: &str) -> Result<&mut Box<dyn Committer>> {
        self.committers
            .get_mut(sink)
            .ok_or_else(|| Error::bug(format!("there is no committer for the sink `{sink}`")))
    }
}

impl Crew {
    /// The crew of a job that has been deployed as a whole.
    pub(crate) fn new(
        deployment: Deployment,
        committers: Committers,
        records: Vec<OperatorRecord>,
        next_id: CheckpointId,
        (key_groups, work_directory): (KeyGroupCount, Option<PathBuf>),
    ) -> Self {
        let Deployment { subtasks, metrics, state, tables } = deployment;
        let writer = StateWriter::new(state, next_id, key_groups, work_directory);
        let records = tables.complete(records);
        // Opening the committers has committed what the restored manifest holds.
        let pending_commits = Vec::new();
        let missing = BTreeSet::new();
        let desk = Desk { committers, metrics, records, next_id, pending_commits, missing };
        Crew { hands: Hands { subtasks, writer }, desk }
    }

    /// A coordinator of the crew.
    pub(crate) fn coordinator(&self, times: CheckpointTimes, now: i64) -> Coordinator {
        let subtasks = &self.hands.subtasks;
        let sources = subtasks.iter().filter(|subtask| subtask.is_source());
        let config = CoordinatorConfig {
            subtasks: subtasks.iter().map(|subtask| subtask.id).collect(),
            sources: sources.map(|subtask| subtask.id).collect(),
            first_id: self.desk.next_id,
            pending_commits: self.desk.pending_commits.clone(),
            interval_ms: times.interval_ms,
            timeout_ms: times.timeout_ms,
            unaligned_after_ms: times.unaligned_after_ms,
            resend_ms: times.resend_ms,
        };
        let mut coordinator = Coordinator::new(config, now);
        // They have told another coordinator, and will not tell again.
        for subtask in subtasks.iter().filter(|subtask| subtask.is_drained()) {
            coordinator.handle_drained(now, subtask.id);
        }
        coordinator
    }

    /// Works under a coordinator no more, as when a subtask has failed: what that has not heard,
    /// and what was not carried out of what it said, is forgotten. False if nothing can go on.
    pub(crate) fn leave(&mut self, coordinator: &Coordinator) -> bool {
        if coordinator.is_ending() {
            return false;
        }
        self.desk.next_id = coordinator.next_id();
        self.desk.pending_commits = coordinator.pending_commits();
        if let Some((id, _)) = coordinator.in_flight() {
            let subtasks = &mut self.hands.subtasks;
            subtasks.iter_mut().for_each(|subtask| subtask.handle(Control::Abort { id }));
            self.hands.writer.abort(id);
        }
        true
    }

    /// Gives up the region of a subtask that has failed. False if nothing goes on.
    pub(crate) fn lose(
        &mut self,
        failed: SubtaskId,
        (graph, plan): (&JobGraph, &ExecutionPlan),
    ) -> bool {
        let region = plan.region_of(failed.task as usize);
        let is_gone = |id: SubtaskId| region.contains(&(id.task as usize));
        let Crew { hands, desk } = self;
        hands.subtasks.retain(|subtask| !is_gone(subtask.id));
        hands.writer.lose(is_gone);
        for node in plan.nodes_of(&region) {
            desk.committers.remove(&graph.info(node).name);
        }
        desk.missing.extend(region);
        !hands.subtasks.is_empty()
    }

    /// What goes on when these subtasks have failed; none if nothing does, or if a failure was no
    /// subtask's.
    pub(crate) fn without(
        mut self,
        failed: impl IntoIterator<Item = Option<SubtaskId>>,
        of: (&JobGraph, &ExecutionPlan),
    ) -> Option<Box<Self>> {
        let mut failed = failed.into_iter();
        let goes_on = failed.all(|failed| failed.is_some_and(|failed| self.lose(failed, of)));
        goes_on.then(|| Box::new(self))
    }

    /// Takes in what was missing.
    pub(crate) fn complete(&mut self, deployment: Deployment, committers: Committers) {
        let Deployment { subtasks, metrics, state, tables } = deployment;
        let Crew { hands, desk } = self;
        hands.subtasks.extend(subtasks);
        hands.subtasks.sort_by_key(|subtask| subtask.id);
        hands.writer.add_sources(state);
        desk.committers.extend(committers);
        desk.metrics.replace(metrics);
        desk.records = tables.complete(std::mem::take(&mut desk.records));
        desk.missing.clear();
    }
}
