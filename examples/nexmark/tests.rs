//! The jobs against the expected results and against the oracle, whatever way they are run.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Parser as _, ValueEnum as _};
use thalweg::engine::metrics::Counter;

use crate::event::Event;
use crate::generate::tests::generated;
use crate::jobs::Input;
use crate::options::Options;
use crate::oracle::{self, Splitting};
use crate::output::{Output, merge, parts_of};
use crate::query::Query;
use crate::run::execute;

const PARALLELISMS: [usize; 3] = [1, 2, 4];
const SPLITS: [usize; 2] = [1, 3];

/// The options that a command line gives.
fn options(query: Query, arguments: &str) -> Options {
    let arguments = format!("nexmark --query {} {arguments}", query.name());
    Options::try_parse_from(arguments.split_whitespace()).expect("a test's command line")
}

/// What a run wrote, line by line, and how many records were late.
fn written(options: &Options, events: &'static [Event]) -> (Vec<String>, u64) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("out.csv");
    let output = Output::new(Some(parts_of(&file)));
    let report = execute(options, Input::new(events, options), &output).expect("the job runs");
    merge(options.query, &file).expect("the parts can be merged");
    let text = fs::read_to_string(&file).expect("the file is there");
    let late = report.progress.metrics.total_of_all(Counter::Late);
    (text.lines().map(str::to_owned).collect(), late)
}

/// That all queries answer as the oracle does, run with `arguments` and any parallelism.
fn agree_with_oracle(events: &'static [Event], bound_ms: i64, arguments: &str) {
    for &query in Query::value_variants() {
        for splits in SPLITS {
            let splitting = Splitting {
                splits: NonZeroUsize::new(splits).expect("at least one split"),
                bound_ms,
            };
            let expected = oracle::answer(query, events, splitting);
            for parallelism in PARALLELISMS {
                let how = format!(
                    "--splits {splits} --parallelism {parallelism} --out-of-orderness {bound_ms}ms \
                     {arguments}"
                );
                let (lines, late) = written(&options(query, &how), events);
                assert_eq!(lines, expected.lines, "{query:?} {how}");
                assert_eq!(late, expected.late, "{query:?} {how}");
            }
        }
    }
}

#[test]
fn results_are_those_of_flink() {
    let events: &'static [Event] = generated(100_000, 1_000, 1_000).leak();
    for &query in Query::value_variants() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nexmark");
        // The large ones are given as digests; the oracle is checked against these.
        let Ok(expected) = fs::read_to_string(golden.join(query.name()).with_extension("csv"))
        else {
            assert!(matches!(query, Query::Q0 | Query::Q1), "{query:?} has an expected result");
            continue;
        };
        for driver in ["threads", "sim"] {
            for parallelism in PARALLELISMS {
                let how = format!("--driver {driver} --parallelism {parallelism} --splits 3");
                let (lines, late) = written(&options(query, &how), events);
                assert_eq!(lines, expected.lines().collect::<Vec<_>>(), "{query:?} {how}");
                assert_eq!(late, 0);
            }
        }
    }
}

#[test]
fn in_order_all_ways_agree_with_the_oracle() {
    let events: &'static [Event] = generated(20_000, 1_000, 1_000).leak();
    agree_with_oracle(events, 4_000, "");
    agree_with_oracle(events, 4_000, "--driver sim --seed 7");
}

/// Events of which more than 30 % are late for their window if the bound is a second: a group
/// spans 50 s.
fn events_with_many_late() -> &'static [Event] {
    let events = generated(20_000, 100, 5_000);
    let splitting = Splitting { splits: NonZeroUsize::MIN, bound_ms: 1_000 };
    let late = oracle::answer(Query::Wc, &events, splitting).late;
    assert!(late > 6_000, "{late}");
    events.leak()
}

#[test]
fn with_many_late_events_all_ways_agree_with_the_oracle() {
    agree_with_oracle(events_with_many_late(), 1_000, "");
}

#[test]
fn owned_events_agree_with_the_oracle() {
    agree_with_oracle(events_with_many_late(), 1_000, "--bench-owned");
}

#[test]
fn little_memory_changes_nothing() {
    agree_with_oracle(events_with_many_late(), 1_000, "--state rocksdb --memory 100000");
}

#[test]
fn checkpoints_change_nothing() {
    let events = events_with_many_late();
    for &query in Query::value_variants() {
        let splitting = Splitting { splits: NonZeroUsize::MIN, bound_ms: 1_000 };
        let expected = oracle::answer(query, events, splitting);
        for (parallelism, state) in [(1, "memory"), (2, "rocksdb --memory 100000"), (4, "memory")] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let checkpoints: PathBuf = directory.path().join("checkpoints");
            let how = format!(
                "--parallelism {parallelism} --out-of-orderness 1s --state {state} \
                 --checkpoint-interval 10ms --checkpoint-dir {}",
                checkpoints.display()
            );
            let (lines, late) = written(&options(query, &how), events);
            assert_eq!(lines, expected.lines, "{query:?} {how}");
            assert_eq!(late, expected.late, "{query:?} {how}");
        }
    }
}
