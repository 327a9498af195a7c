//! `Base`: what a table has not taken over yet of the runs it is restored from.
//!
//! A large state is not read as a whole before its operator begins to work: single keys are read
//! from the runs when they are asked for, and the rest is taken over in steps between batches, in
//! the order of the runs. Then the base is gone, and the table is as if it had read all at once.
//!
//! # Invariants
//! * I1 What is in the table's memory or store is newer than what the base has of the same key.
//! * I2 A key behind `taken_over` that was removed from the table is in `gone`: the base says
//!   nothing of it any more.
//! * I3 Runs are only read: what the table changes is logged over them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Result;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::portable::{Dropped, Found, Lookup};
use crate::restore::{LimitedRun, MergedRuns, drops_of};
use crate::state_key::{Namespace, PREFIX_BYTES, StateKey, TableId, prefix};

/// What a key takes in a set, besides its own length: itself, and a share of a node's spare room.
const GONE_BYTES: usize = 56;

/// Runs in which tables leave their entries. See [`Restore::leave`](crate::state::Restore::leave).
#[derive(Clone)]
pub struct RestoredRuns {
    runs: Arc<[LimitedRun]>,
    lookups: Arc<Mutex<Vec<Lookup>>>,
}

impl RestoredRuns {
    /// The files are held open: checkpoints that are published meanwhile may delete them.
    pub(crate) fn open(runs: impl Iterator<Item = LimitedRun>) -> Result<Self> {
        let runs: Arc<[LimitedRun]> =
            runs.map(|(run, limit)| Ok((run.kept_open()?, limit))).collect::<Result<_>>()?;
        let lookups = runs.iter().map(|(run, _)| Lookup::new(run)).collect::<Result<_>>()?;
        Ok(RestoredRuns { runs, lookups: Arc::new(Mutex::new(lookups)) })
    }

    /// The namespaces of a table that may have entries of these key groups, sorted, and about how
    /// many.
    pub(crate) fn spaces(&self, table: TableId, range: KeyGroupRange) -> Vec<(Namespace, u64)> {
        let mut found = BTreeMap::<Namespace, u64>::new();
        for (place, (run, limit)) in self.runs.iter().enumerate() {
            let range = range.intersection(*limit);
            for space in run.spaces().iter().filter(|space| space.table == table) {
                let hides = |drop: Dropped| drop.covers_all(table, space.namespace, range);
                let mut newer = self.runs[place + 1..].iter();
                if !range.is_empty() && !newer.any(|run| drops_of(run).any(hides)) {
                    *found.entry(space.namespace).or_default() += space.entries;
                }
            }
        }
        found.into_iter().collect()
    }

    /// Calls `f` with the value of an encoded state key, if it has one. Runs before `visible` are
    /// hidden.
    fn read(&self, key: &[u8], visible: usize, f: &mut VisitValue<'_>) -> Result<()> {
        let group = StateKey::decode(key)?.key_group;
        // No call leaves them half changed.
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        for (lookup, (_, limit)) in lookups.iter_mut().zip(&*self.runs).skip(visible).rev() {
            if !limit.contains(group) {
                continue;
            }
            match lookup.get(key)? {
                Found::Nothing => {}
                Found::Removed => return Ok(()),
                Found::Value(value) => return f(value),
            }
        }
        Ok(())
    }

    /// The oldest run that no newer one hides from a key.
    fn first_visible(&self, key: &[u8]) -> Result<usize> {
        let key = StateKey::decode(key)?;
        let hides = |run: &LimitedRun| drops_of(run).any(|drop| drop.covers(&key));
        Ok(self.runs.iter().rposition(hides).unwrap_or(0))
    }
}

/// What is called with a value.
type VisitValue<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// What is called with an entry.
type VisitEntry<'a> = dyn FnMut(&StateKey<'_>, &[u8]) -> Result<()> + 'a;

/// See the module's documentation.
pub(crate) struct Base {
    runs: RestoredRuns,
    table: TableId,
    namespace: Namespace,
    range: KeyGroupRange,
    /// Up to this key everything has been taken over.
    taken_over: Vec<u8>,
    gone: BTreeSet<Vec<u8>>,
    /// What `gone` holds, in bytes.
    gone_bytes: usize,
    /// About how many entries have not been taken over.
    entries: u64,
    pass: Option<Pass>,
    /// From which run on keys with this prefix are visible.
    visible: ([u8; PREFIX_BYTES], usize),
}

/// The taking over.
struct Pass {
    merged: MergedRuns,
    /// The key group being read.
    group: u16,
    /// Whether `merged` stands at an entry that is not taken over.
    has_entry: bool,
}

impl Base {
    /// All entries of a table's namespace in a range of key groups, about `entries`.
    pub(crate) fn new(
        runs: &RestoredRuns,
        (table, namespace): (TableId, Namespace),
        range: KeyGroupRange,
        entries: u64,
    ) -> Self {
        Base {
            runs: runs.clone(),
            table,
            namespace,
            range,
            taken_over: Vec::new(),
            gone: BTreeSet::new(),
            gone_bytes: 0,
            entries,
            pass: None,
            visible: ([0xff; PREFIX_BYTES], 0),
        }
    }

    /// About how many entries are left, at least one.
    pub(crate) fn len(&self) -> u64 {
        self.entries.max(1)
    }

    /// Whether what the runs say of a key still counts.
    fn has(&self, key: &[u8]) -> bool {
        *key > *self.taken_over && !self.gone.contains(key)
    }

    /// An entry was removed from the table.
    pub(crate) fn forget(&mut self, key: Vec<u8>) {
        let bytes = cost_of(&key);
        if *key > *self.taken_over && self.gone.insert(key) {
            self.gone_bytes += bytes;
        }
    }

    /// How much memory it takes to know what was removed, in bytes.
    pub(crate) fn gone_bytes(&self) -> usize {
        self.gone_bytes
    }

    /// Calls `f` with the value of a key that is not in the table, if there is one.
    pub(crate) fn read(&mut self, key: &[u8], f: &mut VisitValue<'_>) -> Result<()> {
        if !self.has(key) {
            return Ok(());
        }
        let prefix = key.first_chunk().copied().unwrap_or_default();
        if self.visible.0 != prefix {
            self.visible = (prefix, self.runs.first_visible(key)?);
        }
        self.runs.read(key, self.visible.1, f)
    }

    /// Calls `f` with up to `count` entries, in the order of their keys, that count from then on as
    /// taken over. True if there are no more.
    pub(crate) fn take_over(&mut self, count: usize, f: &mut VisitEntry<'_>) -> Result<bool> {
        if self.pass.is_none() {
            self.pass = Some(self.begin()?);
        }
        let Some(pass) = &mut self.pass else { return Ok(true) };
        for _ in 0..count {
            if !pass.find(self.table, self.namespace, self.range)? {
                return Ok(true);
            }
            let key = pass.merged.key();
            if let Some(value) = pass.merged.value()
                && !self.gone.contains(key)
            {
                f(&StateKey::decode(key)?, value)?;
            }
            self.taken_over.clear();
            self.taken_over.extend_from_slice(key);
            self.entries = self.entries.saturating_sub(1);
            pass.has_entry = pass.merged.advance()?;
        }
        while let Some(first) = self.gone.first()
            && *first <= self.taken_over
        {
            self.gone_bytes -= cost_of(first);
            self.gone.pop_first();
        }
        Ok(false)
    }

    fn begin(&self) -> Result<Pass> {
        let mut merged = MergedRuns::new(&self.runs.runs, self.range)?;
        let group = self.range.start;
        let start = prefix(KeyGroup::new(group), self.table, self.namespace);
        let has_entry = merged.seek(&start)?;
        Ok(Pass { merged, group, has_entry })
    }
}

/// The memory that a removed key takes.
fn cost_of(key: &[u8]) -> usize {
    key.len() + GONE_BYTES
}

impl Pass {
    /// Goes to the next entry of the namespace, if it is not at one; false if there is none.
    fn find(&mut self, table: TableId, namespace: Namespace, range: KeyGroupRange) -> Result<bool> {
        while self.has_entry {
            let start = prefix(KeyGroup::new(self.group), table, namespace);
            let key = self.merged.key();
            if key.starts_with(&start) {
                return Ok(true);
            }
            let group = StateKey::decode(key)?.key_group.get();
            // Behind this key group's part: on to the next that has entries.
            self.group = match *key < start[..] {
                true => self.group,
                false => group.max(self.group + 1),
            };
            if self.group >= range.end {
                return Ok(false);
            }
            let start = prefix(KeyGroup::new(self.group), table, namespace);
            self.has_entry = self.merged.seek(&start)?;
        }
        Ok(false)
    }
}
