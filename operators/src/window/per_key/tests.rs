//! Sessions, record-aligned and global windows through the verifier, against windows recomputed
//! from scratch, for several interleavings of the same splits.

use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::EventTime;
use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Given, Input, verify_operator};

use super::{KeyWindows, PerKeyOperator};
use crate::aggregate::Reduce;
use crate::stream::Keyed;
use crate::window::testing::{
    Event, Identities, global, interleaved, judged, late_lines, lines, random_splits,
    record_aligned, sessions, window_lines,
};
use crate::window::{GlobalWindow, RecordAligned, Session};

const BOUND: i64 = 6;

fn millis(n: i64) -> Duration {
    Duration::from_millis(n as u64)
}

fn hash(record: &Keyed<u32, Event>) -> u64 {
    hash_key(&record.key).expect("a number has a hash")
}

fn run<W: KeyWindows<Event, Identities>>(
    windows: &Arc<W>,
    lateness: i64,
    script: &[Input<Keyed<u32, Event>>],
) -> Given {
    let make = || {
        let aggregate = Arc::new(Identities);
        PerKeyOperator::<u32, Event, _, W>::new(windows.clone(), aggregate, lateness)
    };
    verify_operator(make, Some(&hash), script).expect("all modes agree")
}

/// Splits, an allowed lateness, and three interleavings of the splits.
fn each_seed(
    seeds: u64,
    mut check: impl FnMut(u64, &mut Random, &[Vec<Event>], i64, &[Vec<Input<Keyed<u32, Event>>>]),
) {
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let lateness = random.between(0, 1) * random.between(1, 20);
        let splits = random_splits(&mut random, BOUND, 40);
        let scripts: Vec<_> = (0..3).map(|_| interleaved(&mut random, &splits, BOUND)).collect();
        check(seed, &mut random, &splits, lateness, &scripts);
    }
}

#[test]
fn sessions_are_right_in_every_mode_and_interleaving() {
    let mut late_seen = 0;
    each_seed(80, |seed, random, splits, lateness, scripts| {
        let gap = random.between(1, 15);
        let (on_time, late) = judged(splits, BOUND, lateness);
        late_seen += late.len();
        for script in scripts {
            let given = run(&Arc::new(Session::with_gap(millis(gap))), lateness, script);
            let expected = window_lines(sessions(&on_time, |_| gap));
            assert_eq!(given.main, expected, "seed {seed}");
            assert_eq!(given.side, late_lines(&late), "late records of seed {seed}");

            let by_record = Session::with_gap_by(|event: &Event| millis(event.gap));
            let given = run(&Arc::new(by_record), lateness, script);
            let expected = window_lines(sessions(&on_time, |event| event.gap));
            assert_eq!(given.main, expected, "gaps by record, seed {seed}");
        }
    });
    assert!(late_seen > 50, "{late_seen} late records");
}

#[test]
fn record_aligned_windows_are_right_in_every_mode_and_interleaving() {
    each_seed(80, |seed, random, splits, lateness, scripts| {
        let span = random.between(0, 25);
        let (on_time, late) = judged(splits, BOUND, lateness);
        for script in scripts {
            let given = run(&Arc::new(RecordAligned::of(millis(span))), lateness, script);
            assert_eq!(given.main, window_lines(record_aligned(&on_time, span)), "seed {seed}");
            assert_eq!(given.side, late_lines(&late), "late records of seed {seed}");
        }
    });
}

#[test]
fn global_windows_are_given_out_at_the_end() {
    each_seed(20, |seed, _random, splits, _lateness, scripts| {
        let all = splits.concat();
        for script in scripts {
            let given = run(&Arc::new(GlobalWindow), 0, script);
            assert_eq!(given.main, lines(global(&all)), "seed {seed}");
            assert!(given.side.is_empty(), "nothing is late");
            let given = run(&Arc::new(GlobalWindow), 0, &script[..script.len() - 1]);
            // A split that is finished may have brought the end of time before.
            let ends = |input: &Input<_>| matches!(input, Input::Watermark(EventTime::MAX));
            let has_ended = script[..script.len() - 1].iter().any(ends);
            assert!(has_ended || given.main.is_empty(), "nothing before the end, seed {seed}");
        }
    });
}

fn event(id: u32, time: i64, gap: i64) -> Input<Keyed<u32, Event>> {
    let value = Event { id, key: 7, time, gap };
    Input::Record(Keyed { key: 7, value }, EventTime::from_millis(time), None)
}

fn watermark(millis: i64) -> Input<Keyed<u32, Event>> {
    Input::Watermark(EventTime::from_millis(millis))
}

/// What is given out up to the end of the script.
fn spans(given: &Given) -> Vec<String> {
    let span = |line: &String| {
        let numbers = line.split("EventTime(").skip(1).filter_map(|part| part.split(')').next());
        numbers.collect::<Vec<_>>().join("..")
    };
    given.main.iter().map(span).collect()
}

#[test]
fn a_session_is_final_at_its_end_and_not_a_millisecond_before() {
    let sessions = Arc::new(Session::with_gap(millis(10)));
    let upto = |last| [event(1, 0, 0), event(2, 10, 0), event(3, 21, 0), watermark(last)];
    assert_eq!(spans(&run(&sessions, 0, &upto(19))), Vec::<String>::new());
    // One gap apart is one session, a millisecond more is two.
    assert_eq!(spans(&run(&sessions, 0, &upto(20))), ["0..20"]);
    assert_eq!(spans(&run(&sessions, 5, &upto(24))), Vec::<String>::new());
    assert_eq!(spans(&run(&sessions, 5, &upto(25))), ["0..20"]);
    assert_eq!(spans(&run(&sessions, 0, &upto(31))), ["0..20", "21..31"]);
}

#[test]
fn a_record_joins_the_sessions_on_both_sides_and_gaps_may_shrink_and_grow() {
    let by_record = Arc::new(Session::with_gap_by(|event: &Event| millis(event.gap)));
    let script = [
        event(1, 0, 10),
        event(2, 40, 10),
        event(3, 20, 5),
        event(4, 5, 15),
        // Within a session that ends later.
        event(5, 6, 1),
        event(6, 21, 19),
        watermark(60),
    ];
    assert_eq!(spans(&run(&by_record, 0, &script)), ["0..50"]);
    // A shorter gap than that of the session before brings the next timer forward.
    let script = [event(1, 100, 900), event(2, 50, 10), watermark(60), watermark(1000)];
    assert_eq!(spans(&run(&by_record, 0, &script[..3])), ["50..60"]);
    assert_eq!(spans(&run(&by_record, 0, &script)), ["100..1000", "50..60"]);
    // A gap of nothing counts as a millisecond.
    let script = [event(1, 3, 0), event(2, 3, 0), event(3, 5, 0), watermark(9)];
    assert_eq!(spans(&run(&by_record, 0, &script)), ["3..4", "5..6"]);
}

#[test]
fn records_of_a_split_that_was_idle_are_late_for_the_operator_too() {
    let sessions = Arc::new(Session::with_gap(millis(10)));
    let script = [event(1, 0, 0), watermark(50), event(2, 50, 0), event(3, 51, 0), watermark(99)];
    let given = run(&sessions, 0, &script);
    assert_eq!(spans(&given), ["0..10", "51..61"]);
    assert_eq!(given.side, ["Event { id: 2, key: 7, time: 50, gap: 0 } at 50 behind 50"]);
}

#[test]
fn record_aligned_windows_have_both_ends() {
    let aligned = Arc::new(RecordAligned::of(millis(10)));
    let script = [event(2, 10, 0), event(1, 0, 0), event(3, 21, 0), watermark(10)];
    assert_eq!(spans(&run(&aligned, 0, &script)), ["-10..1", "0..11"]);
    let given = run(&aligned, 0, &[&script[..], &[watermark(40)]].concat());
    assert_eq!(given.main.len(), 3);
    assert!(given.main.iter().any(|line| line.contains("EventTime(0)") && line.contains("[1, 2]")));
    assert!(given.main.iter().any(|line| line.contains("EventTime(11)") && line.contains("[3]")));
}

/// What order-sensitive aggregates may count on.
#[test]
fn times_are_combined_in_their_order() {
    let joined = |a: &Vec<u32>, b: &Vec<u32>| [a.as_slice(), b.as_slice()].concat();
    let make = || {
        let windows = Arc::new(RecordAligned::of(millis(10)));
        PerKeyOperator::<u32, Vec<u32>, _, _>::new(windows, Arc::new(Reduce::with(joined)), 0)
    };
    let record = |id: u32, time: i64| {
        let keyed = Keyed { key: 7, value: vec![id] };
        Input::Record(keyed, EventTime::from_millis(time), None)
    };
    let mut script: Vec<_> = [8, 3, 1, 9, 4, 2, 7].map(|n| record(n, i64::from(n))).into();
    script.push(Input::Watermark(EventTime::MAX));
    let hash = |record: &Keyed<u32, Vec<u32>>| hash_key(&record.key).expect("a hash");
    let given = verify_operator(make, Some(&hash), &script).expect("all modes agree");
    assert!(given.main.iter().any(|line| line.contains("[1, 2, 3, 4, 7, 8, 9]")), "{given:?}");
}
