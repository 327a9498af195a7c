//! `SlicedTable`: one table per namespace (slice, and end of the first window that accepted).
//!
//! A slice's entries go together: a slice that no window needs any more is dropped at once, and
//! memory is relieved by evicting the slices not asked for the longest.

use std::collections::BTreeMap;

use crate::base::RestoredRuns;
use crate::budget::Share;
use crate::changes::Changes;
use crate::data::{Data, Key};
use crate::error::{Result, StateError};
use crate::schema::TableTypes;
use crate::state::Snapshot;
use crate::state_key::{Namespace, StateKey, TableId};
use crate::store::Region;
use crate::table::{StateTable, Table};

/// Restoring relieves the memory after this many entries.
const RELIEVE_INTERVAL: u64 = 1_024;

/// Tables by namespace.
pub struct SlicedTable<K, V> {
    slices: BTreeMap<Namespace, Slice<K, V>>,
    /// What every slice's region has in common.
    region: Region,
    share: Option<Share>,
    /// Counts the calls that ask for a slice.
    clock: u64,
    /// The clock when sizes were last added up.
    counted_at: u64,
    /// Slices whose sizes may have changed since then; more than once is fine.
    uncounted: Vec<Namespace>,
    /// The sum of the slices' sizes, in bytes.
    bytes: usize,
    /// Slices that were next to go when this was made, the first one last, with their clocks.
    victims: Vec<(u64, Namespace)>,
    restored: u64,
    changes: Option<Changes>,
    /// Whether something of a snapshot is still to be logged.
    is_sweeping: bool,
    /// Whether a slice may have entries in runs.
    is_loading: bool,
    /// Slices that were dropped, as they were when a snapshot was taken of them.
    dropped: Vec<Table<K, V>>,
}

struct Slice<K, V> {
    table: Table<K, V>,
    touched: u64,
    /// Its size when it was last counted.
    bytes: usize,
}

impl<K: Key, V: Data> StateTable for SlicedTable<K, V> {
    fn id(&self) -> TableId {
        self.region.table
    }

    fn sweep(&mut self, budget: &mut usize) -> Result<()> {
        while let Some(table) = self.dropped.last_mut().filter(|_| *budget > 0) {
            if table.sweep_some(budget)? {
                self.dropped.pop();
            }
        }
        let slices = self.slices.values_mut().map(|slice| &mut slice.table);
        for table in slices.filter(|table| table.is_sweeping()) {
            if *budget == 0 || !table.sweep_some(budget)? {
                return Ok(());
            }
        }
        if self.is_sweeping && self.dropped.is_empty() {
            self.is_sweeping = false;
            self.changes.iter().for_each(Changes::table_done);
        }
        Ok(())
    }

    fn load(&mut self, budget: &mut usize) -> Result<()> {
        if !self.is_loading {
            return Ok(());
        }
        let is_full = self.share.as_ref().is_some_and(Share::is_nearly_full);
        self.is_loading = false;
        for (namespace, slice) in &mut self.slices {
            let table = &mut slice.table;
            if self.share.is_some() && *budget > 0 && table.is_loading() {
                self.uncounted.push(*namespace);
            }
            while *budget > 0 && table.is_loading() {
                table.load_some(budget, is_full)?;
            }
            self.is_loading |= table.is_loading();
        }
        self.relieve()
    }

    fn leave_in(&mut self, runs: &RestoredRuns) {
        for (namespace, entries) in runs.spaces(self.region.table, self.region.range) {
            self.slice(namespace).leave_space_in(runs, entries);
            self.is_loading = true;
        }
    }

    fn types(&self) -> TableTypes {
        TableTypes::of::<K, V>()
    }
}

impl<K: Key, V: Data> SlicedTable<K, V> {
    pub(crate) fn new(region: Region, share: Option<Share>, changes: Option<Changes>) -> Self {
        SlicedTable {
            slices: BTreeMap::new(),
            region,
            share,
            clock: 0,
            counted_at: 0,
            uncounted: Vec::new(),
            bytes: 0,
            victims: Vec::new(),
            restored: 0,
            changes,
            is_sweeping: false,
            is_loading: false,
            dropped: Vec::new(),
        }
    }

    /// The table of a namespace, made if there is none.
    ///
    /// # Cost
    /// Logarithmic in the number of namespaces: ask once per run of records of one slice.
    pub fn slice(&mut self, namespace: Namespace) -> &mut Table<K, V> {
        self.clock += 1;
        let (region, changes) = (&self.region, &self.changes);
        let slice = self.slices.entry(namespace).or_insert_with(|| Slice {
            table: Table::new(Region { namespace, ..region.clone() }, None, changes.clone()),
            touched: 0,
            bytes: 0,
        });
        if self.share.is_some() && slice.touched <= self.counted_at {
            self.uncounted.push(namespace);
        }
        slice.touched = self.clock;
        &mut slice.table
    }

    /// The table of a namespace, if it has one.
    pub fn get_slice(&mut self, namespace: Namespace) -> Option<&mut Table<K, V>> {
        self.clock += 1;
        let slice = self.slices.get_mut(&namespace)?;
        if self.share.is_some() && slice.touched <= self.counted_at {
            self.uncounted.push(namespace);
        }
        slice.touched = self.clock;
        Some(&mut slice.table)
    }

    /// The namespaces that have a table, in memory or not, in ascending order.
    pub fn namespaces(&self) -> impl DoubleEndedIterator<Item = Namespace> + '_ {
        self.slices.keys().copied()
    }

    /// Removes a namespace and all its entries.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn drop_slice(&mut self, namespace: Namespace) -> Result<()> {
        match self.slices.remove(&namespace) {
            Some(mut slice) => {
                self.bytes -= slice.bytes;
                slice.table.clear()?;
                if slice.table.is_sweeping() {
                    self.dropped.push(slice.table);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The number of entries of all slices, in memory or not.
    pub fn len(&self) -> usize {
        self.slices.values().map(|slice| slice.table.len()).sum()
    }

    /// The number of entries in memory.
    pub fn len_in_memory(&self) -> usize {
        self.slices.values().map(|slice| slice.table.len_in_memory()).sum()
    }

    /// Whether no slice has an entry, in memory or not.
    pub fn is_empty(&self) -> bool {
        self.slices.values().all(|slice| slice.table.is_empty())
    }

    /// Gives up memory if the operator's tables exceed their budget: slices go to the store, those
    /// not asked for the longest first. Operators call it once per batch.
    ///
    /// # Errors
    /// If an entry cannot be encoded or the store cannot be written.
    ///
    /// # Cost
    /// With a store, some nanoseconds for each slice that was asked for since the last call, while
    /// the budget is kept; without, none.
    pub fn relieve(&mut self) -> Result<()> {
        if self.share.is_none() {
            return Ok(());
        }
        let bytes = self.estimated_bytes()?;
        let Some(share) = &mut self.share else { return Ok(()) };
        share.report(bytes);
        let excess = share.excess();
        if excess == 0 {
            return Ok(());
        }
        self.evict_bytes(excess)?;
        let bytes = self.estimated_bytes()?;
        if let Some(share) = &mut self.share {
            share.report(bytes);
        }
        Ok(())
    }

    /// Moves the entries of the `count` slices that were not asked for the longest, of those with
    /// entries in memory, to the store.
    ///
    /// # Errors
    /// If an entry cannot be encoded or the store cannot be written.
    pub fn evict(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let Some(slice) = self.next_victim() else { return Ok(()) };
            slice.table.evict(usize::MAX)?;
        }
        Ok(())
    }

    fn evict_bytes(&mut self, mut excess: usize) -> Result<()> {
        while let Some(slice) = self.next_victim() {
            let bytes = slice.table.estimated_bytes()?;
            if bytes >= excess {
                // Only what is needed of it; it stays the next to go.
                slice.table.evict_bytes(excess)?;
                let (touched, namespace) = (slice.touched, slice.table.namespace());
                self.victims.push((touched, namespace));
                return Ok(());
            }
            slice.table.evict(usize::MAX)?;
            excess -= bytes;
        }
        Ok(())
    }

    /// The slice with entries in memory that was not asked for the longest, which is about to lose
    /// some.
    ///
    /// # Cost
    /// Slices are sorted once for many calls: what was asked for since then is passed over, as it
    /// comes behind all that was not.
    fn next_victim(&mut self) -> Option<&mut Slice<K, V>> {
        let is_victim = |slices: &BTreeMap<Namespace, Slice<K, V>>, (touched, namespace)| {
            let slice = slices.get(&namespace);
            slice.is_some_and(|s| s.touched == touched && s.table.len_in_memory() > 0)
        };
        while self.victims.last().is_some_and(|last| !is_victim(&self.slices, *last)) {
            self.victims.pop();
        }
        if self.victims.is_empty() {
            let in_memory = self.slices.iter().filter(|(_, slice)| slice.table.len_in_memory() > 0);
            self.victims = in_memory.map(|(ns, slice)| (slice.touched, *ns)).collect();
            self.victims.sort_unstable_by(|a, b| b.cmp(a));
        }
        let (_, namespace) = self.victims.pop()?;
        self.uncounted.push(namespace);
        self.slices.get_mut(&namespace)
    }

    fn estimated_bytes(&mut self) -> Result<usize> {
        for namespace in self.uncounted.drain(..) {
            if let Some(slice) = self.slices.get_mut(&namespace) {
                let bytes = slice.table.estimated_bytes()?;
                self.bytes = self.bytes - slice.bytes + bytes;
                slice.bytes = bytes;
            }
        }
        self.counted_at = self.clock;
        Ok(self.bytes)
    }

    /// Adds all entries to a snapshot of the operator's state: from now on what they are is
    /// logged before it changes.
    ///
    /// # Errors
    /// As for [`Table::snapshot_into`].
    ///
    /// # Cost
    /// Constant per slice, unless the sweep of the snapshot before is not complete.
    pub fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.entries += self.len() as u64;
        let Some(changes) = self.changes.clone() else { return Ok(()) };
        self.sweep(&mut usize::MAX.clone())?;
        let is_whole = changes.take_superseded(self.region.table);
        for slice in self.slices.values_mut() {
            self.is_sweeping |= slice.table.freeze(is_whole)?;
        }
        snapshot.tables += usize::from(self.is_sweeping);
        Ok(())
    }

    /// Adds an entry of a snapshot; its namespace must not have its key yet.
    ///
    /// # Errors
    /// As for [`Table::restore_entry`].
    pub fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> Result<()> {
        if key.table != self.region.table {
            let detail =
                format!("entry of table {} given to table {}", key.table, self.region.table);
            return Err(StateError::corrupt(0, detail));
        }
        self.slice(key.namespace).restore_without_relief(key, value)?;
        self.restored += 1;
        if self.restored.is_multiple_of(RELIEVE_INTERVAL) { self.relieve() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
