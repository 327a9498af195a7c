//! A source over vectors of records, one split each; it clones what it reads.

use std::sync::Arc;

use thalweg_engine::source::{ReadInto, ReadStatus, ReaderContext, Source, Split, SplitReader};
use thalweg_engine::{Element, Result};

use crate::rate::{RateLimited, limit_source};
use crate::strided::{Strided, read_u64, restored_index, split_index};

/// A source of `records`, in order, in one split.
///
/// ```
/// use thalweg_connectors::memory;
/// use thalweg_engine::source::Source;
///
/// let numbers = memory::source(vec![1, 2, 3]);
/// assert_eq!(numbers.record_count_hint(), Some(3));
/// ```
pub fn source<T: Element + Sync>(records: Vec<T>) -> MemorySource<T> {
    from_splits(vec![records])
}

/// A source with one split for each of `splits`, named from 0.
pub fn from_splits<T: Element + Sync>(splits: Vec<Vec<T>>) -> MemorySource<T> {
    MemorySource { splits: splits.into_iter().map(Arc::from).collect() }
}

/// A source over records in memory; see [`source`] and [`from_splits`].
///
/// The position of a split is the number of records read, 64 bits, little-endian.
#[derive(Clone, Debug)]
pub struct MemorySource<T> {
    splits: Vec<Arc<[T]>>,
}

impl<T: Element + Sync> MemorySource<T> {
    /// This source, at no more than `records_per_second` over all its splits.
    pub fn records_per_second(self, records_per_second: u64) -> RateLimited<Self> {
        limit_source(self, records_per_second)
    }
}

impl<T: Element + Sync> Source for MemorySource<T> {
    type Item = T;
    type Dead = ();

    fn splits(&self) -> Result<Vec<Split>> {
        Ok(Strided::list(self.splits.len() as u64))
    }

    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<T, ()>>> {
        let index = split_index(split, self.splits.len() as u64)?;
        let next = match position {
            None => 0,
            Some(bytes) => restored_index(read_u64(bytes, split)?),
        };
        let records = self.splits[index as usize].clone();
        Ok(Box::new(MemoryReader { records, next: usize::try_from(next).unwrap_or(usize::MAX) }))
    }

    fn describe(&self) -> String {
        format!("{} records in memory", self.splits.iter().map(|s| s.len()).sum::<usize>())
    }

    fn record_count_hint(&self) -> Option<u64> {
        Some(self.splits.iter().map(|split| split.len() as u64).sum())
    }
}

struct MemoryReader<T> {
    records: Arc<[T]>,
    next: usize,
}

impl<T: Element + Sync> SplitReader<T, ()> for MemoryReader<T> {
    fn read(&mut self, out: &mut ReadInto<'_, T, ()>, max: usize) -> Result<ReadStatus> {
        let rest = self.records.get(self.next..).unwrap_or_default();
        let count = rest.len().min(max);
        out.records.values.extend_from_slice(&rest[..count]);
        self.next += count;
        Ok(if count == rest.len() { ReadStatus::End } else { ReadStatus::More })
    }

    fn position(&self) -> Vec<u8> {
        (self.next as u64).to_le_bytes().to_vec()
    }
}
