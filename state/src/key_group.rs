//! Key groups: the unit in which keyed state is spread over subtasks.
//!
//! A key's hash chooses one of a fixed number of key groups; each subtask owns a contiguous range
//! of them. State belongs to key groups, never to subtasks, so it restores at any parallelism.
//! The scheme is that of Apache Flink (`KeyGroupRangeAssignment`).

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// One key group.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct KeyGroup(u16);

impl KeyGroup {
    /// Key group number `group`, from 0.
    pub const fn new(group: u16) -> Self {
        KeyGroup(group)
    }

    /// The key group of a key with this hash.
    #[inline]
    pub fn of(hash: u64, count: KeyGroupCount) -> Self {
        let count = u64::from(count.0);
        let group = if count.is_power_of_two() { hash & (count - 1) } else { hash % count };
        KeyGroup(group as u16)
    }

    /// Its number, from 0.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Its number as an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of key groups of a job: 1 to 32,768, fixed for the job's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct KeyGroupCount(u16);

impl KeyGroupCount {
    /// The greatest possible number of key groups, hence of subtasks.
    pub const MAX: KeyGroupCount = KeyGroupCount(32_768);

    /// `count` key groups; `None` unless `count` is in 1 to 32,768.
    pub const fn new(count: usize) -> Option<Self> {
        if count >= 1 && count <= Self::MAX.0 as usize {
            Some(KeyGroupCount(count as u16))
        } else {
            None
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for KeyGroupCount {
    fn default() -> Self {
        KeyGroupCount(128)
    }
}

impl TryFrom<u16> for KeyGroupCount {
    type Error = String;

    fn try_from(count: u16) -> Result<Self, String> {
        Self::new(usize::from(count))
            .ok_or_else(|| format!("{count} is not a number of key groups (1 to 32768)"))
    }
}

impl From<KeyGroupCount> for u16 {
    fn from(count: KeyGroupCount) -> u16 {
        count.0
    }
}

/// A contiguous range of key groups, half open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// The first key group of the range.
    pub start: u16,
    /// The first key group behind the range.
    pub end: u16,
}

impl KeyGroupRange {
    /// The key groups from `start` up to, not including, `end`.
    pub const fn new(start: u16, end: u16) -> Self {
        KeyGroupRange { start, end }
    }

    /// All key groups of a job.
    pub const fn all(count: KeyGroupCount) -> Self {
        KeyGroupRange { start: 0, end: count.0 }
    }

    /// The key groups that subtask `index` of `parallelism` owns.
    ///
    /// # Panics
    /// If `index` is not below `parallelism`.
    pub fn of_subtask(index: usize, parallelism: usize, count: KeyGroupCount) -> Self {
        assert!(index < parallelism, "subtask {index} of {parallelism}");
        let first = |index: usize| (index * usize::from(count.0)).div_ceil(parallelism) as u16;
        KeyGroupRange { start: first(index), end: first(index + 1) }
    }

    /// Whether `group` is in the range.
    #[inline]
    pub const fn contains(self, group: KeyGroup) -> bool {
        self.start <= group.0 && group.0 < self.end
    }

    /// Whether a key group is in both ranges.
    pub const fn overlaps(self, other: KeyGroupRange) -> bool {
        self.start < other.end && other.start < self.end && !self.is_empty() && !other.is_empty()
    }

    /// The key groups that are in both ranges; an empty range if there are none.
    pub const fn intersection(self, other: KeyGroupRange) -> KeyGroupRange {
        let start = if self.start > other.start { self.start } else { other.start };
        let end = if self.end < other.end { self.end } else { other.end };
        KeyGroupRange { start, end: if end > start { end } else { start } }
    }

    /// Whether no key group is in the range.
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The key groups in ascending order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = KeyGroup> + use<> {
        let Range { start, end } = self.start..self.end;
        (start..end).map(KeyGroup)
    }
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// The subtask, from 0, that owns `group` at this parallelism: `group * parallelism / count`.
pub fn subtask_of(group: KeyGroup, parallelism: usize, count: KeyGroupCount) -> usize {
    group.index() * parallelism / usize::from(count.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every group belongs to the range of exactly the subtask that is said to own it.
    fn check(count: usize, parallelism: usize) {
        let groups = KeyGroupCount::new(count).expect("in range");
        let mut next = 0;
        for index in 0..parallelism {
            let range = KeyGroupRange::of_subtask(index, parallelism, groups);
            assert_eq!(range.start, next, "ranges leave no gap");
            next = range.end;
            for group in range.iter() {
                assert_eq!(subtask_of(group, parallelism, groups), index, "{count} {group}");
                assert!(range.contains(group));
            }
        }
        assert_eq!(usize::from(next), count);
    }

    #[test]
    fn ranges_agree_with_owners_at_every_parallelism() {
        for count in (1..=130).chain([1_000, 1_024]) {
            for parallelism in 1..=count {
                check(count, parallelism);
            }
        }
        for parallelism in [1, 2, 3, 7, 127, 128, 129, 10_000, 32_767, 32_768] {
            check(32_768, parallelism);
        }
    }

    #[test]
    fn more_subtasks_than_key_groups_leave_some_without() {
        check(3, 10);
        let count = KeyGroupCount::new(3).expect("in range");
        let owners = (0..10).filter(|&i| !KeyGroupRange::of_subtask(i, 10, count).is_empty());
        assert_eq!(owners.count(), 3);
    }

    #[test]
    fn counts_are_validated() {
        assert_eq!(KeyGroupCount::new(0), None);
        assert_eq!(KeyGroupCount::new(32_769), None);
        assert_eq!(KeyGroupCount::new(32_768), Some(KeyGroupCount::MAX));
        assert_eq!(KeyGroupCount::default().get(), 128);
        assert!(KeyGroupCount::try_from(0).is_err());
    }

    #[test]
    fn groups_are_the_hash_modulo_the_count() {
        for count in [1, 3, 100, 128, 32_767, 32_768] {
            let groups = KeyGroupCount::new(count).expect("in range");
            for hash in [0, 1, 127, 128, u64::MAX, 0x9e37_79b9_7f4a_7c15] {
                assert_eq!(u64::from(KeyGroup::of(hash, groups).get()), hash % count as u64);
            }
        }
    }

    #[test]
    fn overlap_needs_a_common_group() {
        let range = KeyGroupRange::new;
        assert!(range(0, 4).overlaps(range(3, 9)));
        assert!(!range(0, 4).overlaps(range(4, 9)));
        assert!(!range(0, 4).overlaps(range(2, 2)));
    }
}
