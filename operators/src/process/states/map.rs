//! Map state: a map per key, with an entry in state per map key.
//!
//! # Invariants
//! * I1 A key with entries has `Ends`, a key without has none.
//! * I2 From `first`, following `after`, come all `len` entries of a key, each once, in order of
//!   insertion, up to `last`; following `before` from there, the same backwards.
//!
//! The links make a map's entries findable without keeping them together: an insertion, change or
//! removal touches its entry and at most its neighbours, however large the map is. Their order
//! survives snapshots, which the order within tables does not.

use std::cell::Cell;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use thalweg_engine::state::{
    self, KeyGroupCount, OperatorState, Restore, Snapshot, StateKey, Table, TableId, hash_part,
};
use thalweg_engine::{Data, EachTable, Error, Key, Result};

use super::expiring_map::ExpiringMaps;
use super::ttl::Clocks;
use super::{AnyState, Owner, Slot, foreign};

/// A handle of a map per key.
#[derive(Debug)]
pub struct MapState<M, V> {
    pub(in crate::process) slot: Slot,
    pub(super) entries: PhantomData<fn() -> (M, V)>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry<M, V> {
    value: V,
    before: Option<M>,
    after: Option<M>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Ends<M> {
    first: M,
    last: M,
    len: u64,
}

/// The maps of all keys.
pub(in crate::process) struct Maps<K, M, V> {
    entries: Table<(K, M), Entry<M, V>>,
    ends: Table<K, Ends<M>>,
    ends_id: TableId,
    key_groups: KeyGroupCount,
    /// The last entry asked for: its memory is used again.
    pair: Option<(K, M)>,
}

/// Names the entry of `owner` and `map_key` in `pair`, and returns its hash.
fn name<'a, K: Key, M: Key>(
    pair: &'a mut Option<(K, M)>,
    owner: Owner<'_, K>,
    map_key: &M,
    key_groups: KeyGroupCount,
) -> Result<(u64, &'a (K, M))> {
    let hash = hash_part(owner.hash, map_key, key_groups)?;
    let pair = match pair {
        Some(pair) => {
            pair.0.clone_from(owner.key);
            pair.1.clone_from(map_key);
            pair
        }
        None => pair.insert((owner.key.clone(), map_key.clone())),
    };
    Ok((hash, pair))
}

impl<K: Key, M: Key, V: Data> Maps<K, M, V> {
    pub(super) fn new(
        state: &mut OperatorState,
        [entries, ends]: [TableId; 2],
        key_groups: KeyGroupCount,
    ) -> Self {
        let (entries, ends_id, ends) = (state.parts(entries), ends, state.table(ends));
        Maps { entries, ends, ends_id, key_groups, pair: None }
    }

    pub(super) fn get(&mut self, owner: Owner<'_, K>, map_key: &M) -> Result<Option<&V>> {
        let (hash, pair) = name(&mut self.pair, owner, map_key, self.key_groups)?;
        Ok(self.entries.get(hash, pair)?.map(|entry| &entry.value))
    }

    pub(super) fn update<R>(
        &mut self,
        owner: Owner<'_, K>,
        map_key: &M,
        init: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let (hash, pair) = name(&mut self.pair, owner, map_key, self.key_groups)?;
        let mut is_new = false;
        let init = || {
            is_new = true;
            Entry { value: init(), before: None, after: None }
        };
        let result = self.entries.update(hash, pair, init, |entry| f(&mut entry.value))?;
        if is_new {
            self.append(owner, map_key)?;
        }
        Ok(result)
    }

    /// Links a new entry behind the last one.
    fn append(&mut self, owner: Owner<'_, K>, map_key: &M) -> Result<()> {
        let first = || Ends { first: map_key.clone(), last: map_key.clone(), len: 0 };
        let before = self.ends.update(owner.hash, owner.key, first, |ends| {
            ends.len += 1;
            let before = std::mem::replace(&mut ends.last, map_key.clone());
            (ends.len > 1).then_some(before)
        })?;
        let Some(before) = before else { return Ok(()) };
        self.change(owner, &before, |entry| entry.after = Some(map_key.clone()))?;
        self.change(owner, map_key, |entry| entry.before = Some(before.clone()))
    }

    /// Changes an entry that is there (I2).
    fn change(
        &mut self,
        owner: Owner<'_, K>,
        map_key: &M,
        f: impl FnOnce(&mut Entry<M, V>),
    ) -> Result<()> {
        let (hash, pair) = name(&mut self.pair, owner, map_key, self.key_groups)?;
        if self.entries.get(hash, pair)?.is_none() {
            return Err(broken());
        }
        Ok(self.entries.update(hash, pair, || unreachable!("the entry is there"), f)?)
    }

    pub(super) fn remove(&mut self, owner: Owner<'_, K>, map_key: &M) -> Result<Option<V>> {
        let (hash, pair) = name(&mut self.pair, owner, map_key, self.key_groups)?;
        let Some(Entry { value, before, after }) = self.entries.remove(hash, pair)? else {
            return Ok(None);
        };
        if let Some(before) = &before {
            self.change(owner, before, |entry| entry.after.clone_from(&after))?;
        }
        if let Some(after) = &after {
            self.change(owner, after, |entry| entry.before.clone_from(&before))?;
        }
        let Owner { key, hash } = owner;
        if before.is_none() && after.is_none() {
            self.ends.remove(hash, key)?;
            return Ok(Some(value));
        }
        if self.ends.get(hash, key)?.is_none() {
            return Err(broken());
        }
        self.ends.update(
            hash,
            key,
            || unreachable!("the ends are there"),
            |ends| {
                ends.len -= 1;
                match (before, after) {
                    (None, Some(after)) => ends.first = after,
                    (Some(before), None) => ends.last = before,
                    _ => {}
                }
            },
        )?;
        Ok(Some(value))
    }

    fn len(&mut self, Owner { key, hash }: Owner<'_, K>) -> Result<usize> {
        Ok(self.ends.get(hash, key)?.map_or(0, |ends| ends.len as usize))
    }

    pub(super) fn for_each(
        &mut self,
        owner: Owner<'_, K>,
        mut f: impl FnMut(&M, &V),
    ) -> Result<()> {
        let mut next = self.ends.get(owner.hash, owner.key)?.map(|ends| ends.first.clone());
        while let Some(map_key) = next {
            let (hash, pair) = name(&mut self.pair, owner, &map_key, self.key_groups)?;
            let entry = self.entries.get(hash, pair)?.ok_or_else(broken)?;
            f(&map_key, &entry.value);
            next = entry.after.clone();
        }
        Ok(())
    }

    pub(super) fn clear(&mut self, owner: Owner<'_, K>) -> Result<()> {
        let mut next = self.ends.remove(owner.hash, owner.key)?.map(|ends| ends.first);
        while let Some(map_key) = next {
            let (hash, pair) = name(&mut self.pair, owner, &map_key, self.key_groups)?;
            next = self.entries.remove(hash, pair)?.ok_or_else(broken)?.after;
        }
        Ok(())
    }
}

#[cold]
fn broken() -> Error {
    Error::bug("the entries of a map state are not linked as they should be")
}

impl<K: Key, M: Key, V: Data> AnyState<K> for Maps<K, M, V> {
    fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        match key.table == self.ends_id {
            true => self.ends.restore_entry(key, value),
            false => self.entries.restore_entry(key, value),
        }
    }

    fn leave(&mut self, restore: &mut Restore<'_>) -> state::Result<()> {
        restore.leave(&mut self.entries)?;
        restore.leave(&mut self.ends)
    }

    fn relieve(&mut self) -> state::Result<()> {
        self.entries.relieve()?;
        self.ends.relieve()
    }

    fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        self.entries.snapshot_into(snapshot)?;
        self.ends.snapshot_into(snapshot)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()> {
        f(&mut self.entries)?;
        f(&mut self.ends)
    }
}

/// The maps of all keys, kept for good or expiring.
pub(in crate::process) enum MapAt<'a, K, M, V> {
    /// Another function's.
    Foreign,
    /// Kept for good.
    Plain(&'a mut Maps<K, M, V>),
    /// Expiring.
    Expiring(&'a mut ExpiringMaps<K, M, V>, Clocks),
}

/// The map of one key. Its entries are in order of insertion; changing a value keeps its place.
pub struct MapEntries<'a, K, M, V> {
    pub(in crate::process) map: MapAt<'a, K, M, V>,
    pub(in crate::process) owner: Owner<'a, K>,
}

impl<K: Key, M: Key, V: Data> MapEntries<'_, K, M, V> {
    /// The value of a map key.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn get(&mut self, map_key: &M) -> Result<Option<&V>> {
        match &mut self.map {
            MapAt::Foreign => Err(foreign()),
            MapAt::Plain(map) => map.get(self.owner, map_key),
            MapAt::Expiring(map, clocks) => map.get(self.owner, map_key, *clocks),
        }
    }

    /// Whether there is an entry of a map key.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn contains(&mut self, map_key: &M) -> Result<bool> {
        Ok(self.get(map_key)?.is_some())
    }

    /// Sets the value of a map key.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn insert(&mut self, map_key: &M, value: V) -> Result<()> {
        // It goes to `init` or, if there is a value already, into its place.
        let value = Cell::new(Some(value));
        self.update(
            map_key,
            || value.take().expect("init is called at most once"),
            |old| {
                if let Some(value) = value.take() {
                    *old = value;
                }
            },
        )
    }

    /// Changes the value of a map key, which is made by `init` if there is none.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn update<R>(
        &mut self,
        map_key: &M,
        init: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        match &mut self.map {
            MapAt::Foreign => Err(foreign()),
            MapAt::Plain(map) => map.update(self.owner, map_key, init, f),
            MapAt::Expiring(map, clocks) => map.update(self.owner, map_key, *clocks, init, f),
        }
    }

    /// Removes the entry of a map key and returns its value.
    ///
    /// # Errors
    /// If state cannot be read or written.
    pub fn remove(&mut self, map_key: &M) -> Result<Option<V>> {
        match &mut self.map {
            MapAt::Foreign => Err(foreign()),
            MapAt::Plain(map) => map.remove(self.owner, map_key),
            MapAt::Expiring(map, clocks) => map.remove(self.owner, map_key, *clocks),
        }
    }

    /// The number of entries.
    ///
    /// # Errors
    /// If state cannot be read.
    ///
    /// # Cost
    /// One look-up; if they expire, one per entry.
    pub fn len(&mut self) -> Result<usize> {
        match &mut self.map {
            MapAt::Foreign => Err(foreign()),
            MapAt::Plain(map) => map.len(self.owner),
            MapAt::Expiring(map, clocks) => map.len(self.owner, *clocks),
        }
    }

    /// Whether there is no entry.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn is_empty(&mut self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Calls `f` with every entry.
    ///
    /// # Errors
    /// If state cannot be read.
    ///
    /// # Cost
    /// One look-up per entry.
    pub fn for_each(&mut self, f: impl FnMut(&M, &V)) -> Result<()> {
        match &mut self.map {
            MapAt::Foreign => Err(foreign()),
            MapAt::Plain(map) => map.for_each(self.owner, f),
            MapAt::Expiring(map, clocks) => map.for_each(self.owner, *clocks, f),
        }
    }

    /// Keeps the entries for which `keep` is true.
    ///
    /// # Errors
    /// If state cannot be read or written.
    ///
    /// # Cost
    /// One look-up per entry, and a few per entry removed.
    pub fn retain(&mut self, mut keep: impl FnMut(&M, &V) -> bool) -> Result<()> {
        let mut gone = Vec::new();
        self.for_each(|map_key, value| {
            if !keep(map_key, value) {
                gone.push(map_key.clone());
            }
        })?;
        gone.iter().try_for_each(|map_key| self.remove(map_key).map(drop))
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// If state cannot be read or written.
    ///
    /// # Cost
    /// One look-up per entry.
    pub fn clear(&mut self) -> Result<()> {
        match &mut self.map {
            MapAt::Foreign => Err(foreign()),
            MapAt::Plain(map) => map.clear(self.owner),
            MapAt::Expiring(map, _) => map.clear(self.owner),
        }
    }
}
