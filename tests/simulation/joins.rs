//! The join job: every join that must not depend on the schedule, and windows behind joins.

use std::fmt::Debug;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg::Counter;
use thalweg::engine::state::hash_key;
use thalweg::memory::{self, Collected, MemorySink};
use thalweg::prelude::*;
use thalweg::sim::{Random, SimPlan, SimReport, Simulation};

use crate::data::{BOUND, Click, WindowKind, clicks};

/// The rules of one run's joins.
#[derive(Clone, Copy, Debug)]
struct Rules {
    window: WindowKind,
    lower: i64,
    upper: i64,
    /// Allowed lateness of the interval join and of the as-of join.
    lateness: i64,
    /// The size of the windows behind the joins.
    outer: i64,
    keys: u32,
}

impl Rules {
    fn random(random: &mut Random) -> Self {
        let lower = random.between(-30, 20);
        Rules {
            window: WindowKind::random(random),
            lower,
            upper: lower + random.between(0, 30),
            lateness: random.between(0, 1) * random.between(1, 25),
            outer: random.between(1, 40),
            keys: random.between(1, 6) as u32,
        }
    }

    /// Every fourth record of the table is a deletion.
    fn version(click: &Click) -> Option<u64> {
        (!click.id.is_multiple_of(4)).then_some(click.id)
    }
}

/// Two rows, or one without a partner, by their identities, and the key.
type Pair = (u32, Option<u64>, Option<u64>);

/// A sink of a run, and what it has.
type Sunk<T> = (MemorySink<T>, Collected<T>);

/// Names every output of the job once.
macro_rules! outputs {
    ($($(#[$doc:meta])* $name:ident: $of:ty,)*) => {
        /// The sinks of one simulated run; they outlive its crashes.
        struct World { $($name: Sunk<$of>,)* }

        impl World {
            fn new() -> Self {
                World { $($name: memory::sink(),)* }
            }

            fn given(&self) -> Outputs {
                Outputs { $($name: sorted(self.$name.1.snapshot()),)* }
            }
        }

        /// What the job gives out, sorted.
        #[derive(Clone, Debug, PartialEq, Eq)]
        struct Outputs { $($(#[$doc])* $name: Vec<$of>,)* }

        impl Outputs {
            fn sorted(self) -> Self {
                Outputs { $($name: sorted(self.$name),)* }
            }

            /// The first output that is not as it should be.
            fn difference(&self, expected: &Outputs) -> Option<String> {
                $(if self.$name != expected.$name {
                    let name = stringify!($name);
                    return Some(first_difference(name, &self.$name, &expected.$name));
                })*
                None
            }
        }
    };
}

outputs! {
    /// Pairs of the window join with the last instants of their windows.
    windows: (Pair, i64),
    /// Late rows of the window join: key, identity, side.
    window_late: (u32, u64, bool),
    /// Pairs of the full interval join with their times.
    intervals: (Pair, i64),
    interval_late: (u32, u64, bool),
    /// Pairs of the left as-of join.
    versions: (Pair, i64),
    version_late: (u32, u64, bool),
    /// Pairs of the regular join.
    regular: (Pair, i64),
    /// Numbers of clicks by key and window of both sides, joined by the same windows.
    chained: (Pair, i64),
    /// Pairs behind each join by window: join, start, number.
    counts: (u8, i64, u64),
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values
}

fn first_difference<T: PartialEq + Debug>(name: &str, given: &[T], expected: &[T]) -> String {
    let at = given.iter().zip(expected).take_while(|(given, expected)| given == expected).count();
    let (given, expected) = (given.get(at..), expected.get(at..));
    let first = |rows: Option<&[T]>| rows.and_then(|rows| rows.first().map(|r| format!("{r:?}")));
    format!("{name}: {:?} should be {:?}", first(given), first(expected))
}

/// A pair with its event time, for sinks, which see values only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Timed {
    join: u8,
    pair: Pair,
}

fn millis(value: i64) -> Duration {
    WindowKind::millis(value)
}

/// Leads a join's pairs into a sink and into a window, for which none of them may be late.
/// Returns the numbers of pairs by window.
fn look_at(
    join: u8,
    pairs: &Stream<Pair>,
    (rules, into): (Rules, &MemorySink<(Pair, i64)>),
) -> Stream<(u8, i64, u64)> {
    // A window of a millisecond tells the time of each pair.
    let timed = pairs.map(move |pair| Timed { join, pair });
    let nothing_late = |late: &[Timed]| assert!(late.is_empty(), "a result was late: {late:?}");
    let instants = timed
        .key_by(|timed| timed.pair)
        .window(Tumbling::of(millis(1)))
        .aggregate(format!("instants-{join}"), Count);
    instants.late().sink(format!("late-instants-{join}"), sink::for_each(nothing_late));
    instants
        .results()
        .flat_map(|WindowResult { key, window, value }| {
            vec![(key, window.start.millis()); value as usize]
        })
        .sink(format!("pairs-{join}"), into.clone());
    let counts = timed
        .key_by(|timed| timed.join)
        .window(Tumbling::of(millis(rules.outer)))
        .aggregate(format!("counts-{join}"), Count);
    counts.late().sink(format!("late-counts-{join}"), sink::for_each(nothing_late));
    counts.results().map(|result| (result.key, result.window.start.millis(), result.value))
}

fn build((left, right): &(Vec<Vec<Click>>, Vec<Vec<Click>>), rules: Rules, world: &World) -> Job {
    let job = Job::new();
    let keyed = |name: &str, splits: &Vec<Vec<Click>>| {
        job.source(name, memory::from_splits(splits.clone()))
            .event_time(|c: &Click| c.time, Watermarks::bounded_out_of_orderness(millis(BOUND)))
            .key_by(move |c| c.user % rules.keys)
    };
    let (left, right) = (keyed("left", left), keyed("right", right));
    let pair = |key: &u32, a: Option<&Click>, b: Option<&Click>| -> Pair {
        (*key, a.map(|a| a.id), b.map(|b| b.id))
    };
    let late = move |c: Click, is_left| (c.user % rules.keys, c.id, is_left);

    let kind = rules.window;
    let sliding =
        Sliding::of(millis(kind.size), millis(kind.slide)).offset_millis(kind.offset).with_gaps();
    let windows = left.join(&right).window(sliding).allowed_lateness(millis(kind.lateness));
    let windows = windows.full("windows", pair);
    let counts_0 = look_at(0, &windows.results(), (rules, &world.windows.0));
    let late_right = windows.late_right().map(move |c| late(c, false));
    let late_rows = windows.late_left().map(move |c| late(c, true)).union([&late_right]);
    late_rows.sink("window-late", world.window_late.0.clone());

    let intervals = left
        .interval_join(&right)
        .between_millis(rules.lower, rules.upper)
        .allowed_lateness(millis(rules.lateness))
        .full("intervals", pair);
    let counts_1 = look_at(1, &intervals.results(), (rules, &world.intervals.0));
    let late_right = intervals.late_right().map(move |c| late(c, false));
    let late_rows = intervals.late_left().map(move |c| late(c, true)).union([&late_right]);
    late_rows.sink("interval-late", world.interval_late.0.clone());

    let table = right.map_values(|click| Rules::version(&click));
    let versions = left
        .join_table(&table)
        .as_of()
        .allowed_lateness(millis(rules.lateness))
        .left("versions", |key, a, version| (*key, Some(a.id), version.copied()));
    let counts_2 = look_at(2, &versions.results(), (rules, &world.versions.0));
    // A deletion has no identity of its own.
    let late_right = versions.late_right().map(|late| (late.key, late.value.unwrap_or(0), false));
    let late_rows = versions.late_left().map(move |c| late(c, true)).union([&late_right]);
    late_rows.sink("version-late", world.version_late.0.clone());

    let regular = left
        .connect(&right)
        .inner_join("regular", |key, a: &Click, b: &Click| (*key, Some(a.id), Some(b.id)));
    regular.map(|pair| (pair, 0)).sink("regular-out", world.regular.0.clone());

    let counted = |clicks: &KeyedStream<u32, Click>, name: &str| {
        let windows = clicks.window(Tumbling::of(millis(rules.outer))).aggregate(name, Count);
        windows.late().sink(format!("{name}-late"), sink::for_each(|_: &[Click]| ()));
        windows.results().key_by(|result| result.key)
    };
    let chained = counted(&left, "left-counts")
        .join(&counted(&right, "right-counts"))
        .window(Tumbling::of(millis(rules.outer)))
        .inner("chained", |key, a, b| (*key, Some(a.value), Some(b.value)));
    let counts_3 = look_at(3, &chained.results(), (rules, &world.chained.0));
    let nothing = |late: &[WindowResult<u32, u64>]| assert!(late.is_empty(), "a result was late");
    chained.late_left().sink("chained-left", sink::for_each(nothing));
    chained.late_right().sink("chained-right", sink::for_each(nothing));
    let counts = counts_0.union([&counts_1, &counts_2, &counts_3]);
    counts.sink("counts", world.counts.0.clone());
    job
}

/// A click as a source read it.
#[derive(Clone, Copy, Debug)]
struct Read {
    id: u64,
    key: u32,
    time: i64,
    /// The watermark of its split just before it.
    watermark: i64,
    /// Its place among records of equal time.
    order: (u64, usize),
    is_deletion: bool,
}

/// All clicks of one side, which is the source of this name.
fn read(source: &str, splits: &[Vec<Click>], rules: Rules) -> Vec<Read> {
    let mut all = Vec::new();
    for (number, split) in splits.iter().enumerate() {
        let name = hash_key(&(source, number.to_string())).expect("a name has a hash");
        let mut greatest: Option<i64> = None;
        for (offset, click) in split.iter().enumerate() {
            all.push(Read {
                id: click.id,
                key: click.user % rules.keys,
                time: click.time,
                watermark: greatest.map_or(i64::MIN, |greatest| greatest - BOUND - 1),
                order: (name, offset),
                is_deletion: Rules::version(click).is_none(),
            });
            greatest = greatest.max(Some(click.time));
        }
    }
    all
}

/// Pairs of `left` and `right` for which `matches` is true, and the rows that have none.
fn full(left: &[Read], right: &[Read], matches: impl Fn(&Read, &Read) -> bool) -> Vec<(Pair, i64)> {
    let mut pairs = Vec::new();
    for a in left {
        for b in right.iter().filter(|b| matches(a, b)) {
            pairs.push(((a.key, Some(a.id), Some(b.id)), a.time.max(b.time)));
        }
        if !right.iter().any(|b| matches(a, b)) {
            pairs.push(((a.key, Some(a.id), None), a.time));
        }
    }
    for b in right.iter().filter(|b| !left.iter().any(|a| matches(a, b))) {
        pairs.push(((b.key, None, Some(b.id)), b.time));
    }
    pairs
}

fn expected_windows(left: &[Read], right: &[Read], kind: WindowKind, into: &mut Outputs) {
    let mut ends = std::collections::BTreeSet::new();
    for (read, is_left) in left.iter().map(|a| (a, true)).chain(right.iter().map(|b| (b, false))) {
        let windows = kind.windows_of(read.time);
        ends.extend(windows.iter().map(|window| window.1));
        if !windows.is_empty() && windows.iter().all(|w| w.1 - 1 + kind.lateness <= read.watermark)
        {
            into.window_late.push((read.key, read.id, is_left));
        }
    }
    for end in ends {
        let is_in = |read: &&Read| {
            let is_within = read.time < end && read.time >= end - kind.size;
            is_within && end - 1 + kind.lateness > read.watermark
        };
        let left: Vec<Read> = left.iter().filter(is_in).copied().collect();
        let right: Vec<Read> = right.iter().filter(is_in).copied().collect();
        let pairs = full(&left, &right, |a, b| a.key == b.key);
        into.windows.extend(pairs.into_iter().map(|(pair, _)| (pair, end - 1)));
    }
}

fn expected_versions(left: &[Read], right: &[Read]) -> Vec<(Pair, i64)> {
    let version_of = |a: &Read| {
        let versions = right.iter().filter(|b| b.key == a.key && b.time <= a.time);
        let last = versions.max_by_key(|b| (b.time, b.order))?;
        (!last.is_deletion).then_some(last.id)
    };
    left.iter().map(|a| ((a.key, Some(a.id), version_of(a)), a.time)).collect()
}

fn expected_chain(left: &[Read], right: &[Read], size: i64) -> Vec<(Pair, i64)> {
    let count = |reads: &[Read]| {
        let mut counts = std::collections::BTreeMap::<(u32, i64), u64>::new();
        for read in reads {
            let end = (read.time.div_euclid(size) + 1) * size;
            if end - 1 > read.watermark {
                *counts.entry((read.key, end)).or_default() += 1;
            }
        }
        counts
    };
    let (left, right) = (count(left), count(right));
    let pair = |(&(key, end), &a): (&(u32, i64), &u64)| {
        Some(((key, Some(a), Some(*right.get(&(key, end))?)), end - 1))
    };
    left.iter().filter_map(pair).collect()
}

fn expected((left, right): &(Vec<Vec<Click>>, Vec<Vec<Click>>), rules: Rules) -> Outputs {
    let (left, right) = (read("left", left, rules), read("right", right, rules));
    let mut all = World::new().given();
    expected_windows(&left, &right, rules.window, &mut all);
    all.regular = full(&left, &right, |a, b| a.key == b.key);
    all.regular.retain(|(pair, _)| pair.1.is_some() && pair.2.is_some());
    all.regular.iter_mut().for_each(|pair| pair.1 = 0);
    all.chained = expected_chain(&left, &right, rules.outer);

    let is_late = |read: &&Read| read.time + rules.lateness <= read.watermark;
    for (reads, is_left) in [(&left, true), (&right, false)] {
        for read in reads.iter().filter(is_late) {
            all.interval_late.push((read.key, read.id, is_left));
            let id = if !is_left && read.is_deletion { 0 } else { read.id };
            all.version_late.push((read.key, id, is_left));
        }
    }
    let on_time = |reads: &[Read]| -> Vec<Read> {
        reads.iter().filter(|read| !is_late(read)).copied().collect()
    };
    let (left, right) = (on_time(&left), on_time(&right));
    all.intervals = full(&left, &right, |a, b| {
        a.key == b.key && (a.time + rules.lower..=a.time + rules.upper).contains(&b.time)
    });
    all.versions = expected_versions(&left, &right);
    let mut counts = std::collections::BTreeMap::<(u8, i64), u64>::new();
    for (join, pairs) in
        [(0, &all.windows), (1, &all.intervals), (2, &all.versions), (3, &all.chained)]
    {
        for (_, time) in pairs {
            let start = time.div_euclid(rules.outer) * rules.outer;
            *counts.entry((join, start)).or_default() += 1;
        }
    }
    all.counts = counts.into_iter().map(|((join, start), n)| (join, start, n)).collect();
    all.sorted()
}

/// The clicks of one side, by split.
type Splits = Vec<Vec<Click>>;

/// The clicks of both sides and the rules of a seed.
fn data(seed: u64) -> ((Splits, Splits), Rules) {
    let mut random = Random::new(seed.wrapping_mul(0x0001_0000_01b3) ^ 0x6a6f_696e);
    let rules = Rules::random(&mut random);
    let mut side = |first: u64| {
        let mut splits = clicks(&mut random, 8);
        for split in &mut splits {
            split.truncate(30);
            split.iter_mut().for_each(|click| click.id += first);
        }
        splits
    };
    ((side(1), side(10_001)), rules)
}

/// Runs one seed; the error says what differs from the reference.
fn run_plan(seed: u64, simulation: &Simulation) -> Result<SimReport, String> {
    let (splits, rules) = data(seed);
    let world = World::new();
    let report = simulation
        .run("joins", || Ok(build(&splits, rules, &world).into_graph()))
        .map_err(|e| e.to_string())?;
    let expected = expected(&splits, rules);
    let fail = |what: &str| Err(format!("{what} [{}, {rules:?}]", simulation.plan()));
    if let Some(difference) = world.given().difference(&expected) {
        return fail(&difference);
    }
    for (operator, late) in [
        ("windows", expected.window_late.len()),
        ("intervals", expected.interval_late.len()),
        ("versions", expected.version_late.len()),
    ] {
        let counted = report.metrics.total(operator, Counter::Late);
        if counted != late as u64 {
            return fail(&format!("{counted} late records of `{operator}` counted, not {late}"));
        }
    }
    for operator in ["windows", "intervals", "chained"] {
        let bytes = report.final_state_bytes.get(operator).copied().unwrap_or(0);
        if bytes > 0 {
            return fail(&format!("{bytes} bytes of state of `{operator}` are left at the end"));
        }
    }
    Ok(report)
}

/// The plan of a seed for a job of so many operators: a checkpoint takes more messages and time.
fn plan(seed: u64) -> SimPlan {
    let plan = SimPlan::from_seed(seed);
    SimPlan {
        steps_max: 10 * plan.steps_max,
        timeout_ms: 20 * plan.timeout_ms,
        lost_percent: plan.lost_percent / 10,
        ..plan
    }
}

/// How many seeds the suite runs; more with the environment variable `THALWEG_SEEDS`.
const SEEDS: u64 = 1_000;

#[test]
fn a_thousand_seeds_of_joins_agree_with_the_sequential_reference() {
    let (first, count) = crate::seeds(SEEDS);
    let (mut restarts, mut failures) = (0, Vec::new());
    for seed in first..first + count {
        match run_plan(seed, &Simulation::with_plan(plan(seed))) {
            Ok(report) => restarts += report.restarts,
            Err(message) => failures.push(message),
        }
        if failures.len() >= 5 {
            break;
        }
    }
    println!("{count} seeds from {first}: {restarts} restarts");
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn joins_do_not_depend_on_parallelism() {
    for seed in 0..30 {
        for parallelism in 1..=4 {
            let simulation = Simulation::with_plan(SimPlan::calm(seed, parallelism));
            run_plan(seed, &simulation).expect("a calm run agrees");
        }
    }
}
