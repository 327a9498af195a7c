//! Tests of a directory: its lock, its scratch space, and what each wrong path says.

use std::fs;
use std::io;
use std::path::Path;

use super::disk::Disk;
use super::system::System;
use super::{Directory, prepare};
use crate::objects::Objects;
use crate::repository::tests::{ID, numbers, options, publish};
use crate::{CheckpointId, CheckpointStore, Error, ErrorKind, Repository, StoreOptions};

mod faults;
mod model;
mod savepoints;

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch directory")
}

fn open(dir: &Path) -> Repository {
    Repository::open_directory(dir, &options(1)).expect("the directory is free")
}

/// A directory as several processes see it whose locks do not reach each other.
pub(crate) fn unlocked(dir: &Path) -> Box<dyn Objects> {
    let disk = Disk::new(Box::new(System));
    prepare(&disk, dir).expect("can be created");
    Box::new(Directory::open(dir, disk, &options(1), None).expect("opens"))
}

#[test]
fn unfinished_files_and_scratch_are_removed_at_open() {
    let dir = scratch();
    let mut store = open(dir.path());
    publish(&mut store, 7);
    let checkpoints = dir.path().join("checkpoints");
    for name in ["0000000008", "0000000009", "mine"] {
        fs::create_dir(checkpoints.join(name)).expect("creates");
    }
    let unfinished = checkpoints.join("0000000008/manifest.1-2-3.tmp");
    fs::write(&unfinished, b"thalweg-manif").expect("writes");
    let work = store.work_directory().expect("has one");
    assert_eq!(work, dir.path().join("work"));
    fs::create_dir_all(work.join("a/b")).expect("creates");
    fs::write(work.join("a/scratch"), b"").expect("writes");
    drop(store);
    let store = open(dir.path());
    assert_eq!(numbers(&store), [7]);
    assert!(!checkpoints.join("0000000008").exists());
    assert!(!checkpoints.join("0000000009").exists());
    assert!(checkpoints.join("mine").exists(), "not made by the store");
    assert_eq!(fs::read_dir(work).expect("exists").count(), 0);
    assert_eq!(store.next_id(), CheckpointId(10), "a number is not used again");
}

#[test]
fn scratch_space_elsewhere_goes_with_the_store() {
    let (dir, elsewhere) = (scratch(), scratch());
    let work_dir = Some(elsewhere.path().to_owned());
    let options = StoreOptions { work_dir, ..options(1) };
    let store = Repository::open_directory(dir.path(), &options).expect("opens");
    let work = store.work_directory().expect("has one");
    assert!(work.starts_with(elsewhere.path()) && work.exists());
    fs::write(work.join("scratch"), b"").expect("writes");
    drop(store);
    assert!(!work.exists());
    assert!(!dir.path().join("work").exists());
}

#[test]
fn one_process_at_a_time() {
    let dir = scratch();
    let first = open(dir.path());
    let second = Repository::open_directory(dir.path(), &options(2));
    let error = second.err().expect("in use");
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
    assert_eq!(error.kind(), ErrorKind::Fenced);
    drop(first);
    open(dir.path());
}

#[test]
fn useless_paths_say_why() {
    let open = |dir: &Path| Repository::open_directory(dir, &options(1));
    let dir = scratch();
    let path = dir.path().join("file");
    fs::write(&path, b"").expect("writes");
    let error = open(&path).err().expect("a file");
    assert!(matches!(error, Error::NotADirectory { .. }), "{error}");
    let error = open(&path.join("below")).err().expect("below a file");
    assert!(matches!(&error, Error::NotADirectory { path: file } if *file == path), "{error}");
    let deep = dir.path().join("a/b/c");
    open(&deep).expect("what is above is created");
    assert!(deep.join("LOCK").exists());
    fs::write(dir.path().join("checkpoints"), b"").expect("writes");
    let error = open(dir.path()).err().expect("a file in the way");
    assert!(error.to_string().contains("checkpoints"), "{error}");
}

#[test]
fn system_errors_say_what_to_do() {
    let path = Path::new("d/part");
    let full = Error::io("write", path, io::ErrorKind::StorageFull.into());
    let text = full.with_intact(Some(ID)).to_string();
    let expected = "no space left to write d/part: free space and start again, \
                    checkpoint 7 is intact";
    assert_eq!(text, expected);
    let denied = Error::io("create", path, io::ErrorKind::PermissionDenied.into());
    assert_eq!(denied.to_string(), "no permission to create d/part");
    assert_eq!(denied.kind(), ErrorKind::Config);
}
