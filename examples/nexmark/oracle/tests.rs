//! The oracle against the golden results, and lateness at its edges.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Answer, Splitting, answer, judged};
use crate::canonical::write_lines;
use crate::event::{Bid, Event, Person};
use crate::generate::tests::generated;
use crate::query::Query;

fn splitting(splits: usize, bound_ms: i64) -> Splitting {
    Splitting { splits: NonZeroUsize::new(splits).expect("tests use positive numbers"), bound_ms }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nexmark").join(name)
}

/// The canonical file of `query` over the default input.
fn default_output(query: Query, splitting: Splitting) -> Vec<u8> {
    let Answer { lines, late, .. } = answer(query, &generated(100_000, 1_000, 1_000), splitting);
    assert_eq!(late, 0);
    let mut file = Vec::new();
    write_lines(&lines, &mut file).expect("memory takes it");
    file
}

fn is_golden(query: Query, name: &str) {
    let expected = std::fs::read(golden(name)).expect("golden files are part of the repository");
    // Not `assert_eq`: a difference would print the files.
    assert!(default_output(query, splitting(1, 4_000)) == expected, "{name} differs");
    assert!(default_output(query, splitting(3, 4_000)) == expected, "{name} differs, 3 splits");
}

fn has_golden_digest(query: Query, name: &str) {
    let hash = Sha256::digest(default_output(query, splitting(1, 4_000)));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let sums = std::fs::read_to_string(golden("SHA256SUMS")).expect("part of the repository");
    assert!(sums.lines().any(|line| line == format!("{hash}  {name}")), "{name}: {hash}");
}

#[test]
fn q0_is_golden() {
    has_golden_digest(Query::Q0, "q0.csv");
}

#[test]
fn q1_is_golden() {
    has_golden_digest(Query::Q1, "q1.csv");
}

#[test]
fn q2_is_golden() {
    is_golden(Query::Q2, "q2.csv");
}

#[test]
fn q7_is_golden() {
    is_golden(Query::Q7, "q7.csv");
}

#[test]
fn wc_is_golden() {
    is_golden(Query::Wc, "wc.csv");
}

#[test]
fn state_is_golden() {
    is_golden(Query::State, "state.csv");
}

fn bid(bidder: u64, price: u64, date_time: u64) -> Event {
    let (channel, url, extra) = (String::new(), String::new(), String::new());
    Event::Bid(Bid { auction: 1, bidder, price, channel, url, date_time, extra })
}

fn person(date_time: u64) -> Event {
    Event::Person(Person {
        id: 1,
        name: String::new(),
        email_address: String::new(),
        credit_card: String::new(),
        city: String::new(),
        state: String::new(),
        date_time,
        extra: String::new(),
    })
}

/// The lines of `query` and the number of late records.
fn outcome(query: Query, events: &[Event], splitting: Splitting) -> (Vec<String>, u64) {
    let answer = answer(query, events, splitting);
    (answer.lines, answer.late)
}

#[test]
fn a_record_is_late_when_the_watermark_reaches_its_windows_last_time() {
    // After time t the watermark is t - 4001; the last time of the first window is 9999.
    let on_time = [bid(1, 5, 13_999), bid(2, 5, 9_999)];
    let late = [bid(1, 5, 14_000), bid(2, 5, 9_999)];
    let second = "1,10000,20000,1".to_owned();
    assert_eq!(
        outcome(Query::Wc, &on_time, splitting(1, 4_000)),
        (vec![second.clone(), "2,0,10000,1".to_owned()], 0)
    );
    assert_eq!(outcome(Query::Wc, &late, splitting(1, 4_000)), (vec![second], 1));
}

#[test]
fn every_kind_moves_the_watermark_and_only_bids_are_late() {
    let events = [person(14_000), person(1), bid(2, 5, 9_999)];
    assert_eq!(outcome(Query::Wc, &events, splitting(1, 4_000)), (vec![], 1));
    assert_eq!(outcome(Query::Q7, &events, splitting(1, 4_000)), (vec![], 1));
}

#[test]
fn a_record_is_judged_by_its_own_split() {
    let events = [bid(1, 5, 50_000), bid(2, 5, 1), bid(3, 5, 2), bid(4, 5, 3)];
    let late = |splits| outcome(Query::Wc, &events, splitting(splits, 0)).1;
    assert_eq!([late(1), late(2), late(3), late(4)], [3, 1, 1, 0]);
}

#[test]
fn a_watermark_is_that_of_the_events_before() {
    let events = [bid(1, 5, 10), person(7), bid(1, 5, 30), bid(1, 5, 20)];
    let watermarks = |splits, bound| -> Vec<i64> {
        judged(&events, splitting(splits, bound)).iter().map(|&(_, watermark)| watermark).collect()
    };
    assert_eq!(watermarks(1, 2), [i64::MIN, 7, 7, 27]);
    assert_eq!(watermarks(2, 2), [i64::MIN, i64::MIN, 7, 4]);
    assert_eq!(
        watermarks(1, i64::MAX),
        [i64::MIN, 10 - i64::MAX - 1, 10 - i64::MAX - 1, 30 - i64::MAX - 1]
    );
}

#[test]
fn all_bids_of_the_greatest_price_win() {
    let events = [bid(1, 5, 3), bid(2, 9, 1), bid(3, 9, 2), bid(3, 9, 2), bid(4, 1, 10_000)];
    let expected = ["0,10000,1,2,9,1", "0,10000,1,3,9,2", "0,10000,1,3,9,2"];
    let (lines, late) = outcome(Query::Q7, &events, splitting(1, 0));
    assert_eq!((&lines[..3], late), (&expected.map(str::to_owned)[..], 0));
    assert_eq!(lines[3..], ["10000,20000,1,4,1,10000"]);
}

#[test]
fn queries_without_windows_judge_no_lateness() {
    let events = [bid(1, 5, 50_000), bid(2, 5, 1), bid(2, 5, 1)];
    assert_eq!(outcome(Query::State, &events, splitting(1, 0)), (vec!["1,3".to_owned()], 0));
    assert_eq!(outcome(Query::Q1, &events, splitting(1, 0)).0.len(), 3);
}

#[test]
fn no_events_have_no_results() {
    for query in [Query::Q0, Query::Q1, Query::Q2, Query::Q7, Query::Wc, Query::State] {
        assert_eq!(outcome(query, &[], splitting(2, 0)), (vec![], 0));
    }
}
