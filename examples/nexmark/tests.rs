//! The jobs against the expected results and against the oracle, whatever way they are run.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Parser as _, ValueEnum as _};
use sha2::{Digest as _, Sha256};
use thalweg::engine::metrics::Counter;

use crate::event::Event;
use crate::generate::tests::generated;
use crate::jobs::Input;
use crate::options::Options;
use crate::oracle::{self, Answer, Splitting};
use crate::output::{Output, merge, parts_of};
use crate::query::Query;
use crate::run::execute;

const PARALLELISMS: [usize; 3] = [1, 2, 4];
const SPLITS: [usize; 2] = [1, 3];

/// All of them.
fn queries() -> impl Iterator<Item = Query> {
    Query::value_variants().iter().copied()
}

/// The options that a command line gives.
fn options(query: Query, arguments: &str) -> Options {
    let arguments = format!("nexmark --query {} {arguments}", query.name());
    Options::try_parse_from(arguments.split_whitespace()).expect("a test's command line")
}

/// What a run wrote, line by line, the digest of what it gave out, and how many records were late.
fn written(options: &Options, events: &'static [Event]) -> Answer {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("out.csv");
    let output = Output::new(Some(parts_of(&file)));
    let report = execute(options, Input::new(events, options), &output).expect("the job runs");
    merge(options.query, &file).expect("the parts can be merged");
    let text = fs::read_to_string(&file).expect("the file is there");
    let late = report.progress.metrics.total_of_all(Counter::Late);
    Answer { lines: text.lines().map(str::to_owned).collect(), digest: output.digest(), late }
}

/// That all queries answer as the oracle does, run with `arguments` and any parallelism.
fn agree_with_oracle(events: &'static [Event], bound_ms: i64, arguments: &str) {
    for query in queries() {
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
                assert_eq!(written(&options(query, &how), events), expected, "{query:?} {how}");
            }
        }
    }
}

/// The SHA-256 of the canonical file of `lines`, in hexadecimal digits.
fn sha256_of_lines(lines: &[String]) -> String {
    let mut hash = Sha256::new();
    for line in lines {
        hash.update(line);
        hash.update("\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn results_are_those_of_flink() {
    let events: &'static [Event] = generated(100_000, 1_000, 1_000).leak();
    for query in queries() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nexmark");
        let read = |name: &str| fs::read_to_string(golden.join(name));
        let name = format!("{}.csv", query.name());
        let expected = read(&name).ok();
        // The large ones are given as digests.
        let sums = read("SHA256SUMS").expect("part of the repository");
        for driver in ["threads", "sim"] {
            for (parallelism, splits) in
                PARALLELISMS.into_iter().flat_map(|p| SPLITS.map(|s| (p, s)))
            {
                let how =
                    format!("--driver {driver} --parallelism {parallelism} --splits {splits}");
                let Answer { lines, late, .. } = written(&options(query, &how), events);
                assert_eq!(late, 0);
                if let Some(expected) = &expected {
                    assert_eq!(lines, expected.lines().collect::<Vec<_>>(), "{query:?} {how}");
                } else {
                    let sum = format!("{}  {name}", sha256_of_lines(&lines));
                    assert!(sums.lines().any(|line| line == sum), "{sum} {how}");
                }
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
    agree_with_oracle(events_with_many_late(), 1_000, "--driver sim --seed 11");
}

/// Few auctions, bidders, prices and times, so that much is equal.
fn events_with_ties() -> &'static [Event] {
    let mut events = generated(20_000, 1_000, 1_000);
    for event in &mut events {
        if let Event::Bid(bid) = event {
            bid.date_time -= bid.date_time % 2_000;
            (bid.auction, bid.bidder, bid.price) = (bid.auction % 3, bid.bidder % 2, bid.price % 3);
        }
    }
    events.leak()
}

#[test]
fn positions_decide_between_equal_bids() {
    let events = events_with_ties();
    agree_with_oracle(events, 4_000, "");
    agree_with_oracle(events, 4_000, "--driver sim --seed 5");
    agree_with_oracle(events, 0, "--bench-owned");
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
    for query in queries() {
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
            assert_eq!(written(&options(query, &how), events), expected, "{query:?} {how}");
        }
    }
}
