//! The simulator's random numbers: one seed, the same sequence on every machine.

use crate::decider::Decider;

/// A SplitMix64 generator (Steele, Lea, Flood: *Fast Splittable Pseudorandom Number Generators*,
/// OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low + 1) as u64) as i64
    }

    /// True `percent` times in a hundred.
    pub fn is_chosen(&mut self, percent: u32) -> bool {
        self.bits() % 100 < u64::from(percent)
    }
}

impl Decider for Random {
    fn choose(&mut self, count: usize) -> usize {
        self.below(count)
    }
}
