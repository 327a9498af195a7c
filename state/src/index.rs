//! `Index`: finds the position of a key in a dense vector of entries, by its hash.
//!
//! Open addressing with linear probing and backward-shift deletion (Knuth, TAOCP 3, 6.4, algorithm
//! R). A slot is 0 if free, else the upper half of the hash and the position + 1.
//!
//! # Invariants
//! * I1 At most five eighths of the slots are taken, so every probe ends at a free one.
//! * I2 Between an entry's home slot and its slot no slot is free.
//! * I3 The home slot comes from bit 15 of the hash upwards: the bits below choose key groups, and
//!   a subtask sees few of their values.

const HOME_SHIFT: u32 = 15;
const TAG_MASK: u64 = 0xffff_ffff_0000_0000;
const MIN_SLOTS: usize = 16;

/// Slots of a hash table over a dense vector.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Empty, or a power of two of them.
    slots: Vec<u64>,
    taken: usize,
}

impl Index {
    /// The greatest number of entries: positions + 1 must fit 32 bits.
    pub(crate) const MAX_ENTRIES: usize = u32::MAX as usize - 1;

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> HOME_SHIFT) as usize & (self.slots.len() - 1)
    }

    /// The position of the first candidate for `hash`, without looking at keys.
    #[inline]
    pub(crate) fn candidate(&self, hash: u64) -> Option<usize> {
        self.find(hash, |_| true)
    }

    /// The position for `hash` at which `is_key` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_key: impl FnMut(usize) -> bool) -> Option<usize> {
        self.find_slot(hash, is_key).map(|(_, position)| position)
    }

    #[inline]
    fn find_slot(
        &self,
        hash: u64,
        mut is_key: impl FnMut(usize) -> bool,
    ) -> Option<(usize, usize)> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut slot = self.home(hash);
        loop {
            let content = self.slots[slot];
            if content == 0 {
                return None;
            }
            if (content ^ hash) & TAG_MASK == 0 {
                let position = content as u32 as usize - 1;
                if is_key(position) {
                    return Some((slot, position));
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Whether one more entry needs [`rebuild`](Index::rebuild) first.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        (self.taken + 1) * 8 > self.slots.len() * 5
    }

    /// Adds the entry at `position`, which is in no slot. There must be room.
    pub(crate) fn insert(&mut self, hash: u64, position: usize) {
        debug_assert!(!self.is_full(), "I1");
        let mask = self.slots.len() - 1;
        let mut slot = self.home(hash);
        while self.slots[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = (hash & TAG_MASK) | (position as u64 + 1);
        self.taken += 1;
    }

    /// Indexes the entries whose hashes these are, from position 0, with room for `entries` in all,
    /// at least one more.
    pub(crate) fn rebuild(&mut self, hashes: impl ExactSizeIterator<Item = u64>, entries: usize) {
        let entries = entries.max(hashes.len() + 1);
        let slots = (entries * 8).div_ceil(5).next_power_of_two().max(MIN_SLOTS);
        // The old slots go first.
        self.slots = Vec::new();
        self.slots = vec![0; slots];
        self.taken = 0;
        for (position, hash) in hashes.enumerate() {
            self.insert(hash, position);
        }
    }

    /// Removes the entry at `position` and renames the entry at `last` to `position`, as
    /// `Vec::swap_remove` does. `hash_of` gives the hash of each position before the swap.
    pub(crate) fn swap_remove(
        &mut self,
        position: usize,
        last: usize,
        hash_of: impl Fn(usize) -> u64,
    ) {
        let Some((hole, _)) = self.find_slot(hash_of(position), |found| found == position) else {
            return;
        };
        self.close(hole, &hash_of);
        if position != last {
            let hash = hash_of(last);
            if let Some((slot, _)) = self.find_slot(hash, |found| found == last) {
                self.slots[slot] = (hash & TAG_MASK) | (position as u64 + 1);
            }
        }
    }

    /// Frees a slot and shifts back what probed past it (I2).
    fn close(&mut self, mut hole: usize, hash_of: &impl Fn(usize) -> u64) {
        let mask = self.slots.len() - 1;
        let mut slot = hole;
        loop {
            slot = (slot + 1) & mask;
            let content = self.slots[slot];
            if content == 0 {
                break;
            }
            let home = self.home(hash_of(content as u32 as usize - 1));
            // The content may move back if its home is not between the hole and its slot.
            if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(hole) & mask {
                self.slots[hole] = content;
                hole = slot;
            }
        }
        self.slots[hole] = 0;
        self.taken -= 1;
    }

    /// Forgets all entries, keeping the slots.
    pub(crate) fn clear(&mut self) {
        self.slots.fill(0);
        self.taken = 0;
    }

    /// The slots' size, in bytes.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SplitMix;

    /// A dense vector of distinct keys whose hashes collide on purpose.
    fn check_against_vector(seed: u64, hash_of_key: impl Fn(u64) -> u64) {
        let mut random = SplitMix(seed);
        let (mut index, mut keys) = (Index::default(), Vec::<u64>::new());
        for _ in 0..4_000 {
            let key = random.below(200);
            let hash = hash_of_key(key);
            let found = index.find(hash, |position| keys[position] == key);
            assert_eq!(found, keys.iter().position(|&k| k == key));
            match found {
                None => {
                    if index.is_full() {
                        index.rebuild(keys.iter().map(|&k| hash_of_key(k)), 0);
                    }
                    index.insert(hash, keys.len());
                    keys.push(key);
                }
                Some(position) if random.below(3) > 0 => {
                    index.swap_remove(position, keys.len() - 1, |p| hash_of_key(keys[p]));
                    keys.swap_remove(position);
                }
                Some(_) => {}
            }
        }
        assert!(index.slots() <= 512);
    }

    #[test]
    fn positions_are_found_whatever_collides() {
        check_against_vector(1, |key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        check_against_vector(2, |key| (key % 3) << HOME_SHIFT);
        check_against_vector(3, |_| u64::MAX);
        check_against_vector(4, |key| (key % 7) << 40 | (15 << HOME_SHIFT));
    }
}
