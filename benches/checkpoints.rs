//! What checkpoints cost a running job, and how large state behaves: a table for each question.
//!
//! `cargo bench --bench checkpoints -- pause|throughput [SECONDS]`, `-- restore`,
//! `-- memory [MEBIBYTES]`
//!
//! The job counts keys in turn, in 64 bytes of state each: `pause` and `throughput` change every
//! key between two checkpoints.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use thalweg::prelude::*;
use thalweg::{JobOptions, Result, StateBackend, StopSignal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records of a batch.
const BATCH: u64 = 1_024;

/// Runs with checkpoints, each beside one without.
const PAIRS: usize = 5;

/// Seconds in which the table grows, and the memory of logs is used for the first time.
const WARM_UP: usize = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let seconds = arguments.get(1).and_then(|text| text.parse().ok());
    match arguments.first().map(String::as_str) {
        Some("pause") => pause(seconds.unwrap_or(110)),
        Some("throughput") => throughput(seconds.unwrap_or(15)),
        Some("restore") => restore(),
        Some("memory") => memory(seconds),
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
struct Measured {
    records: AtomicU64,
    batches: Mutex<Batches>,
    first_result: Mutex<Option<Instant>>,
}

/// The batches of a run by the second they ended in. Their memory is touched before the run: taking
/// more in its midst would be one of the pauses that are looked for.
struct Batches {
    start: Instant,
    last: Instant,
    seconds: Vec<Second>,
}

#[derive(Clone, Copy, Default)]
struct Second {
    batches: u64,
    longest: Duration,
}

impl Measured {
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn new() -> Self {
        let now = Instant::now();
        let mut seconds = vec![Second::default(); 4_096];
        seconds.clear();
        let batches = Mutex::new(Batches { start: now, last: now, seconds });
        Measured { records: AtomicU64::new(0), batches, first_result: Mutex::new(None) }
    }

    /// The seconds from the first batch on, but for the last, which was not whole.
    fn seconds(&self) -> Vec<Second> {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = batches.seconds.len().saturating_sub(1);
        batches.seconds[..whole].to_vec()
    }

    /// Million records a second, without the first seconds.
    fn speed(&self) -> f64 {
        let seconds = self.seconds();
        let seconds = seconds.get(WARM_UP..).unwrap_or_default();
        let batches: u64 = seconds.iter().map(|second| second.batches).sum();
        batches as f64 * BATCH as f64 / 1e6 / seconds.len() as f64
    }

    /// A record is read: at each batch's first one, the time since the one before.
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn record(&self, number: u64) {
        if !number.is_multiple_of(BATCH) {
            return;
        }
        let now = Instant::now();
        let before = self.records.fetch_add(BATCH, Ordering::Relaxed);
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let last = std::mem::replace(&mut batches.last, now);
        if before == 0 {
            batches.start = now;
            return;
        }
        let second = (now - batches.start).as_secs() as usize;
        if batches.seconds.len() <= second {
            batches.seconds.resize(second + 1, Second::default());
        }
        let second = &mut batches.seconds[second];
        second.batches += 1;
        second.longest = second.longest.max(now - last);
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

/// When a run is stopped.
#[derive(Clone, Copy)]
enum Until {
    Time(Duration),
    /// So many records have been read.
    Records(u64),
}

/// Runs the job. Of one that has come to its end there would be nothing to resume: it is stopped.
fn run(keys: u64, until: Until, options: &JobOptions) -> Result<(Arc<Measured>, Checkpoints)> {
    let measured = Arc::new(Measured::new());
    let stop = StopSignal::default();
    let (stopped, read) = (stop.clone(), measured.clone());
    #[expect(clippy::disallowed_methods, reason = "stops the job from outside")]
    std::thread::spawn(move || {
        match until {
            Until::Time(time) => std::thread::sleep(time),
            Until::Records(records) => {
                while read.records.load(Ordering::Relaxed) < records {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        stopped.stop();
    });
    let checkpoints = Arc::new(Mutex::new(Vec::new()));
    let job = Job::new();
    let (read, given) = (measured.clone(), measured.clone());
    let numbers = generator(None, move |number| {
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

/// Sorts.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
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

/// The longest batch between two checkpoints, and without checkpoints: percentiles. Runs with and
/// without take turns, so that the machine's own pauses are in both.
fn pause(seconds: u64) -> Result<()> {
    println!("longest batch of each second, 1 million keys of 64 bytes all changing, in ms");
    println!("| checkpoints | seconds | p50 | p90 | p99 | max |");
    println!("|---|---|---|---|---|---|");
    let turn = Duration::from_secs(seconds.div_ceil(PAIRS as u64) + WARM_UP as u64 + 1);
    let mut longest = [Vec::new(), Vec::new()];
    let mut checkpoints = [0; 2];
    for _ in 0..PAIRS {
        let directory = scratch();
        for (which, directory) in [Some(directory.path()), None].into_iter().enumerate() {
            let options = options(directory, StateBackend::Memory);
            let (measured, seen) = run(1_000_000, Until::Time(turn), &options)?;
            checkpoints[which] += seen.len();
            let seconds = measured.seconds();
            longest[which].extend(seconds.iter().skip(WARM_UP).map(|second| second.longest));
        }
    }
    for (longest, checkpoints) in longest.iter_mut().zip(checkpoints) {
        longest.sort_unstable();
        let at = |share| micros(longest[((longest.len() - 1) as f64 * share) as usize]) / 1e3;
        println!(
            "| {checkpoints} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
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
    println!("{PAIRS} pairs of runs of {seconds} s, medians; lost within a pair, and its range");
    println!("| keys | state | million records/s | with checkpoints | lost | durable after |");
    println!("|---|---|---|---|---|---|");
    for (keys, state) in [
        (100_000, StateBackend::Memory),
        (1_000_000, StateBackend::Memory),
        (100_000, StateBackend::RocksDb),
        (1_000_000, StateBackend::RocksDb),
    ] {
        let (mut speeds, mut lost, mut durable) =
            ([Vec::new(), Vec::new()], Vec::new(), Vec::new());
        for number in 0..PAIRS {
            let directory = scratch();
            let (mut pair, mut runs) = ([0.0; 2], [(0, None), (1, Some(directory.path()))]);
            // A machine that gets slower, or faster, does so for both alike.
            runs.rotate_left(number % 2);
            for (which, directory) in runs {
                let until = Until::Time(Duration::from_secs(seconds));
                let (measured, seen) = run(keys, until, &options(directory, state))?;
                pair[which] = measured.speed();
                speeds[which].push(pair[which]);
                durable.extend(seen.into_iter().map(|(_, took)| took.as_secs_f64() * 1e3));
            }
            lost.push(100.0 * (1.0 - pair[1] / pair[0]));
        }
        println!(
            "| {keys} | {state:?} | {:.2} | {:.2} | {:.1} % ({:.1} to {:.1}) | {:.0} ms |",
            median(&mut speeds[0]),
            median(&mut speeds[1]),
            median(&mut lost),
            lost[0],
            lost[lost.len() - 1],
            median(&mut durable)
        );
    }
    Ok(())
}

/// The time from the start of a job with 2 GB of state to its first result, and how fast it is in
/// the seconds after.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn restore() -> Result<()> {
    println!("| state | bytes | first result | million records in seconds 1, 2, … |");
    println!("|---|---|---|---|");
    // An entry has 8 bytes of key and, when it has changed some times, up to 60 of value.
    let keys = 30_000_000;
    let directory = scratch();
    let of = |state| JobOptions {
        checkpoint_interval: Some(Duration::from_secs(600)),
        ..options(Some(directory.path()), state)
    };
    run(keys, Until::Records(12 * keys), &of(StateBackend::Memory))?;
    for state in [StateBackend::Memory, StateBackend::RocksDb] {
        let options = of(state);
        let files = std::fs::read_dir(directory.path().join("checkpoints/files"));
        let bytes: u64 = files
            .into_iter()
            .flatten()
            .filter_map(|file| file.ok()?.metadata().ok())
            .map(|metadata| metadata.len())
            .sum();
        let start = Instant::now();
        let (measured, _) = run(keys, Until::Time(Duration::from_secs(30)), &options)?;
        let first = *measured.first_result.lock().unwrap_or_else(PoisonError::into_inner);
        let first = first.map_or(f64::NAN, |at| (at - start).as_secs_f64());
        let of = |second: &Second| format!("{:.1}", (second.batches * BATCH) as f64 / 1e6);
        let speeds: Vec<String> = measured.seconds().iter().map(of).collect();
        println!("| {state:?} | {bytes} | {first:.2} s | {} |", speeds.join(" "));
    }
    Ok(())
}

/// Resident memory while state grows to ten times `--memory`, each in a process of its own.
fn memory(mebibytes: Option<u64>) -> Result<()> {
    let Some(mebibytes) = mebibytes else {
        println!("| --memory | keys | resident before | at most | over --memory |");
        println!("|---|---|---|---|---|");
        let program = std::env::current_exe().expect("has a path");
        for mebibytes in ["64", "128", "256"] {
            let ran = std::process::Command::new(&program).args(["memory", mebibytes]).status();
            assert!(ran.expect("starts").success());
        }
        return Ok(());
    };
    let memory = mebibytes << 20;
    let keys = memory * 10 / 64;
    let directory = scratch();
    let mut options = options(Some(directory.path()), StateBackend::RocksDb);
    options.memory = Some(memory);
    let before = resident("VmRSS:");
    run(keys, Until::Records(keys), &options)?;
    let most = resident("VmHWM:");
    let over = (most.saturating_sub(before)).saturating_sub(memory);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    println!("| {} | {keys} | {} | {} | {} |", mib(memory), mib(before), mib(most), mib(over));
    Ok(())
}

/// A line of `/proc/self/status`, in bytes.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}
