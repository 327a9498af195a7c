//! Windows: aligned, per key, by number; with triggers, evictors and functions.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use thalweg::prelude::*;
use thalweg::{
    Change, CountEvictor, CountTrigger, EarlyAndLate, Lateness, PaneOutput, Purging, WindowOutput,
};

use super::data::{Data, Event, Id, Port, Row, ordered, sorted};
use super::harness::{Case, Held, all, check};
use super::reference::{Fate, Slid, in_order, read, sessions};

/// The identities of all events, sorted.
pub(crate) struct Identities;

impl Aggregate<Event> for Identities {
    type Accumulator = Vec<Id>;
    type Out = Vec<i64>;

    fn create(&self) -> Vec<Id> {
        Vec::new()
    }

    fn add(&self, accumulator: &mut Vec<Id>, event: &Event) {
        accumulator.push(event.id);
    }

    fn merge(&self, accumulator: &mut Vec<Id>, other: &Vec<Id>) {
        accumulator.extend(other);
    }

    fn finish(&self, accumulator: &Vec<Id>) -> Vec<i64> {
        ordered(accumulator.iter().map(|id| id.number))
    }
}

fn late(late: &Stream<Event>) -> Stream<Row> {
    late.map(|event| Row::late(event.id.number))
}

/// Rows of results, which are lists of identities, and of late events.
fn windows<K: Key + Into<i64>>(output: &WindowOutput<K, Event, Vec<i64>>) -> Stream<Row> {
    output.results().map(row).union([&late(&output.late())])
}

fn row<K: Into<i64>>(result: WindowResult<K, Vec<i64>>) -> Row {
    let WindowResult { key, window, value } = result;
    Row::result([key.into(), window.start.millis(), window.end.millis()], value)
}

const fn case(name: &'static str, build: fn(&Job, &super::harness::Input) -> Stream<Row>) -> Case {
    Case { name, build, invariant: all, expected: None, held: Held::InRows, shows_spilling: true }
}

#[test]
fn tumbling() {
    check(&Case {
        expected: Some(|data| Slid::tumbling(60, 0).rows(&read(&data.left))),
        ..case("tumbling", |job, input| {
            let window = input.keyed(job).window(Tumbling::of(millis(60)));
            windows(&window.aggregate("tumbling", Identities))
        })
    });
}

#[test]
fn sliding_with_lateness() {
    const KIND: Slid = Slid { size: 70, slide: 30, offset: 7, lateness: 50 };
    check(&Case {
        expected: Some(|data| KIND.rows(&read(&data.left))),
        ..case("sliding", |job, input| {
            let kind = Sliding::of(millis(70), millis(30)).offset_millis(7);
            let window = input.keyed(job).window(kind).allowed_lateness(millis(50));
            windows(&window.aggregate("sliding", Identities))
        })
    });
}

#[test]
fn sliding_with_gaps() {
    const KIND: Slid = Slid { size: 30, slide: 50, offset: 0, lateness: 0 };
    check(&Case {
        expected: Some(|data| KIND.rows(&read(&data.left))),
        ..case("gaps", |job, input| {
            let kind = Sliding::of(millis(30), millis(50)).with_gaps();
            windows(&input.keyed(job).window(kind).aggregate("gaps", Identities))
        })
    });
}

/// An aggregate that looks at the order has no combiner before the exchange.
#[test]
fn tumbling_reduce() {
    check(&Case {
        expected: Some(|data| {
            let kind = Slid::tumbling(60, 30);
            let values: BTreeMap<i64, i64> =
                read(&data.left).iter().map(|read| (read.id, read.value)).collect();
            let reduce = |mut row: Row| {
                if row.port == Port::Result {
                    row.at.push(row.ids.iter().map(|id| values[id]).sum());
                    row.ids.clear();
                }
                row
            };
            sorted(kind.rows(&read(&data.left)).into_iter().map(reduce))
        }),
        held: Held::Rest,
        ..case("reduce", |job, input| {
            let window = input.keyed(job).window(Tumbling::of(millis(60)));
            let sums = window
                .allowed_lateness(millis(30))
                .reduce("reduce", |a, b| Event { value: a.value + b.value, ..a.clone() });
            let rows = sums.results().map(|result| {
                let WindowResult { key, window, value } = result;
                let (start, end) = (window.start.millis(), window.end.millis());
                Row::result([i64::from(key), start, end, value.value], [])
            });
            rows.union([&late(&sums.late())])
        })
    });
}

/// One key: one subtask has all state, and there is one entry per slice.
#[test]
fn without_key() {
    check(&Case {
        expected: Some(|data| {
            let mut reads = read(&data.left);
            reads.iter_mut().for_each(|read| read.key = 0);
            Slid::tumbling(20, 0).rows(&reads)
        }),
        shows_spilling: false,
        ..case("without-key", |job, input| {
            let window = input.left(job).key_by(|_| 0_u8).window(Tumbling::of(millis(20)));
            windows(&window.aggregate("without-key", Identities))
        })
    });
}

#[test]
fn session() {
    check(&Case {
        expected: Some(|data| sessions(data, 25, 40)),
        ..case("session", |job, input| {
            let window = input.keyed(job).window(Session::with_gap(millis(25)));
            windows(&window.allowed_lateness(millis(40)).aggregate("session", Identities))
        })
    });
}

#[test]
fn record_aligned() {
    check(&Case {
        expected: Some(|data| {
            let (mut rows, keys) = in_order(data, 0);
            for (key, reads) in keys {
                let times: BTreeSet<i64> = reads.iter().map(|read| read.time).collect();
                rows.extend(times.into_iter().map(|time| {
                    let window = reads.iter().filter(|r| (time - 90..=time).contains(&r.time));
                    Row::result([key, time], ordered(window.map(|read| read.id)))
                }));
            }
            sorted(rows)
        }),
        ..case("aligned", |job, input| {
            let window = input.keyed(job).window(RecordAligned::of(millis(90)));
            let output = window.aggregate("aligned", Identities);
            let rows = output.results().map(|WindowResult { key, window, value }| {
                Row::result([i64::from(key), window.max_time().millis()], value)
            });
            rows.union([&late(&output.late())])
        })
    });
}

#[test]
fn global() {
    check(&Case {
        expected: Some(|data| {
            let mut keys = BTreeMap::<i64, Vec<i64>>::new();
            for read in read(&data.left) {
                keys.entry(read.key).or_default().push(read.id);
            }
            sorted(keys.into_iter().map(|(key, ids)| Row::result([key], ordered(ids))))
        }),
        ..case("global", |job, input| {
            let output = input.keyed(job).window(GlobalWindow).aggregate("global", Identities);
            output.results().map(|result| Row::result([i64::from(result.key)], result.value))
        })
    });
}

/// Rows of count windows without identities, of which none may be in two windows of `most` more
/// than once.
fn counted(rows: &[Row], most: usize) -> Vec<Row> {
    let mut seen = BTreeMap::<i64, usize>::new();
    for id in rows.iter().flat_map(|row| &row.ids) {
        *seen.entry(*id).or_default() += 1;
    }
    assert!(seen.values().all(|n| *n <= most), "an event is in too many windows");
    sorted(rows.iter().map(|row| Row { ids: Vec::new(), ..row.clone() }))
}

/// The count windows of each key: the number of the first record and the number of records.
fn expected_counts(data: &Data, size: i64, slide: i64) -> Vec<Row> {
    let mut keys = BTreeMap::<i64, i64>::new();
    read(&data.left).iter().for_each(|read| *keys.entry(read.key).or_default() += 1);
    let windows = |(key, seen): (i64, i64)| {
        (1..=seen).filter(move |n| n % slide == 0).map(move |n| {
            let first = (n - size).max(0);
            Row::result([key, first, n - first], [])
        })
    };
    sorted(keys.into_iter().flat_map(windows))
}

fn count_windows(input: &super::harness::Input, job: &Job, kind: CountWindow) -> Stream<Row> {
    input.keyed(job).window(kind).aggregate("counted", Identities).map(|result| {
        assert_eq!(result.value.len() as u64, result.count);
        Row::result([result.key.into(), result.first as i64, result.count as i64], result.value)
    })
}

#[test]
fn count_tumbling() {
    check(&Case {
        invariant: |rows| counted(rows, 1),
        expected: Some(|data| expected_counts(data, 3, 3)),
        held: Held::Rest,
        ..case("counted", |job, input| count_windows(input, job, CountWindow::tumbling(3)))
    });
}

#[test]
fn count_sliding() {
    check(&Case {
        invariant: |rows| counted(rows, 3),
        expected: Some(|data| expected_counts(data, 6, 2)),
        held: Held::Rest,
        ..case("counted", |job, input| count_windows(input, job, CountWindow::sliding(6, 2)))
    });
}

/// Final results, changes with their weight, panes with their number, and late events.
fn everything<K: Key + Into<i64>>(output: &PaneOutput<K, Event, Vec<i64>>) -> Stream<Row> {
    let updates = output.updates().map(|change: Change<_>| {
        let weight = change.weight();
        let mut row = row(change.into_row());
        row.at.push(weight);
        row.of_port(Port::Side)
    });
    let panes = output.panes().map(|pane| {
        let (start, end) = (pane.window.start.millis(), pane.window.end.millis());
        let at = [pane.key.into(), start, end, pane.info.index as i64];
        Row::result(at, pane.value).of_port(Port::Third)
    });
    output.results().map(row).union([&updates, &panes, &late(&output.late())])
}

/// Checks that changes add up to the results and that the last pane of each window is one.
fn consistent(rows: &[Row]) -> Vec<Row> {
    let of_port = |port| rows.iter().filter(move |row| row.port == port);
    let mut table = BTreeMap::<(Vec<i64>, Vec<i64>), i64>::new();
    for Row { at, ids, .. } in of_port(Port::Side) {
        *table.entry((at[..3].to_vec(), ids.clone())).or_default() += at[3];
    }
    table.retain(|_, weight| *weight != 0);
    assert!(table.values().all(|weight| *weight == 1), "a row is there twice or was never");
    let results: Vec<Row> = sorted(of_port(Port::Result).cloned());
    let table = sorted(table.into_keys().map(|(at, ids)| Row::result(at, ids)));
    assert!(table == results, "the changes do not add up to the results");
    let late = of_port(Port::Late).cloned();
    sorted(results.iter().cloned().chain(late))
}

/// As [`consistent`]; windows that do not merge number their panes from 0, and the last is final.
fn consistent_panes(rows: &[Row]) -> Vec<Row> {
    let mut last = BTreeMap::<Vec<i64>, BTreeMap<i64, Vec<i64>>>::new();
    for Row { at, ids, .. } in rows.iter().filter(|row| row.port == Port::Third) {
        let before = last.entry(at[..3].to_vec()).or_default().insert(at[3], ids.clone());
        assert!(before.is_none(), "a pane was given out twice");
    }
    for row in rows.iter().filter(|row| row.port == Port::Result) {
        let panes = last.remove(&row.at).expect("every window has a pane");
        assert!(panes.keys().copied().eq(0..panes.len() as i64), "a pane is missing");
        assert_eq!(panes.values().next_back(), Some(&row.ids), "the last pane is not final");
    }
    assert!(last.is_empty(), "there are panes of windows without a result");
    consistent(rows)
}

#[test]
fn early_and_late_panes() {
    check(&Case {
        invariant: consistent_panes,
        expected: Some(|data| Slid::tumbling(60, 100).rows(&read(&data.left))),
        ..case("early", |job, input| {
            let trigger = EarlyAndLate::new().early_every_records(2).late_every_record();
            let window = input.keyed(job).window(Tumbling::of(millis(60))).trigger(trigger);
            everything(&window.allowed_lateness(millis(100)).aggregate("early", Identities))
        })
    });
}

#[test]
fn panes_by_event_time_and_clock() {
    check(&Case {
        invariant: consistent_panes,
        expected: Some(|data| Slid::tumbling(200, 0).rows(&read(&data.left))),
        ..case("continuous", |job, input| {
            let trigger =
                EarlyAndLate::new().early_every(millis(20)).early_every_processing_time(millis(2));
            let window = input.keyed(job).window(Tumbling::of(millis(200))).trigger(trigger);
            everything(&window.aggregate("continuous", Identities))
        })
    });
}

#[test]
fn sessions_with_panes() {
    check(&Case {
        invariant: consistent,
        expected: Some(|data| sessions(data, 25, 40)),
        ..case("merging", |job, input| {
            let trigger = EarlyAndLate::new().early_every_records(2);
            let window = input.keyed(job).window(Session::with_gap(millis(25))).trigger(trigger);
            everything(&window.allowed_lateness(millis(40)).aggregate("merging", Identities))
        })
    });
}

#[test]
fn sessions_with_a_function() {
    check(&Case {
        expected: Some(|data| sessions(data, 30, 0)),
        ..case("session-function", |job, input| {
            let window = input.keyed(job).window(Session::with_gap(millis(30)));
            let output = window.process("session-function", |contents| {
                let times: Vec<i64> = contents.elements().iter().map(|e| e.time.millis()).collect();
                assert!(times.is_sorted(), "elements come in order of time");
                ordered(contents.values().map(|event| event.id.number))
            });
            output.results().map(row).union([&late(&output.late())])
        })
    });
}

#[test]
fn an_evictor() {
    check(&Case {
        invariant: |rows| {
            sorted(rows.iter().map(|row| match row.port {
                Port::Late => row.clone(),
                _ => Row {
                    at: [&row.at[..], &[row.ids.len() as i64]].concat(),
                    ids: Vec::new(),
                    ..row.clone()
                },
            }))
        },
        expected: Some(|data| {
            sorted(Slid::tumbling(120, 0).rows(&read(&data.left)).into_iter().map(|mut row| {
                if row.port == Port::Result {
                    row.at.push(row.ids.len().min(2) as i64);
                    row.ids.clear();
                }
                row
            }))
        }),
        held: Held::Rest,
        ..case("evicted", |job, input| {
            let window = input.keyed(job).window(Tumbling::of(millis(120)));
            let output = window.evictor(CountEvictor::of(2)).process("evicted", |contents| {
                contents.values().map(|event| event.id.number).collect::<Vec<i64>>()
            });
            output.results().map(row).union([&late(&output.late())])
        })
    });
}

/// All identities of some ports, each of which may be there once.
fn once(rows: &[Row], ports: &[Port]) -> Row {
    let rows = rows.iter().filter(|row| ports.contains(&row.port));
    let ids = ordered(rows.flat_map(|row| row.ids.iter().copied()));
    let twice = ids.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "an event is there twice");
    Row::result([], ids)
}

#[test]
fn purging_panes_hold_each_event_once() {
    check(&Case {
        invariant: |rows| vec![once(rows, &[Port::Third])],
        expected: Some(|data| {
            let kind = Slid::tumbling(150, 0);
            let is_in = |read: &super::reference::Read| matches!(kind.fate(read), Fate::In(_));
            let reads = read(&data.left).into_iter().filter(is_in);
            vec![Row::result([], ordered(reads.map(|read| read.id)))]
        }),
        ..case("purging", |job, input| {
            let window = input.keyed(job).window(Tumbling::of(millis(150)));
            let window = window.trigger(Purging::of(CountTrigger::of(2)));
            let output = window.aggregate("purging", Identities);
            let panes = output.panes().map(|pane| {
                let at = [i64::from(pane.key), pane.window.start.millis(), pane.info.index as i64];
                Row::result(at, pane.value).of_port(Port::Third)
            });
            panes.union([&late(&output.late())])
        })
    });
}

#[test]
fn lateness_at_the_operator() {
    check(&Case {
        invariant: |rows| vec![once(rows, &[Port::Result, Port::Late])],
        expected: Some(|data| {
            vec![Row::result([], ordered(read(&data.left).iter().map(|read| read.id)))]
        }),
        ..case("at-operator", |job, input| {
            let window = input.keyed(job).window(Tumbling::of(millis(60)));
            let output = window.lateness(Lateness::AtOperator).aggregate("at-operator", Identities);
            output.results().map(row).union([&late(&output.late())])
        })
    });
}
