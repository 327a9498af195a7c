//! The loops against the oracle, on input in order, out of order and mostly late.

use std::num::NonZeroUsize;

use clap::ValueEnum as _;

use super::digest;
use crate::event::Event;
use crate::generate::tests::generated;
use crate::oracle::{Splitting, answer};
use crate::query::Query;

/// That every loop agrees with the oracle; the number of records late for wc.
fn agrees(events: &[Event], bound_ms: i64) -> u64 {
    let splitting = Splitting { splits: NonZeroUsize::MIN, bound_ms };
    for &query in Query::value_variants() {
        let expected = answer(query, events, splitting).digest;
        assert_eq!(digest(query, events, bound_ms), expected, "{query:?}, bound {bound_ms} ms");
    }
    answer(Query::Wc, events, splitting).late
}

#[test]
fn in_order_nothing_is_late() {
    assert_eq!(agrees(&generated(20_000, 1_000, 1), 0), 0);
}

#[test]
fn out_of_order_within_the_bound_nothing_is_late() {
    assert_eq!(agrees(&generated(20_000, 1_000, 1_000), 4_000), 0);
}

#[test]
fn late_records_are_left_out() {
    // A group spans 50 s, so that windows of 10 s close in the middle of their group.
    let events = generated(20_000, 100, 5_000);
    assert_eq!(agrees(&events, 60_000), 0);
    let late = agrees(&events, 1_000);
    assert!(late > 5_000, "{late}");
}

#[test]
fn watermarks_that_hit_the_last_time_of_a_window_close_it() {
    // Times and bounds are whole seconds: watermarks end in 999, as the last times of windows do.
    let mut events = generated(5_000, 1_000, 1);
    for (position, event) in (0_u64..).zip(&mut events) {
        let scattered = position / 50 + (position * position * 7_919 + position * 104_729) % 30;
        let time = scattered * 1_000;
        match event {
            Event::Person(person) => person.date_time = time,
            Event::Auction(auction) => auction.date_time = time,
            Event::Bid(bid) => bid.date_time = time,
        }
    }
    let late: Vec<u64> = (0..35).map(|seconds| agrees(&events, seconds * 1_000)).collect();
    assert!(late[0] > 1_000 && late[34] == 0, "{late:?}");
    assert!(late.is_sorted_by(|less, more| less >= more), "a greater bound accepts more: {late:?}");
}
