//! What one record costs in a table: single updates and batches, against a `BTreeMap`.
//!
//! `cargo bench -p thalweg-state --no-default-features --bench table`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use thalweg_state::{
    BackendConfig, KeyGroupCount, KeyGroupRange, OperatorState, TableId, hash_key,
};

/// Records of a batch.
const BATCH: usize = 1_024;

/// Keys in a random order that repeats (splitmix64).
fn keys(number: u64, records: usize) -> Vec<u64> {
    let mut state = 42_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..records).map(|_| next() % number).collect()
}

/// The best of three runs, in nanoseconds per record.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn measure(records: usize, mut run: impl FnMut()) -> f64 {
    (0..3)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_nanos() as f64 / records as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn main() {
    println!("{:>9}  {:>7}  {:>7}  {:>7}  {:>9}", "keys", "hash", "update", "batch", "BTreeMap");
    for number in [1_000, 100_000, 5_000_000] {
        let records = if number > 1_000_000 { 10_000_000 } else { 5_000_000 };
        let keys = keys(number, records);
        let hash = |key: &u64| hash_key(key).expect("integers hash");
        let hashes: Vec<u64> = keys.iter().map(hash).collect();
        let count = KeyGroupCount::default();
        let mut state =
            OperatorState::open(BackendConfig::Memory, KeyGroupRange::all(count), count)
                .expect("memory opens");

        let hashing = measure(records, || {
            black_box(keys.iter().fold(0, |sum, key| sum ^ hash(key)));
        });
        let mut table = state.table::<u64, u64>(TableId(0));
        let single = measure(records, || {
            for (key, &hash) in keys.iter().zip(&hashes) {
                table.update(hash, key, || 0, |value| *value += 1).expect("no store to fail");
            }
        });
        let mut table = state.table::<u64, u64>(TableId(1));
        let batch = measure(records, || {
            for (keys, hashes) in keys.chunks(BATCH).zip(hashes.chunks(BATCH)) {
                table
                    .update_batch(hashes, |i| &keys[i], || 0, |_, value| *value += 1)
                    .expect("no store to fail");
            }
        });
        let mut map = BTreeMap::<u64, u64>::new();
        let sorted = measure(records, || {
            for key in &keys {
                *map.entry(*key).or_default() += 1;
            }
        });
        println!("{number:>9}  {hashing:>7.1}  {single:>7.1}  {batch:>7.1}  {sorted:>9.1}");
        drop(black_box((table, map)));
    }
}
