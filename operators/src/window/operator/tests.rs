//! The window operator through the verifier, against windows recomputed from scratch.

use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::EventTime;
use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Input, verify_operator};

use super::{Records, WindowOperator};
use crate::aggregate::{ApproxDistinct, Count, FloatSum, Quantiles, Reduce, TopN};
use crate::stream::Keyed;
use crate::window::Sliding;

type Record = Keyed<u8, u32>;

fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis)
}

/// A random script of one split: records with the marks of a bounded watermark generator, and
/// watermarks that follow it; ends with the end of time.
fn script(random: &mut Random, bound: i64, records: u32) -> Vec<Input<Record>> {
    let mut script = Vec::new();
    let mut now = random.between(-50, 50);
    let mut greatest: Option<i64> = None;
    for number in 0..records {
        now += random.between(0, 4);
        let time = now - random.between(0, 2 * bound);
        let watermark = greatest.map(|greatest| greatest - bound - 1);
        let mark = watermark.filter(|watermark| time <= *watermark).map(at);
        let record = Keyed { key: random.below(4) as u8, value: number };
        script.push(Input::Record(record, at(time), mark));
        greatest = greatest.max(Some(time));
        if random.is_chosen(20) {
            script.push(Input::Watermark(at(greatest.unwrap_or(0) - bound - 1)));
        }
    }
    script.push(Input::Watermark(EventTime::MAX));
    script
}

/// What must be given out, as the verifier writes it.
fn expected(
    script: &[Input<Record>],
    (size, slide, lateness): (i64, i64, i64),
) -> (Vec<String>, Vec<String>) {
    let mut windows = std::collections::BTreeMap::<(u8, i64), u64>::new();
    let mut late = Vec::new();
    for input in script {
        let Input::Record(record, time, mark) = input else { continue };
        let watermark = mark.map_or(i64::MIN, EventTime::millis);
        let time = time.millis();
        let starts = (-400..800).map(|n| n * slide).filter(|s| *s <= time && time < s + size);
        let starts: Vec<i64> = starts.collect();
        let open = starts.iter().filter(|start| *start + size - 1 + lateness > watermark);
        let open: Vec<i64> = open.copied().collect();
        if open.is_empty() && !starts.is_empty() {
            late.push(format!("{} at {time} behind {watermark}", record.value));
        }
        for start in open {
            *windows.entry((record.key, start)).or_default() += 1;
        }
    }
    let result = |((key, start), count): ((u8, i64), u64)| {
        format!(
            "WindowResult {{ key: {key}, window: Window {{ start: EventTime({start}), end: \
             EventTime({}) }}, value: {count} }} at {}",
            start + size,
            start + size - 1
        )
    };
    let mut results: Vec<String> = windows.into_iter().map(result).collect();
    results.sort_unstable();
    late.sort_unstable();
    (results, late)
}

#[test]
fn windows_are_the_same_in_every_mode_and_right() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (size, slide) = (random.between(1, 30), random.between(1, 30));
        let lateness = random.between(0, 1) * random.between(1, 20);
        let millis = |n: i64| Duration::from_millis(n as u64);
        let assigner = Arc::new(Sliding::of(millis(size), millis(slide)).with_gaps());
        let records = random.below(40) as u32;
        let script = script(&mut random, 6, records);
        let given = verify_operator(
            || {
                let aggregate = Arc::new(Count);
                WindowOperator::<u8, u32, Count, _, Records>::new(&*assigner, aggregate, lateness)
            },
            Some(&|record: &Record| hash_key(&record.key).expect("a number has a hash")),
            &script,
        )
        .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let (results, late) = expected(&script, (size, slide, lateness));
        assert_eq!(given.main, results, "results of seed {seed}");
        assert_eq!(given.side, late, "late records of seed {seed}");
    }
}

/// Windows of many slices: several blocks and chunks pass, jumps over some included.
#[test]
fn windows_of_many_slices_are_right_however_late_their_records() {
    for seed in 0..10 {
        let mut random = Random::new(1_000 + seed);
        let (size, slide) = (random.between(20, 70), random.between(1, 3));
        let bound = if random.is_chosen(50) { 2 } else { size / 2 };
        let mut script = script(&mut random, bound, 120);
        if random.is_chosen(50) {
            jump(&mut script, 60, random.between(0, 3 * size));
        }
        let millis = |n: i64| Duration::from_millis(n as u64);
        let assigner = Arc::new(Sliding::of(millis(size), millis(slide)));
        let make = || WindowOperator::<_, _, _, _, Records>::new(&*assigner, Arc::new(Count), 0);
        let hash = |record: &Record| hash_key(&record.key).expect("a number has a hash");
        let given = verify_operator(make, Some(&hash), &script)
            .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let (results, late) = expected(&script, (size, slide, 0));
        assert_eq!(given.main, results, "results of seed {seed}: {size} by {slide}");
        assert_eq!(given.side, late, "late records of seed {seed}: {size} by {slide}");
    }
}

/// Moves all that follows `index` by `millis`.
fn jump(script: &mut [Input<Record>], index: usize, millis: i64) {
    let moved = |time: EventTime| match time {
        EventTime::MAX => time,
        time => time.shifted(millis),
    };
    for input in script.iter_mut().skip(index) {
        match input {
            Input::Record(_, time, mark) => {
                (*time, *mark) = (moved(*time), mark.map(moved));
            }
            Input::Watermark(watermark) => *watermark = moved(*watermark),
            _ => {}
        }
    }
}

/// A combination that depends on order and grouping gives the same after every restore.
#[test]
fn restoring_changes_neither_order_nor_grouping() {
    for seed in 0..30 {
        let mut random = Random::new(2_000 + seed);
        let (size, slide) = (random.between(1, 60), random.between(1, 5));
        let script = script(&mut random, 10, 60);
        let millis = |n: i64| Duration::from_millis(n as u64);
        let assigner = Arc::new(Sliding::of(millis(size), millis(slide)));
        let combine = |a: &u32, b: &u32| a.wrapping_mul(31).wrapping_add(*b) ^ 5;
        let make = || {
            WindowOperator::<_, _, _, _, Records>::new(
                &*assigner,
                Arc::new(Reduce::with(combine)),
                0,
            )
        };
        let hash = |record: &Record| hash_key(&record.key).expect("a number has a hash");
        verify_operator(make, Some(&hash), &script).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

/// Aggregates with state of their own, through windows, snapshots and rescaling.
#[test]
fn sketches_and_sums_survive_every_mode() {
    for seed in 0..10 {
        let mut random = Random::new(3_000 + seed);
        let script = script(&mut random, 10, 60);
        let millis = |n: i64| Duration::from_millis(n as u64);
        let assigner = Arc::new(Sliding::of(millis(40), millis(8)));
        let aggregate = Arc::new((
            FloatSum::of(|n: &u32| f64::from(*n) * 0.1),
            ApproxDistinct::of(|n: &u32| *n).precision(4),
            Quantiles::of(|n: &u32| f64::from(*n)),
            TopN::by(3, |n: &u32| *n % 7),
        ));
        let make = || WindowOperator::<_, _, _, _, Records>::new(&*assigner, aggregate.clone(), 0);
        let hash = |record: &Record| hash_key(&record.key).expect("a number has a hash");
        verify_operator(make, Some(&hash), &script).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}
