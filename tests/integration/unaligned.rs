//! Barriers that do not wait for slow operators: a job that fails goes on from records that were on
//! their way, without losing or doubling one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::tempdir;
use thalweg::engine::checkpoint::{CheckpointStore, Owner, Repository, StoreOptions};
use thalweg::memory::{self, MemorySink};
use thalweg::prelude::*;
use thalweg::{ErrorKind, RateLimit, RestartPolicy, RunOutcome, time};

const RECORDS: u64 = 60_000;
const RATE: u64 = 1_500;
const JOB: &str = "unaligned";

/// What drives one run: the brake in front of the sink, and when to break down or to stop.
#[derive(Clone, Default)]
struct Drive {
    rate: u64,
    taken: Arc<AtomicU64>,
    panic_at: u64,
}

fn build(job: &Job, drive: &Drive, sink: &MemorySink<Keyed<u64, u64>>) {
    let Drive { rate, taken, panic_at } = drive.clone();
    let again = |keyed: Keyed<u64, u64>| keyed.value + 1;
    job.source("numbers", generator(Some(RECORDS), |index| index).splits(2))
        .key_by(|n| n % 97)
        .records()
        .map(again)
        .key_by(|n| n % 89)
        .records()
        .map(again)
        .key_by(|n| n % 83)
        .records()
        .rate_limit(RateLimit::per_second(rate).burst(rate.div_ceil(100)))
        .map(move |keyed| {
            assert!(taken.fetch_add(1, Ordering::Relaxed) + 1 != panic_at, "as planned");
            keyed.value - 2
        })
        .key_by(|n| n % 10)
        .aggregate("count", Count)
        .sink("out", sink.clone());
}

fn options(dir: &Path, unaligned_after: Option<Duration>) -> JobOptions {
    JobOptions {
        parallelism: Some(2),
        workers: Some(2),
        checkpoint_dir: Some(dir.join("checkpoints")),
        checkpoint_interval: Some(time::millis(100)),
        unaligned_after,
        restart: Some(RestartPolicy::None),
        ..JobOptions::default()
    }
}

#[test]
fn a_job_that_fails_goes_on_from_records_on_their_way() {
    let dir = tempdir().expect("a temporary directory");
    let options = options(dir.path(), Some(time::millis(10)));
    let (sink, given) = memory::sink();
    let execute = |drive: Drive, options: &JobOptions| {
        let sink = sink.clone();
        let build_job = move |job: &Job| {
            build(job, &drive, &sink);
            Ok(())
        };
        thalweg::execute(JOB, build_job, options)
    };
    for (attempt, parallelism) in [(1, 2), (2, 3), (3, 1)] {
        let options = JobOptions { parallelism: Some(parallelism), ..options.clone() };
        let drive = Drive { rate: RATE, panic_at: 1_500, ..Drive::default() };
        let error = execute(drive, &options).err().expect("it breaks down");
        assert_eq!(error.kind(), ErrorKind::User, "{error}");
        let checkpoints = options.checkpoint_dir.as_ref().expect("there is one");
        let store =
            StoreOptions { job: JOB.to_owned(), owner: Owner::this_process(0), work_dir: None };
        let store = Repository::open_directory(checkpoints, &store).expect("it opens");
        let newest = store.latest().expect("it is whole").expect("there is a checkpoint");
        let in_flight: usize = newest.subtasks.iter().map(|s| s.snapshot.in_flight.len()).sum();
        println!("attempt {attempt}: checkpoint {} with {in_flight} edges in flight", newest.id);
        assert!(in_flight > 0 || attempt == 3, "checkpoint {} waited", newest.id);
    }
    let options = JobOptions { parallelism: Some(2), ..options };
    let drive = Drive { rate: 100_000_000, ..Drive::default() };
    let report = execute(drive, &options).expect("it ends");
    assert_eq!(report.outcome, RunOutcome::Finished);
    let mut counts: Vec<(u64, u64)> =
        given.snapshot().iter().map(|keyed| (keyed.key, keyed.value)).collect();
    counts.sort_unstable();
    let expected = (0..10).flat_map(|key| (1..=RECORDS / 10).map(move |count| (key, count)));
    assert!(counts.into_iter().eq(expected), "each count of each key is there once");
}
