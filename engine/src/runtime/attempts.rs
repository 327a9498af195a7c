//! A run of a job as attempts, one after the other: what is opened once, what each attempt is
//! deployed from, and what follows a failure.
//!
//! # Place
//! Called by [`run`](super::run); deploys, and leaves the attempt to [`coordinate`](super::Run).
//!
//! # A restart
//! (1) All threads of the attempt have been joined; state in the working directory is scratch.
//! (2) The failure is judged: errors that nothing but a change can help end the job, others are
//! the restart policy's. (3) The delay, in which a stop ends the job. (4) The store gives up what
//! was not published and forgets a failed sync; its lock is kept. (5) The next attempt is deployed
//! as a new process would be, from the same graph: committers commit what the newest manifest
//! holds and remove the rest.
//!
//! # Invariants
//! * I1: an attempt starts from the newest checkpoint of this run; before there is one, from what
//!   the run was told to start from. Checkpoints of other runs that were passed over stay so.
//! * I2: without a store there is one attempt: its output is visible already.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_checkpoint::{
    CheckpointId, CheckpointStore, Manifest, Owner, Repository, StoreOptions, counters_of,
};

use super::clock::{Clock, wall_clock_millis};
use super::coordinate::{Run, TICK};
use super::external::TokioExecutor;
use super::savepoints::Savepoints;
use super::starting_point::starting_point;
use super::{Backends, Observer, SharedStore, StopSignal, lock, worker_of};
use crate::batch::BATCH_RECORDS;
use crate::deploy::{
    Committers, DeployContext, Deployment, check_manifest, first_id, in_flight, open_committers,
    operator_records,
};
use crate::error::{Error, Result};
use crate::external::External;
use crate::graph::{JobGraph, NodeKind};
use crate::options::JobConfig;
use crate::park::Parker;
use crate::poison::{self, PoisonWatch, SplitRead};
use crate::progress::{JobMetrics, Progress, RunOutcome, RunReport};
use crate::restart::{Answer, Restarts, seconds};

/// What goes on from attempt to attempt.
#[derive(Clone)]
pub(crate) struct History {
    /// The checkpoint the run was restored from.
    pub(crate) restored_from: Option<CheckpointId>,
    /// The newest checkpoint that the run has published.
    pub(crate) published: Option<CheckpointId>,
    /// What is seen of the run. What an attempt counts is added to it.
    pub(crate) progress: Progress,
    /// How far the splits had been read when the last attempt ended.
    pub(crate) read: Vec<SplitRead>,
}

/// A run of a job.
pub(crate) struct Attempts<'a> {
    graph: &'a JobGraph,
    job: &'a str,
    config: &'a JobConfig,
    stop: &'a StopSignal,
    clock: Clock,
    store: Option<SharedStore>,
    work_directory: Option<PathBuf>,
    /// The number of the first checkpoint that the run may publish.
    first_id: CheckpointId,
    /// The counters that the run began with.
    counters: BTreeMap<String, u64>,
    restarts: Restarts,
    watch: PoisonWatch,
    history: History,
    /// Why the attempt before this one failed.
    failure: Option<Error>,
}

impl<'a> Attempts<'a> {
    /// Opens the checkpoint directory, if the job has one.
    pub(crate) fn open(
        graph: &'a JobGraph,
        job: &'a str,
        config: &'a JobConfig,
        stop: &'a StopSignal,
    ) -> Result<Self> {
        let mut attempts = Attempts {
            graph,
            job,
            config,
            stop,
            clock: Clock::start(),
            store: None,
            work_directory: None,
            first_id: CheckpointId(1),
            counters: BTreeMap::new(),
            restarts: Restarts::new(config.restart, wall_clock_millis().cast_unsigned()),
            watch: PoisonWatch::new(config.poison_after),
            history: History {
                restored_from: None,
                published: None,
                progress: Progress::new(JobMetrics::default()),
                read: Vec::new(),
            },
            failure: None,
        };
        if let Some(checkpoints) = &config.checkpoints {
            let owner = Owner::this_process(wall_clock_millis());
            let options =
                StoreOptions { job: job.to_owned(), owner, work_dir: config.work_dir.clone() };
            let mut store = Repository::open_at(&checkpoints.dir, &options)?;
            let restored = starting_point(graph, job, &mut store, checkpoints)?;
            attempts.work_directory = store.work_directory();
            attempts.first_id = first_id(restored.as_ref(), Some(&store));
            attempts.history.restored_from = restored.as_ref().map(|manifest| manifest.id);
            attempts.counters = restored.as_ref().map(counters_of).unwrap_or_default();
            attempts.store = Some(Arc::new(Mutex::new(Box::new(store))));
        }
        Ok(attempts)
    }

    /// Makes attempts until one comes to an end, or fails for good.
    pub(crate) fn run(mut self, observer: Observer<'_>) -> Result<RunReport> {
        loop {
            let mut error = match self.attempt(observer) {
                Ok(report) => return Ok(report),
                Err(error) => error,
            };
            if !error.is_retryable() {
                return Err(error);
            }
            if self.store.is_some() {
                error.set_place(self.locate(&error));
                if let Some(verdict) = self.watch.handle_failure(&error, &self.history.read) {
                    return Err(verdict);
                }
            }
            let delay = match self.restarts.handle_failure(self.clock.elapsed()) {
                Answer::Restart(delay) => delay,
                Answer::End(None) => return Err(error),
                Answer::End(Some(why)) => return Err(error.with_note(&why)),
            };
            self.announce(delay, &error);
            self.failure = Some(error);
            if self.is_stopped_within(delay, observer) {
                return self.stopped();
            }
        }
    }

    /// One attempt, from its deployment to its end.
    fn attempt(&mut self, observer: Observer<'_>) -> Result<RunReport> {
        let parkers: Vec<Parker> = (0..self.config.workers).map(|_| Parker::new()).collect();
        let ready = match self.deploy(&parkers) {
            Ok(ready) => ready,
            Err(error) => return Err(self.not_started_again(error)),
        };
        // What keeps state on disk stays until the workers have gone.
        let Ready { committers, deployment, first_id, savepoint, backends: _backends } = match ready
        {
            Some(ready) => ready,
            None => return Ok(self.finished_before()),
        };
        let run = Run {
            job: self.job,
            config: self.config,
            records: operator_records(self.graph),
            committers,
            store: self.store.clone(),
            first_id,
            savepoint,
            savepoints: Savepoints::default(),
            history: &mut self.history,
            watch: &mut self.watch,
            clock: self.clock,
            stop: self.stop,
        };
        run.execute(deployment, parkers, observer)
    }

    /// Opens all that an attempt needs; none if the job has finished.
    fn deploy(&mut self, parkers: &[Parker]) -> Result<Option<Ready>> {
        if self.restarts.total() > 0 {
            self.recover_store()?;
        }
        let restored = self.newest()?;
        let store = self.store.as_ref().map(lock);
        let (store, restored) = (store.as_ref().map(|store| &***store), restored.as_ref());
        if let Some(manifest) = restored {
            check_manifest(self.graph, manifest, self.config.key_groups)?;
        }
        let committers = open_committers(self.graph, restored, store)?;
        if restored.is_some_and(|manifest| manifest.finished) {
            return Ok(None);
        }
        let (config, plan) =
            (self.config, in_flight::plan(self.graph, self.config.parallelism, restored)?);
        let backends = Backends::new(self.graph, &plan, config, self.work_directory.clone())?;
        let mut deployment = Deployment::new(DeployContext {
            graph: self.graph,
            plan: &plan,
            key_groups: config.key_groups,
            bounds: &mut || config.channels,
            batch_records: BATCH_RECORDS,
            waker: &|task, index| parkers[worker_of(task, index, config.workers)].waker(),
            backend: &|operator, index| backends.config(operator, index),
            restored,
            store,
            is_checkpointed: store.is_some(),
            leave_from: None,
            mode: config
                .checkpoints
                .as_ref()
                .map(|checkpoints| checkpoints.mode)
                .unwrap_or_default(),
            external: External::new(Arc::new(TokioExecutor::default())),
            suspect: self.watch.suspect(),
        })?;
        deployment.metrics.set_begun(self.counters.clone());
        let first_id = first_id(restored, store);
        tracing::info!(
            job = self.job,
            tasks = plan.tasks.len(),
            subtasks = plan.subtask_count(),
            workers = config.workers,
            restored_from = restored.map(|manifest| manifest.id.0),
            restarts = self.restarts.total(),
            "job starts"
        );
        let savepoint = restored.and_then(|manifest| manifest.savepoint.clone());
        Ok(Some(Ready { committers, deployment, first_id, savepoint, backends }))
    }

    fn locate(&self, error: &Error) -> Option<String> {
        error.record()?;
        let newest = self.newest().ok()?;
        let (read, now) = (&self.history.read, self.clock.now());
        poison::locate(error, read, self.graph, newest.as_ref(), now)
    }

    fn recover_store(&self) -> Result<()> {
        Ok(self.store.as_ref().map_or(Ok(()), |store| lock(store).recover())?)
    }

    /// What an attempt starts from (I1).
    fn newest(&self) -> Result<Option<Manifest>> {
        let (Some(store), Some(checkpoints)) = (&self.store, &self.config.checkpoints) else {
            return Ok(None);
        };
        let mut store = lock(store);
        match store.list()?.last() {
            Some(newest) if *newest >= self.first_id => Ok(Some(store.load(*newest)?)),
            _ => starting_point(self.graph, self.job, &mut **store, checkpoints),
        }
    }

    /// What is said if nothing can be opened: at a restart, why there was one, too.
    fn not_started_again(&mut self, error: Error) -> Error {
        match self.failure.take() {
            Some(failure) if !error.is_retryable() => {
                failure.with_note(&format!("it cannot be started again: {error}")).fatal()
            }
            _ => error,
        }
    }

    fn announce(&mut self, delay: Duration, error: &Error) {
        let number = self.restarts.total();
        let from = match self.history.published.or(self.history.restored_from) {
            Some(id) => format!("checkpoint {id}"),
            None => "the beginning".to_owned(),
        };
        let delay = seconds(delay);
        let at = error.record().map(|record| record.describe(&self.history.read));
        let at = at.map_or_else(String::new, |at| format!(", at {at}"));
        tracing::warn!("restart {number} in {delay} from {from}: {}{at}", error.to_line());
        self.history.progress.restarts = number;
    }

    /// Waits; true if the job is asked to stop meanwhile.
    fn is_stopped_within(&mut self, delay: Duration, observer: Observer<'_>) -> bool {
        let until = self.clock.elapsed() + delay;
        self.history.progress.is_restarting = true;
        loop {
            let now = self.clock.elapsed();
            let is_stopped = self.stop.is_requested();
            if is_stopped || now >= until {
                self.history.progress.is_restarting = false;
                return is_stopped;
            }
            self.history.progress.elapsed = now;
            observer(&self.history.progress);
            std::thread::park_timeout(TICK.min(until - now));
        }
    }

    /// The end of a job that was asked to stop while it did not run: its newest checkpoint is the
    /// last, and what that holds becomes visible.
    fn stopped(mut self) -> Result<RunReport> {
        self.recover_store()?;
        let newest = self.newest()?;
        let store = self.store.as_ref().map(lock);
        let store = store.as_ref().map(|store| &***store);
        open_committers(self.graph, newest.as_ref(), store)?;
        let outcome = match newest.is_some_and(|manifest| manifest.finished) {
            true => RunOutcome::Finished,
            false => RunOutcome::Stopped,
        };
        self.history.progress.is_stopping = true;
        Ok(self.history.report(self.clock.elapsed(), outcome))
    }

    /// The end of a run that finds nothing left to do.
    fn finished_before(&mut self) -> RunReport {
        if self.history.published.is_some() {
            // Only the commit of its last checkpoint was missing.
            return self.history.report(self.clock.elapsed(), RunOutcome::Finished);
        }
        let mut metrics = JobMetrics::new(self.counters.clone(), None);
        for info in self.graph.nodes().map(|node| self.graph.info(node)) {
            metrics.register(&info.name, info.kind == NodeKind::Source, info.assigns_event_time);
        }
        self.history.progress = Progress::new(metrics);
        let report = self.history.report(Duration::ZERO, RunOutcome::AlreadyFinished);
        RunReport { last_checkpoint: report.restored_from, ..report }
    }
}

impl History {
    /// What is told of the run at its end.
    pub(crate) fn report(&self, elapsed: Duration, outcome: RunOutcome) -> RunReport {
        RunReport {
            outcome,
            restored_from: self.restored_from.map(|id| id.0),
            progress: Progress { elapsed, ..self.progress.clone() },
            last_checkpoint: self.published.map(|id| id.0),
        }
    }
}

/// An attempt that can begin.
struct Ready {
    committers: Committers,
    deployment: Deployment,
    first_id: CheckpointId,
    savepoint: Option<String>,
    backends: Backends,
}
