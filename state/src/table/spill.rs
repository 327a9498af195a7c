//! How a table's entries get to the store and back: fetching, evicting, restoring.

use serde::Serialize;

use super::{CACHED_ENTRIES, Entry, LANES, LOGGED, NO_CANDIDATE, STORED, Table, UNSAVED, USED};
use crate::buffer::EntryBuffer;
use crate::codec;
use crate::data::{Data, Key};
use crate::error::{Result, StateError};
use crate::state_key::StateKey;

/// Entries are written to the store in batches of this many encoded bytes.
const WRITE_BYTES: usize = 4 << 20;

/// What an entry costs besides its own size: its slots, and the vector's spare room.
const OVERHEAD_BYTES: usize = 24;

/// How many entries are encoded to estimate what they own on the heap.
const SAMPLES: usize = 16;

/// Between two samplings a table is asked for its size at most this often.
const SAMPLE_INTERVAL: u32 = 256;

/// A table with more than one entry out of so many of its budget gets room for all.
const PART_BEFORE_ALL: usize = 16;

/// Restoring relieves the memory after this many entries.
const RELIEVE_INTERVAL: usize = 1_024;

/// An estimate of what one entry owns on the heap.
#[derive(Debug, Default)]
pub(super) struct SizeEstimate {
    heap_bytes: usize,
    sampled_len: usize,
    asked: u32,
}

impl<K: Key, V: Data> Table<K, V> {
    /// Gives up memory if the operator's tables exceed their budget: the older entries go to the
    /// store. Operators call it once per batch; it is cheap while the budget is kept.
    ///
    /// # Errors
    /// If an entry cannot be encoded or the store cannot be written.
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

    /// Makes room for more entries. Where there is a budget, a table that has taken a part of it
    /// gets room for all of it: room that is not used costs nothing, and growing step by step would
    /// take the old and the new room together, beyond the budget.
    #[cold]
    pub(super) fn reserve(&mut self) {
        let len = self.entries.len();
        let most = self.share.as_ref().map_or(0, |share| share.limit_bytes() / self.entry_bytes());
        if most > len && len > most / PART_BEFORE_ALL {
            self.entries.reserve_exact(most - len);
        } else {
            self.entries.reserve(1);
        }
    }

    /// Moves `count` entries to the store, those first that were not used for the longest; nothing
    /// if there is no store. What is not in use is found by the clock algorithm (Corbató, 1968).
    ///
    /// # Errors
    /// If an entry cannot be encoded or the store cannot be written.
    pub fn evict(&mut self, count: usize) -> Result<()> {
        if self.region.store.is_none() || count == 0 {
            return Ok(());
        }
        let mut buffer = EntryBuffer::default();
        if count >= self.entries.len() {
            return self.evict_all(&mut buffer);
        }
        for _ in 0..count {
            let position = self.next_victim();
            self.log_before_eviction(position)?;
            let Entry { hash, key, value, flags, .. } = self.take_out(position)?;
            self.save(&mut buffer, hash, (&key, &value), flags)?;
            self.spilled += 1;
        }
        self.write(&mut buffer)
    }

    fn evict_all(&mut self, buffer: &mut EntryBuffer) -> Result<()> {
        for position in 0..self.entries.len() {
            self.log_before_eviction(position)?;
        }
        self.spilled += self.entries.len() as u64;
        let entries = std::mem::take(&mut self.entries);
        (self.index, self.hand) = Default::default();
        for Entry { hash, key, value, flags, .. } in entries {
            self.save(buffer, hash, (&key, &value), flags)?;
        }
        self.write(buffer)
    }

    /// The position of an entry that is not in use. There must be entries.
    fn next_victim(&mut self) -> usize {
        loop {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let entry = &mut self.entries[self.hand];
            let position = self.hand;
            // The entry that fills the gap is newer: its turn is in the next round.
            self.hand += 1;
            if entry.flags & USED == 0 {
                return position;
            }
            entry.flags &= !USED;
        }
    }

    /// Puts an entry that is leaving memory into a buffer, if the store lacks it.
    fn save(
        &mut self,
        buffer: &mut EntryBuffer,
        hash: u64,
        (key, value): (&K, &V),
        flags: u8,
    ) -> Result<()> {
        if flags & UNSAVED == 0 {
            return Ok(());
        }
        let region = &self.region;
        buffer.push(
            region.key_group(hash),
            |out| region.encode_key(hash, key, out),
            |out| put_value(value, out),
        )?;
        self.stored += u64::from(flags & STORED == 0);
        if buffer.byte_len() >= WRITE_BYTES { self.write(buffer) } else { Ok(()) }
    }

    pub(super) fn write(&self, buffer: &mut EntryBuffer) -> Result<()> {
        if let Some(store) = self.region.store.as_ref().filter(|_| buffer.len() > 0) {
            store.write(buffer)?;
            buffer.clear();
        }
        Ok(())
    }

    /// Evicts entries of about this many bytes, at least one, at most all.
    pub(crate) fn evict_bytes(&mut self, bytes: usize) -> Result<()> {
        self.evict(bytes.div_ceil(self.entry_bytes()))
    }

    /// The estimated size of the entries in memory, in bytes.
    pub(crate) fn estimated_bytes(&mut self) -> Result<usize> {
        let len = self.entries.len();
        self.size.asked += 1;
        // Slices often have one entry: it is looked at too.
        if len > 2 * self.size.sampled_len || self.size.asked > SAMPLE_INTERVAL {
            self.size = SizeEstimate { heap_bytes: self.sample()?, sampled_len: len, asked: 0 };
        }
        let gone = self.base.as_ref().map_or(0, |base| base.gone_bytes());
        Ok(len * self.entry_bytes() + gone)
    }

    pub(crate) fn entry_bytes(&self) -> usize {
        size_of::<Entry<K, V>>() + OVERHEAD_BYTES + self.size.heap_bytes
    }

    /// The mean encoded length of some entries, evenly spaced.
    fn sample(&self) -> Result<usize> {
        if !std::mem::needs_drop::<(K, V)>() {
            return Ok(0);
        }
        let step = (self.entries.len() / SAMPLES).max(1);
        let (mut bytes, mut samples) = (Vec::new(), 0);
        for entry in self.entries.iter().step_by(step) {
            codec::encode_key(&entry.key, &mut bytes)?;
            codec::encode(&entry.value, &mut bytes)?;
            samples += 1;
        }
        Ok(bytes.len() / samples.max(1))
    }

    /// Reads a key that is not in memory from the store into memory.
    #[inline]
    pub(super) fn fetch(&mut self, hash: u64, key: &K) -> Result<Option<usize>> {
        match self.spilled == 0 && self.base.is_none() {
            true => Ok(None),
            false => self.fetch_cold(hash, key),
        }
    }

    #[inline(never)]
    fn fetch_cold(&mut self, hash: u64, key: &K) -> Result<Option<usize>> {
        let state_key = self.region.state_key(hash, key)?;
        if self.spilled > 0 {
            let mut bytes = Vec::new();
            if self.region.read(&state_key, &mut bytes)? {
                return Ok(Some(self.admit_stored(hash, key, &bytes)?));
            }
        }
        let Some(base) = &mut self.base else { return Ok(None) };
        let mut found = None;
        base.read(&state_key, &mut |value| {
            found = Some(codec::decode(value)?);
            Ok(())
        })?;
        found.map(|value| self.admit_left(hash, key.clone(), value, USED)).transpose()
    }

    /// Brings an entry into memory that was only in the store.
    fn admit_stored(&mut self, hash: u64, key: &K, value: &[u8]) -> Result<usize> {
        let value = codec::decode(value)?;
        let flags = STORED | USED | if self.changes.is_some() { LOGGED } else { 0 };
        let position = self.push(Entry { hash, key: key.clone(), value, epoch: 0, flags })?;
        self.spilled -= 1;
        Ok(position)
    }

    /// Brings all keys of a batch that are only in the store into memory, by one reading.
    pub(super) fn fetch_batch<'a>(
        &mut self,
        hashes: &[u64],
        key_of: &impl Fn(usize) -> &'a K,
    ) -> Result<()>
    where
        K: 'a,
    {
        let mut missing = self.missing(hashes, key_of)?;
        missing.sort_unstable();
        missing.dedup_by(|later, earlier| later.0 == earlier.0);
        if let Some(store) = self.region.store.clone().filter(|_| self.spilled > 0) {
            let keys: Vec<&[u8]> = missing.iter().map(|(key, _)| key.as_slice()).collect();
            let mut is_found = vec![false; keys.len()];
            store.read_sorted(&keys, &mut |place, value| {
                let i = missing[place].1;
                is_found[place] = true;
                self.admit_stored(hashes[i], key_of(i), value).map(drop)
            })?;
            let mut is_found = is_found.into_iter();
            missing.retain(|_| !is_found.next().unwrap_or(false));
        }
        let Some(mut base) = self.base.take() else { return Ok(()) };
        for (state_key, i) in &missing {
            base.read(state_key, &mut |value| {
                let value = codec::decode(value)?;
                self.admit_left(hashes[*i], key_of(*i).clone(), value, USED).map(drop)
            })?;
        }
        self.base = Some(base);
        Ok(())
    }

    /// The keys of a batch that are not in memory: encoded, with their places.
    fn missing<'a>(
        &self,
        hashes: &[u64],
        key_of: &impl Fn(usize) -> &'a K,
    ) -> Result<Vec<(Vec<u8>, usize)>>
    where
        K: 'a,
    {
        let mut candidates = [NO_CANDIDATE; LANES];
        let mut missing = Vec::new();
        for (chunk, lanes) in hashes.chunks(LANES).enumerate() {
            if self.entries.len() > CACHED_ENTRIES {
                self.find_candidates(lanes, &mut candidates);
            }
            for (lane, (&hash, &candidate)) in lanes.iter().zip(&candidates).enumerate() {
                let i = chunk * LANES + lane;
                let entry = self.entries.get(candidate as usize);
                if entry.is_some_and(|entry| entry.key == *key_of(i))
                    || self.position(hash, key_of(i)).is_some()
                {
                    continue;
                }
                missing.push((self.region.state_key(hash, key_of(i))?, i));
            }
        }
        Ok(missing)
    }

    /// Adds an entry of a snapshot; the table must not have its key yet.
    ///
    /// # Errors
    /// `Corrupt` if the entry is not one of this table's or is there already, `Codec` if it cannot
    /// be decoded.
    pub fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> Result<()> {
        self.restore_without_relief(key, value)?;
        if self.entries.len().is_multiple_of(RELIEVE_INTERVAL) { self.relieve() } else { Ok(()) }
    }

    pub(crate) fn restore_without_relief(
        &mut self,
        state_key: &StateKey<'_>,
        value: &[u8],
    ) -> Result<()> {
        let key: K = codec::decode_key(state_key.key)?;
        let hash = (self.hash_of)(&key, self.region.count)?;
        self.region.check_restored(state_key, hash)?;
        // Parts of one snapshot do not overlap: the store, which is slower, is not asked too.
        if self.position(hash, &key).is_some() {
            let detail = format!("a key of table {} is there twice", self.region.table);
            return Err(StateError::corrupt(0, detail));
        }
        let value = codec::decode(value)?;
        let flags = UNSAVED | if self.changes.is_some() { LOGGED } else { 0 };
        self.push(Entry { hash, key, value, epoch: 0, flags })?;
        self.is_logged = true;
        if let Some(changes) = &self.changes {
            changes.count_placed(self.region.table);
        }
        Ok(())
    }
}

pub(super) fn put_value<V: Serialize>(value: &V, out: &mut Vec<u8>) -> Result<()> {
    Ok(codec::encode(value, out)?)
}
