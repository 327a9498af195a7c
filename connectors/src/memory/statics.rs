//! A source of references to records that live as long as the process: what benchmarks read.

use thalweg_engine::Result;
use thalweg_engine::source::{ReadInto, ReadStatus, ReaderContext, Source, Split, SplitReader};

use crate::rate::{RateLimited, limit_source};
use crate::strided::Strided;

/// A source of references to `records`, in one split unless [`splits`](StaticSource::splits) says
/// otherwise.
///
/// # Cost
/// Reading a record is copying its address; the record itself is not touched.
///
/// ```
/// use thalweg_connectors::memory;
/// use thalweg_engine::source::Source;
///
/// let words = memory::from_static(&["rain", "river", "sea"]).splits(2);
/// assert_eq!(Source::splits(&words).unwrap().len(), 2);
/// ```
pub fn from_static<T: Sync>(records: &'static [T]) -> StaticSource<T> {
    StaticSource { records, splits: 1 }
}

/// A source of `&'static T`; see [`from_static`].
///
/// The position of a split is the number of its records that were read and the number of splits,
/// 64 bits each, little-endian.
#[derive(Clone, Copy, Debug)]
pub struct StaticSource<T: 'static> {
    records: &'static [T],
    splits: u64,
}

impl<T: Sync> StaticSource<T> {
    /// Deals the records out to `count` splits (at least one): record `i` goes to split
    /// `i mod count`.
    #[must_use]
    pub fn splits(self, count: usize) -> Self {
        StaticSource { splits: (count as u64).max(1), ..self }
    }

    /// This source, with each record its position among all records, whatever split it is in: what
    /// orders records across splits.
    ///
    /// ```
    /// use thalweg_connectors::memory;
    /// use thalweg_engine::source::Source;
    ///
    /// fn item<S: Source<Item = (u64, &'static &'static str)>>(_: &S) {}
    ///
    /// item(&memory::from_static(&["rain", "river", "sea"]).splits(2).enumerated());
    /// ```
    pub fn enumerated(self) -> EnumeratedSource<T> {
        EnumeratedSource(self)
    }

    /// This source, at no more than `records_per_second` over all its splits.
    pub fn records_per_second(self, records_per_second: u64) -> RateLimited<Self> {
        limit_source(self, records_per_second)
    }
}

impl<T: Sync> Source for StaticSource<T> {
    type Item = &'static T;
    type Dead = ();

    fn splits(&self) -> Result<Vec<Split>> {
        Ok(Strided::list(self.splits))
    }

    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<&'static T, ()>>> {
        let at = Strided::open(split, self.splits, position)?;
        Ok(Box::new(StaticReader { records: self.records, at }))
    }

    fn describe(&self) -> String {
        format!("{} static records", self.records.len())
    }

    fn record_count_hint(&self) -> Option<u64> {
        Some(self.records.len() as u64)
    }
}

struct StaticReader<T: 'static> {
    records: &'static [T],
    at: Strided,
}

impl<T: Sync> SplitReader<&'static T, ()> for StaticReader<T> {
    fn read(&mut self, out: &mut ReadInto<'_, &'static T, ()>, max: usize) -> Result<ReadStatus> {
        let left = self.at.left_of(self.records.len() as u64);
        let count = left.min(max as u64);
        let rest = self.records.get(self.at.next_index() as usize..).unwrap_or_default();
        match self.at.stride() as usize {
            1 => out.records.values.extend(&rest[..count as usize]),
            stride => out.records.values.extend(rest.iter().step_by(stride).take(count as usize)),
        }
        self.at.advance(count);
        Ok(if count == left { ReadStatus::End } else { ReadStatus::More })
    }

    fn position(&self) -> Vec<u8> {
        self.at.position()
    }
}

/// A source of records with their positions; see [`StaticSource::enumerated`].
///
/// The position of a split in a checkpoint is that of the [`StaticSource`].
#[derive(Clone, Copy, Debug)]
pub struct EnumeratedSource<T: 'static>(StaticSource<T>);

impl<T: Sync> EnumeratedSource<T> {
    /// This source, at no more than `records_per_second` over all its splits.
    pub fn records_per_second(self, records_per_second: u64) -> RateLimited<Self> {
        limit_source(self, records_per_second)
    }
}

impl<T: Sync> Source for EnumeratedSource<T> {
    type Item = (u64, &'static T);
    type Dead = ();

    fn splits(&self) -> Result<Vec<Split>> {
        Source::splits(&self.0)
    }

    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<(u64, &'static T), ()>>> {
        let at = Strided::open(split, self.0.splits, position)?;
        Ok(Box::new(EnumeratedReader(StaticReader { records: self.0.records, at })))
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn record_count_hint(&self) -> Option<u64> {
        self.0.record_count_hint()
    }
}

struct EnumeratedReader<T: 'static>(StaticReader<T>);

impl<T: Sync> SplitReader<(u64, &'static T), ()> for EnumeratedReader<T> {
    fn read(
        &mut self,
        out: &mut ReadInto<'_, (u64, &'static T), ()>,
        max: usize,
    ) -> Result<ReadStatus> {
        let StaticReader { records, at } = &mut self.0;
        let left = at.left_of(records.len() as u64);
        let count = left.min(max as u64);
        let (first, stride) = (at.next_index(), at.stride());
        let rest = records.get(first as usize..).unwrap_or_default();
        let records = rest.iter().step_by(stride as usize).take(count as usize);
        out.records.values.extend((first..).step_by(stride as usize).zip(records));
        at.advance(count);
        Ok(if count == left { ReadStatus::End } else { ReadStatus::More })
    }

    fn position(&self) -> Vec<u8> {
        self.0.position()
    }
}
