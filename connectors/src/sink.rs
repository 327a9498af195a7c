//! Sinks without two phases: they call a function, count, or forget.
//!
//! All of them are **at-least-once**: what was written between the last checkpoint and a crash is
//! written again after the restart.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thalweg_engine::sink::{
    Committable, Committer, Sink, SinkWriter, Start, WriteStatus, WriterContext,
};
use thalweg_engine::{Batch, CheckpointId, Element, ProcessingTime, Result};

use crate::rate::{RateLimited, limit_sink};

/// A sink that calls `f` with the records of each batch. At-least-once.
///
/// The writers of all subtasks share `f` and call it from their workers; it should not block.
///
/// ```
/// let printer = thalweg_connectors::sink::for_each(|lines: &[String]| {
///     for line in lines {
///         println!("{line}");
///     }
/// });
/// # drop(printer);
/// ```
pub fn for_each<T, F>(f: F) -> ForEach<T, F>
where
    T: Element,
    F: Fn(&[T]) + Send + Sync + 'static,
{
    ForEach { f: Arc::new(f), records: PhantomData }
}

/// A sink that forgets what it is given.
pub fn discard<T: Element>() -> Discard<T> {
    for_each(forget::<T> as fn(&[T]))
}

fn forget<T>(_: &[T]) {}

/// A sink that counts what it is given, and the handle that shows the count.
///
/// ```
/// let (sink, count) = thalweg_connectors::sink::count::<u64>();
/// assert_eq!(count.records(), 0);
/// # drop(sink);
/// ```
pub fn count<T: Element>() -> (ForEach<T, impl Fn(&[T]) + Send + Sync + 'static>, Count) {
    let count = Count::default();
    let counter = count.clone();
    let sink = for_each(move |records: &[T]| {
        counter.0.fetch_add(records.len() as u64, Ordering::Relaxed);
    });
    (sink, count)
}

/// The type of [`discard`]'s sink.
pub type Discard<T> = ForEach<T, fn(&[T])>;

/// How many records a sink of [`count`] was given; clones show the same count.
#[derive(Clone, Default, Debug)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// The number of records so far.
    pub fn records(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The type of [`for_each`]'s sink.
pub struct ForEach<T, F> {
    f: Arc<F>,
    records: PhantomData<fn(T)>,
}

impl<T, F> Clone for ForEach<T, F> {
    fn clone(&self) -> Self {
        ForEach { f: self.f.clone(), records: PhantomData }
    }
}

impl<T, F> fmt::Debug for ForEach<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForEach").finish_non_exhaustive()
    }
}

impl<T: Element, F: Fn(&[T]) + Send + Sync + 'static> ForEach<T, F> {
    /// This sink, taking no more than `records_per_second` over all its writers.
    pub fn records_per_second(self, records_per_second: u64) -> RateLimited<Self> {
        limit_sink(self, records_per_second)
    }
}

impl<T: Element, F: Fn(&[T]) + Send + Sync + 'static> Sink for ForEach<T, F> {
    type Item = T;

    fn writer(&self, _context: &WriterContext) -> Result<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(ForEachWriter { f: self.f.clone() }))
    }

    fn committer(&self) -> Result<Box<dyn Committer>> {
        Ok(Box::new(NothingToCommit))
    }

    fn describe(&self) -> String {
        "a function".to_owned()
    }
}

struct ForEachWriter<F> {
    f: Arc<F>,
}

impl<T, F: Fn(&[T]) + Send + Sync> SinkWriter<T> for ForEachWriter<F> {
    fn write(&mut self, batch: &mut Batch<T>, _now: ProcessingTime) -> Result<WriteStatus> {
        (self.f)(&batch.values);
        batch.clear();
        Ok(WriteStatus::Done)
    }

    fn prepare_commit(&mut self, _id: CheckpointId) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }
}

/// The committer of sinks whose writers are done with a record when they have written it.
struct NothingToCommit;

impl Committer for NothingToCommit {
    fn recover(&mut self, _pending: &[Committable], _start: Start) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _committables: &[Committable]) -> Result<()> {
        Ok(())
    }
}
