//! One value per key, kept for good or expiring: what value, reducing and aggregating state have in
//! common.

use std::cell::Cell;

use thalweg_engine::state::{self, OperatorState, Restore, Snapshot, StateKey, Table, TableId};
use thalweg_engine::{Data, EachTable, Key, Result};

use super::ttl::{Clocks, Expiry, Stamped, Ttl};
use super::{AnyState, Owner, foreign};

/// A table in which values expire.
pub(in crate::process) struct ExpiringValues<K, V> {
    table: Table<K, Stamped<V>>,
    expiry: Expiry<K, ()>,
    table_id: TableId,
}

impl<K: Key, V: Data> ExpiringValues<K, V> {
    pub(super) fn new(state: &mut OperatorState, ids: &[TableId; 3], ttl: Ttl) -> Self {
        let [queue, table_id, _] = *ids;
        let (table, expiry) = (state.table(table_id), Expiry::new(state, queue, ttl));
        ExpiringValues { table, expiry, table_id }
    }

    fn get(&mut self, Owner { key, hash }: Owner<'_, K>, clocks: Clocks) -> Result<Option<&V>> {
        let ExpiringValues { table, expiry, .. } = self;
        let now = expiry.now(clocks);
        if expiry.is_renewed_by_reads() {
            if table.get(hash, key)?.is_none_or(|stamped| stamped.until <= now) {
                return Ok(None);
            }
            let absent = || unreachable!("the value is there");
            table.update(hash, key, absent, |stamped| expiry.renew(stamped, clocks))?;
        }
        let alive = table.get(hash, key)?.filter(|stamped| now < stamped.until);
        Ok(alive.map(|stamped| &stamped.value))
    }

    fn update<R>(
        &mut self,
        owner: Owner<'_, K>,
        clocks: Clocks,
        init: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let ExpiringValues { table, expiry, .. } = self;
        let now = expiry.now(clocks);
        let (init, is_new) = (Cell::new(Some(init)), Cell::new(false));
        let create = || {
            is_new.set(true);
            let init = init.take().expect("a value is created at most once");
            expiry.stamped(init(), clocks)
        };
        let (result, queued) = table.update(owner.hash, owner.key, create, |stamped| {
            if !is_new.get() {
                match stamped.until <= now {
                    true => *stamped = create(),
                    false => expiry.renew(stamped, clocks),
                }
            }
            (f(&mut stamped.value), stamped.queued)
        })?;
        if is_new.get() {
            expiry.queue(queued, owner, ())?;
        }
        Ok(result)
    }

    fn remove(&mut self, Owner { key, hash }: Owner<'_, K>, clocks: Clocks) -> Result<Option<V>> {
        let now = self.expiry.now(clocks);
        let removed = self.table.remove(hash, key)?;
        Ok(removed.filter(|stamped| now < stamped.until).map(|stamped| stamped.value))
    }
}

impl<K: Key, V: Data> AnyState<K> for ExpiringValues<K, V> {
    fn leave(&mut self, restore: &mut Restore<'_>) -> state::Result<()> {
        restore.leave(&mut self.table)
    }

    fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        match key.table == self.table_id {
            true => self.table.restore_entry(key, value),
            false => self.expiry.restore_entry(key, value),
        }
    }

    fn relieve(&mut self) -> state::Result<()> {
        self.table.relieve()?;
        self.expiry.relieve()
    }

    fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        self.table.snapshot_into(snapshot)?;
        self.expiry.snapshot_into(snapshot)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()> {
        f(&mut self.table)?;
        f(self.expiry.state_table())
    }

    fn clean_up(&mut self, clocks: Clocks, budget: &mut usize) -> Result<bool> {
        let now = self.expiry.now(clocks);
        while *budget > 0 {
            let Some(chunk) = self.expiry.take_due(now)? else { return Ok(true) };
            *budget = budget.saturating_sub(chunk.len().max(1));
            for due in chunk {
                let (hash, key) = (due.hash, &due.key);
                let stamped = self.table.get(hash, key)?;
                let Some(stamped) = stamped.filter(|stamped| stamped.queued == due.queued) else {
                    continue;
                };
                if stamped.until <= now {
                    self.table.remove(hash, key)?;
                    continue;
                }
                let end = self.expiry.slice_end(stamped.until);
                let absent = || unreachable!("the value is there");
                self.table.update(hash, key, absent, |stamped| stamped.queued = end)?;
                self.expiry.queue(end, Owner { key, hash }, ())?;
            }
        }
        Ok(false)
    }

    fn wake_at(&self) -> Option<thalweg_engine::ProcessingTime> {
        self.expiry.wake_at()
    }
}

/// One value per key.
pub(in crate::process) enum Single<'a, K, V> {
    /// Another function's.
    Foreign,
    /// Kept for good.
    Plain(&'a mut Table<K, V>),
    /// Expiring.
    Expiring(&'a mut ExpiringValues<K, V>, Clocks),
}

impl<'a, K: Key, V: Data> Single<'a, K, V> {
    pub(super) fn get(self, owner: Owner<'_, K>) -> Result<Option<&'a V>> {
        match self {
            Single::Foreign => Err(foreign()),
            Single::Plain(table) => Ok(table.get(owner.hash, owner.key)?),
            Single::Expiring(values, clocks) => values.get(owner, clocks),
        }
    }

    /// As `get`, for a caller that goes on with it.
    pub(super) fn peek(&mut self, owner: Owner<'_, K>) -> Result<Option<&V>> {
        match self {
            Single::Foreign => Err(foreign()),
            Single::Plain(table) => Ok(table.get(owner.hash, owner.key)?),
            Single::Expiring(values, clocks) => values.get(owner, *clocks),
        }
    }

    pub(super) fn insert(&mut self, owner: Owner<'_, K>, value: V) -> Result<()> {
        match self {
            Single::Foreign => Err(foreign()),
            Single::Plain(table) => Ok(table.insert(owner.hash, owner.key, value)?),
            Single::Expiring(values, clocks) => {
                // It is the first one, or takes the place of what there is.
                let value = Cell::new(Some(value));
                let init = || value.take().expect("init is called at most once");
                values.update(owner, *clocks, init, |old| {
                    if let Some(value) = value.take() {
                        *old = value;
                    }
                })
            }
        }
    }

    pub(super) fn update<R>(
        &mut self,
        owner: Owner<'_, K>,
        init: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        match self {
            Single::Foreign => Err(foreign()),
            Single::Plain(table) => Ok(table.update(owner.hash, owner.key, init, f)?),
            Single::Expiring(values, clocks) => values.update(owner, *clocks, init, f),
        }
    }

    pub(super) fn remove(&mut self, owner: Owner<'_, K>) -> Result<Option<V>> {
        match self {
            Single::Foreign => Err(foreign()),
            Single::Plain(table) => Ok(table.remove(owner.hash, owner.key)?),
            Single::Expiring(values, clocks) => values.remove(owner, *clocks),
        }
    }
}
