//! Watermarks of every kind against a plain loop over each split, and alignment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use thalweg_connectors::memory;
use thalweg_engine::sim::{Random, SimPlan, Style};

use super::*;
use crate::testing::{run_on_threads, simulate, simulate_plan};

/// (split, number, time, whether it says how far time has come)
type Event = (usize, usize, i64, bool);

fn splits(seed: u64) -> Vec<Vec<Event>> {
    let mut random = Random::new(seed);
    let split = |split| {
        let mut now = random.between(-50, 50);
        let events = (0..random.below(50)).map(|number| {
            now += random.between(0, 3);
            (split, number, now - random.between(0, 9), random.is_chosen(30))
        });
        events.collect()
    };
    (0..3).map(split).collect()
}

/// Every fourth record raises the watermark to the mean of the last four times.
#[derive(Clone)]
struct EveryFourth;

impl WatermarkGenerator<Event> for EveryFourth {
    type State = Vec<i64>;

    fn create(&self) -> Vec<i64> {
        Vec::new()
    }

    fn on_record(
        &self,
        state: &mut Vec<i64>,
        _record: &Event,
        time: EventTime,
    ) -> Option<EventTime> {
        state.push(time.millis());
        let mean = state.iter().sum::<i64>() / 4;
        let is_due = state.len() == 4;
        is_due.then(|| {
            state.clear();
            EventTime::from_millis(mean)
        })
    }
}

/// The late events of all splits, where `raise` says to what an event raises the watermark.
fn late(splits: &[Vec<Event>], raise: impl Fn(&[Event]) -> Option<i64>) -> Vec<Event> {
    let mut late = Vec::new();
    for split in splits {
        let mut watermark = i64::MIN;
        for (i, event) in split.iter().enumerate() {
            late.extend((event.2 <= watermark).then_some(*event));
            watermark = raise(&split[..=i]).map_or(watermark, |to| watermark.max(to));
        }
    }
    late.sort_unstable();
    late
}

/// Runs the events through a job; returns those that were on time, in order, and the late ones.
fn run<W: WatermarkKind<Event>>(
    seed: u64,
    splits: &[Vec<Event>],
    watermarks: &Watermarks<W>,
) -> (Vec<Event>, Vec<Event>) {
    let ((on_time, results), (late, lates)) = (memory::sink(), memory::sink());
    simulate(seed, |job| {
        let in_order = job
            .source("events", memory::from_splits(splits.to_vec()))
            .event_time(|event: &Event| event.2, watermarks.clone())
            .in_event_order("in-order");
        in_order.sink("out", on_time.clone());
        in_order.late().sink("late", late.clone());
    });
    let mut lates = lates.take();
    lates.sort_unstable();
    (results.take(), lates)
}

fn check<W: WatermarkKind<Event>>(
    watermarks: &Watermarks<W>,
    raise: impl Fn(&[Event]) -> Option<i64>,
) {
    for seed in 0..40 {
        let splits = splits(seed);
        let expected = late(&splits, &raise);
        let (on_time, lates) = run(seed, &splits, watermarks);
        assert_eq!(lates, expected, "late events of seed {seed}");
        assert!(on_time.is_sorted_by_key(|event| event.2), "seed {seed}");
        let total: usize = splits.iter().map(Vec::len).sum();
        assert_eq!(on_time.len() + lates.len(), total, "seed {seed}");
    }
}

fn every_fourth(events: &[Event]) -> Option<i64> {
    let last: i64 = events.iter().rev().take(4).map(|event| event.2).sum();
    events.len().is_multiple_of(4).then_some(last / 4)
}

#[test]
fn bounded_watermarks_are_right_under_every_schedule() {
    let greatest = |events: &[Event]| events.iter().map(|event| event.2 - 5).max();
    let watermarks = Watermarks::bounded_out_of_orderness(Duration::from_millis(4));
    check(&watermarks, greatest);
    check(&watermarks.with_alignment(Duration::from_millis(7)), greatest);
}

#[test]
fn punctuated_watermarks_are_right_under_every_schedule() {
    let punctuation = |event: &Event| event.3.then(|| EventTime::from_millis(event.2));
    let raise = |events: &[Event]| events.last().filter(|event| event.3).map(|event| event.2);
    check(&Watermarks::punctuated(punctuation), raise);
    check(&Watermarks::punctuated(punctuation).with_alignment(Duration::ZERO), raise);
}

#[test]
fn generators_of_ones_own_are_right_and_restored_under_every_schedule() {
    check(&Watermarks::generated(EveryFourth), every_fourth);
    let aligned = Watermarks::generated(EveryFourth).with_alignment(Duration::from_millis(20));
    check(&aligned, every_fourth);
}

/// The furthest that a split was read ahead of the slowest other one that had not ended.
fn furthest(plan: SimPlan, drift_ms: Option<u64>) -> i64 {
    let read = Arc::new(Mutex::new((BTreeMap::<usize, i64>::new(), 0)));
    let (sink, collected) = memory::sink();
    simulate_plan(plan, |job| {
        let read = read.clone();
        let splits = (0..4).map(|split| (0..500).map(|time| (split, time as i64)).collect());
        let source = job.source("events", memory::from_splits(splits.collect()));
        let watermarks = match drift_ms {
            Some(ms) => Watermarks::monotonic().with_alignment(Duration::from_millis(ms)),
            None => Watermarks::monotonic(),
        };
        let timed = source.event_time(|event: &(usize, i64)| event.1, watermarks);
        timed
            .inspect(move |&(split, time)| {
                let (times, furthest) = &mut *read.lock().expect("no panic");
                times.insert(split, time);
                let slowest = match times.len() {
                    4 => times.values().copied().min().unwrap_or(0),
                    _ => 0,
                };
                *furthest = (*furthest).max(time - slowest);
            })
            .sink("out", sink.clone());
    });
    assert_eq!(collected.len(), 4 * 500);
    let (_, furthest) = &*read.lock().expect("no panic");
    *furthest
}

#[test]
fn fast_splits_wait_for_slow_ones_in_a_subtask_and_among_subtasks() {
    let batch_records = 8;
    let mut unaligned = 0;
    for seed in 0..24 {
        let parallelism = 1 + seed as usize % 4;
        let style = [Style::Uniform, Style::Sticky, Style::Priority][seed as usize % 3];
        let plan = SimPlan { batch_records, style, budget: 5, ..SimPlan::calm(seed, parallelism) };
        let limit = 20 + batch_records as i64;
        let aligned = furthest(plan.clone(), Some(20));
        assert!(aligned <= limit, "seed {seed}: {aligned} ms ahead");
        unaligned = unaligned.max(furthest(plan, None));
    }
    assert!(unaligned > 100, "the splits never drift apart by themselves: {unaligned} ms");
}

#[test]
fn a_split_that_is_silent_holds_others_back_only_until_it_is_idle() {
    for seed in 0..10 {
        let (sink, collected) = memory::sink();
        let plan = SimPlan::calm(seed, 1 + seed as usize % 3);
        simulate_plan(plan, |job| {
            // Ten records per second and split: each is silent for a while again and again.
            let splits = (0..2).map(|split| (0..10_i64).map(|n| n * 50 * (split + 1)).collect());
            let slow = memory::from_splits(splits.collect()).records_per_second(10);
            let watermarks = Watermarks::monotonic()
                .with_idleness(Duration::from_millis(5))
                .with_alignment(Duration::from_millis(60));
            job.source("numbers", slow)
                .event_time(|time: &i64| *time, watermarks)
                .sink("out", sink.clone());
        });
        assert_eq!(collected.len(), 20, "seed {seed}");
    }
}

#[test]
fn aligned_subtasks_on_threads_wake_one_another() {
    for parallelism in 1..4 {
        let (sink, collected) = memory::sink();
        let report = run_on_threads(parallelism, |job| {
            let splits = (0..3).map(|split| (0..20_000).map(|n| n * (split + 1)).collect());
            let watermarks = Watermarks::monotonic().with_alignment(Duration::from_millis(3_000));
            job.source("numbers", memory::from_splits(splits.collect()))
                .event_time(|time: &i64| *time, watermarks)
                .sink("out", sink.clone());
        });
        assert_eq!(report.expect("runs").progress.metrics.records_read(), 60_000);
        assert_eq!(collected.len(), 60_000);
    }
}
