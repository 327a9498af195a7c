//! What checkpoints cost a running job, and how large state behaves: a table for each question.
//!
//! `cargo bench --bench checkpoints -- pause|throughput|restore|memory [SECONDS]`
//!
//! The job counts keys in turn, in 64 bytes of state each: `pause` and `throughput` change every
//! key between two checkpoints.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thalweg::prelude::*;
use thalweg::{JobOptions, Result, StateBackend, StopSignal};

/// Records of a batch.
const BATCH: u64 = 1_024;

fn main() -> Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let seconds = arguments.get(1).and_then(|text| text.parse().ok());
    match arguments.first().map(String::as_str) {
        Some("pause") => pause(seconds.unwrap_or(110)),
        Some("throughput") => throughput(seconds.unwrap_or(15)),
        Some("restore") => restore(),
        Some("memory") => memory(),
        _ => {
            eprintln!("error: give one of pause, throughput, restore, memory");
            Ok(())
        }
    }
}

/// Counts a key in 56 bytes, besides the key's 8.
struct Count;

impl Aggregate<()> for Count {
    type Accumulator = [u64; 7];
    type Out = u64;

    fn create(&self) -> [u64; 7] {
        [0; 7]
    }

    fn add(&self, accumulator: &mut [u64; 7], (): &()) {
        accumulator[0] += 1;
        accumulator[(accumulator[0] % 7) as usize] ^= accumulator[0] << 32;
    }

    fn merge(&self, accumulator: &mut [u64; 7], other: &[u64; 7]) {
        accumulator[0] += other[0];
    }

    fn finish(&self, accumulator: &[u64; 7]) -> u64 {
        accumulator[0]
    }
}

/// What a run has measured.
#[derive(Default)]
struct Measured {
    records: AtomicU64,
    batches: Mutex<Vec<(Instant, Duration)>>,
    last: Mutex<Option<Instant>>,
    first_result: Mutex<Option<Instant>>,
}

impl Measured {
    /// A record is read: at each batch's first one, the time since the one before.
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn record(&self, number: u64) {
        if !number.is_multiple_of(BATCH) {
            return;
        }
        let now = Instant::now();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if let Some(last) = last {
            let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
            batches.push((now, now - last));
        }
        self.records.fetch_add(BATCH, Ordering::Relaxed);
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn result(&self) {
        let mut first = self.first_result.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(Instant::now);
    }
}

/// The checkpoints of a run, and how long each took.
type Checkpoints = Vec<(u64, Duration)>;

/// A scrambled key, so that neighbours in time are not neighbours in memory.
fn key_of(number: u64, keys: u64) -> u64 {
    (number % keys).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Runs the job for a time, or until it has read `count` records.
fn run(
    keys: u64,
    count: Option<u64>,
    time: Option<Duration>,
    options: &JobOptions,
) -> Result<(Arc<Measured>, Checkpoints)> {
    let measured = Arc::new(Measured::default());
    let stop = StopSignal::default();
    if let Some(time) = time {
        let stop = stop.clone();
        #[expect(clippy::disallowed_methods, reason = "stops the job from outside")]
        std::thread::spawn(move || {
            std::thread::sleep(time);
            stop.stop();
        });
    }
    let checkpoints = Arc::new(Mutex::new(Vec::new()));
    let job = Job::new();
    let (read, given) = (measured.clone(), measured.clone());
    let numbers = generator(count, move |number| {
        read.record(number);
        number
    });
    job.source("numbers", numbers)
        .key_by(move |number| key_of(*number, keys))
        .map_values(|_| ())
        .aggregate("count", Count)
        .inspect(move |_| given.result())
        .sink("nowhere", sink::discard());
    let (graph, config) = (job.into_graph(), options.check(1)?);
    let seen = checkpoints.clone();
    thalweg::engine::runtime::run(&graph, "bench", &config, &stop, &mut |progress| {
        if let Some(last) = progress.last_checkpoint {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.last() != Some(&last) {
                seen.push(last);
            }
        }
    })?;
    let checkpoints =
        std::mem::take(&mut *checkpoints.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((measured, checkpoints))
}

/// One worker, with checkpoints into a directory if there is one.
fn options(directory: Option<&Path>, state: StateBackend) -> JobOptions {
    JobOptions {
        parallelism: Some(1),
        workers: Some(1),
        checkpoint_dir: directory.map(|directory| directory.join("checkpoints")),
        checkpoint_interval: directory.map(|_| Duration::from_secs(1)),
        state,
        memory: Some(1 << 30),
        ..JobOptions::default()
    }
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// The longest batch between two checkpoints, with checkpoints and without: percentiles.
fn pause(seconds: u64) -> Result<()> {
    println!("longest batch of each second, 1 million keys of 64 bytes all changing, in ms");
    println!("| checkpoints | seconds | p50 | p90 | p99 | max |");
    println!("|---|---|---|---|---|---|");
    let directory = scratch();
    for directory in [Some(directory.path()), None] {
        let options = options(directory, StateBackend::Memory);
        let time = Some(Duration::from_secs(seconds));
        let (measured, checkpoints) = run(1_000_000, None, time, &options)?;
        let batches = measured.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((start, _)) = batches.first() else { continue };
        let mut longest = Vec::<f64>::new();
        for (at, took) in batches.iter() {
            let second = (*at - *start).as_secs() as usize;
            longest.resize(longest.len().max(second + 1), 0.0);
            longest[second] = longest[second].max(micros(*took) / 1e3);
        }
        // The table grows in the first seconds.
        let mut longest = longest.split_off(3);
        longest.sort_by(f64::total_cmp);
        let at = |share: f64| longest[((longest.len() - 1) as f64 * share) as usize];
        println!(
            "| {} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
            checkpoints.len(),
            longest.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
    Ok(())
}

/// Records a second with a checkpoint every second and with none, in turn, and how long a
/// checkpoint takes from its start until it is durable.
fn throughput(seconds: u64) -> Result<()> {
    println!("| keys | state | million records/s | with checkpoints | lost | durable, median |");
    println!("|---|---|---|---|---|---|");
    for (keys, state) in [
        (100_000, StateBackend::Memory),
        (1_000_000, StateBackend::Memory),
        (100_000, StateBackend::RocksDb),
        (1_000_000, StateBackend::RocksDb),
    ] {
        let (mut with, mut without, mut durable) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let directory = scratch();
            for directory in [None, Some(directory.path())] {
                let time = Some(Duration::from_secs(seconds));
                let (measured, seen) = run(keys, None, time, &options(directory, state))?;
                let speed = measured.records.load(Ordering::Relaxed) as f64 / seconds as f64 / 1e6;
                match directory {
                    None => without.push(speed),
                    Some(_) => with.push(speed),
                }
                durable.extend(seen.into_iter().map(|(_, took)| took));
            }
        }
        let best = |speeds: &[f64]| speeds.iter().copied().fold(0.0, f64::max);
        let (without, with) = (best(&without), best(&with));
        durable.sort_unstable();
        println!(
            "| {keys} | {state:?} | {without:.2} | {with:.2} | {:.1} % | {:?} |",
            100.0 * (1.0 - with / without),
            durable.get(durable.len() / 2)
        );
    }
    Ok(())
}

/// The time from the start of a job with 2 GB of state to its first result.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn restore() -> Result<()> {
    println!("| state | bytes of checkpoint | first result after |");
    println!("|---|---|---|");
    // An entry has 8 bytes of key and 57 of value, in blocks.
    let keys = 30_000_000;
    for state in [StateBackend::Memory, StateBackend::RocksDb] {
        let directory = scratch();
        let mut options = options(Some(directory.path()), state);
        options.checkpoint_interval = Some(Duration::from_secs(600));
        // Of a job that has finished there is nothing to resume: a stop leaves one that has not.
        let (measured, _) = run(keys, None, Some(Duration::from_secs(60)), &options)?;
        let read = measured.records.load(Ordering::Relaxed);
        let files = std::fs::read_dir(directory.path().join("checkpoints/files"));
        let bytes: u64 = files
            .into_iter()
            .flatten()
            .filter_map(|file| file.ok()?.metadata().ok())
            .map(|metadata| metadata.len())
            .sum();
        let start = Instant::now();
        let (measured, _) = run(keys, None, Some(Duration::from_secs(60)), &options)?;
        let first = *measured.first_result.lock().unwrap_or_else(PoisonError::into_inner);
        println!("| {state:?} ({read} records) | {bytes} | {:?} |", first.map(|at| at - start));
    }
    Ok(())
}

/// Resident memory while state grows to ten times `--memory`.
fn memory() -> Result<()> {
    println!("| --memory | keys | resident before | at most | over --memory |");
    println!("|---|---|---|---|---|");
    for memory in [64_u64 << 20, 256 << 20] {
        let keys = memory * 10 / 64;
        let directory = scratch();
        let mut options = options(Some(directory.path()), StateBackend::RocksDb);
        options.memory = Some(memory);
        let before = resident("VmRSS:");
        run(keys, Some(keys + 1), None, &options)?;
        let most = resident("VmHWM:");
        let over = most.saturating_sub(before).saturating_sub(memory);
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        println!("| {} | {keys} | {} | {} | {} |", mib(memory), mib(before), mib(most), mib(over));
    }
    Ok(())
}

/// A line of `/proc/self/status`, in bytes.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}
