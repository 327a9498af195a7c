//! The operator through the verifier, against the matcher fed with sorted events.

use thalweg_engine::EventTime;
use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Given, Input, verify_operator};

use super::super::nfa::{Automaton, Found, Matcher};
use super::super::operator::PatternOperator;
use super::super::{Pattern, PatternMatch, PatternSide};
use super::Driver;
use super::oracle::{Event, draw_tame_case, pattern};
use crate::stream::Keyed;

type Script = Vec<Input<Keyed<u8, Event>>>;

/// How far events are behind, when they are not late.
const BOUND: i64 = 6;

/// Events of a few keys, out of order, some late, at times below and above zero.
fn draw_script(random: &mut Random) -> Script {
    let mut script = Script::new();
    let (mut now, mut greatest, mut watermark) = (random.between(-40, 0), i64::MIN, i64::MIN);
    let keys = 1 + random.below(4);
    for number in 0..50 {
        now += random.between(0, 3);
        let behind = if random.is_chosen(10) { BOUND + 8 } else { BOUND };
        let time = now - random.between(0, behind);
        let split = if greatest == i64::MIN { i64::MIN } else { greatest - BOUND - 1 };
        greatest = greatest.max(time);
        let letters = (1 << random.below(4)) | (1 << random.below(4));
        let key = random.below(keys) as u8;
        // Now and then a record of a split that was idle has no mark, and is judged by the
        // operator's watermark alone.
        let mark = (time <= split && !random.is_chosen(10)).then(|| EventTime::from_millis(split));
        let event = Event { letters, number, time };
        script.push(Input::Record(Keyed { key, value: event }, EventTime::from_millis(time), mark));
        if random.is_chosen(20) {
            watermark = watermark.max(split);
            script.push(Input::Watermark(EventTime::from_millis(watermark)));
        }
    }
    script.push(Input::Watermark(EventTime::MAX));
    script
}

fn found_at(key: u8, found: Found<Event>) -> (bool, PatternMatch<u8, Event>, i64) {
    let Found { is_timed_out, stages, start, end, at } = found;
    let [start, end] = [start, end].map(EventTime::from_millis);
    (is_timed_out, PatternMatch { key, start, end, stages }, at.min(EventTime::RECORD_LIMIT_MS))
}

/// What the operator should give out.
fn expected(pattern: &Pattern<Event>, script: &Script) -> Given {
    let mut given = Given::default();
    let mut events: Vec<(u8, i64, usize, Event)> = Vec::new();
    let mut operator = EventTime::MIN;
    for (index, input) in script.iter().enumerate() {
        let (Keyed { key, value }, time, mark) = match input {
            Input::Record(record, time, mark) => (record, time.millis(), *mark),
            Input::Watermark(watermark) => {
                operator = *watermark;
                continue;
            }
            Input::Time(_) => continue,
        };
        let is_late = |w: EventTime| time + pattern.allowed_lateness_ms <= w.millis();
        let mark =
            if is_late(operator) { mark.max(Some(operator)) } else { mark.filter(|&w| is_late(w)) };
        match mark {
            Some(mark) => {
                let late = PatternSide::<u8, Event>::Late(value.clone());
                given.side.push(format!("{late:?} at {time} behind {mark}"));
            }
            None => events.push((*key, time, index, value.clone())),
        }
    }
    events.sort_by_key(|&(key, time, index, _)| (key, time, index));
    for events in events.chunk_by(|a, b| a.0 == b.0) {
        let key = events[0].0;
        let mut driver = Driver::new(pattern);
        events.iter().for_each(|(_, time, _, event)| driver.feed(*time, event.clone()));
        for (is_timed_out, found, at) in
            driver.finish().into_iter().map(|found| found_at(key, found))
        {
            if is_timed_out {
                given.side.push(format!("{:?} at {at}", PatternSide::TimedOut(found)));
            } else {
                given.main.push(format!("{found:?} at {at}"));
            }
        }
    }
    given.main.sort_unstable();
    given.side.sort_unstable();
    given
}

#[test]
fn every_mode_finds_what_sorted_events_give() {
    let mut random = Random::new(8_128);
    let (mut matches, mut sides) = (0, 0);
    for _ in 0..400 {
        let case = draw_tame_case(&mut random);
        let lateness = if random.is_chosen(50) { 0 } else { random.between(1, 8) as u64 };
        let pattern = pattern(&case).allowed_lateness(thalweg_engine::time::millis(lateness));
        let script = draw_script(&mut random);
        let make = || {
            let matcher = Matcher::new(Automaton::new(&pattern));
            PatternOperator::<u8, Event>::new(matcher, pattern.allowed_lateness_ms)
        };
        let hash = |keyed: &Keyed<u8, Event>| hash_key(&keyed.key).expect("a number has a hash");
        let given = verify_operator(make, Some(&hash), &script).expect("all modes agree");
        assert_eq!(given, expected(&pattern, &script), "{case:?}");
        matches += given.main.len();
        sides += given.side.len();
    }
    println!("{matches} matches, {sides} late or timed out");
    assert!(matches > 2_000 && sides > 4_000);
}

#[test]
fn far_deadlines_are_met_at_their_time() {
    // Deadlines an hour away stand in coarse slices first; another key is due between.
    let hour = 3_600_000;
    let at = EventTime::from_millis;
    let record = |key: u8, number: u32, time: i64| {
        let value = Event { letters: 1, number, time };
        Input::Record(Keyed { key, value }, at(time), None)
    };
    let script = vec![
        record(1, 0, 5),
        record(2, 1, -7),
        Input::Watermark(at(1_000_000)),
        record(1, 2, hour + 3),
        record(3, 3, hour + 4),
        Input::Watermark(at(hour + 5)),
        Input::Watermark(at(3 * hour)),
    ];
    let pattern = Pattern::begin("a", |e: &Event| e.letters == 1)
        .followed_by("b", |e: &Event| e.letters == 2)
        .within(thalweg_engine::time::hours(1));
    let make = || PatternOperator::<u8, Event>::new(Matcher::new(Automaton::new(&pattern)), 0);
    let hash = |keyed: &Keyed<u8, Event>| hash_key(&keyed.key).expect("a number has a hash");
    let given = verify_operator(make, Some(&hash), &script).expect("all modes agree");
    let mut times: Vec<_> = given.side.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    times.sort_unstable();
    assert_eq!(times, ["3599993", "3600005", "7200003", "7200004"]);
}

#[test]
fn state_is_bounded_by_within() {
    let pattern = Pattern::begin("a", |e: &Event| e.letters & 1 != 0)
        .followed_by("b", |e: &Event| e.letters & 2 != 0)
        .one_or_more()
        .followed_by("c", |e: &Event| e.number % 1_000 == 999)
        .within(thalweg_engine::time::millis(10));
    let mut driver = Driver::new(&pattern);
    let mut random = Random::new(7);
    let mut greatest = (0, 0, 0);
    for number in 0..100_000_u32 {
        let time = i64::from(number);
        driver.feed(time, Event { letters: 1 << random.below(3), number, time });
        let (runs, events, nodes) = driver.matching.sizes();
        greatest = (greatest.0.max(runs), greatest.1.max(events), greatest.2.max(nodes));
        driver.matcher.found.clear();
    }
    assert!(greatest.0 <= 40 && greatest.1 <= 10 && greatest.2 <= 40, "{greatest:?}");
    driver.finish();
}
