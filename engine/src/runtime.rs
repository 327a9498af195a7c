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
//! After an error step 1 and 2 are replaced by a flag that workers look at in every round; then
//! the job may be started again (`attempts.rs`), with the same store.

mod attempts;
mod clock;
mod coordinate;
mod external;
mod interlude;
mod savepoints;
mod starting_point;
mod threads;
mod worker;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_checkpoint::CheckpointStore;
use thalweg_state::BackendConfig;

use crate::error::{Error, Result};
#[cfg(feature = "rocksdb")]
use crate::graph::NodeKind;
use crate::graph::{ExecutionPlan, JobGraph};
use crate::options::{JobConfig, StateBackend};
use crate::progress::{Progress, RunReport};

use attempts::Attempts;
use savepoints::SavepointRequests;

pub use savepoints::SavepointTicket;

/// Asks a running job to stop or for a savepoint, from any thread or a signal handler.
#[derive(Clone, Default)]
pub struct StopSignal(Arc<Requests>);

#[derive(Default)]
struct Requests {
    is_to_stop: AtomicBool,
    savepoints: SavepointRequests,
}

impl StopSignal {
    /// Asks the job to take a last checkpoint and end.
    pub fn stop(&self) {
        self.0.is_to_stop.store(true, Ordering::SeqCst);
    }

    /// True if the job has been asked to stop.
    pub fn is_requested(&self) -> bool {
        self.0.is_to_stop.load(Ordering::SeqCst)
    }

    /// Asks the job for a savepoint in the directory `dir`. The job goes on; what it prepared for
    /// its sinks up to the savepoint is committed before the savepoint is complete.
    pub fn savepoint(&self, dir: &Path) -> SavepointTicket {
        self.0.savepoints.add(dir, false)
    }

    /// Asks the job to take a last checkpoint, to commit what it holds, to write a savepoint of it
    /// into `dir`, and to end.
    pub fn stop_with_savepoint(&self, dir: &Path) -> SavepointTicket {
        let ticket = self.0.savepoints.add(dir, true);
        self.stop();
        ticket
    }

    fn take_savepoint_requests(&self) -> Vec<savepoints::Request> {
        self.0.savepoints.take()
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

/// Runs a job on worker threads until its input ends, it is stopped, or it fails for good: failures
/// that may not come again are answered as its restart policy says.
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
    stop.0.savepoints.set_running(true);
    let ended = run_to_end(graph, job, config, stop, observer);
    stop.0.savepoints.set_running(false);
    ended
}

fn run_to_end(
    graph: &JobGraph,
    job: &str,
    config: &JobConfig,
    stop: &StopSignal,
    observer: Observer<'_>,
) -> Result<RunReport> {
    graph.validate()?;
    Attempts::open(graph, job, config, stop)?.run(observer)
}

/// Which worker steps a subtask: each task begins one worker further, so that tasks of
/// parallelism 1 do not all land on the first.
fn worker_of(task: usize, index: usize, workers: usize) -> usize {
    (task + index) % workers
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
            // For RocksDB's block cache and memtables, and for the tables and their changes. A
            // quarter is left: what compactions, runs being written and the allocators' gaps take
            // grows with the rest.
            let memory = usize::try_from(config.memory).unwrap_or(usize::MAX);
            let for_rocks = memory / 4;
            let for_operators = memory / 2;
            let temporary = match work_directory {
                Some(_) => None,
                None => Some(temporary_directory(config.work_dir.as_deref())?),
            };
            let directory = match (&work_directory, &temporary) {
                (Some(directory), _) => directory.clone(),
                (None, Some(temporary)) => temporary.path().to_owned(),
                (None, None) => return Err(Error::bug("no directory for RocksDB")),
            };
            return Ok(Backends {
                kind: config.state,
                rocks: Some(RocksBackends {
                    shared: thalweg_state::RocksShared::new(for_rocks, count),
                    directory,
                    memory_per_operator: for_operators / count.max(1),
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
fn temporary_directory(parent: Option<&std::path::Path>) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("thalweg-");
    let created = parent.map_or_else(|| builder.tempdir(), |parent| builder.tempdir_in(parent));
    created.map_err(|e| {
        Error::config("cannot create a temporary directory for RocksDB").with_source(e)
    })
}
