//! Joins: by window, by interval, with a table, without bounds; and the co-grouped window.

use std::collections::BTreeSet;

use thalweg::JoinOutput;
use thalweg::prelude::*;

use super::data::{Data, Event, Row, ordered, sorted};
use super::harness::{Case, Held, Input, all, check};
use super::reference::{Fate, Read, Slid, read, read_from};

const fn case(name: &'static str, build: fn(&Job, &Input) -> Stream<Row>) -> Case {
    Case { name, build, invariant: all, expected: None, held: Held::InRows, shows_spilling: true }
}

/// A pair, or a row without a partner, which is 0.
fn pair(key: u32, a: Option<&Event>, b: Option<&Event>) -> Row {
    let id = |event: Option<&Event>| event.map_or(0, |event| event.id.number);
    Row::result([i64::from(key)], [id(a), id(b)])
}

fn with_late(output: &JoinOutput<Row, Event, Event>) -> Stream<Row> {
    let left = output.late_left().map(|event| Row::late(event.id.number));
    let right = output.late_right().map(|event| Row::late(event.id.number));
    output.results().union([&left, &right])
}

/// Pairs for which `matches`, and rows that have none.
fn full(left: &[Read], right: &[Read], matches: impl Fn(&Read, &Read) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut met = BTreeSet::new();
    for a in left {
        let before = rows.len();
        for b in right.iter().filter(|b| a.key == b.key && matches(a, b)) {
            rows.push(Row::result([a.key], [a.id, b.id]));
            met.insert(b.id);
        }
        if rows.len() == before {
            rows.push(Row::result([a.key], [a.id, 0]));
        }
    }
    let alone = right.iter().filter(|b| !met.contains(&b.id));
    rows.extend(alone.map(|b| Row::result([b.key], [0, b.id])));
    rows
}

const KIND: Slid = Slid { size: 80, slide: 40, offset: 0, lateness: 50 };

/// The start of a window and the rows of both sides in it.
type InWindow = (i64, Vec<Read>, Vec<Read>);

/// The late rows of a window join, and the rows of both sides by window.
fn by_window(data: &Data) -> (Vec<Row>, Vec<InWindow>) {
    let mut late = Vec::new();
    let mut windows = std::collections::BTreeMap::<i64, [Vec<Read>; 2]>::new();
    for (side, splits) in [&data.left, &data.right].into_iter().enumerate() {
        for read in read(splits) {
            match KIND.fate(&read) {
                Fate::In(open) => open.iter().for_each(|(start, _)| {
                    windows.entry(*start).or_default()[side].push(read);
                }),
                _ => late.push(Row::late(read.id)),
            }
        }
    }
    let windows = windows.into_iter().map(|(start, [left, right])| (start, left, right));
    (late, windows.collect())
}

#[test]
fn window_join() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, windows) = by_window(data);
            for (_, left, right) in windows {
                rows.extend(full(&left, &right, |_, _| true));
            }
            sorted(rows)
        }),
        ..case("window-join", |job, input| {
            let join = input.keyed(job).join(&input.keyed_right(job));
            let join = join.window(Sliding::of(millis(80), millis(40)));
            let join = join.allowed_lateness(millis(50));
            with_late(&join.full("window-join", |key, a, b| pair(*key, a, b)))
        })
    });
}

#[test]
fn co_group() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, windows) = by_window(data);
            for (start, left, right) in windows {
                let all = || left.iter().chain(&right);
                let keys: BTreeSet<i64> = all().map(|read| read.key).collect();
                rows.extend(keys.into_iter().map(|key| {
                    let mine = all().filter(|read| read.key == key);
                    Row::result([key, start], ordered(mine.map(|read| read.id)))
                }));
            }
            sorted(rows)
        }),
        ..case("co-group", |job, input| {
            let join = input.keyed(job).join(&input.keyed_right(job));
            let join = join.window(Sliding::of(millis(80), millis(40)));
            let join = join.allowed_lateness(millis(50));
            with_late(&join.co_group("co-group", |key, window, left, right| {
                let ids = left.iter().chain(right).map(|event| event.id.number);
                [Row::result([i64::from(*key), window.start.millis()], ordered(ids))]
            }))
        })
    });
}

/// Late rows of both sides, and the others.
fn on_time(data: &Data, lateness: i64) -> (Vec<Row>, Vec<Read>, Vec<Read>) {
    let (mut left, mut right) = (read(&data.left), read_from("right", &data.right));
    let late = left.iter().chain(&right).filter(|read| read.is_late(lateness));
    let late = late.map(|read| Row::late(read.id)).collect();
    left.retain(|read| !read.is_late(lateness));
    right.retain(|read| !read.is_late(lateness));
    (late, left, right)
}

#[test]
fn interval_join() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, left, right) = on_time(data, 30);
            rows.extend(full(&left, &right, |a, b| (a.time - 40..=a.time + 60).contains(&b.time)));
            sorted(rows)
        }),
        ..case("interval-join", |job, input| {
            let join = input.keyed(job).interval_join(&input.keyed_right(job));
            let join = join.between_millis(-40, 60).allowed_lateness(millis(30));
            with_late(&join.full("interval-join", |key, a, b| pair(*key, a, b)))
        })
    });
}

#[test]
fn as_of_join() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, left, right) = on_time(data, 30);
            // A deletion that is late is a key and nothing else.
            for row in &mut rows {
                row.ids
                    .iter_mut()
                    .filter(|id| **id > 100_000 && **id % 4 == 0)
                    .for_each(|id| *id = 0);
            }
            rows.extend(left.iter().map(|a| {
                let versions = right.iter().filter(|b| b.key == a.key && b.time <= a.time);
                let last = versions.max_by_key(|b| (b.time, b.order));
                let id = last.filter(|b| b.id % 4 != 0).map_or(0, |b| b.id);
                Row::result([a.key], [a.id, id])
            }));
            sorted(rows)
        }),
        held: Held::Rest,
        ..case("as-of-join", |job, input| {
            let right = input.keyed_right(job);
            let table = right.map_values(|event| Some(event).filter(|e| e.id.number % 4 != 0));
            let join = input.keyed(job).join_table(&table).as_of().allowed_lateness(millis(30));
            let output = join.left("as-of-join", |key, a, b| pair(*key, Some(a), b));
            let left = output.late_left().map(|event| Row::late(event.id.number));
            let id = |event: Option<Event>| event.map_or(0, |event| event.id.number);
            let right = output.late_right().map(move |keyed| Row::late(id(keyed.value)));
            output.results().union([&left, &right])
        })
    });
}

#[test]
fn latest_join() {
    check(&Case {
        invariant: |rows| sorted(rows.iter().map(|row| Row::result([], [row.ids[0]]))),
        expected: Some(|data| sorted(read(&data.left).iter().map(|a| Row::result([], [a.id])))),
        held: Held::Rest,
        ..case("latest-join", |job, input| {
            let table = input.keyed_right(job).map_values(Some);
            let join = input.keyed(job).join_table(&table).latest();
            join.left("latest-join", |key, a, b: Option<&Event>| {
                assert!(b.is_none_or(|b| b.key == *key), "a version of another key");
                pair(*key, Some(a), b)
            })
        })
    });
}

#[test]
fn regular_join() {
    check(&Case {
        expected: Some(|data| {
            let (left, right) = (read(&data.left), read_from("right", &data.right));
            let mut rows = full(&left, &right, |_, _| true);
            rows.retain(|row| !row.ids.contains(&0));
            sorted(rows)
        }),
        held: Held::Rest,
        ..case("regular-join", |job, input| {
            let both = input.keyed(job).connect(&input.keyed_right(job));
            both.inner_join("regular-join", |key, a, b| pair(*key, Some(a), Some(b)))
        })
    });
}
