//! The barrier: the control element that cuts a checkpoint through the running job.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of one attempt to take a checkpoint; later attempts have greater numbers.
///
/// A number is never used twice within one run: an attempt that was given up is followed by one
/// with a new number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CheckpointId(pub u64);

impl CheckpointId {
    /// The number of the attempt after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number before this one; the number before 0 is 0.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a checkpoint is taken, and what the job does after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BarrierKind {
    /// The job goes on after the barrier.
    Checkpoint,
    /// The job is being stopped: sources read nothing after the barrier.
    Stop,
    /// All sources are drained: nothing but control elements follows the barrier.
    Final,
}

impl BarrierKind {
    /// Whether the job ends once a checkpoint of this kind is published and committed.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Stop | Self::Final)
    }
}

impl fmt::Display for BarrierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checkpoint => "checkpoint",
            Self::Stop => "stop",
            Self::Final => "final",
        })
    }
}

/// How often a record may count in state after a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckpointMode {
    /// Once: a channel that has delivered a barrier waits for the others.
    #[default]
    ExactlyOnce,
    /// Once or twice: no channel waits. What came behind one channel's barrier before another
    /// channel's barrier did is in the snapshot, and is read again after a restore.
    AtLeastOnce,
}

/// A barrier on one channel: everything sent before it belongs to the checkpoint, nothing after.
///
/// It carries an id, a kind and a count, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// The checkpoint it cuts.
    pub id: CheckpointId,
    /// What the job does after it.
    pub kind: BarrierKind,
    /// Elements sent before it on its channel; the receiver checks its own count against it.
    pub sent: u64,
}
