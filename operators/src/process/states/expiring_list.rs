//! Lists whose elements expire, each on its own.
//!
//! As lists that stay (see `list.rs`), with a time beside each element. An element that has expired
//! is passed over; the clean-up removes chunks from the front when all that is in them has expired.

use serde::{Deserialize, Serialize};
use thalweg_engine::state::{
    self, KeyGroupCount, OperatorState, Snapshot, StateKey, Table, TableId, hash_part,
};
use thalweg_engine::{Data, EachTable, Key, ProcessingTime, Result};

use super::list::CHUNK;
use super::ttl::{Clocks, Expiry, Ttl};
use super::{AnyState, Owner};

/// Elements, each with the time at which it expires.
type Elements<V> = Vec<(i64, V)>;

/// The end of a list, and which chunks are before it.
#[derive(Clone, Serialize, Deserialize)]
struct Head<V> {
    first_chunk: u32,
    next_chunk: u32,
    /// The end of the slice in which the list is queued.
    queued: i64,
    last: Elements<V>,
}

/// The lists of all keys.
pub(in crate::process) struct ExpiringLists<K, V> {
    heads: Table<K, Head<V>>,
    chunks: Table<(K, u32), Elements<V>>,
    expiry: Expiry<K, ()>,
    ids: [TableId; 3],
    key_groups: KeyGroupCount,
}

impl<K: Key, V: Data> ExpiringLists<K, V> {
    pub(super) fn new(
        state: &mut OperatorState,
        ids: [TableId; 3],
        key_groups: KeyGroupCount,
        ttl: Ttl,
    ) -> Self {
        let [queue, heads, chunks] = ids;
        let (heads, chunks) = (state.table(heads), state.parts(chunks));
        ExpiringLists { heads, chunks, expiry: Expiry::new(state, queue, ttl), ids, key_groups }
    }

    pub(super) fn push(&mut self, owner: Owner<'_, K>, clocks: Clocks, value: V) -> Result<()> {
        let until = self.expiry.until(clocks);
        self.push_until(owner, until, value)
    }

    fn push_until(&mut self, owner: Owner<'_, K>, until: i64, value: V) -> Result<()> {
        let Owner { key, hash } = owner;
        let queued = self.expiry.slice_end(until);
        let mut is_new = false;
        let empty = || {
            is_new = true;
            Head { first_chunk: 0, next_chunk: 0, queued, last: Vec::new() }
        };
        let full = self.heads.update(hash, key, empty, |head| {
            head.last.push((until, value));
            if head.last.len() < CHUNK {
                return None;
            }
            head.next_chunk += 1;
            Some((head.next_chunk - 1, std::mem::take(&mut head.last)))
        })?;
        if let Some((number, chunk)) = full {
            let place = hash_part(hash, &number, self.key_groups)?;
            self.chunks.insert(place, &(key.clone(), number), chunk)?;
        }
        match is_new {
            true => self.expiry.queue(queued, owner, ()),
            false => Ok(()),
        }
    }

    pub(super) fn for_each(
        &mut self,
        owner: Owner<'_, K>,
        clocks: Clocks,
        mut f: impl FnMut(&V),
    ) -> Result<()> {
        let Owner { key, hash } = owner;
        let now = self.expiry.now(clocks);
        let mut tell = |elements: &Elements<V>| {
            elements.iter().filter(|(until, _)| now < *until).for_each(|(_, value)| f(value));
        };
        let head = self.heads.get(hash, key)?;
        for number in head.map_or(0..0, |head| head.first_chunk..head.next_chunk) {
            let place = hash_part(hash, &number, self.key_groups)?;
            if let Some(chunk) = self.chunks.get(place, &(key.clone(), number))? {
                tell(chunk);
            }
        }
        if let Some(head) = self.heads.get(hash, key)? {
            tell(&head.last);
        }
        Ok(())
    }

    /// The number of elements.
    pub(super) fn len(&mut self, owner: Owner<'_, K>, clocks: Clocks) -> Result<usize> {
        let mut len = 0;
        self.for_each(owner, clocks, |_| len += 1)?;
        Ok(len)
    }

    pub(super) fn take(&mut self, owner: Owner<'_, K>, clocks: Clocks) -> Result<Vec<V>> {
        let elements = self.take_elements(owner, clocks)?;
        Ok(elements.into_iter().map(|(_, value)| value).collect())
    }

    fn take_elements(&mut self, owner: Owner<'_, K>, clocks: Clocks) -> Result<Elements<V>> {
        let Owner { key, hash } = owner;
        let now = self.expiry.now(clocks);
        let Some(head) = self.heads.remove(hash, key)? else { return Ok(Vec::new()) };
        let mut elements = Vec::new();
        for number in head.first_chunk..head.next_chunk {
            let place = hash_part(hash, &number, self.key_groups)?;
            elements.extend(self.chunks.remove(place, &(key.clone(), number))?.unwrap_or_default());
        }
        elements.extend(head.last);
        elements.retain(|(until, _)| now < *until);
        Ok(elements)
    }

    /// Keeps elements; they expire when they would have.
    pub(super) fn retain(
        &mut self,
        owner: Owner<'_, K>,
        clocks: Clocks,
        mut keep: impl FnMut(&V) -> bool,
    ) -> Result<()> {
        for (until, value) in self.take_elements(owner, clocks)? {
            if keep(&value) {
                self.push_until(owner, until, value)?;
            }
        }
        Ok(())
    }

    /// Removes what has expired from the front of a list, and queues it anew if something is left.
    fn clean_up_list(&mut self, owner: Owner<'_, K>, queued: i64, now: i64) -> Result<()> {
        let Owner { key, hash } = owner;
        let head = self.heads.get(hash, key)?.filter(|head| head.queued == queued);
        let Some((mut first, next)) = head.map(|head| (head.first_chunk, head.next_chunk)) else {
            return Ok(());
        };
        let last_of = |chunk: &Elements<V>| chunk.iter().map(|(until, _)| *until).max();
        let mut later = None;
        while first < next && later.is_none() {
            let place = hash_part(hash, &first, self.key_groups)?;
            let part = (key.clone(), first);
            later = self.chunks.get(place, &part)?.and_then(last_of).filter(|until| now < *until);
            if later.is_none() {
                self.chunks.remove(place, &part)?;
                first += 1;
            }
        }
        let expiry = &self.expiry;
        let absent = || unreachable!("the head is there");
        let end = self.heads.update(hash, key, absent, |head| {
            head.first_chunk = first;
            if later.is_none() {
                head.last.retain(|(until, _)| now < *until);
                later = last_of(&head.last);
            }
            let end = expiry.slice_end(later?);
            head.queued = end;
            Some(end)
        })?;
        match end {
            Some(end) => self.expiry.queue(end, owner, ()),
            None => Ok(self.heads.remove(hash, key).map(drop)?),
        }
    }
}

impl<K: Key, V: Data> AnyState<K> for ExpiringLists<K, V> {
    fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        let [queue, heads, _] = self.ids;
        match key.table {
            id if id == queue => self.expiry.restore_entry(key, value),
            id if id == heads => self.heads.restore_entry(key, value),
            _ => self.chunks.restore_entry(key, value),
        }
    }

    fn relieve(&mut self) -> state::Result<()> {
        self.heads.relieve()?;
        self.chunks.relieve()?;
        self.expiry.relieve()
    }

    fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        self.heads.snapshot_into(snapshot)?;
        self.chunks.snapshot_into(snapshot)?;
        self.expiry.snapshot_into(snapshot)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()> {
        f(&mut self.heads)?;
        f(&mut self.chunks)?;
        f(self.expiry.state_table())
    }

    fn clean_up(&mut self, clocks: Clocks, budget: &mut usize) -> Result<bool> {
        let now = self.expiry.now(clocks);
        while *budget > 0 {
            let Some(chunk) = self.expiry.take_due(now)? else { return Ok(true) };
            *budget = budget.saturating_sub(chunk.len().max(1));
            for due in &chunk {
                let owner = Owner { key: &due.key, hash: due.hash };
                self.clean_up_list(owner, due.queued, now)?;
            }
        }
        Ok(false)
    }

    fn wake_at(&self) -> Option<ProcessingTime> {
        self.expiry.wake_at()
    }
}
