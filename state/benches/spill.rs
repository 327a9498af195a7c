//! State ten times larger than its memory: read-modify-write of 10 million keys, against RocksDB by
//! itself with get and put.
//!
//! `cargo bench -p thalweg-state --bench spill [-- RECORDS] [zipf|uniform] [table]`; `table` leaves
//! out RocksDB by itself.

use std::hint::black_box;
use std::time::Instant;

use rocksdb::{
    BlockBasedOptions, Cache, DB, MemtableFactory, Options, SliceTransform, WriteOptions,
};
use thalweg_state::{
    BackendConfig, KeyGroupCount, KeyGroupRange, OperatorState, RocksShared, TableId, hash_key,
};

const KEYS: u64 = 10_000_000;
/// Bytes that an entry of the table takes, with its part of the index.
const ENTRY_BYTES: usize = 56;
const BATCH: usize = 1_024;
/// RocksDB's memory, the same for both.
const CACHE_BYTES: usize = 64 << 20;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Keys after Gray et al., "Quickly Generating Billion-Record Synthetic Databases" (1994), with
/// exponent 0.99, scrambled.
fn zipf(records: usize) -> Vec<u64> {
    let theta = 0.99;
    let zeta = |n: u64| (1..=n).map(|i| (i as f64).powf(-theta)).sum::<f64>();
    let (all, two) = (zeta(KEYS), zeta(2));
    let alpha = 1.0 / (1.0 - theta);
    let eta = (1.0 - (2.0 / KEYS as f64).powf(1.0 - theta)) / (1.0 - two / all);
    let mut random = Random(7);
    let mut draw = || {
        let u = random.unit();
        let rank = match u * all {
            uz if uz < 1.0 => 0,
            uz if uz < 1.0 + 0.5_f64.powf(theta) => 1,
            _ => (KEYS as f64 * (eta * u - eta + 1.0).powf(alpha)) as u64,
        };
        rank.min(KEYS - 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS
    };
    (0..records).map(|_| draw()).collect()
}

fn uniform(records: usize) -> Vec<u64> {
    let mut random = Random(7);
    (0..records).map(|_| random.next() % KEYS).collect()
}

/// Million records a second.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn measure(records: usize, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    run();
    records as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn table(directory: &std::path::Path, keys: &[u64]) -> f64 {
    let count = KeyGroupCount::default();
    let config = BackendConfig::RocksDb {
        directory: directory.join("table"),
        // A fifth is for changes.
        memory_bytes: 1_000_000 * ENTRY_BYTES / 4 * 5,
        shared: RocksShared::new(CACHE_BYTES, 1),
    };
    let mut state = OperatorState::open(config, KeyGroupRange::all(count), count)
        .expect("opens")
        .without_snapshots();
    let mut table = state.table::<u64, u64>(TableId(0));
    let mut update = |keys: &[u64]| {
        let hashes: Vec<u64> = keys.iter().map(|key| hash_key(key).expect("hashes")).collect();
        table
            .update_batch(&hashes, |i| &keys[i], || 0, |_, value| *value += 1)
            .expect("reads and writes");
        table.relieve().expect("writes");
    };
    let all: Vec<u64> = (0..KEYS).collect();
    all.chunks(BATCH).for_each(&mut update);
    let speed = measure(keys.len(), || keys.chunks(BATCH).for_each(&mut update));
    black_box(table.len());
    speed
}

fn raw(directory: &std::path::Path, keys: &[u64]) -> f64 {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(8));
    options.set_allow_concurrent_memtable_write(false);
    options.set_memtable_factory(MemtableFactory::HashLinkList { bucket_count: 1 << 20 });
    options.set_write_buffer_size(64 << 20);
    let mut blocks = BlockBasedOptions::default();
    // The memory that the table has for its entries, too.
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES + 1_000_000 * ENTRY_BYTES));
    blocks.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&blocks);
    let db = DB::open(&options, directory.join("raw")).expect("opens");
    let mut writes = WriteOptions::default();
    writes.disable_wal(true);
    let update = |key: &u64| {
        let key = key.to_be_bytes();
        let found = db.get_pinned(key).expect("reads");
        let value = found.map_or(0, |v| u64::from_le_bytes((*v).try_into().expect("8 bytes")));
        db.put_opt(key, (value + 1).to_le_bytes(), &writes).expect("writes");
    };
    (0..KEYS).for_each(|key| {
        db.put_opt(key.to_be_bytes(), 1_u64.to_le_bytes(), &writes).expect("writes");
    });
    measure(keys.len(), || keys.iter().for_each(update))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let records = arguments.iter().find_map(|text| text.parse().ok()).unwrap_or(5_000_000);
    let is_given = |name: &str| arguments.iter().any(|argument| argument == name);
    let (is_zipf, is_uniform) = (is_given("zipf"), is_given("uniform"));
    println!("| keys | table, million/s | RocksDB get + put | times |");
    println!("|---|---|---|---|");
    for (name, is_left_out) in [("zipf 0.99", is_uniform), ("uniform", is_zipf)] {
        if is_left_out {
            continue;
        }
        let keys = if name == "uniform" { uniform(records) } else { zipf(records) };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ours = table(directory.path(), &keys);
        if is_given("table") {
            println!("| {name} | {ours:.2} | | |");
            continue;
        }
        let raw = raw(directory.path(), &keys[..records / 5]);
        println!("| {name} | {ours:.2} | {raw:.2} | {:.1} |", ours / raw);
    }
}
