//! Windows that merge: sessions, with triggers and updates.

use std::time::Duration;

use super::*;
use crate::aggregate::Count;
use crate::window::Session;
use crate::window::function::Folded;
use crate::window::trigger::{CountTrigger, EarlyAndLate, EventTimeTrigger, Never};

/// Sessions of a gap.
fn sessions(gap: i64) -> Session<u32> {
    Session::with_gap(Duration::from_millis(gap as u64))
}

/// The sessions of the records that are on time.
fn expected(script: &[Input<Record>], gap: i64, lateness: i64) -> (Vec<String>, usize) {
    let mut times = BTreeMap::<u8, Vec<i64>>::new();
    let mut late = 0;
    for input in script {
        let Input::Record(record, time, mark) = input else { continue };
        if mark.is_some_and(|mark| time.millis() + lateness <= mark.millis()) {
            late += 1;
            continue;
        }
        times.entry(record.key).or_default().push(time.millis());
    }
    let mut lines = Vec::new();
    for (key, mut times) in times {
        times.sort_unstable();
        let sessions = times.chunk_by(|a, b| b - a <= gap);
        lines.extend(sessions.map(|session| {
            let (first, last) = (session[0], session[session.len() - 1]);
            result(key, (first, last + gap), session.len())
        }));
    }
    lines.sort_unstable();
    (lines, late)
}

#[test]
fn sessions_merge_with_their_triggers_and_updates() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let gap = random.between(1, 12);
        let lateness = random.between(0, 1) * random.between(1, 20);
        let script = script(&mut random, 6);
        let (results, late) = expected(&script, gap, lateness);
        let check = |given: Given| {
            assert_eq!(given.main, results, "results of seed {seed}");
            assert_eq!(of_kind(&given.side, "Late").len(), late, "late records of seed {seed}");
            assert_eq!(table_of(&given.side), rows_of(&given.main), "updates of seed {seed}");
        };
        let early = EarlyAndLate::new().early_every_records(2).late_every_record();
        let every = Duration::from_millis(3);
        let continuous = EarlyAndLate::new().early_every(every).late_every_records(2);
        let sessions = || sessions(gap);
        check(Verified::new(sessions(), Folded(Count), Never).lateness_ms(lateness).given(&script));
        let verified = Verified::new(sessions(), Folded(Count), EventTimeTrigger);
        check(verified.lateness_ms(lateness).given(&script));
        check(Verified::new(sessions(), Folded(Count), early).lateness_ms(lateness).given(&script));
        let verified = Verified::new(sessions(), Folded(Count), continuous);
        check(verified.lateness_ms(lateness).given(&script));
        let verified = Verified::new(sessions(), Folded(Count), CountTrigger::of(2));
        check(verified.lateness_ms(lateness).given(&script));
        let verified = Verified::new(sessions(), Folded(Count), EventTimeTrigger);
        let given = verified.lateness_ms(lateness).uses(Uses(true, false, false)).given(&script);
        assert_eq!(given.main, results, "results alone, seed {seed}");
    }
}

#[test]
fn a_record_between_two_sessions_takes_one_back() {
    let script = [
        record(1, 0, 0),
        record(1, 1, 20),
        record(1, 2, 10),
        watermark(100),
        Input::Watermark(EventTime::MAX),
    ];
    let trigger = CountTrigger::of(1);
    let given = Verified::new(sessions(10), Folded(Count), trigger).given(&script);
    assert_eq!(given.main, [result(1, (0, 30), 3)]);
    let kinds: Vec<String> = of_kind(&given.side, "Update")
        .into_iter()
        .map(|line| line.split_once('(').map(|(kind, _)| kind.to_owned()).unwrap_or_default())
        .collect();
    assert_eq!(kinds, ["Delete", "Insert", "Insert", "UpdateAfter", "UpdateBefore"]);
    assert_eq!(table_of(&given.side), rows_of(&given.main));
}

#[test]
fn at_the_operator_a_session_is_late_if_what_it_merges_into_is_final() {
    let script = [
        record(1, 0, 0),
        record(1, 1, 8),
        watermark(12),
        // Late for itself, but it extends a session that is open.
        behind(1, 2, 1, 12),
        // Nothing there to extend.
        behind(2, 3, 1, 12),
        Input::Watermark(EventTime::MAX),
    ];
    let verified = Verified::new(sessions(10), Folded(Count), EventTimeTrigger);
    let given = Verified { lateness: Lateness::AtOperator, ..verified }.given(&script);
    assert_eq!(given.main, [result(1, (0, 18), 3)]);
    assert_eq!(of_kind(&given.side, "Late"), ["3 at 1 behind 12"]);
}
