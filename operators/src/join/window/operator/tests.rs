//! The window join through the verifier, against windows recomputed from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use thalweg_connectors::memory;
use thalweg_engine::sim::Random;
use thalweg_engine::testing::{Input, verify_operator};
use thalweg_engine::{EventTime, Operator};

use super::WindowJoinOperator;
use crate::join::pair::Outer;
use crate::join::testing::{Read, Record, Splits, Watched, at, hash};
use crate::join::window::matcher::{CoGroup, Pairs};
use crate::stream::{Either, Keyed};
use crate::window::{Slices, Sliding, Window, WindowAssigner};
use crate::{Job, Watermarks};

#[derive(Clone, Copy, Debug)]
struct Kind {
    size: i64,
    slide: i64,
    offset: i64,
    lateness: i64,
}

impl Kind {
    fn random(random: &mut Random) -> Self {
        let size = random.between(1, 30);
        let slide = if random.is_chosen(30) { size } else { random.between(1, 30) };
        let offset = random.between(1 - size, size - 1);
        Kind { size, slide, offset, lateness: random.between(0, 1) * random.between(1, 20) }
    }

    fn slices(self) -> Slices {
        let millis = |n: i64| Duration::from_millis(n as u64);
        Slices::new(&Sliding::of(millis(self.size), millis(self.slide)).offset_millis(self.offset))
    }

    /// The ends of all windows that hold `time`.
    fn ends(self, time: i64) -> impl Iterator<Item = i64> {
        let Kind { size, slide, offset, .. } = self;
        let starts = (-300..300).map(move |n| n * slide + offset);
        starts.filter(move |start| *start <= time && time < start + size).map(move |s| s + size)
    }
}

type Pair = (Option<u32>, Option<u32>);

fn pairs(
    kind: Kind,
    outer: Outer,
) -> impl Operator<In = Record, Out = Pair, Side = Either<u32, u32>> {
    let pair = |_: &u8, a: Option<&u32>, b: Option<&u32>| Some((a.copied(), b.copied()));
    let matcher = Arc::new(Pairs::new(outer, pair));
    Watched::new(WindowJoinOperator::new(kind.slices(), kind.lateness, matcher), |_| Ok(()))
}

/// The numbers of the rows of each side, by window end and key.
type Windows = BTreeMap<(i64, u8), (BTreeSet<u32>, BTreeSet<u32>)>;

/// What is in the windows, and the late rows.
fn windows(splits: &Splits, kind: Kind) -> (Windows, Vec<String>) {
    let (mut windows, mut late) = (Windows::new(), Vec::new());
    for read in splits.all() {
        let ends: Vec<i64> = kind.ends(read.time).collect();
        let is_open = |end: &&i64| *end - 1 + kind.lateness > read.watermark;
        let open: Vec<i64> = ends.iter().filter(is_open).copied().collect();
        if open.is_empty() && !ends.is_empty() {
            late.push(read.as_late());
        }
        for end in open {
            let (left, right) = windows.entry((end, read.record.key)).or_default();
            (if read.is_left() { left } else { right }).insert(read.number());
        }
    }
    late.sort_unstable();
    (windows, late)
}

fn expected_pairs(windows: &Windows, outer: Outer) -> Vec<String> {
    let mut results = Vec::new();
    for ((end, _), (left, right)) in windows {
        let mut push = |a: Option<&u32>, b: Option<&u32>| {
            results.push(format!("{:?} at {}", (a.copied(), b.copied()), end - 1));
        };
        left.iter().for_each(|a| right.iter().for_each(|b| push(Some(a), Some(b))));
        if right.is_empty() && outer.left {
            left.iter().for_each(|a| push(Some(a), None));
        }
        if left.is_empty() && outer.right {
            right.iter().for_each(|b| push(None, Some(b)));
        }
    }
    results.sort_unstable();
    results
}

#[test]
fn pairs_are_the_same_for_every_schedule_and_right() {
    let (mut count, mut lates) = (0, 0);
    for seed in 0..70 {
        let mut random = Random::new(seed);
        let splits = Splits::random(&mut random);
        let kind = Kind::random(&mut random);
        let outer = [Outer::NONE, Outer::LEFT, Outer::RIGHT, Outer::BOTH][random.below(4)];
        let (windows, late) = windows(&splits, kind);
        let results = expected_pairs(&windows, outer);
        for _ in 0..3 {
            let script = splits.script(&mut random);
            let given = verify_operator(|| pairs(kind, outer), Some(&hash), &script)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(given.main, results, "results of seed {seed}: {kind:?} {outer:?}");
            assert_eq!(given.side, late, "late rows of seed {seed}: {kind:?}");
        }
        count += results.len();
        lates += late.len();
    }
    assert!(count > 1_000 && lates > 20, "{count} results and {lates} late rows prove little");
}

#[test]
fn groups_are_the_same_for_every_schedule_and_right() {
    type Group = (u8, i64, Vec<u32>, Vec<u32>, u8);
    // Each group gives two results, so that it can be cut in the middle.
    let group = |key: &u8, window: Window, left: &[u32], right: &[u32]| -> Vec<Group> {
        let (mut left, mut right) = (left.to_vec(), right.to_vec());
        left.sort_unstable();
        right.sort_unstable();
        let start = window.start.millis();
        [1, 2].map(|n| (*key, start, left.clone(), right.clone(), n)).to_vec()
    };
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let splits = Splits::random(&mut random);
        let kind = Kind::random(&mut random);
        let make = || {
            let matcher = Arc::new(CoGroup::new(group));
            WindowJoinOperator::<u8, u32, u32, _>::new(kind.slices(), kind.lateness, matcher)
        };
        let (windows, late) = windows(&splits, kind);
        let mut results = Vec::new();
        for ((end, key), (left, right)) in windows {
            for n in [1, 2] {
                let sides: (Vec<&u32>, Vec<&u32>) = (left.iter().collect(), right.iter().collect());
                let group = (key, end - kind.size, sides.0, sides.1, n);
                results.push(format!("{group:?} at {}", end - 1));
            }
        }
        results.sort_unstable();
        for _ in 0..2 {
            let script = splits.script(&mut random);
            let given = verify_operator(make, Some(&hash), &script)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(given.main, results, "results of seed {seed}: {kind:?}");
            assert_eq!(given.side, late, "late rows of seed {seed}");
        }
    }
}

#[test]
fn the_pairs_of_a_key_are_more_than_fit_a_chunk_or_an_output() {
    let kind = Kind { size: 10, slide: 5, offset: 0, lateness: 0 };
    let row = |value| Input::Record(Keyed { key: 1, value }, at(7), None);
    let mut script: Vec<Input<Record>> = (0..300).map(|n| row(Either::Left(n))).collect();
    script.extend([row(Either::Right(300)), row(Either::Right(301))]);
    script.push(Input::Watermark(EventTime::MAX));
    let given = verify_operator(|| pairs(kind, Outer::BOTH), Some(&hash), &script);
    let given = given.expect("all modes agree");
    let mut expected: Vec<String> = [9, 14]
        .iter()
        .flat_map(|at| (300..302).map(move |b| (at, b)))
        .flat_map(|(at, b)| (0..300).map(move |a| format!("(Some({a}), Some({b})) at {at}")))
        .collect();
    expected.sort_unstable();
    assert_eq!(given.main, expected);
}

/// `Read` has what the rules need; it is written as the verifier writes it.
#[test]
fn a_row_behind_is_late_for_closed_windows_only() {
    let kind = Kind { size: 10, slide: 5, offset: 0, lateness: 0 };
    let behind =
        |value, time, mark| Input::Record(Keyed { key: 1, value }, at(time), Some(at(mark)));
    let on_time = |value, time| Input::Record(Keyed { key: 1, value }, at(time), None);
    let script = vec![
        on_time(Either::Left(1), 7),
        on_time(Either::Right(2), 8),
        // Late for [0, 10), on time for [5, 15).
        behind(Either::Right(3), 6, 9),
        // Late for both.
        behind(Either::Left(4), 6, 14),
        Input::Watermark(EventTime::MAX),
    ];
    let given = verify_operator(|| pairs(kind, Outer::NONE), Some(&hash), &script);
    let given = given.expect("all modes agree");
    assert_eq!(
        given.main,
        ["(Some(1), Some(2)) at 14", "(Some(1), Some(2)) at 9", "(Some(1), Some(3)) at 14"]
    );
    let late = Keyed { key: 1, value: Either::Left(4) };
    assert_eq!(given.side, [Read { record: late, time: 6, watermark: 14 }.as_late()]);
}

#[test]
fn windows_without_a_size_are_refused_when_the_job_is_built() {
    struct Nothing;

    impl WindowAssigner for Nothing {
        fn size_ms(&self) -> i64 {
            0
        }

        fn slide_ms(&self) -> i64 {
            0
        }

        fn offset_ms(&self) -> i64 {
            0
        }

        fn name(&self) -> &'static str {
            "nothing"
        }
    }

    let job = Job::new();
    let keyed = |name: &str| {
        job.source(name, memory::source(vec![1_i64]))
            .event_time(|n| *n, Watermarks::bounded_out_of_orderness(Duration::ZERO))
            .key_by(|_| 1_u8)
    };
    let (left, right) = (keyed("left"), keyed("right"));
    let join = left.join(&right).window(Nothing).inner("nothing", |_, a: &i64, _| *a);
    join.results().sink("out", memory::sink().0);
    let error = job.into_graph().validate().expect_err("such a window holds nothing");
    let message = error.to_string();
    assert!(message.contains("`nothing`") && message.contains("size"), "{message}");
}
