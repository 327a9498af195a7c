//! `GroupKeys`: a key in each key group, for what is kept per key group and not per key.
//!
//! A table puts an entry where its key's hash leads to, and restores it from there. What belongs to
//! a key group as a whole is kept under a key that leads to it: the least number that does.

use thalweg_engine::Result;
use thalweg_engine::state::{KeyGroup, KeyGroupCount, KeyGroupRange, hash_key};

/// A key in each key group of a range.
pub(crate) struct GroupKeys {
    keys: Vec<GroupKey>,
    first: usize,
}

/// A key in a certain key group.
#[derive(Clone, Copy)]
pub(crate) struct GroupKey {
    pub(crate) group: KeyGroup,
    pub(crate) key: u32,
    pub(crate) hash: u64,
}

impl GroupKeys {
    /// The keys of the key groups in `range`.
    ///
    /// # Cost
    /// Some ten hashes per key group of the job: two milliseconds for the greatest number of them.
    pub(crate) fn new(range: KeyGroupRange, count: KeyGroupCount) -> Result<Self> {
        let first = usize::from(range.start);
        let mut found = vec![None; range.iter().count()];
        let mut missing = found.len();
        let mut key = 0;
        while missing > 0 {
            let hash = hash_key(&key)?;
            let group = KeyGroup::of(hash, count);
            if range.contains(group) {
                let place = &mut found[usize::from(group.get()) - first];
                if place.is_none() {
                    *place = Some(GroupKey { group, key, hash });
                    missing -= 1;
                }
            }
            key += 1;
        }
        Ok(GroupKeys { keys: found.into_iter().flatten().collect(), first })
    }

    /// The key in a group of the range.
    ///
    /// # Panics
    /// If the group is not in the range.
    pub(crate) fn of(&self, group: KeyGroup) -> GroupKey {
        self.keys[usize::from(group.get()) - self.first]
    }

    /// The key of every key group, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = GroupKey> + '_ {
        self.keys.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_group_has_the_least_key_that_leads_to_it() {
        for count in [1, 7, 128, 32_768] {
            let count = KeyGroupCount::new(count).expect("a number of key groups");
            let all = KeyGroupRange::all(count);
            for range in [all, KeyGroupRange::new(all.end / 2, all.end)] {
                let keys = GroupKeys::new(range, count).expect("numbers have hashes");
                assert!(keys.iter().map(|key| key.group).eq(range.iter()));
                for group in range.iter() {
                    let GroupKey { key, hash, .. } = keys.of(group);
                    assert_eq!(hash, hash_key(&key).expect("a hash"));
                    assert_eq!(KeyGroup::of(hash, count), group);
                    let leads_there =
                        |key: &u32| KeyGroup::of(hash_key(key).expect("a hash"), count) == group;
                    let is_looked_for = count.get() <= 128;
                    assert!(!is_looked_for || (0..).find(leads_there) == Some(key));
                }
            }
        }
    }
}
