//! A table that counts keys: open addressing, linear probing, at most half full.

/// Slots of a new table.
const FIRST_SLOTS: usize = 256;

/// How often each key occurred.
pub(super) struct Counts {
    /// Key and count; the count of a free slot is 0. The number of slots is a power of two.
    slots: Vec<(u64, u64)>,
    /// Slots that are not free.
    used: usize,
    /// 64 minus the logarithm of the number of slots.
    shift: u32,
}

impl Default for Counts {
    fn default() -> Self {
        let shift = u64::BITS - FIRST_SLOTS.ilog2();
        Counts { slots: vec![(0, 0); FIRST_SLOTS], used: 0, shift }
    }
}

impl Counts {
    /// Counts `count` occurrences of `key`, at least one.
    #[inline]
    pub(super) fn add(&mut self, key: u64, count: u64) {
        let index = self.find(key);
        let slot = &mut self.slots[index];
        slot.1 += count;
        if slot.1 == count {
            slot.0 = key;
            self.used += 1;
            if self.used * 2 > self.slots.len() {
                self.grow();
            }
        }
    }

    /// The keys that occurred, in no useful order, with their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.slots.iter().copied().filter(|&(_, count)| count > 0)
    }

    /// The slot of `key`, or the free one where it belongs.
    #[inline]
    fn find(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        // Fibonacci hashing (Knuth, TAOCP 6.4): the top bits spread consecutive keys evenly.
        let mut index = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        loop {
            let (found, count) = self.slots[index];
            if found == key || count == 0 {
                return index;
            }
            index = (index + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let slots = vec![(0, 0); self.slots.len() * 2];
        self.shift -= 1;
        for (key, count) in std::mem::replace(&mut self.slots, slots) {
            if count > 0 {
                let index = self.find(key);
                self.slots[index] = (key, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn every_key_keeps_its_count_while_the_table_grows() {
        let mut counts = Counts::default();
        for round in 0..3_u64 {
            for key in (0..5_000).chain([u64::MAX]) {
                // Key k occurs in rounds 0 to k mod 3.
                if round <= key % 3 {
                    counts.add(key, 1);
                }
            }
        }
        let mut all: Vec<_> = counts.iter().collect();
        all.sort_unstable();
        let expected: Vec<_> = (0..5_000).chain([u64::MAX]).map(|key| (key, key % 3 + 1)).collect();
        assert_eq!(all, expected);
    }
}
