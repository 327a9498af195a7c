//! A slow sink: bounded records in flight, checkpoints that complete, a stop that is obeyed, and
//! nothing lost or doubled when the job goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::tempdir;
use thalweg::connectors::rate::limit_sink;
use thalweg::prelude::*;
use thalweg::{RunOutcome, StopSignal, memory, time};

const RECORDS: u64 = 400_000;
const RATE: u64 = 1_000;
/// What the sink has taken when the job is asked to stop.
const STOP_AFTER: u64 = 1_500;

/// Numbers on both sides of the job.
#[derive(Default)]
struct Gauge {
    produced: AtomicU64,
    taken: AtomicU64,
    most_in_flight: AtomicU64,
}

#[test]
fn a_slow_sink_bounds_the_job_and_loses_nothing() {
    let dir = tempdir().expect("a temporary directory");
    let options = JobOptions {
        parallelism: Some(2),
        workers: Some(2),
        checkpoint_dir: Some(dir.path().join("checkpoints")),
        checkpoint_interval: Some(time::millis(100)),
        ..JobOptions::default()
    };
    let (sink, collected) = memory::sink();
    let (gauge, stop) = (Arc::new(Gauge::default()), StopSignal::default());
    let build = |rate: u64| {
        let (gauge, stop, sink) = (gauge.clone(), stop.clone(), sink.clone());
        move |job: &Job| {
            let (before, after, stop) = (gauge.clone(), gauge.clone(), stop.clone());
            job.source("numbers", generator(Some(RECORDS), |index| index).splits(2))
                .inspect(move |_| {
                    let produced = before.produced.fetch_add(1, Ordering::Relaxed) + 1;
                    let in_flight = produced - before.taken.load(Ordering::Relaxed).min(produced);
                    before.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
                })
                .key_by(|number| number % 100)
                .aggregate("count", Count)
                .inspect(move |_| {
                    if after.taken.fetch_add(1, Ordering::Relaxed) + 1 == STOP_AFTER {
                        stop.stop();
                    }
                })
                .sink("out", limit_sink(sink.clone(), rate));
            Ok(())
        }
    };
    let report = thalweg::execute_until("slow", build(RATE), &options, &stop).expect("it stops");
    assert_eq!(report.outcome, RunOutcome::Stopped);
    // A stop waits for what is in flight, and that is bounded by what the sink drains in a moment.
    let seconds = report.progress.elapsed.as_secs_f64();
    let taken = gauge.taken.load(Ordering::Relaxed);
    println!(
        "{taken} records in {seconds:.1} s, {} checkpoints, at most {} records in flight",
        report.progress.checkpoints,
        gauge.most_in_flight.load(Ordering::Relaxed)
    );
    assert!(report.progress.checkpoints >= 2, "checkpoints complete under backpressure");
    assert!(gauge.most_in_flight.load(Ordering::Relaxed) < 80_000, "memory is bounded");
    assert!(taken < RECORDS / 4, "the job was stopped early");
    // Going on without the brake, every count of every key has been given out exactly once.
    gauge.taken.store(2 * RECORDS, Ordering::Relaxed);
    let resumed = build(1_000_000_000);
    let report = thalweg::execute("slow", resumed, &options).expect("it ends");
    assert_eq!(report.outcome, RunOutcome::Finished);
    let mut counts: Vec<(u64, u64)> =
        collected.snapshot().iter().map(|keyed| (keyed.key, keyed.value)).collect();
    counts.sort_unstable();
    let expected = (0..100).flat_map(|key| (1..=RECORDS / 100).map(move |count| (key, count)));
    assert!(counts.into_iter().eq(expected), "each count of each key is there once");
}
