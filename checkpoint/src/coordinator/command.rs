//! What a coordinator is told at its start, and what it wants done.

use crate::{BarrierKind, CheckpointId, PendingManifest, SinkCommittables, SubtaskId};

/// What a coordinator needs to know at its start. Times are milliseconds.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// Time from the start of one checkpoint to the start of the next; none: only the last one.
    pub interval_ms: Option<i64>,
    /// A checkpoint that takes longer is aborted.
    pub timeout_ms: i64,
    /// When a checkpoint has taken this long, subtasks that have not answered are told to take
    /// their snapshots without waiting for barriers; none: never.
    pub unaligned_after_ms: Option<i64>,
    /// After this time without an answer a message is sent again; base of the pause after failures.
    pub resend_ms: i64,
    /// All subtasks; each has to acknowledge.
    pub subtasks: Vec<SubtaskId>,
    /// Those subtasks that start a checkpoint when told to; each reports when it is drained.
    pub sources: Vec<SubtaskId>,
    /// Number of the first checkpoint, at least 1 and greater than that of the restored one.
    pub first_id: CheckpointId,
    /// Committables of the restored manifest: committed first of all.
    pub pending_commits: Vec<SinkCommittables>,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All sources were drained; there is nothing left to do.
    Finished,
    /// It was stopped and can be resumed.
    Stopped,
}

/// What the coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Tell a source subtask to start the checkpoint; it ignores an id that is not greater than
    /// the last one it was told.
    Trigger {
        /// The source.
        subtask: SubtaskId,
        /// The checkpoint.
        id: CheckpointId,
        /// Its kind.
        kind: BarrierKind,
    },
    /// Tell a subtask to take its snapshot of this checkpoint at once and to record what its
    /// channels deliver up to their barriers ([`crate::Aligner::cut_early`]). It may be told
    /// twice, and too late.
    Hurry {
        /// The subtask.
        subtask: SubtaskId,
        /// The checkpoint, of kind [`BarrierKind::Checkpoint`].
        id: CheckpointId,
    },
    /// Tell all subtasks that this checkpoint, and every older one, is given up.
    Abort {
        /// The checkpoint.
        id: CheckpointId,
    },
    /// Write and publish the manifest, then answer with [`crate::Coordinator::handle_published`] or
    /// [`crate::Coordinator::handle_publish_failed`].
    Publish(PendingManifest),
    /// Tell all subtasks that this checkpoint is published ([`crate::Outstanding::completed`]).
    Completed {
        /// The checkpoint.
        id: CheckpointId,
    },
    /// Commit, then answer with [`crate::Coordinator::handle_committed`] or
    /// [`crate::Coordinator::handle_commit_failed`].
    Commit {
        /// The newest checkpoint whose committables are among them.
        upto: CheckpointId,
        /// All that is not acknowledged, one entry for each sink, oldest first.
        committables: Vec<SinkCommittables>,
    },
    /// Delete the parts of an aborted checkpoint. A store keeps them if it was published after all.
    Discard {
        /// The checkpoint.
        id: CheckpointId,
    },
    /// End all subtasks; the last command.
    Shutdown(Outcome),
}
