//! Windows in whole jobs, under the simulator: any schedule, parallelism, crash and rescale gives
//! the windows of the definition, and no record is lost or counted twice.

use std::collections::BTreeMap;
use std::time::Duration;

use thalweg_connectors::memory::{self, Collected, MemorySink};
use thalweg_engine::graph::JobGraph;
use thalweg_engine::sim::{Random, SimPlan, SimReport, Simulation};
use thalweg_engine::state::codec;
use thalweg_engine::{Counter, Data, Element, Key};

use super::testing::{
    Event, Identities, Result, global, judged, random_splits, record_aligned, sessions,
};
use super::{
    CountResult, CountWindow, GlobalWindow, RecordAligned, Session, Sliding, Tumbling,
    WindowOutput, WindowResult,
};
use crate::aggregate::Count;
use crate::event_time::Watermarks;
use crate::job::Job;
use crate::stream::{KeyedStream, Stream};

const BOUND: i64 = 6;

fn millis(n: i64) -> Duration {
    Duration::from_millis(n as u64)
}

#[derive(Clone, Copy, Debug)]
struct Parameters {
    gap: i64,
    span: i64,
    lateness: i64,
    count: u64,
}

type Sink<T> = (MemorySink<T>, Collected<T>);

/// The sinks of one simulated run; they outlive its crashes.
struct World {
    windows: BTreeMap<&'static str, (Sink<Result>, Sink<Event>)>,
    all: Sink<WindowResult<(), Vec<u32>>>,
    counts: Sink<CountResult<u32, Vec<u32>>>,
}

/// The windows of which the results are looked at one by one.
const KINDS: [&str; 6] = ["session", "by-record", "aligned", "global", "tumbling", "sliding"];

fn world() -> World {
    let sinks = |&name: &&'static str| (name, (memory::sink(), memory::sink()));
    let windows = KINDS.iter().map(sinks).collect();
    World { windows, all: memory::sink(), counts: memory::sink() }
}

fn events(job: &Job, splits: &[Vec<Event>]) -> Stream<Event> {
    job.source("events", memory::from_splits(splits.to_vec()))
        .event_time(|event: &Event| event.time, Watermarks::bounded_out_of_orderness(millis(BOUND)))
}

fn windows_of_all_kinds(
    by_key: &KeyedStream<u32, Event>,
    parameters: Parameters,
) -> [WindowOutput<u32, Event, Vec<u32>>; 6] {
    let Parameters { gap, span, lateness, .. } = parameters;
    let lateness = millis(lateness);
    let session = by_key.window(Session::with_gap(millis(gap)));
    let by_record = by_key.window(Session::with_gap_by(|event: &Event| millis(event.gap)));
    let aligned = by_key.window(RecordAligned::of(millis(span)));
    let tumbling = by_key.window(Tumbling::of(millis(gap)));
    let sliding = by_key.window(Sliding::of(millis(gap), millis(gap + 2)).with_gaps());
    [
        session.allowed_lateness(lateness).aggregate("session", Identities),
        by_record.allowed_lateness(lateness).aggregate("by-record", Identities),
        aligned.allowed_lateness(lateness).aggregate("aligned", Identities),
        by_key.window(GlobalWindow).aggregate("global", Identities),
        tumbling.allowed_lateness(lateness).aggregate("tumbling", Identities),
        sliding.allowed_lateness(lateness).aggregate("sliding", Identities),
    ]
}

/// A result of one window is never late for the next.
fn check_hold<K: Key, R: Data>(name: &str, results: &Stream<WindowResult<K, R>>, gap: i64) {
    let next = results.window_all(Tumbling::of(millis(gap))).aggregate(name, Count);
    next.results().sink(format!("{name}-counts"), memory::discard());
    let (late, _) = memory::sink::<()>();
    next.late().map(|_| panic!("a result was late")).sink(format!("{name}-late"), late);
}

fn build(splits: &[Vec<Event>], parameters: Parameters, world: &World) -> JobGraph {
    let job = Job::new();
    let events = events(&job, splits);
    let by_key = events.key_by(|event| event.key);
    for (output, name) in windows_of_all_kinds(&by_key, parameters).iter().zip(KINDS) {
        let ((results, _), (late, _)) = &world.windows[name];
        output.results().sink(format!("{name}-out"), results.clone());
        output.late().sink(format!("{name}-late"), late.clone());
        check_hold(&format!("{name}-behind"), &output.results(), parameters.gap);
    }
    let all = events.window_all(Session::with_gap(millis(parameters.gap)));
    all.allowed_lateness(millis(parameters.lateness))
        .aggregate("all", Identities)
        .results()
        .sink("all-out", world.all.0.clone());
    by_key
        .window(CountWindow::tumbling(parameters.count))
        .aggregate("counted", Identities)
        .sink("counted-out", world.counts.0.clone());
    job.into_graph()
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values
}

fn by_place(results: Vec<Result>) -> Vec<(u32, i64, i64, Vec<u32>)> {
    let place = |Result { key, window, value }: Result| {
        (key, window.start.millis(), window.end.millis(), value)
    };
    sorted(results.into_iter().map(place).collect())
}

/// Every record is in a result, late, in a gap, or in the state that is left.
fn check_conservation(world: &World, parameters: Parameters, total: usize, report: &SimReport) {
    for (name, (results, late)) in &world.windows {
        let late = late.1.snapshot();
        assert_eq!(report.metrics.total(name, Counter::Late), late.len() as u64, "{name}");
        let results = results.1.snapshot();
        let mut ids: Vec<u32> = results.into_iter().flat_map(|result| result.value).collect();
        ids.extend(late.iter().map(|event| event.id));
        if *name == "aligned" {
            // These overlap; each record is in the one that it ends.
            ids = sorted(ids);
            ids.dedup();
        }
        let gap = report.metrics.total(name, Counter::Gap) as usize;
        assert_eq!(ids.len() + gap, total, "records of {name}");
        ids = sorted(ids);
        ids.dedup();
        assert_eq!(ids.len() + gap, total, "records of {name} are counted once");
        let state = report.final_state_bytes.get(*name).copied().unwrap_or(0);
        assert_eq!(state, 0, "bytes of state of {name} at the end");
    }
    let counts = world.counts.1.snapshot();
    assert!(counts.iter().all(|result| result.count == parameters.count));
    let ids = sorted(counts.into_iter().flat_map(|result| result.value).collect());
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "counted twice: {ids:?}");
}

fn run(seed: u64, simulation: &Simulation) -> World {
    let mut random = Random::new(seed);
    let parameters = Parameters {
        gap: random.between(1, 15),
        span: random.between(0, 25),
        lateness: random.between(0, 1) * random.between(1, 20),
        count: random.between(1, 5) as u64,
    };
    let splits = random_splits(&mut random, BOUND, 60);
    let world = world();
    let report = simulation
        .run("windows", || Ok(build(&splits, parameters, &world)))
        .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    let Parameters { gap, span, lateness, count } = parameters;
    let (on_time, late) = judged(&splits, BOUND, lateness);
    let all = splits.concat();
    let expected = [
        ("session", sessions(&on_time, |_| gap)),
        ("by-record", sessions(&on_time, |event| event.gap)),
        ("aligned", record_aligned(&on_time, span)),
        ("global", global(&all).into_iter().map(|(result, _)| result).collect()),
    ];
    for (name, expected) in expected {
        let ((_, results), (_, given_late)) = &world.windows[name];
        let context = format!("{name}, {parameters:?} [{}]", simulation.plan());
        assert_eq!(by_place(results.snapshot()), by_place(expected), "{context}");
        let ids = |events: Vec<Event>| sorted(events.iter().map(|event| event.id).collect());
        let expected: Vec<u32> = match name {
            "global" => Vec::new(),
            _ => ids(late.iter().map(|(event, _)| *event).collect()),
        };
        assert_eq!(ids(given_late.snapshot()), expected, "late, {context}");
    }
    let without_keys: Vec<_> = on_time.iter().map(|event| Event { key: 0, ..*event }).collect();
    let keyed = |WindowResult { window, value, .. }| Result { key: 0, window, value };
    let given: Vec<Result> = world.all.1.snapshot().into_iter().map(keyed).collect();
    assert_eq!(by_place(given), by_place(sessions(&without_keys, |_| gap)), "seed {seed}");
    check_conservation(&world, parameters, all.len(), &report);
    let mut keys: BTreeMap<u32, u64> = BTreeMap::new();
    all.iter().for_each(|event| *keys.entry(event.key).or_default() += 1);
    let complete: u64 = keys.values().map(|records| records / count).sum();
    assert_eq!(world.counts.1.len() as u64, complete, "count windows of seed {seed}");
    world
}

#[test]
fn windows_are_the_same_whatever_happens() {
    for seed in 0..400 {
        run(seed, &Simulation::new(seed));
    }
}

#[test]
fn results_come_in_order_of_time_and_encoded_key() {
    for seed in 0..100 {
        let world = run(seed, &Simulation::with_plan(SimPlan::calm(seed, 1)));
        for name in ["session", "by-record", "aligned", "tumbling", "sliding", "global"] {
            let place = |result: &Result| {
                let mut key = Vec::new();
                codec::encode_key(&result.key, &mut key).expect("a number can be encoded");
                (result.window.end, key)
            };
            let results = world.windows[name].0.1.snapshot();
            assert!(results.is_sorted_by_key(place), "{name} of seed {seed}: {results:?}");
        }
    }
}

fn problem_of<T: Element>(build: impl Fn(&KeyedStream<u32, Event>) -> Stream<T>) -> String {
    let job = Job::new();
    let stream = build(&events(&job, &[]).key_by(|event| event.key));
    stream.sink("out", memory::discard());
    match job.into_graph().validate() {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn wrong_windows_are_refused_when_the_job_is_built() {
    let none = Duration::ZERO;
    let message = problem_of(|s| s.window(Tumbling::of(none)).aggregate("w", Count).results());
    assert!(message.contains("`w`") && message.contains("tests.rs"), "{message}");
    assert!(message.contains("size of a tumbling window"), "{message}");
    let wide = Sliding::of(millis(10), millis(20));
    let message = problem_of(|s| s.window(wide).aggregate("w", Count).results());
    assert!(message.contains("with_gaps"), "{message}");
    let message = problem_of(|s| s.window(Session::with_gap(none)).aggregate("w", Count).results());
    assert!(message.contains("gap of a session"), "{message}");
    let message = problem_of(|s| s.window(CountWindow::tumbling(0)).aggregate("w", Count));
    assert!(message.contains("count window"), "{message}");
    let fine = problem_of(|s| s.window(wide.with_gaps()).aggregate("w", Count).results());
    assert_eq!(fine, "");
}
