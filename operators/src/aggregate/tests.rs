//! What every aggregate promises: parts merge to the whole in any order, nothing is neutral, and
//! encodings keep everything.

mod bounds;

use std::fmt::Debug;

use thalweg_engine::sim::Random;
use thalweg_engine::state::codec;

use super::*;

fn encoded<V: Data>(value: &V) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).expect("an accumulator can be encoded");
    bytes
}

fn fold<'a, T: 'a, A: Aggregate<T>>(
    aggregate: &A,
    records: impl IntoIterator<Item = &'a T>,
) -> A::Accumulator {
    let mut accumulator = aggregate.create();
    records.into_iter().for_each(|record| aggregate.add(&mut accumulator, record));
    accumulator
}

fn shuffle<T>(random: &mut Random, values: &mut [T]) {
    for i in (1..values.len()).rev() {
        values.swap(i, random.below(i + 1));
    }
}

/// Cuts the records into parts, some of them empty, some stored and read again, and merges them:
/// in order, or if the level says so in any order. The state must be that of adding all records.
fn check<T: Data, A: Aggregate<T>>(aggregate: &A, make: impl Fn(&mut Random) -> T)
where
    A::Out: Debug,
{
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let records: Vec<T> = (0..random.below(60)).map(|_| make(&mut random)).collect();
        let whole = encoded(&fold(aggregate, &records));
        let mut order: Vec<&T> = records.iter().collect();
        if aggregate.level() == Level::D4 {
            shuffle(&mut random, &mut order);
        }
        let mut parts: Vec<A::Accumulator> = vec![aggregate.create()];
        for record in order {
            if random.is_chosen(30) {
                parts.push(aggregate.create());
            }
            if let Some(part) = parts.last_mut() {
                if random.is_chosen(20) {
                    let stored = encoded(part);
                    *part = codec::decode(&stored).expect("what was encoded");
                    assert_eq!(encoded(part), stored, "read again, seed {seed}");
                }
                aggregate.add(part, record);
            }
        }
        // Merges neighbours, in any grouping.
        while parts.len() > 1 {
            if aggregate.level() == Level::D4 {
                shuffle(&mut random, &mut parts);
            }
            let at = random.below(parts.len() - 1);
            let next = parts.remove(at + 1);
            aggregate.merge(&mut parts[at], &next);
        }
        let merged = &parts[0];
        assert_eq!(encoded(merged), whole, "state of seed {seed}");
        if !records.is_empty() {
            let result = format!("{:?}", aggregate.finish(&fold(aggregate, &records)));
            assert_eq!(format!("{:?}", aggregate.finish(merged)), result, "result of seed {seed}");
        }
    }
}

/// A number of few values, so that ties occur.
fn number(random: &mut Random) -> i64 {
    random.between(-9, 9)
}

fn pair(random: &mut Random) -> (i64, String) {
    (number(random), "x".repeat(random.below(4)))
}

/// A float of any magnitude, among them zeros, subnormal and infinite ones.
fn float(random: &mut Random) -> f64 {
    match random.below(20) {
        0 => [0.0, -0.0, f64::MIN_POSITIVE, f64::from_bits(3), 1.0][random.below(5)],
        1 if random.is_chosen(5) => [f64::INFINITY, f64::NEG_INFINITY][random.below(2)],
        2..8 => random.between(-1_000, 1_000) as f64 / 8.0,
        _ => {
            let value = f64::from_bits(random.bits());
            if value.is_finite() { value } else { 1e300 }
        }
    }
}

#[test]
fn counts_sums_and_extremes() {
    check::<i64, _>(&Count, number);
    check(&Sum::of(|n: &i64| *n), number);
    check(&Mean::of(|n: &i64| *n), number);
    check(&Min::of(|n: &i64| *n), number);
    check(&Max::of(|n: &i64| *n), number);
    let both = (Count, Max::of(|n: &i64| *n), Sum::of(|n: &i64| *n).then(|sum| sum * 2));
    check(&both, number);
}

#[test]
fn reductions() {
    check(&Reduce::commutative(|a: &i64, b: &i64| *a.max(b)), number);
}

#[test]
fn ordered_records() {
    check(&TopN::by(3, |r: &(i64, String)| r.0), pair);
    check(&TopN::least(5, |r: &(i64, String)| r.0).then_by(|r| r.1.len()), pair);
    check(&TopN::by(1, |_: &(i64, String)| 0), pair);
    check(&MinBy::of(|r: &(i64, String)| r.0), pair);
    check(&MaxBy::of(|r: &(i64, String)| r.1.len()), pair);
}

#[test]
fn distinct_keys() {
    check(&CountDistinct::of(|n: &i64| *n), number);
    check(&ApproxDistinct::of(|r: &(i64, String)| r.clone()), pair);
    // Few registers, so that both forms occur.
    check(&ApproxDistinct::of(|bits: &u64| *bits).precision(4), Random::bits);
    check(&ApproxDistinct::of(|bits: &u64| *bits).precision(6), Random::bits);
}

#[test]
fn floats() {
    check(&FloatSum::of(|x: &f64| *x), float);
    check(&FloatMean::of(|x: &f64| *x), float);
    check(&Quantiles::of(|x: &f64| *x), float);
    check(&Quantiles::of(|x: &f64| *x).relative_error(0.2), float);
}

#[test]
fn collections() {
    check(&Collect, number);
}

#[test]
fn a_tuple_is_of_the_least_level_and_has_all_problems() {
    let top = TopN::by(0, |n: &i64| *n);
    let distinct = ApproxDistinct::of(|n: &i64| *n).precision(30);
    let quantiles = Quantiles::of(|n: &i64| *n as f64).relative_error(f64::NAN);
    let all = (Count, Collect, top, distinct, quantiles.then(|sketch| sketch.count()));
    assert_eq!(all.level(), Level::D2);
    assert_eq!(all.problems().len(), 3, "{:?}", all.problems());
}

#[test]
fn a_job_with_a_wrong_aggregate_is_refused() {
    let job = crate::Job::new();
    let (sink, _) = thalweg_connectors::memory::sink();
    job.source("numbers", thalweg_connectors::memory::source(vec![1_i64, 2]))
        .key_by(|n| *n)
        .aggregate("top", (Count, TopN::by(0, |n: &i64| *n)))
        .sink("results", sink);
    let problem = job.into_graph().validate().expect_err("no records are asked for").to_string();
    assert!(problem.contains("top") && problem.contains("at least 1"), "{problem}");
}

#[test]
fn records_are_ranked_as_sorting_all_of_them_ranks_them() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut records: Vec<_> = (0..random.below(40)).map(|_| pair(&mut random)).collect();
        let top = TopN::by(7, |r: &(i64, String)| r.0);
        let least = TopN::least(7, |r: &(i64, String)| r.1.len()).then_by(|r| r.0);
        let (top, least) =
            (top.finish(&fold(&top, &records)), least.finish(&fold(&least, &records)));
        let first = |records: &[(i64, String)]| records.iter().take(7).cloned().collect::<Vec<_>>();
        records.sort_by_key(|r| (-r.0, encoded(r)));
        assert_eq!(top, first(&records), "seed {seed}");
        records.sort_by_key(|r| (r.1.len(), r.0));
        assert_eq!(least, first(&records), "seed {seed}");
    }
}
