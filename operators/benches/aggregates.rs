//! What a record costs in an aggregate, and what an accumulator takes when it is stored.
//!
//! `cargo bench -p thalweg-operators --no-default-features --bench aggregates`

use std::hint::black_box;
use std::time::Instant;

use thalweg_engine::state::codec;
use thalweg_operators::{
    Aggregate, ApproxDistinct, CountDistinct, FloatMean, FloatSum, Max, MaxBy, Mean, Quantiles,
    Reduce, Sum, TopN,
};

const RECORDS: usize = 1_000_000;

/// Numbers that look random (splitmix64).
fn random(i: u64) -> u64 {
    let z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A plain sum, which depends on the order of the records.
struct PlainSum;

impl Aggregate<f64> for PlainSum {
    type Accumulator = f64;
    type Out = f64;

    fn create(&self) -> f64 {
        0.0
    }

    fn add(&self, sum: &mut f64, record: &f64) {
        *sum += record;
    }

    fn merge(&self, sum: &mut f64, other: &f64) {
        *sum += other;
    }

    fn finish(&self, sum: &f64) -> f64 {
        *sum
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn measure<T, A: Aggregate<T>>(name: &str, aggregate: A, records: &[T]) {
    let mut folded = aggregate.create();
    let (mut add, mut merge) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..5 {
        folded = aggregate.create();
        let start = Instant::now();
        for record in records {
            aggregate.add(&mut folded, black_box(record));
        }
        add = add.min(start.elapsed().as_nanos() as f64 / records.len() as f64);
        let start = Instant::now();
        let mut merged = aggregate.create();
        for _ in 0..100 {
            aggregate.merge(&mut merged, black_box(&folded));
        }
        merge = merge.min(start.elapsed().as_nanos() as f64 / 100.0);
        black_box(aggregate.finish(&merged));
    }
    let mut bytes = Vec::new();
    codec::encode(&folded, &mut bytes).expect("an accumulator can be encoded");
    println!("| {name} | {add:.1} | {merge:.0} | {} |", bytes.len());
}

fn main() {
    let integers: Vec<i64> = (0..RECORDS as u64).map(|i| (random(i) >> 44) as i64).collect();
    let prices: Vec<f64> = integers.iter().map(|n| *n as f64 / 100.0).collect();
    let spread: Vec<f64> = integers.iter().map(|n| (*n as f64 / 1e5).exp()).collect();
    println!("| aggregate | ns a record | ns a merge | bytes stored |");
    println!("|---|---|---|---|");
    measure("Sum", Sum::of(|n: &i64| *n), &integers);
    measure("Mean", Mean::of(|n: &i64| *n), &integers);
    measure("Max", Max::of(|n: &i64| *n), &integers);
    measure("a plain sum of f64", PlainSum, &prices);
    measure("Reduce, f64 +", Reduce::with(|a: &f64, b: &f64| a + b), &prices);
    measure("FloatSum", FloatSum::of(|x: &f64| *x), &prices);
    measure("FloatSum, spread", FloatSum::of(|x: &f64| *x), &spread);
    measure("FloatMean", FloatMean::of(|x: &f64| *x), &prices);
    measure("Quantiles", Quantiles::of(|x: &f64| *x), &prices);
    measure("Quantiles, spread", Quantiles::of(|x: &f64| *x), &spread);
    measure("ApproxDistinct", ApproxDistinct::of(|n: &i64| *n), &integers);
    measure("ApproxDistinct, 100 keys", ApproxDistinct::of(|n: &i64| *n % 100), &integers);
    measure("CountDistinct, 100 keys", CountDistinct::of(|n: &i64| *n % 100), &integers);
    measure("TopN, 10", TopN::by(10, |n: &i64| *n), &integers);
    measure("MaxBy", MaxBy::of(|n: &i64| *n), &integers);
}
