//! `Rules`: broadcast state, a map that every subtask of an operator has alike.
//!
//! # Snapshots
//! Every subtask writes the whole map, under the first of its key groups: its home. Barriers cut
//! the one order of rules at one place for all, so the copies agree; copies that do not are
//! refused. Whichever parts a subtask restores from, the one that holds its first key group has a
//! copy at or before that group. Copies elsewhere in its range, which come from more subtasks than
//! there are now, are removed.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_engine::state::{
    self, KeyGroup, KeyGroupCount, KeyGroupRange, OperatorState, RestoreSource, Snapshot, StateKey,
    StateTable, Table, codec, hash_part,
};
use thalweg_engine::{Data, Error, Key, OpenContext, Result};

use super::keyed::RULES;
use crate::group_keys::{GroupKey, GroupKeys};

/// Broadcast state in one subtask.
pub(super) struct Rules<L, V> {
    pub(super) map: BTreeMap<L, V>,
    /// The map as of the last snapshot, under the home's key.
    table: Table<(u32, L), V>,
    home: GroupKey,
    /// The keys in the table.
    written: BTreeSet<L>,
    has_changed: bool,
    key_groups: KeyGroupCount,
    /// Restored copies by key group.
    copies: BTreeMap<KeyGroup, BTreeMap<L, V>>,
}

impl<L: Key + Ord, V: Data> Rules<L, V> {
    /// Opens the map; `restore_entry` and `finish_restore` are to follow.
    pub(super) fn open(state: &mut OperatorState, context: &OpenContext<'_>) -> Result<Self> {
        let range = context.key_groups;
        let home = KeyGroupRange::new(range.start, range.start + 1);
        let home = GroupKeys::new(home, context.key_group_count)?.of(KeyGroup::new(range.start));
        let mut copies = BTreeMap::new();
        for part in context.restored {
            copies.extend(copy_before(range.start, part)?);
        }
        Ok(Rules {
            map: BTreeMap::new(),
            table: state.parts(RULES),
            home,
            written: BTreeSet::new(),
            has_changed: false,
            key_groups: context.key_group_count,
            copies,
        })
    }

    /// Takes an entry of a snapshot.
    pub(super) fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        let (_, rule): (u32, L) = codec::decode_key(key.key)?;
        self.copies.entry(key.key_group).or_default().insert(rule, codec::decode(value)?);
        self.table.restore_entry(key, value)
    }

    /// Makes one map of the copies that were restored.
    pub(super) fn finish_restore(&mut self) -> Result<()> {
        let mut copies = std::mem::take(&mut self.copies);
        if let Some(first) = copies.values().next()
            && !copies.values().all(|copy| copy.keys().eq(first.keys()))
        {
            return Err(Error::bug("subtasks have snapshots of different broadcast state"));
        }
        let mut elsewhere = Vec::new();
        self.table.for_each(|key, hash, _| {
            if key.0 != self.home.key {
                elsewhere.push((hash, key.clone()));
            }
        })?;
        for (hash, key) in elsewhere {
            self.table.remove(hash, &key)?;
        }
        match copies.remove(&self.home.group) {
            Some(map) => {
                self.written = map.keys().cloned().collect();
                self.map = map;
            }
            None => {
                self.map = copies.into_values().next().unwrap_or_default();
                self.has_changed = true;
            }
        }
        Ok(())
    }

    /// The map, to be changed.
    pub(super) fn change(&mut self) -> &mut BTreeMap<L, V> {
        self.has_changed = true;
        &mut self.map
    }

    /// Adds the map to a snapshot. If it has changed since the last one it is written as a whole.
    pub(super) fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        if std::mem::take(&mut self.has_changed) {
            let Rules { map, table, home, written, key_groups, .. } = self;
            for gone in written.iter().filter(|key| !map.contains_key(key)) {
                let hash = hash_part(home.hash, gone, *key_groups)?;
                table.remove(hash, &(home.key, gone.clone()))?;
            }
            for (key, value) in &*map {
                let hash = hash_part(home.hash, key, *key_groups)?;
                table.insert(hash, &(home.key, key.clone()), value.clone())?;
            }
            *written = map.keys().cloned().collect();
        }
        Ok(self.table.snapshot_into(snapshot)?)
    }

    /// The table that `snapshot_into` hands over.
    pub(super) fn state_table(&mut self) -> &mut dyn StateTable {
        &mut self.table
    }
}

/// The copy of a part that begins before key group `end`, if there is one there: key groups are
/// read until one has it.
fn copy_before<L: Key + Ord, V: Data>(
    end: u16,
    part: &RestoreSource,
) -> Result<Option<(KeyGroup, BTreeMap<L, V>)>> {
    for group in 0..end {
        let mut map = BTreeMap::new();
        part.for_each(KeyGroupRange::new(group, group + 1), |key, value| {
            if key.table == RULES {
                let (_, rule): (u32, L) = codec::decode_key(key.key)?;
                map.insert(rule, codec::decode(value)?);
            }
            Ok(())
        })?;
        if !map.is_empty() {
            return Ok(Some((KeyGroup::new(group), map)));
        }
    }
    Ok(None)
}
