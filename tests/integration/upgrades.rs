//! A job in several versions: state of old types, under old names, taken over, refused, given up.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use thalweg::engine::checkpoint::Archive;
use thalweg::engine::state::KeyGroupCount;
use thalweg::engine::upgrade::{Comparison, Verdict, compare};
use thalweg::prelude::*;
use thalweg::{Error, ErrorKind, StopSignal};

const RECORDS: u64 = 60_000;
const KEYS: u64 = 10;

/// What every version comes to: records and their sum, by key.
type Totals = (u64, i128);

/// An aggregate whose accumulator is of a version's own type.
macro_rules! version {
    ($version:ident,
     $accumulator:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? },
     |$acc:ident, $n:ident| $add:expr, |$total:ident| $finish:expr) => {
        #[derive(Clone, Default, Serialize, Deserialize)]
        #[serde(rename = "Total")]
        struct $accumulator { $($(#[$attribute])* $field: $type,)* }

        struct $version;

        impl Aggregate<u64> for $version {
            type Accumulator = $accumulator;
            type Out = Totals;

            fn create(&self) -> $accumulator {
                $accumulator::default()
            }

            fn add(&self, $acc: &mut $accumulator, $n: &u64) {
                $add;
            }

            fn merge(&self, _: &mut $accumulator, _: &$accumulator) {
                unreachable!("running aggregates do not merge")
            }

            fn finish(&self, $total: &$accumulator) -> Totals {
                $finish
            }
        }
    };
}

version!(First, FirstTotal { sum: i64, unused: Vec<u8>, count: u32, },
    |a, n| { a.count += 1; a.sum += *n as i64 }, |t| (t.count.into(), t.sum.into()));
// Reordered, wider, without one field and with two new ones.
version!(Second,
    SecondTotal { count: u64, sum: i128, #[serde(default)] largest: u64, last: Option<u64>, },
    |a, n| {
        a.count += 1;
        a.sum += i128::from(*n);
        a.largest = a.largest.max(*n);
        a.last = Some(*n);
    },
    |t| (t.count, t.sum));
// A new field that has to be there.
version!(
    Third,
    ThirdTotal { count: u64, mean: f64 },
    |a, n| {
        a.mean = (a.mean * a.count as f64 + *n as f64) / (a.count + 1) as f64;
        a.count += 1;
    },
    |t| (t.count, (t.mean * t.count as f64).round() as i128)
);

/// The job with one version of its aggregate, under a name.
fn graph<A: Aggregate<u64, Out = Totals> + Send + Sync + 'static>(
    job: &Job,
    (name, aggregate): (&str, A),
    sink: memory::MemorySink<(u64, Totals)>,
    seen: impl Fn(u64) + Send + Sync + 'static,
) {
    job.source("numbers", generator(Some(RECORDS), |n| n).records_per_second(200_000))
        .map(move |n| {
            seen(n);
            n
        })
        .key_by(|n| n % KEYS)
        .aggregate(name, aggregate)
        .map(|total| (total.key, total.value))
        .sink("totals", sink);
}

fn options(directory: &Path, parallelism: usize) -> JobOptions {
    JobOptions {
        checkpoint_dir: Some(directory.join("checkpoints")),
        parallelism: Some(parallelism),
        workers: Some(2),
        ..JobOptions::default()
    }
}

/// Runs the first version to its middle, and returns its savepoint.
fn first_version(directory: &Path) -> PathBuf {
    let stop = StopSignal::default();
    let (sink, _) = memory::sink();
    let savepoints = directory.join("savepoints");
    // The request is made once, when the job is in its middle.
    let ticket = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (asked, kept, stopper) = (AtomicU64::new(0), ticket.clone(), stop.clone());
    let ask = std::sync::Arc::new(move |n: u64| {
        if n == RECORDS / 4 && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            let ticket = stopper.stop_with_savepoint(&savepoints);
            *kept.lock().expect("is not poisoned") = Some(ticket);
        }
    });
    let build = move |job: &Job| {
        let ask = ask.clone();
        graph(job, ("total", First), sink.clone(), move |n| ask(n));
        Ok(())
    };
    let report = thalweg::execute_until("sums", build, &options(directory, 2), &stop);
    let report = report.expect("stops in order");
    assert_eq!(report.outcome, thalweg::RunOutcome::Stopped);
    let ticket = ticket.lock().expect("is not poisoned").take().expect("was asked for");
    ticket.wait().expect("a savepoint")
}

/// Runs a version to its end and checks what it comes to.
fn finish(directory: &Path, parallelism: usize, declare: impl Fn(&Job, Sink)) -> Result<(), Error> {
    let (sink, rows) = memory::sink();
    let build = |job: &Job| {
        declare(job, sink.clone());
        Ok(())
    };
    thalweg::execute("sums", build, &options(directory, parallelism))?;
    let rows = rows.take();
    for key in 0..KEYS {
        let last = rows.iter().filter(|row| row.0 == key).map(|row| row.1).max();
        let count = RECORDS / KEYS;
        let sum = (0..count).map(|i| i128::from(i * KEYS + key)).sum();
        assert_eq!(last, Some((count, sum)), "of key {key}");
    }
    Ok(())
}

type Sink = memory::MemorySink<(u64, Totals)>;

/// What would become of a savepoint.
fn verdict(savepoint: &Path, declare: impl Fn(&Job, Sink)) -> Comparison {
    let job = Job::new();
    declare(&job, memory::sink().0);
    let graph = job.into_graph();
    graph.validate().expect("a sound graph");
    let archive = Archive::open(savepoint, None).expect("a savepoint");
    compare(&graph, "sums", &archive, KeyGroupCount::default()).expect("can be compared")
}

fn of_total(comparison: &Comparison) -> &Verdict {
    let named = |name| comparison.operators.iter().find(move |found| found.name == name);
    &named("total").or_else(|| named("sum")).expect("has the operator").verdict
}

#[test]
fn values_of_old_types_become_new_ones_and_stay_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let savepoint = first_version(directory.path());
    let second = |job: &Job, sink| graph(job, ("total", Second), sink, |_| {});
    let comparison = verdict(&savepoint, second);
    let Verdict::Migrates { changes } = of_total(&comparison) else { panic!("{comparison:?}") };
    for change in ["added field largest", "removed field unused", "sum: i64 became i128"] {
        assert!(changes.iter().any(|found| found.ends_with(change)), "{changes:?}");
    }
    assert!(comparison.can_start());
    finish(directory.path(), 3, second).expect("takes the state over");
    // Its own checkpoints are of the new types.
    let newest = verdict(&directory.path().join("checkpoints"), second);
    assert_eq!(*of_total(&newest), Verdict::Same);
}

#[test]
fn what_cannot_be_taken_over_is_refused_until_there_is_a_function_for_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let savepoint = first_version(directory.path());
    let third = |job: &Job, sink| graph(job, ("total", Third), sink, |_| {});
    let comparison = verdict(&savepoint, third);
    let Verdict::Refused { reason } = of_total(&comparison) else { panic!("{comparison:?}") };
    assert!(reason.contains("the field `mean` is new"), "{reason}");
    assert!(!comparison.can_start());
    let error = finish(directory.path(), 2, third).expect_err("is refused");
    assert_eq!((error.kind(), error.operator()), (ErrorKind::Incompatible, Some("total")));
    assert!(error.to_string().contains("the field `mean` is new"), "{error}");

    let with_function = |job: &Job, sink| {
        third(job, sink);
        job.migrate("total", |old: FirstTotal| ThirdTotal {
            count: old.count.into(),
            mean: old.sum as f64 / f64::from(old.count),
        });
    };
    assert!(verdict(&savepoint, with_function).can_start());
    finish(directory.path(), 1, with_function).expect("takes the state over");
    // The function stays in the program and has nothing more to do.
    finish_again(directory.path(), with_function);
}

/// A job that has finished finds its own types in its last checkpoint.
fn finish_again(directory: &Path, declare: impl Fn(&Job, Sink)) {
    let comparison = verdict(&directory.join("checkpoints"), declare);
    assert_eq!(*of_total(&comparison), Verdict::Same);
}

#[test]
fn operators_change_their_names_and_go_only_if_that_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let savepoint = first_version(directory.path());
    let renamed = |job: &Job, sink| graph(job, ("sum", First), sink, |_| {});
    let comparison = verdict(&savepoint, renamed);
    let verdicts: Vec<_> = comparison.operators.iter().map(|o| (&*o.name, &o.verdict)).collect();
    assert!(verdicts.contains(&("total", &Verdict::Missing)), "{verdicts:?}");
    assert!(verdicts.contains(&("sum", &Verdict::New)), "{verdicts:?}");
    let error = finish(directory.path(), 2, renamed).expect_err("is refused");
    assert!(error.to_string().contains("`Job::renamed`"), "{error}");

    let given_up = |job: &Job, sink| {
        renamed(job, sink);
        job.dropped("total");
    };
    let comparison = verdict(&savepoint, given_up);
    assert_eq!(comparison.operators[0].verdict, Verdict::Dropped);
    assert!(comparison.can_start());

    let said = |job: &Job, sink| {
        renamed(job, sink);
        job.renamed("total", "sum");
    };
    let comparison = verdict(&savepoint, said);
    assert_eq!(*of_total(&comparison), Verdict::Same);
    assert!(comparison.operators.iter().any(|o| o.was.as_deref() == Some("total")));
    finish(directory.path(), 3, said).expect("takes the state over");

    let absent = |job: &Job, sink| {
        renamed(job, sink);
        job.migrate("total", |old: FirstTotal| old);
    };
    let error = finish(directory.path(), 3, absent).expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("upgrades.rs:"), "{error}");
}

#[test]
fn another_type_of_key_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let savepoint = first_version(directory.path());
    let by_text = |job: &Job, sink: Sink| {
        job.source("numbers", generator(Some(RECORDS), |n| n))
            .key_by(|n| (n % KEYS).to_string())
            .aggregate("total", First)
            .map(|total| (total.value.0, total.value))
            .sink("totals", sink);
    };
    let comparison = verdict(&savepoint, by_text);
    let Verdict::Refused { reason } = of_total(&comparison) else { panic!("{comparison:?}") };
    assert!(reason.contains("the type of a key is fixed"), "{reason}");
    let error = finish(directory.path(), 2, by_text).expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}
