//! Any source or sink, slowed down to a number of records per second.
//!
//! All splits of a source, and all writers of a sink, share one token bucket. It is filled in
//! granules of ten milliseconds of the processing time that the job's driver gives, so a limited
//! job is as deterministic as its driver. What is not used is kept for a tenth of a second: a job
//! that was held up catches up that much and no more.
//!
//! A source that waits for its next token says when it will have one: it is not idle.

use std::sync::Arc;

use thalweg_engine::sink::{Committable, Committer, Sink, SinkWriter, WriteStatus, WriterContext};
use thalweg_engine::source::{ReadInto, ReadStatus, ReaderContext, Source, Split, SplitReader};
use thalweg_engine::token_bucket::TokenBucket;
use thalweg_engine::{Batch, CheckpointId, Error, ProcessingTime, Result};

/// `source`, read at no more than `records_per_second` over all its splits.
///
/// ```
/// use thalweg_connectors::{memory, rate};
///
/// let slowly = rate::limit_source(memory::source(vec![1, 2, 3]), 2);
/// # drop(slowly);
/// ```
pub fn limit_source<S: Source>(source: S, records_per_second: u64) -> RateLimited<S> {
    RateLimited::new(source, records_per_second)
}

/// `sink`, given no more than `records_per_second` over all its writers.
pub fn limit_sink<S: Sink>(sink: S, records_per_second: u64) -> RateLimited<S> {
    RateLimited::new(sink, records_per_second)
}

/// A source or sink with a limit on its records per second; see [`limit_source`] and
/// [`limit_sink`].
#[derive(Clone, Debug)]
pub struct RateLimited<S> {
    limited: S,
    records_per_second: u64,
    bucket: Arc<TokenBucket>,
}

impl<S> RateLimited<S> {
    fn new(limited: S, records_per_second: u64) -> Self {
        let bucket = Arc::new(TokenBucket::new(records_per_second));
        RateLimited { limited, records_per_second, bucket }
    }

    fn check(&self) -> Result<()> {
        if self.records_per_second == 0 {
            return Err(Error::config(
                "a limit of 0 records per second would never let one through: set it to 1 or more",
            ));
        }
        Ok(())
    }

    fn describe_limit(&self, limited: &str) -> String {
        format!("{limited}, at most {} records per second", self.records_per_second)
    }
}

impl<S: Source> Source for RateLimited<S> {
    type Item = S::Item;
    type Dead = S::Dead;

    fn splits(&self) -> Result<Vec<Split>> {
        self.check()?;
        self.limited.splits()
    }

    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<S::Item, S::Dead>>> {
        let reader = self.limited.reader(split, position, context)?;
        Ok(Box::new(LimitedReader { reader, bucket: self.bucket.clone() }))
    }

    fn describe(&self) -> String {
        self.describe_limit(&self.limited.describe())
    }

    fn record_count_hint(&self) -> Option<u64> {
        self.limited.record_count_hint()
    }
}

struct LimitedReader<T, D> {
    reader: Box<dyn SplitReader<T, D>>,
    bucket: Arc<TokenBucket>,
}

impl<T, D> SplitReader<T, D> for LimitedReader<T, D> {
    fn read(&mut self, out: &mut ReadInto<'_, T, D>, max: usize) -> Result<ReadStatus> {
        let tokens = match self.bucket.take(max as u64, out.now) {
            Ok(tokens) => tokens,
            Err(until) => return Ok(ReadStatus::Pending { until: Some(until) }),
        };
        let before = out.records.len() + out.dead.len();
        let status = self.reader.read(out, tokens as usize);
        let used = (out.records.len() + out.dead.len()).saturating_sub(before) as u64;
        self.bucket.give_back(tokens.saturating_sub(used));
        status
    }

    fn position(&self) -> Vec<u8> {
        self.reader.position()
    }

    fn whereabouts(&self) -> Option<String> {
        self.reader.whereabouts()
    }
}

impl<S: Sink> Sink for RateLimited<S> {
    type Item = S::Item;

    fn writer(&self, context: &WriterContext) -> Result<Box<dyn SinkWriter<S::Item>>> {
        self.check()?;
        let writer = self.limited.writer(context)?;
        Ok(Box::new(LimitedWriter { writer, bucket: self.bucket.clone(), front: Batch::default() }))
    }

    fn committer(&self) -> Result<Box<dyn Committer>> {
        self.limited.committer()
    }

    fn describe(&self) -> String {
        self.describe_limit(&self.limited.describe())
    }
}

struct LimitedWriter<T> {
    writer: Box<dyn SinkWriter<T>>,
    bucket: Arc<TokenBucket>,
    /// The records that have tokens; empty between calls, kept for its memory.
    front: Batch<T>,
}

impl<T: Send> SinkWriter<T> for LimitedWriter<T> {
    fn write(&mut self, batch: &mut Batch<T>, now: ProcessingTime) -> Result<WriteStatus> {
        while !batch.is_empty() {
            let tokens = match self.bucket.take(batch.len() as u64, now) {
                Ok(tokens) => tokens as usize,
                Err(until) => return Ok(WriteStatus::Wait { until }),
            };
            batch.split_front_into(tokens, &mut self.front);
            let status = self.writer.write(&mut self.front, now);
            if let Ok(WriteStatus::Done) = status {
                self.front.clear();
                continue;
            }
            // What the writer left goes back to where it was: in front of the rest.
            self.bucket.give_back(self.front.len() as u64);
            self.front.append(batch);
            std::mem::swap(&mut self.front, batch);
            return status;
        }
        Ok(WriteStatus::Done)
    }

    fn prepare_commit(&mut self, id: CheckpointId) -> Result<Vec<Committable>> {
        self.writer.prepare_commit(id)
    }

    fn poll_rolled(&mut self) -> Vec<Committable> {
        self.writer.poll_rolled()
    }
}

#[cfg(test)]
mod tests;
