//! `Batch`: the unit of work between operators, records as columns.
//!
//! # Invariants
//! * I1: `times` is empty (no event time assigned yet) or as long as `values`.
//! * I2: `hashes` is empty (not keyed) or as long as `values`.
//! * I3: `behind` is sorted by `index`, strictly, and every index is below `values.len()`.
//! * I4: `ids` is empty (not asked for, or unknown) or as long as `values`.

use serde::{Deserialize, Serialize};

use crate::time::EventTime;

/// How many records a batch holds at the most, before an operator looks for room again.
pub const BATCH_RECORDS: usize = 1024;

/// The mark of a record that is behind the watermark of its own split.
///
/// A record in order has no mark: it cannot be late for anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behind {
    /// Position of the record in its batch.
    pub index: u32,
    /// The watermark of the record's split just before the record was read.
    pub watermark: EventTime,
}

/// The identity of a record: which record of which split it was, or was made from.
///
/// Orders records of equal event time where an operator asks for order. Records that one record
/// was turned into have its identity.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct RecordId {
    /// A number made from the names of source and split: the same after a restart.
    pub split: u64,
    /// The number of records that were read from the split before it.
    pub offset: u64,
}

/// Records as columns: values, event times, key hashes, identities, and marks of the few that are
/// behind.
///
/// Columns that nobody has filled are empty. The fields are public because operators are loops
/// over them; the module's invariants hold between calls.
#[derive(Clone, Debug)]
pub struct Batch<T> {
    /// The records.
    pub values: Vec<T>,
    /// Event time of each record, or empty.
    pub times: Vec<EventTime>,
    /// Key hash of each record, or empty.
    pub hashes: Vec<u64>,
    /// Records behind the watermark of their own split, in order of index.
    pub behind: Vec<Behind>,
    /// Identity of each record, or empty: only where an operator further down asks for it.
    pub ids: Vec<RecordId>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Batch {
            values: Vec::new(),
            times: Vec::new(),
            hashes: Vec::new(),
            behind: Vec::new(),
            ids: Vec::new(),
        }
    }
}

impl<T> Batch<T> {
    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True if there is no record.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Removes all records; the columns keep their memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.times.clear();
        self.hashes.clear();
        self.behind.clear();
        self.ids.clear();
    }

    /// The identity of record `index`; that of no record where identities were not asked for.
    #[inline]
    pub fn id(&self, index: usize) -> RecordId {
        self.ids.get(index).copied().unwrap_or_default()
    }

    /// Appends a record with its event time.
    #[inline]
    pub fn push(&mut self, value: T, time: EventTime) {
        self.values.push(value);
        self.times.push(time);
    }

    /// Appends a record that carries the watermark of its split if it is behind it.
    #[inline]
    pub fn push_marked(&mut self, value: T, time: EventTime, watermark: Option<EventTime>) {
        if let Some(watermark) = watermark {
            self.behind.push(Behind { index: self.values.len() as u32, watermark });
        }
        self.push(value, time);
    }

    /// Appends a record that record `index` of `from`, which has this mark, was turned into: with
    /// its time, hash and identity. For loops that visit the records of `from` in order and send
    /// them different ways; its values may have been moved out.
    #[inline]
    pub fn push_from<U>(
        &mut self,
        value: T,
        from: &Batch<U>,
        index: usize,
        watermark: Option<EventTime>,
    ) {
        if let Some(watermark) = watermark {
            self.behind.push(Behind { index: self.values.len() as u32, watermark });
        }
        self.times.extend(from.times.get(index));
        self.hashes.extend(from.hashes.get(index));
        self.ids.extend(from.ids.get(index));
        self.values.push(value);
    }

    /// Completes the columns of the records from `first` on, whose values have been appended: all
    /// of them are what record `index` of `from`, which has this mark, was turned into. They have
    /// its time and identity, and no hash.
    #[inline]
    pub fn fill_columns<U>(
        &mut self,
        first: usize,
        from: &Batch<U>,
        index: usize,
        watermark: Option<EventTime>,
    ) {
        let len = self.values.len();
        if let Some(&time) = from.times.get(index) {
            self.times.resize(len, time);
        }
        if let Some(&id) = from.ids.get(index) {
            self.ids.resize(len, id);
        }
        if let Some(watermark) = watermark {
            self.behind.extend((first..len).map(|i| Behind { index: i as u32, watermark }));
        }
    }

    /// Moves the first `count` records with their columns into `front`, which is empty.
    ///
    /// # Cost
    /// Moves the records that stay.
    pub fn split_front_into(&mut self, count: usize, front: &mut Batch<T>) {
        if count >= self.len() {
            std::mem::swap(self, front);
            return;
        }
        front.values.extend(self.values.drain(..count));
        front.times.extend(self.times.drain(..count.min(self.times.len())));
        front.hashes.extend(self.hashes.drain(..count.min(self.hashes.len())));
        front.ids.extend(self.ids.drain(..count.min(self.ids.len())));
        let marks = self.behind.partition_point(|mark| (mark.index as usize) < count);
        front.behind.extend(self.behind.drain(..marks));
        for mark in &mut self.behind {
            mark.index -= count as u32;
        }
    }

    /// Takes over all columns but the values of `other`: for one-to-one operators, whose records
    /// keep their places.
    #[inline]
    pub fn take_columns<U>(&mut self, other: &mut Batch<U>) {
        std::mem::swap(&mut self.times, &mut other.times);
        std::mem::swap(&mut self.hashes, &mut other.hashes);
        std::mem::swap(&mut self.behind, &mut other.behind);
        std::mem::swap(&mut self.ids, &mut other.ids);
        other.clear();
    }

    /// A cursor over the marks, for a loop that visits the records in order.
    #[inline]
    pub fn marks(&self) -> Marks<'_> {
        Marks { rest: &self.behind }
    }

    /// Removes the first `count` records.
    ///
    /// # Cost
    /// Moves the records that stay.
    pub fn drain_front(&mut self, count: usize) {
        self.values.drain(..count);
        self.drain_columns(count);
    }

    /// Removes the columns of the first `count` records, whose values have been moved out.
    pub fn drain_columns(&mut self, count: usize) {
        if !self.times.is_empty() {
            self.times.drain(..count);
        }
        if !self.hashes.is_empty() {
            self.hashes.drain(..count);
        }
        if !self.ids.is_empty() {
            self.ids.drain(..count);
        }
        if !self.behind.is_empty() {
            self.behind.retain_mut(|mark| {
                let stays = mark.index as usize >= count;
                mark.index = mark.index.wrapping_sub(count as u32);
                stays
            });
        }
    }

    /// Keeps the records for which `keep` is true, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let (timed, hashed) = (!self.times.is_empty(), !self.hashes.is_empty());
        let identified = !self.ids.is_empty();
        let mut kept = 0;
        let mut moved: Vec<Behind> = Vec::new();
        let mut marks = Marks { rest: &self.behind };
        for i in 0..self.values.len() {
            let stays = keep(&self.values[i]);
            if let Some(watermark) = marks.at(i)
                && stays
            {
                moved.push(Behind { index: kept as u32, watermark });
            }
            if stays {
                if kept != i {
                    self.values.swap(kept, i);
                    if timed {
                        self.times[kept] = self.times[i];
                    }
                    if hashed {
                        self.hashes[kept] = self.hashes[i];
                    }
                    if identified {
                        self.ids[kept] = self.ids[i];
                    }
                }
                kept += 1;
            }
        }
        self.behind = moved;
        self.truncate(kept);
    }

    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.times.truncate(len);
        self.hashes.truncate(len);
        self.ids.truncate(len);
    }

    /// Moves the records that `f` maps to `Some` into `out`, with their columns, and empties
    /// this batch.
    pub fn filter_map_into<U>(&mut self, out: &mut Batch<U>, mut f: impl FnMut(T) -> Option<U>) {
        out.values.reserve(self.values.len());
        out.times.reserve(self.times.len());
        let is_plain = self.hashes.is_empty() && self.behind.is_empty() && self.ids.is_empty();
        if is_plain && !self.times.is_empty() {
            // What is usual behind a source: values and times, nothing else.
            for (value, &time) in self.values.drain(..).zip(&self.times) {
                if let Some(value) = f(value) {
                    out.values.push(value);
                    out.times.push(time);
                }
            }
            self.times.clear();
            return;
        }
        let (timed, hashed) = (!self.times.is_empty(), !self.hashes.is_empty());
        let identified = !self.ids.is_empty();
        let mut marks = Marks { rest: &self.behind };
        for (i, value) in self.values.drain(..).enumerate() {
            let mark = marks.at(i);
            if let Some(value) = f(value) {
                if let Some(watermark) = mark {
                    out.behind.push(Behind { index: out.values.len() as u32, watermark });
                }
                out.values.push(value);
                if timed {
                    out.times.push(self.times[i]);
                }
                if hashed {
                    out.hashes.push(self.hashes[i]);
                }
                if identified {
                    out.ids.push(self.ids[i]);
                }
            }
        }
        self.clear();
    }

    /// Appends all records of `other` with their columns, and empties it. Times that one of them
    /// lacks are `MIN`; hashes or identities that one of them lacks are dropped.
    pub fn append(&mut self, other: &mut Batch<T>) {
        if self.times.is_empty() != other.times.is_empty() {
            self.times.resize(self.len(), EventTime::MIN);
            other.times.resize(other.len(), EventTime::MIN);
        }
        if self.hashes.len() != self.len() || other.hashes.len() != other.len() {
            self.hashes.clear();
            other.hashes.clear();
        }
        if self.ids.len() != self.len() || other.ids.len() != other.len() {
            self.ids.clear();
            other.ids.clear();
        }
        self.ids.append(&mut other.ids);
        let base = self.values.len() as u32;
        self.values.append(&mut other.values);
        self.times.append(&mut other.times);
        self.hashes.append(&mut other.hashes);
        self.behind.extend(other.behind.drain(..).map(|m| Behind { index: m.index + base, ..m }));
    }
}

/// Walks a batch's marks beside a loop over its records.
pub struct Marks<'a> {
    rest: &'a [Behind],
}

impl<'a> Marks<'a> {
    /// A cursor over marks alone, for loops that move values out of their batch.
    #[inline]
    pub fn of(marks: &'a [Behind]) -> Self {
        Marks { rest: marks }
    }

    /// The mark of record `index`; indices are asked in rising order.
    #[inline]
    pub fn at(&mut self, index: usize) -> Option<EventTime> {
        match self.rest.first() {
            Some(mark) if mark.index as usize == index => {
                self.rest = &self.rest[1..];
                Some(mark.watermark)
            }
            _ => None,
        }
    }

    /// The next record that has a mark.
    #[inline]
    pub fn next_index(&self) -> Option<usize> {
        self.rest.first().map(|mark| mark.index as usize)
    }

    /// True if no record has a mark any more: loops may take the short way.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(n: i64) -> Batch<i64> {
        let mut batch = Batch::default();
        for i in 0..n {
            let mark = (i % 3 == 0).then(|| EventTime::from_millis(100 + i));
            batch.push_marked(i, EventTime::from_millis(i), mark);
            batch.hashes.push(i as u64);
            batch.ids.push(RecordId { split: 1, offset: i as u64 });
        }
        batch
    }

    fn marks_match(batch: &Batch<i64>) {
        let mut marks = batch.marks();
        for (i, &value) in batch.values.iter().enumerate() {
            let expected = (value % 3 == 0).then(|| EventTime::from_millis(100 + value));
            assert_eq!(marks.at(i), expected, "record {value}");
            assert_eq!(batch.times[i].millis(), value);
            assert_eq!(batch.hashes[i], value as u64);
            assert_eq!(batch.id(i).offset, value as u64);
        }
        assert!(marks.is_empty());
    }

    #[test]
    fn columns_and_marks_stay_with_their_records() {
        let mut b = batch(20);
        marks_match(&b);
        b.drain_front(4);
        assert_eq!(b.values[0], 4);
        marks_match(&b);
        b.retain(|v| v % 2 == 0);
        assert_eq!(b.values, [4, 6, 8, 10, 12, 14, 16, 18]);
        marks_match(&b);
        let mut out = batch(3);
        b.filter_map_into(&mut out, |v| (v > 6).then_some(v));
        assert_eq!(out.values, [0, 1, 2, 8, 10, 12, 14, 16, 18]);
        marks_match(&out);
        assert!(b.is_empty() && b.behind.is_empty());
        out.append(&mut batch(5));
        marks_match(&out);
        let mut front = Batch::default();
        out.split_front_into(4, &mut front);
        assert_eq!((front.len(), &out.values[..2]), (4, &[10, 12][..]));
        marks_match(&front);
        marks_match(&out);
        let mut marks = out.marks();
        for (i, &value) in out.values.iter().enumerate() {
            front.push_from(value, &out, i, marks.at(i));
        }
        assert_eq!(front.len(), 4 + out.len());
        marks_match(&front);
        let mut untimed = Batch { values: vec![7, 8], ..Batch::default() };
        untimed.append(&mut batch(2));
        assert_eq!(untimed.times[..2], [EventTime::MIN; 2]);
        assert_eq!((untimed.times.len(), untimed.hashes.len(), untimed.ids.len()), (4, 0, 0));
    }
}
