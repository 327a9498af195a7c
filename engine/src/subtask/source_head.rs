//! The head of a source task: owns the readers of its splits and reads them in turn.
//!
//! # Invariants
//! * I1: a batch holds records of one split only, so everything up to the first exchange knows
//!   whose watermark judges them.
//! * I2: a split's position is asked only between reads, when everything read has passed the chain.

use std::any::Any;
use std::sync::Arc;

use thalweg_state::{Element, hash_key};

use super::erased::{ErasedOutputs, OutputCell};
use crate::batch::{BATCH_RECORDS, RecordId};
use crate::decider::Decider;
use crate::error::Result;
use crate::metrics::{Counter, OperatorMetrics};
use crate::poison::SplitRead;
use crate::source::{
    ReadInto, ReadStatus, ReaderContext, RestoredSplit, Source, Split, SplitReader,
};
use crate::time::ProcessingTime;

/// A split that is held is looked at again after this time, should no notice come.
const HELD_MS: i64 = 10;

/// A source without its record types.
pub(crate) trait ErasedSource: Send + Sync {
    fn splits(&self) -> Result<Vec<Split>>;
    fn record_count_hint(&self) -> Option<u64>;
    /// A head that reads `splits`, restored where a state is given; it attaches identities to the
    /// records, as those of the source `identified_as`, if that is given.
    fn open(
        &self,
        splits: Vec<(Split, Option<RestoredSplit>)>,
        identified_as: Option<&str>,
        context: &ReaderContext,
    ) -> Result<Box<dyn ErasedHead>>;
    /// Where record `offset` of a split is, by reading up to it from where a checkpoint left it;
    /// none if that cannot be told, or not without waiting.
    fn locate(
        &self,
        split: &Split,
        restored: &RestoredSplit,
        offset: u64,
        now: ProcessingTime,
    ) -> Result<Option<String>>;
}

/// A source head without its record types.
pub(crate) trait ErasedHead: ErasedOutputs {
    /// Reads one batch from one split, of those that `held`, sorted, does not name.
    fn read(
        &mut self,
        decider: &mut dyn Decider,
        now: ProcessingTime,
        max: usize,
        held: &[usize],
        metrics: &OperatorMetrics,
    ) -> Result<Read>;
    /// The record that was to be read next by the last read, if there was one.
    fn reading(&self) -> Option<RecordId>;
    /// How many records of each split have been read, as those of `source`.
    fn records_read(&self, source: &str) -> Vec<SplitRead>;
    /// How far each split has been read.
    fn positions(&self) -> Vec<(String, RestoredSplit)>;
    /// The number of splits, ended ones included.
    fn split_count(&self) -> usize;
    /// True if all splits have ended.
    fn is_exhausted(&self) -> bool;
    /// Forgets since when splits have been empty.
    fn restart_idleness(&mut self);
    /// Since when a split has been empty.
    fn idle_since(&self, split: usize) -> Option<ProcessingTime>;
}

/// What a read found.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Read {
    /// The split whose records are in the outputs now.
    pub(crate) split: Option<usize>,
    /// The split that has ended with this read.
    pub(crate) ended: Option<usize>,
    /// When to read again, if nothing was found and some reader wants to be asked.
    pub(crate) until: Option<ProcessingTime>,
}

/// A source behind its erasure.
pub(crate) struct SourceCell<S>(Arc<S>);

impl<S> SourceCell<S> {
    pub(crate) fn new(source: Arc<S>) -> Self {
        SourceCell(source)
    }
}

impl<S: Source> ErasedSource for SourceCell<S> {
    fn splits(&self) -> Result<Vec<Split>> {
        self.0.splits()
    }

    fn record_count_hint(&self) -> Option<u64> {
        self.0.record_count_hint()
    }

    fn open(
        &self,
        splits: Vec<(Split, Option<RestoredSplit>)>,
        identified_as: Option<&str>,
        context: &ReaderContext,
    ) -> Result<Box<dyn ErasedHead>> {
        let mut active = Vec::with_capacity(splits.len());
        for (split, restored) in splits {
            let is_finished = restored.as_ref().is_some_and(|state| state.is_finished);
            let read = restored.as_ref().map_or(0, |state| state.read);
            let position = restored.map(|state| state.position);
            // Sources name their splits alike: the first file, the first part.
            let number = hash_key(&(identified_as.unwrap_or_default(), &split.id))?;
            let phase = match is_finished {
                true => SplitPhase::Finished(position.unwrap_or_default()),
                false => {
                    SplitPhase::Reading(self.0.reader(&split, position.as_deref(), context)?)
                }
            };
            active.push(ActiveSplit { id: split.id, number, read, phase, idle_since: None });
        }
        let out = OutputCell::default();
        let attaches_ids = identified_as.is_some();
        let (splits, reading) = (active, None);
        Ok(Box::new(SourceHead::<S::Item, S::Dead> { splits, reading, attaches_ids, out }))
    }

    fn locate(
        &self,
        split: &Split,
        restored: &RestoredSplit,
        offset: u64,
        now: ProcessingTime,
    ) -> Result<Option<String>> {
        let position = (restored.read > 0).then_some(restored.position.as_slice());
        let mut reader = self.0.reader(split, position, &ReaderContext::default())?;
        let mut out = OutputCell::<S::Item, S::Dead>::default();
        let (mut read, mut skipped) = (restored.read, 0);
        while read < offset {
            let into = &mut ReadInto {
                records: &mut out.main,
                dead: &mut out.side,
                skipped: &mut skipped,
                now,
            };
            let status = reader.read(into, (offset - read).min(BATCH_RECORDS as u64) as usize)?;
            read += out.main.len() as u64;
            out.main.clear();
            out.side.clear();
            if status != ReadStatus::More && read < offset {
                return Ok(None);
            }
        }
        Ok(reader.whereabouts())
    }
}

struct SourceHead<T, D> {
    splits: Vec<ActiveSplit<T, D>>,
    /// The split that was read last.
    reading: Option<usize>,
    attaches_ids: bool,
    out: OutputCell<T, D>,
}

struct ActiveSplit<T, D> {
    id: String,
    /// The split in the identities of its records.
    number: u64,
    /// The number of records read.
    read: u64,
    phase: SplitPhase<T, D>,
    idle_since: Option<ProcessingTime>,
}

enum SplitPhase<T, D> {
    /// The reader reads until it finds the end.
    Reading(Box<dyn SplitReader<T, D>>),
    /// The split has ended at this position.
    Finished(Vec<u8>),
}

impl<T: Element, D: Element> SourceHead<T, D> {
    /// Reads from split `index`; none if it has nothing now.
    fn read_split(
        &mut self,
        index: usize,
        now: ProcessingTime,
        max: usize,
        metrics: &OperatorMetrics,
    ) -> Result<ReadStatus> {
        self.reading = Some(index);
        let split = &mut self.splits[index];
        let SplitPhase::Reading(reader) = &mut split.phase else { return Ok(ReadStatus::End) };
        let mut skipped = 0;
        let mut into = ReadInto {
            records: &mut self.out.main,
            dead: &mut self.out.side,
            skipped: &mut skipped,
            now,
        };
        let status = reader.read(&mut into, max)?;
        let (records, dead) = (self.out.main.len() as u64, self.out.side.len() as u64);
        if self.attaches_ids {
            let (number, first) = (split.number, split.read);
            let id = |i| RecordId { split: number, offset: first + i };
            self.out.main.ids.extend((0..records).map(id));
        }
        split.read += records;
        metrics.add(Counter::In, records + dead + skipped);
        metrics.add(Counter::Out, records);
        metrics.add(Counter::Skipped, skipped);
        metrics.add(Counter::Dead, dead);
        // Dead letters have no event time of their own. A reader that knows when it will have
        // records (a limited rate) is not idle.
        split.idle_since = match status {
            ReadStatus::Pending { until: None } if records == 0 => split.idle_since.or(Some(now)),
            _ => None,
        };
        if status == ReadStatus::End {
            split.phase = SplitPhase::Finished(reader.position());
        }
        Ok(status)
    }
}

impl<T: Element, D: Element> ErasedHead for SourceHead<T, D> {
    fn read(
        &mut self,
        decider: &mut dyn Decider,
        now: ProcessingTime,
        max: usize,
        held: &[usize],
        metrics: &OperatorMetrics,
    ) -> Result<Read> {
        let count = self.splits.len();
        let start = if count > 1 { decider.choose(count) } else { 0 };
        let mut until: Option<ProcessingTime> = None;
        for offset in 0..count {
            let index = (start + offset) % count;
            if matches!(self.splits[index].phase, SplitPhase::Finished(_)) {
                continue;
            }
            if held.binary_search(&index).is_ok() {
                self.splits[index].idle_since = None;
                let again = now.plus_millis(HELD_MS);
                until = Some(until.map_or(again, |until| until.min(again)));
                continue;
            }
            let status = self.read_split(index, now, max, metrics)?;
            let ended = (status == ReadStatus::End).then_some(index);
            let has_output = !self.out.main.is_empty() || !self.out.side.is_empty();
            if has_output || ended.is_some() {
                return Ok(Read { split: has_output.then_some(index), ended, until: None });
            }
            match status {
                // A reader that found only records to skip: there is more, but it is not here yet.
                ReadStatus::More => until = Some(now),
                ReadStatus::Pending { until: Some(at) } => {
                    until = Some(until.map_or(at, |until| until.min(at)));
                }
                ReadStatus::Pending { until: None } | ReadStatus::End => {}
            }
        }
        Ok(Read { split: None, ended: None, until })
    }

    fn reading(&self) -> Option<RecordId> {
        let split = &self.splits[self.reading?];
        Some(RecordId { split: split.number, offset: split.read })
    }

    fn records_read(&self, source: &str) -> Vec<SplitRead> {
        let read = |split: &ActiveSplit<T, D>| SplitRead {
            source: source.to_owned(),
            split: split.id.clone(),
            number: split.number,
            read: split.read,
        };
        self.splits.iter().map(read).collect()
    }

    fn positions(&self) -> Vec<(String, RestoredSplit)> {
        let position = |split: &ActiveSplit<T, D>| {
            let (position, is_finished) = match &split.phase {
                SplitPhase::Reading(reader) => (reader.position(), false),
                SplitPhase::Finished(position) => (position.clone(), true),
            };
            (split.id.clone(), RestoredSplit { position, is_finished, read: split.read })
        };
        self.splits.iter().map(position).collect()
    }

    fn split_count(&self) -> usize {
        self.splits.len()
    }

    fn is_exhausted(&self) -> bool {
        self.splits.iter().all(|split| matches!(split.phase, SplitPhase::Finished(_)))
    }

    fn restart_idleness(&mut self) {
        self.splits.iter_mut().for_each(|split| split.idle_since = None);
    }

    fn idle_since(&self, split: usize) -> Option<ProcessingTime> {
        self.splits[split].idle_since
    }
}

impl<T: Element, D: Element> ErasedOutputs for SourceHead<T, D> {
    fn output_len(&self, port: usize) -> usize {
        self.out.output_len(port)
    }

    fn move_output(&mut self, port: usize, target: &mut dyn Any) {
        self.out.move_output(port, target);
    }

    fn copy_output(&mut self, port: usize, target: &mut dyn Any) {
        self.out.copy_output(port, target);
    }

    fn clear_output(&mut self, port: usize) {
        self.out.clear_output(port);
    }
}
