//! `RowLists`: lists of rows per place and key that grow without being rewritten.
//!
//! A list is a head, to which rows are appended, and sealed chunks, which never change: when the
//! head is full its rows become the next chunk. So a checkpoint or an eviction writes at most one
//! chunk of a list again, however long it is.
//!
//! # Invariants
//! * I1: sealed chunks are numbered from 1 and hold `CHUNK_ROWS` rows each; the head has number 0,
//!   fewer rows, and the count of sealed chunks.
//! * I2: the rows of a list are in order of insertion: chunk 1, chunk 2, …, head.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thalweg_engine::state::{
    Namespace, OperatorState, Restore, SlicedTable, Snapshot, StateKey, StateTable, TableId, codec,
};
use thalweg_engine::{Data, Error, Key, Result};

/// Rows of a chunk: what a checkpoint may have to write again of a list that has changed.
const CHUNK_ROWS: usize = 256;

/// Where a list belongs: a span of time, and within it a part that goes its own way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Place {
    /// The start of the span, in milliseconds.
    pub(super) bucket: i64,
    /// The part, from 0.
    pub(super) part: u32,
}

impl Place {
    /// The only part of a bucket.
    pub(super) fn at(bucket: i64) -> Self {
        Place { bucket, part: 0 }
    }

    fn chunk(self, number: u32) -> Namespace {
        Namespace(self.bucket, (i64::from(self.part) << 32) | i64::from(number))
    }

    fn of(Namespace(bucket, rest): Namespace) -> (Self, u32) {
        (Place { bucket, part: (rest >> 32) as u32 }, rest as u32)
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Chunk<R> {
    /// The number of sealed chunks, in the head.
    sealed: u32,
    rows: Vec<R>,
}

impl<R> Chunk<R> {
    fn empty() -> Self {
        Chunk { sealed: 0, rows: Vec::new() }
    }
}

/// What becomes of a row that was visited.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Visit {
    /// Go on with the next row.
    Next,
    /// This row has not been dealt with: stop.
    Stop,
}

/// Lists of rows per place and key.
pub(super) struct RowLists<K, R> {
    chunks: SlicedTable<K, Chunk<R>>,
}

impl<K: Key, R: Data> RowLists<K, R> {
    pub(super) fn new(state: &mut OperatorState, table: TableId) -> Self {
        RowLists { chunks: state.sliced(table) }
    }

    /// Appends a row to the list of `key` at `place`.
    pub(super) fn push(
        &mut self,
        place: Place,
        hash: u64,
        key: &K,
        row: R,
    ) -> thalweg_engine::state::Result<()> {
        let full = self.chunks.slice(place.chunk(0)).update(hash, key, Chunk::empty, |head| {
            head.rows.push(row);
            (head.rows.len() >= CHUNK_ROWS).then(|| {
                head.sealed += 1;
                (head.sealed, std::mem::take(&mut head.rows))
            })
        })?;
        if let Some((number, rows)) = full {
            let sealed = Chunk { sealed: 0, rows };
            self.chunks.slice(place.chunk(number)).insert(hash, key, sealed)?;
        }
        Ok(())
    }

    /// Calls `f` with the rows of a list from number `from` on, until it says stop; returns the
    /// number of the row to go on with, or none if all were visited.
    ///
    /// # Cost
    /// A look-up per chunk; chunks before `from` are not touched.
    pub(super) fn visit(
        &mut self,
        place: Place,
        (hash, key): (u64, &K),
        from: usize,
        mut f: impl FnMut(&R) -> Visit,
    ) -> Result<Option<usize>> {
        let (sealed, mut at) = (self.sealed(place, hash, key)?, from);
        for chunk in from / CHUNK_ROWS..sealed.map_or(0, |sealed| sealed + 1) {
            let table = self.chunks.get_slice(chunk_at(place, chunk, sealed));
            let Some(table) = table else { return Err(lost_chunk()) };
            let rows = table.get(hash, key)?.map_or(&[][..], |chunk| &chunk.rows);
            for row in rows.iter().skip(at % CHUNK_ROWS) {
                if f(row) == Visit::Stop {
                    return Ok(Some(at));
                }
                at += 1;
            }
        }
        Ok(None)
    }

    /// Like [`visit`](RowLists::visit), for a function that changes rows: chunks that are visited
    /// count as changed.
    pub(super) fn visit_mut(
        &mut self,
        place: Place,
        (hash, key): (u64, &K),
        from: usize,
        mut f: impl FnMut(&mut R) -> Visit,
    ) -> Result<Option<usize>> {
        let (sealed, mut at) = (self.sealed(place, hash, key)?, from);
        for chunk in from / CHUNK_ROWS..sealed.map_or(0, |sealed| sealed + 1) {
            let table = self.chunks.get_slice(chunk_at(place, chunk, sealed));
            let Some(table) = table else { return Err(lost_chunk()) };
            let stopped = table.update(hash, key, Chunk::empty, |chunk| {
                for row in chunk.rows.iter_mut().skip(at % CHUNK_ROWS) {
                    if f(row) == Visit::Stop {
                        return true;
                    }
                    at += 1;
                }
                false
            })?;
            if stopped {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// The number of sealed chunks of a list, or none if there is no list.
    fn sealed(&mut self, place: Place, hash: u64, key: &K) -> Result<Option<usize>> {
        let Some(heads) = self.chunks.get_slice(place.chunk(0)) else { return Ok(None) };
        Ok(heads.get(hash, key)?.map(|head| head.sealed as usize))
    }

    /// The places that have lists, in ascending order.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let places = self.chunks.namespaces().map(Place::of);
        places.filter(|&(_, number)| number == 0).map(|(place, _)| place)
    }

    /// Calls `f` with every key that has a list at `place`, and its hash.
    pub(super) fn for_each_key(
        &mut self,
        place: Place,
        mut f: impl FnMut(&K, u64) -> Result<()>,
    ) -> Result<()> {
        let Some(heads) = self.chunks.get_slice(place.chunk(0)) else { return Ok(()) };
        let mut result = Ok(());
        heads.for_each(|key, hash, _| {
            if result.is_ok() {
                result = f(key, hash);
            }
        })?;
        result
    }

    /// Calls `f` with every row of a bucket; those of one list in their order.
    pub(super) fn for_each_row(
        &mut self,
        bucket: i64,
        mut f: impl FnMut(&K, u64, &R),
    ) -> Result<()> {
        let namespaces = self.chunks.namespaces();
        let of_bucket = namespaces.skip_while(|n| n.0 < bucket).take_while(|n| n.0 == bucket);
        let mut parts: Vec<Namespace> = of_bucket.collect();
        // Heads behind their sealed chunks.
        parts.sort_by_key(|&namespace| {
            let (place, number) = Place::of(namespace);
            (place, number.wrapping_sub(1))
        });
        for namespace in parts {
            let Some(table) = self.chunks.get_slice(namespace) else { continue };
            table.for_each(|key, hash, chunk| chunk.rows.iter().for_each(|r| f(key, hash, r)))?;
        }
        Ok(())
    }

    /// Drops all lists of buckets up to `bucket`.
    pub(super) fn drop_until(&mut self, bucket: i64) -> Result<()> {
        let namespaces = self.chunks.namespaces();
        let done: BTreeSet<Namespace> = namespaces.take_while(|n| n.0 <= bucket).collect();
        for namespace in done {
            self.chunks.drop_slice(namespace)?;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn relieve(&mut self) -> thalweg_engine::state::Result<()> {
        self.chunks.relieve()
    }

    pub(super) fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        Ok(self.chunks.snapshot_into(snapshot)?)
    }

    /// The table that `snapshot_into` hands over.
    pub(super) fn state_table(&mut self) -> &mut dyn StateTable {
        &mut self.chunks
    }

    /// Leaves the lists in the runs they are restored from, if that is worth it.
    pub(super) fn leave(&mut self, restore: &mut Restore<'_>) -> thalweg_engine::state::Result<()> {
        restore.leave(&mut self.chunks)
    }

    /// Takes a chunk of a snapshot into the list it was in.
    pub(super) fn restore_entry(
        &mut self,
        key: &StateKey<'_>,
        value: &[u8],
    ) -> thalweg_engine::state::Result<()> {
        self.chunks.restore_entry(key, value)
    }

    /// The rows of a chunk of a snapshot.
    pub(super) fn decode_rows(value: &[u8]) -> thalweg_engine::state::Result<Vec<R>> {
        Ok(codec::decode::<Chunk<R>>(value)?.rows)
    }
}

/// The namespace of chunk number `index` in the order of rows.
fn chunk_at(place: Place, index: usize, sealed: Option<usize>) -> Namespace {
    place.chunk(if Some(index) == sealed { 0 } else { index as u32 + 1 })
}

#[cold]
fn lost_chunk() -> Error {
    Error::bug("a chunk of a list of rows is lost")
}

#[cfg(test)]
mod tests {
    use thalweg_engine::state::{BackendConfig, KeyGroupCount, KeyGroupRange, hash_key};

    use super::*;

    const PLACE: Place = Place { bucket: -5, part: 7 };

    fn lists() -> RowLists<u8, usize> {
        let count = KeyGroupCount::default();
        let range = KeyGroupRange::all(count);
        let mut state = OperatorState::open(BackendConfig::Memory, range, count).expect("opens");
        RowLists::new(&mut state, TableId(3))
    }

    #[test]
    fn rows_are_visited_in_order_from_any_of_them_on() {
        let mut lists = lists();
        let hash = hash_key(&1_u8).expect("a number has a hash");
        for length in 0..4 * CHUNK_ROWS + 2 {
            if length % 61 < 3 || length % CHUNK_ROWS < 2 {
                for from in [0, 1, length / 2, length.saturating_sub(1), length] {
                    let mut seen = Vec::new();
                    let visit = |row: &usize| {
                        seen.push(*row);
                        Visit::Next
                    };
                    let rest = lists.visit(PLACE, (hash, &1), from, visit).expect("visits");
                    assert_eq!(rest, None);
                    assert_eq!(seen, (from..length).collect::<Vec<_>>(), "{from} of {length}");
                    let stop = |row: &mut usize| match *row == length / 2 {
                        true => Visit::Stop,
                        false => Visit::Next,
                    };
                    let rest = lists.visit_mut(PLACE, (hash, &1), from, stop).expect("visits");
                    let stops = length / 2 >= from && length / 2 < length;
                    assert_eq!(rest, stops.then_some(length / 2), "{from} of {length}");
                }
                let mut seen = Vec::new();
                lists.for_each_row(PLACE.bucket, |_, _, row| seen.push(*row)).expect("reads");
                assert_eq!(seen, (0..length).collect::<Vec<_>>());
            }
            lists.push(PLACE, hash, &1, length).expect("pushes");
        }
        assert_eq!(lists.places().collect::<Vec<_>>(), [PLACE]);
        lists.drop_until(-6).expect("drops");
        assert!(!lists.is_empty());
        lists.drop_until(-5).expect("drops");
        assert!(lists.is_empty());
    }
}
