//! Windows of processing time through the verifier, against windows recomputed from scratch.

use std::collections::BTreeMap;
use std::fmt::Debug;

use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Given, Input, verify_in_order};

use super::*;
use crate::aggregate::Count;

type Record = Keyed<u8, u32>;

fn given(assigner: impl Into<ProcessingAssigner>, script: &[Input<Record>]) -> Given {
    let ProcessingAssigner { kind } = assigner.into();
    let hash = |record: &Record| hash_key(&record.key).expect("a number has a hash");
    let make = || ProcessingOperator::<u8, u32, Count>::new(kind, Arc::new(Count));
    verify_in_order(make, Some(&hash), script).expect("all modes agree")
}

fn line(key: u8, (start, end): (i64, i64), value: impl Debug) -> String {
    let (start, end) = (ProcessingTime::from_millis(start), ProcessingTime::from_millis(end));
    format!("{:?}", ProcessingResult { key, window: ProcessingWindow { start, end }, value })
}

fn rows(lines: &[String]) -> Vec<String> {
    lines.iter().filter_map(|line| Some(line.rsplit_once(" at ")?.0.to_owned())).collect()
}

/// A random script, and the clock at each of its records.
fn script(random: &mut Random) -> (Vec<Input<Record>>, Vec<(u8, i64)>) {
    let (mut script, mut records, mut now) = (Vec::new(), Vec::new(), 0);
    for value in 0..random.below(40) as u32 {
        let key = random.below(3) as u8;
        let time = EventTime::from_millis(random.between(-5, 5));
        script.push(Input::Record(Keyed { key, value }, time, None));
        records.push((key, now));
        if random.is_chosen(40) {
            now += random.between(0, 12);
            script.push(Input::Time(ProcessingTime::from_millis(now)));
        }
        if random.is_chosen(10) {
            script.push(Input::Watermark(EventTime::from_millis(-100 + now)));
        }
    }
    script.push(Input::Watermark(EventTime::MAX));
    (script, records)
}

#[test]
fn aligned_windows_hold_what_came_in_their_time() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (size, slide) = (random.between(1, 20), random.between(1, 20));
        let (script, records) = script(&mut random);
        let mut windows = BTreeMap::<(u8, i64), u64>::new();
        for (key, now) in records {
            let starts = (-60..600).map(|n| n * slide).filter(|s| *s <= now && now < s + size);
            starts.for_each(|start| *windows.entry((key, start)).or_default() += 1);
        }
        let row = |((key, start), count)| line(key, (start, start + size), count);
        let mut expected: Vec<String> = windows.into_iter().map(row).collect();
        expected.sort_unstable();
        let millis = |n: i64| Duration::from_millis(n as u64);
        let sliding = ProcessingSliding::of(millis(size), millis(slide));
        let mut found = rows(&given(sliding, &script).main);
        found.sort_unstable();
        assert_eq!(found, expected, "seed {seed}");
    }
}

#[test]
fn sessions_end_when_the_clock_has_passed_the_gap() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let gap = random.between(1, 15);
        let (script, records) = script(&mut random);
        let mut keys = BTreeMap::<u8, Vec<i64>>::new();
        for (key, now) in records {
            keys.entry(key).or_default().push(now);
        }
        let mut expected = Vec::new();
        for (key, times) in keys {
            // At the end of a session the next one begins.
            for session in times.chunk_by(|a, b| b - a < gap) {
                let (first, last) = (session[0], session[session.len() - 1]);
                expected.push(line(key, (first, last + gap), session.len()));
            }
        }
        expected.sort_unstable();
        let session = ProcessingSession::with_gap(Duration::from_millis(gap as u64));
        let mut found = rows(&given(session, &script).main);
        found.sort_unstable();
        assert_eq!(found, expected, "seed {seed}");
    }
}

#[test]
fn results_come_when_the_clock_reaches_the_end_and_are_not_behind_the_watermark() {
    let record =
        |time: i64| Input::Record(Keyed { key: 1, value: 0 }, EventTime::from_millis(time), None);
    let clock = |now: i64| Input::Time(ProcessingTime::from_millis(now));
    let watermark = Input::Watermark(EventTime::from_millis(50));
    let tumbling = ProcessingTumbling::of(Duration::from_millis(10));
    let script = [record(7), clock(9), record(60), watermark, clock(10), record(3), clock(19)];
    let expected = format!("{} at 60", line(1, (0, 10), 2));
    assert_eq!(given(tumbling, &script).main, [expected]);
    let script = [&script[..], &[clock(20)]].concat();
    let second = format!("{} at 51", line(1, (10, 20), 1));
    assert_eq!(given(tumbling, &script).main[1..], [second]);
    // What is open at the end of the input is given out.
    let script = [record(7), Input::Watermark(EventTime::MAX)];
    assert_eq!(given(tumbling, &script).main.len(), 1);
}

#[test]
fn windows_without_a_length_are_problems() {
    assert!(ProcessingAssigner::from(ProcessingTumbling::of(Duration::ZERO)).problem().is_some());
    let session = ProcessingSession::with_gap(Duration::from_micros(10));
    assert!(ProcessingAssigner::from(session).problem().is_some());
    let sliding = ProcessingSliding::of(Duration::from_secs(1), Duration::ZERO);
    assert!(ProcessingAssigner::from(sliding).problem().is_some());
}
