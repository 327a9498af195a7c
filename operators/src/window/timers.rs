//! Timers of keys: a hierarchical timing wheel over state tables.
//!
//! After Varghese and Lauck, *Hashed and Hierarchical Timing Wheels* (SOSP 1987), without bounds on
//! the time: a timer stands in the slot of the highest digit (base 64) in which its time differs
//! from the wheel's, and moves down when the wheel comes to that slot. Slots are slices of a table,
//! so timers far off can leave memory like all state; those of the next seconds are in a heap.
//!
//! A timer says when to look at a key again, no more: the key's state knows whether there is
//! anything to do. So a key may have several timers, of which the one set last counts. Timers are
//! no part of a snapshot: they are set again from the state of the keys.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use thalweg_engine::state::{Namespace, SlicedTable};
use thalweg_engine::{Key, Result};

/// Bits of a digit.
const DIGIT_BITS: u32 = 6;

/// Slots of this level and below, of 4.1 s at the most, go to the heap as a whole.
const HEAP_LEVEL: i64 = 2;

/// A time, and the keys that have a timer at it, with their hashes.
pub(super) type Due<K> = (i64, Vec<(u64, K)>);

/// Timers by slot, an entry per key.
///
/// # Invariants
/// * I1: no timer is set for a time before the wheel's; it asks for timers in rising order.
/// * I2: slots in the order of (level, digit) are in the order of time, so the first slot holds
///   the earliest timers.
/// * I3: timers before `near_end` are in the heap, others in slots.
pub(super) struct Timers<K> {
    slots: SlicedTable<K, i64>,
    near: BinaryHeap<Near<K>>,
    near_end: i64,
    /// Where the wheel stands.
    time: i64,
}

struct Near<K> {
    time: i64,
    hash: u64,
    key: K,
}

impl<K> Ord for Near<K> {
    /// The earliest is the greatest, for a heap.
    fn cmp(&self, other: &Self) -> Ordering {
        other.time.cmp(&self.time)
    }
}

impl<K> PartialOrd for Near<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for Near<K> {
    fn eq(&self, other: &Self) -> bool {
        self.time == other.time
    }
}

impl<K> Eq for Near<K> {}

impl<K: Key> Timers<K> {
    /// A wheel over a table that has no entries yet.
    pub(super) fn new(slots: SlicedTable<K, i64>) -> Self {
        Timers { slots, near: BinaryHeap::new(), near_end: i64::MIN, time: i64::MIN }
    }

    /// Sets a timer. Of one key, the timer set last counts.
    ///
    /// # Cost
    /// A table look-up now, and another for each level (a factor of 64 in time, from four seconds
    /// on) on the way down.
    pub(super) fn set(&mut self, time: i64, hash: u64, key: &K) -> Result<()> {
        if time < self.near_end {
            self.near.push(Near { time, hash, key: key.clone() });
            return Ok(());
        }
        let slot = self.slot(time);
        Ok(self.slots.slice(slot).insert(hash, key, time)?)
    }

    /// Takes all timers of the earliest time, if that is not after `until`.
    ///
    /// # Cost
    /// None to speak of if nothing is due.
    pub(super) fn take_due(&mut self, until: i64) -> Result<Option<Due<K>>> {
        loop {
            if let Some(&Near { time, .. }) = self.near.peek() {
                if time > until {
                    return Ok(None);
                }
                let mut keys = Vec::new();
                while let Some(first) = self.near.peek()
                    && first.time == time
                {
                    keys.extend(self.near.pop().map(|Near { hash, key, .. }| (hash, key)));
                }
                return Ok(Some((time, keys)));
            }
            let first = self.slots.namespaces().next();
            match first {
                Some(slot) if self.start(slot) <= until => self.enter(slot)?,
                _ => return Ok(None),
            }
        }
    }

    /// The wheel comes to the first slot.
    fn enter(&mut self, slot: Namespace) -> Result<()> {
        let mut timers = Vec::new();
        if let Some(table) = self.slots.get_slice(slot) {
            table
                .for_each(|key, hash, &time| timers.push(Near { time, hash, key: key.clone() }))?;
        }
        self.slots.drop_slice(slot)?;
        self.time = self.start(slot);
        let Namespace(level, _) = slot;
        if level <= HEAP_LEVEL {
            self.near = timers.into();
            self.near_end = self.time.saturating_add(1 << (level as u32 * DIGIT_BITS));
            return Ok(());
        }
        timers.into_iter().try_for_each(|Near { time, hash, key }| self.set(time, hash, &key))
    }

    /// Gives up memory if the operator's tables exceed their budget.
    pub(super) fn relieve(&mut self) -> Result<()> {
        Ok(self.slots.relieve()?)
    }

    /// The slot of a time that is not before the wheel's.
    fn slot(&self, time: i64) -> Namespace {
        let differing = ordered(time) ^ ordered(self.time);
        let level = differing.checked_ilog2().map_or(0, |bit| bit / DIGIT_BITS);
        let digit = (ordered(time) >> (level * DIGIT_BITS)) & digit_mask(0);
        Namespace(i64::from(level), digit as i64)
    }

    /// The earliest time of a slot.
    fn start(&self, Namespace(level, digit): Namespace) -> i64 {
        let level = level as u32;
        let above = ordered(self.time) & !(digit_mask(level) | below(level));
        from_ordered(above | ((digit as u64) << (level * DIGIT_BITS)))
    }
}

/// A number that sorts like the time.
fn ordered(time: i64) -> u64 {
    time as u64 ^ (1 << 63)
}

fn from_ordered(number: u64) -> i64 {
    (number ^ (1 << 63)) as i64
}

/// The bits of a level's digit.
fn digit_mask(level: u32) -> u64 {
    ((1 << DIGIT_BITS) - 1) << (level * DIGIT_BITS)
}

/// The bits of all digits below a level's.
fn below(level: u32) -> u64 {
    (1 << (level * DIGIT_BITS)) - 1
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use thalweg_engine::sim::Random;
    use thalweg_engine::state::{
        BackendConfig, KeyGroupCount, KeyGroupRange, OperatorState, TableId, hash_key,
    };

    use super::*;

    fn timers() -> Timers<u32> {
        let count = KeyGroupCount::default();
        let range = KeyGroupRange::all(count);
        let state = OperatorState::open(BackendConfig::Memory, range, count);
        Timers::new(state.expect("memory is there").sliced(TableId(0)))
    }

    /// All orders of magnitude alike.
    fn up_to_35_years(random: &mut Random) -> i64 {
        let most = 1 << random.between(0, 40);
        random.between(0, most)
    }

    #[test]
    fn timers_come_in_order_of_time_whatever_their_distances() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut timers = timers();
            let mut model: BTreeMap<i64, BTreeSet<u32>> = BTreeMap::new();
            let mut now = random.between(-1_000_000_000, 1_000_000_000);
            let mut number = 0;
            for _ in 0..60 {
                for _ in 0..random.below(8) {
                    let distance = up_to_35_years(&mut random);
                    let time = now + 1 + distance;
                    timers.set(time, hash_key(&number).expect("a hash"), &number).expect("set");
                    model.entry(time).or_default().insert(number);
                    number += 1;
                }
                now += up_to_35_years(&mut random);
                while let Some((time, keys)) = timers.take_due(now).expect("taken") {
                    let keys: BTreeSet<u32> = keys.into_iter().map(|(_, key)| key).collect();
                    assert_eq!(model.pop_first(), Some((time, keys)), "seed {seed}");
                }
                assert!(model.keys().all(|&time| time > now), "seed {seed}: a timer was missed");
            }
            while let Some((time, keys)) = timers.take_due(i64::MAX).expect("taken") {
                let keys: BTreeSet<u32> = keys.into_iter().map(|(_, key)| key).collect();
                assert_eq!(model.pop_first(), Some((time, keys)), "seed {seed}");
            }
            assert!(model.is_empty());
        }
    }

    #[test]
    fn the_last_timer_of_a_key_is_not_lost() {
        let mut timers = timers();
        for time in [500, 100, 90] {
            timers.set(time, 7, &7).expect("set");
        }
        let mut times = Vec::new();
        while let Some((time, _)) = timers.take_due(i64::MAX).expect("taken") {
            times.push(time);
        }
        assert_eq!(times[0], 90, "{times:?}");
    }
}
