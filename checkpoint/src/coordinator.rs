//! The coordinator of a job's checkpoints: starts them, collects, publishes, commits, ends the job.
//!
//! *Place:* one per running job. The driver calls `handle_*` when something has happened, then
//! takes commands with [`Coordinator::poll_command`] until there are none, and calls
//! [`Coordinator::handle_tick`] at [`Coordinator::next_deadline`] at the latest. Messages to and
//! from subtasks may be lost, doubled, late and out of order. Commands to the driver itself
//! (publish, commit, discard, shutdown) are carried out in order.
//!
//! *Phases:* idle, collecting acknowledgements, publishing, ending (the last manifest is
//! published, its commit is not acknowledged), ended.
//!
//! *Invariants*
//! * I1: one checkpoint at a time, each with a number greater than all before.
//! * I2: a manifest is published only if every subtask has acknowledged that checkpoint.
//! * I3: nothing is committed before its manifest is published ([`commits`]).
//! * I4: the job ends only when a last checkpoint is published and nothing waits for a commit.
//! * I5: a subtask is told to hurry with a checkpoint only while that is being collected, and with
//!   none that ends the job.
//! * I6: what an aborted checkpoint's acknowledgements carried is forgotten here; subtasks repeat
//!   their committables until they hear of a completed checkpoint ([`crate::Outstanding`]).
//!
//! *Absent:* files, threads, clocks; deciding when to start is [`policy`]'s.
//!
//! *Tests:* scenarios, and an explorer with lossy mailboxes over aligners and subtasks.

use std::collections::{BTreeSet, VecDeque};

use crate::{BarrierKind, CheckpointId, SinkCommittables, SubtaskAck, SubtaskId};

mod command;
mod commits;
mod pending;
mod policy;

#[cfg(test)]
mod explorer;
#[cfg(test)]
mod tests;

pub use command::{Command, CoordinatorConfig, Outcome};
pub use pending::PendingManifest;

use commits::Commits;
use pending::Pending;
use policy::Situation;

#[derive(Debug)]
enum Phase {
    Idle,
    Collecting(Pending),
    Publishing(Publishing),
    Ending(Outcome),
    Ended,
}

#[derive(Debug)]
struct Publishing {
    id: CheckpointId,
    kind: BarrierKind,
    started: i64,
    /// When the publication is given up.
    until: i64,
    /// What enters the commits when it succeeds.
    committables: Vec<SinkCommittables>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Coordinator {
    config: CoordinatorConfig,
    phase: Phase,
    commands: VecDeque<Command>,
    commits: Commits,
    drained: BTreeSet<SubtaskId>,
    /// The kind of checkpoint that ends the job; once set it stays.
    last_kind: Option<BarrierKind>,
    /// A checkpoint of this number or a greater one is to be published soon.
    requested: Option<CheckpointId>,
    next_id: CheckpointId,
    previous_start: i64,
    not_before: i64,
    completed: u64,
    aborted: u64,
    consecutive_failures: u32,
    last_completed: Option<(CheckpointId, i64)>,
    last_failure: Option<String>,
}

impl Coordinator {
    /// A coordinator of a job that starts now. Restored committables are committed at once.
    pub fn new(config: CoordinatorConfig, now: i64) -> Self {
        // The number before the first one stands for the restored manifest.
        let first_id = config.first_id.max(CheckpointId(1));
        let mut commits = Commits::new(config.resend_ms);
        commits.add(first_id.previous(), config.pending_commits.clone());
        let mut coordinator = Self {
            next_id: first_id,
            config,
            phase: Phase::Idle,
            commands: VecDeque::new(),
            commits,
            drained: BTreeSet::new(),
            last_kind: None,
            requested: None,
            previous_start: now,
            not_before: now,
            completed: 0,
            aborted: 0,
            consecutive_failures: 0,
            last_completed: None,
            last_failure: None,
        };
        coordinator.advance(now);
        coordinator
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: i64) {
        self.advance(now);
    }

    /// A subtask's snapshot is durable.
    pub fn handle_ack(&mut self, now: i64, ack: SubtaskAck) {
        if let Phase::Collecting(pending) = &mut self.phase
            && pending.id == ack.id
        {
            pending.record(ack.subtask, ack.payload);
        }
        self.advance(now);
    }

    /// A subtask cannot take its snapshot.
    pub fn handle_decline(&mut self, now: i64, subtask: SubtaskId, id: CheckpointId, reason: &str) {
        if matches!(&self.phase, Phase::Collecting(pending) if pending.id == id) {
            self.abort(now, format!("subtask {subtask} declined: {reason}"));
        }
        self.advance(now);
    }

    /// A source has read all it will ever read and has sent the last watermark.
    pub fn handle_drained(&mut self, now: i64, subtask: SubtaskId) {
        if self.config.sources.contains(&subtask) {
            self.drained.insert(subtask);
        }
        self.advance(now);
    }

    /// The user wants the job to stop.
    pub fn handle_stop_request(&mut self, now: i64) {
        self.last_kind.get_or_insert(BarrierKind::Stop);
        self.advance(now);
    }

    /// Someone wants a checkpoint that begins now: the first one whose number is at least the one
    /// returned. Without periodic checkpoints there is one all the same. No subtask is told to
    /// hurry with it.
    pub fn handle_checkpoint_request(&mut self, now: i64) -> CheckpointId {
        let id = self.next_id;
        self.requested = Some(id);
        self.advance(now);
        id
    }

    /// The manifest is published and durable.
    pub fn handle_published(&mut self, now: i64, id: CheckpointId) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Publishing(publishing) if publishing.id == id => self.complete(now, publishing),
            other => other,
        };
        self.advance(now);
    }

    /// The manifest could not be published, or it is not known whether it was.
    pub fn handle_publish_failed(&mut self, now: i64, id: CheckpointId, reason: &str) {
        if matches!(&self.phase, Phase::Publishing(publishing) if publishing.id == id) {
            self.abort(now, format!("publishing failed: {reason}"));
        }
        self.advance(now);
    }

    /// Everything up to this checkpoint is committed.
    pub fn handle_committed(&mut self, now: i64, upto: CheckpointId) {
        self.commits.acknowledge(upto);
        self.advance(now);
    }

    /// A commit did not succeed; it will be asked for again.
    pub fn handle_commit_failed(&mut self, now: i64, upto: CheckpointId, reason: &str) {
        tracing::warn!(checkpoint = upto.0, reason, "commit failed, will be repeated");
        self.commits.fail(now, upto);
        self.advance(now);
    }

    /// The next thing to do, in order; none when there is nothing to do now.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Self::handle_tick`] must be called at the latest.
    pub fn next_deadline(&self) -> Option<i64> {
        let phase = match &self.phase {
            Phase::Idle => policy::next_checkpoint(&self.situation()).map(|next| next.due),
            Phase::Collecting(pending) => {
                let hurry_at = pending.hurry_at.unwrap_or(i64::MAX);
                Some(pending.resend_at.min(self.timeout_of(pending)).min(hurry_at))
            }
            Phase::Publishing(publishing) => Some(publishing.until),
            Phase::Ending(_) => None,
            Phase::Ended => return None,
        };
        phase.into_iter().chain(self.commits.deadline()).min()
    }

    /// All subtasks of the job: those that [`Command::Abort`] and [`Command::Completed`] are for.
    pub fn subtasks(&self) -> &[SubtaskId] {
        &self.config.subtasks
    }

    /// How many checkpoints were published.
    pub fn completed(&self) -> u64 {
        self.completed
    }

    /// How many checkpoints were given up.
    pub fn aborted(&self) -> u64 {
        self.aborted
    }

    /// The newest published checkpoint of this run, and how long it took in milliseconds.
    pub fn last_completed(&self) -> Option<(CheckpointId, i64)> {
        self.last_completed
    }

    /// Checkpoints given up since the last published one.
    pub fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures
    }

    /// Whether something that was published is not known to be committed.
    pub fn has_pending_commits(&self) -> bool {
        !self.commits.is_empty()
    }

    /// What is published and not known to be committed.
    pub fn pending_commits(&self) -> Vec<SinkCommittables> {
        self.commits.merged()
    }

    /// The number of the next checkpoint.
    pub fn next_id(&self) -> CheckpointId {
        self.next_id
    }

    /// Whether the next checkpoint is to end the job, or the last one has.
    pub fn is_ending(&self) -> bool {
        self.last_kind.is_some()
    }

    /// Commits that failed since the last one that succeeded.
    pub fn consecutive_commit_failures(&self) -> u32 {
        self.commits.failures()
    }

    /// Why the last checkpoint that was given up was given up.
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// The checkpoint under way.
    pub fn in_flight(&self) -> Option<(CheckpointId, BarrierKind)> {
        match &self.phase {
            Phase::Collecting(pending) => Some((pending.id, pending.kind)),
            Phase::Publishing(publishing) => Some((publishing.id, publishing.kind)),
            Phase::Idle | Phase::Ending(_) | Phase::Ended => None,
        }
    }

    /// Does everything that can be done now, after any input.
    fn advance(&mut self, now: i64) {
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        // 1. The end of all input orders the last checkpoint, unless a stop came first.
        if self.config.sources.iter().all(|source| self.drained.contains(source)) {
            self.last_kind.get_or_insert(BarrierKind::Final);
        }
        // 2. What is under way becomes complete, or late.
        self.advance_in_flight(now);
        // 3. The next one starts when nothing is under way.
        if matches!(self.phase, Phase::Idle)
            && let Some(next) = policy::next_checkpoint(&self.situation())
            && next.due <= now
        {
            self.start(now, next.kind);
        }
        // 4. What is published is committed.
        if let Some((upto, committables)) = self.commits.next_request(now) {
            self.commands.push_back(Command::Commit { upto, committables });
        }
        // 5. The job ends when the last checkpoint is published and committed.
        if let Phase::Ending(outcome) = self.phase
            && self.commits.is_empty()
        {
            self.phase = Phase::Ended;
            self.commands.push_back(Command::Shutdown(outcome));
        }
    }

    fn advance_in_flight(&mut self, now: i64) {
        match &mut self.phase {
            Phase::Collecting(pending) if pending.is_complete() => self.publish(now),
            Phase::Collecting(pending)
                if now >= pending.started.saturating_add(self.config.timeout_ms) =>
            {
                let missing = pending.missing_text();
                self.abort(now, format!("timed out, {missing}"));
            }
            Phase::Collecting(pending) if now >= pending.resend_at => {
                pending.resend_at = now.saturating_add(self.config.resend_ms.max(1));
                let late = self.config.sources.iter().filter(|source| pending.is_missing(**source));
                let (id, kind) = (pending.id, pending.kind);
                self.commands.extend(late.map(|&subtask| Command::Trigger { subtask, id, kind }));
            }
            Phase::Collecting(pending) if pending.hurry_at.is_some_and(|at| at <= now) => {
                pending.hurry_at = Some(now.saturating_add(self.config.resend_ms.max(1)));
                let id = pending.id;
                tracing::debug!(checkpoint = id.0, "barriers are not waited for any more");
                let late = pending.missing();
                self.commands.extend(late.map(|subtask| Command::Hurry { subtask, id }));
            }
            Phase::Publishing(publishing) if now >= publishing.until => {
                self.abort(now, "timed out while publishing".to_owned());
            }
            _ => {}
        }
    }

    fn start(&mut self, now: i64, kind: BarrierKind) {
        let id = self.next_id;
        self.next_id = id.next();
        self.previous_start = now;
        let mut pending = Pending::new(id, kind, &self.config.subtasks);
        pending.started = now;
        // Due at once: the first sending is the first "again".
        pending.resend_at = now;
        // A last checkpoint has time: nothing follows it that it could hold up.
        // One that is asked for is to hold no records on their way: it may be for other programs.
        let may_hurry = !kind.is_last() && self.requested.is_none();
        let unaligned_after = self.config.unaligned_after_ms.filter(|_| may_hurry);
        pending.hurry_at = unaligned_after.map(|after| now.saturating_add(after));
        self.phase = Phase::Collecting(pending);
        tracing::debug!(checkpoint = id.0, %kind, "checkpoint started");
        self.advance_in_flight(now);
    }

    fn publish(&mut self, now: i64) {
        let Phase::Collecting(pending) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let (id, kind, started) = (pending.id, pending.kind, pending.started);
        let (subtasks, fresh) = pending.into_parts();
        let mut committables = self.commits.merged();
        crate::snapshot::merge_committables(&mut committables, fresh.clone());
        let until = now.saturating_add(self.config.timeout_ms);
        self.phase =
            Phase::Publishing(Publishing { id, kind, started, until, committables: fresh });
        self.commands.push_back(Command::Publish(PendingManifest {
            id,
            kind,
            subtasks,
            committables,
        }));
    }

    fn complete(&mut self, now: i64, publishing: Publishing) -> Phase {
        let Publishing { id, kind, started, committables, .. } = publishing;
        let duration = now.saturating_sub(started);
        self.completed += 1;
        self.requested = self.requested.filter(|requested| *requested > id);
        self.consecutive_failures = 0;
        self.last_completed = Some((id, duration));
        tracing::debug!(checkpoint = id.0, %kind, duration_ms = duration, "checkpoint completed");
        self.commits.add(id, committables);
        self.commands.push_back(Command::Completed { id });
        match kind {
            BarrierKind::Checkpoint => Phase::Idle,
            BarrierKind::Stop => Phase::Ending(Outcome::Stopped),
            BarrierKind::Final => Phase::Ending(Outcome::Finished),
        }
    }

    fn abort(&mut self, now: i64, reason: String) {
        let Some((id, _)) = self.in_flight() else {
            return;
        };
        self.phase = Phase::Idle;
        self.aborted += 1;
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        let pause = policy::back_off(self.config.resend_ms, self.consecutive_failures);
        self.not_before = now.saturating_add(pause);
        tracing::warn!(checkpoint = id.0, reason, "checkpoint aborted");
        self.last_failure = Some(format!("checkpoint {id}: {reason}"));
        self.commands.push_back(Command::Abort { id });
        self.commands.push_back(Command::Discard { id });
    }

    fn timeout_of(&self, pending: &Pending) -> i64 {
        pending.started.saturating_add(self.config.timeout_ms)
    }

    fn situation(&self) -> Situation {
        Situation {
            interval_ms: self.config.interval_ms,
            previous_start: self.previous_start,
            not_before: self.not_before,
            last_kind: self.last_kind,
            is_requested: self.requested.is_some(),
        }
    }
}
