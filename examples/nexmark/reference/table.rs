//! A table of anything by numbers: open addressing, linear probing, at most half full.

/// Slots of a new table.
const FIRST_SLOTS: usize = 16;

/// 2⁶⁴ divided by the golden ratio: Fibonacci hashing (Knuth, TAOCP 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a table can be keyed by.
pub(super) trait TableKey: Copy + Eq {
    /// A hash whose top bits are well spread.
    fn hash(self) -> u64;
}

impl TableKey for u64 {
    #[inline]
    fn hash(self) -> u64 {
        self.wrapping_mul(GOLDEN)
    }
}

impl TableKey for (u64, u64) {
    #[inline]
    fn hash(self) -> u64 {
        (self.0.wrapping_mul(GOLDEN).rotate_left(32) ^ self.1).wrapping_mul(GOLDEN)
    }
}

/// Values by key.
pub(super) struct Table<K, V> {
    /// The number of slots is a power of two.
    slots: Vec<Option<(K, V)>>,
    /// Slots that are not free.
    used: usize,
    /// 64 minus the logarithm of the number of slots.
    shift: u32,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Table { slots: free(FIRST_SLOTS), used: 0, shift: u64::BITS - FIRST_SLOTS.ilog2() }
    }
}

fn free<T>(count: usize) -> Vec<Option<T>> {
    std::iter::repeat_with(|| None).take(count).collect()
}

impl<K: TableKey, V: Default> Table<K, V> {
    /// The value of `key`, the default one if it is new.
    #[inline]
    pub(super) fn entry(&mut self, key: K) -> &mut V {
        let mut index = self.find(key);
        if self.slots[index].is_none() {
            self.used += 1;
            if self.used * 2 > self.slots.len() {
                self.grow();
                index = self.find(key);
            }
        }
        &mut self.slots[index].get_or_insert_with(|| (key, V::default())).1
    }
}

impl<K: TableKey, V> Table<K, V> {
    /// The value of `key`, if there is one.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.slots[self.find(key)].as_ref().map(|(_, value)| value)
    }

    /// All keys and values, in no useful order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.slots.iter().flatten().map(|(key, value)| (*key, value))
    }

    /// The slot of `key`, or the free one where it belongs.
    #[inline]
    fn find(&self, key: K) -> usize {
        let mask = self.slots.len() - 1;
        let mut index = (key.hash() >> self.shift) as usize;
        while let Some((found, _)) = &self.slots[index]
            && *found != key
        {
            index = (index + 1) & mask;
        }
        index
    }

    #[cold]
    fn grow(&mut self) {
        let slots = free(self.slots.len() * 2);
        self.shift -= 1;
        for (key, value) in std::mem::replace(&mut self.slots, slots).into_iter().flatten() {
            let index = self.find(key);
            self.slots[index] = Some((key, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn every_key_keeps_its_value_while_the_table_grows() {
        let mut table: Table<(u64, u64), u64> = Table::default();
        for round in 0..3 {
            for key in 0..3_000 {
                // Key k occurs in rounds 0 to k mod 3.
                if round <= key % 3 {
                    *table.entry((key % 50, key)) += 1;
                }
            }
        }
        let mut all: Vec<_> = table.iter().map(|((_, key), value)| (key, *value)).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq((0..3_000).map(|key| (key, key % 3 + 1))));
        assert_eq!(table.get((7, 57)), Some(&1));
        assert_eq!(table.get((8, 57)), None);
    }
}
