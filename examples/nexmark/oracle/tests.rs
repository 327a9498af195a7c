//! The oracle against the golden results, and lateness at its edges.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use sha2::{Digest as _, Sha256};

use super::{Answer, Splitting, answer, judged};
use crate::canonical::write_lines;
use crate::event::{Auction, Bid, Event, Person};
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
fn q3_is_golden() {
    is_golden(Query::Q3, "q3.csv");
}

#[test]
fn q4_is_golden() {
    is_golden(Query::Q4, "q4.csv");
}

#[test]
fn q5_is_golden() {
    is_golden(Query::Q5, "q5.csv");
}

#[test]
fn q8_is_golden() {
    is_golden(Query::Q8, "q8.csv");
}

#[test]
fn q11_is_golden() {
    is_golden(Query::Q11, "q11.csv");
}

#[test]
fn q18_is_golden() {
    has_golden_digest(Query::Q18, "q18.csv");
}

#[test]
fn q19_is_golden() {
    has_golden_digest(Query::Q19, "q19.csv");
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

fn bid_in(auction: u64, bidder: u64, price: u64, date_time: u64) -> Event {
    let Event::Bid(bid) = bid(bidder, price, date_time) else { unreachable!("it is a bid") };
    Event::Bid(Bid { auction, ..bid })
}

fn person(date_time: u64) -> Event {
    person_in(1, "", date_time)
}

/// Somebody called `p` in a state.
fn person_in(id: u64, state: &str, date_time: u64) -> Event {
    Event::Person(Person {
        id,
        name: "p".to_owned(),
        email_address: String::new(),
        credit_card: String::new(),
        city: "c".to_owned(),
        state: state.to_owned(),
        date_time,
        extra: String::new(),
    })
}

fn auction(id: u64, seller: u64, category: u64, times: RangeInclusive<u64>) -> Event {
    Event::Auction(Auction {
        id,
        item_name: String::new(),
        description: String::new(),
        initial_bid: 0,
        reserve: 0,
        date_time: *times.start(),
        expires: *times.end(),
        seller,
        category,
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
    for &query in Query::value_variants() {
        assert_eq!(outcome(query, &[], splitting(2, 0)), (vec![], 0));
    }
}

/// That `query` has these lines and late records over `events` as one split without a bound.
fn gives(query: Query, events: &[Event], lines: &[&str], late: u64) {
    let lines = lines.iter().map(|&line| line.to_owned()).collect();
    assert_eq!(outcome(query, events, splitting(1, 0)), (lines, late), "{query:?}");
}

#[test]
fn every_pair_of_a_local_seller_and_an_auction_of_the_category_is_a_row() {
    let events = [
        auction(100, 1, 10, 5..=6),
        person_in(1, "or", 50_000),
        person_in(2, "az", 1),
        person_in(3, "ca", 1),
        auction(101, 1, 10, 5..=6),
        auction(102, 2, 10, 5..=6),
        auction(103, 3, 11, 5..=6),
        person_in(1, "id", 1),
    ];
    gives(Query::Q3, &events, &["p,c,id,100", "p,c,id,101", "p,c,or,100", "p,c,or,101"], 0);
}

#[test]
fn only_bids_while_the_auction_is_open_count_whenever_it_comes() {
    let events = [
        bid_in(100, 1, 9, 5),
        bid_in(100, 1, 99, 4),
        auction(100, 1, 10, 5..=7),
        bid_in(100, 2, 8, 6),
        bid_in(100, 3, 10, 7),
        bid_in(100, 3, 98, 8),
        auction(101, 1, 10, 50_000..=60_000),
        auction(102, 1, 10, 1..=2),
        bid_in(102, 1, 3, 1),
        auction(103, 1, 11, 1..=2),
        bid_in(103, 1, 0, 2),
        bid_in(104, 1, 7, 2),
    ];
    gives(Query::Q4, &events, &["10,13,2,6", "11,0,1,0"], 0);
}

#[test]
fn a_bid_late_for_one_sliding_window_counts_in_the_next() {
    let lines = |starts: RangeInclusive<u64>| -> Vec<String> {
        let starts = starts.step_by(2_000);
        starts.map(|start| format!("{start},{},1,1", start + 10_000)).collect()
    };
    let with_second =
        |time| [bid_in(1, 1, 5, time), bid_in(2, 1, 5, 2_000), bid_in(2, 1, 5, 1_999)];
    // After time t the watermark is t - 1, and the last window of 2000 ends at 12000.
    let mut expected = lines(4_000..=12_000);
    expected.sort_unstable();
    assert_eq!(outcome(Query::Q5, &with_second(12_000), splitting(1, 0)), (expected, 2));
    let mut expected = lines(2_000..=10_000);
    expected.push("2000,12000,2,1".to_owned());
    expected.sort_unstable();
    assert_eq!(outcome(Query::Q5, &with_second(11_999), splitting(1, 0)), (expected, 1));
}

#[test]
fn a_new_seller_is_a_row_once_per_window() {
    let events = [
        auction(100, 1, 10, 3..=4),
        auction(101, 1, 10, 4..=5),
        person_in(1, "or", 9_999),
        person_in(2, "or", 10_000),
        auction(102, 3, 10, 10_001..=10_002),
        auction(103, 2, 10, 20_000..=20_002),
        person_in(1, "or", 20_001),
        auction(104, 2, 10, 19_999..=20_002),
        person_in(3, "or", 19_999),
        bid(1, 5, 1),
    ];
    // The bound of nothing: the last auction and the last person are late for the second window.
    gives(Query::Q8, &events, &["1,p,0,10000"], 2);
    let lines = ["1,p,0,10000", "2,p,10000,20000", "3,p,10000,20000"].map(str::to_owned).to_vec();
    assert_eq!(outcome(Query::Q8, &events, splitting(1, 1_000)), (lines, 0));
}

#[test]
fn sessions_touch_and_lateness_is_of_the_bid_alone() {
    let events = [
        bid(1, 5, 1_000),
        bid(2, 5, 1_000),
        bid(1, 5, 11_000),
        bid(2, 5, 11_001),
        bid(1, 5, 11_001),
        bid(1, 5, 11_000),
        bid(3, 5, 11_001),
    ];
    let lines = ["1,1000,21001,3", "2,1000,11000,1", "2,11001,21001,1", "3,11001,21001,1"];
    gives(Query::Q11, &events, &lines, 1);
    // With a watermark of 11000 the bid of that time is late, though its session has not ended.
    let events = [bid(1, 5, 11_001), bid(1, 5, 11_000), bid(1, 5, 11_001)];
    gives(Query::Q11, &events, &["1,11001,21001,2"], 1);
}

#[test]
fn the_last_bid_is_that_of_the_greatest_time_then_the_later_one() {
    let events = [
        bid_in(1, 2, 5, 8),
        bid_in(1, 2, 6, 9),
        bid_in(1, 2, 7, 9),
        bid_in(1, 2, 8, 1),
        bid(2, 5, 9),
    ];
    gives(Query::Q18, &events, &["1,2,5,,,9,"], 0);
    gives(Query::Q18, &events[..4], &["1,2,7,,,9,"], 0);
    let events = [bid_in(2, 1, 5, 50_000), bid_in(1, 2, 5, 1)];
    gives(Query::Q18, &events, &["1,2,5,,,1,", "2,1,5,,,50000,"], 0);
}

#[test]
fn ten_bids_are_ranked_and_the_earlier_of_equal_ones_is_first() {
    let mut events: Vec<Event> = (0..9).map(|bidder| bid(bidder, 50, 50_000 - bidder)).collect();
    events.extend([bid(20, 51, 7), bid(21, 50, 1), bid(22, 49, 1), bid(23, 51, 1)]);
    let (lines, late) = outcome(Query::Q19, &events, splitting(1, 0));
    assert_eq!((lines.len(), late), (10, 0));
    assert_eq!(lines[0], "1,1,20,51,7");
    assert_eq!(lines[1], "1,10,7,50,49993");
    assert_eq!(lines[2..4], ["1,2,23,51,1", "1,3,0,50,50000"]);
}
