//! `Rules`: broadcast state, a map that every subtask of an operator has alike.
//!
//! # Snapshots
//! Every subtask writes the whole map, under key group 0 whether that is its own or not. So every
//! part of a snapshot has all of it in a known place, and whichever parts a subtask restores from,
//! it finds the map in any of them. Barriers cut the one order of rules at one place for all, so
//! the parts agree; parts that do not are refused.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_engine::state::{
    KeyGroupCount, KeyGroupRange, OperatorState, Snapshot, StateTable, Table, codec, hash_part,
};
use thalweg_engine::{Data, Error, Key, OpenContext, Result};

use super::keyed::RULES;

/// Broadcast state in one subtask.
pub(super) struct Rules<L, V> {
    pub(super) map: BTreeMap<L, V>,
    /// The map as of the last snapshot, for a store that keeps what did not change.
    table: Table<L, V>,
    /// The keys in the table.
    written: BTreeSet<L>,
    has_changed: bool,
    key_groups: KeyGroupCount,
}

impl<L: Key + Ord, V: Data> Rules<L, V> {
    /// Opens the map, restored if the context has snapshots.
    pub(super) fn open(state: &mut OperatorState, context: &OpenContext<'_>) -> Result<Self> {
        let mut found: Option<BTreeMap<L, V>> = None;
        for part in context.restored {
            let mut map = BTreeMap::new();
            part.for_each(KeyGroupRange::new(0, 1), |key, value| {
                if key.table == RULES {
                    map.insert(codec::decode_key(key.key)?, codec::decode(value)?);
                }
                Ok(())
            })?;
            match &found {
                Some(other) if !other.keys().eq(map.keys()) => {
                    return Err(Error::bug("subtasks have snapshots of different broadcast state"));
                }
                Some(_) => {}
                None => found = Some(map),
            }
        }
        let map = found.unwrap_or_default();
        Ok(Rules {
            has_changed: !map.is_empty(),
            map,
            table: state.table(RULES),
            written: BTreeSet::new(),
            key_groups: context.key_group_count,
        })
    }

    /// The map, to be changed.
    pub(super) fn change(&mut self) -> &mut BTreeMap<L, V> {
        self.has_changed = true;
        &mut self.map
    }

    /// Adds the map to a snapshot. If it has changed since the last one it is written as a whole.
    pub(super) fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        if std::mem::take(&mut self.has_changed) {
            let Rules { map, table, written, key_groups, .. } = self;
            for gone in written.iter().filter(|key| !map.contains_key(key)) {
                table.remove(hash_part(0, gone, *key_groups)?, gone)?;
            }
            for (key, value) in &*map {
                table.insert(hash_part(0, key, *key_groups)?, key, value.clone())?;
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
