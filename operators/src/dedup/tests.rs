//! The first of each key: against a map that forgets nothing and compares times.

use std::collections::BTreeMap;

use thalweg_connectors::memory;
use thalweg_engine::sim::Random;
use thalweg_engine::state::{BackendConfig, KeyGroupCount, KeyGroupRange, hash_key};
use thalweg_engine::testing::{Given, Input, verify_operator};

use super::*;
use crate::event_time::Watermarks;
use crate::testing::simulate;

type Record = Keyed<u8, u32>;

fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis)
}

fn verify(memory: Memory, script: &[Input<Record>]) -> Given {
    verify_operator(
        || KeepFirst::<u8, u32>::new(Dedup { memory }),
        Some(&|record: &Record| hash_key(&record.key).expect("a number has a hash")),
        script,
    )
    .expect("all modes agree")
}

/// What must be given out, as the verifier writes it.
fn expected(memory: Memory, script: &[Input<Record>]) -> Given {
    let mut until = BTreeMap::<u8, i64>::new();
    let (mut watermark, mut now) = (i64::MIN, 0);
    let mut given = Given::default();
    for input in script {
        let (record, time, mark) = match input {
            Input::Watermark(to) => {
                watermark = to.millis();
                continue;
            }
            Input::Time(to) => {
                now = to.millis();
                continue;
            }
            Input::Record(record, time, mark) => (record, time.millis(), *mark),
        };
        let end = mark.map(|mark| format!(" behind {mark}")).unwrap_or_default();
        let (at, ttl) = match memory {
            Memory::Forever => (0, i64::MAX),
            Memory::ProcessingTime { ttl_ms } => (now, ttl_ms),
            Memory::EventTime { ttl_ms } => (time, ttl_ms),
        };
        if let Memory::EventTime { .. } = memory
            && (mark.is_some() || time <= watermark)
        {
            let mark = mark.map_or(i64::MIN, EventTime::millis).max(watermark);
            given.side.push(format!("{} at {time} behind {mark}", record.value));
        } else if until.get(&record.key).is_none_or(|until| *until <= at) {
            until.insert(record.key, at.saturating_add(ttl));
            given.main.push(format!("{record:?} at {time}{end}"));
        }
    }
    given.main.sort_unstable();
    given.side.sort_unstable();
    given
}

#[test]
fn firsts_are_the_same_in_every_mode_and_right() {
    for seed in 0..90 {
        let mut random = Random::new(seed);
        let ttl_ms = random.between(1, 60);
        let memory = match seed % 3 {
            0 => Memory::Forever,
            1 => Memory::EventTime { ttl_ms },
            _ => Memory::ProcessingTime { ttl_ms },
        };
        let (mut script, mut watermark) = (Vec::new(), i64::MIN);
        let (mut time, mut now) = (random.between(-50, 50), 0);
        for value in 0..60 {
            time += random.between(-3, 6);
            let mark = random.is_chosen(15).then(|| at(time + random.between(0, 5)));
            let record = Keyed { key: random.below(5) as u8, value };
            script.push(Input::Record(record, at(time), mark));
            if random.is_chosen(20) {
                watermark = watermark.max(time - random.between(-2, 10));
                script.push(Input::Watermark(at(watermark)));
            }
            if random.is_chosen(20) {
                now += random.between(0, 40);
                script.push(Input::Time(ProcessingTime::from_millis(now)));
            }
        }
        assert_eq!(verify(memory, &script), expected(memory, &script), "seed {seed} {memory:?}");
    }
}

#[test]
fn what_is_not_needed_is_forgotten() {
    let mut operator = KeepFirst::<u64, ()>::new(Dedup::by_event_time(Duration::from_secs(1)));
    let count = KeyGroupCount::default();
    let range = KeyGroupRange::all(count);
    let mut state = OperatorState::open(BackendConfig::Memory, range, count).expect("opens");
    let (kept, ending) = (state.table(KEPT), state.sliced(ENDING));
    let clocks = state.table(CLOCK);
    let group_keys = GroupKeys::new(range, count).expect("numbers have hashes");
    operator.open = Some(Opened { state, kept, ending, clocks, group_keys });
    for time in 0..10_000_i64 {
        let key = time as u64 % 5_000;
        let hash = hash_key(&key).expect("a number has a hash");
        assert!(operator.keep((hash, &key), time, 1_000).expect("keeps"));
        operator.forget(time).expect("forgets");
        let opened = operator.opened().expect("is open");
        assert!(opened.kept.len() <= 1_035, "{} keys at {time}", opened.kept.len());
        assert!(opened.ending.len() <= 1_035);
    }
    operator.forget(11_100).expect("forgets");
    let opened = operator.opened().expect("is open");
    assert!(opened.kept.is_empty() && opened.ending.is_empty());
}

#[test]
fn a_clock_that_begins_anew_goes_on_where_it_was() {
    let mut clock = Clock::default();
    assert_eq!(clock.tell(ProcessingTime::from_millis(500)), 500);
    let mut restored = Clock { latest: 500, ahead_ms: None };
    assert_eq!(restored.tell(ProcessingTime::from_millis(3)), 500);
    assert_eq!(restored.tell(ProcessingTime::from_millis(10)), 507);
    let mut same = Clock { latest: 500, ahead_ms: None };
    assert_eq!(same.tell(ProcessingTime::from_millis(600)), 600);
}

#[test]
fn in_event_order_the_first_is_the_same_under_every_schedule() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut records = Vec::new();
        let mut now = 0;
        for number in 0..120_u32 {
            now += random.between(0, 3);
            records.push((random.below(8) as u8, now - random.between(0, 5), number));
        }
        let mut sorted = records.clone();
        sorted.sort_by_key(|record| (record.1, record.2));
        let mut until = BTreeMap::new();
        sorted.retain(|(key, time, _)| {
            let is_first = until.get(key).is_none_or(|until| until <= time);
            if is_first {
                until.insert(*key, *time + 20);
            }
            is_first
        });
        let (sink, collected) = memory::sink();
        simulate(seed, |job| {
            let ttl = Duration::from_millis(20);
            let source = memory::source(records.clone());
            let bound = Watermarks::bounded_out_of_orderness(Duration::from_millis(5));
            let once = job
                .source("records", source)
                .event_time(|record: &(u8, i64, u32)| record.1, bound)
                .key_by(|record| record.0)
                .in_event_order("in-order")
                .dedup("once", Dedup::by_event_time(ttl));
            once.records().map(|keyed| keyed.value).sink("out", sink.clone());
        });
        let mut given = collected.take();
        given.sort_by_key(|record| (record.1, record.2));
        assert_eq!(given, sorted, "seed {seed}");
    }
}
