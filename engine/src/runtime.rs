//! The thread driver: worker threads step subtasks, the calling thread coordinates.
//!
//! # Threads
//! * N workers, each the only owner of its subtasks (`worker.rs`).
//! * One checkpoint writer: makes captures durable, so that no worker waits for a disk
//!   (`writer.rs`).
//! * The caller of [`run`]: coordinator, commits, progress (`coordinate.rs`).
//!
//! # Shutdown
//! (1) The coordinator orders it when the last checkpoint is published and committed. (2) Every
//! subtask is told. (3) A worker whose subtasks are all done returns. (4) The writer returns when
//! the last worker has dropped its end. (5) All threads are joined, then the store is closed.
//! After an error step 1 and 2 are replaced by a flag that workers look at in every round.

mod clock;
mod coordinate;
mod external;
mod worker;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_checkpoint::{CheckpointId, CheckpointStore, LocalStore, Manifest};
use thalweg_state::BackendConfig;

use crate::batch::BATCH_RECORDS;
use crate::deploy::{
    DeployContext, Deployment, check_manifest, first_id, in_flight, open_committers,
    operator_records,
};
use crate::error::{Error, Result};
use crate::external::External;
use crate::graph::{ExecutionPlan, JobGraph, NodeKind};
use crate::options::{CheckpointConfig, JobConfig, Restore, StateBackend};
use crate::park::Parker;
use crate::progress::{JobMetrics, Progress, RunOutcome, RunReport};

pub(crate) use clock::Clock;
use coordinate::Run;
use external::TokioExecutor;
pub(crate) use writer::{WriteRequest, write_capture};

/// Asks a running job to stop, from any thread or a signal handler.
#[derive(Clone, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Asks the job to take a last checkpoint and end.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// True if the job has been asked to stop.
    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Shows a running job to someone; called a few times a second on the coordinating thread.
pub type Observer<'a> = &'a mut dyn FnMut(&Progress);

/// The store, shared by the coordinator and the checkpoint writer.
pub(crate) type SharedStore = Arc<Mutex<Box<dyn CheckpointStore>>>;

/// The store for one caller. A thread that panicked while it had the store has failed the run; no
/// call leaves the store half changed.
fn lock(store: &SharedStore) -> MutexGuard<'_, Box<dyn CheckpointStore>> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a job on worker threads until its input ends, it is stopped, or it fails.
///
/// # Errors
/// `Config` for a wrong graph or surroundings, `Fenced` if another process uses the checkpoint
/// directory, `Corrupt` and `Incompatible` for checkpoints that cannot be restored, `User` for
/// failures and panics of user code, named after their operator.
pub fn run(
    graph: &JobGraph,
    job: &str,
    config: &JobConfig,
    stop: &StopSignal,
    observer: Observer<'_>,
) -> Result<RunReport> {
    graph.validate()?;
    let clock = Clock::start();
    let opened = OpenStore::open(job, config)?;
    let restored = opened.restored.as_ref();
    if let Some(manifest) = restored {
        check_manifest(graph, manifest, config.key_groups)?;
    }
    let committers = open_committers(graph, restored, opened.store.as_deref())?;
    if let Some(manifest) = restored.filter(|manifest| manifest.finished) {
        return Ok(already_finished(graph, manifest));
    }
    let plan = in_flight::plan(graph, config.parallelism, restored)?;
    let parkers: Vec<Parker> = (0..config.workers).map(|_| Parker::new()).collect();
    let backends = Backends::new(graph, &plan, config, opened.work_directory.clone())?;
    let deployment = Deployment::new(DeployContext {
        graph,
        plan: &plan,
        key_groups: config.key_groups,
        bounds: &mut || config.channels,
        batch_records: BATCH_RECORDS,
        waker: &|task, index| parkers[worker_of(task, index, config.workers)].waker(),
        backend: &|operator, index| backends.config(operator, index),
        restored,
        store: opened.store.as_deref(),
        is_checkpointed: opened.store.is_some(),
        mode: config.checkpoints.as_ref().map(|checkpoints| checkpoints.mode).unwrap_or_default(),
        external: External::new(Arc::new(TokioExecutor::default())),
    })?;
    let first_id = first_id(restored, opened.store.as_deref());
    tracing::info!(
        job,
        tasks = plan.tasks.len(),
        subtasks = plan.subtask_count(),
        workers = config.workers,
        restored_from = restored.map(|manifest| manifest.id.0),
        "job starts"
    );
    let run = Run {
        job,
        config,
        records: operator_records(graph),
        committers,
        store: opened.store.map(|store| Arc::new(Mutex::new(store))),
        restored_from: restored.map(|manifest| manifest.id),
        first_id,
        published: None,
        clock,
        stop,
    };
    run.execute(deployment, parkers, observer)
}

/// Which worker steps a subtask: each task begins one worker further, so that tasks of
/// parallelism 1 do not all land on the first.
fn worker_of(task: usize, index: usize, workers: usize) -> usize {
    (task + index) % workers
}

fn already_finished(graph: &JobGraph, manifest: &Manifest) -> RunReport {
    let mut metrics = JobMetrics::new(thalweg_checkpoint::counters_of(manifest), None);
    for info in graph.nodes().map(|node| graph.info(node)) {
        metrics.register(&info.name, info.kind == NodeKind::Source, info.assigns_event_time);
    }
    RunReport {
        outcome: RunOutcome::AlreadyFinished,
        restored_from: Some(manifest.id.0),
        progress: Progress {
            metrics,
            elapsed: std::time::Duration::ZERO,
            checkpoints: 0,
            last_checkpoint: None,
            is_stopping: false,
        },
        last_checkpoint: Some(manifest.id.0),
    }
}

/// The checkpoint directory, and what is restored from it.
struct OpenStore {
    store: Option<Box<dyn CheckpointStore>>,
    restored: Option<Manifest>,
    work_directory: Option<std::path::PathBuf>,
}

impl OpenStore {
    fn open(job: &str, config: &JobConfig) -> Result<Self> {
        let Some(checkpoints) = &config.checkpoints else {
            return Ok(OpenStore { store: None, restored: None, work_directory: None });
        };
        let store = LocalStore::open(&checkpoints.dir, job)?;
        let restored = choose_checkpoint(&store, checkpoints)?;
        let work_directory = Some(store.work_directory());
        Ok(OpenStore { store: Some(Box::new(store)), restored, work_directory })
    }
}

fn choose_checkpoint(
    store: &LocalStore,
    checkpoints: &CheckpointConfig,
) -> Result<Option<Manifest>> {
    match checkpoints.restore {
        Restore::Latest => Ok(store.latest()?),
        Restore::Checkpoint(id) => Ok(Some(store.load(CheckpointId(id))?)),
        Restore::Nothing => match store.list()?.last() {
            None => Ok(None),
            Some(id) => Err(Error::config(format!(
                "{} holds checkpoint {id}: to start from nothing choose another checkpoint \
                 directory, or remove it",
                checkpoints.dir.display()
            ))),
        },
    }
}

/// Where operators keep their state.
struct Backends {
    kind: StateBackend,
    #[cfg(feature = "rocksdb")]
    rocks: Option<RocksBackends>,
}

#[cfg(feature = "rocksdb")]
struct RocksBackends {
    shared: thalweg_state::RocksShared,
    directory: std::path::PathBuf,
    memory_per_operator: usize,
    /// Removes a temporary directory at the end.
    _temporary: Option<tempfile::TempDir>,
}

impl Backends {
    #[cfg_attr(not(feature = "rocksdb"), expect(unused_variables, reason = "RocksDB only"))]
    fn new(
        graph: &JobGraph,
        plan: &ExecutionPlan,
        config: &JobConfig,
        work_directory: Option<std::path::PathBuf>,
    ) -> Result<Self> {
        #[cfg(feature = "rocksdb")]
        if config.state == StateBackend::RocksDb {
            let is_keyed = |node: &&crate::graph::NodeId| {
                let info = graph.info(**node);
                info.is_stateful && info.kind == NodeKind::Operator
            };
            let count: usize = plan
                .tasks
                .iter()
                .map(|task| task.nodes.iter().filter(is_keyed).count() * task.parallelism)
                .sum();
            // Half for the tables, half for RocksDB's block cache and memtables.
            let half = usize::try_from(config.memory / 2).unwrap_or(usize::MAX);
            let temporary = match work_directory {
                Some(_) => None,
                None => Some(temporary_directory()?),
            };
            let directory = match (&work_directory, &temporary) {
                (Some(directory), _) => directory.clone(),
                (None, Some(temporary)) => temporary.path().to_owned(),
                (None, None) => return Err(Error::bug("no directory for RocksDB")),
            };
            return Ok(Backends {
                kind: config.state,
                rocks: Some(RocksBackends {
                    shared: thalweg_state::RocksShared::new(half),
                    directory,
                    memory_per_operator: half / count.max(1),
                    _temporary: temporary,
                }),
            });
        }
        Ok(Backends {
            kind: config.state,
            #[cfg(feature = "rocksdb")]
            rocks: None,
        })
    }

    #[cfg_attr(not(feature = "rocksdb"), expect(unused_variables, reason = "RocksDB only"))]
    fn config(&self, operator: &str, index: usize) -> Result<BackendConfig> {
        match self.kind {
            StateBackend::Memory => Ok(BackendConfig::Memory),
            #[cfg(feature = "rocksdb")]
            StateBackend::RocksDb => {
                let rocks = self.rocks.as_ref().ok_or_else(|| Error::bug("RocksDB is not open"))?;
                Ok(BackendConfig::RocksDb {
                    directory: rocks.directory.join(format!("{operator}-{index}")),
                    memory_bytes: rocks.memory_per_operator,
                    shared: rocks.shared.clone(),
                })
            }
            #[cfg(not(feature = "rocksdb"))]
            StateBackend::RocksDb => Err(Error::config("this binary was built without RocksDB")),
        }
    }
}

#[cfg(feature = "rocksdb")]
fn temporary_directory() -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("thalweg-").tempdir().map_err(|e| {
        Error::config("cannot create a temporary directory for RocksDB").with_source(e)
    })
}
