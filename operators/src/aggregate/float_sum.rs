//! `FloatSum` and `FloatMean`: sums of floating-point numbers that no order changes.
//!
//! The sum is kept exactly, as a fixed-point number wide enough for every `f64`, in limbs of 32
//! bits with room for carries: the small superaccumulator of Neal, *Fast exact summation using
//! small and large superaccumulators* (2015), here with only the limbs that are in use. It is
//! rounded once, when the result is given out.
//!
//! # Invariants
//! * I1 The sum is Σ `limbs[i]` · 2^(32 (`base` + i) - 1074).
//! * I2 A limb's magnitude is at most 2^32 + `pending` · 2^53, and `pending` at most
//!   `MAX_PENDING`: nothing overflows.
//! * I3 What is encoded has all carries done and no limb too many: equal sums have equal
//!   encodings.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Aggregate;

const LIMB_BITS: u32 = 32;
const LIMB_MASK: i64 = (1 << LIMB_BITS) - 1;

/// The exponent of the least bit of an `f64`, negated.
const LEAST_EXPONENT: i32 = 1_074;

/// Additions between carries: 512 · 2^53 = 2^62.
const MAX_PENDING: u32 = 512;

/// The sum of floating-point numbers, exact and then rounded to the nearest `f64`, so that it
/// depends neither on the order of the records nor on how they were spread: of level D4.
///
/// Intermediate sums do not overflow; a sum beyond the greatest `f64` is infinite. With an
/// infinite value the sum is infinite; with infinities of both signs, or with a value that is not
/// a number, it is not a number. The sum of no values, or of zeros of either sign, is `0.0`.
///
/// # Cost
/// About five times a plain addition per record. Memory: 8 bytes per 32 bits between the lowest
/// and the highest bit in use, some 24 to 40 bytes for usual numbers.
///
/// ```
/// use thalweg_operators::{Aggregate, FloatSum};
///
/// let sum = FloatSum::of(|x: &f64| *x);
/// let mut exact = sum.create();
/// for x in [1e16, 1.0, -1e16] {
///     sum.add(&mut exact, &x);
/// }
/// assert_eq!(sum.finish(&exact), 1.0);
/// ```
pub struct FloatSum<F, T>(F, PhantomData<fn(&T)>);

impl<T, F: Fn(&T) -> f64> FloatSum<F, T> {
    /// The sum of `value` over the records.
    pub fn of(value: F) -> Self {
        FloatSum(value, PhantomData)
    }
}

impl<T: 'static, F: Fn(&T) -> f64 + Send + Sync + 'static> Aggregate<T> for FloatSum<F, T> {
    type Accumulator = ExactSum;
    type Out = f64;

    fn create(&self) -> ExactSum {
        ExactSum::default()
    }

    #[inline]
    fn add(&self, sum: &mut ExactSum, record: &T) {
        sum.add((self.0)(record));
    }

    fn merge(&self, sum: &mut ExactSum, other: &ExactSum) {
        sum.merge(other);
    }

    fn finish(&self, sum: &ExactSum) -> f64 {
        sum.rounded()
    }
}

/// The mean of floating-point numbers: the sum as of [`FloatSum`], divided by their number. None
/// if there are no records.
pub struct FloatMean<F, T>(F, PhantomData<fn(&T)>);

impl<T, F: Fn(&T) -> f64> FloatMean<F, T> {
    /// The mean of `value` over the records.
    pub fn of(value: F) -> Self {
        FloatMean(value, PhantomData)
    }
}

impl<T: 'static, F: Fn(&T) -> f64 + Send + Sync + 'static> Aggregate<T> for FloatMean<F, T> {
    type Accumulator = (ExactSum, u64);
    type Out = Option<f64>;

    fn create(&self) -> (ExactSum, u64) {
        (ExactSum::default(), 0)
    }

    #[inline]
    fn add(&self, (sum, count): &mut (ExactSum, u64), record: &T) {
        sum.add((self.0)(record));
        *count += 1;
    }

    fn merge(&self, (sum, count): &mut (ExactSum, u64), other: &(ExactSum, u64)) {
        sum.merge(&other.0);
        *count += other.1;
    }

    fn finish(&self, (sum, count): &(ExactSum, u64)) -> Option<f64> {
        (*count > 0).then(|| sum.rounded() / *count as f64)
    }
}

/// An exact sum of floating-point numbers; see [`FloatSum`].
#[derive(Clone, Debug, Default)]
pub struct ExactSum {
    base: usize,
    limbs: Vec<i64>,
    pending: u32,
    special: Special,
}

/// Which values that are no finite numbers there were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Special {
    not_a_number: bool,
    negative: bool,
    positive: bool,
}

impl ExactSum {
    #[inline]
    fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52) as u32 & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, shift) = match exponent {
            0 if fraction == 0 => return,
            0 => (fraction, 0),
            0x7ff => return self.add_special(value),
            _ => (fraction | 1 << 52, exponent - 1),
        };
        let limb = (shift / LIMB_BITS) as usize;
        if limb < self.base || limb + 2 > self.base + self.limbs.len() {
            self.cover(limb, limb + 2);
        }
        if self.pending >= MAX_PENDING {
            self.carry();
        }
        self.pending += 1;
        let wide = u128::from(mantissa) << (shift % LIMB_BITS);
        let (low, high) = (wide as i64 & LIMB_MASK, (wide >> LIMB_BITS) as i64);
        // All ones if the value is negative: xor and subtraction negate.
        let sign = (bits as i64) >> 63;
        if let [first, second, ..] = &mut self.limbs[limb - self.base..] {
            *first += (low ^ sign) - sign;
            *second += (high ^ sign) - sign;
        }
    }

    #[cold]
    fn add_special(&mut self, value: f64) {
        self.special.not_a_number |= value.is_nan();
        self.special.negative |= value == f64::NEG_INFINITY;
        self.special.positive |= value == f64::INFINITY;
    }

    /// Makes room for the limbs from `first` to `end`.
    #[cold]
    fn cover(&mut self, first: usize, end: usize) {
        if self.limbs.is_empty() {
            self.base = first;
        }
        if first < self.base {
            self.limbs.splice(0..0, std::iter::repeat_n(0, self.base - first));
            self.base = first;
        }
        if end > self.base + self.limbs.len() {
            self.limbs.resize(end - self.base, 0);
        }
    }

    /// Carries from limb to limb: all but the last are within 0 and 2^32 then.
    fn carry(&mut self) {
        let mut carry = 0;
        for limb in &mut self.limbs {
            let sum = *limb + carry;
            *limb = sum & LIMB_MASK;
            carry = sum >> LIMB_BITS;
        }
        while carry != 0 {
            // What is left of a negative number is -1 in each limb from here on.
            if carry == -1
                && let Some(last) = self.limbs.last_mut()
            {
                *last -= 1 << LIMB_BITS;
                break;
            }
            self.limbs.push(carry & LIMB_MASK);
            carry >>= LIMB_BITS;
        }
        self.pending = 0;
    }

    fn merge(&mut self, other: &ExactSum) {
        self.special.not_a_number |= other.special.not_a_number;
        self.special.negative |= other.special.negative;
        self.special.positive |= other.special.positive;
        if other.limbs.is_empty() {
            return;
        }
        // The limbs of `other` count as one addition more than it has pending.
        if self.pending + other.pending + 1 > MAX_PENDING {
            self.carry();
            if other.pending + 1 > MAX_PENDING {
                let mut other = other.clone();
                other.carry();
                return self.merge(&other);
            }
        }
        self.cover(other.base, other.base + other.limbs.len());
        for (limb, other) in self.limbs[other.base - self.base..].iter_mut().zip(&other.limbs) {
            *limb += other;
        }
        self.pending += other.pending + 1;
    }

    /// The same sum in its only form: carries done, a negative sum's last limb -1, and neither
    /// zeros nor copies of the sign to spare (I3).
    fn canonical(&self) -> Self {
        let mut sum = self.clone();
        sum.carry();
        if let Some(last) = sum.limbs.last_mut().filter(|last| **last < 0) {
            *last += 1 << LIMB_BITS;
            sum.limbs.push(-1);
        }
        while let Some(last) = sum.limbs.pop() {
            match (sum.limbs.last_mut(), last) {
                (_, 0) => {}
                (Some(next), -1) if *next == LIMB_MASK => *next = -1,
                _ => {
                    sum.limbs.push(last);
                    break;
                }
            }
        }
        let zeros = sum.limbs.iter().take_while(|limb| **limb == 0).count();
        sum.limbs.drain(..zeros);
        sum.base = if sum.limbs.is_empty() { 0 } else { sum.base + zeros };
        sum
    }

    /// The nearest `f64`, ties to even.
    fn rounded(&self) -> f64 {
        match (self.special.not_a_number, self.special.negative, self.special.positive) {
            (true, ..) | (_, true, true) => return f64::NAN,
            (_, true, _) => return f64::NEG_INFINITY,
            (_, _, true) => return f64::INFINITY,
            _ => {}
        }
        let mut sum = self.canonical();
        let is_negative = sum.limbs.last().is_some_and(|last| *last < 0);
        if is_negative {
            sum.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            sum = sum.canonical();
        }
        // The three highest limbs have 65 significant bits at least; of those below it only counts
        // whether there are any, which the least bit can say.
        let below = sum.limbs.len().saturating_sub(3);
        let mut high = 0_u128;
        for limb in sum.limbs[below..].iter().rev() {
            high = high << LIMB_BITS | *limb as u128;
        }
        high |= u128::from(sum.limbs[..below].iter().any(|limb| *limb != 0));
        let exponent = (LIMB_BITS as usize * (sum.base + below)) as i32 - LEAST_EXPONENT;
        let magnitude = scaled(high as f64, exponent);
        if is_negative { -magnitude } else { magnitude }
    }
}

/// `value` · 2^`exponent`, for whole values. A value below 2^53 times the least `f64` is exact.
fn scaled(value: f64, exponent: i32) -> f64 {
    let power = match exponent {
        1_024.. => return if value == 0.0 { 0.0 } else { f64::INFINITY },
        -1_022.. => f64::from_bits(((exponent + 1_023) as u64) << 52),
        _ => f64::from_bits(1 << (exponent + LEAST_EXPONENT).max(0)),
    };
    value * power
}

impl Serialize for ExactSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let canonical = self.canonical();
        (canonical.base as u32, canonical.limbs, self.special).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ExactSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (base, limbs, special) = <(u32, Vec<i64>, Special)>::deserialize(deserializer)?;
        let is_sound = base < 128 && limbs.len() < 128;
        let bound = 1_i64 << LIMB_BITS;
        if !is_sound || limbs.iter().any(|limb| limb.abs() > bound) {
            return Err(serde::de::Error::custom("no exact sum has such limbs"));
        }
        Ok(ExactSum { base: base as usize, limbs, pending: 0, special })
    }
}
