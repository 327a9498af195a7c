//! Process functions through the verifier: echoes, timers of both domains against a naive model.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Given, Input, verify_beside_broadcast};
use thalweg_engine::{RecordId, RecordId as Id};

use super::*;

pub(crate) fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis)
}

pub(crate) fn clock(millis: i64) -> ProcessingTime {
    ProcessingTime::from_millis(millis)
}

/// Runs a function over a script in all modes.
pub(crate) fn verify<T, D, P>(
    declare: impl FnOnce(&mut StateDeclarations<u8>) -> P,
    script: &[Input<Keyed<u8, T>>],
) -> Result<Given>
where
    T: Data,
    D: Element + std::fmt::Debug,
    P: ProcessFunction<u8, T, D, Out: std::fmt::Debug>,
{
    let mut declarations = StateDeclarations::new();
    let function = Arc::new(declare(&mut declarations));
    let (declared, problems) = declarations.finish();
    assert_eq!(problems, Vec::<String>::new());
    let make = || Process::<u8, T, D, P>::new(function.clone(), declared.clone());
    let hash = |keyed: &Keyed<u8, T>| hash_key(&keyed.key).expect("a number has a hash");
    verify_beside_broadcast(make, Some(&hash), &|_| false, script)
}

/// Gives out each record, and the number of records of a key one millisecond after each.
struct Echo;

impl ProcessFunction<u8, i64> for Echo {
    type State = u64;
    type Out = (u8, i64);

    fn on_record(
        &self,
        record: i64,
        context: &mut ProcessContext<'_, u8, u64, (u8, i64)>,
    ) -> Result<()> {
        *context.state += 1;
        context.register_timer(at(context.time().millis() + 1));
        let key = *context.key();
        context.emit((key, record));
        Ok(())
    }

    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, u8, u64, (u8, i64)>,
    ) -> Result<()> {
        if time.millis() % 2 == 0 {
            context.delete_timer(at(time.millis() + 1));
        }
        let key = *context.key();
        context.emit((key, -time.millis()));
        Ok(())
    }
}

#[test]
fn timers_fire_once_each_in_every_mode() {
    let mut script = Vec::new();
    for n in 0..30_i64 {
        let record = Keyed { key: (n % 3) as u8, value: 100 + n };
        script.push(Input::Record(record, at(n / 3), None));
        if n % 12 == 11 {
            script.push(Input::Watermark(at(n / 3)));
        }
    }
    script.push(Input::Watermark(EventTime::MAX));
    let given = verify(|_| Echo, &script).expect("all modes agree");
    // Timers stand at 1..=10 for three keys; each even one takes back the next.
    let timers = given.main.iter().filter(|line| line.contains(", -")).count();
    assert_eq!(given.main.len() - timers, 30);
    let expected: Vec<i64> = (1..=10).filter(|t| t % 2 == 0 || *t == 1).collect();
    for key in 0..3 {
        for time in 1..=10_i64 {
            let line = format!("({key}, -{time}) at {time}");
            let is_there = given.main.contains(&line);
            assert_eq!(is_there, expected.contains(&time), "{line}");
        }
    }
}

/// What a record or timer asks for.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
enum Ask {
    Register(i64),
    Delete(i64),
    RegisterProcessing(i64),
    DeleteProcessing(i64),
    Clear,
}

/// What a timer of the test asks for; `domain` is 0 for event time.
fn asks_of_timer(domain: i64, time: i64, key: u8) -> Vec<Ask> {
    let mut asks = Vec::new();
    match (time + domain + i64::from(key)).rem_euclid(7) {
        0 => asks.push(Ask::Register(time + 5)),
        1 => asks.push(Ask::Delete(time + 1)),
        2 => asks.push(Ask::RegisterProcessing(time + 4)),
        3 => asks.push(Ask::DeleteProcessing(time + 2)),
        4 => asks.extend([Ask::Register(time), Ask::Delete(time), Ask::Register(time + 3)]),
        5 => asks.push(Ask::Clear),
        _ => {}
    }
    asks
}

/// Does what it is asked for, and tells of each call: key, its number within the key, what it is.
struct Timed;

type Told = (u8, u64, String);

impl Timed {
    fn ask(asks: &[Ask], context: &mut ProcessContext<'_, u8, u64, Told>) {
        for ask in asks {
            match *ask {
                Ask::Register(time) => context.register_timer(at(time)),
                Ask::Delete(time) => context.delete_timer(at(time)),
                Ask::RegisterProcessing(time) => context.register_processing_timer(clock(time)),
                Ask::DeleteProcessing(time) => context.delete_processing_timer(clock(time)),
                Ask::Clear => context.clear_state(),
            }
        }
    }

    fn tell(what: String, context: &mut ProcessContext<'_, u8, u64, Told>) {
        *context.state += 1;
        let told = (*context.key(), *context.state, what);
        context.emit(told);
    }
}

impl ProcessFunction<u8, Vec<Ask>> for Timed {
    type State = u64;
    type Out = Told;

    fn on_record(
        &self,
        asks: Vec<Ask>,
        context: &mut ProcessContext<'_, u8, u64, Told>,
    ) -> Result<()> {
        Timed::tell("record".to_owned(), context);
        Timed::ask(&asks, context);
        Ok(())
    }

    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, u8, u64, Told>,
    ) -> Result<()> {
        Timed::tell(format!("event {time} at {}", context.watermark()), context);
        Timed::ask(&asks_of_timer(0, time.millis(), *context.key()), context);
        Ok(())
    }

    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        context: &mut ProcessContext<'_, u8, u64, Told>,
    ) -> Result<()> {
        let now = context.processing_time().millis();
        Timed::tell(format!("processing {} at {now}", time.millis()), context);
        Timed::ask(&asks_of_timer(1, time.millis(), *context.key()), context);
        Ok(())
    }
}

/// The same from scratch: two sets of timers, searched whole.
#[derive(Default)]
struct TimedModel {
    event: BTreeSet<(i64, u8)>,
    processing: BTreeMap<(i64, u8), i64>,
    counts: BTreeMap<u8, u64>,
    watermark: Option<i64>,
    now: i64,
    has_ended: bool,
    told: Vec<String>,
}

impl TimedModel {
    fn call(&mut self, key: u8, time: i64, what: &str, asks: &[Ask]) {
        let count = self.counts.entry(key).or_default();
        *count += 1;
        self.told.push(format!("({key}, {count}, {what:?}) at {time}"));
        for ask in asks {
            match *ask {
                Ask::Register(_) | Ask::RegisterProcessing(_) if self.has_ended => {}
                Ask::Register(at) => drop(self.event.insert((at, key))),
                Ask::Delete(at) => drop(self.event.remove(&(at, key))),
                Ask::RegisterProcessing(at) => drop(self.processing.insert((at, key), time)),
                Ask::DeleteProcessing(at) => drop(self.processing.remove(&(at, key))),
                Ask::Clear => drop(self.counts.remove(&key)),
            }
        }
    }

    fn call_event(&mut self, watermark: EventTime) {
        while let Some(&(time, key)) = self.event.first()
            && time <= watermark.millis()
        {
            self.event.remove(&(time, key));
            let what = format!("event {time} at {watermark}");
            self.call(key, time, &what, &asks_of_timer(0, time, key));
        }
    }

    fn call_processing(&mut self, limit: i64) {
        while let Some((&(time, key), &asked)) = self.processing.first_key_value()
            && time <= limit
        {
            self.processing.remove(&(time, key));
            let what = format!("processing {time} at {}", self.now);
            let on_time = self.watermark.map_or(asked, |watermark| asked.max(watermark + 1));
            self.call(key, on_time, &what, &asks_of_timer(1, time, key));
        }
    }

    fn play(mut self, script: &[Input<Keyed<u8, Vec<Ask>>>]) -> Vec<String> {
        for input in script {
            match input {
                Input::Record(record, time, _) => {
                    self.call(record.key, time.millis(), "record", &record.value);
                }
                Input::Watermark(EventTime::MAX) => {
                    self.has_ended = true;
                    self.call_event(EventTime::MAX);
                    self.call_processing(i64::MAX);
                }
                Input::Watermark(watermark) => {
                    self.watermark = Some(watermark.millis());
                    self.call_event(*watermark);
                }
                Input::Time(now) => {
                    self.now = now.millis();
                    self.call_processing(self.now);
                }
            }
        }
        self.told.sort_unstable();
        self.told
    }
}

fn timed_script(random: &mut Random) -> Vec<Input<Keyed<u8, Vec<Ask>>>> {
    let mut script = Vec::new();
    let (mut watermark, mut now) = (random.between(-20, 0), 0);
    for _ in 0..random.below(50) {
        match random.below(8) {
            0 => {
                watermark += random.between(1, 9);
                script.push(Input::Watermark(at(watermark)));
            }
            1 => {
                now += random.between(1, 9);
                script.push(Input::Time(clock(now)));
            }
            _ => {
                let near = |random: &mut Random| match random.below(3) {
                    0 => Ask::Register(watermark + random.between(-2, 15)),
                    1 => Ask::RegisterProcessing(now + random.between(-2, 15)),
                    _ if random.is_chosen(50) => Ask::Delete(watermark + random.between(0, 9)),
                    _ if random.is_chosen(20) => Ask::Clear,
                    _ => Ask::DeleteProcessing(now + random.between(0, 9)),
                };
                let asks = (0..random.below(4)).map(|_| near(random)).collect();
                let record = Keyed { key: random.below(3) as u8, value: asks };
                script.push(Input::Record(record, at(watermark + random.between(-5, 9)), None));
            }
        }
    }
    script.push(Input::Watermark(EventTime::MAX));
    script
}

#[test]
fn timers_of_both_domains_are_those_of_the_model() {
    let (mut events, mut processing) = (0, 0);
    for seed in 0..300 {
        let script = timed_script(&mut Random::new(seed));
        let given = verify(|_| Timed, &script).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let expected = TimedModel::default().play(&script);
        assert_eq!(given.main, expected, "seed {seed}: {script:?}");
        events += expected.iter().filter(|line| line.contains("event")).count();
        processing += expected.iter().filter(|line| line.contains("processing")).count();
    }
    assert!(events > 1000 && processing > 1000, "{events} and {processing} timers");
}

/// Tells which record it is, and puts late ones aside.
struct Which;

impl ProcessFunction<u8, i64, (u8, EventTime)> for Which {
    type State = ();
    type Out = u64;

    const NEEDS_RECORD_IDS: bool = true;

    fn on_record(
        &self,
        _record: i64,
        context: &mut ProcessContext<'_, u8, (), u64, (u8, EventTime)>,
    ) -> Result<()> {
        let id: RecordId = context.record_id();
        context.register_timer(at(1));
        match context.behind() {
            Some(mark) => {
                let key = *context.key();
                context.emit_side((key, mark));
            }
            None => context.emit(id.offset),
        }
        Ok(())
    }

    fn on_timer(
        &self,
        _time: EventTime,
        context: &mut ProcessContext<'_, u8, (), u64, (u8, EventTime)>,
    ) -> Result<()> {
        assert_eq!(context.record_id(), Id::default());
        Ok(())
    }
}

#[test]
fn side_outputs_identities_and_marks_reach_the_function() {
    let mark = |n: i64| (n % 4 == 3).then(|| at(50));
    let record = |n: i64| Input::Record(Keyed { key: n as u8, value: n }, at(n), mark(n));
    let mut script: Vec<_> = (0..8).map(record).collect();
    script.push(Input::Watermark(at(60)));
    let given = verify(|_| Which, &script).expect("all modes agree");
    assert_eq!(given.main, ["0 at 0", "1 at 1", "2 at 2", "4 at 4", "5 at 5", "6 at 6"]);
    let late = ["(3, EventTime(50)) at 3 behind 50", "(7, EventTime(50)) at 7 behind 50"];
    assert_eq!(given.side, late);
}
