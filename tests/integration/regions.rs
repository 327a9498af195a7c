//! Parts of a job between which no record passes: one that fails is started again alone.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::tempdir;
use thalweg::memory::{self, Collected, MemorySink};
use thalweg::prelude::*;
use thalweg::{Error, PlanFormat, RestartPolicy, RunOutcome, RunReport, StateBackend, StopSignal};

const RECORDS: u64 = 30_000;
const KEYS: u64 = 10;
const RATE: u64 = 30_000;

type Counts = Keyed<u64, u64>;

/// One of two pipelines that count numbers by key.
#[derive(Clone)]
struct Pipeline {
    name: &'static str,
    sink: MemorySink<Counts>,
    collected: Collected<Counts>,
    /// How many numbers have been seen, again and again.
    seen: Arc<AtomicU64>,
}

impl Pipeline {
    fn new(name: &'static str) -> Self {
        let (sink, collected) = memory::sink();
        Pipeline { name, sink, collected, seen: Arc::default() }
    }

    fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Declares it; `check` is called before each number, with how many were seen before.
    fn declare(
        &self,
        job: &Job,
        check: impl Fn(u64) -> thalweg::Result<()> + Send + Sync + Clone + 'static,
    ) {
        let seen = self.seen.clone();
        let named = |what| format!("{}-{what}", self.name);
        let numbers = generator(Some(RECORDS), |i| i).splits(2).records_per_second(RATE);
        job.source(named("numbers"), numbers)
            .try_inspect(move |_: &u64| check(seen.fetch_add(1, Ordering::SeqCst)), OnError::Fail)
            .key_by(|number| number % KEYS)
            .aggregate(named("count"), Count)
            .sink(named("out"), self.sink.clone());
    }

    /// Fails unless each count of each key has been given out once.
    fn check_output(&self) {
        let mut counts: Vec<(u64, u64)> =
            self.collected.snapshot().iter().map(|keyed| (keyed.key, keyed.value)).collect();
        counts.sort_unstable();
        let expected = (0..KEYS).flat_map(|key| (1..=RECORDS / KEYS).map(move |n| (key, n)));
        assert!(counts.into_iter().eq(expected), "{}: not each count is there once", self.name);
    }
}

fn options(directory: &Path, state: StateBackend) -> JobOptions {
    JobOptions {
        parallelism: Some(2),
        workers: Some(2),
        checkpoint_dir: Some(directory.to_owned()),
        checkpoint_interval: Some(Duration::from_millis(30)),
        state,
        memory: Some(32 << 20),
        restart: Some(RestartPolicy::Fixed { attempts: 5, delay: Duration::from_millis(150) }),
        ..JobOptions::default()
    }
}

fn by_chance() -> thalweg::Result<()> {
    Err(Error::unavailable("by chance"))
}

#[test]
fn a_region_that_fails_is_started_again_alone() {
    for state in [StateBackend::Memory, StateBackend::RocksDb] {
        let directory = tempdir().expect("a temporary directory");
        let (fails, works) = (Pipeline::new("fails"), Pipeline::new("works"));
        // What the other one had seen when this one failed, and soon after it was started again.
        let meanwhile = Arc::new(Mutex::new(Vec::new()));
        let build = |job: &Job| {
            let (other, meanwhile) = (works.clone(), meanwhile.clone());
            fails.declare(job, move |number| {
                if matches!(number, 9_000 | 9_800 | 18_000 | 18_800) {
                    meanwhile.lock().unwrap_or_else(PoisonError::into_inner).push(other.seen());
                }
                if matches!(number, 9_000 | 18_000) { by_chance() } else { Ok(()) }
            });
            works.declare(job, |_| Ok(()));
            Ok(())
        };
        let options = options(directory.path(), state);
        let report = thalweg::execute_until("regions", build, &options, &StopSignal::default());
        let report: RunReport = report.expect("it is started again");
        assert_eq!((report.outcome, report.progress.restarts), (RunOutcome::Finished, 2));
        assert_eq!(report.progress.metrics.records_read_in_this_run(), 2 * RECORDS);
        fails.check_output();
        works.check_output();
        assert!(fails.seen() > RECORDS, "it was read again from its checkpoint");
        assert_eq!(works.seen(), RECORDS, "nothing of it was read again");
        let meanwhile = meanwhile.lock().unwrap_or_else(PoisonError::into_inner);
        // At its rate it reads 4,500 numbers in the delay, and without it about 800.
        assert!(meanwhile[1] > meanwhile[0] + 3_000, "it went on meanwhile: {meanwhile:?}");
    }
}

#[test]
fn regions_that_fail_one_after_the_other_lose_nothing() {
    let directory = tempdir().expect("a temporary directory");
    let (first, second) = (Pipeline::new("first"), Pipeline::new("second"));
    let fails_at = Arc::new(AtomicU64::new(u64::MAX));
    let build = |job: &Job| {
        // The second one fails some 50 ms later, while the first one is missing.
        let (of_second, other) = (fails_at.clone(), second.clone());
        first.declare(job, move |number| match number {
            9_000 => {
                of_second.store(other.seen() + 1_500, Ordering::SeqCst);
                by_chance()
            }
            _ => Ok(()),
        });
        let fails_at = fails_at.clone();
        second.declare(job, move |number| {
            if number < fails_at.load(Ordering::SeqCst) {
                return Ok(());
            }
            fails_at.store(u64::MAX, Ordering::SeqCst);
            by_chance()
        });
        Ok(())
    };
    let options = options(directory.path(), StateBackend::Memory);
    let report = thalweg::execute_until("regions", build, &options, &StopSignal::default());
    let report = report.expect("both are started again");
    assert_eq!((report.outcome, report.progress.restarts), (RunOutcome::Finished, 2));
    first.check_output();
    second.check_output();
}

#[test]
fn a_stop_while_a_region_is_missing_loses_nothing() {
    let directory = tempdir().expect("a temporary directory");
    let (fails, works) = (Pipeline::new("fails"), Pipeline::new("works"));
    let stop = StopSignal::default();
    let build = |job: &Job| {
        let stop = stop.clone();
        fails.declare(job, move |number| match number {
            9_000 => {
                stop.stop();
                by_chance()
            }
            _ => Ok(()),
        });
        works.declare(job, |_| Ok(()));
        Ok(())
    };
    let options = options(directory.path(), StateBackend::Memory);
    let report = thalweg::execute_until("regions", build, &options, &stop).expect("stops");
    assert_eq!(report.outcome, RunOutcome::Stopped);
    let report = thalweg::execute_until("regions", build, &options, &StopSignal::default());
    assert_eq!(report.expect("goes on").outcome, RunOutcome::Finished);
    fails.check_output();
    works.check_output();
}

#[test]
fn the_plan_says_which_region_a_task_is_in() {
    let plan = |pipelines: &[&Pipeline]| {
        let build = |job: &Job| {
            pipelines.iter().for_each(|pipeline| pipeline.declare(job, |_| Ok(())));
            Ok(())
        };
        let options = JobOptions { parallelism: Some(2), ..JobOptions::default() };
        thalweg::plan("pair", build, &options, PlanFormat::Text).expect("a plan")
    };
    let (one, other) = (Pipeline::new("one"), Pipeline::new("other"));
    let both = plan(&[&one, &other]);
    assert!(both.contains("subtasks, 2 regions, "), "{both}");
    for name in ["one", "other"] {
        // The tasks of a pipeline, by what is in them, are in one region, and in no other's.
        let tasks = both.split("\n\n").filter(|task| task.contains(&format!("{name}-")));
        let mut regions: Vec<&str> = tasks
            .filter_map(|task| task.split(", region ").nth(1)?.split_whitespace().next())
            .collect();
        assert!(regions.len() > 1, "{both}");
        regions.dedup();
        assert_eq!(regions, [if name == "one" { "1" } else { "2" }], "{both}");
    }
    let alone = plan(&[&one]);
    assert!(!alone.contains("region"), "{alone}");
}
