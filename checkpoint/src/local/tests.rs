//! Tests of the store in a directory: what survives, what is refused, and what each damage says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::LocalStore;
use crate::manifest::sample;
use crate::{
    CheckpointId, CheckpointStore, Error, ErrorKind, Manifest, OperatorPart, PartFile, SubtaskId,
    SubtaskRecord, SubtaskSnapshot,
};

mod durability;

const ID: CheckpointId = CheckpointId(7);

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a scratch directory")
}

fn open(dir: &Path) -> LocalStore {
    LocalStore::open(dir, "sample").expect("the directory is free")
}

/// A manifest of these parts.
fn manifest(id: CheckpointId, parts: &[PartFile]) -> Manifest {
    let operator = |(index, part): (usize, &PartFile)| OperatorPart {
        operator: format!("operator {index}"),
        file: Some(part.clone()),
        key_groups: (0, 128),
        watermark: 0,
    };
    let operators = parts.iter().enumerate().map(operator).collect();
    let snapshot = SubtaskSnapshot { operators, ..SubtaskSnapshot::default() };
    let subtasks = vec![SubtaskRecord { subtask: SubtaskId::default(), snapshot }];
    Manifest { id, subtasks, ..sample::manifest() }
}

fn publish(store: &mut LocalStore, id: u64) -> PartFile {
    let part = store.write_part(CheckpointId(id), "part", b"contents").expect("writes");
    store.publish(&manifest(CheckpointId(id), std::slice::from_ref(&part))).expect("publishes");
    part
}

fn numbers(store: &LocalStore) -> Vec<u64> {
    store.list().expect("lists").into_iter().map(|id| id.0).collect()
}

fn file(dir: &Path, id: u64, name: &str) -> PathBuf {
    dir.join(format!("checkpoints/{id:010}")).join(name)
}

#[test]
fn what_is_published_is_found_again() {
    let dir = scratch();
    let mut store = open(dir.path());
    assert!(store.latest().expect("reads").is_none());
    assert_eq!(store.next_id(), CheckpointId(1));
    let part = publish(&mut store, 7);
    drop(store);
    let store = open(dir.path());
    let found = store.latest().expect("sound").expect("published");
    assert_eq!(found, manifest(ID, std::slice::from_ref(&part)));
    assert_eq!(store.read_part(ID, &part).expect("sound"), b"contents");
    assert_eq!(store.next_id(), CheckpointId(8));
    assert!(matches!(store.load(CheckpointId(6)), Err(Error::NotFound { .. })));
}

#[test]
fn what_is_not_published_is_deleted_at_open() {
    let dir = scratch();
    let mut store = open(dir.path());
    publish(&mut store, 7);
    store.write_part(CheckpointId(8), "part", b"half").expect("writes");
    fs::write(file(dir.path(), 8, "manifest.tmp"), b"thalweg-manif").expect("writes");
    fs::write(store.work_directory().join("scratch"), b"").expect("writes");
    fs::create_dir(dir.path().join("checkpoints/mine")).expect("creates");
    drop(store);
    let store = open(dir.path());
    assert_eq!(numbers(&store), [7]);
    assert!(!file(dir.path(), 8, "").exists());
    assert!(!store.work_directory().join("scratch").exists());
    assert!(dir.path().join("checkpoints/mine").exists(), "not made by the store");
    assert_eq!(store.next_id(), CheckpointId(9), "a number is not used again");
}

#[test]
fn a_damaged_manifest_stops_the_job_and_deletes_nothing() {
    let dir = scratch();
    let mut store = open(dir.path());
    publish(&mut store, 7);
    publish(&mut store, 8);
    store.write_part(CheckpointId(9), "part", b"half").expect("writes");
    drop(store);
    let path = file(dir.path(), 8, "manifest");
    let mut bytes = fs::read(&path).expect("reads");
    bytes[100] ^= 1;
    fs::write(&path, bytes).expect("writes");
    let store = open(dir.path());
    let error = store.latest().expect_err("damaged");
    assert!(matches!(&error, Error::Damaged { id, .. } if id.0 == 8), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("0000000008/manifest"), "{error}");
    assert!(file(dir.path(), 9, "part").exists());
    // The one before it can be asked for by name.
    assert_eq!(store.load(ID).expect("sound").id, ID);
}

#[test]
fn a_manifest_of_another_number_is_damage() {
    let dir = scratch();
    publish(&mut open(dir.path()), 7);
    fs::rename(file(dir.path(), 7, ""), file(dir.path(), 9, "")).expect("renames");
    let error = open(dir.path()).latest().expect_err("moved");
    assert!(error.to_string().contains("manifest of checkpoint 7"), "{error}");
}

#[test]
fn every_damage_of_a_part_is_found() {
    let dir = scratch();
    let mut store = open(dir.path());
    let part = publish(&mut store, 7);
    let path = file(dir.path(), 7, "part");
    let sound = fs::read(&path).expect("reads");
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, bytes).expect("writes");
        let error = store.read_part(ID, &part).expect_err("one bit differs");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        fs::write(&path, &sound[..at]).expect("writes");
        assert!(store.read_part(ID, &part).is_err(), "{at} bytes");
    }
    fs::remove_file(&path).expect("deletes");
    let error = store.read_part(ID, &part).expect_err("missing");
    assert!(error.to_string().contains("0000000007/part: is missing"), "{error}");
}

fn table_files(dir: &Path, names: &[&str]) {
    fs::create_dir(dir).expect("creates");
    for name in names {
        fs::write(dir.join(name), format!("contents of {name}")).expect("writes");
    }
}

#[test]
fn a_directory_is_adopted_and_checked() {
    let dir = scratch();
    let mut store = open(dir.path());
    let made = store.work_directory().join("made");
    table_files(&made, &["2.sst", "1.sst", "CURRENT"]);
    let part = store.adopt_directory(ID, "table", &made).expect("moves");
    assert!(!made.exists());
    let names: Vec<_> = part.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["1.sst", "2.sst", "CURRENT"]);
    assert_eq!(part.bytes, 17 + 17 + 19);
    store.publish(&manifest(ID, std::slice::from_ref(&part))).expect("publishes");
    let path = store.part_directory(ID, &part).expect("sound");
    let table = path.join("2.sst");
    fs::write(&table, b"contents of 2.ssT").expect("writes");
    let error = store.part_directory(ID, &part).expect_err("damaged");
    assert!(error.to_string().contains("table/2.sst"), "{error}");
    fs::remove_file(&table).expect("deletes");
    assert!(store.part_directory(ID, &part).is_err());
    // File and directory are not mixed up.
    assert_eq!(store.read_part(ID, &part).expect_err("no file").kind(), ErrorKind::Bug);
}

#[test]
fn a_directory_within_a_directory_is_refused() {
    let dir = scratch();
    let mut store = open(dir.path());
    let made = store.work_directory().join("made");
    fs::create_dir_all(made.join("nested")).expect("creates");
    let error = store.adopt_directory(ID, "table", &made).expect_err("not a plain file");
    assert!(error.to_string().contains("nested"), "{error}");
}

#[test]
fn one_process_at_a_time() {
    let dir = scratch();
    let first = open(dir.path());
    let error = LocalStore::open(dir.path(), "sample").expect_err("in use");
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
    drop(first);
    open(dir.path());
}

#[test]
fn another_job_is_refused_and_loses_nothing() {
    let dir = scratch();
    let mut store = open(dir.path());
    publish(&mut store, 7);
    store.write_part(CheckpointId(8), "part", b"half").expect("writes");
    fs::write(store.work_directory().join("scratch"), b"").expect("writes");
    drop(store);
    let error = LocalStore::open(dir.path(), "other").expect_err("of another job");
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("\"sample\"") && text.contains("\"other\""), "{text}");
    assert!(file(dir.path(), 8, "part").exists());
    assert!(dir.path().join("work/scratch").exists());
}

#[test]
fn useless_paths_say_why() {
    let dir = scratch();
    let path = dir.path().join("file");
    fs::write(&path, b"").expect("writes");
    let error = LocalStore::open(&path, "sample").expect_err("a file");
    assert!(matches!(error, Error::NotADirectory { .. }), "{error}");
    let error = LocalStore::open(&path.join("below"), "sample").expect_err("below a file");
    assert!(matches!(&error, Error::NotADirectory { path: file } if *file == path), "{error}");
    let deep = dir.path().join("a/b/c");
    LocalStore::open(&deep, "sample").expect("what is above is created");
    assert!(deep.join("LOCK").exists());
    fs::write(dir.path().join("checkpoints"), b"").expect("writes");
    let error = LocalStore::open(dir.path(), "sample").expect_err("a file in the way");
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

#[test]
fn a_published_checkpoint_is_not_changed() {
    let dir = scratch();
    let mut store = open(dir.path());
    let part = publish(&mut store, 7);
    assert!(store.write_part(ID, "more", b"").is_err());
    assert!(store.publish(&manifest(ID, &[part])).is_err());
    assert!(store.publish(&manifest(CheckpointId(6), &[])).is_err());
    store.discard(ID).expect("does nothing");
    assert_eq!(numbers(&store), [7]);
}

#[test]
fn a_manifest_without_its_parts_is_refused() {
    let dir = scratch();
    let mut store = open(dir.path());
    let missing = sample::part("part", b"contents");
    let error = store.publish(&manifest(ID, std::slice::from_ref(&missing))).expect_err("missing");
    assert!(error.to_string().contains("is missing"), "{error}");
    store.write_part(ID, "part", b"content").expect("writes");
    assert!(store.publish(&manifest(ID, &[missing])).is_err(), "too short");
    let other = Manifest { job: "other".into(), ..manifest(ID, &[]) };
    assert!(store.publish(&other).is_err());
    assert_eq!(numbers(&store), [0; 0]);
}

#[test]
fn old_checkpoints_go_and_so_do_late_parts_of_aborted_ones() {
    let dir = scratch();
    let mut store = open(dir.path());
    for id in [2, 3, 5, 8] {
        publish(&mut store, id);
    }
    for id in [4, 9] {
        store.write_part(CheckpointId(id), "part", b"late").expect("writes");
    }
    store.retain(2).expect("deletes");
    assert_eq!(numbers(&store), [5, 8]);
    for (id, stays) in [(2, false), (3, false), (4, false), (5, true), (8, true), (9, true)] {
        assert_eq!(file(dir.path(), id, "").exists(), stays, "{id}");
    }
    store.discard(CheckpointId(9)).expect("deletes");
    store.discard(CheckpointId(9)).expect("nothing to delete");
    assert!(!file(dir.path(), 9, "").exists());
}
