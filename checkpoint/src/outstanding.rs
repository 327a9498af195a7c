//! A subtask's committables that are not known to be in a published manifest.
//!
//! *Place:* inside a subtask that has a sink. A checkpoint may be given up after the subtask has
//! acknowledged it, and the acknowledgement itself may be lost; what it carried must then be in the
//! next one. So every acknowledgement carries all that is outstanding, and only
//! [`crate::Command::Completed`] takes something off the list. If that message is lost, a
//! committable is in two manifests and is committed twice, which sinks must stand anyway.

use std::collections::VecDeque;

use crate::snapshot::merge_committables;
use crate::{CheckpointId, SinkCommittables};

/// The committables a subtask must still hand over.
#[derive(Clone, Debug, Default)]
pub struct Outstanding {
    /// What came since the last acknowledgement.
    fresh: Vec<SinkCommittables>,
    /// What was in an acknowledgement first, by its id, oldest first.
    handed_over: VecDeque<(CheckpointId, Vec<SinkCommittables>)>,
}

impl Outstanding {
    /// Nothing outstanding.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sink has pre-committed something.
    pub fn add(&mut self, sink: &str, committables: Vec<Vec<u8>>) {
        let sink = sink.to_owned();
        merge_committables(&mut self.fresh, vec![SinkCommittables { sink, committables }]);
    }

    /// All that the acknowledgement of this checkpoint has to carry.
    ///
    /// # Cost
    ///
    /// Copies the list: linear in what is outstanding, once per checkpoint.
    pub fn acknowledge(&mut self, id: CheckpointId) -> Vec<SinkCommittables> {
        let fresh = std::mem::take(&mut self.fresh);
        if !fresh.is_empty() {
            self.handed_over.push_back((id, fresh));
        }
        let mut all = Vec::new();
        for (_, committables) in &self.handed_over {
            merge_committables(&mut all, committables.clone());
        }
        all
    }

    /// The manifest of this checkpoint is published: what its acknowledgement carried is safe.
    pub fn completed(&mut self, id: CheckpointId) {
        while self.handed_over.front().is_some_and(|(first, _)| *first <= id) {
            self.handed_over.pop_front();
        }
    }

    /// Whether nothing is outstanding.
    pub fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.handed_over.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckpointId, Outstanding};

    fn flat(outstanding: &mut Outstanding, id: u64) -> Vec<u8> {
        let all = outstanding.acknowledge(CheckpointId(id));
        all.into_iter().flat_map(|part| part.committables).flatten().collect()
    }

    #[test]
    fn everything_is_repeated_until_a_checkpoint_completes() {
        let mut outstanding = Outstanding::new();
        outstanding.add("out", vec![vec![1]]);
        assert_eq!(flat(&mut outstanding, 5), [1]);
        outstanding.add("out", vec![vec![2]]);
        assert_eq!(flat(&mut outstanding, 6), [1, 2]);
        outstanding.add("out", vec![vec![3]]);
        // 6 carried 1 and 2; what came after its barrier stays.
        outstanding.completed(CheckpointId(6));
        assert_eq!(flat(&mut outstanding, 7), [3]);
        // An old message changes nothing.
        outstanding.completed(CheckpointId(6));
        assert_eq!(flat(&mut outstanding, 8), [3]);
        outstanding.completed(CheckpointId(8));
        assert!(outstanding.is_empty());
    }

    #[test]
    fn sinks_are_kept_apart_and_sorted() {
        let mut outstanding = Outstanding::new();
        outstanding.add("b", vec![vec![1]]);
        outstanding.add("a", vec![vec![2], vec![3]]);
        outstanding.add("c", Vec::new());
        let all = outstanding.acknowledge(CheckpointId(1));
        let names: Vec<_> = all.iter().map(|part| part.sink.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
