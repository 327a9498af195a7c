//! Tables made of changes, against tables computed at once.

use std::collections::BTreeMap;

use thalweg_connectors::memory;
use thalweg_engine::EventTime;
use thalweg_engine::graph::Partition;
use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Input, verify_operator};

use super::aggregate::ChangingAggregate;
use super::upserts::Upserts;
use super::*;
use crate::aggregate::{Count, Max, Mean, Min, Sum};
use crate::stream::Keyed;
use crate::testing::simulate;

fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis)
}

#[test]
fn upserts_and_deletes_are_the_same_in_every_mode_and_right() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let (mut script, mut latest) = (Vec::new(), BTreeMap::new());
        let mut expected = Vec::new();
        for n in 0..60_i64 {
            let key = random.below(5) as u8;
            let value = (!random.is_chosen(30)).then(|| random.below(4) as u32);
            script.push(Input::Record(Keyed { key, value }, at(n), None));
            let row = |value| Keyed { key, value };
            let changes = match (latest.remove(&key), value) {
                (None, None) => vec![],
                (None, Some(new)) => vec![Change::Insert(row(new))],
                (Some(old), None) => vec![Change::Delete(row(old))],
                (Some(old), Some(new)) => {
                    vec![Change::UpdateBefore(row(old)), Change::UpdateAfter(row(new))]
                }
            };
            expected.extend(changes.iter().map(|change| format!("{change:?} at {n}")));
            latest.extend(value.map(|value| (key, value)));
        }
        let given = verify_operator(
            || Upserts::<u8, Option<u32>, u32>::new(|value| value),
            Some(&|record: &Keyed<u8, Option<u32>>| hash_key(&record.key).expect("has a hash")),
            &script,
        )
        .expect("all modes agree");
        expected.sort_unstable();
        assert_eq!(given.main, expected, "seed {seed}");
    }
}

type All = (i64, i128, Option<f64>, (Option<i64>, Option<i64>));

/// The aggregates of a key's rows, from scratch.
fn all(rows: &[i64]) -> Option<All> {
    let sum: i64 = rows.iter().sum();
    let mean = sum as f64 / rows.len() as f64;
    let extremes = (rows.iter().min().copied(), rows.iter().max().copied());
    (!rows.is_empty()).then_some((rows.len() as i64, i128::from(sum), Some(mean), extremes))
}

#[test]
fn aggregates_take_back_exactly_what_is_taken_away() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let (mut script, mut expected) = (Vec::new(), Vec::new());
        let mut rows: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
        for n in 0..80_i64 {
            let key = random.below(3) as u8;
            let rows = rows.entry(key).or_default();
            let before = all(rows);
            let change = if !rows.is_empty() && random.is_chosen(50) {
                let row = rows.swap_remove(random.below(rows.len()));
                if random.is_chosen(50) { Change::Delete(row) } else { Change::UpdateBefore(row) }
            } else {
                rows.push(random.between(-3, 3));
                let row = rows[rows.len() - 1];
                if random.is_chosen(50) { Change::Insert(row) } else { Change::UpdateAfter(row) }
            };
            let row = |value| Keyed { key, value };
            let changes = match (before, all(rows)) {
                (None, None) => vec![],
                (None, Some(new)) => vec![Change::Insert(row(new))],
                (Some(old), None) => vec![Change::Delete(row(old))],
                (Some(old), Some(new)) if old == new => vec![],
                (Some(old), Some(new)) => {
                    vec![Change::UpdateBefore(row(old)), Change::UpdateAfter(row(new))]
                }
            };
            expected.extend(changes.iter().map(|change| format!("{change:?} at {n}")));
            script.push(Input::Record(Keyed { key, value: change }, at(n), None));
        }
        let aggregate = std::sync::Arc::new((
            Count,
            Sum::of(|row: &i64| *row),
            Mean::of(|row: &i64| *row),
            (Min::of(|row: &i64| *row), Max::of(|row: &i64| *row)),
        ));
        let given = verify_operator(
            || ChangingAggregate::new(&aggregate),
            Some(&|record: &Keyed<u8, Change<i64>>| hash_key(&record.key).expect("has a hash")),
            &script,
        )
        .expect("all modes agree");
        expected.sort_unstable();
        assert_eq!(given.main, expected, "seed {seed}");
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bid {
    auction: u64,
    price: i64,
}

/// The category changes over time, so that rows move from one key to another.
fn category(highest: &Keyed<u64, Option<i64>>) -> u8 {
    (highest.value.unwrap_or(0) / 10 % 3) as u8
}

type Totals = (i64, i128, Option<i64>);

#[test]
fn the_sum_of_maxima_is_exact_under_every_schedule() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut bid = || Bid { auction: random.below(9) as u64, price: random.between(0, 99) };
        let splits: Vec<Vec<Bid>> = (0..3).map(|_| (0..40).map(|_| bid()).collect()).collect();
        let mut highest = BTreeMap::<u64, i64>::new();
        for Bid { auction, price } in splits.iter().flatten() {
            highest.entry(*auction).and_modify(|h| *h = (*h).max(*price)).or_insert(*price);
        }
        let mut expected = BTreeMap::<u8, Totals>::new();
        for (&key, &price) in &highest {
            let category = category(&Keyed { key, value: Some(price) });
            let (count, sum, least) = expected.entry(category).or_default();
            (*count, *sum) = (*count + 1, *sum + i128::from(price));
            *least = Some(least.map_or(price, |least| least.min(price)));
        }
        let (sink, table) = memory::table();
        simulate(seed, |job| {
            let price = |highest: &Keyed<u64, Option<i64>>| highest.value.unwrap_or(0);
            job.source("bids", memory::from_splits(splits.clone()))
                .key_by(|bid: &Bid| bid.auction)
                .aggregate_as_changes("highest", Max::of(|bid: &Bid| bid.price))
                .key_changes_by(category)
                .aggregate_changes("totals", (Count, Sum::of(price), Min::of(price)))
                .sink_table("totals-out", |totals| totals.key, sink.clone());
        });
        let rows = table.snapshot().into_iter().map(|(key, row)| (key, row.value));
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows, expected.into_iter().collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn keep_last_in_event_order_is_a_table_of_the_last() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let mut record = |n: i64| (random.below(4) as u8, n + random.between(-4, 0));
        let records: Vec<(u8, i64)> = (0..60).map(&mut record).collect();
        let mut expected = BTreeMap::<u8, i64>::new();
        for (key, time) in &records {
            let last = expected.entry(*key).or_insert(i64::MIN);
            *last = (*last).max(*time);
        }
        let (sink, table) = memory::table();
        simulate(seed, |job| {
            let bound = std::time::Duration::from_millis(10);
            let watermarks = crate::Watermarks::bounded_out_of_orderness(bound);
            job.source("records", memory::source(records.clone()))
                .event_time(|record| record.1, watermarks)
                .key_by(|record| record.0)
                .in_event_order("in-order")
                .to_changes("last")
                .sink_table("out", |row| row.key, sink.clone());
        });
        let rows: Vec<_> =
            table.snapshot().into_iter().map(|(key, row)| (key, row.value.1)).collect();
        assert_eq!(rows, expected.into_iter().collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn what_has_no_rows_any_more_has_no_state() {
    let (sink, table) = memory::table();
    let report = simulate(7, |job| {
        let numbers = job.source("numbers", memory::source((0..60_u32).collect()));
        numbers
            .key_by(|n| n % 30)
            .aggregate_as_changes("highest", Max::of(|n: &u32| *n))
            .sink_table("highest-out", |row| row.key, sink.clone());
        // Each key is set and deleted.
        let keyed = numbers.key_by(|n| n % 30);
        let latest = KeyedStream {
            stream: keyed
                .stream
                .with_partition(Partition::Forward)
                .map(|Keyed { key, value }| Keyed { key, value: (value < 30).then_some(value) })
                .with_partition(Partition::Hash),
        };
        let changes = latest.to_changes_with_deletes("latest");
        changes
            .key_changes_by(|row| row.value % 3)
            .aggregate_changes("sums", (Count, Max::of(|row: &Keyed<u32, u32>| row.value)))
            .change_log()
            .sink("log", thalweg_connectors::sink::discard());
    });
    assert_eq!(table.snapshot().len(), 30);
    let bytes = |name: &str| report.final_state_bytes.get(name).copied().unwrap_or(0);
    assert!(bytes("highest") > 0);
    assert_eq!((bytes("latest"), bytes("sums")), (0, 0));
}

#[test]
fn a_line_of_a_log_says_what_was_done() {
    let change = Change::UpdateAfter(7).map(|row| row + 1);
    assert_eq!((change.op(), change.weight(), change.row()), (ChangeOp::UpdateAfter, 1, &8));
    let line = ChangeLine { op: change.op(), row: change.into_row() };
    assert_eq!(serde_json::to_string(&line).expect("is JSON"), r#"{"op":"+U","row":8}"#);
    assert_eq!((Change::Delete(7).weight(), Change::UpdateBefore(7).into_row()), (-1, 7));
}
