//! Decides when the next checkpoint starts and of which kind; pure, carries nothing out.

use crate::BarrierKind;

/// What the decision depends on. Times are milliseconds of processing time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// Time between the starts of two periodic checkpoints; none if there are no periodic ones.
    pub(super) interval_ms: Option<i64>,
    /// When the previous checkpoint started, or the job.
    pub(super) previous_start: i64,
    /// Not before this time, after a failure.
    pub(super) not_before: i64,
    /// The kind of checkpoint that ends the job, once it is to end.
    pub(super) last_kind: Option<BarrierKind>,
    /// Whether someone waits for a checkpoint that begins now.
    pub(super) is_requested: bool,
}

/// The checkpoint to start next while none is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// When; at once if that is past.
    pub(super) due: i64,
    /// Of which kind.
    pub(super) kind: BarrierKind,
}

/// The next checkpoint, if there is to be one. The interval counts from start to start; what was
/// missed is not made up for, so a slow checkpoint is followed by one other and never by a burst.
pub(super) fn next_checkpoint(situation: &Situation) -> Option<Next> {
    if let Some(kind) = situation.last_kind {
        return Some(Next { due: situation.not_before, kind });
    }
    if situation.is_requested {
        return Some(Next { due: situation.not_before, kind: BarrierKind::Checkpoint });
    }
    let periodic = situation.previous_start.saturating_add(situation.interval_ms?.max(1));
    Some(Next { due: periodic.max(situation.not_before), kind: BarrierKind::Checkpoint })
}

/// How long to wait after so many failures in a row: doubles up to 32 times the base.
pub(super) fn back_off(base_ms: i64, failures: u32) -> i64 {
    let doublings = failures.saturating_sub(1).min(5);
    base_ms.max(1).saturating_mul(1 << doublings)
}

#[cfg(test)]
mod tests {
    use super::{Next, Situation, back_off, next_checkpoint};
    use crate::BarrierKind;

    const RUNNING: Situation = Situation {
        interval_ms: Some(100),
        previous_start: 950,
        not_before: 0,
        last_kind: None,
        is_requested: false,
    };

    #[test]
    fn periodic_checkpoints_keep_their_distance() {
        let kind = BarrierKind::Checkpoint;
        assert_eq!(next_checkpoint(&RUNNING), Some(Next { due: 1_050, kind }));
        let failed = Situation { not_before: 1_060, ..RUNNING };
        assert_eq!(next_checkpoint(&failed), Some(Next { due: 1_060, kind }));
        let none = Situation { interval_ms: None, ..RUNNING };
        assert_eq!(next_checkpoint(&none), None);
    }

    #[test]
    fn a_checkpoint_that_is_asked_for_does_not_wait_for_the_interval() {
        let asked = Situation { is_requested: true, interval_ms: None, ..RUNNING };
        let kind = BarrierKind::Checkpoint;
        assert_eq!(next_checkpoint(&asked), Some(Next { due: 0, kind }));
        let stopping = Situation { last_kind: Some(BarrierKind::Stop), ..asked };
        assert_eq!(next_checkpoint(&stopping), Some(Next { due: 0, kind: BarrierKind::Stop }));
    }

    #[test]
    fn the_last_checkpoint_does_not_wait_for_the_interval() {
        for kind in [BarrierKind::Stop, BarrierKind::Final] {
            let ending = Situation { last_kind: Some(kind), interval_ms: None, ..RUNNING };
            assert_eq!(next_checkpoint(&ending), Some(Next { due: 0, kind }));
            let failed = Situation { not_before: 1_001, ..ending };
            assert_eq!(next_checkpoint(&failed), Some(Next { due: 1_001, kind }));
        }
    }

    #[test]
    fn back_off_doubles_and_stays_bounded() {
        let waits: Vec<_> = (0..9).map(|failures| back_off(10, failures)).collect();
        assert_eq!(waits, [10, 10, 20, 40, 80, 160, 320, 320, 320]);
        assert_eq!(back_off(i64::MAX, 4), i64::MAX);
    }
}
