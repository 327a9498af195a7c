//! A run of checkpoints that faults are planted into, and what must be found after each fault.

use std::path::Path;
use std::sync::Arc;

use super::{large, manifest};
use crate::{CheckpointId, CheckpointStore, LocalPart, PartFile, Repository, Result};

/// Opens the place of a run, as a new process does.
pub(crate) type Open<'a> = &'a dyn Fn() -> Result<Repository>;

/// The contents of the file that the run adopts.
pub(crate) fn adopted() -> Vec<u8> {
    large(9)
}

/// A full checkpoint, an incremental one with an adopted file, and one that drops older files; each
/// is followed by a round of retention.
#[derive(Default)]
pub(crate) struct Script {
    /// Parts by checkpoint, with their contents; the last one may not be published.
    pub(crate) checkpoints: Vec<Vec<(PartFile, Arc<Vec<u8>>)>>,
    /// The newest checkpoint that was reported as published.
    pub(crate) published: u64,
    /// Whether a call that fails is tried once more.
    pub(crate) tries_again: bool,
}

impl Script {
    /// Calls, and calls once more if that is the script's way.
    fn call<T>(&self, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        match call() {
            Err(_) if self.tries_again => call(),
            result => result,
        }
    }

    fn begin(&mut self, parts: Vec<(PartFile, Arc<Vec<u8>>)>) -> CheckpointId {
        self.checkpoints.push(parts);
        CheckpointId(self.checkpoints.len() as u64)
    }

    fn push(&mut self, part: PartFile, bytes: Vec<u8>) {
        self.checkpoints.last_mut().expect("one is begun").push((part, Arc::new(bytes)));
    }

    fn write(&mut self, store: &mut Repository, bytes: Vec<u8>) -> Result<()> {
        let id = CheckpointId(self.checkpoints.len() as u64);
        let part = self.call(|| store.write_part(id, "part", &bytes))?;
        self.push(part, bytes);
        Ok(())
    }

    /// Publishes the parts of the last checkpoint, and deletes the older one.
    fn publish(&mut self, store: &mut Repository) -> Result<()> {
        let id = self.checkpoints.len() as u64;
        let parts = self.checkpoints.last().into_iter().flatten();
        let manifest = manifest(id, &parts.map(|(part, _)| part).collect::<Vec<_>>());
        let is_published = |store: &Repository| {
            store.list().is_ok_and(|list| list.last() == Some(&CheckpointId(id)))
        };
        self.call(|| if is_published(store) { Ok(()) } else { store.publish(&manifest) })?;
        self.published = id;
        self.call(|| store.mark_committed(CheckpointId(id)))?;
        self.call(|| store.retain(1))
    }

    /// Opens the store; the first step of a run.
    pub(crate) fn open(&self, open: Open<'_>) -> Result<Repository> {
        self.call(open)
    }

    /// Everything behind that. `run` is a file of the contents [`adopted`].
    pub(crate) fn run(&mut self, mut store: Repository, run: &Path) -> Result<()> {
        self.begin(Vec::new());
        self.write(&mut store, large(1))?;
        self.write(&mut store, b"small".to_vec())?;
        self.publish(&mut store)?;
        let older = self.checkpoints[0].clone();
        let id = self.begin(older);
        let part = self.call(|| store.adopt_file(id, "run", run))?;
        self.push(part, adopted());
        self.write(&mut store, b"less".to_vec())?;
        self.publish(&mut store)?;
        let kept = self.checkpoints[1][2..].to_vec();
        self.begin(kept);
        self.write(&mut store, large(3))?;
        self.publish(&mut store)
    }

    /// What is found is the newest checkpoint that was reported or the one behind it, byte for
    /// byte. Gives the store and the checkpoint's number, 0 for none.
    pub(crate) fn restore(&self, open: Open<'_>, story: &str) -> (Repository, u64) {
        let store = open().unwrap_or_else(|error| panic!("{story}: {error}"));
        let newest = store.latest().unwrap_or_else(|error| panic!("{story}: {error}"));
        let newest = newest.map_or(0, |manifest| manifest.id.0);
        let begun = self.checkpoints.len() as u64;
        assert!((self.published..=begun).contains(&newest), "{story}: {newest}");
        assert!(newest + 1 >= begun, "{story}: {newest} of {begun}");
        let parts = (newest as usize).checked_sub(1).map(|at| &self.checkpoints[at]);
        for (part, expected) in parts.into_iter().flatten() {
            let found = store.read_part(part).unwrap_or_else(|error| panic!("{story}: {error}"));
            assert!(found == **expected, "{story}: other bytes in {part:?}");
            let local = store.local_part(part).unwrap_or_else(|error| panic!("{story}: {error}"));
            assert_eq!(matches!(local, LocalPart::File(_)), part.bytes >= 64 << 10, "{story}");
        }
        (store, newest)
    }

    /// The store works again: takes one more checkpoint, of one part.
    pub(crate) fn go_on(mut store: Repository, story: &str) -> PartFile {
        let next = store.next_id();
        let part = store.write_part(next, "next", &large(7));
        let part = part.unwrap_or_else(|error| panic!("{story}: {error}"));
        let published = store.publish(&manifest(next.0, &[&part]));
        published.unwrap_or_else(|error| panic!("{story}: {error}"));
        store.retain(1).unwrap_or_else(|error| panic!("{story}: {error}"));
        part
    }
}
