//! `CountDistinct` and `ApproxDistinct`: how many different keys there are.
//!
//! `ApproxDistinct` is HyperLogLog (Flajolet, Fusy, Gandouet, Meunier 2007) over 64-bit hashes,
//! with sparse registers (after Heule, Nunkesser, Hall 2013, *HyperLogLog in Practice*) and the
//! estimator of Ertl, *New cardinality estimation algorithms for HyperLogLog sketches* (2017,
//! algorithm 6), which is unbiased over the whole range without tables of corrections.
//!
//! It is written here because the crates for it either seed their hash at random, or keep what
//! depends on the order of records (historic inverse probabilities), or have no sparse form.
//!
//! # Invariants
//! * I1 The registers are the maxima over all records, in whatever order and parts they came.
//! * I2 They are sparse if, and only if, at most a quarter of them is set: equal registers have
//!   equal encodings.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use thalweg_engine::Data;
use thalweg_engine::state::hash_key;

use super::Aggregate;

/// Counts different keys, exactly.
///
/// # Cost
/// Memory for every different key, until the result is given out, and a merge touches all of
/// them. [`ApproxDistinct`] takes a few kilobytes at most.
pub struct CountDistinct<F, T>(F, PhantomData<fn(&T)>);

impl<T, K, F: Fn(&T) -> K> CountDistinct<F, T> {
    /// The number of different `key`s.
    pub fn of(key: F) -> Self {
        CountDistinct(key, PhantomData)
    }
}

impl<T: 'static, K: Data + Ord, F> Aggregate<T> for CountDistinct<F, T>
where
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type Accumulator = BTreeSet<K>;
    type Out = u64;

    fn create(&self) -> BTreeSet<K> {
        BTreeSet::new()
    }

    fn add(&self, keys: &mut BTreeSet<K>, record: &T) {
        keys.insert((self.0)(record));
    }

    fn merge(&self, keys: &mut BTreeSet<K>, other: &BTreeSet<K>) {
        keys.extend(other.iter().cloned());
    }

    fn finish(&self, keys: &BTreeSet<K>) -> u64 {
        keys.len() as u64
    }
}

/// Estimates the number of different keys.
///
/// With precision p the standard error is 1.04 / √2^p: 1.6 % for the default of 12. Few different
/// keys (up to about 2^p / 20) are all but exact.
///
/// # Cost
/// Per record a hash and a look at one register. Memory: 4 bytes per register that is set, 2^p
/// bytes at most. While registers are few, setting a new one moves the greater ones.
///
/// ```
/// use thalweg_operators::{Aggregate, ApproxDistinct};
///
/// let visitors = ApproxDistinct::of(|visitor: &u64| *visitor);
/// let mut registers = visitors.create();
/// for visit in 0..100_000_u64 {
///     visitors.add(&mut registers, &(visit % 50_000));
/// }
/// assert!((49_000..51_000).contains(&visitors.finish(&registers)));
/// ```
pub struct ApproxDistinct<F, T> {
    key: F,
    precision: u8,
    records: PhantomData<fn(&T)>,
}

impl<T, K, F: Fn(&T) -> K> ApproxDistinct<F, T> {
    /// An estimate of the number of different `key`s.
    pub fn of(key: F) -> Self {
        ApproxDistinct { key, precision: 12, records: PhantomData }
    }

    /// Uses 2^`precision` registers; from 4 (26 % standard error, 16 bytes) to 18 (0.2 %,
    /// 256 KiB). A changed precision does not fit the state of earlier runs.
    #[must_use]
    pub fn precision(self, precision: u8) -> Self {
        ApproxDistinct { precision, ..self }
    }
}

/// What [`ApproxDistinct`] keeps: the greatest rank per register.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Registers {
    /// Those that are set: 256 × index + rank, by rising index.
    Sparse(Vec<u32>),
    /// All of them.
    Dense(Vec<u8>),
}

impl Registers {
    fn raise(&mut self, index: u32, rank: u8, precision: u8) {
        match self {
            Registers::Dense(ranks) => {
                if let Some(old) = ranks.get_mut(index as usize) {
                    *old = rank.max(*old);
                }
            }
            Registers::Sparse(set) => {
                let entry = index << 8 | u32::from(rank);
                let place = set.partition_point(|other| other >> 8 < index);
                match set.get_mut(place) {
                    Some(old) if *old >> 8 == index => *old = entry.max(*old),
                    _ => set.insert(place, entry),
                }
                self.spread(precision);
            }
        }
    }

    /// Takes the dense form if too many registers are set for the sparse one.
    fn spread(&mut self, precision: u8) {
        if let Registers::Sparse(set) = self
            && set.len() > 1 << (precision - 2)
        {
            let mut ranks = vec![0; 1 << precision];
            for entry in set {
                if let Some(rank) = ranks.get_mut(*entry as usize >> 8) {
                    *rank = *entry as u8;
                }
            }
            *self = Registers::Dense(ranks);
        }
    }

    fn merge(&mut self, other: &Registers, precision: u8) {
        match (&mut *self, other) {
            (Registers::Dense(ranks), Registers::Dense(others)) => {
                for (rank, other) in ranks.iter_mut().zip(others) {
                    *rank = (*rank).max(*other);
                }
            }
            (Registers::Sparse(_), Registers::Dense(_)) => {
                let sparse = std::mem::replace(self, other.clone());
                self.merge(&sparse, precision);
            }
            (Registers::Dense(_), Registers::Sparse(others)) => {
                others.iter().for_each(|e| self.raise(e >> 8, *e as u8, precision));
            }
            (Registers::Sparse(set), Registers::Sparse(others)) => {
                set.extend_from_slice(others);
                // Of entries with one index the greatest rank comes first and stays.
                set.sort_unstable_by_key(|entry| (entry >> 8, !entry));
                set.dedup_by_key(|entry| *entry >> 8);
                self.spread(precision);
            }
        }
    }

    /// The estimate (Ertl 2017, algorithm 6).
    fn estimate(&self, precision: u8) -> f64 {
        let registers = 1_u32 << precision;
        let greatest = usize::from(64 - precision + 1);
        let mut counts = vec![0_u32; greatest + 1];
        match self {
            Registers::Dense(ranks) => {
                ranks.iter().for_each(|rank| counts[greatest.min(usize::from(*rank))] += 1);
            }
            Registers::Sparse(set) => {
                set.iter().for_each(|entry| counts[greatest.min(*entry as usize & 255)] += 1);
                counts[0] = registers.saturating_sub(set.len() as u32);
            }
        }
        let m = f64::from(registers);
        let mut z = m * tau(1.0 - f64::from(counts[greatest]) / m);
        for count in counts[1..greatest].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(f64::from(counts[0]) / m);
        m * m / (2.0 * std::f64::consts::LN_2 * z)
    }
}

/// x + Σ x^(2^k) 2^(k-1), for the registers that are not set.
fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// (1 - x - Σ (1 - x^(2^-k))² 2^-k) / 3, for the registers that are full.
fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Spreads a hash over all its bits (Stafford's variant 13 of MurmurHash3's finaliser): the hash
/// of a key is made for tables and key groups, which need its low bits only.
fn spread(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

impl<T: 'static, K: Serialize + 'static, F> Aggregate<T> for ApproxDistinct<F, T>
where
    F: Fn(&T) -> K + Send + Sync + 'static,
{
    type Accumulator = Registers;
    type Out = u64;

    fn create(&self) -> Registers {
        Registers::Sparse(Vec::new())
    }

    fn add(&self, registers: &mut Registers, record: &T) {
        // A key that cannot be serialised counts as one more, the same for all such keys.
        let hash = spread(hash_key(&(self.key)(record)).unwrap_or_default());
        let index = (hash >> (64 - self.precision)) as u32;
        let rank = (hash << self.precision).leading_zeros().min(64 - u32::from(self.precision)) + 1;
        registers.raise(index, rank as u8, self.precision);
    }

    fn merge(&self, registers: &mut Registers, other: &Registers) {
        registers.merge(other, self.precision);
    }

    fn finish(&self, registers: &Registers) -> u64 {
        registers.estimate(self.precision).round() as u64
    }

    fn problems(&self) -> Vec<String> {
        match self.precision {
            4..=18 => Vec::new(),
            other => vec![format!("the precision of ApproxDistinct is from 4 to 18, not {other}")],
        }
    }
}
