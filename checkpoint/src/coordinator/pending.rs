//! A checkpoint under way: which subtasks have acknowledged, and what they handed over.

use std::collections::BTreeMap;

use crate::snapshot::merge_committables;
use crate::{
    BarrierKind, CheckpointId, SinkCommittables, SubtaskId, SubtaskRecord, SubtaskSnapshot,
};

/// Everything a manifest needs that the subtasks and the coordinator know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingManifest {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Its kind.
    pub kind: BarrierKind,
    /// The snapshots of all subtasks, sorted by subtask, their committables taken out.
    pub subtasks: Vec<SubtaskRecord>,
    /// What has to be committed once this is published: of older checkpoints what is not
    /// acknowledged as committed, then of this one. One entry for each sink, sorted by name.
    pub committables: Vec<SinkCommittables>,
}

/// Collects acknowledgements.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: CheckpointId,
    pub(super) kind: BarrierKind,
    /// When it started, in milliseconds.
    pub(super) started: i64,
    /// When sources that have not answered are told again.
    pub(super) resend_at: i64,
    /// When subtasks that have not answered are told (again) to hurry; none: never.
    pub(super) hurry_at: Option<i64>,
    /// What each subtask handed over; none while it is missing.
    answers: BTreeMap<SubtaskId, Option<SubtaskSnapshot>>,
}

impl Pending {
    pub(super) fn new(id: CheckpointId, kind: BarrierKind, expected: &[SubtaskId]) -> Self {
        let answers = expected.iter().map(|subtask| (*subtask, None)).collect();
        Self { id, kind, started: 0, resend_at: 0, hurry_at: None, answers }
    }

    /// Takes an answer; the second of a subtask and those of unknown ones are ignored.
    pub(super) fn record(&mut self, subtask: SubtaskId, snapshot: SubtaskSnapshot) {
        if let Some(missing @ None) = self.answers.get_mut(&subtask) {
            *missing = Some(snapshot);
        }
    }

    /// Whether the subtask takes part and has not answered.
    pub(super) fn is_missing(&self, subtask: SubtaskId) -> bool {
        matches!(self.answers.get(&subtask), Some(None))
    }

    /// The subtasks that have not answered.
    pub(super) fn missing(&self) -> impl Iterator<Item = SubtaskId> {
        self.answers.iter().filter(|(_, answer)| answer.is_none()).map(|(subtask, _)| *subtask)
    }

    /// Whether every subtask has answered.
    pub(super) fn is_complete(&self) -> bool {
        self.answers.values().all(Option::is_some)
    }

    /// The first subtasks that have not answered, and how many there are, for messages.
    pub(super) fn missing_text(&self) -> String {
        let missing: Vec<_> = self.answers.iter().filter(|(_, answer)| answer.is_none()).collect();
        let first: Vec<_> =
            missing.iter().take(4).map(|(subtask, _)| subtask.to_string()).collect();
        format!(
            "{} of {} subtasks missing: {}",
            missing.len(),
            self.answers.len(),
            first.join(", ")
        )
    }

    /// The snapshots sorted by subtask, and their committables merged.
    pub(super) fn into_parts(self) -> (Vec<SubtaskRecord>, Vec<SinkCommittables>) {
        let mut committables = Vec::new();
        let mut subtasks = Vec::with_capacity(self.answers.len());
        for (subtask, answer) in self.answers {
            let Some(mut snapshot) = answer else { continue };
            merge_committables(&mut committables, std::mem::take(&mut snapshot.committables));
            subtasks.push(SubtaskRecord { subtask, snapshot });
        }
        (subtasks, committables)
    }
}
