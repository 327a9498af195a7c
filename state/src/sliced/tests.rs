//! Tests of sliced tables: against maps by namespace, evictions, dropped slices.

use std::collections::BTreeMap;

use super::*;
use crate::hash_key;
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::state_key::TableId;
use crate::testing::{Bed, SplitMix, beds};

type Model = BTreeMap<Namespace, BTreeMap<String, u64>>;

fn all_beds(memory_bytes: usize) -> Vec<Bed> {
    let count = KeyGroupCount::default();
    beds(memory_bytes, KeyGroupRange::all(count), count)
}

fn hash(key: &String) -> u64 {
    hash_key(key).expect("hashes")
}

fn contents(sliced: &mut SlicedTable<String, u64>) -> Model {
    let namespaces: Vec<Namespace> = sliced.namespaces().collect();
    assert!(namespaces.is_sorted());
    let mut model = Model::new();
    for namespace in namespaces {
        let slice = sliced.get_slice(namespace).expect("is there");
        let mut entries = BTreeMap::new();
        slice
            .for_each(|key, _, value| {
                assert!(entries.insert(key.clone(), *value).is_none());
            })
            .expect("reads");
        model.insert(namespace, entries);
    }
    model
}

#[test]
fn sliced_tables_do_what_sorted_maps_do() {
    for seed in 0..4 {
        for mut bed in all_beds(6_000) {
            let mut random = SplitMix(seed);
            let mut sliced = bed.state.sliced::<String, u64>(TableId(1));
            let mut model = Model::new();
            for _ in 0..5_000 {
                let start = random.below(8) as i64 * 10 - 40;
                let namespace = Namespace(start, start + 10 * (1 + random.below(2) as i64));
                let key = format!("key {}", random.below(40));
                match random.below(100) {
                    0..70 => {
                        let slice = sliced.slice(namespace);
                        slice.update(hash(&key), &key, || 0, |v| *v += 1).expect("updates");
                        *model.entry(namespace).or_default().entry(key).or_default() += 1;
                    }
                    70..85 => {
                        let found = sliced.get_slice(namespace);
                        let found = found.map(|s| s.remove(hash(&key), &key).expect("removes"));
                        let expected = model.get_mut(&namespace).map(|m| m.remove(&key));
                        assert_eq!(found, expected);
                    }
                    85..88 => {
                        sliced.drop_slice(namespace).expect("drops");
                        model.remove(&namespace);
                    }
                    88..92 => sliced.evict(random.below(4) as usize).expect("evicts"),
                    92..99 => {
                        sliced.relieve().expect("relieves");
                        check_sizes(&sliced, &bed);
                    }
                    _ => assert_eq!(contents(&mut sliced), model, "{}", bed.name),
                }
            }
            assert_eq!(contents(&mut sliced), model, "{}", bed.name);
            assert_eq!(sliced.len(), model.values().map(BTreeMap::len).sum::<usize>());
        }
    }
}

/// What was counted is what there is: sizes are only counted of slices that may have changed.
fn check_sizes(sliced: &SlicedTable<String, u64>, bed: &Bed) {
    if bed.name == "memory" {
        return;
    }
    for slice in sliced.slices.values() {
        let (entries, bytes) = (slice.table.len_in_memory(), slice.bytes);
        assert_eq!(bytes, entries * slice.table.entry_bytes(), "{}: {entries}", bed.name);
    }
    let sum: usize = sliced.slices.values().map(|slice| slice.bytes).sum();
    assert_eq!(sliced.bytes, sum, "{}", bed.name);
}

#[test]
fn the_slices_not_asked_for_the_longest_go_first() {
    for mut bed in all_beds(50_000) {
        let mut sliced = bed.state.sliced::<String, u64>(TableId(1));
        for start in 0..5 {
            for key in 0..50 {
                let key = format!("key {key}");
                sliced.slice(Namespace(start, start)).insert(hash(&key), &key, 1).expect("inserts");
            }
        }
        sliced.slice(Namespace(0, 0));
        sliced.evict(2).expect("evicts");
        let in_memory: Vec<bool> =
            sliced.slices.values().map(|slice| slice.table.len_in_memory() > 0).collect();
        let expected = match bed.name {
            "memory" => [true; 5],
            _ => [true, false, false, true, true],
        };
        assert_eq!(in_memory, expected, "{}", bed.name);
        assert_eq!((sliced.len(), sliced.namespaces().count()), (250, 5));
        // An order that was made before a slice was asked for does not count for it.
        sliced.slice(Namespace(3, 3));
        sliced.evict(1).expect("evicts");
        let has_gone = sliced.slices[&Namespace(4, 4)].table.len_in_memory() == 0;
        assert_eq!(has_gone, bed.name != "memory", "{}", bed.name);
    }
}

#[test]
fn memory_is_relieved_by_whole_slices() {
    for mut bed in all_beds(100_000) {
        let mut sliced = bed.state.sliced::<String, u64>(TableId(1));
        for start in 0..50 {
            for key in 0..100 {
                let key = format!("key {key}");
                sliced.slice(Namespace(start, start)).insert(hash(&key), &key, 1).expect("inserts");
            }
            sliced.relieve().expect("relieves");
            assert!(!bed.state.over_budget(), "{}", bed.name);
        }
        assert_eq!(sliced.len(), 5_000);
        if bed.name != "memory" {
            assert!((200..1_500).contains(&sliced.len_in_memory()), "{}", sliced.len_in_memory());
        }
    }
}
