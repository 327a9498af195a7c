//! An exactly-once sink into memory: what a test collects.
//!
//! # Place
//! Writers buffer; `prepare_commit` moves the buffer into the shared store as *prepared*; the
//! committer moves it on to *visible*. The store is shared by all clones of the sink, so it
//! outlives the restarts that a test or the simulator brings about.
//!
//! # Invariants
//! * I1: an id of prepared output is given once in the life of a store.
//! * I2: records are visible only by a commit, each id's once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_engine::sink::{
    Committable, Committer, Sink, SinkWriter, Start, WriteStatus, WriterContext,
};
use thalweg_engine::{Batch, CheckpointId, Element, Error, ProcessingTime, Result};

use crate::rate::{RateLimited, limit_sink};

/// A sink into memory, and the handle that sees what was committed to it.
///
/// ```
/// let (numbers, collected) = thalweg_connectors::memory::sink::<u64>();
/// // … job.source(…).sink("numbers", numbers), run …
/// assert!(collected.take().is_empty());
/// # drop(numbers);
/// ```
pub fn sink<T: Element>() -> (MemorySink<T>, Collected<T>) {
    let shared = Arc::new(Mutex::new(Store::default()));
    (MemorySink { shared: shared.clone() }, Collected { shared })
}

/// The sink of [`sink`]. Exactly-once: records become visible when their checkpoint is complete,
/// or as they come where nothing is checkpointed.
///
/// A fresh start leaves in place what is visible already: one handle may collect several runs.
pub struct MemorySink<T> {
    shared: Arc<Mutex<Store<T>>>,
}

/// Sees the records that were committed to a [`MemorySink`].
pub struct Collected<T> {
    shared: Arc<Mutex<Store<T>>>,
}

struct Store<T> {
    next_id: u64,
    prepared: BTreeMap<u64, Vec<T>>,
    committed: BTreeSet<u64>,
    visible: Vec<T>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Store {
            next_id: 0,
            prepared: BTreeMap::new(),
            committed: BTreeSet::new(),
            visible: Vec::new(),
        }
    }
}

/// A panic of user code elsewhere does not make the store unusable: each change of it is whole.
fn lock<T>(shared: &Mutex<Store<T>>) -> MutexGuard<'_, Store<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Collected<T> {
    /// Takes what is visible, in the order of the commits; of one writer in order.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut lock(&self.shared).visible)
    }

    /// The number of visible records.
    pub fn len(&self) -> usize {
        lock(&self.shared).visible.len()
    }

    /// True if no record is visible.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of records that are prepared and not yet visible.
    pub fn prepared_len(&self) -> usize {
        lock(&self.shared).prepared.values().map(Vec::len).sum()
    }
}

impl<T: Clone> Collected<T> {
    /// A copy of what is visible.
    pub fn snapshot(&self) -> Vec<T> {
        lock(&self.shared).visible.clone()
    }
}

impl<T> Clone for Collected<T> {
    fn clone(&self) -> Self {
        Collected { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for Collected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> Clone for MemorySink<T> {
    fn clone(&self) -> Self {
        MemorySink { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for MemorySink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySink").finish_non_exhaustive()
    }
}

impl<T: Element> MemorySink<T> {
    /// This sink, taking no more than `records_per_second` over all its writers.
    pub fn records_per_second(self, records_per_second: u64) -> RateLimited<Self> {
        limit_sink(self, records_per_second)
    }
}

impl<T: Element> Sink for MemorySink<T> {
    type Item = T;

    fn writer(&self, context: &WriterContext) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(MemoryWriter {
            shared: self.shared.clone(),
            buffer: Vec::new(),
            rolls: context.commits_when_rolled,
            rolled: Vec::new(),
        }))
    }

    fn committer(&self) -> Result<Box<dyn Committer>> {
        Ok(Box::new(MemoryCommitter { shared: self.shared.clone() }))
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

struct MemoryWriter<T> {
    shared: Arc<Mutex<Store<T>>>,
    buffer: Vec<T>,
    rolls: bool,
    rolled: Vec<Committable>,
}

impl<T> MemoryWriter<T> {
    fn prepare(&mut self) -> Option<Committable> {
        if self.buffer.is_empty() {
            return None;
        }
        let mut store = lock(&self.shared);
        let id = store.next_id;
        store.next_id += 1;
        store.prepared.insert(id, std::mem::take(&mut self.buffer));
        Some(id.to_le_bytes().to_vec())
    }
}

impl<T: Element> SinkWriter<T> for MemoryWriter<T> {
    fn write(&mut self, batch: &mut Batch<T>, _now: ProcessingTime) -> Result<WriteStatus> {
        self.buffer.append(&mut batch.values);
        batch.clear();
        if self.rolls {
            let rolled = self.prepare();
            self.rolled.extend(rolled);
        }
        Ok(WriteStatus::Done)
    }

    fn prepare_commit(&mut self, _id: CheckpointId) -> Result<Vec<Committable>> {
        let mut committables = std::mem::take(&mut self.rolled);
        committables.extend(self.prepare());
        Ok(committables)
    }

    fn poll_rolled(&mut self) -> Vec<Committable> {
        std::mem::take(&mut self.rolled)
    }
}

struct MemoryCommitter<T> {
    shared: Arc<Mutex<Store<T>>>,
}

impl<T: Element> Committer for MemoryCommitter<T> {
    fn recover(&mut self, pending: &[Committable], _start: Start) -> Result<()> {
        self.commit(pending)?;
        lock(&self.shared).prepared.clear();
        Ok(())
    }

    fn commit(&mut self, committables: &[Committable]) -> Result<()> {
        let mut store = lock(&self.shared);
        for committable in committables {
            let id = committable.as_slice().try_into().map(u64::from_le_bytes).map_err(|_| {
                Error::corrupt("a committable of a sink into memory is not eight bytes long")
            })?;
            match store.prepared.remove(&id) {
                Some(mut records) => {
                    store.committed.insert(id);
                    store.visible.append(&mut records);
                }
                None if store.committed.contains(&id) => {}
                None => {
                    return Err(Error::corrupt(format!(
                        "output {id} of a sink into memory is gone: memory does not outlive its \
                         process"
                    )));
                }
            }
        }
        Ok(())
    }
}
