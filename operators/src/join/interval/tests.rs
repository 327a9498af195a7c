//! The interval join through the verifier, against pairs looked for from scratch.

use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_engine::sim::Random;
use thalweg_engine::state::{
    BackendConfig, KeyGroupCount, KeyGroupRange, RestoreSource, SnapshotPart, hash_key,
};
use thalweg_engine::testing::{Input, take_runs, verify_operator};
use thalweg_engine::{ErrorKind, EventTime};

use super::side::Row;
use super::*;
use crate::join::testing::{Read, Record, Splits, Watched, at, hash};
use crate::{Job, Watermarks};

fn operator(
    interval: Interval,
    outer: Outer,
) -> impl Operator<In = Record, Out = (Option<u32>, Option<u32>), Side = Either<u32, u32>> {
    let pair = |_: &u8, a: Option<&u32>, b: Option<&u32>| Some((a.copied(), b.copied()));
    Watched::new(IntervalOperator::new(interval, outer, Arc::new(pair)), |_| Ok(()))
}

/// What must be given out: results and late rows.
fn expected(splits: &Splits, interval: Interval, outer: Outer) -> (Vec<String>, Vec<String>) {
    let Interval { lower, upper, lateness } = interval;
    let is_late = |read: &&Read| read.time + lateness <= read.watermark;
    let mut late: Vec<String> = splits.all().filter(is_late).map(Read::as_late).collect();
    let rows: Vec<&Read> = splits.all().filter(|read| !is_late(read)).collect();
    let partners = |a: &Read, b: &Read| {
        a.is_left()
            && !b.is_left()
            && a.record.key == b.record.key
            && (a.time + lower..=a.time + upper).contains(&b.time)
    };
    let mut results = Vec::new();
    for one in &rows {
        let number = one.number();
        for other in rows.iter().filter(|other| partners(one, other)) {
            let time = one.time.max(other.time);
            results.push(format!("(Some({number}), Some({})) at {time}", other.number()));
        }
        let is_alone = !rows.iter().any(|other| partners(one, other) || partners(other, one));
        if is_alone && one.is_left() && outer.left {
            results.push(format!("(Some({number}), None) at {}", one.time));
        }
        if is_alone && !one.is_left() && outer.right {
            results.push(format!("(None, Some({number})) at {}", one.time));
        }
    }
    results.sort_unstable();
    late.sort_unstable();
    (results, late)
}

#[test]
fn pairs_are_the_same_for_every_schedule_and_right() {
    let (mut pairs, mut lates) = (0, 0);
    for seed in 0..120 {
        let mut random = Random::new(seed);
        let splits = Splits::random(&mut random);
        let lower = random.between(-20, 20);
        let upper = lower + random.between(0, 1) * random.between(0, 25);
        let lateness = random.between(0, 1) * random.between(1, 15);
        let interval = Interval { lower, upper, lateness };
        let outer = [Outer::NONE, Outer::LEFT, Outer::RIGHT, Outer::BOTH][random.below(4)];
        let (results, late) = expected(&splits, interval, outer);
        for _ in 0..3 {
            let script = splits.script(&mut random);
            let given = verify_operator(|| operator(interval, outer), Some(&hash), &script)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(given.main, results, "results of seed {seed} {interval:?} {outer:?}");
            assert_eq!(given.side, late, "late rows of seed {seed}");
        }
        pairs += results.len();
        lates += late.len();
    }
    assert!(pairs > 1_000 && lates > 50, "{pairs} results and {lates} late rows prove little");
}

fn row(value: Either<u32, u32>, time: i64) -> Input<Record> {
    Input::Record(Keyed { key: 1, value }, at(time), None)
}

#[test]
fn bounds_belong_to_the_interval() {
    let interval = Interval { lower: -3, upper: 2, lateness: 0 };
    let mut script = vec![row(Either::Left(0), 100)];
    script.extend((95..=104).map(|time| row(Either::Right(time as u32), time)));
    script.push(Input::Watermark(EventTime::MAX));
    let given = verify_operator(|| operator(interval, Outer::NONE), Some(&hash), &script);
    let mut expected: Vec<String> =
        (97..=102).map(|b| format!("(Some(0), Some({b})) at {}", b.max(100))).collect();
    expected.sort_unstable();
    assert_eq!(given.expect("all modes agree").main, expected);
}

#[test]
fn a_row_finds_more_partners_than_fit_a_chunk_or_an_output() {
    let interval = Interval { lower: 0, upper: 1_000, lateness: 0 };
    let mut script: Vec<_> = (0..600).map(|n| row(Either::Left(n), i64::from(n / 200))).collect();
    script.extend([row(Either::Right(7), 500), row(Either::Right(8), 1_000)]);
    script.push(Input::Watermark(EventTime::MAX));
    let given = verify_operator(|| operator(interval, Outer::BOTH), Some(&hash), &script);
    let given = given.expect("all modes agree");
    let mut expected: Vec<String> = [(7, 500), (8, 1_000)]
        .iter()
        .flat_map(|(b, at)| (0..600).map(move |a| format!("(Some({a}), Some({b})) at {at}")))
        .collect();
    expected.sort_unstable();
    assert_eq!(given.main, expected);
}

#[test]
fn nothing_is_given_out_behind_the_forwarded_watermark() {
    // The runs above see what leaves; this asks for everything that might.
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let lower = random.between(-20, 20);
        let upper = lower + random.between(0, 25);
        let interval = Interval { lower, upper, lateness: random.between(0, 9) };
        let operator = IntervalOperator::<u8, u32, u32, _, u32>::new(
            interval,
            Outer::BOTH,
            Arc::new(|_: &u8, _: Option<&u32>, _: Option<&u32>| None),
        );
        for watermark in -60..60 {
            let forwarded = operator.forwarded(at(watermark)).millis();
            for time in -100..100_i64 {
                // A row that has not been given out at this watermark, in either side's buffer.
                let waits = |reach: i64| {
                    let last = bucket_of(time, operator.bucket_ms) + operator.bucket_ms - 1;
                    last + reach + interval.lateness > watermark
                };
                let may_come = time + interval.lateness > watermark;
                let may_be_given = may_come || waits(upper) || waits(-lower);
                assert!(!may_be_given || time > forwarded, "{interval:?} {time} at {watermark}");
            }
        }
    }
}

#[test]
fn an_empty_interval_is_refused_when_the_job_is_built() {
    let job = Job::new();
    let keyed = |name: &str| {
        job.source(name, thalweg_connectors::memory::source(vec![1_i64]))
            .event_time(|n| *n, Watermarks::bounded_out_of_orderness(Duration::ZERO))
            .key_by(|_| 1_u8)
    };
    let (left, right) = (keyed("left"), keyed("right"));
    left.interval_join(&right)
        .between_millis(5, 6)
        .lower_bound_exclusive()
        .upper_bound_exclusive()
        .inner("empty", |_, a: &i64, _| *a)
        .results()
        .sink("out", thalweg_connectors::memory::sink().0);
    let error = job.into_graph().validate().expect_err("no time is above 5 and below 6");
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(message.contains("`empty`") && message.contains("interval"), "{message}");
}

/// The rows of a side by bucket, after it was restored from one with buckets of 10 ms.
fn restored_rows(bucket_ms: i64) -> BTreeMap<i64, Vec<i64>> {
    let count = KeyGroupCount::default();
    let range = KeyGroupRange::all(count);
    let side = || {
        let mut state = OperatorState::open(BackendConfig::Memory, range, count).expect("opens");
        let side: Side<u8, ()> = Side::new(RowLists::new(&mut state, LEFT), 0, false);
        (state, side)
    };
    let (mut state, mut before) = side();
    for time in 0..1_000 {
        let row = Row { time, matched: false, value: () };
        let hash = hash_key(&7_u8).expect("a number has a hash");
        before.rows.push(Place::at(bucket_of(time, 10)), hash, &7, row).expect("pushes");
    }
    let mut snapshot = state.begin_snapshot();
    before.rows.snapshot_into(&mut snapshot).expect("encodes");
    let SnapshotPart::Epoch(epoch) = state.finish_snapshot(snapshot) else {
        panic!("the operator has state")
    };
    let swept = before.rows.state_table().sweep(&mut usize::MAX.clone());
    swept.expect("encodes");
    let (stream, mut runs) = (state.stream().expect("snapshots are taken"), Vec::new());
    take_runs(&stream, epoch, &mut runs).expect("is complete");
    let part = RestoreSource::new(runs);
    let (mut state, mut after) = side();
    let restored =
        state.restore(&[part], &mut |entry, value| after.restore_entry(&entry, value, bucket_ms));
    restored.expect("restores");
    after.finish_restore(bucket_ms).expect("moves rows");
    let mut rows = BTreeMap::new();
    while let Some(bucket) = after.first_bucket() {
        let times: &mut Vec<i64> = rows.entry(bucket).or_default();
        after.rows.for_each_row(bucket, |_, _, row| times.push(row.time)).expect("reads");
        after.rows.drop_until(bucket).expect("drops");
    }
    rows
}

#[test]
fn restored_rows_stand_in_the_buckets_of_this_version_of_the_job() {
    for bucket_ms in [1, 4, 10, 25, 5_000] {
        let mut expected = BTreeMap::<i64, Vec<i64>>::new();
        for time in 0..1_000 {
            expected.entry(bucket_of(time, bucket_ms)).or_default().push(time);
        }
        assert_eq!(restored_rows(bucket_ms), expected, "buckets of {bucket_ms} ms");
    }
}
