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

use super::attempts::History;
use super::clock::{Clock, wall_clock_millis};
use super::savepoints::Savepoints;
use super::worker::Worker;
use super::writer::CheckpointWriter;
use super::{Observer, SharedStore, StopSignal, lock, worker_of};
use crate::deploy::{Committers, Deployment};
use crate::error::{Error, Result};
use crate::options::JobConfig;
use crate::park::{Parker, Waker};
use crate::poison::{PoisonWatch, SplitRead};
use crate::progress::{JobMetrics, Progress, RunOutcome, RunReport};
use crate::sink::Committable;
use crate::state_writer::StateWriter;
use crate::subtask::{Control, Subtask};

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
    /// The run cannot go on.
    Failed(Error),
    /// How far the splits of a worker that has ended were read.
    Read(Vec<SplitRead>),
}

/// A run before its threads exist.
pub(crate) struct Run<'a> {
    pub(crate) job: &'a str,
    pub(crate) config: &'a JobConfig,
    pub(crate) records: Vec<OperatorRecord>,
    pub(crate) committers: Committers,
    pub(crate) store: Option<SharedStore>,
    pub(crate) first_id: CheckpointId,
    pub(crate) history: &'a mut History,
    pub(crate) watch: &'a mut PoisonWatch,
    /// The savepoint from which the checkpoints of the directory come.
    pub(crate) savepoint: Option<String>,
    pub(crate) savepoints: Savepoints,
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
        let Deployment { subtasks, sources, metrics, state, tables } = deployment;
        self.records = tables.complete(std::mem::take(&mut self.records));
        self.history.read.clear();
        let mut coordinator = Coordinator::new(
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
        let directory = self.store.as_ref().and_then(|store| lock(store).work_directory());
        let writer = StateWriter::new(state, self.first_id, self.config.key_groups, directory);
        let threads = self.spawn(workers, parkers, writer)?;
        let ended = self.coordinate(&mut coordinator, &threads, &metrics, observer);
        if ended.is_err() {
            threads.cancel();
        }
        for report in threads.join().try_iter() {
            if let Report::Read(read) = report {
                self.history.read.extend(read);
            }
        }
        self.history.progress = self.progress(&metrics, &coordinator);
        ended.map(|outcome| self.history.report(self.clock.elapsed(), outcome))
    }

    fn spawn(
        &self,
        workers: Vec<Vec<Subtask>>,
        parkers: Vec<Parker>,
        state: StateWriter,
    ) -> Result<Threads> {
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
        let checkpoint_writer = CheckpointWriter {
            requests,
            reports: report.clone(),
            writer: state,
            store,
            aborted: threads.aborted.clone(),
        };
        threads.start("checkpoint-writer".to_owned(), move || {
            let write = || checkpoint_writer.run();
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
        coordinator: &mut Coordinator,
        threads: &Threads,
        metrics: &JobMetrics,
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
                        threads.aborted.store(id.0, Ordering::Relaxed);
                        threads.tell_all(Control::Abort { id }, coordinator);
                    }
                    Command::Completed { id } => {
                        tracing::info!(checkpoint = id.0, "checkpoint published");
                        threads.tell_all(Control::Completed { id }, coordinator);
                    }
                    Command::Publish(pending) => {
                        let id = pending.id;
                        if self.publish(pending)? {
                            threads.tell_all(Control::Relax, coordinator);
                        }
                        coordinator.handle_published(self.clock.now().millis(), id);
                    }
                    Command::Commit { upto, committables } => {
                        self.commit(coordinator, upto, &committables)?;
                    }
                    Command::Discard { id } => self.discard(id),
                    Command::Shutdown(outcome) => {
                        threads.tell_all(Control::Shutdown, coordinator);
                        observer(&self.progress(metrics, coordinator));
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
            self.wait(coordinator, threads)?;
            let now = self.clock.elapsed();
            if now - last_shown >= TICK {
                last_shown = now;
                observer(&self.progress(metrics, coordinator));
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
                // The worker has said why it ends, or is about to have nothing to do.
                Report::Read(read) => self.history.read.extend(read),
                Report::Failed(error) => return Err(error),
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
    fn publish(&mut self, pending: PendingManifest) -> Result<bool> {
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
            operators: self.records.clone(),
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
        upto: CheckpointId,
        committables: &[SinkCommittables],
    ) -> Result<()> {
        for SinkCommittables { sink, committables } in committables {
            if let Err(error) = self.committer(sink)?.commit(committables) {
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

    fn committer(&mut self, sink: &str) -> Result<&mut Box<dyn crate::sink::Committer>> {
        self.committers
            .get_mut(sink)
            .ok_or_else(|| Error::bug(format!("there is no committer for the sink `{sink}`")))
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

    /// Waits for all threads; returns what they said last.
    fn join(self) -> Receiver<Report> {
        let Threads { handles, workers, reports, .. } = self;
        drop(workers);
        for handle in handles {
            // A panic has been reported by the thread itself.
            let _ = handle.join();
        }
        reports
    }
}
