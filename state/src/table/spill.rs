//! How a table's entries get to the store and back: fetching, evicting, snapshots, restoring.

use serde::Serialize;

use super::{Entry, Table};
use crate::buffer::EntryBuffer;
use crate::codec;
use crate::data::{Data, Key};
use crate::error::{Result, StateError};
use crate::state::Snapshot;
use crate::state_key::StateKey;

/// Entries are written to the store in batches of this many encoded bytes.
const WRITE_BYTES: usize = 4 << 20;

/// What an entry costs besides its own size: its slots, and the vector's spare room.
const OVERHEAD_BYTES: usize = 24;

/// How many entries are encoded to estimate what they own on the heap.
const SAMPLES: usize = 16;

/// Between two samplings a table is asked for its size at most this often.
const SAMPLE_INTERVAL: u32 = 256;

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

    /// Moves the `count` oldest entries in memory to the store; nothing if there is no store.
    ///
    /// # Errors
    /// If an entry cannot be encoded or the store cannot be written.
    pub fn evict(&mut self, count: usize) -> Result<()> {
        if self.region.store.is_none() || count == 0 {
            return Ok(());
        }
        let count = count.min(self.entries.len());
        self.flush(count)?;
        self.entries.drain(..count);
        self.spilled += count as u64;
        if self.entries.is_empty() {
            (self.entries, self.index) = Default::default();
        } else {
            self.index.rebuild(self.entries.iter().map(|entry| entry.hash));
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
        Ok(len * self.entry_bytes())
    }

    fn entry_bytes(&self) -> usize {
        size_of::<Entry<K, V>>() + OVERHEAD_BYTES + self.size.heap_bytes
    }

    /// The mean encoded length of some entries, evenly spaced.
    fn sample(&self) -> Result<usize> {
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
        if self.spilled == 0 { Ok(None) } else { self.fetch_spilled(hash, key) }
    }

    #[inline(never)]
    fn fetch_spilled(&mut self, hash: u64, key: &K) -> Result<Option<usize>> {
        let mut bytes = Vec::new();
        if !self.region.read(hash, key, &mut bytes)? {
            return Ok(None);
        }
        let value = codec::decode(&bytes)?;
        let entry = Entry { hash, key: key.clone(), value, dirty: false, stored: true };
        let position = self.push(entry)?;
        self.spilled -= 1;
        Ok(Some(position))
    }

    /// Writes the dirty ones of the first `count` entries to the store.
    fn flush(&mut self, count: usize) -> Result<()> {
        let Some(store) = &self.region.store else { return Ok(()) };
        let mut buffer = EntryBuffer::default();
        for entry in self.entries[..count].iter_mut().filter(|entry| entry.dirty) {
            let (hash, key) = (entry.hash, &entry.key);
            buffer.push(
                self.region.key_group(hash),
                |out| self.region.encode_key(hash, key, out),
                |out| put_value(&entry.value, out),
            )?;
            self.stored += u64::from(!entry.stored);
            (entry.dirty, entry.stored) = (false, true);
            if buffer.byte_len() >= WRITE_BYTES {
                store.write(&mut buffer)?;
                buffer.clear();
            }
        }
        if buffer.len() > 0 {
            store.write(&mut buffer)?;
        }
        Ok(())
    }

    /// Adds all entries to a snapshot of the operator's state.
    ///
    /// # Errors
    /// If an entry cannot be encoded or the store cannot be written.
    ///
    /// # Cost
    /// In memory, all entries are encoded; with a store, those changed since the last snapshot.
    pub fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        snapshot.entries += self.len() as u64;
        if self.region.store.is_some() {
            return self.flush(self.entries.len());
        }
        for entry in &self.entries {
            snapshot.buffer.push(
                self.region.key_group(entry.hash),
                |out| self.region.encode_key(entry.hash, &entry.key, out),
                |out| put_value(&entry.value, out),
            )?;
        }
        Ok(())
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
        self.push(Entry { hash, key, value, dirty: true, stored: false })?;
        Ok(())
    }
}

fn put_value<V: Serialize>(value: &V, out: &mut Vec<u8>) -> Result<()> {
    Ok(codec::encode(value, out)?)
}
