//! What a source is: splits that are found, and readers that read one split each.
//!
//! # Place
//! Connectors implement [`Source`] and [`SplitReader`]; the source head of a subtask
//! (`subtask/source_head.rs`) owns the readers and calls them from its steps. Where the records
//! come from a network or another thread, the reader is the receiving end of a bounded channel and
//! wakes its subtask through [`ReaderContext::waker`].

use thalweg_state::Element;

use crate::batch::Batch;
use crate::error::Result;
use crate::park::Waker;
use crate::time::ProcessingTime;

/// One part of a source that is read in order by one reader: a file, a partition, a shard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Split {
    /// The identity of the split: the same name finds the same data after a restart.
    pub id: String,
}

impl Split {
    /// A split named `id`.
    pub fn new(id: impl Into<String>) -> Self {
        Split { id: id.into() }
    }
}

/// Where records come from: finds splits, and opens a reader for each.
///
/// The job calls [`splits`](Source::splits) when it starts or restarts; split `i` of the list is
/// read by subtask `i mod parallelism`. Splits that a checkpoint knows continue at their
/// position, new ones start at the beginning.
pub trait Source: Send + Sync + 'static {
    /// The records.
    type Item: Element;
    /// Records that could not be decoded, for the dead-letter stream. Sources without one use `()`.
    type Dead: Element;

    /// All splits, in an order that is the same on every call.
    ///
    /// # Errors
    /// `Config` or `Unavailable` if the splits cannot be listed.
    fn splits(&self) -> Result<Vec<Split>>;

    /// Opens a reader for `split`, at the beginning or where a checkpoint left it.
    ///
    /// # Errors
    /// `Unavailable` or `Config` if it cannot be opened, `Corrupt` if the position is not one.
    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<Self::Item, Self::Dead>>>;

    /// What is read, for plans and messages: `csv examples/data/flights.csv.gz`.
    fn describe(&self) -> String;

    /// How many records there are in total, if that is known cheaply: for progress bars.
    fn record_count_hint(&self) -> Option<u64> {
        None
    }
}

/// How far a split had been read when a checkpoint was taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct RestoredSplit {
    /// Where the reader stood.
    pub(crate) position: Vec<u8>,
    /// True if it had come to its end.
    pub(crate) is_finished: bool,
    /// The number of records read.
    pub(crate) read: u64,
}

/// What a reader may know of the subtask that reads it.
#[derive(Clone, Default)]
pub struct ReaderContext {
    /// Wakes the subtask when records have arrived from another thread.
    pub waker: Waker,
}

/// Reads one split, in order, and never blocks for long.
pub trait SplitReader<T, D>: Send {
    /// Appends up to `max` records to `out.records` (values only; event times are assigned later)
    /// and malformed ones to `out.dead`.
    ///
    /// # Errors
    /// Whatever makes it impossible to go on. Nothing read before is lost by it.
    fn read(&mut self, out: &mut ReadInto<'_, T, D>, max: usize) -> Result<ReadStatus>;

    /// Where the reader stands: given to [`Source::reader`] after a restart, the next record is
    /// the one after the last record that `read` returned.
    fn position(&self) -> Vec<u8>;

    /// Where the next record is, for messages about it: `flights.csv line 17`.
    fn whereabouts(&self) -> Option<String> {
        None
    }
}

/// Where a reader puts what it reads.
pub struct ReadInto<'a, T, D> {
    /// The records.
    pub records: &'a mut Batch<T>,
    /// Records that could not be decoded.
    pub dead: &'a mut Batch<D>,
    /// Counts records that were skipped as malformed.
    pub skipped: &'a mut u64,
    /// The time, as the decider gave it.
    pub now: ProcessingTime,
}

/// What a call of [`SplitReader::read`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadStatus {
    /// There may be more right now.
    More,
    /// Nothing right now; the reader wakes its subtask, or wants to be asked again at that time.
    Pending {
        /// When to ask again, if the reader will not call the waker.
        until: Option<ProcessingTime>,
    },
    /// The split has ended for good.
    End,
}
