//! The regular join through the verifier, against all pairs.

use thalweg_engine::sim::Random;
use thalweg_engine::testing::{Input, verify_operator};

use super::*;
use crate::join::testing::{Read, Record, Splits, at, hash};

fn operator() -> impl Operator<In = Record, Out = (u32, u32), Side = ()> {
    RegularJoin::new(Arc::new(|_: &u8, a: &u32, b: &u32| (*a, *b)))
}

fn expected(splits: &Splits) -> Vec<String> {
    let rows: Vec<&Read> = splits.all().collect();
    let mut results = Vec::new();
    for a in rows.iter().filter(|row| row.is_left()) {
        for b in rows.iter().filter(|row| !row.is_left() && row.record.key == a.record.key) {
            let time = a.time.max(b.time);
            let marks = [a, b].map(|row| Some(row.watermark).filter(|w| row.time <= *w));
            let mark = marks.into_iter().flatten().max().filter(|mark| time <= *mark);
            let behind = mark.map(|mark| format!(" behind {mark}")).unwrap_or_default();
            results.push(format!("({}, {}) at {time}{behind}", a.number(), b.number()));
        }
    }
    results.sort_unstable();
    results
}

#[test]
fn pairs_are_the_same_for_every_schedule_and_right() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let splits = Splits::random(&mut random);
        let results = expected(&splits);
        for _ in 0..3 {
            let script = splits.script(&mut random);
            let given = verify_operator(operator, Some(&hash), &script)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(given.main, results, "seed {seed}");
        }
    }
}

#[test]
fn lists_longer_than_a_chunk_are_joined_in_full() {
    let row = |value| Input::Record(Keyed { key: 1, value }, at(0), None);
    let mut script: Vec<Input<Record>> = (0..520).map(|n| row(Either::Right(n))).collect();
    script.extend([row(Either::Left(1)), row(Either::Right(520)), row(Either::Left(2))]);
    let given = verify_operator(operator, Some(&hash), &script).expect("all modes agree");
    assert_eq!(given.main.len(), 2 * 521);
    assert!(given.main.windows(2).all(|pair| pair[0] < pair[1]), "a pair was given out twice");
}
