//! Planted bugs: known mistakes that the test suite must find, to measure the suite itself.
//!
//! Without the feature `planted-bugs` the macro is the constant `false` and compiles to nothing.
//! With it, a test arms one bug on its own thread (the simulator runs on one thread).

/// A mistake that can be armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlantedBug {
    /// Channels go on being read after they delivered a barrier.
    NoAlignment,
    /// The merged watermark is the greatest of the inputs instead of the least.
    WatermarkMaximum,
    /// Sinks' output is committed before the manifest is published.
    CommitBeforeManifest,
    /// A split is restored one record early.
    OffsetOffByOne,
    /// The state of fired windows is kept.
    KeepFiredWindows,
    /// A restored subtask does not see the state of the last key group it owns.
    LoseKeyGroup,
    /// After a restart, prepared output of the restored checkpoint is not committed.
    ForgetPendingCommits,
    /// A watermark is sent ahead of the records that came before it.
    WatermarkOvertakes,
    /// Lateness is judged by the operator's watermark instead of the split's.
    LatenessAtOperator,
    /// A slice's accumulator does not remember the first window that accepted its records.
    SlicesForgetLateness,
    /// Records that were on their way are not taken after a restore.
    RestoreSkipsInFlight,
    /// Records on their way are written down without the marks of those behind their split.
    InFlightLosesMarks,
}

impl PlantedBug {
    /// All planted bugs.
    pub const ALL: [PlantedBug; 12] = [
        PlantedBug::NoAlignment,
        PlantedBug::WatermarkMaximum,
        PlantedBug::CommitBeforeManifest,
        PlantedBug::OffsetOffByOne,
        PlantedBug::KeepFiredWindows,
        PlantedBug::LoseKeyGroup,
        PlantedBug::ForgetPendingCommits,
        PlantedBug::WatermarkOvertakes,
        PlantedBug::LatenessAtOperator,
        PlantedBug::SlicesForgetLateness,
        PlantedBug::RestoreSkipsInFlight,
        PlantedBug::InFlightLosesMarks,
    ];
}

#[cfg(feature = "planted-bugs")]
mod armed {
    use super::PlantedBug;
    use std::cell::Cell;

    thread_local! {
        static ARMED: Cell<Option<PlantedBug>> = const { Cell::new(None) };
    }

    /// Arms one bug on this thread, or none.
    pub fn arm(bug: Option<PlantedBug>) {
        ARMED.set(bug);
    }

    /// True if the bug is armed on this thread.
    pub fn is_armed(bug: PlantedBug) -> bool {
        ARMED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use armed::{arm, is_armed};

/// True if the named bug is armed; the constant `false` in every ordinary build.
#[cfg(feature = "planted-bugs")]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_armed($crate::planted::PlantedBug::$bug)
    };
}

/// True if the named bug is armed; the constant `false` in every ordinary build.
#[cfg(not(feature = "planted-bugs"))]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub(crate) use planted;
