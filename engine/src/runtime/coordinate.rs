//! The coordinating thread: carries out what the checkpoint coordinator commands.

use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use thalweg_checkpoint::{
    CheckpointId, CheckpointMode, Command, Coordinator, Manifest, Outcome, PendingManifest,
    SinkCommittables, SubtaskAck, SubtaskId,
};

use super::attempts::History;
use super::clock::{Clock, wall_clock_millis};
use super::savepoints::Savepoints;
use super::threads::Threads;
use super::{Observer, SharedStore, StopSignal, lock};
use crate::deploy::{CheckpointTimes, Crew, Desk, Hands};
use crate::error::{Error, Result};
use crate::graph::{ExecutionPlan, JobGraph};
use crate::options::JobConfig;
use crate::park::Parker;
use crate::poison::{PoisonWatch, SplitRead};
use crate::progress::{JobMetrics, Progress, RunOutcome, RunReport};
use crate::sink::Committable;
use crate::subtask::Control;

/// How often progress is shown and the stop signal is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// How often a commit that the outside world refuses is tried before the job fails.
const COMMIT_ATTEMPTS: u32 = 10;

/// What workers and the writer tell the coordinating thread.
pub(crate) enum Report {
    /// A capture is durable.
    Ack(SubtaskAck),
    /// A source has ended.
    Drained(SubtaskId),
    /// Output that may be committed at once.
    Commit { sink: String, committables: Vec<Committable> },
    /// The run cannot go on, because of a subtask if one is named.
    Failed(Error, Option<SubtaskId>),
    /// How far the splits of a worker that has ended were read.
    Read(Vec<SplitRead>),
}

/// A run before its threads exist.
pub(crate) struct Run<'a> {
    pub(crate) job: &'a str,
    pub(crate) config: &'a JobConfig,
    pub(crate) graph: &'a JobGraph,
    pub(crate) plan: &'a ExecutionPlan,
    pub(crate) store: Option<SharedStore>,
    pub(crate) history: &'a mut History,
    pub(crate) watch: &'a mut PoisonWatch,
    /// The savepoint from which the checkpoints of the directory come.
    pub(crate) savepoint: Option<String>,
    pub(crate) savepoints: &'a mut Savepoints,
    pub(crate) clock: Clock,
    pub(crate) stop: &'a StopSignal,
    /// The subtask that has failed.
    pub(crate) failed: Option<SubtaskId>,
}

/// Why an attempt has failed, and what of it can go on.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) survivors: Option<Box<Crew>>,
}

impl Run<'_> {
    /// Starts the threads, coordinates until the end, and joins them.
    pub(crate) fn execute(
        mut self,
        crew: Crew,
        parkers: &[Parker],
        observer: Observer<'_>,
    ) -> std::result::Result<RunReport, Failure> {
        self.history.read.clear();
        let now = self.clock.now().millis();
        let mut coordinator = crew.coordinator(self.times(), now);
        if self.savepoints.is_waiting() {
            self.savepoints.wait_anew(coordinator.handle_checkpoint_request(now));
        }
        let Crew { hands: Hands { subtasks, writer }, mut desk } = crew;
        let threads = Threads::spawn(subtasks, writer, parkers, (self.store.as_ref(), self.clock))
            .map_err(|error| Failure { error, survivors: None })?;
        let ended = self.coordinate(&mut coordinator, &threads, &mut desk, observer);
        if ended.is_err() {
            threads.cancel();
        }
        self.history.progress = self.progress(&desk.metrics, &coordinator);
        let (hands, failed) = threads.join(&mut self.history.read);
        let error = match ended {
            Ok(outcome) => return Ok(self.history.report(self.clock.elapsed(), outcome)),
            Err(error) => error,
        };
        let first = self.failed.take();
        let failed = std::iter::once(first).chain(failed.into_iter().map(|(_, failed)| failed));
        let survivors = hands.map(|hands| Crew { hands, desk }).and_then(|mut crew| {
            let goes_on = crew.leave(&coordinator);
            goes_on.then(|| crew.without(failed, (self.graph, self.plan))).flatten()
        });
        Err(Failure { error, survivors })
    }

    fn times(&self) -> CheckpointTimes {
        let checkpoints = self.config.checkpoints.as_ref();
        CheckpointTimes {
            interval_ms: checkpoints.map(|checkpoints| checkpoints.interval_ms),
            timeout_ms: checkpoints.map_or(i64::MAX, |checkpoints| checkpoints.timeout_ms),
            unaligned_after_ms: checkpoints.and_then(|c| c.unaligned_after_ms),
            resend_ms: 1000,
        }
    }

    fn coordinate(
        &mut self,
        coordinator: &mut Coordinator,
        threads: &Threads,
        desk: &mut Desk,
        observer: Observer<'_>,
    ) -> Result<RunOutcome> {
        let mut last_shown = Duration::ZERO;
        loop {
            while let Some(command) = coordinator.poll_command() {
                match command {
                    Command::Trigger { subtask, id, kind } => {
                        threads.tell(subtask, Control::Trigger { id, kind });
                    }
                    Command::Hurry { subtask, id } => threads.tell(subtask, Control::Hurry { id }),
                    Command::Abort { id } => {
                        let reason = coordinator.last_failure().unwrap_or_default();
                        tracing::warn!(checkpoint = id.0, reason, "checkpoint given up");
                        threads.abort(id.0);
                        tell_all(threads, Control::Abort { id }, coordinator);
                    }
                    Command::Completed { id } => {
                        tracing::info!(checkpoint = id.0, "checkpoint published");
                        tell_all(threads, Control::Completed { id }, coordinator);
                    }
                    Command::Publish(pending) => {
                        let id = pending.id;
                        if self.publish(pending, desk)? {
                            tell_all(threads, Control::Relax, coordinator);
                        }
                        coordinator.handle_published(self.clock.now().millis(), id);
                    }
                    Command::Commit { upto, committables } => {
                        self.commit(coordinator, desk, upto, &committables)?;
                    }
                    Command::Discard { id } => self.discard(id),
                    Command::Shutdown(outcome) => {
                        tell_all(threads, Control::Shutdown, coordinator);
                        observer(&self.progress(&desk.metrics, coordinator));
                        self.savepoints.finish(self.history.published, self.store.as_ref());
                        return Ok(match outcome {
                            Outcome::Finished => RunOutcome::Finished,
                            Outcome::Stopped => RunOutcome::Stopped,
                        });
                    }
                }
            }
            if let Some(store) = &self.store
                && !coordinator.has_pending_commits()
            {
                self.savepoints.poll(store)?;
            }
            self.wait(coordinator, threads, desk)?;
            let now = self.clock.elapsed();
            if now - last_shown >= TICK {
                last_shown = now;
                observer(&self.progress(&desk.metrics, coordinator));
            }
        }
    }

    /// Waits for a report, a deadline or a tick, and handles what came.
    fn wait(
        &mut self,
        coordinator: &mut Coordinator,
        threads: &Threads,
        desk: &mut Desk,
    ) -> Result<()> {
        let now = self.clock.now().millis();
        let until_deadline = coordinator
            .next_deadline()
            .map_or(TICK, |at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)));
        let first = match threads.reports.recv_timeout(until_deadline.min(TICK)) {
            Ok(report) => Some(report),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::bug("all workers have gone before the job ended"));
            }
        };
        let now = self.clock.now().millis();
        for report in first.into_iter().chain(threads.reports.try_iter()) {
            match report {
                Report::Ack(ack) => coordinator.handle_ack(now, ack),
                Report::Drained(subtask) => {
                    tracing::debug!(%subtask, "source has ended");
                    coordinator.handle_drained(now, subtask);
                }
                Report::Commit { sink, committables } => {
                    desk.committer(&sink)?.commit(&committables)?;
                }
                // The worker has said why it ends, or is about to have nothing to do.
                Report::Read(read) => self.history.read.extend(read),
                Report::Failed(error, failed) => {
                    self.failed = failed;
                    return Err(error);
                }
            }
        }
        for request in self.stop.take_savepoint_requests() {
            match self.store {
                None => request.refuse(),
                Some(_) => {
                    let is_last = request.is_last || self.stop.is_requested();
                    let from = (!is_last).then(|| coordinator.handle_checkpoint_request(now));
                    self.savepoints.wait_for(from, request);
                }
            }
        }
        if self.stop.is_requested() {
            coordinator.handle_stop_request(now);
        }
        coordinator.handle_tick(now);
        Ok(())
    }

    /// Publishes a checkpoint; true if it ends a suspicion.
    fn publish(&mut self, pending: PendingManifest, desk: &Desk) -> Result<bool> {
        let Some(store) = &self.store else { return Ok(false) };
        let manifest = Manifest {
            job: self.job.to_owned(),
            created_ms: wall_clock_millis(),
            key_group_count: self.config.key_groups.get(),
            parallelism: self.config.parallelism as u32,
            at_least_once: self
                .config
                .checkpoints
                .as_ref()
                .is_some_and(|checkpoints| checkpoints.mode == CheckpointMode::AtLeastOnce),
            operators: desk.records.clone(),
            savepoint: self.savepoint.clone(),
            ..Manifest::from_pending(pending)
        };
        let retained = self.config.checkpoints.as_ref().map_or(1, |c| c.retained);
        let mut store = lock(store);
        store.publish(&manifest)?;
        self.history.published = Some(manifest.id);
        self.savepoints.handle_published(manifest.id);
        // What savepoints are written from stays until the next checkpoint after that.
        if !self.savepoints.needs_checkpoints()
            && let Err(error) = store.retain(retained)
        {
            // Tried again after the next checkpoint.
            tracing::warn!(%error, "an old checkpoint cannot be removed");
        }
        Ok(self.watch.handle_checkpoint(&manifest))
    }

    fn discard(&mut self, id: CheckpointId) {
        let Some(store) = &self.store else { return };
        if let Err(error) = lock(store).discard(id) {
            // It is removed with the older ones when a newer checkpoint is kept.
            tracing::warn!(%error, checkpoint = id.0, "leftovers cannot be removed");
        }
    }

    fn commit(
        &mut self,
        coordinator: &mut Coordinator,
        desk: &mut Desk,
        upto: CheckpointId,
        committables: &[SinkCommittables],
    ) -> Result<()> {
        for SinkCommittables { sink, committables } in committables {
            if let Err(error) = desk.committer(sink)?.commit(committables) {
                let error = error.in_operator(sink);
                let failures = coordinator.consecutive_commit_failures();
                if !error.is_passing() || failures >= COMMIT_ATTEMPTS {
                    return Err(error);
                }
                let now = self.clock.now().millis();
                coordinator.handle_commit_failed(now, upto, &error.to_string());
                return Ok(());
            }
        }
        coordinator.handle_committed(self.clock.now().millis(), upto);
        // A newer manifest may list what has been committed just now, too.
        if let (Some(store), Some(newest)) = (&self.store, self.history.published)
            && !coordinator.has_pending_commits()
        {
            lock(store).mark_committed(newest)?;
        }
        Ok(())
    }

    fn progress(&self, metrics: &JobMetrics, coordinator: &Coordinator) -> Progress {
        let before = &self.history.progress;
        let took = |millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        let last = coordinator.last_completed().map(|(id, millis)| (id.0, took(millis)));
        Progress {
            metrics: metrics.clone(),
            elapsed: self.clock.elapsed(),
            checkpoints: before.checkpoints + coordinator.completed(),
            last_checkpoint: last.or(before.last_checkpoint),
            is_stopping: self.stop.is_requested(),
            ..before.clone()
        }
    }
}

fn tell_all(threads: &Threads, control: Control, coordinator: &Coordinator) {
    for &subtask in coordinator.subtasks() {
        threads.tell(subtask, control);
    }
}
