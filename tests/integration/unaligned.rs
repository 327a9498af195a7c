//! Barriers that do not wait for slow operators: a job that fails goes on from records that were on
//! their way, without losing or doubling one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::tempdir;
use thalweg::engine::checkpoint::{Archive, CheckpointStore, Owner, Repository, StoreOptions};
use thalweg::engine::state::KeyGroupCount;
use thalweg::engine::upgrade::compare;
use thalweg::memory::{self, MemorySink};
use thalweg::prelude::*;
use thalweg::{ErrorKind, RateLimit, RestartPolicy, RunOutcome, RunReport, time};

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

/// How many edges the newest checkpoint has records of.
fn edges_in_flight(options: &JobOptions) -> usize {
    let checkpoints = options.checkpoint_dir.as_ref().expect("there is one");
    let store = StoreOptions { job: JOB.to_owned(), owner: Owner::this_process(0), work_dir: None };
    let store = Repository::open_directory(checkpoints, &store).expect("it opens");
    let newest = store.latest().expect("it is whole").expect("there is a checkpoint");
    newest.subtasks.iter().map(|record| record.snapshot.in_flight.len()).sum()
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
        let in_flight = edges_in_flight(&options);
        println!("attempt {attempt}: {in_flight} edges in flight");
        assert!(in_flight > 0 || attempt == 3, "the newest checkpoint waited");
    }
    let options = JobOptions { parallelism: Some(2), ..options };
    let drive = Drive { rate: 100_000_000, ..Drive::default() };
    let report = execute(drive, &options).expect("it ends");
    assert_eq!(report.outcome, RunOutcome::Finished);
    assert_each_count_once(&given.snapshot(), RECORDS);
}

/// Asserts that 10 keys have been counted to the end.
fn assert_each_count_once(given: &[Keyed<u64, u64>], records: u64) {
    let mut counts: Vec<(u64, u64)> = given.iter().map(|keyed| (keyed.key, keyed.value)).collect();
    counts.sort_unstable();
    let expected = (0..10).flat_map(|key| (1..=records / 10).map(move |count| (key, count)));
    assert!(counts.into_iter().eq(expected), "each count of each key is there once");
}

/// A version of a record type.
trait Version: Data {
    fn of(n: u64) -> Self;
    fn n(&self) -> u64;
}

/// A record type and how it is made of a number, and back.
macro_rules! version {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty = $of:expr),* },
     |$r:ident| $n:expr) => {
        #[derive(Clone, Serialize, Deserialize)]
        #[serde(rename = "Number")]
        struct $name { $($(#[$attribute])* $field: $type,)* }

        impl Version for $name {
            fn of(n: u64) -> Self {
                $name { $($field: ($of)(n),)* }
            }

            fn n(&self) -> u64 {
                let $r = self;
                $n
            }
        }
    };
}

version!(First { half: u32 = |n| n as u32 / 2, odd: bool = |n| n % 2 == 1 }, |r| u64::from(r.half)
    * 2
    + u64::from(r.odd));
// Other bytes: reordered, wider, with a new field.
version!(Second {
        #[serde(default)] label: Option<String> = |_| None,
        odd: bool = |n| n % 2 == 1,
        half: u64 = |n| n / 2
    },
    |r| r.half * 2 + u64::from(r.odd) + r.label.as_ref().map_or(0, |_| 1));
// As many bytes as the first one, which would be read without an error.
version!(Third { odd: u32 = |n| n as u32 % 2, is_half: bool = |_| false }, |r| u64::from(r.odd)
    + u64::from(r.is_half));

const FEW: u64 = 6_000;

fn build_version<R: Version>(job: &Job, drive: &Drive, sink: &MemorySink<Keyed<u64, u64>>) {
    let Drive { rate, taken, panic_at } = drive.clone();
    job.source("numbers", generator(Some(FEW), |index| index))
        .map(R::of)
        .key_by(|r| r.n() % 89)
        .records()
        .rate_limit(RateLimit::per_second(rate).burst(rate.div_ceil(100)))
        .map(move |keyed| {
            assert!(taken.fetch_add(1, Ordering::Relaxed) + 1 != panic_at, "as planned");
            keyed.value.n()
        })
        .key_by(|n| n % 10)
        .aggregate("count", Count)
        .sink("out", sink.clone());
}

#[test]
fn records_on_their_way_become_those_of_the_next_version() {
    let dir = tempdir().expect("a temporary directory");
    let options = options(dir.path(), Some(time::millis(10)));
    let (sink, given) = memory::sink();
    let drive = Drive { rate: RATE, panic_at: 1_500, ..Drive::default() };
    let error = version::<First>(drive, &sink, &options).err().expect("it breaks down");
    assert_eq!(error.kind(), ErrorKind::User, "{error}");
    assert!(edges_in_flight(&options) > 0, "the newest checkpoint waited");

    assert!(can_take_over::<First>(&options) && can_take_over::<Second>(&options));
    assert!(!can_take_over::<Third>(&options));
    let fast = Drive { rate: 100_000_000, ..Drive::default() };
    let error = version::<Third>(fast.clone(), &sink, &options).err().expect("it does not fit");
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    assert!(error.to_string().contains("records on their way"), "{error}");

    let report = version::<Second>(fast, &sink, &options).expect("it ends");
    assert_eq!(report.outcome, RunOutcome::Finished);
    assert_each_count_once(&given.snapshot(), FEW);
}

/// What a comparison says of a version of the job and the newest checkpoint.
fn can_take_over<R: Version>(options: &JobOptions) -> bool {
    let job = Job::new();
    build_version::<R>(&job, &Drive { rate: 1, ..Drive::default() }, &memory::sink().0);
    let checkpoints = options.checkpoint_dir.as_ref().expect("there is one");
    let archive = Archive::open(checkpoints, None).expect("a checkpoint");
    let comparison = compare(&job.into_graph(), JOB, &archive, KeyGroupCount::default());
    comparison.expect("can be compared").can_start()
}

/// Runs a version of the job.
fn version<R: Version>(
    drive: Drive,
    sink: &MemorySink<Keyed<u64, u64>>,
    options: &JobOptions,
) -> thalweg::Result<RunReport> {
    let sink = sink.clone();
    let build_job = move |job: &Job| {
        build_version::<R>(job, &drive, &sink);
        Ok(())
    };
    thalweg::execute(JOB, build_job, options)
}
