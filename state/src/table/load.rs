//! How a table takes over what a restore has left in runs.

use super::{Entry, LANES, LOGGED, NO_CANDIDATE, Table, UNSAVED};
use crate::base::{Base, RestoredRuns};
use crate::buffer::EntryBuffer;
use crate::codec;
use crate::data::{Data, Key};
use crate::error::Result;
use crate::index::Index;
use crate::state_key::StateKey;
use crate::store::Region;

/// Taking over an entry from runs costs about this part of logging one, and this one if it goes to
/// the store.
const LOADS_PER_ENTRY: usize = 32;
const STORES_PER_ENTRY: usize = 8;

/// No more entries are taken over from runs at once than for so many that are logged.
const MOST_ENTRIES: usize = 256;

/// Entries on their way from runs, in their order, encoded.
#[derive(Default)]
struct Arrivals {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// Where an arrival lies: its state key, then its value.
struct Span {
    start: usize,
    value: usize,
    end: usize,
}

impl Arrivals {
    fn push(&mut self, state_key: &StateKey<'_>, value: &[u8]) {
        let start = self.bytes.len();
        state_key.encode(&mut self.bytes);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.spans.push(Span { start, value: at, end: self.bytes.len() });
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    fn state_key(&self, span: &Span) -> &[u8] {
        &self.bytes[span.start..span.value]
    }

    fn value(&self, span: &Span) -> &[u8] {
        &self.bytes[span.value..span.end]
    }
}

impl<K: Key, V: Data> Table<K, V> {
    /// The table, which is empty, has entries in runs, about so many.
    pub(crate) fn leave_space_in(&mut self, runs: &RestoredRuns, entries: u64) {
        let Region { table, namespace, range, .. } = self.region;
        self.base = Some(Box::new(Base::new(runs, (table, namespace), range, entries)));
        self.is_logged = true;
        let most = match (&self.share, &self.region.store) {
            (Some(share), _) => share.limit_bytes() / self.entry_bytes(),
            (None, None) => Index::MAX_ENTRIES,
            // A slice of a table with a budget: nobody knows how much of it there is room for.
            (None, Some(_)) => 0,
        };
        // Growing step by step would take as long again, and stop the job for seconds at a time.
        let expected = usize::try_from(entries).unwrap_or(usize::MAX).min(most);
        self.entries.reserve_exact(expected);
        self.index.rebuild(std::iter::empty(), expected);
    }

    /// An entry is removed: what runs have of it is old.
    #[inline]
    pub(super) fn forget_in_base(&mut self, position: usize) -> Result<()> {
        let Some(base) = &mut self.base else { return Ok(()) };
        let entry = &self.entries[position];
        base.forget(self.region.state_key(entry.hash, &entry.key)?);
        Ok(())
    }

    /// Whether a restore has left entries in runs.
    pub(crate) fn is_loading(&self) -> bool {
        self.base.is_some()
    }

    /// Takes over some entries that were left in runs; true if there are no more. If `is_full`,
    /// they go to the store.
    pub(crate) fn load_some(&mut self, budget: &mut usize, is_full: bool) -> Result<bool> {
        let Some(mut base) = self.base.take() else { return Ok(true) };
        let mut to_store = (is_full && self.region.store.is_some()).then(EntryBuffer::default);
        let per_entry = if to_store.is_some() { STORES_PER_ENTRY } else { LOADS_PER_ENTRY };
        let entries = (*budget).min(MOST_ENTRIES);
        *budget -= entries;
        let mut arrivals = Arrivals::default();
        let is_done = base.take_over(entries * per_entry, &mut |state_key, value| {
            arrivals.push(state_key, value);
            match arrivals.spans.len() == LANES {
                true => self.admit_all(&mut arrivals, &mut to_store),
                false => Ok(()),
            }
        })?;
        self.admit_all(&mut arrivals, &mut to_store)?;
        if let Some(buffer) = &mut to_store {
            self.write(buffer)?;
        }
        if !is_done {
            self.base = Some(base);
        }
        Ok(is_done)
    }

    /// Takes up to `LANES` arrivals over into memory, or into a buffer of writes to the store if
    /// there is one. Those that are in memory or in the store already are newer there.
    fn admit_all(
        &mut self,
        arrivals: &mut Arrivals,
        to_store: &mut Option<EntryBuffer>,
    ) -> Result<()> {
        let (mut hashes, mut keys) = ([0; LANES], Vec::<K>::with_capacity(arrivals.spans.len()));
        for (span, hash) in arrivals.spans.iter().zip(&mut hashes) {
            let state_key = StateKey::decode(arrivals.state_key(span))?;
            let key: K = codec::decode_key(state_key.key)?;
            *hash = (self.hash_of)(&key, self.region.count)?;
            self.region.check_restored(&state_key, *hash)?;
            keys.push(key);
        }
        // Brings the index's slots into the cache: no access waits for another.
        self.find_candidates(&hashes[..keys.len()], &mut [NO_CANDIDATE; LANES]);
        let mut is_known = [false; LANES];
        for ((is_known, &hash), key) in is_known.iter_mut().zip(&hashes).zip(&keys) {
            *is_known = self.position(hash, key).is_some();
        }
        if let Some(store) = self.region.store.as_ref().filter(|_| self.stored > 0) {
            let asked: Vec<usize> = (0..keys.len()).filter(|i| !is_known[*i]).collect();
            let state_key = |i: &usize| arrivals.state_key(&arrivals.spans[*i]);
            let state_keys: Vec<&[u8]> = asked.iter().map(state_key).collect();
            store.read_sorted(&state_keys, &mut |place, _| {
                is_known[asked[place]] = true;
                Ok(())
            })?;
        }
        for (i, key) in keys.into_iter().enumerate().filter(|(i, _)| !is_known[*i]) {
            let span = &arrivals.spans[i];
            let (state_key, value) = (arrivals.state_key(span), arrivals.value(span));
            let Some(buffer) = to_store else {
                self.admit_left(hashes[i], key, codec::decode(value)?, 0)?;
                continue;
            };
            self.stored += 1;
            self.spilled += 1;
            let put = |bytes: &[u8], out: &mut Vec<u8>| {
                out.extend_from_slice(bytes);
                Ok(())
            };
            let group = self.region.key_group(hashes[i]);
            buffer.push(group, |out| put(state_key, out), |out| put(value, out))?;
        }
        arrivals.clear();
        Ok(())
    }

    /// Takes over all entries that were left in runs.
    pub(super) fn load_all(&mut self) -> Result<()> {
        while !self.load_some(&mut usize::MAX.clone(), false)? {
            self.relieve()?;
        }
        Ok(())
    }

    /// Brings an entry into memory that was left in a run.
    pub(super) fn admit_left(&mut self, hash: u64, key: K, value: V, flags: u8) -> Result<usize> {
        let flags = flags | UNSAVED | if self.changes.is_some() { LOGGED } else { 0 };
        self.push(Entry { hash, key, value, epoch: 0, flags })
    }
}
