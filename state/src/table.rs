//! `Table`: a typed hash table of state in memory, with the operator's store behind it.
//!
//! # Place
//! Operators call it per record or per batch; [`OperatorState::table`](crate::OperatorState::table)
//! makes it, [`SlicedTable`](crate::SlicedTable) is a map of them.
//!
//! # Invariants
//! * I1 An entry in memory is the truth for its key; the store may hold an older value of it.
//! * I2 `stored` counts the entries in the store, `spilled` those only there. With `spilled` = 0
//!   the store is not read.
//! * I3 An entry that is not `STORED` has no value in the store.
//! * I4 The hash given with a key is [`hash_key`](crate::hash_key) of it; in a table of parts,
//!   [`hash_part`](crate::hash_part).
//! * I5 What a restore has left in runs, the `base`, counts for keys that are neither in memory nor
//!   in the store. With no base and `spilled` = 0 a miss in memory is a miss.
//! * I6 Every change of an epoch is in the log of that epoch when the epoch is complete: an entry
//!   is logged by the sweep after the snapshot, or before that when it changes again, is evicted or
//!   removed.
//!
//! Entries in memory are in order of insertion, except that a removal or an eviction moves the last
//! entry into the gap. The order depends on nothing but the calls made; a restored table has
//! another one.

use crate::base::{Base, RestoredRuns};
use crate::budget::Share;
use crate::changes::Changes;
use crate::codec;
use crate::data::{Data, Key};
use crate::error::{Result, StateError};
use crate::index::Index;
use crate::key_group::KeyGroupCount;
use crate::schema::TableTypes;
use crate::state_key::{Namespace, TableId};
use crate::store::Region;

mod load;
mod log;
mod spill;

/// Keys of a batch whose memory accesses overlap; they fit the first-level cache.
const LANES: usize = 128;

/// Tables of up to this many entries fit the caches: there is nothing to overlap.
const CACHED_ENTRIES: usize = 4_096;

/// The candidate of a key that has none.
const NO_CANDIDATE: u32 = u32::MAX;

/// A typed map of state. See the module's documentation for its order and invariants.
pub struct Table<K, V> {
    entries: Vec<Entry<K, V>>,
    index: Index,
    region: Region,
    share: Option<Share>,
    stored: u64,
    spilled: u64,
    size: spill::SizeEstimate,
    /// Where eviction goes on to look for entries that are not in use.
    hand: usize,
    /// The hash of a key that comes from a snapshot or from the store.
    hash_of: HashOf<K>,
    /// Where changes are logged; nowhere if there are no snapshots.
    changes: Option<Changes>,
    /// The number of snapshots taken, and one.
    epoch: u32,
    sweep: Option<log::Sweep<K, V>>,
    /// At least how many entries have changed in this epoch, or more.
    changed: usize,
    /// Whether a run may have an entry of the table.
    is_logged: bool,
    base: Option<Box<Base>>,
}

/// Computes the hash under which a key stands in a table of a job with so many key groups.
pub(crate) type HashOf<K> = fn(&K, KeyGroupCount) -> Result<u64>;

struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
    /// The epoch of the last change that is not logged; 0 if all are.
    epoch: u32,
    flags: u8,
}

/// The store has a value for the key.
const STORED: u8 = 1;
/// The store lacks the value.
const UNSAVED: u8 = 2;
/// A run may have the key.
const LOGGED: u8 = 4;
/// In use since eviction has looked at it.
const USED: u8 = 8;

/// A table whatever its types: what the engine does with all tables of an operator.
pub trait StateTable {
    /// The table's number.
    fn id(&self) -> TableId;

    /// Hands over entries of the last snapshot that are still to be written, at most `budget` of
    /// them, which is lessened by what was done.
    ///
    /// # Errors
    /// If an entry cannot be encoded or read.
    fn sweep(&mut self, budget: &mut usize) -> Result<()>;

    /// Takes over entries that a restore has left in runs: some for each one of the budget, which
    /// is lessened by what was done.
    ///
    /// # Errors
    /// If a run is damaged or cannot be read, or the store cannot be written.
    fn load(&mut self, budget: &mut usize) -> Result<()>;

    /// All entries of the table, which is empty, stay in runs for the time being.
    fn leave_in(&mut self, runs: &RestoredRuns);

    /// The types of its keys and values.
    fn types(&self) -> TableTypes;
}

impl<K: Key, V: Data> StateTable for Table<K, V> {
    fn id(&self) -> TableId {
        self.region.table
    }

    fn sweep(&mut self, budget: &mut usize) -> Result<()> {
        if self.sweep.is_some() && self.sweep_some(budget)? {
            self.changes.iter().for_each(Changes::table_done);
        }
        Ok(())
    }

    fn load(&mut self, budget: &mut usize) -> Result<()> {
        let is_full = self.share.as_ref().is_some_and(Share::is_nearly_full);
        self.load_some(budget, is_full)?;
        self.relieve()
    }

    fn leave_in(&mut self, runs: &RestoredRuns) {
        for (namespace, entries) in runs.spaces(self.region.table, self.region.range) {
            debug_assert_eq!(namespace, self.region.namespace, "a plain table has one");
            self.leave_space_in(runs, entries);
        }
    }

    fn types(&self) -> TableTypes {
        TableTypes::of::<K, V>()
    }
}

impl<K: Key, V: Data> Table<K, V> {
    pub(crate) fn new(region: Region, share: Option<Share>, changes: Option<Changes>) -> Self {
        Self::hashed_by(|key, _| Ok(crate::hash_key(key)?), region, share, changes)
    }

    pub(crate) fn hashed_by(
        hash_of: HashOf<K>,
        region: Region,
        share: Option<Share>,
        changes: Option<Changes>,
    ) -> Self {
        Table {
            hash_of,
            entries: Vec::new(),
            index: Index::default(),
            region,
            share,
            stored: 0,
            spilled: 0,
            size: spill::SizeEstimate::default(),
            hand: 0,
            changes,
            epoch: 1,
            sweep: None,
            changed: 0,
            is_logged: false,
            base: None,
        }
    }

    /// Calls `f` with the value of `key`, which is made by `init` if there is none.
    ///
    /// # Errors
    /// If the store cannot be read, or the table is full (2^32 entries in memory).
    #[inline]
    pub fn update<R>(
        &mut self,
        hash: u64,
        key: &K,
        init: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let position = match self.position(hash, key) {
            Some(position) => position,
            None => self.admit(hash, key, init)?,
        };
        Ok(f(&mut self.changing(position)?.value))
    }

    /// Like [`update`](Table::update) for every key of a batch, in order: `key_of(i)` has hash
    /// `hashes[i]`, and `f` is called with `i`.
    ///
    /// # Errors
    /// As for [`update`](Table::update); the keys before the failing one have been updated.
    ///
    /// # Cost
    /// On tables larger than the caches a fraction of single updates: the entries of many keys are
    /// looked for at once, so that their cache misses overlap.
    pub fn update_batch<'a>(
        &mut self,
        hashes: &[u64],
        key_of: impl Fn(usize) -> &'a K,
        mut init: impl FnMut() -> V,
        mut f: impl FnMut(usize, &mut V),
    ) -> Result<()>
    where
        K: 'a,
    {
        if self.spilled > 0 || self.base.is_some() {
            self.fetch_batch(hashes, &key_of)?;
        }
        // From here on what is not in memory is nowhere.
        if self.entries.len() <= CACHED_ENTRIES {
            for (i, &hash) in hashes.iter().enumerate() {
                let position = self.position_or_new(hash, key_of(i), &mut init)?;
                f(i, &mut self.changing(position)?.value);
            }
            return Ok(());
        }
        let mut candidates = [NO_CANDIDATE; LANES];
        for (chunk, lanes) in hashes.chunks(LANES).enumerate() {
            self.find_candidates(lanes, &mut candidates);
            for (lane, (&hash, &candidate)) in lanes.iter().zip(&candidates).enumerate() {
                let i = chunk * LANES + lane;
                let key = key_of(i);
                // Inserting moves no entry, so candidates stay where they are.
                let position = match self.entries.get(candidate as usize) {
                    Some(entry) if entry.key == *key => candidate as usize,
                    _ => self.position_or_new(hash, key, &mut init)?,
                };
                f(i, &mut self.changing(position)?.value);
            }
        }
        Ok(())
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// If the store cannot be read.
    #[inline]
    pub fn get(&mut self, hash: u64, key: &K) -> Result<Option<&V>> {
        let position = match self.position(hash, key) {
            Some(position) => position,
            None => match self.fetch(hash, key)? {
                Some(position) => position,
                None => return Ok(None),
            },
        };
        let entry = &mut self.entries[position];
        entry.flags |= USED;
        Ok(Some(&entry.value))
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// If the store cannot be read, or the table is full.
    pub fn insert(&mut self, hash: u64, key: &K, value: V) -> Result<()> {
        let mut value = Some(value);
        let position = match self.position(hash, key) {
            Some(position) => position,
            None => {
                let take = || value.take().expect("init is called at most once");
                self.admit(hash, key, take)?
            }
        };
        let entry = self.changing(position)?;
        if let Some(value) = value {
            entry.value = value;
        }
        Ok(())
    }

    /// Removes `key` and returns its value.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub fn remove(&mut self, hash: u64, key: &K) -> Result<Option<V>> {
        let position = match self.position(hash, key) {
            Some(position) => position,
            None => match self.fetch(hash, key)? {
                Some(position) => position,
                None => return Ok(None),
            },
        };
        if self.entries[position].flags & STORED > 0 {
            self.region.remove(hash, key)?;
            self.stored -= 1;
        }
        self.log_removal(position)?;
        self.forget_in_base(position)?;
        Ok(Some(self.take_out(position)?.value))
    }

    /// Calls `f` once with every key, its hash and its value: first those in memory, in their
    /// order, then those only in the store, sorted.
    ///
    /// # Errors
    /// If the store cannot be read.
    ///
    /// # Cost
    /// What a restore has left in runs is taken over before.
    pub fn for_each(&mut self, mut f: impl FnMut(&K, u64, &V)) -> Result<()> {
        self.load_all()?;
        for entry in &self.entries {
            f(&entry.key, entry.hash, &entry.value);
        }
        if self.spilled == 0 {
            return Ok(());
        }
        self.region.scan(&mut |key, value| {
            let key: K = codec::decode_key(key)?;
            let hash = (self.hash_of)(&key, self.region.count)?;
            if self.position(hash, &key).is_none() {
                f(&key, hash, &codec::decode(value)?);
            }
            Ok(())
        })
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub fn clear(&mut self) -> Result<()> {
        self.log_clearing();
        self.entries.clear();
        self.index.clear();
        self.hand = 0;
        if self.stored > 0 {
            self.region.remove_all(self.stored)?;
        }
        (self.stored, self.spilled) = (0, 0);
        self.base = None;
        Ok(())
    }

    /// The number of entries, in memory or not. While a restore goes on, what it has left in runs
    /// is estimated, and not 0.
    pub fn len(&self) -> usize {
        let base = self.base.as_ref().map_or(0, |base| base.len());
        self.entries.len() + (self.spilled + base) as usize
    }

    /// The part of a sliced table that it is.
    pub(crate) fn namespace(&self) -> Namespace {
        self.region.namespace
    }

    /// The number of entries in memory.
    pub fn len_in_memory(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry, in memory or not.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.spilled == 0 && self.base.is_none()
    }

    /// The entry at a position, which is about to change.
    #[inline]
    fn changing(&mut self, position: usize) -> Result<&mut Entry<K, V>> {
        if self.entries[position].epoch != self.epoch {
            self.begin_change(position)?;
        }
        let entry = &mut self.entries[position];
        entry.flags |= UNSAVED | USED;
        Ok(entry)
    }

    /// Takes an entry out of memory. The last one fills the gap.
    fn take_out(&mut self, position: usize) -> Result<Entry<K, V>> {
        let last = self.entries.len() - 1;
        self.log_before_move(last, position)?;
        let Self { entries, index, .. } = self;
        index.swap_remove(position, last, |position| entries[position].hash);
        Ok(self.entries.swap_remove(position))
    }

    #[inline]
    fn position(&self, hash: u64, key: &K) -> Option<usize> {
        self.index.find(hash, |position| self.entries[position].key == *key)
    }

    /// Finds a probable position for each hash. No iteration waits for the one before it.
    fn find_candidates(&self, hashes: &[u64], candidates: &mut [u32; LANES]) {
        for (candidate, &hash) in candidates.iter_mut().zip(hashes) {
            *candidate = self.index.candidate(hash).map_or(NO_CANDIDATE, |p| p as u32);
        }
        for (candidate, &hash) in candidates.iter_mut().zip(hashes) {
            let entry = self.entries.get(*candidate as usize);
            if entry.is_none_or(|entry| entry.hash != hash) {
                *candidate = NO_CANDIDATE;
            }
        }
    }

    /// Brings a key that is not in memory there, from the store or with a new value.
    #[inline(never)]
    fn admit(&mut self, hash: u64, key: &K, init: impl FnOnce() -> V) -> Result<usize> {
        match self.fetch(hash, key)? {
            Some(position) => Ok(position),
            None => self.push_new(hash, key, init),
        }
    }

    /// The position of a key that is in memory or nowhere.
    #[inline]
    fn position_or_new(&mut self, hash: u64, key: &K, init: impl FnOnce() -> V) -> Result<usize> {
        match self.position(hash, key) {
            Some(position) => Ok(position),
            None => self.push_new(hash, key, init),
        }
    }

    fn push_new(&mut self, hash: u64, key: &K, init: impl FnOnce() -> V) -> Result<usize> {
        let (key, value) = (key.clone(), init());
        self.push(Entry { hash, key, value, epoch: 0, flags: UNSAVED | USED })
    }

    /// Appends an entry whose key is not in memory.
    fn push(&mut self, entry: Entry<K, V>) -> Result<usize> {
        let position = self.entries.len();
        if position >= Index::MAX_ENTRIES {
            return Err(StateError::Unsupported(format!(
                "table {} holds more than {} entries in memory",
                self.region.table,
                Index::MAX_ENTRIES
            )));
        }
        if self.index.is_full() {
            self.index.rebuild(self.entries.iter().map(|entry| entry.hash), 0);
        }
        if position == self.entries.capacity() {
            self.reserve();
        }
        self.index.insert(entry.hash, position);
        self.entries.push(entry);
        Ok(position)
    }
}

#[cfg(test)]
mod tests;
