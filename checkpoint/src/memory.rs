//! Checkpoints in memory, for the simulator: they survive its crashes, unpublished parts do not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::store::check_name;
use crate::{
    CheckpointId, CheckpointStore, Error, Manifest, PartFile, PartKind, Result, to_delete,
};

#[cfg(test)]
mod tests;

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
    ReadPart(CheckpointId),
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
    /// Half of what it writes is written, then it fails.
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

#[derive(Default)]
struct Shared {
    checkpoints: BTreeMap<CheckpointId, Checkpoint>,
    greatest: CheckpointId,
    hook: Option<FaultHook>,
    crashed: bool,
}

#[derive(Default)]
struct Checkpoint {
    /// The published manifest, encoded.
    manifest: Option<Vec<u8>>,
    parts: BTreeMap<String, Vec<u8>>,
    is_committed: bool,
}

impl MemoryStore {
    /// An empty store for a job.
    pub fn new(job: &str) -> Self {
        Self { job: job.to_owned(), shared: Arc::default() }
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
        shared.checkpoints.retain(|_, checkpoint| checkpoint.manifest.is_some());
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic elsewhere cannot leave the maps half changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, id: CheckpointId) -> PathBuf {
        PathBuf::from(format!("memory/{id:010}"))
    }
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

    /// The end of an operation that took place.
    fn finish(&mut self, op: StoreOp, fault: StoreFault) -> Result<()> {
        match fault {
            StoreFault::None | StoreFault::Fail => Ok(()),
            StoreFault::Tear => Err(injected(op, "is torn")),
            StoreFault::CrashAfter => {
                self.crashed = true;
                Err(injected(op, "ends in a crash"))
            }
        }
    }

    fn published(&self) -> impl Iterator<Item = CheckpointId> {
        let all = self.checkpoints.iter();
        all.filter(|(_, checkpoint)| checkpoint.manifest.is_some()).map(|(id, _)| *id)
    }

    fn check_publishable(&self, job: &str, manifest: &Manifest) -> Result<()> {
        let id = manifest.id;
        let refused = |detail: String| Err(Error::Refused { id, detail });
        if manifest.job != job {
            return refused(format!("manifest names job {:?}, not {job:?}", manifest.job));
        }
        if let Some(newest) = self.published().last().filter(|newest| *newest >= id) {
            return refused(format!("checkpoint {newest} is published already"));
        }
        for part in manifest.part_files() {
            let stored = self.checkpoints.get(&id).and_then(|c| c.parts.get(&part.name));
            if stored.is_none_or(|bytes| bytes.len() as u64 != part.bytes) {
                return refused(format!("part {:?} is missing or incomplete", part.name));
            }
        }
        Ok(())
    }
}

impl CheckpointStore for MemoryStore {
    fn write_part(&mut self, id: CheckpointId, name: &str, bytes: &[u8]) -> Result<PartFile> {
        check_name(id, name)?;
        let mut shared = self.lock();
        let op = StoreOp::WritePart(id);
        let fault = shared.fault(op)?;
        shared.greatest = shared.greatest.max(id);
        let checkpoint = shared.checkpoints.entry(id).or_default();
        if checkpoint.manifest.is_some() {
            let detail = "it is published and cannot be changed".to_owned();
            return Err(Error::Refused { id, detail });
        }
        let written = if fault == StoreFault::Tear { bytes.len() / 2 } else { bytes.len() };
        checkpoint.parts.insert(name.to_owned(), bytes[..written].to_vec());
        shared.finish(op, fault)?;
        Ok(PartFile {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(bytes),
            kind: PartKind::Portable,
            files: Vec::new(),
        })
    }

    fn adopt_directory(&mut self, id: CheckpointId, name: &str, _dir: &Path) -> Result<PartFile> {
        let detail = format!("part {name:?} is a directory, which a store in memory does not keep");
        Err(Error::Refused { id, detail })
    }

    fn publish(&mut self, manifest: &Manifest) -> Result<()> {
        let bytes = manifest.encode()?;
        let mut shared = self.lock();
        let op = StoreOp::Publish(manifest.id);
        let fault = shared.fault(op)?;
        shared.greatest = shared.greatest.max(manifest.id);
        shared.check_publishable(&self.job, manifest)?;
        // A torn manifest never gets its name: it does not exist.
        if fault != StoreFault::Tear {
            shared.checkpoints.entry(manifest.id).or_default().manifest = Some(bytes);
        }
        shared.finish(op, fault)
    }

    fn latest(&self) -> Result<Option<Manifest>> {
        let newest = self.lock().published().last();
        newest.map(|id| self.load(id)).transpose()
    }

    fn load(&self, id: CheckpointId) -> Result<Manifest> {
        let mut shared = self.lock();
        let op = StoreOp::Load(id);
        let fault = shared.fault(op)?;
        let stored = shared.checkpoints.get(&id).and_then(|stored| stored.manifest.as_ref());
        let bytes = stored.ok_or_else(|| Error::NotFound { id, dir: self.place(id) })?;
        let manifest = Manifest::decode(&self.place(id).join("manifest"), bytes)?;
        if manifest.job != self.job {
            let (dir, expected) = (self.place(id), self.job.clone());
            return Err(Error::OtherJob { dir, found: manifest.job, expected });
        }
        shared.finish(op, fault)?;
        Ok(manifest)
    }

    fn read_part(&self, id: CheckpointId, part: &PartFile) -> Result<Vec<u8>> {
        let mut shared = self.lock();
        let op = StoreOp::ReadPart(id);
        let fault = shared.fault(op)?;
        let stored = shared.checkpoints.get(&id).and_then(|stored| stored.parts.get(&part.name));
        let bytes = stored.cloned().unwrap_or_default();
        if (bytes.len() as u64, crc32fast::hash(&bytes)) != (part.bytes, part.crc32) {
            let detail = "is missing or differs from what was written".to_owned();
            return Err(Error::Damaged { id, path: self.place(id).join(&part.name), detail });
        }
        shared.finish(op, fault)?;
        Ok(bytes)
    }

    fn part_directory(&self, id: CheckpointId, part: &PartFile) -> Result<PathBuf> {
        Err(Error::Refused { id, detail: format!("part {:?} is no directory", part.name) })
    }

    fn discard(&mut self, id: CheckpointId) -> Result<()> {
        let mut shared = self.lock();
        let op = StoreOp::Discard(id);
        let fault = shared.fault(op)?;
        let published = shared.checkpoints.get(&id).is_some_and(|c| c.manifest.is_some());
        if !published && fault != StoreFault::Tear {
            shared.checkpoints.remove(&id);
        }
        shared.finish(op, fault)
    }

    fn mark_committed(&mut self, id: CheckpointId) -> Result<()> {
        let mut shared = self.lock();
        if let Some(checkpoint) = shared.checkpoints.get_mut(&id) {
            checkpoint.is_committed = true;
        }
        Ok(())
    }

    fn is_committed(&self, id: CheckpointId) -> Result<bool> {
        Ok(self.lock().checkpoints.get(&id).is_some_and(|checkpoint| checkpoint.is_committed))
    }

    fn retain(&mut self, newest: usize) -> Result<()> {
        let mut shared = self.lock();
        let fault = shared.fault(StoreOp::Retain)?;
        let published: Vec<_> = shared.published().collect();
        for id in to_delete(&published, newest) {
            shared.checkpoints.remove(&id);
        }
        shared.finish(StoreOp::Retain, fault)
    }

    fn recover(&mut self) -> Result<()> {
        self.crash();
        Ok(())
    }

    fn list(&self) -> Result<Vec<CheckpointId>> {
        Ok(self.lock().published().collect())
    }

    fn next_id(&self) -> CheckpointId {
        self.lock().greatest.next()
    }
}

fn injected(op: StoreOp, what: &str) -> Error {
    Error::Injected { detail: format!("{op:?} {what}") }
}
