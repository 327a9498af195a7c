//! `Combined`: what the keys of the current sliding window have gathered, kept up as it moves.
//!
//! Merging all slices of a window each time it moves would cost (size / slide) merges for each
//! key and window. This is *two stacks* (Tangwongsan, Hirzel, Schneider, *Low-Latency
//! Sliding-Window Aggregation in Worst-Case Constant Time*, DEBS 2017, §3) on a fixed grid (van
//! Herk 1992, Gil and Werman 1993), in two levels so that it needs little memory.
//!
//! Time is cut into *blocks* at least as long as a window, and blocks into *chunks* of about
//! √(size / slide) slides. A window lies in two neighbouring blocks at most:
//!
//! * *front*, the block of its start: per key the combination of all slices from the start on. When
//!   the start passes a slice, the keys of that slice go back to what they had after it; that is
//!   noted per chunk when the block becomes the front, and per slice when the start enters a chunk;
//! * *back*, the block behind: per key the combination of its slices up to the window's end.
//!
//! # Cost
//! Per entry of a slice two look-ups and five merges at most, per result two merges, per key and
//! chunk one more; nothing grows with size / slide. In memory: per key of the window three
//! accumulators and √(size / slide) more for chunks, and the entries of one chunk's slices.
//!
//! # Invariants
//! * I1 What a key gives depends on what is in its slices, not on when that was restored: blocks
//!   lie on a fixed grid, and slices enter in order of (first end, start).
//! * I2 A part that enters its slice after the slice's block became the front (a record late for
//!   the first windows only) is kept beside it, per key.
//! * I3 All of this can be rebuilt from the slices: it is no state. Entering all slices again does.

use std::collections::BTreeMap;

use thalweg_engine::state::{
    BackendConfig, KeyGroupCount, KeyGroupRange, Namespace, OperatorState, SlicedTable, Table,
    TableId, codec,
};
use thalweg_engine::{Data, Error, Key, Result};

use super::assigner::Slices;
use super::firing::prefix;
use crate::aggregate::Aggregate;

/// What the keys of a slice or chunk go back to when the window's start has passed it.
type Afterwards<A> = Vec<(u32, Option<A>)>;

pub(super) struct Combined<K, A> {
    size: i64,
    offset: i64,
    block: i64,
    chunk: i64,
    /// The start of the front block.
    front: Option<i64>,
    /// The place of each key in `slots`.
    places: Table<K, u64>,
    slots: Vec<Slot<K, A>>,
    free: Vec<u32>,
    /// Places with the first bytes of their keys, sorted by encoded key.
    order: Vec<(u64, u32)>,
    /// Places that are not in `order` yet.
    fresh: Vec<(u64, u32)>,
    /// The room for the next `order`.
    spare: Vec<(u64, u32)>,
    /// Per chunk of the back block what its slices hold; a place may occur more than once.
    totals: BTreeMap<i64, Vec<(u32, A)>>,
    /// Per chunk of the front block that the start has not entered, the first one last.
    chunks: Vec<(i64, Afterwards<A>)>,
    /// Per slice of the chunk that the start is in, the first one last.
    slices: Vec<(i64, Afterwards<A>)>,
    /// Numbers the lists of `Afterwards`.
    lists: u64,
}

struct Slot<K, A> {
    key: K,
    hash: u64,
    encoded: Box<[u8]>,
    front: Option<A>,
    /// Parts of front slices that came late, by descending slice; each with all before it.
    late: Vec<(i64, A)>,
    back: Option<A>,
    /// Where `totals` has the key for the last time: the chunk, and the index in its list.
    total: (i64, u32),
    /// The last list of `Afterwards` that has the key.
    list: u64,
}

impl<K: Key, A: Data> Combined<K, A> {
    pub(super) fn new(slices: &Slices, key_groups: KeyGroupCount) -> Result<Self> {
        let (size, slide) = (slices.size(), slices.slide());
        let slides = (size - 1) / slide + 1;
        let range = KeyGroupRange::all(key_groups);
        let mut memory = OperatorState::open(BackendConfig::Memory, range, key_groups)?;
        Ok(Combined {
            size,
            offset: slices.offset(),
            block: slides * slide,
            chunk: (slides as f64).sqrt().ceil() as i64 * slide,
            front: None,
            places: memory.table(TableId(0)),
            slots: Vec::new(),
            free: Vec::new(),
            order: Vec::new(),
            fresh: Vec::new(),
            spare: Vec::new(),
            totals: BTreeMap::new(),
            chunks: Vec::new(),
            slices: Vec::new(),
            lists: 0,
        })
    }

    /// Whether no key has contents.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty() && self.fresh.is_empty()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.front = None;
        self.places.clear()?;
        self.slots.clear();
        self.free.clear();
        self.order.clear();
        self.fresh.clear();
        self.totals.clear();
        self.chunks.clear();
        self.slices.clear();
        Ok(())
    }

    /// Moves the start of the window forward, to `start`.
    pub(super) fn move_start<T>(
        &mut self,
        start: i64,
        table: &mut SlicedTable<K, A>,
        aggregate: &impl Aggregate<T, Accumulator = A>,
    ) -> Result<()> {
        // A block becomes the front when the start is behind its first instant, so that its last
        // slices have entered.
        let front = self.block_of(start - 1);
        match self.front {
            Some(old) if old == front => {}
            Some(old) if old + self.block == front => self.turn(aggregate),
            Some(_) => self.clear()?,
            None => {}
        }
        self.front = Some(front);
        loop {
            while let Some((_, afterwards)) = self.slices.pop_if(|(slice, _)| *slice < start) {
                self.go_back(afterwards);
            }
            if !self.slices.is_empty() {
                return Ok(());
            }
            let Some((chunk, afterwards)) = self.chunks.pop_if(|(chunk, _)| *chunk < start) else {
                return Ok(());
            };
            self.go_back(afterwards);
            if start < chunk + self.chunk {
                self.enter_chunk(start, chunk + self.chunk, table, aggregate)?;
            }
        }
    }

    /// Adds a part of a slice that lies in the window.
    pub(super) fn enter<T>(
        &mut self,
        Namespace(slice, _): Namespace,
        part: &mut Table<K, A>,
        aggregate: &impl Aggregate<T, Accumulator = A>,
    ) -> Result<()> {
        let front = self.front.ok_or_else(|| Error::bug("a slice entered before its window"))?;
        let block = self.block_of(slice);
        let is_front = block <= front;
        let chunk = slice - (slice - block) % self.chunk;
        let mut total = match is_front {
            true => Vec::new(),
            false => self.totals.remove(&chunk).unwrap_or_default(),
        };
        let added = try_for_each(part, |key, hash, value| {
            let place = self.place(key, hash)?;
            let slot = &mut self.slots[place as usize];
            if is_front {
                slot.enter_late(slice, value, aggregate);
                return Ok(());
            }
            merge(&mut slot.back, value, aggregate);
            if slot.total.0 == chunk
                && let Some((_, total)) = total.get_mut(slot.total.1 as usize)
            {
                aggregate.merge(total, value);
            } else {
                // What is late for its chunk has an entry of its own, so that the grouping of later
                // chunks does not depend on it (I1).
                if slot.total.0 < chunk {
                    slot.total = (chunk, total.len() as u32);
                }
                total.push((place, value.clone()));
            }
            Ok(())
        });
        if !is_front {
            self.totals.insert(chunk, total);
        }
        added
    }

    /// Calls `f` with each key of the window that begins at `start`, where it is by now, in order
    /// of the encoded key: the key, its hash, and its accumulator. Forgets keys without contents.
    pub(super) fn for_each<T>(
        &mut self,
        start: i64,
        aggregate: &impl Aggregate<T, Accumulator = A>,
        mut f: impl FnMut(&K, u64, A),
    ) -> Result<()> {
        let slots = &mut self.slots;
        let compare = |slots: &[Slot<K, A>], a: &(u64, u32), b: &(u64, u32)| {
            let bytes = |place: u32| &slots[place as usize].encoded;
            a.0.cmp(&b.0).then_with(|| bytes(a.1).cmp(bytes(b.1)))
        };
        self.fresh.sort_unstable_by(|a, b| compare(slots, a, b));
        let (mut old, mut fresh) =
            (self.order.drain(..).peekable(), self.fresh.drain(..).peekable());
        loop {
            let next = match (old.peek(), fresh.peek()) {
                (Some(a), Some(b)) if compare(slots, a, b).is_lt() => old.next(),
                (Some(_), None) => old.next(),
                _ => fresh.next(),
            };
            let Some((prefix, place)) = next else { break };
            let slot = &mut slots[place as usize];
            while slot.late.pop_if(|(slice, _)| *slice < start).is_some() {}
            match slot.combined(aggregate) {
                Some(value) => {
                    f(&slot.key, slot.hash, value);
                    self.spare.push((prefix, place));
                }
                None => {
                    self.places.remove(slot.hash, &slot.key)?;
                    self.free.push(place);
                }
            }
        }
        drop((old, fresh));
        std::mem::swap(&mut self.order, &mut self.spare);
        Ok(())
    }

    fn block_of(&self, time: i64) -> i64 {
        time - (time - self.offset).rem_euclid(self.block)
    }

    /// The place of a key in `slots`.
    fn place(&mut self, key: &K, hash: u64) -> Result<u32> {
        let new = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        let mut is_new = false;
        let init = || {
            is_new = true;
            u64::from(new)
        };
        let place = self.places.update(hash, key, init, |place| *place as u32)?;
        if is_new {
            let mut encoded = Vec::new();
            codec::encode_key(key, &mut encoded)?;
            self.fresh.push((prefix(&encoded), place));
            let slot = Slot {
                key: key.clone(),
                hash,
                encoded: encoded.into_boxed_slice(),
                front: None,
                late: Vec::new(),
                back: None,
                total: (i64::MIN, 0),
                list: 0,
            };
            match self.free.pop() {
                Some(free) => self.slots[free as usize] = slot,
                None => self.slots.push(slot),
            }
        }
        Ok(place)
    }

    /// The back block becomes the front.
    fn turn<T>(&mut self, aggregate: &impl Aggregate<T, Accumulator = A>) {
        for slot in &mut self.slots {
            (slot.front, slot.back) = (None, None);
        }
        self.slices.clear();
        self.chunks.clear();
        for (chunk, total) in std::mem::take(&mut self.totals).into_iter().rev() {
            self.lists += 1;
            let mut afterwards = Vec::with_capacity(total.len());
            for (place, value) in total {
                self.slots[place as usize].put_before(
                    (self.lists, place),
                    value,
                    &mut afterwards,
                    aggregate,
                );
            }
            self.chunks.push((chunk, afterwards));
        }
    }

    /// The start has entered a chunk: notes what comes after each of its slices from `start` on.
    fn enter_chunk<T>(
        &mut self,
        start: i64,
        end: i64,
        table: &mut SlicedTable<K, A>,
        aggregate: &impl Aggregate<T, Accumulator = A>,
    ) -> Result<()> {
        let last_first_end = self.front.unwrap_or(i64::MIN).saturating_add(self.size);
        let parts: Vec<Namespace> = table
            .namespaces()
            .take_while(|&Namespace(slice, _)| slice < end)
            // Others entered when the block was the front already (I2).
            .filter(|&Namespace(slice, first)| start <= slice && first <= last_first_end)
            .collect();
        for slice in parts.chunk_by(|a, b| a.0 == b.0).rev() {
            self.lists += 1;
            let mut afterwards = Vec::new();
            for &part in slice {
                let Some(part) = table.get_slice(part) else { continue };
                try_for_each(part, |key, hash, value| {
                    let place = self.place(key, hash)?;
                    let at = (self.lists, place);
                    let slot = &mut self.slots[place as usize];
                    slot.put_before(at, value.clone(), &mut afterwards, aggregate);
                    Ok(())
                })?;
            }
            self.slices.push((slice[0].0, afterwards));
        }
        Ok(())
    }

    fn go_back(&mut self, afterwards: Afterwards<A>) {
        for (place, value) in afterwards {
            self.slots[place as usize].front = value;
        }
    }
}

impl<K, A: Data> Slot<K, A> {
    /// Adds `value` before what the front has; `afterwards` is told that, once per list.
    fn put_before<T>(
        &mut self,
        (list, place): (u64, u32),
        mut value: A,
        afterwards: &mut Afterwards<A>,
        aggregate: &impl Aggregate<T, Accumulator = A>,
    ) {
        if self.list == list {
            return merge(&mut self.front, &value, aggregate);
        }
        self.list = list;
        if let Some(front) = &self.front {
            aggregate.merge(&mut value, front);
        }
        afterwards.push((place, self.front.replace(value)));
    }

    /// Adds a part of a front slice that came late.
    fn enter_late<T>(
        &mut self,
        slice: i64,
        value: &A,
        aggregate: &impl Aggregate<T, Accumulator = A>,
    ) {
        let at = self.late.partition_point(|&(other, _)| other > slice);
        let mut with_later = value.clone();
        if let Some((_, later)) = at.checked_sub(1).map(|before| &self.late[before]) {
            aggregate.merge(&mut with_later, later);
        }
        for (_, earlier) in &mut self.late[at..] {
            aggregate.merge(earlier, value);
        }
        self.late.insert(at, (slice, with_later));
    }

    fn combined<T>(&self, aggregate: &impl Aggregate<T, Accumulator = A>) -> Option<A> {
        let late = self.late.last().map(|(_, value)| value);
        let mut parts = [self.front.as_ref(), late, self.back.as_ref()].into_iter().flatten();
        let mut value = parts.next()?.clone();
        parts.for_each(|part| aggregate.merge(&mut value, part));
        Some(value)
    }
}

fn merge<T, A: Data>(
    into: &mut Option<A>,
    value: &A,
    aggregate: &impl Aggregate<T, Accumulator = A>,
) {
    match into {
        Some(into) => aggregate.merge(into, value),
        None => *into = Some(value.clone()),
    }
}

/// Calls `f` with the entries of a table until it fails.
fn try_for_each<K: Key, A: Data>(
    table: &mut Table<K, A>,
    mut f: impl FnMut(&K, u64, &A) -> Result<()>,
) -> Result<()> {
    let mut result = Ok(());
    table.for_each(|key, hash, value| {
        if result.is_ok() {
            result = f(key, hash, value);
        }
    })?;
    result
}
