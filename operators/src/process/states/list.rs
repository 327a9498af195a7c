//! List state: a list per key, in chunks.
//!
//! A key's head holds the last chunk, which grows. A full chunk becomes an entry of its own and
//! does not change again: `push` touches one entry, and a checkpoint writes what was pushed, not
//! the list.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use thalweg_engine::state::{
    self, KeyGroupCount, OperatorState, Restore, Snapshot, StateKey, Table, TableId, hash_part,
};
use thalweg_engine::{Data, EachTable, Key, Result};

use super::expiring_list::ExpiringLists;
use super::ttl::Clocks;
use super::{AnyState, Owner, Slot, foreign};

/// Elements of a full chunk.
pub(super) const CHUNK: usize = 64;

/// A handle of a list per key.
#[derive(Debug)]
pub struct ListState<V> {
    pub(in crate::process) slot: Slot,
    pub(super) values: PhantomData<fn() -> V>,
}

/// The end of a list, and how many chunks are before it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Head<V> {
    full_chunks: u32,
    last: Vec<V>,
}

/// The lists of all keys.
pub(in crate::process) struct Lists<K, V> {
    heads: Table<K, Head<V>>,
    chunks: Table<(K, u32), Vec<V>>,
    chunks_id: TableId,
    key_groups: KeyGroupCount,
}

impl<K: Key, V: Data> Lists<K, V> {
    pub(super) fn new(
        state: &mut OperatorState,
        [heads, chunks]: [TableId; 2],
        key_groups: KeyGroupCount,
    ) -> Self {
        let chunks_id = chunks;
        Lists { heads: state.table(heads), chunks: state.parts(chunks), chunks_id, key_groups }
    }

    fn push(&mut self, Owner { key, hash }: Owner<'_, K>, value: V) -> Result<()> {
        let empty = || Head { full_chunks: 0, last: Vec::new() };
        let full = self.heads.update(hash, key, empty, |head| {
            head.last.push(value);
            if head.last.len() < CHUNK {
                return None;
            }
            head.full_chunks += 1;
            Some((head.full_chunks - 1, std::mem::take(&mut head.last)))
        })?;
        if let Some((number, chunk)) = full {
            let place = hash_part(hash, &number, self.key_groups)?;
            self.chunks.insert(place, &(key.clone(), number), chunk)?;
        }
        Ok(())
    }

    fn full_chunks(&mut self, Owner { key, hash }: Owner<'_, K>) -> Result<u32> {
        Ok(self.heads.get(hash, key)?.map_or(0, |head| head.full_chunks))
    }

    fn len(&mut self, Owner { key, hash }: Owner<'_, K>) -> Result<usize> {
        let head = self.heads.get(hash, key)?;
        Ok(head.map_or(0, |head| head.full_chunks as usize * CHUNK + head.last.len()))
    }

    fn for_each(&mut self, owner: Owner<'_, K>, mut f: impl FnMut(&V)) -> Result<()> {
        let Owner { key, hash } = owner;
        for number in 0..self.full_chunks(owner)? {
            let place = hash_part(hash, &number, self.key_groups)?;
            if let Some(chunk) = self.chunks.get(place, &(key.clone(), number))? {
                chunk.iter().for_each(&mut f);
            }
        }
        if let Some(head) = self.heads.get(hash, key)? {
            head.last.iter().for_each(f);
        }
        Ok(())
    }

    fn take(&mut self, owner: Owner<'_, K>) -> Result<Vec<V>> {
        let Owner { key, hash } = owner;
        let Some(head) = self.heads.remove(hash, key)? else { return Ok(Vec::new()) };
        if head.full_chunks == 0 {
            return Ok(head.last);
        }
        let mut values = Vec::with_capacity(head.full_chunks as usize * CHUNK + head.last.len());
        for number in 0..head.full_chunks {
            let place = hash_part(hash, &number, self.key_groups)?;
            values.extend(self.chunks.remove(place, &(key.clone(), number))?.unwrap_or_default());
        }
        values.extend(head.last);
        Ok(values)
    }
}

impl<K: Key, V: Data> AnyState<K> for Lists<K, V> {
    fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        match key.table == self.chunks_id {
            true => self.chunks.restore_entry(key, value),
            false => self.heads.restore_entry(key, value),
        }
    }

    fn leave(&mut self, restore: &mut Restore<'_>) -> state::Result<()> {
        restore.leave(&mut self.heads)?;
        restore.leave(&mut self.chunks)
    }

    fn relieve(&mut self) -> state::Result<()> {
        self.heads.relieve()?;
        self.chunks.relieve()
    }

    fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        self.heads.snapshot_into(snapshot)?;
        self.chunks.snapshot_into(snapshot)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()> {
        f(&mut self.heads)?;
        f(&mut self.chunks)
    }
}

/// The lists of all keys, kept for good or expiring.
pub(in crate::process) enum ListAt<'a, K, V> {
    /// Another function's.
    Foreign,
    /// Kept for good.
    Plain(&'a mut Lists<K, V>),
    /// Expiring.
    Expiring(&'a mut ExpiringLists<K, V>, Clocks),
}

/// The list of one key, in the order in which its elements were pushed.
pub struct ListEntries<'a, K, V> {
    pub(in crate::process) list: ListAt<'a, K, V>,
    pub(in crate::process) owner: Owner<'a, K>,
}

impl<K: Key, V: Data> ListEntries<'_, K, V> {
    /// Appends an element.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn push(&mut self, value: V) -> Result<()> {
        match &mut self.list {
            ListAt::Foreign => Err(foreign()),
            ListAt::Plain(list) => list.push(self.owner, value),
            ListAt::Expiring(list, clocks) => list.push(self.owner, *clocks, value),
        }
    }

    /// Appends elements.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn extend(&mut self, values: impl IntoIterator<Item = V>) -> Result<()> {
        values.into_iter().try_for_each(|value| self.push(value))
    }

    /// The number of elements.
    ///
    /// # Errors
    /// If state cannot be read.
    ///
    /// # Cost
    /// One look-up; if they expire, one per 64 elements.
    pub fn len(&mut self) -> Result<usize> {
        match &mut self.list {
            ListAt::Foreign => Err(foreign()),
            ListAt::Plain(list) => list.len(self.owner),
            ListAt::Expiring(list, clocks) => list.len(self.owner, *clocks),
        }
    }

    /// Whether there is no element.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn is_empty(&mut self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Calls `f` with every element.
    ///
    /// # Errors
    /// If state cannot be read.
    ///
    /// # Cost
    /// One look-up per 64 elements.
    pub fn for_each(&mut self, f: impl FnMut(&V)) -> Result<()> {
        match &mut self.list {
            ListAt::Foreign => Err(foreign()),
            ListAt::Plain(list) => list.for_each(self.owner, f),
            ListAt::Expiring(list, clocks) => list.for_each(self.owner, *clocks, f),
        }
    }

    /// A copy of the elements.
    ///
    /// # Errors
    /// If state cannot be read.
    ///
    /// # Cost
    /// Proportional to the list.
    pub fn to_vec(&mut self) -> Result<Vec<V>> {
        let mut values = Vec::new();
        self.for_each(|value| values.push(value.clone()))?;
        Ok(values)
    }

    /// Removes all elements and returns them.
    ///
    /// # Errors
    /// If state cannot be read or written.
    ///
    /// # Cost
    /// Proportional to the list.
    pub fn take(&mut self) -> Result<Vec<V>> {
        match &mut self.list {
            ListAt::Foreign => Err(foreign()),
            ListAt::Plain(list) => list.take(self.owner),
            ListAt::Expiring(list, clocks) => list.take(self.owner, *clocks),
        }
    }

    /// Removes all elements.
    ///
    /// # Errors
    /// If state cannot be read or written.
    ///
    /// # Cost
    /// One look-up per 64 elements.
    pub fn clear(&mut self) -> Result<()> {
        self.take().map(drop)
    }

    /// Puts these elements in the place of all there are.
    ///
    /// # Errors
    /// If state cannot be read or written.
    ///
    /// # Cost
    /// Proportional to both lists.
    pub fn replace(&mut self, values: impl IntoIterator<Item = V>) -> Result<()> {
        self.clear()?;
        self.extend(values)
    }

    /// Keeps the elements for which `keep` is true.
    ///
    /// # Errors
    /// If state cannot be read or written.
    ///
    /// # Cost
    /// Proportional to the list; it is rewritten.
    pub fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) -> Result<()> {
        if let ListAt::Expiring(list, clocks) = &mut self.list {
            return list.retain(self.owner, *clocks, keep);
        }
        let values = self.take()?;
        self.extend(values.into_iter().filter(|value| keep(value)))
    }
}
