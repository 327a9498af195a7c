//! Committables of published checkpoints whose commit is not acknowledged.
//!
//! *Invariants*
//! * C1: a committable enters when its manifest is published, or comes out of a restored one.
//! * C2: it leaves when a commit that covered it is acknowledged, and for no other reason.
//! * C3: one commit is asked for at a time; it covers everything there is at that time.

use crate::snapshot::merge_committables;
use crate::{CheckpointId, SinkCommittables};

use super::policy::back_off;

/// What waits for its commit, oldest checkpoint first.
#[derive(Debug)]
pub(super) struct Commits {
    resend_ms: i64,
    entries: Vec<(CheckpointId, Vec<SinkCommittables>)>,
    requested: Option<Request>,
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    upto: CheckpointId,
    /// When it is asked for again if no answer came.
    again_at: i64,
}

impl Commits {
    pub(super) fn new(resend_ms: i64) -> Self {
        Self { resend_ms, entries: Vec::new(), requested: None, failures: 0 }
    }

    /// The checkpoint is published.
    pub(super) fn add(&mut self, id: CheckpointId, committables: Vec<SinkCommittables>) {
        if committables.iter().any(|part| !part.committables.is_empty()) {
            self.entries.push((id, committables));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Everything there is, merged by sink, oldest first.
    pub(super) fn merged(&self) -> Vec<SinkCommittables> {
        let mut all = Vec::new();
        for (_, committables) in &self.entries {
            merge_committables(&mut all, committables.clone());
        }
        all
    }

    /// What to ask for now, if anything; it is asked for again after a while.
    pub(super) fn next_request(
        &mut self,
        now: i64,
    ) -> Option<(CheckpointId, Vec<SinkCommittables>)> {
        let upto = self.entries.last()?.0;
        if self.requested.is_some_and(|request| request.again_at > now) {
            return None;
        }
        let again_at = now.saturating_add(self.resend_ms.max(1));
        self.requested = Some(Request { upto, again_at });
        Some((upto, self.merged()))
    }

    /// A commit that covered all up to this checkpoint succeeded.
    pub(super) fn acknowledge(&mut self, upto: CheckpointId) {
        self.entries.retain(|(id, _)| *id > upto);
        if self.requested.is_some_and(|request| request.upto <= upto) {
            self.requested = None;
            self.failures = 0;
        }
    }

    /// The commit failed; it is tried again after a pause that grows.
    pub(super) fn fail(&mut self, now: i64, upto: CheckpointId) {
        if let Some(request) = self.requested.as_mut().filter(|request| request.upto == upto) {
            self.failures = self.failures.saturating_add(1);
            request.again_at = now.saturating_add(back_off(self.resend_ms, self.failures));
        }
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When [`Self::next_request`] may have something new.
    pub(super) fn deadline(&self) -> Option<i64> {
        self.requested.filter(|_| !self.entries.is_empty()).map(|request| request.again_at)
    }
}

#[cfg(test)]
mod tests {
    use super::Commits;
    use crate::{CheckpointId, SinkCommittables};

    fn one(byte: u8) -> Vec<SinkCommittables> {
        vec![SinkCommittables { sink: "out".into(), committables: vec![vec![byte]] }]
    }

    fn bytes(request: Option<(CheckpointId, Vec<SinkCommittables>)>) -> Option<(u64, Vec<u8>)> {
        let (upto, all) = request?;
        Some((upto.0, all.into_iter().flat_map(|part| part.committables).flatten().collect()))
    }

    #[test]
    fn a_commit_is_repeated_until_it_is_acknowledged() {
        let mut commits = Commits::new(10);
        commits.add(CheckpointId(5), one(5));
        assert_eq!(bytes(commits.next_request(0)), Some((5, vec![5])));
        assert_eq!(commits.next_request(9), None);
        assert_eq!(commits.deadline(), Some(10));
        assert_eq!(bytes(commits.next_request(10)), Some((5, vec![5])));
        // What is published meanwhile waits for the answer, and is not taken off by it.
        commits.add(CheckpointId(6), one(6));
        assert_eq!(commits.next_request(11), None);
        commits.acknowledge(CheckpointId(5));
        assert_eq!(bytes(commits.next_request(12)), Some((6, vec![6])));
        commits.acknowledge(CheckpointId(5));
        assert!(!commits.is_empty());
        commits.acknowledge(CheckpointId(6));
        assert!(commits.is_empty());
        assert_eq!(commits.deadline(), None);
    }

    #[test]
    fn failures_lengthen_the_pause() {
        let mut commits = Commits::new(10);
        commits.add(CheckpointId(1), one(1));
        let _ = commits.next_request(0);
        commits.fail(1, CheckpointId(1));
        assert_eq!(commits.deadline(), Some(11));
        let _ = commits.next_request(11);
        commits.fail(12, CheckpointId(1));
        assert_eq!((commits.deadline(), commits.failures()), (Some(32), 2));
        commits.acknowledge(CheckpointId(1));
        assert_eq!(commits.failures(), 0);
    }

    #[test]
    fn nothing_to_commit_asks_for_nothing() {
        let mut commits = Commits::new(10);
        commits.add(CheckpointId(1), Vec::new());
        assert_eq!(commits.next_request(0), None);
        assert!(commits.is_empty());
    }
}
