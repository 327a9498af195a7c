//! Every operation of a full checkpoint, an incremental one and rounds of retention fails in every
//! way: what is found afterwards is the newest checkpoint or the one before, byte for byte.

use std::path::{Path, PathBuf};

use super::model::{Contents, ELSEWHERE, Entries, Fault, Kind, Model};
use crate::local::Directory;
use crate::local::disk::{Disk, FileSystem};
use crate::repository::tests::script::{Script, adopted};
use crate::repository::tests::{large, options};
use crate::{CheckpointStore, Error, Repository, Result};

const DIR: &str = "store";

/// What the script runs on: a file system with hard links and the adopted file in it, or one
/// without, and the file in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Good,
    Poor,
}

impl System {
    fn run(self) -> PathBuf {
        match self {
            Self::Good => PathBuf::from("run"),
            Self::Poor => Path::new(ELSEWHERE).join("run"),
        }
    }
}

fn open(model: &Model) -> Result<Repository> {
    let disk = Disk::new(Box::new(model.clone()));
    let directory = Directory::open(Path::new(DIR), disk, &options(1), None)?;
    Repository::open(Box::new(directory), &options(1))
}

/// A disk with an empty directory and, beside it, a finished file that is not synced.
fn new_disk(system: System) -> Model {
    let model = Model::new(system == System::Good);
    for dir in [DIR, ELSEWHERE] {
        model.create_directory(Path::new(dir)).expect("an empty disk");
    }
    model.sync(Path::new("")).expect("exists");
    let written = model.create(&system.run()).and_then(|mut file| file.write(&adopted()));
    written.expect("an empty disk");
    model
}

/// What is on the disk can be restored, stays, and is built on.
fn check(script: &Script, model: &Model, story: &str) {
    let (store, newest) = script.restore(&|| open(model), story);
    // What a process has seen stays.
    let seen = open(&model.after_power_failure(Contents::Lost, Entries::Lost));
    let seen = seen.and_then(|store| store.latest());
    let seen = seen.unwrap_or_else(|error| panic!("{story}, and then again: {error}"));
    assert_eq!(seen.map_or(0, |manifest| manifest.id.0), newest, "{story}, and then again");
    let part = Script::go_on(store, story);
    let store = open(&model.after_power_failure(Contents::Lost, Entries::Lost));
    let store = store.unwrap_or_else(|error| panic!("{story}: {error}"));
    assert!(store.read_part(&part).expect("durable") == large(7), "{story}");
}

/// The disk as it is, and what it may hold if the power fails now.
pub(super) fn aftermaths(model: &Model) -> Vec<(String, Model)> {
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
fn strike(at: u64, fault: Fault, system: System, tries_again: bool) -> bool {
    let model = new_disk(system);
    model.plant(Some((at, fault)));
    let mut script = Script { tries_again, ..Script::default() };
    let opened = script.open(&|| open(&model));
    let struck_early = model.struck().is_some();
    let result = opened.and_then(|store| script.run(store, &system.run()));
    let is_within = model.operations() > at;
    let Some(kind) = model.struck() else { return is_within };
    let story = format!("{fault:?} at {at} ({kind:?}), {system:?}, tries again: {tries_again}");
    match fault {
        Fault::ShortWrite => assert!(result.is_ok(), "{story}: the rest is written"),
        Fault::CrashBefore | Fault::CrashAfter => assert!(model.is_off(), "{story}"),
        // A second try to open is a second store.
        _ if struck_early => assert!(result.is_ok() || !tries_again, "{story}"),
        _ if kind == Kind::Sync => {
            let error = result.expect_err("a failed sync is not passed over");
            assert_eq!(matches!(error, Error::Poisoned { .. }), tries_again, "{story}: {error}");
        }
        _ => assert!(result.is_ok() || !tries_again, "{story}: can be tried again: {result:?}"),
    }
    for (aftermath, disk) in aftermaths(&model) {
        check(&script, &disk, &format!("{story}, {aftermath}"));
    }
    is_within
}

fn strike_everywhere(system: System) {
    for tries_again in [false, true] {
        for fault in Fault::ALL {
            let struck = (0..).take_while(|at| strike(*at, fault, system, tries_again)).count();
            assert!(struck > 100, "{struck} operations");
        }
    }
}

#[test]
fn every_fault_at_every_operation_leaves_a_checkpoint_that_can_be_restored() {
    strike_everywhere(System::Good);
}

#[test]
fn so_it_does_where_there_are_no_hard_links_and_files_come_from_elsewhere() {
    strike_everywhere(System::Poor);
}

#[test]
fn without_a_fault_everything_is_durable_at_once() {
    for system in [System::Good, System::Poor] {
        let model = new_disk(system);
        let mut script = Script::default();
        let store = open(&model).expect("nothing fails");
        script.run(store, &system.run()).expect("nothing fails");
        assert_eq!(script.published, 3);
        for (aftermath, disk) in aftermaths(&model) {
            open(&disk).unwrap_or_else(|error| panic!("{aftermath}: {error}"));
            let files = disk.entries(Path::new("store/files")).expect("exists");
            assert_eq!(files.len(), 3, "{aftermath}: {files:?}");
            check(&script, &disk, &aftermath);
        }
    }
}
