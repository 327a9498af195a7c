//! What a subtask is told and what it asks of the world: two closed enums.

use thalweg_checkpoint::{BarrierKind, CheckpointId, SinkCommittables, SplitState};
use thalweg_state::SnapshotPart;

use crate::in_flight::InFlight;
use crate::sink::Committable;

/// A message of the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Control {
    /// To a source: start this checkpoint.
    Trigger { id: CheckpointId, kind: BarrierKind },
    /// Take the cut of this checkpoint without waiting for barriers.
    Hurry { id: CheckpointId },
    /// This checkpoint was given up.
    Abort { id: CheckpointId },
    /// This checkpoint was published; its committables are the coordinator's now.
    Completed { id: CheckpointId },
    /// No operator is suspected any more of failing at a record.
    Relax,
    /// The job has ended.
    Shutdown,
}

/// What a subtask asks of the world.
pub(crate) enum Effect {
    /// Make this snapshot durable, and acknowledge it to the coordinator.
    Capture(Box<Capture>),
    /// Tell the coordinator that the source has ended.
    Drained,
    /// Commit this output at once: nothing is checkpointed.
    Commit { sink: String, committables: Vec<Committable> },
}

/// The snapshot of one subtask, before its parts are durable.
pub(crate) struct Capture {
    pub(crate) id: CheckpointId,
    /// State by operator name, with the operator's watermark.
    pub(crate) operators: Vec<(String, SnapshotPart, i64)>,
    pub(crate) splits: Vec<SplitState>,
    pub(crate) committables: Vec<SinkCommittables>,
    pub(crate) counters: Vec<(String, u64)>,
    /// Records on their way, in the order in which they are to be taken.
    pub(crate) in_flight: Vec<InFlight>,
}
