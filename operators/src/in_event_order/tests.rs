//! Order, late records, and state: against sorting all records at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use thalweg_connectors::{memory, sink};
use thalweg_engine::sim::{Random, SimPlan};
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Input, verify_operator};

use super::*;
use crate::event_time::Watermarks;
use crate::job::Job;
use crate::testing::{simulate, simulate_plan};

type Record = Keyed<u8, u32>;

fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis)
}

#[test]
fn what_is_given_out_or_late_is_the_same_in_every_mode() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut script, mut main, mut side) = (Vec::new(), Vec::new(), Vec::new());
        let mut watermark = i64::MIN;
        let mut now = random.between(-30, 30);
        for value in 0..random.below(50) as u32 {
            now += random.between(-3, 4);
            let record = Keyed { key: random.below(4) as u8, value };
            // The record's split may be ahead of the operator, and has a mark only then.
            let mark = random.is_chosen(20).then(|| now + random.between(0, 3));
            if now <= watermark || mark.is_some() {
                let mark = mark.unwrap_or(i64::MIN).max(watermark);
                side.push(format!("{value} at {now} behind {mark}"));
            } else {
                main.push(format!("{record:?} at {now}"));
            }
            script.push(Input::Record(record, at(now), mark.map(at)));
            if random.is_chosen(20) {
                watermark = watermark.max(now - random.between(-3, 3));
                script.push(Input::Watermark(at(watermark)));
            }
        }
        script.push(Input::Watermark(EventTime::MAX));
        let given = verify_operator(
            InEventOrder::<u8, u32>::new,
            Some(&|record: &Record| hash_key(&record.key).expect("a number has a hash")),
            &script,
        )
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        main.sort_unstable();
        side.sort_unstable();
        assert_eq!((given.main, given.side), (main, side), "seed {seed}");
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Event {
    key: u8,
    time: i64,
    split: usize,
    offset: usize,
}

const BOUND: i64 = 6;

/// Random splits, out of order, some records late; and of each the events that are not late for
/// their split, and those that are.
fn events(seed: u64) -> (Vec<Vec<Event>>, Vec<Event>, Vec<Event>) {
    let mut random = Random::new(seed);
    let (mut on_time, mut late) = (Vec::new(), Vec::new());
    let splits = (0..1 + random.below(4)).map(|split| {
        let (mut now, mut greatest) = (random.between(-50, 20), i64::MIN);
        let events = (0..random.below(40)).map(|offset| {
            now += random.between(0, 2);
            let time = now - random.between(0, 8);
            let event = Event { key: random.below(5) as u8, time, split, offset };
            if greatest > i64::MIN && time < greatest - BOUND {
                late.push(event.clone());
            } else {
                on_time.push(event.clone());
            }
            greatest = greatest.max(time);
            event
        });
        events.collect()
    });
    let splits: Vec<Vec<Event>> = splits.collect();
    (splits, on_time, late)
}

/// Splits are ordered by the hash of the names of source and split, which is its number.
fn sort(events: &mut [Event]) {
    let split = |event: &Event| hash_key(&("events", event.split.to_string())).expect("has a hash");
    events.sort_by_key(|event| (event.time, split(event), event.offset));
}

fn watermarks() -> Watermarks {
    Watermarks::bounded_out_of_orderness(Duration::from_millis(BOUND as u64))
}

/// Appends each event to a list: shows the order.
fn history(a: &Vec<Event>, b: &Vec<Event>) -> Vec<Event> {
    [a.as_slice(), b.as_slice()].concat()
}

#[test]
fn each_key_is_in_order_under_every_schedule_and_what_follows_is_the_same() {
    for seed in 0..60 {
        let (splits, mut on_time, mut late) = events(seed);
        let ((sink, histories), (late_sink, lates)) = (memory::sink(), memory::sink());
        simulate(seed, |job| {
            let events = job
                .source("events", memory::from_splits(splits.clone()))
                .event_time(|event: &Event| event.time, watermarks())
                .map(|event| vec![event])
                .key_by(|events: &Vec<Event>| events[0].key)
                .in_event_order("in-order");
            assert!(events.is_in_event_order());
            events.reduce("history", history).sink("histories", sink.clone());
            events.late().map(|mut events| events.remove(0)).sink("late", late_sink.clone());
        });
        sort(&mut on_time);
        let mut given = histories.take();
        assert_eq!(given.len(), on_time.len(), "seed {seed}");
        given.sort_by_key(|keyed| (keyed.key, keyed.value.len()));
        for key in 0..5 {
            let expected: Vec<_> = on_time.iter().filter(|e| e.key == key).cloned().collect();
            let mut histories = given.iter().filter(|keyed| keyed.key == key).enumerate();
            assert!(
                histories.all(|(i, keyed)| keyed.value == expected[..=i]),
                "key {key} of seed {seed}"
            );
        }
        let mut lates = lates.take();
        sort(&mut lates);
        sort(&mut late);
        assert_eq!(lates, late, "seed {seed}");
    }
}

#[test]
fn a_stream_without_keys_is_in_order_as_a_whole() {
    for seed in 0..30 {
        let (splits, mut on_time, _) = events(seed);
        let seen = Arc::new(Mutex::new(Vec::new()));
        simulate_plan(SimPlan { parallelisms: vec![3], ..SimPlan::calm(seed, 3) }, |job| {
            let seen = seen.clone();
            job.source("events", memory::from_splits(splits.clone()))
                .event_time(|event: &Event| event.time, watermarks())
                .in_event_order("in-order")
                .sink(
                    "out",
                    sink::for_each(move |events: &[Event]| {
                        seen.lock().expect("no panic").extend_from_slice(events);
                    }),
                );
        });
        sort(&mut on_time);
        assert_eq!(*seen.lock().expect("no panic"), on_time, "seed {seed}");
    }
}

#[test]
fn a_stream_without_keys_survives_crashes_and_rescaling() {
    for seed in 0..30 {
        let (splits, mut on_time, _) = events(seed);
        let (sink, collected) = memory::sink();
        simulate(seed, |job| {
            job.source("events", memory::from_splits(splits.clone()))
                .event_time(|event: &Event| event.time, watermarks())
                .in_event_order("in-order")
                .sink("out", sink.clone());
        });
        sort(&mut on_time);
        assert_eq!(collected.take(), on_time, "seed {seed}");
    }
}

#[test]
fn what_looks_at_the_order_is_as_deterministic_as_the_order() {
    let level = |is_ordered: bool| {
        let job = Job::new();
        let (sink, _) = memory::sink();
        let events = job
            .source("events", memory::source(vec![1_i64, 2]))
            .event_time(|time| *time, watermarks())
            .key_by(|time| time % 2);
        match is_ordered {
            true => events.in_event_order("in-order").reduce("sum", |a, b| a + b),
            false => events.reduce("sum", |a, b| a + b),
        }
        .sink("out", sink);
        job.into_graph().level()
    };
    assert_eq!((level(true), level(false)), (Level::D4, Level::D2));
}
