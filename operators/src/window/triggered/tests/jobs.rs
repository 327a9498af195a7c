//! Whole jobs under the simulator: schedules, crashes and rescaling drawn from a seed.

use std::time::Duration;

use thalweg_connectors::memory::{self, Collected, MemorySink};
use thalweg_engine::sim::{SimPlan, Simulation};

use super::*;
use crate::aggregate::{Count, Sum};
use crate::change::Change;
use crate::window::pane::Pane;
use crate::window::trigger::{CountTrigger, EarlyAndLate, Purging};
use crate::window::{GlobalWindow, ProcessingResult, ProcessingSession, ProcessingTumbling};
use crate::window::{Session, Sliding};
use crate::{Job, Watermarks};

/// A key, a time, and a number of its own.
type Click = (u8, i64, u32);

const BOUND: i64 = 6;

fn splits(random: &mut Random) -> Vec<Vec<Click>> {
    let mut number = 0;
    let mut split = || {
        let mut now = random.between(-20, 20);
        let records = (0..random.below(60)).map(|_| {
            now += random.between(0, 3);
            number += 1;
            (random.below(4) as u8, now - random.between(0, 2 * BOUND), number)
        });
        records.collect()
    };
    (0..3).map(|_| split()).collect()
}

fn millis(n: i64) -> Duration {
    Duration::from_millis(n as u64)
}

/// What a run gave out, sorted.
#[derive(PartialEq, Eq, Debug)]
struct Out {
    listed: Vec<String>,
    late: Vec<Click>,
    sliced: Vec<String>,
    sessions: Vec<String>,
}

fn sorted<T: std::fmt::Debug>(rows: &[T]) -> Vec<String> {
    let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    rows.sort_unstable();
    rows
}

/// Where the streams of a job end.
struct Sinks {
    listed: Ends<WindowResult<u8, Vec<u32>>>,
    late: Ends<Click>,
    sliced: Ends<WindowResult<u8, Total>>,
    changes: Ends<Change<WindowResult<u8, Total>>>,
    finals: Ends<WindowResult<u8, Total>>,
    sessions: Ends<WindowResult<u8, Total>>,
    session_changes: Ends<Change<WindowResult<u8, Total>>>,
    counted: Ends<Pane<u8, u64>>,
    ticks: Ends<ProcessingResult<u8, u64>>,
    visits: Ends<ProcessingResult<u8, u64>>,
}

type Ends<T> = (MemorySink<T>, Collected<T>);
type Total = (u64, i128);

type Totals = (Count, Sum<fn(&Click) -> i64, Click>);

fn total() -> Totals {
    (Count, Sum::of(|click: &Click| i64::from(click.2)))
}

fn trigger() -> EarlyAndLate {
    EarlyAndLate::new()
        .early_every_records(3)
        .early_every(millis(4))
        .early_every_processing_time(millis(1_000_000))
        .late_every_record()
}

fn build(splits: &[Vec<Click>], (size, slide, lateness): (i64, i64, i64), sinks: &Sinks) -> Job {
    let job = Job::new();
    let clicks = job
        .source("clicks", memory::from_splits(splits.to_vec()))
        .event_time(|click: &Click| click.1, Watermarks::bounded_out_of_orderness(millis(BOUND)))
        .key_by(|click| click.0);
    let windows = clicks.window(Sliding::of(millis(size), millis(slide)).with_gaps());
    let windows = windows.allowed_lateness(millis(lateness));
    let lists = windows.process("lists", |contents| {
        contents.elements().iter().map(|element| element.value.2).collect::<Vec<_>>()
    });
    lists.results().sink("listed", sinks.listed.0.clone());
    lists.late().sink("late", sinks.late.0.clone());
    windows.aggregate("sliced", total()).results().sink("sliced-out", sinks.sliced.0.clone());
    let panes = windows.trigger(trigger()).aggregate("panes", total());
    panes.updates().sink("changes", sinks.changes.0.clone());
    panes.results().sink("finals", sinks.finals.0.clone());
    let session = || clicks.window(Session::with_gap(millis(size.min(5))));
    let plain = session().allowed_lateness(millis(lateness)).aggregate("plain", total());
    plain.results().sink("sessions", sinks.sessions.0.clone());
    let sessions = session().allowed_lateness(millis(lateness)).trigger(trigger());
    let changes = sessions.aggregate("merged", total()).updates();
    changes.sink("session-changes", sinks.session_changes.0.clone());
    let pairs = clicks.window(GlobalWindow).trigger(Purging::of(CountTrigger::of(2)));
    pairs.aggregate("pairs", Count).panes().sink("counted", sinks.counted.0.clone());
    let tumbling = ProcessingTumbling::of(millis(5));
    let ticks = clicks.processing_window(tumbling).aggregate("ticks", Count);
    ticks.sink("t", sinks.ticks.0.clone());
    let session = ProcessingSession::with_gap(millis(5));
    let visits = clicks.processing_window(session).aggregate("visits", Count);
    visits.sink("v", sinks.visits.0.clone());
    job
}

/// The rows that changes make, sorted.
fn table(changes: &[Change<WindowResult<u8, Total>>]) -> Vec<String> {
    let mut table = BTreeMap::<String, i64>::new();
    for change in changes {
        let (row, count) = match change {
            Change::Insert(row) | Change::UpdateAfter(row) => (row, 1),
            Change::UpdateBefore(row) | Change::Delete(row) => (row, -1),
        };
        *table.entry(format!("{row:?}")).or_default() += count;
    }
    table.retain(|_, count| *count != 0);
    assert!(table.values().all(|count| *count == 1));
    table.into_keys().collect()
}

fn run(simulation: &Simulation, splits: &[Vec<Click>], kind: (i64, i64, i64)) -> Out {
    let sinks = Sinks {
        listed: memory::sink(),
        late: memory::sink(),
        sliced: memory::sink(),
        changes: memory::sink(),
        finals: memory::sink(),
        sessions: memory::sink(),
        session_changes: memory::sink(),
        counted: memory::sink(),
        ticks: memory::sink(),
        visits: memory::sink(),
    };
    let plan = simulation.plan();
    let report = simulation
        .run("triggered", || Ok(build(splits, kind, &sinks).into_graph()))
        .expect("the job comes to its end");
    for operator in ["lists", "panes", "merged", "pairs", "ticks", "visits"] {
        let bytes = report.final_state_bytes.get(operator).copied().unwrap_or(0);
        assert_eq!(bytes, 0, "state of {operator} is left [{plan}]");
    }
    let finals = sorted(&sinks.finals.1.snapshot());
    assert_eq!(table(&sinks.changes.1.snapshot()), finals, "[{plan}]");
    let sessions = sorted(&sinks.sessions.1.snapshot());
    assert_eq!(table(&sinks.session_changes.1.snapshot()), sessions, "[{plan}]");
    let records = splits.iter().map(Vec::len).sum::<usize>() as u64;
    for windows in [sinks.ticks.1.snapshot(), sinks.visits.1.snapshot()] {
        let held: u64 = windows.iter().map(|result| result.value).sum();
        assert_eq!(held, records, "[{plan}]");
    }
    let counted = sinks.counted.1.snapshot();
    assert_eq!(counted.iter().map(|pane| pane.value).sum::<u64>(), records, "[{plan}]");
    assert!(counted.iter().all(|pane| pane.value == 2 || pane.info.is_final), "[{plan}]");
    let sliced = sorted(&sinks.sliced.1.snapshot());
    assert_eq!(sliced, finals, "[{plan}]");
    let mut late = sinks.late.1.snapshot();
    late.sort_unstable();
    Out { listed: sorted(&sinks.listed.1.snapshot()), late, sliced, sessions }
}

#[test]
fn jobs_give_the_same_results_in_every_run() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let splits = splits(&mut random);
        let (size, slide) = (random.between(1, 30), random.between(1, 30));
        let kind = (size, slide, random.between(0, 1) * random.between(1, 20));
        let calm = run(&Simulation::with_plan(SimPlan::calm(seed, 1)), &splits, kind);
        for other in [seed, seed + 1_000, seed + 2_000] {
            assert_eq!(run(&Simulation::new(other), &splits, kind), calm, "seeds {seed}, {other}");
        }
    }
}
