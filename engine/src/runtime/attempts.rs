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
//! Where a subtask has failed and other regions of the job do not depend on it (`deploy/crew.rs`),
//! those work on in (3), without checkpoints (`interlude.rs`); (4) is left out, and (5) is about
//! the missing regions only.
//!
//! # Invariants
//! * I1: an attempt starts from the newest checkpoint of this run; before there is one, from what
//!   the run was told to start from. Checkpoints of other runs that were passed over stay so.
//! * I2: without a store there is one attempt: its output is visible already.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_checkpoint::{
    CheckpointId, CheckpointStore, Manifest, Owner, Repository, StoreOptions, counters_of,
};

use super::clock::{Clock, wall_clock_millis};
use super::coordinate::{Failure, Run, TICK};
use super::external::TokioExecutor;
use super::interlude::Interlude;
use super::savepoints::Savepoints;
use super::starting_point::starting_point;
use super::{Backends, Observer, SharedStore, StopSignal, lock, worker_of};
use crate::batch::BATCH_RECORDS;
use crate::deploy::{
    Crew, DeployContext, Deployment, check_manifest, first_id, in_flight, open_committers,
    operator_records,
};
use crate::error::{Error, Result};
use crate::external::External;
use crate::graph::{ExecutionPlan, JobGraph, NodeId, NodeKind};
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
    /// Those that were asked for and are not complete.
    savepoints: Savepoints,
    /// One for each worker.
    parkers: Vec<Parker>,
    /// What the subtasks that there are stand on.
    ground: Option<Ground>,
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
            savepoints: Savepoints::default(),
            parkers: (0..config.workers).map(|_| Parker::new()).collect(),
            ground: None,
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
        let mut ended = self.attempt(None, observer);
        loop {
            let Failure { mut error, survivors } = match ended {
                Ok(report) => return Ok(report),
                Err(failure) => failure,
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
            self.announce(delay, &error, survivors.as_deref());
            self.failure = Some(error);
            ended = match self.wait(delay, survivors, observer) {
                Waited::Stopped => return self.stopped(),
                Waited::Over(survivors) => self.attempt(survivors, observer),
                Waited::Failed(failure) => Err(failure),
            }
        }
    }

    /// One attempt, from its deployment to its end.
    fn attempt(
        &mut self,
        survivors: Option<Box<Crew>>,
        observer: Observer<'_>,
    ) -> std::result::Result<RunReport, Failure> {
        let mut survivors = survivors;
        let (crew, savepoint) = match self.deploy(&mut survivors) {
            Ok(Some(ready)) => ready,
            Ok(None) => return Ok(self.finished_before()),
            Err(error) => {
                let error = self.not_started_again(error);
                return Err(Failure { error, survivors });
            }
        };
        let Some(Ground { plan, .. }) = &self.ground else {
            return Err(Failure { error: Error::bug("nothing is deployed"), survivors: None });
        };
        let run = Run {
            job: self.job,
            config: self.config,
            graph: self.graph,
            plan,
            store: self.store.clone(),
            savepoint,
            savepoints: &mut self.savepoints,
            history: &mut self.history,
            watch: &mut self.watch,
            clock: self.clock,
            stop: self.stop,
            failed: None,
        };
        run.execute(crew, &self.parkers, observer)
    }

    /// Opens all that an attempt needs and that has not survived the one before, and tells the
    /// savepoint that the run comes from; none if the job has finished.
    fn deploy(
        &mut self,
        survivors: &mut Option<Box<Crew>>,
    ) -> Result<Option<(Crew, Option<String>)>> {
        let graph = self.graph;
        // A region that failed leaves the store as the others need it.
        if self.restarts.total() > 0 && survivors.is_none() {
            self.recover_store()?;
        }
        let restored = self.newest()?;
        let restored = restored.as_ref();
        if let Some(manifest) = restored {
            check_manifest(graph, manifest, self.config.key_groups)?;
        }
        let plan = in_flight::plan(graph, self.config.parallelism, restored)?;
        self.prepare(plan, survivors)?;
        let ground = self.ground.as_ref().ok_or_else(|| Error::bug("nothing is prepared"))?;
        let tasks = match survivors {
            Some(survivors) => survivors.desk.missing.clone(),
            None => (0..ground.plan.tasks.len()).collect(),
        };
        let store = self.store.as_ref().map(lock);
        let store = store.as_ref().map(|store| &***store);
        let nodes = ground.plan.nodes_of(&tasks);
        let committers = open_committers(graph, nodes.into_iter(), restored, store)?;
        if restored.is_some_and(|manifest| manifest.finished) {
            return Ok(None);
        }
        let mut deployment = self.build(ground, &tasks, restored, store)?;
        deployment.metrics.set_begun(self.counters.clone());
        tracing::info!(
            job = self.job,
            tasks = tasks.len(),
            subtasks = deployment.subtasks.len(),
            workers = self.config.workers,
            restored_from = restored.map(|manifest| manifest.id.0),
            restarts = self.restarts.total(),
            "job starts"
        );
        let crew = match survivors.take() {
            Some(mut crew) => {
                crew.complete(deployment, committers);
                *crew
            }
            None => {
                let first_id = first_id(restored, store);
                let place = (self.config.key_groups, self.work_directory.clone());
                Crew::new(deployment, committers, operator_records(graph), first_id, place)
            }
        };
        Ok(Some((crew, restored.and_then(|manifest| manifest.savepoint.clone()))))
    }

    /// What the next attempt stands on: for survivors what they stand on, if that fits. If it does
    /// not, nothing has survived.
    fn prepare(&mut self, plan: ExecutionPlan, survivors: &mut Option<Box<Crew>>) -> Result<()> {
        let fits = |ground: &Ground| plan.has_tasks_of(&ground.plan);
        if survivors.is_some() && self.ground.as_ref().is_some_and(fits) {
            return Ok(());
        }
        if survivors.take().is_some() {
            self.recover_store()?;
        }
        self.ground = None;
        let work_directory = self.work_directory.clone();
        let backends = Backends::new(self.graph, &plan, self.config, work_directory)?;
        self.ground = Some(Ground { plan, backends });
        Ok(())
    }

    /// Builds the subtasks of some tasks.
    fn build(
        &self,
        ground: &Ground,
        tasks: &BTreeSet<usize>,
        restored: Option<&Manifest>,
        store: Option<&dyn CheckpointStore>,
    ) -> Result<Deployment> {
        let (config, parkers) = (self.config, &self.parkers);
        Deployment::new(DeployContext {
            graph: self.graph,
            plan: &ground.plan,
            tasks,
            key_groups: config.key_groups,
            bounds: &mut || config.channels,
            batch_records: BATCH_RECORDS,
            waker: &|task, index| parkers[worker_of(task, index, parkers.len())].waker(),
            backend: &|operator, index| ground.backends.config(operator, index),
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
        })
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

    fn announce(&mut self, delay: Duration, error: &Error, survivors: Option<&Crew>) {
        let number = self.restarts.total();
        let from = match self.history.published.or(self.history.restored_from) {
            Some(id) => format!("checkpoint {id}"),
            None => "the beginning".to_owned(),
        };
        let delay = seconds(delay);
        let at = error.record().map(|record| record.describe(&self.history.read));
        let at = at.map_or_else(String::new, |at| format!(", at {at}"));
        let what = match (survivors, &self.ground) {
            (Some(survivors), Some(ground)) => {
                let nodes = ground.plan.nodes_of(&survivors.desk.missing);
                let name = |node: NodeId| format!("`{}`", self.graph.info(node).name);
                format!(" of {}", nodes.into_iter().map(name).collect::<Vec<_>>().join(", "))
            }
            _ => String::new(),
        };
        let error = error.to_line();
        tracing::warn!("restart {number}{what} in {delay} from {from}: {error}{at}");
        self.history.progress.restarts = number;
    }

    /// Waits before the next attempt, while what goes on works on.
    fn wait(
        &mut self,
        delay: Duration,
        survivors: Option<Box<Crew>>,
        observer: Observer<'_>,
    ) -> Waited {
        self.history.progress.is_restarting = true;
        let until = self.clock.elapsed() + delay;
        let waited = match (survivors, &self.ground) {
            (Some(survivors), Some(ground)) => {
                let interlude = Interlude {
                    of: (self.graph, &ground.plan),
                    store: self.store.as_ref(),
                    clock: self.clock,
                    stop: self.stop,
                    history: &mut self.history,
                    until,
                };
                interlude.run(*survivors, &self.parkers, observer)
            }
            _ => self.sleep(until, observer),
        };
        self.history.progress.is_restarting = false;
        waited
    }

    fn sleep(&mut self, until: Duration, observer: Observer<'_>) -> Waited {
        loop {
            let now = self.clock.elapsed();
            if self.stop.is_requested() {
                return Waited::Stopped;
            }
            if now >= until {
                return Waited::Over(None);
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
        {
            let store = self.store.as_ref().map(lock);
            let store = store.as_ref().map(|store| &***store);
            open_committers(self.graph, self.graph.nodes(), newest.as_ref(), store)?;
        }
        for request in self.stop.take_savepoint_requests() {
            self.savepoints.wait_for(None, request);
        }
        self.savepoints.finish(newest.as_ref().map(|manifest| manifest.id), self.store.as_ref());
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

/// What subtasks stand on.
struct Ground {
    plan: ExecutionPlan,
    /// What keeps state on disk stays until the subtasks have gone.
    backends: Backends,
}

/// How the time between two attempts ended.
pub(crate) enum Waited {
    /// It is over; what goes on, if something does.
    Over(Option<Box<Crew>>),
    /// The job is to stop.
    Stopped,
    /// What went on has failed, too.
    Failed(Failure),
}
