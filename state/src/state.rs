//! `OperatorState`: one operator's state in one subtask: its tables, snapshots and restoring.
//!
//! A snapshot is taken in three steps, without anything else in between: [`begin_snapshot`], then
//! `snapshot_into` of every table, then [`finish_snapshot`]. It is complete when the tables have
//! been swept ([`StateTable::sweep`]) often enough, while they go on being used.
//!
//! [`begin_snapshot`]: OperatorState::begin_snapshot
//! [`finish_snapshot`]: OperatorState::finish_snapshot
//! [`StateTable::sweep`]: crate::StateTable::sweep

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::backend::BackendConfig;
use crate::base::RestoredRuns;
use crate::budget::{Budget, Share};
use crate::changes::{ChangeStream, Changes, LogLimits};
use crate::data::{Data, Key};
use crate::error::Result;
use crate::hash::hash_part;
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::restore::RestoreSource;
use crate::schema::{Plan, TableTypes};
use crate::sliced::SlicedTable;
use crate::state_key::{Namespace, StateKey, TableId};
use crate::store::{Region, SpillStore};
use crate::table::{StateTable, Table};

/// One operator's state in one subtask.
///
/// The tables it makes own their entries; it stays the owner of what they share.
pub struct OperatorState {
    range: KeyGroupRange,
    count: KeyGroupCount,
    store: Option<Arc<dyn SpillStore>>,
    budget: Option<Arc<Budget>>,
    tables: BTreeMap<TableId, TableTypes>,
    changes: Option<Changes>,
    /// With so many bytes to restore, tables are left in runs.
    leave_from: u64,
}

/// One part of so many of the memory is for changes on their way to runs.
const LOGS_SHARE: usize = 5;

/// State of this many bytes is read before its operator begins to work.
const LEAVE_FROM: u64 = 32 << 20;

/// A snapshot being taken.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The number of entries in all.
    pub(crate) entries: u64,
    /// The tables that have something to be swept.
    pub(crate) tables: usize,
}

/// What an operator hands over at a barrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SnapshotPart {
    /// It has no state.
    #[default]
    Stateless,
    /// Its state is what its [`ChangeStream`] has given up to the end of this epoch.
    Epoch(u64),
}

impl OperatorState {
    /// Opens empty state for the key groups in `range`.
    ///
    /// # Errors
    /// If the backend's directory cannot be made or RocksDB cannot be opened.
    pub fn open(config: BackendConfig, range: KeyGroupRange, count: KeyGroupCount) -> Result<Self> {
        match config {
            BackendConfig::Memory => Ok(Self::with_store(None, range, count)),
            #[cfg(feature = "rocksdb")]
            BackendConfig::RocksDb { directory, memory_bytes, shared } => {
                let store = crate::rocks::RocksStore::open(directory, &shared)?;
                Ok(Self::with_store(Some((Arc::new(store), memory_bytes)), range, count))
            }
        }
    }

    /// State over any store, with the bytes that its tables and their changes on the way to runs
    /// may take.
    pub(crate) fn with_store(
        store: Option<(Arc<dyn SpillStore>, usize)>,
        range: KeyGroupRange,
        count: KeyGroupCount,
    ) -> Self {
        let limits = store.as_ref().map_or(LogLimits::UNBOUNDED, |(_, memory_bytes)| {
            LogLimits::within(memory_bytes / LOGS_SHARE)
        });
        let (store, budget) = store
            .map(|(store, memory_bytes)| {
                let for_tables = memory_bytes - memory_bytes / LOGS_SHARE;
                (store, Arc::new(Budget::new(for_tables)))
            })
            .unzip();
        let changes = Some(Changes::new(range, limits));
        let (tables, leave_from) = (BTreeMap::new(), LEAVE_FROM);
        OperatorState { range, count, store, budget, tables, changes, leave_from }
    }

    /// Keeps no account of what changes: no snapshot will be taken. To be called before any table
    /// is made.
    pub fn without_snapshots(mut self) -> Self {
        self.changes = None;
        self
    }

    /// Where what changes comes out; none without snapshots.
    pub fn stream(&self) -> Option<Arc<ChangeStream>> {
        self.changes.as_ref().map(Changes::stream)
    }

    /// The key groups whose state this is.
    pub fn key_groups(&self) -> KeyGroupRange {
        self.range
    }

    /// A plain table.
    ///
    /// # Panics
    /// If the operator has a table of this id already.
    pub fn table<K: Key, V: Data>(&mut self, id: TableId) -> Table<K, V> {
        let (region, share) = self.register(id, TableTypes::of::<K, V>());
        Table::new(region, share, self.changes.clone())
    }

    /// A table of parts of keys' state: the entries of a map or list, say. A part's hash is
    /// [`hash_part`], so it is in the key group of its key.
    ///
    /// # Panics
    /// If the operator has a table of this id already.
    pub fn parts<K: Key, P: Key, V: Data>(&mut self, id: TableId) -> Table<(K, P), V> {
        let (region, share) = self.register(id, TableTypes::of::<(K, P), V>());
        let hash_of =
            |(key, part): &(K, P), count| Ok(hash_part(crate::hash_key(key)?, part, count)?);
        Table::hashed_by(hash_of, region, share, self.changes.clone())
    }

    /// A table by slices.
    ///
    /// # Panics
    /// If the operator has a table of this id already.
    pub fn sliced<K: Key, V: Data>(&mut self, id: TableId) -> SlicedTable<K, V> {
        let (region, share) = self.register(id, TableTypes::of::<K, V>());
        SlicedTable::new(region, share, self.changes.clone())
    }

    fn register(&mut self, id: TableId, types: TableTypes) -> (Region, Option<Share>) {
        assert!(self.tables.insert(id, types).is_none(), "table {id} is opened once");
        let region = Region {
            table: id,
            namespace: Namespace::default(),
            count: self.count,
            range: self.range,
            store: self.store.clone(),
        };
        (region, self.budget.clone().map(Share::new))
    }

    /// Whether the tables, as of their last `relieve`, hold more memory than they may.
    pub fn over_budget(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_exceeded())
    }

    /// Begins a snapshot.
    pub fn begin_snapshot(&mut self) -> Snapshot {
        Snapshot::default()
    }

    /// Ends a snapshot that every table has been added to.
    pub fn finish_snapshot(&mut self, snapshot: Snapshot) -> SnapshotPart {
        match &self.changes {
            None => SnapshotPart::Stateless,
            Some(changes) => {
                SnapshotPart::Epoch(changes.end_epoch(snapshot.tables, snapshot.entries))
            }
        }
    }

    /// Forgets what snapshots hold of a table: the next one writes all of it. For tables that are
    /// restored by other means than [`restore`](Self::restore).
    pub fn supersede(&self, table: TableId) {
        self.changes.iter().for_each(|changes| changes.supersede(table));
    }

    /// Restores all tables at once: [`begin_restore`](Self::begin_restore) and
    /// [`Restore::run`].
    ///
    /// # Errors
    /// As for these.
    pub fn restore(&mut self, parts: &[RestoreSource], f: &mut VisitRestored<'_>) -> Result<()> {
        self.begin_restore(parts)?.run(f)
    }

    /// Begins to restore the state of `parts` that belongs to this subtask's key groups. All tables
    /// are to be made before.
    ///
    /// # Errors
    /// `Unsupported` if a part was written for another number of key groups.
    pub fn begin_restore<'a>(&'a mut self, parts: &'a [RestoreSource]) -> Result<Restore<'a>> {
        parts.iter().try_for_each(|part| part.check_key_groups(self.count))?;
        let runs = || parts.iter().flat_map(RestoreSource::runs);
        let bytes: u64 = runs().map(|(run, _)| run.length()).sum();
        let is_large = bytes >= self.leave_from && runs().all(|(run, _)| run.is_indexed());
        Ok(Restore { state: self, parts, is_large, runs: None, left: BTreeSet::new() })
    }

    /// Leaves tables in runs that have this many bytes together, instead of a default of 32 MiB.
    pub fn leave_from(&mut self, bytes: u64) {
        self.leave_from = bytes;
    }

    /// How the values of tables whose schema has changed are changed.
    fn plans<'a>(&self, part: &'a RestoreSource) -> BTreeMap<TableId, Plan<'a>> {
        let Some(recorded) = part.schemas() else { return BTreeMap::new() };
        let plan = |(id, schema)| {
            let types = self.tables.get(id)?;
            Some((*id, types.plan(schema, &recorded.migrations)?))
        };
        recorded.tables.iter().filter_map(plan).collect()
    }
}

/// What is called with a restored entry.
pub type VisitRestored<'a> = dyn FnMut(StateKey<'_>, &[u8]) -> Result<()> + 'a;

/// The state of an operator being restored.
pub struct Restore<'a> {
    state: &'a mut OperatorState,
    parts: &'a [RestoreSource],
    is_large: bool,
    runs: Option<RestoredRuns>,
    left: BTreeSet<TableId>,
}

impl Restore<'_> {
    /// If there is much to be restored, leaves a table's entries where they are: they are read when
    /// they are asked for, and taken over in steps ([`StateTable::load`]). Not if they were written
    /// under another schema.
    ///
    /// # Errors
    /// `Io` if a run cannot be opened.
    pub fn leave(&mut self, table: &mut dyn StateTable) -> Result<()> {
        let is_changed = |part| self.state.plans(part).contains_key(&table.id());
        if !self.is_large || self.parts.iter().any(is_changed) {
            return Ok(());
        }
        if self.runs.is_none() {
            let range = self.state.range;
            let runs = self.parts.iter().flat_map(RestoreSource::runs);
            let runs = runs.map(|(run, limit)| (run.clone(), limit.intersection(range)));
            self.runs = Some(RestoredRuns::open(runs.filter(|(_, limit)| !limit.is_empty()))?);
        }
        if let Some(runs) = &self.runs {
            table.leave_in(runs);
            self.left.insert(table.id());
        }
        Ok(())
    }

    /// Calls `f` with every entry of the tables that are not left in runs; `f` hands it to the
    /// `restore_entry` of the table it names. Values that were written under another schema than a
    /// table has now are changed on the way, and the next snapshot writes all of that table.
    ///
    /// # Errors
    /// What `f` returns; `Corrupt` if a part is damaged; `Incompatible` if a value cannot become
    /// one of its table.
    pub fn run(self, f: &mut VisitRestored<'_>) -> Result<()> {
        let Restore { state, parts, left, .. } = self;
        for part in parts {
            let plans = state.plans(part);
            plans.keys().for_each(|table| state.supersede(*table));
            part.for_each_but(&left, state.range, |key, value| {
                state.changes.iter().for_each(|changes| changes.count_handed(key.table));
                match plans.get(&key.table) {
                    None => f(key, value),
                    Some(plan) => f(key, &plan.change(key.table, value)?),
                }
            })?;
        }
        state.changes.iter().for_each(Changes::end_restore);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
