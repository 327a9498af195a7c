//! Tests of the RocksDB backend by itself.

use super::*;
use crate::backend::BackendConfig;
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::state::OperatorState;
use crate::state_key::TableId;
use crate::table::Table;

type Counts = Table<u64, u64>;

const TABLE: TableId = TableId(3);

fn open(directory: &std::path::Path) -> (OperatorState, Counts) {
    let count = KeyGroupCount::default();
    let config = BackendConfig::RocksDb {
        directory: directory.to_owned(),
        memory_bytes: 1 << 20,
        shared: RocksShared::new(4 << 20, 1),
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

fn contents(table: &mut Counts) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    table.for_each(|key, _, value| found.push((*key, *value))).expect("reads");
    found.sort_unstable();
    found
}

#[test]
fn what_a_large_table_removes_at_once_is_gone() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let (_state, mut table) = open(&directory.path().join("a"));
    add(&mut table, 0..10_000);
    table.evict(6_000).expect("evicts");
    table.clear().expect("clears");
    add(&mut table, 7..12);
    table.evict(2).expect("evicts");
    add(&mut table, 7..12);
    let expected: Vec<(u64, u64)> = (7..12).map(|key| (key, 2 * key)).collect();
    assert_eq!(contents(&mut table), expected);
}

#[test]
fn what_an_earlier_run_left_is_deleted() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("a");
    let (state, mut table) = open(&path);
    add(&mut table, 0..10);
    table.evict(usize::MAX).expect("evicts");
    drop((state, table));
    let (_state, mut table) = open(&path);
    assert!(table.is_empty());
    assert_eq!(table.get(crate::hash_key(&1_u64).expect("hashes"), &1).expect("reads"), None);
}
