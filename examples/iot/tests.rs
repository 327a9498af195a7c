//! The job against plain loops over all readings, under the simulator; and what holds even where
//! gateways may be idle.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thalweg::memory::{self, Collected, MemorySink};
use thalweg::prelude::*;
use thalweg::sim::{Random, SimPlan, SimReport, Simulation};
use thalweg::test::simulate;
use thalweg::{Counter, JobMetrics};

use crate::alert::{Alert, COOL, HOT, Kind, SILENT_MS};
use crate::outage::Outage;
use crate::reading::{FiveMinutes, GATEWAYS, LateReading, Missed, Reading, reading};

/// How far the readings of a gateway may be behind its newest.
const BOUND_MS: i64 = 5_000;
const WINDOW_MS: i64 = 300_000;

/// What the job is to give out; all sorted.
#[derive(Debug, Default)]
struct Expected {
    /// The readings of each sensor and five minutes.
    windows: BTreeMap<(u32, i64), Vec<f64>>,
    alerts: Vec<(u32, i64, Kind, i64)>,
    /// Sensors and numbers.
    late: Vec<(u32, u64)>,
    once: u64,
}

/// All answers from scratch. A sensor has one gateway.
fn oracle(gateways: &[Vec<Reading>]) -> Expected {
    let mut expected = Expected::default();
    let mut by_sensor = BTreeMap::<u32, Vec<Reading>>::new();
    for gateway in gateways {
        let mut newest_ms = i64::MIN / 2;
        let mut seen = BTreeSet::new();
        for reading in gateway {
            // The watermark is a millisecond behind what may still come.
            if reading.time_ms < newest_ms - BOUND_MS {
                expected.late.push((reading.sensor, reading.seq));
            } else if seen.insert((reading.sensor, reading.seq)) {
                by_sensor.entry(reading.sensor).or_default().push(*reading);
                expected.once += 1;
            }
            newest_ms = newest_ms.max(reading.time_ms);
        }
    }
    for (sensor, readings) in &mut by_sensor {
        readings.sort_by_key(|reading| reading.time_ms);
        for reading in readings.iter() {
            let start_ms = reading.time_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
            expected.windows.entry((*sensor, start_ms)).or_default().push(reading.celsius);
        }
        silences(*sensor, readings, &mut expected);
        heats(*sensor, readings, &mut expected);
    }
    expected.windows.values_mut().for_each(|celsius| celsius.sort_by(f64::total_cmp));
    expected.alerts.sort_unstable();
    expected.late.sort_unstable();
    expected
}

fn silences(sensor: u32, readings: &[Reading], expected: &mut Expected) {
    let times = readings.iter().map(|reading| reading.time_ms);
    for (last, next) in times.clone().zip(times.skip(1).map(Some).chain([None])) {
        if next.is_none_or(|next| next - last >= SILENT_MS) {
            expected.alerts.push((sensor, last + SILENT_MS, Kind::Silent, last));
            expected.alerts.extend(next.map(|next| (sensor, next, Kind::Back, last)));
        }
    }
}

fn heats(sensor: u32, mut readings: &[Reading], expected: &mut Expected) {
    while let Some(hot) = readings.iter().position(|reading| reading.celsius >= HOT) {
        let since_ms = readings[hot].time_ms;
        expected.alerts.push((sensor, since_ms, Kind::Hot, since_ms));
        readings = &readings[hot..];
        let Some(cool) = readings.iter().position(|reading| reading.celsius < COOL) else { return };
        expected.alerts.push((sensor, readings[cool].time_ms, Kind::Cooled, since_ms));
        readings = &readings[cool..];
    }
}

/// Where a run's results go.
struct World {
    measured: (MemorySink<FiveMinutes>, Collected<FiveMinutes>),
    alerts: (MemorySink<Alert>, Collected<Alert>),
    late: (MemorySink<LateReading>, Collected<LateReading>),
}

impl World {
    fn new() -> Self {
        World { measured: memory::sink(), alerts: memory::sink(), late: memory::sink() }
    }

    fn build(&self, readings: &Stream<Reading>, idle_after: Option<Duration>) {
        let found = crate::watch(readings, idle_after);
        found.measured.sink("measured", self.measured.0.clone());
        found.alerts.sink("alerts", self.alerts.0.clone());
        found.late.sink("late", self.late.0.clone());
    }

    fn simulate(&self, gateways: &[Vec<Reading>], seed: u64) -> SimReport {
        let build = |job: &Job| {
            let readings = memory::from_splits(gateways.to_vec());
            self.build(&job.source("readings", readings), None);
            Ok(())
        };
        simulate("iot", build, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"))
    }

    /// That everything is as plain loops find it.
    fn check(&self, expected: &Expected) {
        let measured = self.measured.1.snapshot();
        assert_eq!(measured.len(), expected.windows.len(), "windows");
        for window in &measured {
            check_window(window, &expected.windows[&(window.sensor, window.start_ms)]);
        }
        let alerts = self.alerts.1.snapshot();
        let mut alerts: Vec<_> =
            alerts.iter().map(|a| (a.sensor, a.time_ms, a.kind, a.since_ms)).collect();
        alerts.sort_unstable();
        assert_eq!(alerts, expected.alerts);
        let late = self.late.1.snapshot();
        assert!(late.iter().all(|late| late.missed == Missed::All));
        let mut late: Vec<_> = late.iter().map(|late| (late.sensor, late.seq)).collect();
        late.sort_unstable();
        assert_eq!(late, expected.late);
    }

    /// That every reading is late, a repetition, or in the windows and in order for alerts, once.
    fn check_conservation(&self, metrics: &JobMetrics, count: u64) {
        let late = self.late.1.snapshot();
        let missed = |missed| late.iter().filter(|late| late.missed == missed).count() as u64;
        let in_windows: u64 = self.measured.1.snapshot().iter().map(|window| window.count).sum();
        let once = metrics.total("once", Counter::Out);
        assert_eq!(metrics.records_read(), count);
        assert_eq!(metrics.total("once", Counter::In), count);
        assert_eq!(metrics.total("once", Counter::Late), missed(Missed::All));
        assert_eq!(in_windows, once - missed(Missed::Window));
        assert_eq!(metrics.total("in-order", Counter::In), once);
        assert_eq!(metrics.total("in-order", Counter::Late), missed(Missed::Alerts));
        let in_order = once - missed(Missed::Alerts);
        assert_eq!(metrics.total("in-order", Counter::Out), in_order);
        assert_eq!(metrics.total("watch", Counter::In), in_order);
        assert_eq!(metrics.total("watch", Counter::Out), self.alerts.1.len() as u64);
        assert_eq!(metrics.total_of_all(Counter::Late), late.len() as u64);
        for nothing in [Counter::Gap, Counter::Skipped, Counter::Dead] {
            assert_eq!(metrics.total_of_all(nothing), 0, "{nothing:?}");
        }
    }
}

/// `sorted` are the readings of the window.
fn check_window(window: &FiveMinutes, sorted: &[f64]) {
    let count = sorted.len();
    assert_eq!(window.count, count as u64, "{window:?}");
    assert_eq!((window.min, window.max), (sorted.first().copied(), sorted.last().copied()));
    let mean = sorted.iter().sum::<f64>() / count as f64;
    assert!(window.mean.is_some_and(|given| (given - mean).abs() < 1e-9), "{window:?}: {mean}");
    for (q, given) in [(0.5, window.median), (0.95, window.p95)] {
        let rank = q * (count - 1) as f64;
        let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
        let is_near = |given: f64| (low * 0.99 - 1e-9..=high * 1.01 + 1e-9).contains(&given);
        assert!(given.is_some_and(is_near), "{window:?}: {q} is within {low} and {high}");
    }
}

/// Gateways with one to three sensors each; late and repeated readings, silence, heat.
fn wavering(random: &mut Random) -> Vec<Vec<Reading>> {
    let gateways = random.between(1, 3) as u32;
    let mut gateway = |gateway: u32| {
        let (sensors, count) = (random.between(1, 3), random.between(0, 150));
        let (mut time_ms, mut readings) = (random.between(-60_000, 60_000), Vec::<Reading>::new());
        for seq in 0..count as u64 {
            time_ms += random.between(0, 9_000) + 200_000 * i64::from(random.is_chosen(2));
            let late_ms = random.between(0, 20_000) * i64::from(random.is_chosen(25));
            let new = Reading {
                gateway,
                sensor: gateway * 10 + random.between(1, sensors) as u32,
                seq,
                time_ms: time_ms - late_ms,
                celsius: random.between(7_000, 8_500) as f64 / 100.0,
            };
            let again = readings.len().checked_sub(1 + random.below(5));
            match again.filter(|_| random.is_chosen(20)) {
                Some(again) => readings.push(readings[again]),
                None => readings.push(new),
            }
        }
        readings
    };
    (0..gateways).map(&mut gateway).collect()
}

/// The first `count` readings of the generator, by gateway.
fn made_up(count: u64) -> Vec<Vec<Reading>> {
    let gateway = |first| (first..count).step_by(GATEWAYS).map(reading).collect();
    (0..GATEWAYS as u64).map(gateway).collect()
}

#[test]
fn results_agree_with_plain_loops_over_crashes_and_rescaling() {
    let (mut restarts, mut rescales) = (0, 0);
    let (mut of_kind, mut late, mut repeated) = (BTreeMap::<Kind, usize>::new(), 0, 0);
    for seed in 0..150 {
        let gateways = wavering(&mut Random::new(seed));
        let count = gateways.concat().len();
        let expected = oracle(&gateways);
        let world = World::new();
        let report = world.simulate(&gateways, seed);
        world.check(&expected);
        world.check_conservation(&report.metrics, count as u64);
        restarts += report.restarts;
        rescales += report.parallelisms.windows(2).filter(|pair| pair[0] != pair[1]).count();
        late += expected.late.len();
        repeated += count - expected.late.len() - expected.once as usize;
        expected.alerts.iter().for_each(|alert| *of_kind.entry(alert.2).or_default() += 1);
    }
    assert!(restarts > 50 && rescales > 20, "{restarts} restarts, {rescales} rescales");
    assert!(late > 500 && repeated > 500, "{late} late, {repeated} repeated");
    assert!(of_kind.len() == 4 && of_kind.values().all(|count| *count > 50), "{of_kind:?}");
}

/// With idle gateways it depends on timing what is late: level D2. Nothing is lost all the same,
/// and no window has what it would not have had.
#[test]
fn idle_gateways_lose_nothing() {
    let count = 60_000;
    let expected = oracle(&made_up(count));
    let mut more_late = 0;
    for parallelism in 1..5 {
        let world = World::new();
        let build = |job: &Job| {
            let readings = generator(Some(count), reading).splits(GATEWAYS);
            let readings = Outage::new(readings, millis(300));
            world.build(&job.source("readings", readings), Some(millis(30)));
            Ok(())
        };
        let options = JobOptions { parallelism: Some(parallelism), ..Default::default() };
        let report = thalweg::execute("iot", build, &options).expect("the job runs");
        world.check_conservation(&report.progress.metrics, count);
        for window in world.measured.1.snapshot() {
            let on_time = &expected.windows[&(window.sensor, window.start_ms)];
            assert!(window.count <= on_time.len() as u64, "{window:?}");
            assert!(window.min >= on_time.first().copied(), "{window:?}");
            assert!(window.max <= on_time.last().copied(), "{window:?}");
        }
        more_late += world.late.1.len() - expected.late.len();
    }
    assert!(more_late > 0, "the others have not waited for the last gateway");
}

#[test]
fn readings_that_are_made_up_give_what_plain_loops_find() {
    let count = 60_000;
    let expected = oracle(&made_up(count));
    for kind in [Kind::Hot, Kind::Cooled, Kind::Silent, Kind::Back] {
        assert!(expected.alerts.iter().any(|alert| alert.2 == kind), "no {kind:?}");
    }
    for parallelism in 1..4 {
        let world = World::new();
        let build = || {
            let job = Job::new();
            let readings = generator(Some(count), reading).splits(GATEWAYS);
            world.build(&job.source("readings", readings), None);
            Ok(job.into_graph())
        };
        let simulation = Simulation::with_plan(SimPlan::calm(7, parallelism));
        let report = simulation.run("iot", build).expect("the job runs");
        world.check(&expected);
        world.check_conservation(&report.metrics, count);
    }
}
