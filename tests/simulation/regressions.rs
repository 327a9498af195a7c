//! What has failed once, and why.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thalweg::memory;
use thalweg::prelude::*;
use thalweg::sim::{SimPlan, Simulation};
use thalweg::{Counter, time};

/// A split that is found at a restart holds the watermark back behind what the windows have
/// already given out. The operator forgot how far it had come, so records of the new split were
/// taken in by windows that had been dropped, and vanished without being counted, or the windows
/// were given out a second time.
#[test]
fn a_split_found_at_a_restart_loses_nothing_and_repeats_nothing() {
    let mut found_late = 0;
    for seed in 0..1000 {
        let mut plan = SimPlan::from_seed(seed);
        (plan.crashes, plan.stops, plan.crash_per_million) = (2, 1, 3000);
        let attempts = Cell::new(0);
        let (windows, given) = memory::sink();
        let (late, late_given) = memory::sink();
        let known: Vec<Vec<(u64, i64)>> =
            (0..2).map(|s| (0..60).map(|i| (s * 1000 + i, 5 * i as i64)).collect()).collect();
        let new: Vec<(u64, i64)> = (0..20).map(|i| (5000 + i, 7 * i as i64)).collect();
        let build = || {
            let mut splits = known.clone();
            if attempts.replace(attempts.get() + 1) > 0 {
                splits.push(new.clone());
            }
            let job = Job::new();
            let counts = job
                .source("records", memory::from_splits(splits))
                .event_time(|r| r.1, Watermarks::bounded_out_of_orderness(time::millis(2)))
                .key_by(|record| record.0 % 3)
                .window(Sliding::of(time::millis(20), time::millis(10)))
                .aggregate("windows", Max::of(|record: &(u64, i64)| record.0));
            counts.results().sink("out", windows.clone());
            counts.late().sink("late", late.clone());
            Ok(job.into_graph())
        };
        let report = Simulation::with_plan(plan).run("new-split", build).expect("it ends");
        let mut times = BTreeMap::<(u64, i64), u32>::new();
        for result in given.snapshot() {
            *times.entry((result.key, result.window.start.millis())).or_default() += 1;
        }
        let twice = times.iter().find(|(_, count)| **count > 1);
        assert_eq!(twice, None, "seed {seed}: a window was given out twice");
        if report.restarts == 0 {
            continue;
        }
        // Each record of the new split is late, or its number is the greatest of some window.
        let late: Vec<u64> = late_given.snapshot().iter().map(|record| record.0).collect();
        found_late += late.len();
        for (number, event_time) in &new {
            let key = number % 3;
            let is_given = given.snapshot().iter().any(|result| {
                let holds = result.window.start.millis() <= *event_time
                    && *event_time < result.window.end.millis();
                result.key == key && holds && result.value >= Some(*number)
            });
            assert!(is_given || late.contains(number), "seed {seed}: {number} has vanished");
        }
        assert_eq!(report.metrics.total("records", Counter::In), 140, "seed {seed}");
    }
    assert!(found_late > 0, "some seed stops late enough for old records to be late");
}

/// Asks for the next timer in every timer.
struct Heartbeat;

impl ProcessFunction<u64, u64> for Heartbeat {
    type State = u64;
    type Out = u64;

    fn on_record(
        &self,
        _record: u64,
        context: &mut ProcessContext<'_, u64, u64, u64>,
    ) -> thalweg::Result<()> {
        context.register_timer(EventTime::from_millis(context.time().millis() + 10));
        Ok(())
    }

    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, u64, u64, u64>,
    ) -> thalweg::Result<()> {
        *context.state += 1;
        context.emit(time.millis() as u64);
        context.register_timer(EventTime::from_millis(time.millis() + 10));
        Ok(())
    }
}

/// At the end of the input the watermark is greater than every timer that the last one asks for:
/// the operator never came to an end.
#[test]
fn a_timer_that_asks_for_the_next_ends_with_the_input() {
    for seed in 0..20 {
        let (sink, given) = memory::sink();
        let simulation = Simulation::new(seed);
        let build = || {
            let job = Job::new();
            job.source("records", memory::source((0..100_u64).collect()))
                .event_time(|n| *n as i64, Watermarks::monotonic())
                .key_by(|_| 0_u64)
                .process("heartbeat", Heartbeat)
                .sink("out", sink.clone());
            Ok(job.into_graph())
        };
        simulation.run("heartbeat", build).expect("it ends");
        let mut beats = given.snapshot();
        beats.sort_unstable();
        beats.dedup();
        // Timers stand at 10, 11, … 109, and at what they ask for before the end of the input.
        assert!(beats.len() >= 100 && beats.last() < Some(&130), "seed {seed}: {beats:?}");
    }
}

/// Behind a filter that lets almost nothing through, no batch ever carries the watermark, and a
/// source that always has more never flushes: results came at the end of the input.
#[test]
fn a_selective_filter_does_not_hold_the_watermark_back() {
    let read = Arc::new(AtomicU64::new(0));
    let (reader, seen) = (read.clone(), Arc::new(AtomicU64::new(0)));
    let first_result = seen.clone();
    const RECORDS: u64 = 2_000_000;
    let build = move |job: &Job| {
        let (reader, first_result, at) = (reader.clone(), first_result.clone(), reader.clone());
        let numbers = job
            .source("numbers", generator(Some(RECORDS), |number| number))
            .event_time(|number| *number as i64, Watermarks::monotonic())
            .inspect(move |_| {
                reader.fetch_add(1, Ordering::Relaxed);
            })
            .filter(|number| *number < 40);
        let counts = numbers
            .key_by(|_| 0_u8)
            .window(Tumbling::of(time::millis(20)))
            .aggregate("windows", Count);
        counts
            .results()
            .inspect(move |_| {
                first_result.fetch_max(at.load(Ordering::Relaxed), Ordering::Relaxed);
            })
            .sink("out", sink::discard());
        Ok(())
    };
    let options = JobOptions { parallelism: Some(2), workers: Some(2), ..Default::default() };
    thalweg::execute("selective", build, &options).expect("it ends");
    assert_eq!(read.load(Ordering::Relaxed), RECORDS);
    let seen = seen.load(Ordering::Relaxed);
    assert!(seen > 0 && seen < RECORDS / 2, "the last result came after {seen} records");
}

/// Records were on their way to key groups that had no state, and after a restart one subtask had
/// these and others. How far the others had come was taken to hold for all: the windows of the
/// records on their way were not given out.
#[test]
fn key_groups_without_state_have_not_come_as_far_as_others() {
    for (seed, after) in [(11_497, 5), (34_032, 2), (37_090, 14), (39_857, 19), (42_153, 16)] {
        let plan = SimPlan { unaligned_after_ms: Some(after), ..SimPlan::from_seed(seed) };
        if let Err(message) = crate::windowed::run_plan(seed, Simulation::with_plan(plan)) {
            panic!("{message}");
        }
    }
}
