//! What the tests of this crate share: random numbers, a store in memory, all backends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::backend::BackendConfig;
use crate::buffer::EntryBuffer;
use crate::changes::{GatheredChanges, StreamItem};
use crate::error::Result;
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::portable::{PortableReader, PortableWriter};
use crate::restore::{LimitedRun, RestoreSource, RunMerge};
use crate::runs::RunSet;
use crate::state::{OperatorState, SnapshotPart};
use crate::state_key::StateKey;
use crate::store::{Space, SpillStore, Visit, VisitPlace};

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A spill store in memory.
#[derive(Default)]
pub(crate) struct MapStore {
    map: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MapStore {
    pub(crate) fn map(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.map.lock().expect("no test panics while it holds the lock")
    }
}

impl SpillStore for MapStore {
    fn read(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        value.clear();
        let map = self.map();
        let found = map.get(key);
        value.extend(found.into_iter().flatten());
        Ok(found.is_some())
    }

    fn read_sorted(&self, keys: &[&[u8]], f: &mut VisitPlace<'_>) -> Result<()> {
        assert!(keys.is_sorted());
        for (place, key) in keys.iter().enumerate() {
            let value = self.map().get(*key).cloned();
            value.map_or(Ok(()), |value| f(place, &value))?;
        }
        Ok(())
    }

    fn write(&self, entries: &mut EntryBuffer) -> Result<()> {
        let mut map = self.map();
        for entry in entries.sorted() {
            map.insert(entry.state_key.to_owned(), entry.value.to_owned());
        }
        Ok(())
    }

    fn remove(&self, keys: &[Vec<u8>]) -> Result<()> {
        let mut map = self.map();
        keys.iter().for_each(|key| drop(map.remove(key)));
        Ok(())
    }

    fn remove_space(&self, space: Space) -> Result<()> {
        self.map().retain(|key, _| !is_in(space, key));
        Ok(())
    }

    fn scan(&self, space: Space, f: &mut Visit<'_>) -> Result<()> {
        let map = self.map();
        map.iter().filter(|(key, _)| is_in(space, key)).try_for_each(|(key, value)| f(key, value))
    }
}

fn is_in((table, namespace, groups): Space, key: &[u8]) -> bool {
    let key = StateKey::decode(key).expect("a state key");
    (key.table, key.namespace) == (table, namespace) && groups.contains(key.key_group)
}

/// The runs that an operator's changes have become, as those who write them keep them.
#[derive(Default)]
pub(crate) struct Writer {
    runs: RunSet<LimitedRun>,
    complete: u64,
    /// Runs stay as they are.
    pub(crate) never_merges: bool,
}

impl Writer {
    /// One that goes on from a snapshot.
    pub(crate) fn restored(parts: &[RestoreSource], range: KeyGroupRange) -> Self {
        let mut writer = Writer::default();
        for (run, limit) in parts.iter().flat_map(RestoreSource::runs) {
            writer.runs.add(0, run.length(), (run.clone(), limit.intersection(range)));
        }
        writer
    }

    /// Takes what a stream has to give.
    pub(crate) fn take(&mut self, state: &OperatorState, count: KeyGroupCount) {
        let stream = state.stream().expect("snapshots are taken");
        while let Some(item) = stream.take() {
            match item {
                StreamItem::Changes(epoch, log) => {
                    let mut gathered = GatheredChanges::default();
                    gathered.add(log, &stream);
                    if let Some(bytes) = gathered.into_run(count, &stream).expect("encodes") {
                        let run = PortableReader::of_bytes(&bytes).expect("opens");
                        let all = KeyGroupRange::all(count);
                        self.runs.add(epoch, bytes.len() as u64, (run, all));
                    }
                }
                StreamItem::Emptied(epoch) => self.runs.empty(epoch),
                StreamItem::Complete { epoch, is_whole } => {
                    self.complete = epoch;
                    if is_whole {
                        self.runs.empty(epoch - 1);
                    }
                }
            }
        }
        if self.never_merges {
            return;
        }
        while let Some(plan) = self.runs.plan(self.complete) {
            let writer = PortableWriter::new(count);
            let mut merge =
                RunMerge::new(&plan.runs, plan.lies_over_nothing, writer).expect("opens");
            while !merge.step(100).expect("reads") {}
            let merged = merge.finish().expect("memory").map(|bytes| {
                let run = PortableReader::of_bytes(&bytes).expect("opens");
                (bytes.len() as u64, (run, KeyGroupRange::all(count)))
            });
            assert!(self.runs.replace(&plan, merged));
        }
    }

    /// The snapshot of an epoch, which is complete.
    pub(crate) fn snapshot(&self, part: SnapshotPart) -> RestoreSource {
        let SnapshotPart::Epoch(epoch) = part else { panic!("there is state") };
        assert!(self.complete >= epoch, "epoch {epoch} is not complete");
        RestoreSource::new(self.runs.up_to(epoch).cloned().collect())
    }
}

/// Empty state on one backend, and what it needs to go on.
pub(crate) struct Bed {
    pub(crate) name: &'static str,
    pub(crate) state: OperatorState,
    #[cfg(feature = "rocksdb")]
    _directory: Option<tempfile::TempDir>,
}

impl Bed {
    fn new(name: &'static str, state: OperatorState) -> Self {
        Bed {
            name,
            state,
            #[cfg(feature = "rocksdb")]
            _directory: None,
        }
    }
}

/// The names of the backends.
pub(crate) const BACKENDS: &[&str] = &[
    "memory",
    "map",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];

/// Empty state on every backend; those with a store keep `memory_bytes` in memory.
pub(crate) fn beds(memory_bytes: usize, range: KeyGroupRange, count: KeyGroupCount) -> Vec<Bed> {
    BACKENDS.iter().map(|backend| bed(backend, memory_bytes, range, count)).collect()
}

/// Empty state on one backend.
pub(crate) fn bed(
    backend: &str,
    memory_bytes: usize,
    range: KeyGroupRange,
    count: KeyGroupCount,
) -> Bed {
    match backend {
        "map" => {
            let store: Arc<dyn SpillStore> = Arc::new(MapStore::default());
            let store = Some((store, memory_bytes));
            Bed::new("map", OperatorState::with_store(store, range, count))
        }
        #[cfg(feature = "rocksdb")]
        "rocksdb" => rocks_bed(memory_bytes, range, count),
        _ => {
            let memory = OperatorState::open(BackendConfig::Memory, range, count);
            Bed::new("memory", memory.expect("memory opens"))
        }
    }
}

#[cfg(feature = "rocksdb")]
fn rocks_bed(memory_bytes: usize, range: KeyGroupRange, count: KeyGroupCount) -> Bed {
    let directory = tempfile::tempdir().expect("makes a directory");
    let config = BackendConfig::RocksDb {
        directory: directory.path().join("operator"),
        memory_bytes,
        shared: crate::rocks::RocksShared::new(8 << 20, 1),
    };
    let state = OperatorState::open(config, range, count).expect("opens");
    Bed { _directory: Some(directory), ..Bed::new("rocksdb", state) }
}
