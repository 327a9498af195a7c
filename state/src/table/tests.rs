//! Tests of tables: against a sorted map, under random operations, with and without a store.

use std::collections::BTreeMap;

use super::*;
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::state_key::TableId;
use crate::testing::{Bed, SplitMix, beds};
use crate::{hash_key, testing};

fn all_beds(memory_bytes: usize) -> Vec<Bed> {
    let count = KeyGroupCount::default();
    beds(memory_bytes, KeyGroupRange::all(count), count)
}

fn hash<K: Key>(key: &K) -> u64 {
    hash_key(key).expect("hashes")
}

/// All entries as `for_each` gives them, each once.
fn contents<K: Key + Ord, V: Data>(table: &mut Table<K, V>) -> BTreeMap<K, V> {
    let mut found = BTreeMap::new();
    table
        .for_each(|key, given, value| {
            assert_eq!(given, hash(key));
            assert!(found.insert(key.clone(), value.clone()).is_none(), "a key comes twice");
        })
        .expect("reads");
    found
}

/// One random operation on a table and on its model; `key` and `value` are drawn by the caller.
fn operate<K: Key + Ord + std::fmt::Debug>(
    random: &mut SplitMix,
    table: &mut Table<K, Vec<u64>>,
    model: &mut BTreeMap<K, Vec<u64>>,
    key: &K,
) -> Result<()> {
    let (h, value) = (hash(key), random.next());
    match random.below(100) {
        0..40 => {
            let length = table.update(h, key, Vec::new, |list| {
                list.push(value);
                list.len()
            })?;
            let list = model.entry(key.clone()).or_default();
            list.push(value);
            assert_eq!(length, list.len());
        }
        40..60 => assert_eq!(table.get(h, key)?, model.get(key)),
        60..75 => {
            table.insert(h, key, vec![value])?;
            model.insert(key.clone(), vec![value]);
        }
        75..94 => assert_eq!(table.remove(h, key)?, model.remove(key)),
        94..96 => table.evict(random.below(60) as usize)?,
        96..98 => table.relieve()?,
        98 => assert_eq!(contents(table), *model),
        _ if random.below(20) == 0 => {
            table.clear()?;
            model.clear();
        }
        _ => {}
    }
    assert_eq!(table.len(), model.len());
    assert_eq!(table.is_empty(), model.is_empty());
    Ok(())
}

fn check_model<K: Key + Ord + std::fmt::Debug>(seed: u64, key_of: impl Fn(u64) -> K) {
    for mut bed in all_beds(4_000) {
        let mut random = SplitMix(seed);
        let mut table = bed.state.table(TableId(3));
        // A neighbour must keep what it has, whatever the table removes.
        let mut neighbour = bed.state.table::<K, u64>(TableId(4));
        for i in 0..100 {
            neighbour.insert(hash(&key_of(i)), &key_of(i), i).expect("inserts");
        }
        neighbour.evict(50).expect("evicts");
        let mut model = BTreeMap::new();
        for step in 0..6_000 {
            let key = key_of(random.below(150));
            operate(&mut random, &mut table, &mut model, &key)
                .unwrap_or_else(|error| panic!("{} step {step}: {error}", bed.name));
        }
        assert_eq!(contents(&mut table), model, "{}", bed.name);
        assert_eq!(contents(&mut neighbour).len(), 100, "{}", bed.name);
    }
}

#[test]
fn tables_do_what_a_sorted_map_does() {
    for seed in 0..4 {
        check_model(seed, |key| key);
        check_model(seed, |key| format!("key {key}"));
        check_model(seed, |key| (key as u8 % 5, key.to_string()));
    }
}

#[test]
fn batches_do_what_single_updates_do() {
    for mut bed in all_beds(usize::MAX) {
        let mut random = SplitMix(9);
        let mut table = bed.state.table::<u64, u64>(TableId(0));
        let mut model = BTreeMap::<u64, u64>::new();
        for round in 0..60 {
            let keys: Vec<u64> = (0..random.below(1_000)).map(|_| random.below(20_000)).collect();
            let hashes: Vec<u64> = keys.iter().map(hash).collect();
            let mut calls = 0;
            table
                .update_batch(
                    &hashes,
                    |i| &keys[i],
                    || 1_000,
                    |i, value| {
                        assert_eq!(i, calls, "in order");
                        calls += 1;
                        *value += keys[i] + i as u64;
                    },
                )
                .expect("updates");
            assert_eq!(calls, keys.len());
            for (i, key) in keys.iter().enumerate() {
                *model.entry(*key).or_insert(1_000) += key + i as u64;
            }
            if round % 5 == 4 {
                // Entries become clean: a batch must mark what it changes.
                table.snapshot_into(&mut crate::Snapshot::default()).expect("flushes");
            }
            if round % 7 == 6 {
                table.evict(table.len_in_memory() / 8).expect("evicts");
            }
        }
        assert!(table.len_in_memory() > CACHED_ENTRIES, "both paths were taken");
        assert_eq!(contents(&mut table), model, "{}", bed.name);
    }
}

#[test]
fn equal_hashes_do_not_confuse_keys() {
    for mut bed in all_beds(usize::MAX) {
        let mut table = bed.state.table::<u64, u64>(TableId(0));
        let keys: Vec<u64> = (0..CACHED_ENTRIES as u64 + 100).collect();
        // Five hashes for all keys: batches meet candidates that are other keys.
        let collide = |key: u64| (key % 5) << 20;
        for &key in &keys {
            if key > 200 {
                table.insert(hash(&key), &key, key).expect("inserts");
            }
        }
        let hashes: Vec<u64> = (0..200).map(collide).collect();
        for _ in 0..2 {
            table
                .update_batch(&hashes, |i| &keys[i], || 0, |i, v| *v += i as u64)
                .expect("updates");
        }
        for key in 0..200 {
            assert_eq!(table.remove(collide(key), &key).expect("reads"), Some(2 * key));
        }
    }
}

#[test]
fn iteration_is_in_order_of_insertion() {
    for mut bed in all_beds(usize::MAX) {
        let mut table = bed.state.table::<u64, u64>(TableId(0));
        for key in [5, 3, 9, 1, 7] {
            table.insert(hash(&key), &key, key).expect("inserts");
        }
        table.update(hash(&3), &3, || 0, |v| *v += 1).expect("updates");
        table.remove(hash(&5), &5).expect("removes");
        let mut order = Vec::new();
        table.for_each(|&key, _, _| order.push(key)).expect("reads");
        assert_eq!(order, [7, 3, 9, 1], "the last one fills the gap");
    }
}

#[test]
fn memory_is_relieved_and_nothing_lost() {
    for mut bed in all_beds(64 << 10) {
        let mut small = bed.state.table::<u64, u64>(TableId(0));
        let mut large = bed.state.table::<u64, String>(TableId(1));
        for key in 0..20_000_u64 {
            if key < 50 {
                small.insert(hash(&key), &key, key).expect("inserts");
            }
            large.insert(hash(&key), &key, "x".repeat(40)).expect("inserts");
            if key % 100 == 99 {
                small.relieve().expect("relieves");
                large.relieve().expect("relieves");
                assert!(!bed.state.over_budget(), "{}", bed.name);
            }
        }
        if bed.name != "memory" {
            assert!(large.len_in_memory() < 1_000, "{}", large.len_in_memory());
            assert!(large.len_in_memory() > 100, "{}", large.len_in_memory());
        }
        assert_eq!(small.len_in_memory(), 50, "small tables stay");
        assert_eq!((large.len(), contents(&mut large).len()), (20_000, 20_000));
    }
}

#[test]
fn values_that_grow_are_noticed() {
    let mut bed = all_beds(100 << 10).remove(1);
    let mut table = bed.state.table::<u64, Vec<u64>>(TableId(0));
    for round in 0..3_000_u64 {
        for key in 0..10 {
            table.update(hash(&key), &key, Vec::new, |list| list.push(u64::MAX)).expect("updates");
        }
        table.relieve().expect("relieves");
        let in_memory = table.len_in_memory() as u64 * round * 8;
        assert!(in_memory < 2 * (100 << 10) + 10 * 256 * 8, "{in_memory} in round {round}");
    }
}

#[test]
fn one_large_value_is_noticed() {
    for mut bed in all_beds(10_000) {
        let mut table: Table<u64, Vec<u8>> = bed.state.table(TableId(0));
        table.insert(hash(&7), &7, vec![7; 100_000]).expect("inserts");
        table.relieve().expect("relieves");
        let spills = bed.name != "memory";
        assert_eq!(table.len_in_memory(), usize::from(!spills), "{}", bed.name);
        assert_eq!(table.get(hash(&7), &7).expect("reads"), Some(&vec![7; 100_000]));
    }
}

#[test]
fn clearing_a_table_that_spilled_clears_the_store() {
    check_clearing(1_000);
    check_clearing(10_000);
}

fn check_clearing(entries: u64) {
    let count = KeyGroupCount::default();
    let store = std::sync::Arc::new(testing::MapStore::default());
    let mut state = crate::OperatorState::with_store(
        Some((store.clone(), usize::MAX)),
        KeyGroupRange::all(count),
        count,
    );
    let mut table = state.table::<u64, u64>(TableId(7));
    let mut neighbour = state.table::<u64, u64>(TableId(8));
    for key in 0..entries {
        table.insert(hash(&key), &key, key).expect("inserts");
        neighbour.insert(hash(&key), &key, key).expect("inserts");
    }
    table.evict(entries as usize - 100).expect("evicts");
    assert_eq!(store.map().len() as u64, entries - 100);
    assert_eq!(table.remove(hash(&5), &5).expect("removes"), Some(5));
    assert_eq!(store.map().len() as u64, entries - 101);
    neighbour.evict(usize::MAX).expect("evicts");
    table.clear().expect("clears");
    assert!(table.is_empty());
    assert_eq!(store.map().len() as u64, entries, "the neighbour keeps its own");
    assert_eq!(table.get(hash(&6), &6).expect("reads"), None);
}

#[test]
fn state_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Table<String, Vec<u64>>>();
    is_send::<crate::SlicedTable<String, u64>>();
    is_send::<crate::OperatorState>();
    is_send::<crate::RestoreSource>();
    is_send::<crate::BackendConfig>();
}
