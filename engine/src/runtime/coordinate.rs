//! The coordinating thread: carries out what the checkpoint coordinator commands.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use thalweg_checkpoint::{
    CheckpointId, CheckpointMode, Command, Coordinator, CoordinatorConfig, Manifest,
    OperatorRecord, Outcome, PendingManifest, SinkCommittables, SubtaskAck, SubtaskId,
};

use super::clock::{Clock, wall_clock_millis};
use super::worker::Worker;
use super::writer::write_captures;
use super::{Observer, SharedStore, StopSignal, lock, worker_of};
use crate::deploy::{Committers, Deployment};
use crate::error::{Error, Result};
use crate::options::JobConfig;
use crate::park::{Parker, Waker};
use crate::progress::{JobMetrics, Progress, RunOutcome, RunReport};
use crate::sink::Committable;
use crate::subtask::{Control, Subtask};

/// How often progress is shown and the stop signal is looked at.
const TICK: Duration = Duration::from_millis(50);
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
    /// The run cannot go on.
    Failed(Error),
}

/// A run before its threads exist.
pub(crate) struct Run<'a> {
    pub(crate) job: &'a str,
    pub(crate) config: &'a JobConfig,
    pub(crate) records: Vec<OperatorRecord>,
    pub(crate) committers: Committers,
    pub(crate) store: Option<SharedStore>,
    pub(crate) restored_from: Option<CheckpointId>,
    pub(crate) first_id: CheckpointId,
    /// The newest checkpoint of this run.
    pub(crate) published: Option<CheckpointId>,
    pub(crate) clock: Clock,
    pub(crate) stop: &'a StopSignal,
}

/// The threads of a run.
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// Per worker: its mailbox and its waker.
    workers: Vec<(Sender<(SubtaskId, Control)>, Waker)>,
    reports: Receiver<Report>,
    is_cancelled: Arc<AtomicBool>,
    /// The newest checkpoint that was given up.
    aborted: Arc<AtomicU64>,
}

impl Run<'_> {
    /// Starts the threads, coordinates until the end, and joins them.
    pub(crate) fn execute(
        mut self,
        deployment: Deployment,
        parkers: Vec<Parker>,
        observer: Observer<'_>,
    ) -> Result<RunReport> {
        let Deployment { subtasks, sources, metrics } = deployment;
        let coordinator = Coordinator::new(
            CoordinatorConfig {
                interval_ms: self.config.checkpoints.as_ref().map(|c| c.interval_ms),
                timeout_ms: self.config.checkpoints.as_ref().map_or(i64::MAX, |c| c.timeout_ms),
                unaligned_after_ms: self
                    .config
                    .checkpoints
                    .as_ref()
                    .and_then(|checkpoints| checkpoints.unaligned_after_ms),
                resend_ms: 1000,
                subtasks: subtasks.iter().map(|subtask| subtask.id).collect(),
                sources,
                first_id: self.first_id,
                // Opening the committers has committed what the restored manifest holds.
                pending_commits: Vec::new(),
            },
            self.clock.now().millis(),
        );
        let mut workers: Vec<Vec<_>> = parkers.iter().map(|_| Vec::new()).collect();
        for subtask in subtasks {
            let worker =
                worker_of(subtask.id.task as usize, subtask.id.index as usize, parkers.len());
            workers[worker].push(subtask);
        }
        let threads = self.spawn(workers, parkers)?;
        let ended = self.coordinate(coordinator, &threads, &metrics, observer);
        if ended.is_err() {
            threads.cancel();
        }
        threads.join();
        ended
    }

    fn spawn(&self, workers: Vec<Vec<Subtask>>, parkers: Vec<Parker>) -> Result<Threads> {
        let (report, reports) = unbounded();
        let (writer, requests) = unbounded();
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let mut threads = Threads {
            handles: Vec::new(),
            workers: Vec::new(),
            reports,
            is_cancelled: is_cancelled.clone(),
            aborted: Arc::default(),
        };
        let (store, reports) = (self.store.clone(), report.clone());
        let aborted = threads.aborted.clone();
        threads.start("checkpoint-writer".to_owned(), move || {
            let write = || write_captures(&requests, &reports, store.as_ref(), &aborted);
            if catch_unwind(AssertUnwindSafe(write)).is_err() {
                let error = Error::bug("the checkpoint writer panicked, see the message above");
                let _ = reports.send(Report::Failed(error));
            }
        })?;
        for (index, (subtasks, parker)) in workers.into_iter().zip(parkers).enumerate() {
            let (control, mailbox) = unbounded();
            threads.workers.push((control, parker.waker()));
            let worker = Worker {
                subtasks,
                control: mailbox,
                reports: report.clone(),
                writer: writer.clone(),
                parker,
                clock: self.clock,
                is_cancelled: is_cancelled.clone(),
            };
            threads.start(format!("worker-{index}"), move || worker.run())?;
        }
        Ok(threads)
    }

    fn coordinate(
        &mut self,
        mut coordinator: Coordinator,
        threads: &Threads,
        metrics: &JobMetrics,
        observer: Observer<'_>,
    ) -> Result<RunReport> {
        let mut last_shown = Duration::ZERO;
        let mut last_checkpoint = None;
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
                        threads.aborted.store(id.0, Ordering::Relaxed);
                        threads.tell_all(Control::Abort { id }, &coordinator);
                    }
                    Command::Completed { id } => {
                        tracing::info!(checkpoint = id.0, "checkpoint published");
                        last_checkpoint = Some(id.0);
                        threads.tell_all(Control::Completed { id }, &coordinator);
                    }
                    Command::Publish(pending) => {
                        let id = pending.id;
                        self.publish(pending)?;
                        coordinator.handle_published(self.clock.now().millis(), id);
                    }
                    Command::Commit { upto, committables } => {
                        self.commit(&mut coordinator, upto, &committables)?;
                    }
                    Command::Discard { id } => self.discard(id),
                    Command::Shutdown(outcome) => {
                        threads.tell_all(Control::Shutdown, &coordinator);
                        let progress = self.progress(metrics, &coordinator);
                        observer(&progress);
                        let outcome = match outcome {
                            Outcome::Finished => RunOutcome::Finished,
                            Outcome::Stopped => RunOutcome::Stopped,
                        };
                        let restored_from = self.restored_from.map(|id| id.0);
                        // Without a store the protocol runs, but there is no checkpoint.
                        let last_checkpoint = last_checkpoint.filter(|_| self.store.is_some());
                        return Ok(RunReport { outcome, restored_from, progress, last_checkpoint });
                    }
                }
            }
            self.wait(&mut coordinator, threads)?;
            let now = self.clock.elapsed();
            if now - last_shown >= TICK {
                last_shown = now;
                observer(&self.progress(metrics, &coordinator));
            }
        }
    }

    /// Waits for a report, a deadline or a tick, and handles what came.
    fn wait(&mut self, coordinator: &mut Coordinator, threads: &Threads) -> Result<()> {
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
                    self.committer(&sink)?.commit(&committables)?;
                }
                Report::Failed(error) => return Err(error),
            }
        }
        if self.stop.is_requested() {
            coordinator.handle_stop_request(now);
        }
        coordinator.handle_tick(now);
        Ok(())
    }

    fn publish(&mut self, pending: PendingManifest) -> Result<()> {
        let Some(store) = &self.store else { return Ok(()) };
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
            operators: self.records.clone(),
            ..Manifest::from_pending(pending)
        };
        let retained = self.config.checkpoints.as_ref().map_or(1, |c| c.retained);
        let mut store = lock(store);
        store.publish(&manifest)?;
        self.published = Some(manifest.id);
        if let Err(error) = store.retain(retained) {
            // Tried again after the next checkpoint.
            tracing::warn!(%error, "an old checkpoint cannot be removed");
        }
        Ok(())
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
        upto: CheckpointId,
        committables: &[SinkCommittables],
    ) -> Result<()> {
        for SinkCommittables { sink, committables } in committables {
            if let Err(error) = self.committer(sink)?.commit(committables) {
                let error = error.in_operator(sink);
                let failures = coordinator.consecutive_commit_failures();
                if !error.is_retryable() || failures >= COMMIT_ATTEMPTS {
                    return Err(error);
                }
                let now = self.clock.now().millis();
                coordinator.handle_commit_failed(now, upto, &error.to_string());
                return Ok(());
            }
        }
        coordinator.handle_committed(self.clock.now().millis(), upto);
        // A newer manifest may list what has been committed just now, too.
        if let (Some(store), Some(newest)) = (&self.store, self.published)
            && !coordinator.has_pending_commits()
        {
            lock(store).mark_committed(newest)?;
        }
        Ok(())
    }

    fn committer(&mut self, sink: &str) -> Result<&mut Box<dyn crate::sink::Committer>> {
        self.committers
            .get_mut(sink)
            .ok_or_else(|| Error::bug(format!("there is no committer for the sink `{sink}`")))
    }

    fn progress(&self, metrics: &JobMetrics, coordinator: &Coordinator) -> Progress {
        Progress {
            metrics: metrics.clone(),
            elapsed: self.clock.elapsed(),
            checkpoints: coordinator.completed(),
            last_checkpoint: coordinator.last_completed().map(|(id, millis)| {
                (id.0, Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
            }),
            is_stopping: self.stop.is_requested(),
        }
    }
}

impl Threads {
    #[expect(clippy::disallowed_methods, reason = "the threads of the thread driver")]
    fn start(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let handle = std::thread::Builder::new().name(name).spawn(body).map_err(|e| {
            self.cancel();
            Error::unavailable("cannot start a thread").with_source(e)
        })?;
        self.handles.push(handle);
        Ok(())
    }

    fn tell(&self, subtask: SubtaskId, control: Control) {
        let worker = worker_of(subtask.task as usize, subtask.index as usize, self.workers.len());
        let (mailbox, waker) = &self.workers[worker];
        // A worker that has gone has reported why.
        let _ = mailbox.send((subtask, control));
        waker.wake();
    }

    fn tell_all(&self, control: Control, coordinator: &Coordinator) {
        for &subtask in coordinator.subtasks() {
            self.tell(subtask, control);
        }
    }

    /// Makes all workers return at once.
    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        for (_, waker) in &self.workers {
            waker.wake();
        }
    }

    fn join(self) {
        let Threads { handles, workers, .. } = self;
        drop(workers);
        for handle in handles {
            // A panic has been reported by the thread itself.
            let _ = handle.join();
        }
    }
}
