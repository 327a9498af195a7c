//! How far windows have been fired, and what of that a snapshot holds.
//!
//! # Invariants
//! * I1: a window of one key group is fired when its end is greater than the group's, and not
//!   otherwise: after a restore key groups may have come differently far.
//! * I2: the tables are written at a snapshot only. What is restored is read and removed at once,
//!   so that no later snapshot holds it.

use thalweg_engine::state::{
    self, KeyGroup, KeyGroupCount, Namespace, OperatorState, SlicedTable, Snapshot, StateKey,
    Table, TableId, codec,
};
use thalweg_engine::{Data, EachTable, Key, OpenContext, Result};

use super::firing::{Fired, Firing};
use crate::group_keys::GroupKeys;

/// How far windows have been fired.
#[derive(Clone)]
pub(crate) struct Progress {
    /// All windows up to this end have been fired, for key groups without an entry below.
    pub(crate) fired: i64,
    /// Key groups that had come further when they were restored.
    ahead: Vec<(KeyGroup, i64)>,
    key_groups: KeyGroupCount,
}

impl Progress {
    /// Nothing has been fired.
    pub(crate) fn new() -> Self {
        Progress { fired: i64::MIN, ahead: Vec::new(), key_groups: KeyGroupCount::default() }
    }

    /// The end of the last window that the key group of `hash` has fired.
    #[inline]
    pub(crate) fn of_hash(&self, hash: u64) -> i64 {
        match self.ahead.is_empty() {
            true => self.fired,
            false => self.of_group(KeyGroup::of(hash, self.key_groups)),
        }
    }

    fn of_group(&self, group: KeyGroup) -> i64 {
        let ahead = self.ahead.iter().find(|(g, _)| *g == group);
        ahead.map_or(self.fired, |&(_, fired)| fired)
    }

    /// The windows that end at `end` are fired.
    pub(crate) fn reach(&mut self, end: i64) {
        self.fired = end;
        self.ahead.retain(|&(_, fired)| fired > end);
    }
}

/// The tables that hold progress, and what was fired and not given out yet.
pub(crate) struct FiringTables<K, A> {
    fired: Table<u32, i64>,
    pending: SlicedTable<K, A>,
    pending_id: TableId,
    group_keys: GroupKeys,
    key_groups: KeyGroupCount,
    restored: Vec<(KeyGroup, i64)>,
}

impl<K: Key, A: Data> FiringTables<K, A> {
    pub(crate) fn open(
        state: &mut OperatorState,
        [fired, pending]: [TableId; 2],
        context: &OpenContext<'_>,
    ) -> Result<Self> {
        let key_groups = context.key_group_count;
        Ok(FiringTables {
            fired: state.table(fired),
            pending: state.sliced(pending),
            pending_id: pending,
            group_keys: GroupKeys::new(context.key_groups, key_groups)?,
            key_groups,
            restored: Vec::new(),
        })
    }

    /// Takes an entry of a snapshot; call `finish_restore` when all are taken.
    pub(crate) fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        if key.table == self.pending_id {
            return self.pending.restore_entry(key, value);
        }
        self.restored.push((key.key_group, codec::decode(value)?));
        self.fired.restore_entry(key, value)
    }

    /// Queues what is to be given out, and says how far windows have been fired.
    pub(crate) fn finish_restore(&mut self, firing: &mut Firing<K, A>) -> Result<Progress> {
        for namespace in self.pending.namespaces().collect::<Vec<_>>() {
            let Some(table) = self.pending.get_slice(namespace) else { continue };
            let Namespace(end, _) = namespace;
            let mut window = Vec::new();
            table.for_each(|key, hash, accumulator| {
                let (key, accumulator) = (key.clone(), accumulator.clone());
                window.push(Fired { end, key, hash, accumulator });
            })?;
            firing.push_window(window)?;
            self.pending.drop_slice(namespace)?;
        }
        self.fired.clear()?;
        // A snapshot has an entry for each of its key groups, or for none. In the latter nothing
        // was left, but records that were on their way may be for windows that others have fired.
        let restored = std::mem::take(&mut self.restored);
        let is_complete = restored.len() == self.group_keys.iter().count();
        let least = restored.iter().map(|&(_, fired)| fired).min().filter(|_| is_complete);
        let fired = least.unwrap_or(i64::MIN);
        let ahead = restored.into_iter().filter(|&(_, f)| f > fired).collect();
        Ok(Progress { fired, ahead, key_groups: self.key_groups })
    }

    /// Adds what a snapshot needs: no progress where nothing can be fired again. Call
    /// `after_snapshot` when the snapshot is finished.
    pub(crate) fn snapshot_into<'a>(
        &mut self,
        progress: Option<&Progress>,
        firing: impl Iterator<Item = &'a Fired<K, A>>,
        snapshot: &mut Snapshot,
    ) -> Result<()>
    where
        A: 'a,
    {
        for key in self.group_keys.iter() {
            let Some(progress) = progress else { break };
            self.fired.insert(key.hash, &key.key, progress.of_group(key.group))?;
        }
        for Fired { end, key, hash, accumulator } in firing {
            self.pending.slice(Namespace(*end, 0)).insert(*hash, key, accumulator.clone())?;
        }
        self.fired.snapshot_into(snapshot)?;
        Ok(self.pending.snapshot_into(snapshot)?)
    }

    /// Removes what was written for the snapshot that has been finished.
    pub(crate) fn after_snapshot(&mut self) -> Result<()> {
        self.fired.clear()?;
        for namespace in self.pending.namespaces().collect::<Vec<_>>() {
            self.pending.drop_slice(namespace)?;
        }
        Ok(())
    }

    pub(crate) fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        f(&mut self.fired)?;
        Ok(f(&mut self.pending)?)
    }
}
