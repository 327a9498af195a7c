//! The stream types: handles on an operator's output while a job is built.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::{NodeId, Partition, Port};
use thalweg_engine::{Data, Key};

use crate::job::Job;

/// A stream of records of type `T`.
///
/// A handle: it can be cloned, stored and passed to functions. A stream that is used twice gives
/// its records to both.
pub struct Stream<T> {
    pub(crate) job: Job,
    pub(crate) node: NodeId,
    pub(crate) port: Port,
    pub(crate) partition: Partition,
    pub(crate) records: PhantomData<fn() -> T>,
}

impl<T> Clone for Stream<T> {
    fn clone(&self) -> Self {
        Stream {
            job: self.job.clone(),
            node: self.node,
            port: self.port,
            partition: self.partition,
            records: PhantomData,
        }
    }
}

impl<T> Stream<T> {
    pub(crate) fn new(job: Job, node: NodeId, port: Port) -> Self {
        Stream { job, node, port, partition: Partition::Forward, records: PhantomData }
    }

    /// The stream of the other output port of the same operator.
    pub(crate) fn side<S>(&self) -> Stream<S> {
        Stream::new(self.job.clone(), self.node, Port::Side)
    }
}

/// The stream of a source, and its dead letters.
pub struct SourceStream<T, D> {
    records: Stream<T>,
    dead: PhantomData<fn() -> D>,
}

impl<T, D> SourceStream<T, D> {
    pub(crate) fn new(job: Job, node: NodeId) -> Self {
        SourceStream { records: Stream::new(job, node, Port::Main), dead: PhantomData }
    }

    /// What could not be decoded, where the source was told to hand it on.
    pub fn dead_letters(&self) -> Stream<D> {
        self.records.side()
    }
}

impl<T, D> Deref for SourceStream<T, D> {
    type Target = Stream<T>;

    fn deref(&self) -> &Stream<T> {
        &self.records
    }
}

/// A record with its key, as it travels behind `key_by`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keyed<K, T> {
    /// The key.
    pub key: K,
    /// The record.
    pub value: T,
}

/// A stream whose records have keys: all records of one key are seen by one subtask, in order.
pub struct KeyedStream<K, T> {
    pub(crate) stream: Stream<Keyed<K, T>>,
}

impl<K: Key, T> KeyedStream<K, T> {
    /// The records with their keys, as an ordinary stream in the same subtasks.
    pub fn records(&self) -> Stream<Keyed<K, T>> {
        self.stream.clone()
    }
}

/// A record of one of two streams that an operator takes together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Either<A, B> {
    /// Of the left stream.
    Left(A),
    /// Of the right stream.
    Right(B),
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// The records as the left ones of two streams, for an operator that takes both.
    #[track_caller]
    pub(crate) fn tagged_left<B: Data>(&self) -> Stream<Keyed<K, Either<T, B>>> {
        self.tagged(Either::Left)
    }

    /// The records as the right ones of two streams.
    #[track_caller]
    pub(crate) fn tagged_right<A: Data>(&self) -> Stream<Keyed<K, Either<A, T>>> {
        self.tagged(Either::Right)
    }

    #[track_caller]
    fn tagged<E: Data>(&self, tag: fn(T) -> E) -> Stream<Keyed<K, E>> {
        let Stream { partition, .. } = self.stream;
        let keyed = self.stream.with_partition(Partition::Forward);
        let tag = move |Keyed { key, value }| Keyed { key, value: tag(value) };
        keyed.map(tag).over_exchange(partition)
    }
}

/// A keyed stream cut into windows.
pub struct WindowedStream<K, T, W> {
    pub(crate) stream: Stream<Keyed<K, T>>,
    pub(crate) assigner: Arc<W>,
    pub(crate) allowed_lateness_ms: i64,
}
