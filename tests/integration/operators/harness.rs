//! Runs a case in every way: what a case is, the runs, and what must hold for each.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use thalweg::memory::{self, Collected, MemorySink};
use thalweg::prelude::*;
use thalweg::{Counter, ErrorKind, RestartPolicy, RunOutcome, RunReport, StateBackend, StopSignal};

use super::data::{BOUND, Data, Event, Port, Row, Splits, decoded, sorted};
use super::source::{Gate, Gated, Then};

/// A quarter of this is what the tables of one operator may hold at parallelism 2.
const MEMORY_BYTES: u64 = 32 << 10;

/// What becomes of the records that are not late, in a gap, skipped or dead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Each of them is in some row.
    InRows,
    /// Some are only in state, or were dropped as the operator is there to do.
    Rest,
    /// As `Rest`, and every subtask gets its own copy of some.
    Copies,
}

/// A job with one operator to be tested.
pub(crate) struct Case {
    /// The operator's name in the job.
    pub(crate) name: &'static str,
    pub(crate) build: fn(&Job, &Input) -> Stream<Row>,
    /// What of its rows does not depend on the schedule, sorted.
    pub(crate) invariant: fn(&[Row]) -> Vec<Row>,
    /// The same, computed from the data alone.
    pub(crate) expected: Option<fn(&Data) -> Vec<Row>>,
    pub(crate) held: Held,
    /// Whether it keeps identities as state, which shows whether that was in RocksDB.
    pub(crate) shows_spilling: bool,
}

/// All rows, where none depends on the schedule.
pub(crate) fn all(rows: &[Row]) -> Vec<Row> {
    sorted(rows.iter().cloned())
}

/// What a case builds its job from.
pub(crate) struct Input {
    data: Data,
    gate: Gate,
}

impl Input {
    fn events(&self, job: &Job, name: &str, splits: &Splits) -> Stream<Event> {
        let source = memory::from_splits(splits.clone());
        let bound = Duration::from_millis(BOUND as u64);
        job.source(name, Gated { source, gate: self.gate.clone() })
            .event_time(|event: &Event| event.time, Watermarks::bounded_out_of_orderness(bound))
    }

    pub(crate) fn left(&self, job: &Job) -> Stream<Event> {
        self.events(job, "left", &self.data.left)
    }

    pub(crate) fn keyed(&self, job: &Job) -> KeyedStream<u32, Event> {
        self.left(job).key_by(|event| event.key)
    }

    pub(crate) fn right(&self, job: &Job) -> Stream<Event> {
        self.events(job, "right", &self.data.right)
    }

    pub(crate) fn keyed_right(&self, job: &Job) -> KeyedStream<u32, Event> {
        self.right(job).key_by(|event| event.key)
    }
}

/// How a job runs.
#[derive(Clone, Copy)]
struct How<'a> {
    parallelism: usize,
    state: StateBackend,
    checkpoints: Option<&'a Path>,
}

impl How<'_> {
    fn options(self) -> JobOptions {
        JobOptions {
            parallelism: Some(self.parallelism),
            workers: Some(2),
            checkpoint_dir: self.checkpoints.map(Path::to_owned),
            checkpoint_interval: self.checkpoints.map(|_| Duration::from_millis(20)),
            restart: Some(RestartPolicy::None),
            state: self.state,
            memory: Some(MEMORY_BYTES),
            ..JobOptions::default()
        }
    }
}

/// Attempts to run a case to its end, with one sink.
struct Attempts<'a> {
    case: &'a Case,
    data: Data,
    sink: MemorySink<Row>,
    rows: Collected<Row>,
}

impl<'a> Attempts<'a> {
    fn new(case: &'a Case, data: &Data) -> Self {
        let (sink, rows) = memory::sink();
        Attempts { case, data: data.of_next_run(), sink, rows }
    }

    fn run(
        &self,
        how: How<'_>,
        points: Vec<(u64, Then)>,
        stop: &StopSignal,
    ) -> thalweg::Result<RunReport> {
        let gate = Gate::new(how.checkpoints.map(Path::to_owned).unwrap_or_default(), points);
        let input = Input { data: self.data.clone(), gate };
        let build = |job: &Job| {
            (self.case.build)(job, &input).sink("rows", self.sink.clone());
            Ok(())
        };
        thalweg::execute_until(self.case.name, build, &how.options(), stop)
    }

    /// Fails unless the run came to its end and every record is accounted for.
    fn check_end(&self, report: &RunReport, what: &str) {
        let name = self.case.name;
        assert_eq!(report.outcome, RunOutcome::Finished, "{name}, {what}");
        assert_eq!(self.rows.prepared_len(), 0, "{name}, {what}: output is not committed");
        let metrics = &report.progress.metrics;
        let total = |counter| metrics.total(name, counter);
        let sides = [("left", &self.data.left), ("right", &self.data.right)];
        let sides = sides.iter().filter(|(side, _)| metrics.operators().any(|op| op == *side));
        let records: usize = sides.map(|(_, splits)| splits.iter().flatten().count()).sum();
        let records = records as u64;
        assert_eq!(metrics.records_read(), records, "{name}, {what}: records read");
        // A combiner is left out at parallelism 1, and makes one record of several elsewhere.
        let combined = metrics.total(&format!("{name}.combiner"), Counter::In);
        if combined == 0 && self.case.held != Held::Copies {
            assert_eq!(total(Counter::In), records, "{name}, {what}: records in");
        }

        let rows = self.rows.snapshot();
        let late = rows.iter().filter(|row| row.port == Port::Late).count() as u64;
        assert_eq!(total(Counter::Late), late, "{name}, {what}: late records");
        if self.case.held == Held::InRows {
            let results = rows.iter().filter(|row| row.port != Port::Late);
            let ids = results.flat_map(|row| row.ids.iter().copied().filter(|id| *id > 0));
            let held = ids.collect::<BTreeSet<i64>>().len() as u64;
            let counters = [Counter::Late, Counter::Gap, Counter::Skipped, Counter::Dead];
            let others: u64 = counters.map(total).iter().sum();
            assert_eq!(held + others, records, "{name}, {what}: {held} held, {others} others");
        }
    }

    /// Fails unless the rows are as they should be.
    fn check_rows(&self, expected: &[Row], what: &str) {
        let given = (self.case.invariant)(&self.rows.snapshot());
        if given == expected {
            return;
        }
        let lost: Vec<&Row> = expected.iter().filter(|row| !given.contains(row)).take(3).collect();
        let more: Vec<&Row> = given.iter().filter(|row| !expected.contains(row)).take(3).collect();
        panic!(
            "{}, {what}: {} rows of {}; lost {lost:?}, too many {more:?}",
            self.case.name,
            given.len(),
            expected.len()
        );
    }
}

/// Every parallelism with every backend, if the environment variable `THALWEG_EVERY` is set;
/// otherwise RocksDB, which takes its time, only where memory is little and where runs end early.
fn is_every() -> bool {
    std::env::var_os("THALWEG_EVERY").is_some()
}

/// Runs a case in every way and fails if anything depends on it.
pub(crate) fn check(case: &Case) {
    let data = Data::new();
    let calm = Attempts::new(case, &data);
    let how = How { parallelism: 1, state: StateBackend::Memory, checkpoints: None };
    let report = calm.run(how, Vec::new(), &StopSignal::default()).expect("a calm run");
    calm.check_end(&report, "calm");
    let rows = (case.invariant)(&calm.rows.snapshot());
    assert!(!rows.is_empty(), "{} gives nothing out", case.name);
    if let Some(expected) = case.expected {
        calm.check_rows(&expected(&data), "calm, against a computation from scratch");
    }
    spill(case, &data, &rows);
    checkpoint(case, &data, &rows);
    interrupt(case, &data, &rows);
}

/// Little memory, no checkpoints: what is decoded was in RocksDB.
fn spill(case: &Case, data: &Data, expected: &[Row]) {
    let mut spilled = 0;
    for &parallelism in if is_every() { &[1, 2, 4][..] } else { &[2] } {
        let job = Attempts::new(case, data);
        let how = How { parallelism, state: StateBackend::RocksDb, checkpoints: None };
        let report = job.run(how, Vec::new(), &StopSignal::default()).expect("a run that spills");
        let what = format!("spilling at parallelism {parallelism}");
        job.check_end(&report, &what);
        job.check_rows(expected, &what);
        spilled += decoded(job.data.run);
    }
    println!("{}: {spilled} identities came back from RocksDB", case.name);
    assert!(spilled > 0 || !case.shows_spilling, "{} did not spill", case.name);
}

/// Checkpoints while records flow.
fn checkpoint(case: &Case, data: &Data, expected: &[Row]) {
    let memory = [1, 2, 4].map(|parallelism| (parallelism, StateBackend::Memory));
    let rocks: &[usize] = if is_every() { &[1, 2, 4] } else { &[] };
    let rocks = rocks.iter().map(|parallelism| (*parallelism, StateBackend::RocksDb));
    for (parallelism, state) in memory.into_iter().chain(rocks) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let job = Attempts::new(case, data);
        let how = How { parallelism, state, checkpoints: Some(directory.path()) };
        let points = vec![(900, Then::Checkpoint)];
        let report = job.run(how, points, &StopSignal::default()).expect("a run with checkpoints");
        let what = format!("checkpoints at parallelism {parallelism}, {state:?}");
        job.check_end(&report, &what);
        job.check_rows(expected, &what);
        assert!(report.progress.checkpoints >= 2, "{}, {what}", case.name);
    }
}

/// Stops and crashes in the middle, and another parallelism and backend after each.
fn interrupt(case: &Case, data: &Data, expected: &[Row]) {
    let (memory, rocks) = (StateBackend::Memory, StateBackend::RocksDb);
    let legs = [(2, memory, true), (4, rocks, false), (1, rocks, true), (3, memory, false)];
    let directory = tempfile::tempdir().expect("a temporary directory");
    let job = Attempts::new(case, data);
    let mut before = None;
    for (parallelism, state, is_stop) in legs {
        let how = How { parallelism, state, checkpoints: Some(directory.path()) };
        let stop = StopSignal::default();
        let then = if is_stop { Then::Stop(stop.clone()) } else { Then::Crash };
        let what = format!("{}, parallelism {parallelism}, {state:?}", case.name);
        match job.run(how, vec![(400, then)], &stop) {
            Ok(report) => {
                assert_eq!(report.outcome, RunOutcome::Stopped, "{what}");
                assert_eq!(report.restored_from.is_some(), before.is_some(), "{what}");
            }
            Err(error) => {
                assert!(!is_stop && error.kind() == ErrorKind::User, "{what}: {error}");
            }
        }
        before = Some(());
    }
    let how = How { parallelism: 2, state: rocks, checkpoints: Some(directory.path()) };
    let report = job.run(how, Vec::new(), &StopSignal::default()).expect("the last leg");
    assert!(report.restored_from.is_some(), "{}", case.name);
    job.check_end(&report, "interrupted");
    job.check_rows(expected, "interrupted");
}
