//! The temporal join through the verifier, against versions looked for from scratch.

use std::sync::Arc;

use thalweg_engine::sim::Random;
use thalweg_engine::testing::{Input, verify_operator};
use thalweg_engine::{EventTime, Operator};

use super::operator::AsOfOperator;
use crate::join::testing::{self, Read, Splits, Watched, at};
use crate::stream::{Either, Keyed};

type Record = Keyed<u8, Either<u32, Option<u32>>>;
type Late = Either<u32, Keyed<u8, Option<u32>>>;

/// Every third version is a deletion.
fn version(number: u32) -> Option<u32> {
    (!number.is_multiple_of(3)).then_some(number)
}

fn with_deletions(Keyed { key, value }: testing::Record) -> Record {
    let value = match value {
        Either::Left(row) => Either::Left(row),
        Either::Right(number) => Either::Right(version(number)),
    };
    Keyed { key, value }
}

fn convert(input: Input<testing::Record>) -> Input<Record> {
    match input {
        Input::Record(record, time, mark) => Input::Record(with_deletions(record), time, mark),
        Input::Watermark(watermark) => Input::Watermark(watermark),
        Input::Time(time) => Input::Time(time),
    }
}

type AsOf = AsOfOperator<u8, u32, u32, fn(&u8, Option<&u32>, Option<&u32>) -> Option<u32>, u32>;

fn plain_operator(lateness: i64, bucket_ms: i64) -> AsOf {
    AsOfOperator::new(Arc::new(|_, row, _| row.copied()), lateness, bucket_ms)
}

fn operator(
    lateness: i64,
    bucket_ms: i64,
    is_outer: bool,
) -> impl Operator<In = Record, Out = (u32, Option<u32>), Side = Late> {
    let f = move |_: &u8, a: Option<&u32>, v: Option<&u32>| {
        (is_outer || v.is_some()).then_some((*a?, v.copied()))
    };
    Watched::new(AsOfOperator::new(Arc::new(f), lateness, bucket_ms), |_| Ok(()))
}

fn hash(record: &Record) -> u64 {
    thalweg_engine::state::hash_key(&record.key).expect("a number has a hash")
}

/// What must be given out; `order` is the place of a record in the script, by number.
fn expected(
    splits: &Splits,
    lateness: i64,
    is_outer: bool,
    order: impl Fn(u32) -> usize,
) -> (Vec<String>, Vec<String>) {
    let (mut results, mut late) = (Vec::new(), Vec::new());
    let is_late = |read: &&Read| read.time + lateness <= read.watermark;
    for read in splits.all().filter(is_late) {
        let Keyed { key, value } = with_deletions(read.record);
        let value = match value {
            Either::Left(row) => Either::Left(row),
            Either::Right(value) => Either::Right(Keyed { key, value }),
        };
        late.push(format!("{value:?} at {} behind {}", read.time, read.watermark));
    }
    let on_time: Vec<&Read> = splits.all().filter(|read| !is_late(read)).collect();
    for row in on_time.iter().filter(|read| read.is_left()) {
        let versions = on_time.iter().filter(|version| {
            !version.is_left() && version.record.key == row.record.key && version.time <= row.time
        });
        let last = versions.max_by_key(|version| (version.time, order(version.number())));
        let value = last.and_then(|last| version(last.number()));
        if is_outer || value.is_some() {
            results.push(format!("{:?} at {}", (row.number(), value), row.time));
        }
    }
    results.sort_unstable();
    late.sort_unstable();
    (results, late)
}

#[test]
fn versions_are_the_same_for_every_schedule_and_right() {
    let (mut count, mut lates) = (0, 0);
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let splits = Splits::random(&mut random);
        let lateness = random.between(0, 1) * random.between(1, 15);
        let (is_outer, bucket_ms) = (random.is_chosen(50), random.between(1, 12));
        for _ in 0..3 {
            let script = splits.script(&mut random);
            // The verifier takes the place in the script for the identity.
            let mut places = std::collections::BTreeMap::new();
            for (place, input) in script.iter().enumerate() {
                if let Input::Record(Keyed { value: Either::Right(number), .. }, ..) = input {
                    places.insert(*number, place);
                }
            }
            let (results, late) = expected(&splits, lateness, is_outer, |n| places[&n]);
            let script: Vec<Input<Record>> = script.into_iter().map(convert).collect();
            let make = || operator(lateness, bucket_ms, is_outer);
            let given = verify_operator(make, Some(&hash), &script)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(given.main, results, "results of seed {seed}");
            assert_eq!(given.side, late, "late records of seed {seed}");
            count += results.len();
            lates += late.len();
        }
    }
    assert!(count > 2_000 && lates > 100, "{count} results and {lates} late records prove little");
}

#[test]
fn a_version_holds_from_its_own_instant_to_just_before_the_next() {
    let version =
        |value, time| Input::Record(Keyed { key: 1, value: Either::Right(value) }, at(time), None);
    let mut script: Vec<Input<Record>> = vec![
        version(Some(20), 20),
        version(Some(10), 10),
        version(None, 30),
        version(Some(40), 40),
    ];
    for time in [9, 10, 19, 20, 29, 30, 39, 40, 41] {
        script.push(Input::Record(
            Keyed { key: 1, value: Either::Left(time as u32) },
            at(time),
            None,
        ));
    }
    script.push(Input::Watermark(EventTime::MAX));
    let given = verify_operator(|| operator(0, 7, false), Some(&hash), &script);
    let mut expected: Vec<String> = [(10, 10), (19, 10), (20, 20), (29, 20), (40, 40), (41, 40)]
        .map(|(time, version)| format!("({time}, Some({version})) at {time}"))
        .to_vec();
    expected.sort_unstable();
    assert_eq!(given.expect("all modes agree").main, expected);
}

#[test]
fn versions_that_no_row_can_need_are_removed() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let splits = Splits::random(&mut random);
        let lateness = random.between(0, 1) * random.between(1, 15);
        let script: Vec<Input<Record>> =
            splits.script(&mut random).into_iter().map(convert).collect();
        // Clean-ups are exact where their spans are a millisecond.
        let make = || Watched::new(plain_operator(lateness, 1), AsOf::check_versions);
        verify_operator(make, Some(&hash), &script).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}
