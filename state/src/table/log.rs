//! How a table's changes get into the log: when they happen, and in the sweep after a snapshot.
//!
//! A snapshot changes nothing but a number: entries of the epoch before it are those that are to be
//! logged. A sweep finds them, a few at a time; what changes, moves or leaves before the sweep has
//! come to it is logged at once.

use super::spill::put_value;
use super::{Entry, LOGGED, Table};
use crate::changes::{ChangeLog, Changes, When};
use crate::codec;
use crate::data::{Data, Key};
use crate::error::Result;
use crate::state::Snapshot;
use crate::store::Region;
use crate::table::StateTable;

/// Entries looked at cost this part of entries logged.
const LOOKS_PER_ENTRY: usize = 8;

/// The entries that a snapshot has still to log.
pub(super) struct Sweep<K, V> {
    /// Those before this position are done.
    at: usize,
    /// Entries that have left the table since, each vector with the position it is done up to.
    cleared: Vec<(Vec<Entry<K, V>>, usize)>,
}

impl<K: Key, V: Data> Table<K, V> {
    /// Adds all entries to a snapshot of the operator's state: from now on what they are is
    /// logged before it changes.
    ///
    /// # Errors
    /// If an entry cannot be encoded or the store cannot be read.
    ///
    /// # Cost
    /// Constant, unless the sweep of the snapshot before is not complete: then it is completed.
    pub fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.entries += self.len() as u64;
        let Some(changes) = self.changes.clone() else { return Ok(()) };
        self.sweep(&mut usize::MAX.clone())?;
        let is_whole = changes.take_superseded(self.region.table);
        snapshot.tables += usize::from(self.freeze(is_whole)?);
        Ok(())
    }

    /// Ends the epoch; true if there is something to sweep. Nothing is to be swept before. If
    /// `is_whole`, all entries are logged at once.
    pub(crate) fn freeze(&mut self, is_whole: bool) -> Result<bool> {
        let Some(changes) = self.changes.clone() else { return Ok(false) };
        let has_changed = std::mem::take(&mut self.changed) > 0;
        if is_whole {
            self.log_all(&changes)?;
        } else if has_changed {
            self.sweep = Some(Sweep { at: 0, cleared: Vec::new() });
            self.is_logged = true;
        }
        self.epoch += 1;
        Ok(self.sweep.is_some())
    }

    /// Logs some entries of the snapshot; true if that was the last of it.
    pub(crate) fn sweep_some(&mut self, budget: &mut usize) -> Result<bool> {
        let (Some(sweep), Some(changes)) = (&mut self.sweep, &self.changes) else {
            return Ok(true);
        };
        let (region, epoch) = (&self.region, self.epoch - 1);
        let mut looks = budget.saturating_mul(LOOKS_PER_ENTRY);
        let mut logged = 0;
        changes.log(When::Before, |log| {
            let mut sweep_entries = |entries: &mut [Entry<K, V>], at: &mut usize| {
                while *at < entries.len() && logged < *budget && looks > 0 {
                    let entry = &mut entries[*at];
                    if entry.epoch == epoch {
                        put_entry(region, entry, log)?;
                        logged += 1;
                    }
                    (*at, looks) = (*at + 1, looks - 1);
                }
                Ok(*at >= entries.len())
            };
            while let Some((entries, at)) = sweep.cleared.last_mut() {
                if !sweep_entries(entries, at)? {
                    return Ok(());
                }
                sweep.cleared.pop();
            }
            sweep_entries(&mut self.entries, &mut sweep.at).map(drop)
        })?;
        *budget = budget.saturating_sub(logged.max(1));
        let is_done = sweep.cleared.is_empty() && sweep.at >= self.entries.len();
        if is_done {
            self.sweep = None;
        }
        Ok(is_done)
    }

    /// Logs all entries, in memory or not.
    fn log_all(&mut self, changes: &Changes) -> Result<()> {
        let region = self.region.clone();
        let mut result = Ok(());
        self.for_each(|key, hash, value| {
            if result.is_ok() {
                result = changes.log(When::Now, |log| put(&region, hash, (key, Some(value)), log));
            }
        })?;
        for entry in &mut self.entries {
            (entry.epoch, entry.flags) = (0, entry.flags | LOGGED);
        }
        self.is_logged = true;
        result
    }

    /// The first change of an entry in this epoch.
    #[inline(never)]
    pub(super) fn begin_change(&mut self, position: usize) -> Result<()> {
        self.log_pending(position)?;
        self.entries[position].epoch = self.epoch;
        self.changed += 1;
        Ok(())
    }

    /// Logs an entry that belongs to the snapshot and has not been logged.
    fn log_pending(&mut self, position: usize) -> Result<()> {
        let entry = &mut self.entries[position];
        if self.sweep.is_some()
            && entry.epoch == self.epoch - 1
            && let Some(changes) = &self.changes
        {
            changes.log(When::Before, |log| put_entry(&self.region, entry, log))?;
            self.is_logged = true;
        }
        Ok(())
    }

    /// An entry is about to be moved to a position where the sweep may have been already.
    #[inline]
    pub(super) fn log_before_move(&mut self, from: usize, to: usize) -> Result<()> {
        match &self.sweep {
            Some(sweep) if to < sweep.at && sweep.at <= from => self.log_pending(from),
            _ => Ok(()),
        }
    }

    /// An entry is about to leave memory: what has changed is logged.
    #[inline]
    pub(super) fn log_before_eviction(&mut self, position: usize) -> Result<()> {
        self.log_pending(position)?;
        let entry = &mut self.entries[position];
        if entry.epoch == self.epoch
            && let Some(changes) = &self.changes
        {
            changes.log(When::Now, |log| put_entry(&self.region, entry, log))?;
            self.is_logged = true;
        }
        Ok(())
    }

    /// An entry is about to be removed.
    #[inline]
    pub(super) fn log_removal(&mut self, position: usize) -> Result<()> {
        let Some(changes) = self.changes.clone() else { return Ok(()) };
        self.log_pending(position)?;
        let entry = &self.entries[position];
        if entry.flags & LOGGED > 0 {
            changes.log(When::Now, |log| {
                put::<K, V>(&self.region, entry.hash, (&entry.key, None), log)
            })?;
        }
        Ok(())
    }

    /// All entries are about to be removed.
    pub(super) fn log_clearing(&mut self) {
        let Some(changes) = &self.changes else { return };
        if let Some(sweep) = &mut self.sweep {
            let entries = std::mem::take(&mut self.entries);
            sweep.cleared.push((entries, std::mem::take(&mut sweep.at)));
            self.is_logged = true;
        }
        if std::mem::take(&mut self.is_logged) {
            let Region { table, namespace, .. } = self.region;
            changes.log_drop(When::Now, table, Some(namespace));
        }
    }

    /// Whether something of a snapshot is still to be logged.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }
}

/// Logs the value of an entry.
fn put_entry<K: Key, V: Data>(
    region: &Region,
    entry: &mut Entry<K, V>,
    log: &mut ChangeLog,
) -> Result<()> {
    put(region, entry.hash, (&entry.key, Some(&entry.value)), log)?;
    entry.epoch = 0;
    entry.flags |= LOGGED;
    Ok(())
}

/// Logs a value, or that the key was removed.
fn put<K: Key, V: Data>(
    region: &Region,
    hash: u64,
    (key, value): (&K, Option<&V>),
    log: &mut ChangeLog,
) -> Result<()> {
    log.push(
        (region.table, region.namespace),
        region.key_group(hash),
        |out| Ok(codec::encode_key(key, out)?),
        value.map(|value| move |out: &mut Vec<u8>| put_value(value, out)),
    )
}
