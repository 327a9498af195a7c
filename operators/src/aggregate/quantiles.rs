//! `Quantiles`: quantiles within a relative error, by DDSketch.
//!
//! DDSketch (Masson, Rim, Lee, *DDSketch: A Fast and Fully-Mergeable Quantile Sketch*, VLDB 2019)
//! counts values in bins whose bounds grow by a constant factor. Bins are numbered by the cubic
//! interpolation of the logarithm that DataDog's implementations use: 1 % more bins than with
//! the logarithm, and the same on every machine, which a library's logarithm need not be.
//!
//! It is written here because the crates for it keep a sum of floats beside the bins, which
//! depends on the order of the values.
//!
//! # Invariants
//! * I1 Equal values in whatever order and parts give equal sketches, down to their encoding.
//! * I2 Of the values above zero, and of those below, the [`MAX_BINS`] bins of the greatest
//!   magnitudes are kept; the least of them also counts all smaller magnitudes. That holds in any
//!   order: a bin is counted into another only when `MAX_BINS` greater ones are known.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use super::Aggregate;

/// Bins on either side of zero. At an error of 1 % they span 35 orders of magnitude.
pub const MAX_BINS: usize = 4_096;

/// Quantiles of floating-point numbers, within a relative error: 1 % unless said otherwise.
///
/// # Cost
/// Per record a few multiplications and a search among the bins that are in use. Memory: 16 bytes
/// per bin in use, at most twice [`MAX_BINS`].
///
/// ```
/// use thalweg_operators::{Aggregate, Quantiles};
///
/// let delays = Quantiles::of(|delay: &f64| *delay).relative_error(0.02);
/// let mut sketch = delays.create();
/// for delay in 1..=1_000 {
///     delays.add(&mut sketch, &f64::from(delay));
/// }
/// let sketch = delays.finish(&sketch);
/// let p99 = sketch.quantile(0.99).expect("there are values");
/// assert!((p99 - 990.0).abs() <= 0.02 * 990.0);
/// assert_eq!((sketch.count(), sketch.max()), (1_000, Some(1_000.0)));
/// ```
pub struct Quantiles<F, T> {
    value: F,
    relative_error: f64,
    records: PhantomData<fn(&T)>,
}

impl<T, F: Fn(&T) -> f64> Quantiles<F, T> {
    /// A sketch of `value` over the records.
    pub fn of(value: F) -> Self {
        Quantiles { value, relative_error: 0.01, records: PhantomData }
    }

    /// How far a quantile may be off, as a share of its value; from 0.00001 to 0.5. A
    /// changed error does not fit the state of earlier runs.
    #[must_use]
    pub fn relative_error(self, relative_error: f64) -> Self {
        Quantiles { relative_error, ..self }
    }
}

impl<T: 'static, F: Fn(&T) -> f64 + Send + Sync + 'static> Aggregate<T> for Quantiles<F, T> {
    type Accumulator = Sketch;
    type Out = Sketch;

    fn create(&self) -> Sketch {
        Sketch::new(self.relative_error)
    }

    fn add(&self, sketch: &mut Sketch, record: &T) {
        sketch.add((self.value)(record));
    }

    fn merge(&self, sketch: &mut Sketch, other: &Sketch) {
        sketch.merge(other);
    }

    fn finish(&self, sketch: &Sketch) -> Sketch {
        sketch.clone()
    }

    fn problems(&self) -> Vec<String> {
        let error = self.relative_error;
        match (1e-5..=0.5).contains(&error) {
            true => Vec::new(),
            false => {
                vec![format!("the relative error of Quantiles is from 0.00001 to 0.5, not {error}")]
            }
        }
    }
}

/// A distribution of numbers; see [`Quantiles`].
///
/// Infinities count as values. What is not a number is counted apart and is no value. Zeros of
/// either sign and magnitudes below 2.2e-308 (`f64::MIN_POSITIVE`) count as zero.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sketch {
    /// Bins per doubling, times the correction of the interpolation.
    scale: f64,
    positive: Bins,
    negative: Bins,
    zeros: u64,
    /// How many are negative and positive infinity.
    infinite: (u64, u64),
    not_numbers: u64,
    extremes: Option<(f64, f64)>,
}

/// Counts by bin, in order of the bin.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Bins(Vec<(i32, u64)>);

impl Bins {
    fn add(&mut self, bin: i32, count: u64) {
        let place = self.0.partition_point(|(other, _)| *other < bin);
        match self.0.get_mut(place) {
            Some((other, sum)) if *other == bin => *sum += count,
            _ => {
                self.0.insert(place, (bin, count));
                self.collapse();
            }
        }
    }

    fn merge(&mut self, other: &Bins) {
        let (mut merged, mut mine) = (Vec::with_capacity(self.0.len()), self.0.iter().peekable());
        for &(bin, count) in &other.0 {
            while let Some(before) = mine.next_if(|(other, _)| *other < bin) {
                merged.push(*before);
            }
            let same = mine.next_if(|(other, _)| *other == bin);
            merged.push((bin, count + same.map_or(0, |(_, count)| *count)));
        }
        merged.extend(mine);
        self.0 = merged;
        self.collapse();
    }

    /// Counts the least bins into the next one, until they are few enough (I2).
    fn collapse(&mut self) {
        let excess = self.0.len().saturating_sub(MAX_BINS);
        if excess > 0 {
            let lost: u64 = self.0.drain(..excess).map(|(_, count)| count).sum();
            self.0[0].1 += lost;
        }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }
}

impl Sketch {
    fn new(relative_error: f64) -> Self {
        // Bins grow by (1 + e) / (1 - e) at most, whose logarithm is 2 (e + e³/3 + e⁵/5 + …): a
        // library's logarithm may differ in its last bit from machine to machine.
        let (mut growth, mut power) = (0.0, relative_error);
        for odd in (1..).step_by(2).take_while(|odd| *odd < 64) {
            growth += 2.0 * power / f64::from(odd);
            power *= relative_error * relative_error;
        }
        Sketch {
            // The slope of the interpolation is 10/7 ln 2 at least, instead of 1.
            scale: 7.0 / (10.0 * growth),
            positive: Bins::default(),
            negative: Bins::default(),
            zeros: 0,
            infinite: (0, 0),
            not_numbers: 0,
            extremes: None,
        }
    }

    fn add(&mut self, value: f64) {
        if value.is_nan() {
            self.not_numbers += 1;
            return;
        }
        let magnitude = value.abs();
        // Adding zero makes a negative zero positive.
        self.widen(value + 0.0, value + 0.0);
        match (magnitude.is_infinite(), value > 0.0) {
            (true, false) => self.infinite.0 += 1,
            (true, true) => self.infinite.1 += 1,
            _ if magnitude < f64::MIN_POSITIVE => self.zeros += 1,
            (false, true) => self.positive.add(bin(magnitude, self.scale), 1),
            (false, false) => self.negative.add(bin(magnitude, self.scale), 1),
        }
    }

    fn widen(&mut self, low: f64, high: f64) {
        let (least, greatest) = self.extremes.unwrap_or((low, high));
        self.extremes = Some((least.min(low), greatest.max(high)));
    }

    /// Adds what `other` has; both have the same relative error.
    fn merge(&mut self, other: &Sketch) {
        self.positive.merge(&other.positive);
        self.negative.merge(&other.negative);
        self.zeros += other.zeros;
        self.infinite.0 += other.infinite.0;
        self.infinite.1 += other.infinite.1;
        self.not_numbers += other.not_numbers;
        if let Some((low, high)) = other.extremes {
            self.widen(low, high);
        }
    }

    /// The number of values.
    pub fn count(&self) -> u64 {
        let finite = self.positive.count() + self.negative.count() + self.zeros;
        finite + self.infinite.0 + self.infinite.1
    }

    /// How many records had no number (`NaN`) for a value.
    pub fn not_numbers(&self) -> u64 {
        self.not_numbers
    }

    /// The least value, exactly.
    pub fn min(&self) -> Option<f64> {
        self.extremes.map(|(least, _)| least)
    }

    /// The greatest value, exactly.
    pub fn max(&self) -> Option<f64> {
        self.extremes.map(|(_, greatest)| greatest)
    }

    /// The value that the share `q` of the values does not exceed: of n values in rising order,
    /// counted from 0, number ⌊q (n - 1)⌋. Within the relative error, and within least and
    /// greatest value; where more than [`MAX_BINS`] bins were needed, magnitudes below theirs are
    /// given as the least of theirs.
    ///
    /// `q` is taken to be within 0 and 1. None if there are no values, or if `q` is not a number.
    ///
    /// # Cost
    /// Goes over the bins.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let (least, greatest) = self.extremes?;
        if q.is_nan() {
            return None;
        }
        let mut rank = (q.clamp(0.0, 1.0) * (self.count() - 1) as f64) as u64;
        let negative = self.negative.0.iter().rev().map(|&(bin, count)| (Some((bin, -1.0)), count));
        let positive = self.positive.0.iter().map(|&(bin, count)| (Some((bin, 1.0)), count));
        let bins = negative.chain([(None, self.zeros)]).chain(positive);
        if rank < self.infinite.0 {
            return Some(f64::NEG_INFINITY);
        }
        rank -= self.infinite.0;
        for (bin, count) in bins {
            if rank < count {
                let value = bin.map_or(0.0, |(bin, sign)| sign * middle(bin, self.scale));
                return Some(value.clamp(least, greatest));
            }
            rank -= count;
        }
        Some(f64::INFINITY)
    }
}

/// The bin of a normal positive number: the interpolated logarithm in units of a bin.
fn bin(magnitude: f64, scale: f64) -> i32 {
    let bits = magnitude.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let s = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52) - 1.0;
    let interpolated = ((6.0 / 35.0 * s - 3.0 / 5.0) * s + 10.0 / 7.0) * s + exponent as f64;
    (interpolated * scale).floor() as i32
}

/// The number whose relative distance from both ends of a bin is the same.
fn middle(number: i32, scale: f64) -> f64 {
    let (low, high) = (bound(number, scale), bound(number.saturating_add(1), scale));
    // 2 low high / (low + high), in an order that does not overflow.
    low * (2.0 / (1.0 + low / high))
}

/// The least number of a bin, found among all normal numbers, which sort like their bits.
fn bound(number: i32, scale: f64) -> f64 {
    let (mut low, mut high) = (f64::MIN_POSITIVE.to_bits(), f64::MAX.to_bits());
    while low < high {
        let middle = low + (high - low) / 2;
        match bin(f64::from_bits(middle), scale) < number {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    f64::from_bits(low)
}
