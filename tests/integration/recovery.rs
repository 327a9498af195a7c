//! Failures inside a process: restarts by policy, what is not retried, and stops in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tempfile::{TempDir, tempdir};
use thalweg::memory::{self, Collected, MemorySink};
use thalweg::prelude::*;
use thalweg::{Error, ErrorKind, RestartPolicy, RunOutcome, RunReport, StateBackend, StopSignal};

use crate::process::checkpoint_numbers;

const RECORDS: u64 = 60_000;
const KEYS: u64 = 10;
/// Slow enough for some checkpoints.
const RATE: u64 = 300_000;

/// A job that counts numbers by key, and calls `check` on each of them first.
struct Counting {
    directory: TempDir,
    sink: MemorySink<Keyed<u64, u64>>,
    collected: Collected<Keyed<u64, u64>>,
    options: JobOptions,
}

impl Counting {
    fn new(restart: Option<RestartPolicy>) -> Self {
        let directory = tempdir().expect("a temporary directory");
        let (sink, collected) = memory::sink();
        let options = JobOptions {
            parallelism: Some(2),
            workers: Some(2),
            checkpoint_dir: Some(directory.path().join("checkpoints")),
            checkpoint_interval: Some(Duration::from_millis(20)),
            restart,
            ..JobOptions::default()
        };
        Counting { directory, sink, collected, options }
    }

    fn run(
        &self,
        stop: &StopSignal,
        check: impl Fn(u64) -> thalweg::Result<()> + Send + Sync + 'static,
    ) -> thalweg::Result<RunReport> {
        let check = Arc::new(check);
        let build = |job: &Job| {
            let check = check.clone();
            let numbers = generator(Some(RECORDS), |i| i).splits(3);
            job.source("numbers", numbers.records_per_second(RATE))
                .try_inspect(move |number: &u64| check(*number), OnError::Fail)
                .key_by(|number| number % KEYS)
                .aggregate("count", Count)
                .sink("out", self.sink.clone());
            Ok(())
        };
        thalweg::execute_until("counting", build, &self.options, stop)
    }

    /// Fails unless each count of each key has been given out once.
    fn check_output(&self) {
        let mut counts: Vec<(u64, u64)> =
            self.collected.snapshot().iter().map(|keyed| (keyed.key, keyed.value)).collect();
        counts.sort_unstable();
        let expected = (0..KEYS).flat_map(|key| (1..=RECORDS / KEYS).map(move |n| (key, n)));
        assert!(counts.into_iter().eq(expected), "not each count of each key is there once");
    }
}

const fn fixed(attempts: u32, delay_ms: u64) -> Option<RestartPolicy> {
    Some(RestartPolicy::Fixed { attempts, delay: Duration::from_millis(delay_ms) })
}

/// True the first `times` times that it is called with `number`.
fn fails_at(
    number: u64,
    times: u32,
) -> (Arc<AtomicU32>, impl Fn(u64) -> bool + Send + Sync + 'static) {
    let failures = Arc::new(AtomicU32::new(0));
    let counter = failures.clone();
    let fails = move |n| n == number && counter.fetch_add(1, Ordering::SeqCst) < times;
    (failures, fails)
}

#[test]
fn a_job_that_panics_once_gives_what_an_undisturbed_one_gives() {
    let job = Counting::new(fixed(3, 10));
    let (_, fails) = fails_at(40_000, 1);
    let check = move |number| {
        assert!(!fails(number), "by chance");
        Ok(())
    };
    let report = job.run(&StopSignal::default(), check).expect("it is started again");
    assert_eq!((report.outcome, report.progress.restarts), (RunOutcome::Finished, 1));
    // What was read again is not counted twice.
    assert_eq!(report.progress.metrics.records_read_in_this_run(), RECORDS);
    assert!(report.progress.checkpoints > 1);
    assert!(report.last_checkpoint >= Some(report.progress.checkpoints));
    job.check_output();
}

#[test]
fn checkpoints_in_memory_serve_restarts_of_the_run() {
    for state in [StateBackend::Memory, StateBackend::RocksDb] {
        let mut job = Counting::new(fixed(3, 10));
        job.options.checkpoint_dir = Some("memory:".into());
        job.options.state = state;
        let (_, fails) = fails_at(40_000, 2);
        let check = move |number| match fails(number) {
            true => Err(Error::unavailable("by chance")),
            false => Ok(()),
        };
        let report = job.run(&StopSignal::default(), check).expect("it is started again");
        assert_eq!((report.outcome, report.progress.restarts), (RunOutcome::Finished, 2));
        assert!(report.progress.checkpoints > 1);
        job.check_output();
    }
}

#[test]
fn the_default_with_checkpoints_is_to_start_again() {
    let job = Counting::new(None);
    let (failures, fails) = fails_at(1_000, 1);
    let check = move |number| match fails(number) {
        true => Err(Error::user("by chance")),
        false => Ok(()),
    };
    let report = job.run(&StopSignal::default(), check).expect("it is started again");
    assert_eq!((report.progress.restarts, failures.load(Ordering::SeqCst)), (1, 2));
    // The first delay is a second, less a tenth at most.
    assert!(report.progress.elapsed >= Duration::from_millis(900));
    job.check_output();
}

#[test]
fn a_policy_comes_to_its_end() {
    let mut job = Counting::new(fixed(2, 1));
    job.options.poison_after = Some(0);
    let calls = AtomicU32::new(0);
    let check = move |number| match number {
        1_000.. => Err(Error::user(format!("call {}", calls.fetch_add(1, Ordering::SeqCst)))),
        _ => Ok(()),
    };
    let error = job.run(&StopSignal::default(), check).err().expect("it fails in the end");
    let text = error.to_string();
    assert!(text.contains("the function failed: call") && text.contains("after 2 times"), "{text}");
    assert_eq!((error.kind(), error.operator()), (ErrorKind::User, Some("try_inspect-1")));
}

#[test]
fn some_failures_are_not_retried() {
    let fatal = |number| match number {
        1_000 => Err(Error::user("it will be so again").fatal()),
        _ => Ok(()),
    };
    let error = Counting::new(fixed(9, 1)).run(&StopSignal::default(), fatal);
    let text = error.err().expect("it fails").to_string();
    assert!(text.contains("so again") && !text.contains("started again"), "{text}");

    let (failures, fails) = fails_at(1_000, 1);
    let once = move |number| match fails(number) {
        true => Err(Error::user("once")),
        false => Ok(()),
    };
    let job = Counting::new(Some(RestartPolicy::None));
    let error = job.run(&StopSignal::default(), once).err().expect("it fails");
    assert!(!error.to_string().contains("started again"), "{error}");
    assert_eq!(failures.load(Ordering::SeqCst), 1);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "holds a worker up")]
fn savepoints_that_were_asked_for_survive_a_failure() {
    for is_last in [false, true] {
        let job = Counting::new(fixed(3, 50));
        let (_, fails) = fails_at(40_000, 1);
        let (stop, savepoints) = (StopSignal::default(), job.directory.path().join("savepoints"));
        let (signal, directory) = (stop.clone(), savepoints.clone());
        let (tickets, asked) = std::sync::mpsc::channel();
        let check = move |number| match fails(number) {
            true => {
                let ticket = match is_last {
                    true => signal.stop_with_savepoint(&directory),
                    false => signal.savepoint(&directory),
                };
                tickets.send(ticket).expect("someone waits");
                // Meanwhile a checkpoint is ordered, which this worker does not take.
                std::thread::sleep(Duration::from_millis(150));
                Err(Error::unavailable("by chance"))
            }
            false => Ok(()),
        };
        let report = job.run(&stop, check).expect("it comes to its end");
        let expected = if is_last { RunOutcome::Stopped } else { RunOutcome::Finished };
        assert_eq!(report.outcome, expected);
        let ticket = asked.recv().expect("it was asked for");
        let written = ticket.wait().expect("it is written");
        assert!(written.starts_with(&savepoints) && written.is_dir(), "{written:?}");
        if !is_last {
            job.check_output();
        }
    }
}

#[test]
fn a_stop_in_the_delay_ends_the_job_in_order() {
    let mut job = Counting::new(fixed(9, 3_600_000));
    let stop = StopSignal::default();
    let (stopper, checkpoints) = (stop.clone(), job.directory.path().join("checkpoints"));
    let has_failed = AtomicBool::new(false);
    let check = move |number: u64| {
        let is_due = number.is_multiple_of(100) && !checkpoint_numbers(&checkpoints).is_empty();
        if !is_due || has_failed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        stopper.stop();
        Err(Error::user("as the job is stopped"))
    };
    let report = job.run(&stop, check).expect("it is stopped");
    assert_eq!((report.outcome, report.progress.restarts), (RunOutcome::Stopped, 1));
    assert!(report.last_checkpoint.is_some());
    assert_eq!(job.collected.prepared_len(), 0, "all output of the last checkpoint is visible");
    job.options.restart = None;
    let report = job.run(&StopSignal::default(), |_| Ok(())).expect("it goes on");
    assert_eq!(report.outcome, RunOutcome::Finished);
    assert!(report.restored_from.is_some());
    job.check_output();
}

/// Runs the job at a record that fails each time; checks the error, returns its text.
fn poisoned(
    job: &Counting,
    check: impl Fn(u64) -> thalweg::Result<()> + Send + Sync + 'static,
) -> String {
    let error = job.run(&StopSignal::default(), check).err().expect("it gives up");
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(!error.is_retryable());
    error.to_string()
}

#[test]
fn a_record_that_fails_each_time_is_named() {
    let mut job = Counting::new(fixed(100, 1));
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let check = move |number| {
        if number == 40_000 {
            counter.fetch_add(1, Ordering::SeqCst);
            return Err(Error::user("I dislike it"));
        }
        Ok(())
    };
    let text = poisoned(&job, check.clone());
    // The 40,000th number is in the second of three splits.
    for part in [
        "operator `try_inspect-1`",
        "record 13334 of split `1` of `numbers` (40000)",
        "3 times so far",
        "I dislike it",
        "OnError::DeadLetter",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(calls.swap(0, Ordering::SeqCst), 3);
    // Without a breaker the policy decides, and says where it was.
    job.options.poison_after = Some(0);
    job.options.restart = fixed(5, 1);
    let error = job.run(&StopSignal::default(), check).err().expect("it fails in the end");
    assert!(error.to_string().contains("not started again after 5 times"), "{error}");
    assert_eq!(calls.load(Ordering::SeqCst), 6);
}

#[test]
fn a_record_is_named_behind_an_exchange_and_in_its_source() {
    let run = |fail_in_source: bool| {
        let job = Counting::new(fixed(100, 1));
        let build = |job_: &Job| {
            let make = move |i| {
                assert!(!(fail_in_source && i == 40_000), "no record");
                i
            };
            let numbers = generator(Some(RECORDS), make).splits(3).records_per_second(RATE);
            job_.source("numbers", numbers)
                .key_by(|number| number % KEYS)
                .reduce("picky", |before, number| {
                    assert_ne!(*number, 40_000, "no such number");
                    *before.max(number)
                })
                .sink("out", sink::discard());
            Ok(())
        };
        let error = thalweg::execute("poisoned", build, &job.options).err().expect("it gives up");
        error.to_string()
    };
    let text = run(false);
    let record = "record 13334 of split `1` of `numbers`";
    assert!(text.contains("operator `picky`") && text.contains(record), "{text}");
    assert!(text.contains("3 times so far: panicked: assertion"), "{text}");
    let text = run(true);
    assert!(text.contains("operator `numbers`") && text.contains(record), "{text}");
    assert!(text.contains("panicked: no record"), "{text}");
}

#[test]
fn a_record_that_passes_in_the_end_is_forgiven() {
    let job = Counting::new(fixed(4, 1));
    // Both are in the same split: the second is not reached before the first has passed.
    let (_, first) = fails_at(10_000, 2);
    let (_, second) = fails_at(40_000, 2);
    let check = move |number| match first(number) || second(number) {
        true => Err(Error::user("twice")),
        false => Ok(()),
    };
    let report = job.run(&StopSignal::default(), check).expect("no record fails three times");
    assert_eq!((report.outcome, report.progress.restarts), (RunOutcome::Finished, 4));
    assert_eq!(report.progress.metrics.records_read_in_this_run(), RECORDS);
    job.check_output();
}

#[test]
fn a_record_of_a_file_is_named_with_its_line() {
    let job = Counting::new(fixed(100, 1));
    let input = job.directory.path().join("input.txt");
    let lines: String = (0..30_000).map(|n| format!("{n}\n")).collect();
    std::fs::write(&input, lines + "no number\n1\n").expect("can be written");
    let build = |job: &Job| {
        job.source("lines", files::lines(input.clone()))
            .try_map(|line| line.parse::<u64>(), OnError::Fail)
            .sink("out", sink::discard());
        Ok(())
    };
    let error = thalweg::execute("lines", build, &job.options).err().expect("it gives up");
    let text = error.to_string();
    let place = format!("({} line 30001, \"no number\")", input.display());
    assert!(text.contains("record 30001 of split") && text.contains(&place), "{text}");
}
