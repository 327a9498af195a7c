//! A source that makes each record from its number.

use std::fmt;
use std::sync::Arc;

use thalweg_engine::source::{ReadInto, ReadStatus, ReaderContext, Source, Split, SplitReader};
use thalweg_engine::{Element, Result};

use crate::rate::{RateLimited, limit_source};
use crate::strided::Strided;

/// A source of `f(0), f(1), …`: `count` records, or without end.
///
/// `f` must give the same record for the same number, or a restart gives other records.
///
/// ```
/// use thalweg_connectors::generator;
/// use thalweg_engine::source::Source;
///
/// let squares = generator(Some(10), |i| i * i).splits(2).records_per_second(1_000);
/// assert_eq!(squares.record_count_hint(), Some(10));
/// ```
pub fn generator<T, F>(count: Option<u64>, f: F) -> Generator<F>
where
    T: Element,
    F: Fn(u64) -> T + Send + Sync + 'static,
{
    Generator { f: Arc::new(f), count, splits: 1 }
}

/// A source of generated records; see [`generator`].
///
/// The position of a split is the number of its records that were read and the number of splits,
/// 64 bits each, little-endian.
pub struct Generator<F> {
    f: Arc<F>,
    count: Option<u64>,
    splits: u64,
}

impl<F> Generator<F> {
    /// Deals the records out to `count` splits (at least one): record `i` comes from split
    /// `i mod count`.
    #[must_use]
    pub fn splits(self, count: usize) -> Self {
        Generator { splits: (count as u64).max(1), ..self }
    }
}

impl<T: Element, F: Fn(u64) -> T + Send + Sync + 'static> Generator<F> {
    /// This source, at no more than `records_per_second` over all its splits.
    pub fn records_per_second(self, records_per_second: u64) -> RateLimited<Self> {
        limit_source(self, records_per_second)
    }
}

impl<F> Clone for Generator<F> {
    fn clone(&self) -> Self {
        Generator { f: self.f.clone(), count: self.count, splits: self.splits }
    }
}

impl<F> fmt::Debug for Generator<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator")
            .field("count", &self.count)
            .field("splits", &self.splits)
            .finish_non_exhaustive()
    }
}

impl<T: Element, F: Fn(u64) -> T + Send + Sync + 'static> Source for Generator<F> {
    type Item = T;
    type Dead = ();

    fn splits(&self) -> Result<Vec<Split>> {
        Ok(Strided::list(self.splits))
    }

    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<T, ()>>> {
        let at = Strided::open(split, self.splits, position)?;
        Ok(Box::new(GeneratorReader { f: self.f.clone(), count: self.count, at }))
    }

    fn describe(&self) -> String {
        match self.count {
            Some(count) => format!("{count} generated records"),
            None => "generated records without end".to_owned(),
        }
    }

    fn record_count_hint(&self) -> Option<u64> {
        self.count
    }
}

struct GeneratorReader<F> {
    f: Arc<F>,
    count: Option<u64>,
    at: Strided,
}

impl<T, F: Fn(u64) -> T + Send + Sync> SplitReader<T, ()> for GeneratorReader<F> {
    fn read(&mut self, out: &mut ReadInto<'_, T, ()>, max: usize) -> Result<ReadStatus> {
        let left = self.at.left_of(self.count.unwrap_or(u64::MAX));
        let count = left.min(max as u64);
        let (first, stride) = (self.at.next_index(), self.at.stride());
        out.records.values.extend((0..count).map(|i| (self.f)(first + i * stride)));
        self.at.advance(count);
        Ok(if count == left { ReadStatus::End } else { ReadStatus::More })
    }

    fn position(&self) -> Vec<u8> {
        self.at.position()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_resumes_anywhere, read_all, read_once};

    #[test]
    fn records_are_dealt_out_to_splits_and_resume_anywhere() {
        for splits in 1..4 {
            let squares = generator(Some(11), |i| i * i).splits(splits);
            let mut records = read_all(&squares).expect("reads");
            records.sort_unstable();
            assert_eq!(records, (0..11).map(|i| i * i).collect::<Vec<_>>());
            check_resumes_anywhere(&squares);
        }
    }

    #[test]
    fn without_a_count_there_is_no_end() {
        let numbers = generator(None, |i| i).splits(2);
        assert_eq!(numbers.record_count_hint(), None);
        let split = &Source::splits(&numbers).expect("the splits")[1];
        let mut reader = numbers.reader(split, None, &ReaderContext::default()).expect("opens");
        for round in 0..3 {
            let reads = read_once(&mut *reader, 2, 0).expect("reads");
            assert_eq!(reads.records, [1 + 4 * round, 3 + 4 * round]);
            assert_eq!(reads.status, ReadStatus::More);
        }
    }
}
