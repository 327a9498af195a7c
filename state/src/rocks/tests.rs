//! Tests of the RocksDB backend by itself: scratch, checkpoints, damage.

use super::*;
use crate::backend::BackendConfig;
use crate::key_group::KeyGroupCount;
use crate::restore::{RestoreSource, SnapshotPartRef};
use crate::state::{OperatorState, SnapshotPart};
use crate::table::Table;

type Counts = Table<u64, u64>;

const TABLE: TableId = TableId(3);

fn open(directory: &Path) -> (OperatorState, Counts) {
    let count = KeyGroupCount::default();
    let config = BackendConfig::RocksDb {
        directory: directory.to_owned(),
        memory_bytes: 1 << 20,
        shared: RocksShared::new(4 << 20),
    };
    let mut state = OperatorState::open(config, KeyGroupRange::all(count), count).expect("opens");
    let table = state.table(TABLE);
    (state, table)
}

fn add(table: &mut Counts, keys: std::ops::Range<u64>) {
    for key in keys {
        let hash = crate::hash_key(&key).expect("hashes");
        table.update(hash, &key, || 0, |value| *value += key).expect("updates");
    }
}

fn snapshot(state: &mut OperatorState, table: &mut Counts) -> PathBuf {
    let mut snapshot = state.begin_snapshot();
    table.snapshot_into(&mut snapshot).expect("flushes");
    match state.finish_snapshot(snapshot).expect("finishes") {
        SnapshotPart::Directory(path) => path,
        other => panic!("{other:?}"),
    }
}

fn restore(path: &Path) -> Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let source = RestoreSource::open(SnapshotPartRef::Directory(path))?;
    source.for_each(KeyGroupRange::new(0, 128), |key, value| {
        found.push((crate::codec::decode_key(key.key)?, crate::codec::decode(value)?));
        Ok(())
    })?;
    found.sort_unstable();
    Ok(found)
}

fn files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .expect("lists")
        .map(|entry| entry.expect("lists").path())
        .map(|path| (path.clone(), fs::read(&path).expect("reads")))
        .collect();
    files.sort();
    files
}

#[test]
fn checkpoints_hold_what_was_there_and_never_change() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let (mut state, mut table) = open(&directory.path().join("a"));
    add(&mut table, 0..1_000);
    let first = snapshot(&mut state, &mut table);
    let first_files = files(&first);
    add(&mut table, 500..2_000);
    table.evict(700).expect("evicts");
    let second = snapshot(&mut state, &mut table);
    add(&mut table, 0..3_000);
    table.clear().expect("clears");
    // A checkpoint is moved, and the database goes, before anyone reads it.
    let moved = directory.path().join("moved");
    fs::rename(&second, &moved).expect("moves");
    let expected: Vec<(u64, u64)> = (0..1_000).map(|key| (key, key)).collect();
    assert_eq!(restore(&first).expect("reads"), expected);
    assert_eq!(files(&first), first_files, "reading leaves no trace");
    drop((state, table));
    let twice = |key| if (500..1_000).contains(&key) { 2 * key } else { key };
    let expected: Vec<(u64, u64)> = (0..2_000).map(|key| (key, twice(key))).collect();
    assert_eq!(restore(&moved).expect("reads"), expected);
}

#[test]
fn files_that_did_not_change_are_shared_by_checkpoints() {
    use std::os::unix::fs::MetadataExt;

    let directory = tempfile::tempdir().expect("makes a directory");
    let (mut state, mut table) = open(&directory.path().join("a"));
    add(&mut table, 0..10_000);
    let tables_of = |path: &Path| -> Vec<u64> {
        let entries = fs::read_dir(path).expect("lists").map(|entry| entry.expect("lists"));
        let tables = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "sst"));
        tables.map(|entry| entry.metadata().expect("is there").ino()).collect()
    };
    let first = tables_of(&snapshot(&mut state, &mut table));
    add(&mut table, 0..10);
    let second = tables_of(&snapshot(&mut state, &mut table));
    assert!(!first.is_empty());
    assert!(first.iter().all(|file| second.contains(file)), "{first:?} {second:?}");
}

#[test]
fn what_a_large_table_removes_at_once_is_gone() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let (mut state, mut table) = open(&directory.path().join("a"));
    add(&mut table, 0..10_000);
    snapshot(&mut state, &mut table);
    table.evict(6_000).expect("evicts");
    table.clear().expect("clears");
    add(&mut table, 7..12);
    table.evict(2).expect("evicts");
    add(&mut table, 7..12);
    let expected: Vec<(u64, u64)> = (7..12).map(|key| (key, 2 * key)).collect();
    assert_eq!(restore(&snapshot(&mut state, &mut table)).expect("reads"), expected);
}

#[test]
fn what_an_earlier_run_left_is_deleted() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("a");
    let (mut state, mut table) = open(&path);
    add(&mut table, 0..10);
    snapshot(&mut state, &mut table);
    drop((state, table));
    let (_state, mut table) = open(&path);
    assert!(table.is_empty());
    assert_eq!(table.get(crate::hash_key(&1_u64).expect("hashes"), &1).expect("reads"), None);
    assert!(!path.join("snapshot-0").exists());
}

#[test]
fn damaged_checkpoints_are_errors_that_name_the_directory() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let (mut state, mut table) = open(&directory.path().join("a"));
    add(&mut table, 0..2_000);
    let path = snapshot(&mut state, &mut table);
    // Hard links share their bytes with the database: damage a copy.
    let copy = directory.path().join("copy");
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).expect("makes");
        for (file, mut bytes) in files(&path) {
            let file_name = file.file_name().expect("has a name").to_string_lossy().into_owned();
            if file_name.contains(name) {
                change(&mut bytes);
            }
            fs::write(copy.join(file_name), bytes).expect("writes");
        }
        restore(&copy)
    };
    assert_eq!(damage("none", &|_| {}).expect("is sound").len(), 2_000);
    for name in [".sst", "MANIFEST", "CURRENT", "SEAL"] {
        let flipped = damage(name, &|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
        });
        let error = flipped.expect_err(name).to_string();
        assert!(error.contains("copy"), "{name}: {error}");
        assert!(damage(name, &|bytes| bytes.truncate(bytes.len() / 2)).is_err(), "{name}");
    }
    let missing = directory.path().join("missing");
    assert!(matches!(restore(&missing), Err(StateError::Io { .. })));
}
