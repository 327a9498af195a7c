//! Tables that change: upserts, aggregates of rows that are taken back.

use std::collections::BTreeMap;

use thalweg::prelude::*;
use thalweg::{Change, Dedup};

use super::data::{Event, Row, sorted};
use super::harness::{Case, Held, Input, check};
use super::reference::{in_order, read};

/// The table that rows with a weight, the last of their numbers, add up to.
fn table(rows: &[Row]) -> Vec<Row> {
    let mut table = BTreeMap::<Row, i64>::new();
    for row in rows {
        let mut row = row.clone();
        let weight = row.at.pop().expect("a row has a weight");
        *table.entry(row).or_default() += weight;
    }
    table.retain(|_, weight| *weight != 0);
    assert!(table.values().all(|weight| *weight == 1), "a row is there twice or was never");
    sorted(table.into_keys())
}

const fn case(name: &'static str, build: fn(&Job, &Input) -> Stream<Row>) -> Case {
    Case { name, build, invariant: table, expected: None, held: Held::Rest, shows_spilling: true }
}

fn weighed(change: Change<Keyed<u32, Event>>) -> Row {
    let weight = change.weight();
    let Keyed { key, value } = change.into_row();
    Row::result([i64::from(key), weight], [value.id.number])
}

/// The last record of each key by arrival: some record of each.
#[test]
fn the_latest_by_arrival() {
    check(&Case {
        invariant: |rows| sorted(table(rows).into_iter().map(|row| Row::result(row.at, []))),
        held: Held::InRows,
        expected: Some(|data| {
            let keys: BTreeMap<i64, ()> = read(&data.left).iter().map(|r| (r.key, ())).collect();
            sorted(keys.into_keys().map(|key| Row::result([key], [])))
        }),
        ..case("latest", |job, input| input.keyed(job).to_changes("latest").map(weighed))
    });
}

#[test]
fn the_latest_by_event_time() {
    check(&Case {
        invariant: |rows| {
            let (late, rows) = rows.iter().cloned().partition::<Vec<_>, _>(|row| row.at.is_empty());
            sorted(table(&rows).into_iter().chain(late))
        },
        expected: Some(|data| {
            let (rows, keys) = in_order(data, 0);
            let last = keys.into_iter().filter_map(|(key, reads)| Some((key, reads.last()?.id)));
            sorted(rows.into_iter().chain(last.map(|(key, id)| Row::result([key], [id]))))
        }),
        ..case("latest-order", |job, input| {
            let ordered = input.keyed(job).in_event_order("latest-order");
            let late = ordered.late().map(|event| Row::late(event.id.number));
            ordered.to_changes("latest").map(weighed).union([&late])
        })
    });
}

/// An aggregate of an aggregate: the greatest number of each key, summed up by groups of keys.
#[test]
fn an_aggregate_of_changes() {
    check(&Case {
        expected: Some(|data| {
            let mut greatest = BTreeMap::<i64, i64>::new();
            for read in read(&data.left) {
                let id = greatest.entry(read.key).or_default();
                *id = read.id.max(*id);
            }
            let mut sums = BTreeMap::<i64, i64>::new();
            greatest.iter().for_each(|(key, id)| *sums.entry(key % 50).or_default() += id);
            sorted(sums.into_iter().map(|(group, sum)| Row::result([group, sum], [])))
        }),
        shows_spilling: false,
        ..case("greatest", |job, input| {
            let greatest = input
                .keyed(job)
                .aggregate_as_changes("greatest", Max::of(|event: &Event| event.id.number));
            let sum = Sum::of(|row: &Keyed<u32, Option<i64>>| row.value.unwrap_or_default());
            let sums = greatest.key_changes_by(|row| row.key % 50).aggregate_changes("sums", sum);
            sums.map(|change| {
                let weight = change.weight();
                let Keyed { key, value } = change.into_row();
                Row::result([i64::from(key), value as i64, weight], [])
            })
        })
    });
}

/// Windows behind what was deduplicated and put in order: nothing of it is late for them.
#[test]
fn a_chain_of_operators() {
    check(&Case {
        invariant: |rows| sorted(rows.iter().cloned()),
        expected: Some(|data| {
            let (mut rows, keys) = in_order(data, 0);
            let mut windows = BTreeMap::<i64, i64>::new();
            for reads in keys.into_values() {
                let mut until = i64::MIN;
                for read in reads.into_iter() {
                    if read.time >= until {
                        until = read.time + 70;
                        *windows.entry(read.time.div_euclid(40) * 40).or_default() += 1;
                    }
                }
            }
            rows.extend(windows.into_iter().map(|(start, n)| Row::result([start, n], [])));
            sorted(rows)
        }),
        ..case("chain-order", |job, input| {
            let ordered = input.keyed(job).in_event_order("chain-order");
            let first = ordered.dedup("chain-first", Dedup::by_event_time(millis(70)));
            let events = first.records().map(|keyed| keyed.value);
            let counts = events
                .key_by(|event| event.key % 7)
                .window(Tumbling::of(millis(40)))
                .aggregate("chain-counts", Count);
            let sums = counts.results().key_by(|_| 0_u8).window(Tumbling::of(millis(40)));
            let sums = sums.aggregate("sums", Sum::of(|r: &WindowResult<u32, u64>| r.value as i64));
            let rows = sums
                .results()
                .map(|result| Row::result([result.window.start.millis(), result.value as i64], []));
            let late = ordered.late().map(|event| Row::late(event.id.number));
            let none = counts.late().map(|_| -> Row { panic!("late behind an order") });
            let no = sums.late().map(|_| -> Row { panic!("a result was late") });
            rows.union([&late, &none, &no])
        })
    });
}
