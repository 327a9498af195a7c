//! The windowed job: sliced windows, windows behind windows, a process function, late records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thalweg::Counter;
use thalweg::memory::{self, Collected, MemorySink};
use thalweg::prelude::*;
use thalweg::sim::{Random, SimPlan, SimReport, Simulation};

use crate::data::{BOUND, Click, WindowKind, clicks};
use crate::reference::{Expected, expected};

/// The identities of all clicks of a window, sorted: shows what was lost or counted twice.
struct Identities;

impl Aggregate<Click> for Identities {
    type Accumulator = Vec<u64>;
    type Out = Vec<u64>;

    fn create(&self) -> Vec<u64> {
        Vec::new()
    }

    fn add(&self, accumulator: &mut Vec<u64>, click: &Click) {
        accumulator.push(click.id);
    }

    fn merge(&self, accumulator: &mut Vec<u64>, other: &Vec<u64>) {
        accumulator.extend(other);
    }

    fn finish(&self, accumulator: &Vec<u64>) -> Vec<u64> {
        let mut ids = accumulator.clone();
        ids.sort_unstable();
        ids
    }
}

/// Counts the clicks of a user and tells the count at the end of time.
struct CountToTheEnd;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct UserTotal {
    user: u32,
    clicks: u64,
}

impl ProcessFunction<u32, Click> for CountToTheEnd {
    type State = u64;
    type Out = UserTotal;

    fn on_record(
        &self,
        _click: Click,
        context: &mut ProcessContext<'_, u32, u64, UserTotal>,
    ) -> thalweg::Result<()> {
        *context.state += 1;
        context.register_timer(EventTime::from_millis(1_000_000));
        // A timer that is registered and taken back must not fire.
        context.register_timer(EventTime::from_millis(1_000_001));
        context.delete_timer(EventTime::from_millis(1_000_001));
        Ok(())
    }

    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, u32, u64, UserTotal>,
    ) -> thalweg::Result<()> {
        assert_eq!(time, EventTime::from_millis(1_000_000), "a deleted timer fired");
        let (user, clicks) = (*context.key(), *context.state);
        context.emit(UserTotal { user, clicks });
        Ok(())
    }
}

type Inner = WindowResult<u32, Vec<u64>>;
type Outer = WindowResult<u32, (u64, i128)>;

/// The sinks of one simulated run; they outlive its crashes.
struct World {
    windows: (MemorySink<Inner>, Collected<Inner>),
    late: (MemorySink<Click>, Collected<Click>),
    outer: (MemorySink<Outer>, Collected<Outer>),
    users: (MemorySink<UserTotal>, Collected<UserTotal>),
}

fn build(splits: &[Vec<Click>], kind: WindowKind, world: &World) -> Job {
    let job = Job::new();
    let clicks = job
        .source("clicks", memory::from_splits(splits.to_vec()))
        .event_time(
            |click: &Click| click.time,
            Watermarks::bounded_out_of_orderness(WindowKind::millis(BOUND)),
        )
        // Operators that make one record of many of one, and one of many.
        .flat_map(|click| [None, Some(click)])
        .filter(Option::is_some)
        .filter_map(|click| click);
    let by_user = clicks.key_by(|click| click.user);
    let sliding = Sliding::of(WindowKind::millis(kind.size), WindowKind::millis(kind.slide))
        .offset_millis(kind.offset)
        .with_gaps();
    let windows = by_user
        .window(sliding)
        .allowed_lateness(WindowKind::millis(kind.lateness))
        .aggregate("windows", Identities);
    windows.results().sink("windows-out", world.windows.0.clone());
    windows.late().sink("late-out", world.late.0.clone());
    let outer = windows
        .results()
        .key_by(|result| result.key % 2)
        .window(Tumbling::of(WindowKind::millis(kind.outer)))
        .aggregate("outer", (Count, Sum::of(|result: &Inner| result.value.len() as i64)));
    outer.results().sink("outer-out", world.outer.0.clone());
    // Nothing of a window is late for the next: the sink must stay empty.
    outer.late().map(|result: Inner| Click { id: 0, user: result.key, time: 0 }).sink(
        "outer-late",
        sink::for_each(|late: &[Click]| assert!(late.is_empty(), "a result was late")),
    );
    by_user.process("users", CountToTheEnd).sink("users-out", world.users.0.clone());
    job
}

/// What a simulated run gave out, in the form of the reference.
fn given_out(world: &World, report: &SimReport) -> Expected {
    let mut given = Expected::default();
    for Inner { key, window, value } in world.windows.1.snapshot() {
        let place = (key, window.start.millis(), window.end.millis());
        let before = given.windows.insert(place, value);
        assert!(before.is_none(), "the window {place:?} was given out twice");
    }
    given.late = world.late.1.snapshot().iter().map(|click| click.id).collect();
    given.late.sort_unstable();
    given.gaps = report.metrics.total("windows", Counter::Gap);
    for Outer { key, window, value: (results, total) } in world.outer.1.snapshot() {
        let before = given.outer.insert((key, window.start.millis()), (results, total as u64));
        assert!(before.is_none(), "an outer window was given out twice");
    }
    let totals: Vec<_> = world.users.1.snapshot();
    given.users = totals.iter().map(|total| (total.user, total.clicks)).collect();
    assert_eq!(given.users.len(), totals.len(), "a user was told twice");
    given
}

/// Runs one seed; the error says what differs from the reference.
pub(crate) fn run_seed(seed: u64) -> Result<SimReport, String> {
    run_plan(seed, Simulation::new(seed))
}

pub(crate) fn run_plan(seed: u64, simulation: Simulation) -> Result<SimReport, String> {
    let mut random = Random::new(seed.wrapping_mul(0x0001_0000_01b3));
    let kind = WindowKind::random(&mut random);
    let splits = clicks(&mut random, 5);
    let world = World {
        windows: memory::sink(),
        late: memory::sink(),
        outer: memory::sink(),
        users: memory::sink(),
    };
    let report = simulation
        .run("windowed", || Ok(build(&splits, kind, &world).into_graph()))
        .map_err(|e| e.to_string())?;
    let (given, expected) = (given_out(&world, &report), expected(&splits, kind, BOUND));
    let fail = |what: &str| Err(format!("{what} [{}, {kind:?}]", simulation.plan()));
    if given != expected {
        return fail(&difference(&given, &expected));
    }
    let read = report.metrics.total("clicks", Counter::In);
    let total: usize = splits.iter().map(Vec::len).sum();
    if read != total as u64 {
        return fail(&format!("{read} records are said to have been read of {total}"));
    }
    for operator in ["windows", "outer"] {
        let bytes = report.final_state_bytes.get(operator).copied().unwrap_or(0);
        if bytes > 0 {
            return fail(&format!("{bytes} bytes of state of `{operator}` are left at the end"));
        }
    }
    for collected in [world.windows.1.prepared_len(), world.late.1.prepared_len()] {
        if collected > 0 {
            return fail(&format!("{collected} prepared outputs are left at the end"));
        }
    }
    Ok(report)
}

fn difference(given: &Expected, expected: &Expected) -> String {
    fn maps<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
        name: &str,
        given: &BTreeMap<K, V>,
        expected: &BTreeMap<K, V>,
    ) -> Option<String> {
        let key = given.keys().chain(expected.keys()).find(|k| given.get(k) != expected.get(k))?;
        let (given, expected) = (given.get(key), expected.get(key));
        Some(format!("{name} {key:?} is {given:?} and should be {expected:?}"))
    }
    maps("window", &given.windows, &expected.windows)
        .or_else(|| maps("outer window", &given.outer, &expected.outer))
        .or_else(|| maps("user", &given.users, &expected.users))
        .unwrap_or_else(|| {
            format!(
                "late {:?} should be {:?}, gaps {} should be {}",
                given.late, expected.late, given.gaps, expected.gaps
            )
        })
}

/// How many seeds the suite runs; more with the environment variable `THALWEG_SEEDS`.
const SEEDS: u64 = 10_000;

#[test]
fn ten_thousand_seeds_agree_with_the_sequential_reference() {
    let (first, count) = crate::seeds(SEEDS);
    let mut sums = (0, 0, 0, 0, 0, 0);
    let mut failures = Vec::new();
    for seed in first..first + count {
        match run_seed(seed) {
            Ok(report) => {
                sums.0 += report.steps;
                sums.1 += u64::from(report.restarts);
                sums.2 += report.checkpoints;
                sums.3 += report.aborted;
                sums.4 += u64::from(report.stops);
                sums.5 += report.in_flight_restored;
            }
            Err(message) => failures.push(message),
        }
        if failures.len() >= 5 {
            break;
        }
    }
    println!(
        "{count} seeds from {first}: {} steps, {} restarts ({} stops), {} checkpoints, {} given \
         up, {} edges with records on their way restored",
        sums.0, sums.1, sums.4, sums.2, sums.3, sums.5
    );
    assert!(count < 1_000 || sums.5 * 20 > sums.1, "hardly any restart finds records on their way");
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..200 {
        let (first, second) = (run_seed(seed), run_seed(seed));
        let (first, second) = (first.expect("it passes"), second.expect("it passes"));
        assert_eq!((first.trace, first.steps), (second.trace, second.steps), "seed {seed}");
    }
}

#[test]
fn results_do_not_depend_on_parallelism() {
    for seed in 0..50 {
        for parallelism in 1..=4 {
            let plan = SimPlan::calm(seed, parallelism);
            run_plan(seed, Simulation::with_plan(plan)).expect("a calm run agrees");
        }
    }
}
