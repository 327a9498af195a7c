//! Maps whose entries expire, each on its own.

use thalweg_engine::state::{self, KeyGroupCount, OperatorState, Snapshot, StateKey, TableId};
use thalweg_engine::{Data, EachTable, Key, ProcessingTime, Result};

use super::map::Maps;
use super::ttl::{Clocks, Expiry, Stamped, Ttl};
use super::{AnyState, Owner};

/// The maps of all keys.
pub(in crate::process) struct ExpiringMaps<K, M, V> {
    maps: Maps<K, M, Stamped<V>>,
    expiry: Expiry<K, M>,
    queue_id: TableId,
}

impl<K: Key, M: Key, V: Data> ExpiringMaps<K, M, V> {
    pub(super) fn new(
        state: &mut OperatorState,
        [queue_id, entries, ends]: [TableId; 3],
        key_groups: KeyGroupCount,
        ttl: Ttl,
    ) -> Self {
        let maps = Maps::new(state, [entries, ends], key_groups);
        ExpiringMaps { maps, expiry: Expiry::new(state, queue_id, ttl), queue_id }
    }

    pub(super) fn get(
        &mut self,
        owner: Owner<'_, K>,
        map_key: &M,
        clocks: Clocks,
    ) -> Result<Option<&V>> {
        let now = self.expiry.now(clocks);
        if self.expiry.is_renewed_by_reads() {
            self.renew(owner, map_key, clocks)?;
        }
        let entry = self.maps.get(owner, map_key)?.filter(|entry| now < entry.until);
        Ok(entry.map(|entry| &entry.value))
    }

    /// A read of an entry, if it is there.
    fn renew(&mut self, owner: Owner<'_, K>, map_key: &M, clocks: Clocks) -> Result<()> {
        let ExpiringMaps { maps, expiry, .. } = self;
        let now = expiry.now(clocks);
        if maps.get(owner, map_key)?.is_some_and(|entry| now < entry.until) {
            let absent = || unreachable!("the entry is there");
            maps.update(owner, map_key, absent, |entry| expiry.renew(entry, clocks))?;
        }
        Ok(())
    }

    pub(super) fn update<R>(
        &mut self,
        owner: Owner<'_, K>,
        map_key: &M,
        clocks: Clocks,
        init: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let ExpiringMaps { maps, expiry, .. } = self;
        let now = expiry.now(clocks);
        if maps.get(owner, map_key)?.is_some_and(|entry| entry.until <= now) {
            // What comes anew stands last, as if the old one had been cleaned up.
            maps.remove(owner, map_key)?;
        }
        let mut is_new = false;
        let create = || {
            is_new = true;
            expiry.stamped(init(), clocks)
        };
        let (result, queued) = maps.update(owner, map_key, create, |entry| {
            expiry.renew(entry, clocks);
            (f(&mut entry.value), entry.queued)
        })?;
        if is_new {
            expiry.queue(queued, owner, map_key.clone())?;
        }
        Ok(result)
    }

    pub(super) fn remove(
        &mut self,
        owner: Owner<'_, K>,
        map_key: &M,
        clocks: Clocks,
    ) -> Result<Option<V>> {
        let now = self.expiry.now(clocks);
        let removed = self.maps.remove(owner, map_key)?;
        Ok(removed.filter(|entry| now < entry.until).map(|entry| entry.value))
    }

    pub(super) fn for_each(
        &mut self,
        owner: Owner<'_, K>,
        clocks: Clocks,
        mut f: impl FnMut(&M, &V),
    ) -> Result<()> {
        let (now, is_renewed) = (self.expiry.now(clocks), self.expiry.is_renewed_by_reads());
        let mut read = Vec::new();
        self.maps.for_each(owner, |map_key, entry| {
            if now < entry.until {
                f(map_key, &entry.value);
                read.extend(is_renewed.then(|| map_key.clone()));
            }
        })?;
        read.iter().try_for_each(|map_key| self.renew(owner, map_key, clocks))
    }

    /// The number of entries.
    pub(super) fn len(&mut self, owner: Owner<'_, K>, clocks: Clocks) -> Result<usize> {
        let (now, mut len) = (self.expiry.now(clocks), 0);
        self.maps.for_each(owner, |_, entry| len += usize::from(now < entry.until))?;
        Ok(len)
    }

    pub(super) fn clear(&mut self, owner: Owner<'_, K>) -> Result<()> {
        self.maps.clear(owner)
    }
}

impl<K: Key, M: Key, V: Data> AnyState<K> for ExpiringMaps<K, M, V> {
    fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        match key.table == self.queue_id {
            true => self.expiry.restore_entry(key, value),
            false => self.maps.restore_entry(key, value),
        }
    }

    fn relieve(&mut self) -> state::Result<()> {
        self.maps.relieve()?;
        self.expiry.relieve()
    }

    fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        self.maps.snapshot_into(snapshot)?;
        self.expiry.snapshot_into(snapshot)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()> {
        self.maps.each_table(f)?;
        f(self.expiry.state_table())
    }

    fn clean_up(&mut self, clocks: Clocks, budget: &mut usize) -> Result<bool> {
        let ExpiringMaps { maps, expiry, .. } = self;
        let now = expiry.now(clocks);
        while *budget > 0 {
            let Some(chunk) = expiry.take_due(now)? else { return Ok(true) };
            let parts = chunk.iter().map(|due| due.parts.len()).sum::<usize>();
            *budget = budget.saturating_sub(parts.max(1));
            for due in &chunk {
                let owner = Owner { key: &due.key, hash: due.hash };
                for map_key in &due.parts {
                    let entry = maps.get(owner, map_key)?;
                    let Some(entry) = entry.filter(|entry| entry.queued == due.queued) else {
                        continue;
                    };
                    if entry.until <= now {
                        maps.remove(owner, map_key)?;
                        continue;
                    }
                    let end = expiry.slice_end(entry.until);
                    let absent = || unreachable!("the entry is there");
                    maps.update(owner, map_key, absent, |entry| entry.queued = end)?;
                    expiry.queue(end, owner, map_key.clone())?;
                }
            }
        }
        Ok(false)
    }

    fn wake_at(&self) -> Option<ProcessingTime> {
        self.expiry.wake_at()
    }
}
