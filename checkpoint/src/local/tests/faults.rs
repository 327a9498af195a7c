//! Every operation of a full checkpoint, an incremental one and a round of retention fails in every
//! way: what is found afterwards is the newest checkpoint or the one before, byte for byte.

use std::path::Path;
use std::sync::Arc;

use super::model::{Contents, Entries, Fault, Model};
use crate::local::Directory;
use crate::local::disk::{Disk, FileSystem};
use crate::repository::tests::{large, manifest, options};
use crate::{CheckpointId, CheckpointStore, Error, LocalPart, PartFile, Repository, Result};

const DIR: &str = "store";

/// What a run has written, and how far it came.
#[derive(Default)]
struct Script {
    /// Parts by checkpoint, with their contents.
    checkpoints: Vec<Vec<(PartFile, Arc<Vec<u8>>)>>,
    /// The newest checkpoint that was reported as published.
    published: u64,
    /// Whether a call that fails is tried once more.
    tries_again: bool,
    /// Whether the fault struck while the store was being opened.
    struck_early: bool,
}

fn open(model: &Model) -> Result<Repository> {
    let disk = Disk::new(Box::new(model.clone()));
    let directory = Directory::open(Path::new(DIR), disk, &options(1), None)?;
    Repository::open(Box::new(directory), &options(1))
}

/// A disk with an empty directory and a finished file beside it.
fn new_disk() -> Model {
    let model = Model::new();
    let write = |path: &str, bytes: &[u8]| -> std::io::Result<()> {
        let mut file = model.create(Path::new(path))?;
        file.write(bytes)?;
        file.sync()
    };
    model.create_directory(Path::new(DIR)).expect("an empty disk");
    model.sync(Path::new("")).expect("exists");
    write("run", &large(9)).expect("an empty disk");
    model
}

impl Script {
    /// Calls, and calls once more if that is the script's way.
    fn call<T>(&self, mut call: impl FnMut() -> Result<T>) -> Result<T> {
        match call() {
            Err(_) if self.tries_again => call(),
            result => result,
        }
    }

    fn write(&mut self, store: &mut Repository, bytes: Vec<u8>) -> Result<()> {
        let id = CheckpointId(self.checkpoints.len() as u64);
        let part = self.call(|| store.write_part(id, "part", &bytes))?;
        self.push(part, bytes);
        Ok(())
    }

    fn push(&mut self, part: PartFile, bytes: Vec<u8>) {
        self.checkpoints.last_mut().expect("one is begun").push((part, Arc::new(bytes)));
    }

    /// Publishes the parts of the newest checkpoint, and deletes the older one.
    fn publish(&mut self, store: &mut Repository) -> Result<()> {
        let id = self.checkpoints.len() as u64;
        let parts: Vec<_> =
            self.checkpoints.last().into_iter().flatten().map(|(part, _)| part.clone()).collect();
        let manifest = manifest(id, &parts.iter().collect::<Vec<_>>());
        let is_published = |store: &Repository| {
            store.list().is_ok_and(|list| list.last() == Some(&CheckpointId(id)))
        };
        self.call(|| if is_published(store) { Ok(()) } else { store.publish(&manifest) })?;
        self.published = id;
        self.call(|| store.mark_committed(CheckpointId(id)))?;
        self.call(|| store.retain(1))
    }

    /// A full checkpoint, an incremental one with an adopted run, and one that drops older runs.
    fn run(&mut self, model: &Model) -> Result<()> {
        let opened = self.call(|| open(model));
        self.struck_early = model.struck().is_some();
        let mut store = opened?;
        self.checkpoints.push(Vec::new());
        self.write(&mut store, large(1))?;
        self.write(&mut store, b"small".to_vec())?;
        self.publish(&mut store)?;
        let older = self.checkpoints.last().cloned().unwrap_or_default();
        self.checkpoints.push(older);
        let id = CheckpointId(self.checkpoints.len() as u64);
        let part = self.call(|| store.adopt_file(id, "run", Path::new("run")))?;
        self.push(part, large(9));
        self.write(&mut store, b"less".to_vec())?;
        self.publish(&mut store)?;
        let kept = self.checkpoints.last().map(|parts| parts[2..].to_vec());
        self.checkpoints.push(kept.unwrap_or_default());
        self.write(&mut store, large(3))?;
        self.publish(&mut store)
    }

    /// What is on the disk is a checkpoint of this run, and a store that works.
    fn check(&self, model: &Model, story: &str) {
        model.plant(None);
        let mut store = open(model).unwrap_or_else(|error| panic!("{story}: {error}"));
        let newest = store.latest().unwrap_or_else(|error| panic!("{story}: {error}"));
        let newest = newest.map_or(0, |manifest| manifest.id.0);
        // What a process has seen stays.
        let failed = open(&model.after_power_failure(Contents::Lost, Entries::Lost));
        let seen = failed.and_then(|store| store.latest());
        let seen = seen.unwrap_or_else(|error| panic!("{story}, and then again: {error}"));
        assert_eq!(seen.map_or(0, |manifest| manifest.id.0), newest, "{story}, and then again");
        let attempted = self.checkpoints.len() as u64;
        assert!((self.published..=attempted).contains(&newest), "{story}: {newest}");
        assert!(newest + 1 >= attempted, "{story}: {newest} of {attempted}");
        let parts = (newest as usize).checked_sub(1).map(|at| &self.checkpoints[at]);
        for (part, expected) in parts.into_iter().flatten() {
            let found = store.read_part(part).unwrap_or_else(|error| panic!("{story}: {error}"));
            assert!(found == **expected, "{story}: other bytes in {part:?}");
            let local = store.local_part(part).unwrap_or_else(|error| panic!("{story}: {error}"));
            assert_eq!(matches!(local, LocalPart::File(_)), part.bytes >= 64 << 10, "{story}");
        }
        let next = store.next_id();
        let part = store.write_part(next, "next", &large(7)).expect("works again");
        store.publish(&manifest(next.0, &[&part])).expect("works again");
        store.retain(1).expect("works again");
        drop(store);
        let store = open(&model.after_power_failure(Contents::Lost, Entries::Lost));
        let store = store.unwrap_or_else(|error| panic!("{story}: {error}"));
        assert!(store.read_part(&part).expect("durable") == large(7), "{story}");
    }
}

/// The disk as it is, and what it may hold if the power fails now.
fn aftermaths(model: &Model) -> Vec<(String, Model)> {
    let mut all = Vec::new();
    if !model.is_off() {
        all.push(("the process ends".to_owned(), model.copy()));
    }
    for contents in [Contents::Lost, Contents::Torn, Contents::Present] {
        for entries in [Entries::Lost, Entries::Even, Entries::Odd, Entries::Present] {
            let story = format!("then contents {contents:?}, entries {entries:?}");
            all.push((story, model.after_power_failure(contents, entries)));
        }
    }
    all
}

/// Runs the script with a fault at an operation; false if the script has fewer.
fn strike(at: u64, fault: Fault, tries_again: bool) -> bool {
    let model = new_disk();
    model.plant(Some((at, fault)));
    let mut script = Script { tries_again, ..Script::default() };
    let result = script.run(&model);
    let is_within = model.operations() > at;
    let Some(kind) = model.struck() else { return is_within };
    let story = format!("{fault:?} at {at} ({kind:?}), tries again: {tries_again}");
    match fault {
        Fault::ShortWrite => assert!(result.is_ok(), "{story}: the rest is written"),
        // A second try to open is a second store.
        Fault::FailedSync if script.struck_early => assert_eq!(result.is_ok(), tries_again),
        Fault::FailedSync => {
            let error = result.expect_err("a failed sync is not passed over");
            assert_eq!(matches!(error, Error::Poisoned { .. }), tries_again, "{story}: {error}");
        }
        Fault::CrashBefore | Fault::CrashAfter => assert!(model.is_off(), "{story}"),
        _ => {}
    }
    for (aftermath, disk) in aftermaths(&model) {
        script.check(&disk, &format!("{story}, {aftermath}"));
    }
    is_within
}

#[test]
fn every_fault_at_every_operation_leaves_a_checkpoint_that_can_be_restored() {
    for tries_again in [false, true] {
        for fault in Fault::ALL {
            let struck = (0..).take_while(|at| strike(*at, fault, tries_again)).count();
            assert!(struck > 100, "{struck} operations");
        }
    }
}

#[test]
fn without_a_fault_everything_is_durable_at_once() {
    let model = new_disk();
    let mut script = Script::default();
    script.run(&model).expect("nothing fails");
    assert_eq!(script.published, 3);
    for (aftermath, disk) in aftermaths(&model) {
        open(&disk).unwrap_or_else(|error| panic!("{aftermath}: {error}"));
        let files = disk.entries(Path::new("store/files")).expect("exists");
        assert_eq!(files.len(), 3, "{aftermath}: {files:?}");
        script.check(&disk, &aftermath);
    }
}
