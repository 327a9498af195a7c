//! What looks at the order of events: patterns, event order, first and running results.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thalweg::Level;
use thalweg::prelude::*;
use thalweg::{Dedup, Pattern};

use super::data::{Event, Id, Port, Row, sorted};
use super::harness::{Case, Held, Input, all, check};
use super::reference::{in_order, read};

const fn case(name: &'static str, build: fn(&Job, &Input) -> Stream<Row>) -> Case {
    Case { name, build, invariant: all, expected: None, held: Held::Rest, shows_spilling: true }
}

fn late(late: &Stream<Event>) -> Stream<Row> {
    late.map(|event| Row::late(event.id.number))
}

fn key_of(key: u32) -> i64 {
    i64::from(key)
}

#[test]
fn a_pattern_of_neighbours() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, keys) = in_order(data, 20);
            for (key, reads) in keys {
                let pairs = reads.windows(2).filter(|p| p[0].value < 5 && p[1].value >= 5);
                rows.extend(pairs.map(|pair| Row::result([key], [pair[0].id, pair[1].id])));
            }
            sorted(rows)
        }),
        ..case("neighbours", |job, input| {
            let pattern = Pattern::begin("low", |event: &Event| event.value < 5)
                .next("high", |event| event.value >= 5)
                .allowed_lateness(millis(20));
            let found = input.keyed(job).pattern("neighbours", pattern);
            let rows = found.select(|found| {
                let ids = [&found.events("low")[0], &found.events("high")[0]];
                Row::result([key_of(found.key)], ids.map(|event| event.id.number))
            });
            rows.union([&late(&found.late())])
        })
    });
}

#[test]
fn a_pattern_with_a_time_limit() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, keys) = in_order(data, 0);
            for (key, reads) in keys {
                for (at, a) in reads.iter().enumerate().filter(|(_, a)| a.value < 3) {
                    let mut highs = reads[at + 1..].iter().filter(|b| b.value > 5);
                    rows.push(match highs.next().filter(|b| b.time - a.time < 150) {
                        Some(b) => Row::result([key], [a.id, b.id]),
                        None => Row::result([key], [a.id]).of_port(Port::Side),
                    });
                }
            }
            sorted(rows)
        }),
        ..case("limited", |job, input| {
            let pattern = Pattern::begin("low", |event: &Event| event.value < 3)
                .followed_by("high", |event| event.value > 5)
                .within(millis(150));
            let found = input.keyed(job).pattern("limited", pattern);
            let rows = found.select(|found| {
                let ids = [&found.events("low")[0], &found.events("high")[0]];
                Row::result([key_of(found.key)], ids.map(|event| event.id.number))
            });
            let timed_out = found.timed_out().map(|found| {
                let ids = [found.events("low")[0].id.number];
                Row::result([key_of(found.key)], ids).of_port(Port::Side)
            });
            rows.union([&timed_out, &late(&found.late())])
        })
    });
}

/// Many partial matches of one key at once: loops, and what they share.
#[test]
fn a_pattern_with_a_loop() {
    check(&case("loop", |job, input| {
        let pattern = Pattern::begin("first", |event: &Event| event.value < 5)
            .followed_by("more", |event| event.value > 3)
            .one_or_more()
            .allow_combinations()
            .followed_by("last", |event| event.value > 7)
            .within(millis(400));
        let found = input.keyed(job).pattern("loop", pattern);
        let rows = found.select(|found| {
            let events = found.stages().flat_map(|(_, events)| events);
            let ids: Vec<i64> = events.map(|event| event.id.number).collect();
            Row::result([key_of(found.key)], ids)
        });
        rows.union([&late(&found.late())])
    }));
}

/// All events so far, in order.
#[derive(Clone)]
struct Sequence;

#[derive(Clone, Serialize, Deserialize)]
struct Ids(Vec<Id>);

impl Aggregate<Event> for Sequence {
    type Accumulator = Ids;
    type Out = Vec<i64>;

    fn create(&self) -> Ids {
        Ids(Vec::new())
    }

    fn add(&self, accumulator: &mut Ids, event: &Event) {
        accumulator.0.push(event.id);
    }

    fn merge(&self, accumulator: &mut Ids, other: &Ids) {
        accumulator.0.extend(&other.0);
    }

    fn finish(&self, accumulator: &Ids) -> Vec<i64> {
        accumulator.0.iter().map(|id| id.number).collect()
    }

    fn level(&self) -> Level {
        Level::D2
    }
}

#[test]
fn event_order_by_key() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, keys) = in_order(data, 0);
            for (key, reads) in keys {
                let ids: Vec<i64> = reads.iter().map(|read| read.id).collect();
                rows.extend((1..=ids.len()).map(|n| Row::result([key], &ids[..n])));
            }
            sorted(rows)
        }),
        held: Held::InRows,
        ..case("order", |job, input| {
            let ordered = input.keyed(job).in_event_order("order");
            let running = ordered.aggregate("running", Sequence);
            let rows = running.map(|keyed| Row::result([key_of(keyed.key)], keyed.value));
            rows.union([&late(&ordered.late())])
        })
    });
}

#[test]
fn event_order_of_all() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, keys) = in_order(data, 0);
            let mut reads: Vec<_> = keys.into_values().flatten().collect();
            reads.sort_by_key(|read| (read.time, read.order));
            let numbered = (1..).zip(reads);
            rows.extend(numbered.map(|(n, read)| Row::result([n], [read.id])));
            sorted(rows)
        }),
        held: Held::InRows,
        ..case("order-all", |job, input| {
            let ordered = input.left(job).in_event_order("order-all");
            let numbered = ordered.map(|event| (event.id.number, 1_i64)).key_by(|_| 0_u8);
            let numbered = numbered.reduce("numbered", |(_, n), (id, one)| (*id, n + one));
            let rows = numbered.map(|Keyed { value: (id, n), .. }| Row::result([n], [id]));
            rows.union([&late(&ordered.late())])
        })
    });
}

#[test]
fn the_first_of_each_key_by_event_time() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, keys) = in_order(data, 0);
            for reads in keys.into_values() {
                let mut until = i64::MIN;
                for read in reads.into_iter() {
                    if read.time >= until {
                        until = read.time + 100;
                        rows.push(Row::result([read.key], [read.id]));
                    }
                }
            }
            sorted(rows)
        }),
        ..case("first-order", |job, input| {
            let ordered = input.keyed(job).in_event_order("first-order");
            let first = ordered.dedup("first", Dedup::by_event_time(millis(100)));
            let rows = first
                .records()
                .map(|Keyed { key, value }| Row::result([key_of(key)], [value.id.number]));
            let nothing = first.late().map(|_: Event| -> Row { panic!("late behind an order") });
            rows.union([&late(&ordered.late()), &nothing])
        })
    });
}

/// Which of a key's records is first depends on the order of arrival; that late ones are late does
/// not.
#[test]
fn the_first_of_each_key_by_arrival() {
    check(&Case {
        invariant: |rows| sorted(rows.iter().filter(|row| row.port == Port::Late).cloned()),
        expected: Some(|data| sorted(in_order(data, 0).0)),
        shows_spilling: false,
        ..case("first-arrived", |job, input| {
            let first = input.keyed(job).dedup("first-arrived", Dedup::by_event_time(millis(50)));
            let rows = first
                .records()
                .map(|Keyed { key, value }| Row::result([key_of(key)], [value.id.number]));
            rows.union([&late(&first.late())])
        })
    });
}

#[test]
fn one_of_each_key_forever() {
    check(&Case {
        invariant: |rows| sorted(rows.iter().map(|row| Row::result(row.at.clone(), []))),
        expected: Some(|data| {
            let keys: BTreeSet<i64> = read(&data.left).iter().map(|read| read.key).collect();
            sorted(keys.into_iter().map(|key| Row::result([key], [])))
        }),
        shows_spilling: false,
        ..case("forever", |job, input| {
            let first = input.keyed(job).dedup("forever", Dedup::forever());
            first
                .records()
                .map(|Keyed { key, value }| Row::result([key_of(key)], [value.id.number]))
        })
    });
}

/// A key is forgotten after some milliseconds of the clock: it comes once at least.
#[test]
fn one_of_each_key_for_a_while() {
    check(&Case {
        invariant: |rows| {
            let keys: BTreeSet<_> = rows.iter().map(|row| row.at.clone()).collect();
            let ids: BTreeSet<_> = rows.iter().map(|row| row.ids.clone()).collect();
            assert_eq!(ids.len(), rows.len(), "a record came twice");
            sorted(keys.into_iter().map(|key| Row::result(key, [])))
        },
        expected: Some(|data| {
            let keys: BTreeSet<i64> = read(&data.left).iter().map(|read| read.key).collect();
            sorted(keys.into_iter().map(|key| Row::result([key], [])))
        }),
        shows_spilling: false,
        ..case("while", |job, input| {
            let first = input.keyed(job).dedup("while", Dedup::by_processing_time(millis(5)));
            first
                .records()
                .map(|Keyed { key, value }| Row::result([key_of(key)], [value.id.number]))
        })
    });
}

/// Each result of a running aggregate has one record more than the one before.
#[test]
fn running_aggregates() {
    check(&Case {
        invariant: |rows| {
            let mut keys = BTreeMap::<&Vec<i64>, Vec<&Vec<i64>>>::new();
            rows.iter().for_each(|row| keys.entry(&row.at).or_default().push(&row.ids));
            for prefixes in keys.values_mut() {
                prefixes.sort_by_key(|ids| ids.len());
                let grows = |pair: &[&Vec<i64>]| pair[1][..pair[0].len()] == pair[0][..];
                assert!(prefixes.windows(2).all(grows), "a result forgot records");
            }
            let lengths = rows.iter().map(|row| (row.at[0], row.ids.len() as i64));
            sorted(lengths.map(|(key, length)| Row::result([key, length], [])))
        },
        held: Held::InRows,
        ..case("running", |job, input| {
            let running = input.keyed(job).aggregate("running", Sequence);
            running.map(|keyed| Row::result([key_of(keyed.key)], keyed.value))
        })
    });
}
