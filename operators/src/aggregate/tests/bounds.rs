//! How exact the results are: distinct counts, quantiles and sums against the truth.

use thalweg_engine::sim::Random;

use super::{float, fold, shuffle};
use crate::aggregate::*;

/// Errors within four standard errors, and on the mean of many trials near none.
#[test]
fn distinct_counts_are_within_their_error() {
    for precision in [6, 10, 12, 14] {
        let distinct = ApproxDistinct::of(|key: &u64| *key).precision(precision);
        let standard_error = 1.04 / f64::from(1_u32 << precision).sqrt();
        for count in [0, 1, 2, 10, 100, 1_000, 5_000, 20_000, 100_000_u64] {
            let trials = 20;
            let mut bias = 0.0;
            for trial in 0..trials {
                // Whole numbers in a row: the hash must spread them.
                let keys: Vec<u64> = (0..count).map(|i| i + trial * 1_000_000).collect();
                let estimate = distinct.finish(&fold(&distinct, &keys)) as f64;
                let error = (estimate - count as f64) / (count as f64).max(1.0);
                let context = format!("{count} at precision {precision}: {estimate}");
                assert!(error.abs() <= 4.5 * standard_error, "{context}");
                bias += error / trials as f64;
            }
            assert!(bias.abs() <= standard_error, "{count} at precision {precision}: {bias}");
        }
    }
}

#[test]
fn few_distinct_keys_are_all_but_exact_and_stay_small() {
    let distinct = ApproxDistinct::of(|key: &String| key.clone());
    let keys: Vec<String> = (0..200).map(|i| format!("key {}", i % 50)).collect();
    let registers = fold(&distinct, &keys);
    assert!((49..=51).contains(&distinct.finish(&registers)));
    assert!(super::encoded(&registers).len() <= 2 + 5 * 50);
}

/// Of n values in rising order the one at ⌊q (n - 1)⌋.
fn exact(sorted: &[f64], q: f64) -> f64 {
    sorted[(q * (sorted.len() - 1) as f64) as usize]
}

#[test]
fn quantiles_are_within_their_relative_error() {
    for (seed, error) in [(1, 0.01), (2, 0.05), (3, 0.001), (4, 0.5), (5, 0.1)] {
        let mut random = Random::new(seed);
        let uniform = |random: &mut Random| random.between(1, 1_000_000) as f64 / 1e6;
        let shapes: [&dyn Fn(&mut Random) -> f64; 4] = [
            &|random| uniform(random) * 1_000.0,
            &|random| -uniform(random).ln() * 40.0 - 20.0,
            &|random| (uniform(random) * 12.0 - 6.0).exp(),
            &float,
        ];
        for (shape, value) in shapes.iter().enumerate() {
            let mut values: Vec<f64> = (0..3_000).map(|_| value(&mut random)).collect();
            let quantiles = Quantiles::of(|x: &f64| *x).relative_error(error);
            let sketch = quantiles.finish(&fold(&quantiles, &values));
            values.sort_by(f64::total_cmp);
            assert_eq!(sketch.count(), 3_000);
            assert_eq!((sketch.min(), sketch.max()), (Some(values[0]), Some(values[2_999])));
            for q in [0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0] {
                let (truth, found) = (exact(&values, q), sketch.quantile(q).expect("values"));
                // Magnitudes that f64 itself knows with few bits count as zero.
                let slack = error * truth.abs() * (1.0 + 1e-9) + f64::MIN_POSITIVE;
                let is_near = found == truth || (found - truth).abs() <= slack;
                assert!(is_near, "{q} of shape {shape}: {found} for {truth} at {error}");
            }
        }
    }
}

/// More bins than are kept: the greatest magnitudes stay exact, and the state does not depend on
/// the order.
#[test]
fn bins_collapse_the_same_way_in_any_order() {
    let mut random = Random::new(7);
    let mut values: Vec<f64> =
        (0..20_000).map(|i| 1.01_f64.powi(i % 10_000) * 1e-20).filter(|x| x.is_finite()).collect();
    let quantiles = Quantiles::of(|x: &f64| *x).relative_error(0.002);
    let whole = super::encoded(&fold(&quantiles, &values));
    for _ in 0..5 {
        shuffle(&mut random, &mut values);
        let mut parts: Vec<_> = values.chunks(3_000).map(|part| fold(&quantiles, part)).collect();
        shuffle(&mut random, &mut parts);
        let mut merged = quantiles.create();
        parts.iter().for_each(|part| quantiles.merge(&mut merged, part));
        assert!(super::encoded(&merged) == whole, "another state");
    }
    let sketch = quantiles.finish(&fold(&quantiles, &values));
    values.sort_by(f64::total_cmp);
    let (truth, found) = (exact(&values, 0.9), sketch.quantile(0.9).expect("values"));
    assert!((found - truth).abs() <= 0.002 * truth * (1.0 + 1e-9), "{found} for {truth}");
}

#[test]
fn sketches_know_infinities_zeros_and_what_is_no_number() {
    let quantiles = Quantiles::of(|x: &f64| *x);
    let values = [f64::NEG_INFINITY, -1.0, -0.0, 0.0, 1e-310, 2.0, f64::INFINITY, f64::NAN];
    let sketch = quantiles.finish(&fold(&quantiles, &values));
    assert_eq!((sketch.count(), sketch.not_numbers()), (7, 1));
    assert_eq!(sketch.quantile(0.0), Some(f64::NEG_INFINITY));
    assert_eq!(sketch.quantile(0.5), Some(0.0));
    assert_eq!(sketch.quantile(1.0), Some(f64::INFINITY));
    assert_eq!(sketch.quantile(f64::NAN), None);
    assert_eq!(quantiles.create().quantile(0.5), None);
}

fn sum(values: &[f64]) -> f64 {
    let sum = FloatSum::of(|x: &f64| *x);
    sum.finish(&fold(&sum, values))
}

/// Sums of numbers that are multiples of 2^-40, which 128 bits hold exactly; a whole number
/// becomes the nearest float when it is converted.
#[test]
fn sums_are_rounded_once() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let mut exact = 0_i128;
        let values: Vec<f64> = (0..random.below(30))
            .map(|_| {
                let whole = random.bits() as i64 >> 11 >> random.below(50);
                let shift = random.below(60) as u32;
                exact += i128::from(whole) << shift;
                whole as f64 * 2.0_f64.powi(shift as i32 - 40)
            })
            .collect();
        assert_eq!(sum(&values), exact as f64 * 2.0_f64.powi(-40), "seed {seed}: {values:?}");
    }
}

#[test]
fn sums_at_the_ends_of_the_range() {
    assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
    assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
    assert_eq!(sum(&[-f64::MAX, -1e292]), f64::NEG_INFINITY);
    assert_eq!(sum(&[f64::MAX, 1e290]), f64::MAX);
    let least = f64::from_bits(1);
    assert_eq!(sum(&[least, least, least]), f64::from_bits(3));
    assert_eq!(sum(&[1e300, least, -1e300]), least);
    assert_eq!(sum(&[f64::MIN_POSITIVE, -least]), f64::from_bits((1 << 52) - 1));
    // A tie goes to even; a bit far below decides it.
    let (half, odd) = (2.0_f64.powi(53), 2.0_f64.powi(53) + 2.0);
    assert_eq!(sum(&[half, 1.0]), half);
    assert_eq!(sum(&[odd, 1.0]), odd + 2.0);
    assert_eq!(sum(&[half, 1.0, least]), odd);
    assert_eq!(sum(&[odd, 1.0, -least]), odd);
    assert_eq!(sum(&[]).to_bits(), 0);
    assert_eq!(sum(&[-0.0, -0.0]).to_bits(), 0);
    assert_eq!(sum(&[f64::INFINITY, -f64::MAX, 1.0]), f64::INFINITY);
    assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    assert!(sum(&[f64::NAN, 1.0]).is_nan());
}

/// Carries: more additions of one sign than a limb has room for.
#[test]
fn many_additions_do_not_overflow_a_limb() {
    let most = f64::from_bits((1 << 52) - 1 | 1_054 << 52);
    for sign in [1.0, -1.0] {
        assert_eq!(sum(&vec![sign * most; 1 << 14]), sign * most * f64::from(1 << 14));
    }
    let total = FloatSum::of(|x: &f64| *x);
    let part = fold(&total, &vec![most; 511]);
    let mut merged = total.create();
    (0..4_096).for_each(|_| total.merge(&mut merged, &part));
    assert_eq!(total.finish(&merged), sum(&vec![most; 511 * 4_096]));
}
