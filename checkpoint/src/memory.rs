//! Checkpoints in memory, for the simulator: they survive its crashes, unpublished parts do not.
//!
//! The same [`Repository`] as on disk works over a map; what fails is decided per call of the
//! store, by a hook.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    CheckpointId, CheckpointStore, Error, LocalPart, Manifest, Owner, PartFile, Repository, Result,
    StoreOptions,
};

mod map;

#[cfg(test)]
mod tests;

pub(crate) use map::Map;

/// An operation of the store, as the fault hook sees it before it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// A part is written.
    WritePart(CheckpointId),
    /// A manifest is published.
    Publish(CheckpointId),
    /// A manifest is read.
    Load(CheckpointId),
    /// A part is read.
    ReadPart,
    /// A checkpoint that was given up is deleted.
    Discard(CheckpointId),
    /// Old checkpoints are deleted.
    Retain,
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreFault {
    /// It succeeds.
    #[default]
    None,
    /// It does nothing and fails.
    Fail,
    /// Half of what it writes is written, then it fails. A manifest is written as a whole or not at
    /// all: here, not at all, but the files it names are.
    Tear,
    /// It succeeds, but the process ends before it hears of that.
    CrashAfter,
}

/// Decides what happens to each operation.
pub type FaultHook = Box<dyn FnMut(StoreOp) -> StoreFault + Send>;

/// A store in memory; clones share their contents.
#[derive(Clone)]
pub struct MemoryStore {
    job: String,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    map: Map,
    repository: Repository,
    hook: Option<FaultHook>,
    crashed: bool,
}

impl MemoryStore {
    /// An empty store for a job.
    pub fn new(job: &str) -> Self {
        let map = Map::default();
        let repository = open(&map, job);
        let shared = Shared { map, repository, hook: None, crashed: false };
        Self { job: job.to_owned(), shared: Arc::new(Mutex::new(shared)) }
    }

    /// From now on the hook decides what happens to each operation.
    pub fn set_fault_hook(&self, hook: FaultHook) {
        self.lock().hook = Some(hook);
    }

    /// From now on every operation succeeds.
    pub fn clear_fault_hook(&self) {
        self.lock().hook = None;
    }

    /// Whether a fault has ended the process; until [`Self::crash`] everything fails.
    pub fn is_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// The process has ended and starts again: what is not published is gone.
    pub fn crash(&self) {
        let mut shared = self.lock();
        shared.crashed = false;
        shared.map.refuse_to_create(false);
        shared.repository = open(&shared.map, &self.job);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic elsewhere cannot leave the maps half changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens what is in a map; nothing there is of another job, and a map does not fail.
fn open(map: &Map, job: &str) -> Repository {
    let owner = Owner { pid: 0, host: "the simulator".to_owned(), started_ms: 0 };
    let options = StoreOptions { job: job.to_owned(), owner, work_dir: None };
    Repository::open(Box::new(map.clone()), &options).expect("a map of this job's can be opened")
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("job", &self.job).finish_non_exhaustive()
    }
}

impl Shared {
    /// What happens to the operation; an error if it fails without doing anything.
    fn fault(&mut self, op: StoreOp) -> Result<StoreFault> {
        if self.crashed {
            return Err(injected(op, "after a crash"));
        }
        match self.hook.as_mut().map_or(StoreFault::None, |hook| hook(op)) {
            StoreFault::Fail => Err(injected(op, "fails")),
            fault => Ok(fault),
        }
    }

    /// Carries an operation out; one that is torn is carried out by its caller, in part.
    fn run<T>(
        &mut self,
        op: StoreOp,
        call: impl FnOnce(&mut Repository, StoreFault) -> Result<T>,
    ) -> Result<T> {
        let fault = self.fault(op)?;
        self.map.refuse_to_create(fault == StoreFault::Tear);
        let result = call(&mut self.repository, fault);
        self.map.refuse_to_create(false);
        let value = result?;
        match fault {
            StoreFault::None | StoreFault::Fail => Ok(value),
            StoreFault::Tear => Err(injected(op, "is torn")),
            StoreFault::CrashAfter => {
                self.crashed = true;
                Err(injected(op, "ends in a crash"))
            }
        }
    }
}

impl CheckpointStore for MemoryStore {
    fn write_part(&mut self, id: CheckpointId, name: &str, bytes: &[u8]) -> Result<PartFile> {
        self.lock().run(StoreOp::WritePart(id), |store, fault| {
            let torn = if fault == StoreFault::Tear { bytes.len() / 2 } else { bytes.len() };
            store.write_part(id, name, &bytes[..torn])
        })
    }

    fn adopt_file(&mut self, id: CheckpointId, name: &str, path: &Path) -> Result<PartFile> {
        self.lock().run(StoreOp::WritePart(id), |store, _| store.adopt_file(id, name, path))
    }

    fn publish(&mut self, manifest: &Manifest) -> Result<()> {
        self.lock().run(StoreOp::Publish(manifest.id), |store, _| store.publish(manifest))
    }

    fn latest(&self) -> Result<Option<Manifest>> {
        let newest = self.lock().repository.list()?.last().copied();
        newest.map(|id| self.load(id)).transpose()
    }

    fn load(&self, id: CheckpointId) -> Result<Manifest> {
        self.lock().run(StoreOp::Load(id), |store, _| store.load(id))
    }

    fn read_part(&self, part: &PartFile) -> Result<Vec<u8>> {
        self.lock().run(StoreOp::ReadPart, |store, _| store.read_part(part))
    }

    fn local_part(&self, part: &PartFile) -> Result<LocalPart> {
        self.lock().run(StoreOp::ReadPart, |store, _| store.local_part(part))
    }

    fn mark_committed(&mut self, id: CheckpointId) -> Result<()> {
        self.lock().repository.mark_committed(id)
    }

    fn is_committed(&self, id: CheckpointId) -> Result<bool> {
        self.lock().repository.is_committed(id)
    }

    fn discard(&mut self, id: CheckpointId) -> Result<()> {
        self.lock().run(StoreOp::Discard(id), |store, _| store.discard(id))
    }

    fn retain(&mut self, newest: usize) -> Result<()> {
        self.lock().run(StoreOp::Retain, |store, _| store.retain(newest))
    }

    fn recover(&mut self) -> Result<()> {
        self.crash();
        Ok(())
    }

    fn list(&self) -> Result<Vec<CheckpointId>> {
        self.lock().repository.list()
    }

    fn next_id(&self) -> CheckpointId {
        self.lock().repository.next_id()
    }

    fn work_directory(&self) -> Option<PathBuf> {
        None
    }
}

fn injected(op: StoreOp, what: &str) -> Error {
    Error::Injected { detail: format!("{op:?} {what}") }
}
