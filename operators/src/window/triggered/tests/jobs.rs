//! Whole jobs under the simulator: schedules, crashes and rescaling drawn from a seed.

use std::time::Duration;

use thalweg_connectors::memory;
use thalweg_engine::sim::{SimPlan, Simulation};

use super::*;
use crate::aggregate::{Count, Sum};
use crate::change::Change;
use crate::window::trigger::EarlyAndLate;
use crate::window::{ProcessingSession, ProcessingTumbling, Sliding};
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
}

fn sorted<T: std::fmt::Debug>(rows: &[T]) -> Vec<String> {
    let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    rows.sort_unstable();
    rows
}

fn run(
    simulation: &Simulation,
    splits: &[Vec<Click>],
    (size, slide, lateness): (i64, i64, i64),
) -> Out {
    let (listed, late, sliced) = (memory::sink(), memory::sink(), memory::sink());
    let (changes, finals) = (memory::sink(), memory::sink());
    let (ticks, visits) = (memory::sink(), memory::sink());
    let build = || {
        let job = Job::new();
        let clicks = job
            .source("clicks", memory::from_splits(splits.to_vec()))
            .event_time(
                |click: &Click| click.1,
                Watermarks::bounded_out_of_orderness(millis(BOUND)),
            )
            .key_by(|click| click.0);
        let windows = clicks
            .window(Sliding::of(millis(size), millis(slide)))
            .allowed_lateness(millis(lateness));
        let lists = windows.process("lists", |contents| {
            contents.elements().iter().map(|element| element.value.2).collect::<Vec<_>>()
        });
        lists.results().sink("listed", listed.0.clone());
        lists.late().sink("late", late.0.clone());
        let total = || (Count, Sum::of(|click: &Click| i64::from(click.2)));
        windows.aggregate("sliced", total()).results().sink("sliced-out", sliced.0.clone());
        let trigger = EarlyAndLate::new()
            .early_every_records(3)
            .early_every(millis(4))
            .early_every_processing_time(millis(1_000_000))
            .late_every_record();
        let panes = windows.trigger(trigger).aggregate("panes", total());
        panes.updates().sink("changes", changes.0.clone());
        panes.results().sink("finals", finals.0.clone());
        let tumbling = ProcessingTumbling::of(millis(5));
        clicks.processing_window(tumbling).aggregate("ticks", Count).sink("t", ticks.0.clone());
        let session = ProcessingSession::with_gap(millis(5));
        clicks.processing_window(session).aggregate("visits", Count).sink("v", visits.0.clone());
        Ok(job.into_graph())
    };
    let report = simulation.run("triggered", build).expect("the job comes to its end");
    for operator in ["lists", "panes", "ticks", "visits"] {
        let bytes = report.final_state_bytes.get(operator).copied().unwrap_or(0);
        assert_eq!(bytes, 0, "state of {operator} is left [{}]", simulation.plan());
    }
    let mut table = BTreeMap::<String, i64>::new();
    for change in changes.1.snapshot() {
        let (row, count) = match change {
            Change::Insert(row) | Change::UpdateAfter(row) => (row, 1),
            Change::UpdateBefore(row) | Change::Delete(row) => (row, -1),
        };
        *table.entry(format!("{row:?}")).or_default() += count;
    }
    table.retain(|_, count| *count != 0);
    let table: Vec<String> = table.into_keys().collect();
    assert_eq!(table, sorted(&finals.1.snapshot()), "[{}]", simulation.plan());
    let records = splits.iter().map(Vec::len).sum::<usize>() as u64;
    for windows in [ticks.1.snapshot(), visits.1.snapshot()] {
        let held: u64 = windows.iter().map(|result| result.value).sum();
        assert_eq!(held, records, "[{}]", simulation.plan());
    }
    let sliced = sorted(&sliced.1.snapshot());
    assert_eq!(sliced, sorted(&finals.1.snapshot()), "[{}]", simulation.plan());
    let mut late = late.1.snapshot();
    late.sort_unstable();
    Out { listed: sorted(&listed.1.snapshot()), late, sliced }
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
