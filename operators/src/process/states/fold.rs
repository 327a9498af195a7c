//! Reducing and aggregating state: one value per key that what is added is folded into.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use thalweg_engine::{Data, Key, Result};

use super::single::Single;
use super::{Owner, Slot};
use crate::aggregate::Aggregate;

/// Combines two values.
type Combine<V> = dyn Fn(&V, &V) -> V + Send + Sync;

/// A handle of a value per key that what is added is combined into, two by two.
pub struct ReducingState<V> {
    pub(in crate::process) slot: Slot,
    pub(in crate::process) combine: Arc<Combine<V>>,
}

/// A handle of an accumulator per key.
pub struct AggregatingState<T, A> {
    pub(in crate::process) slot: Slot,
    pub(in crate::process) aggregate: Arc<A>,
    pub(super) records: PhantomData<fn(T)>,
}

/// The reduced value of one key.
pub struct Reducing<'a, K, V> {
    pub(in crate::process) state: Single<'a, K, V>,
    pub(in crate::process) owner: Owner<'a, K>,
    pub(in crate::process) combine: &'a Combine<V>,
}

impl<'a, K: Key, V: Data> Reducing<'a, K, V> {
    /// Combines a value with those added before.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn add(&mut self, value: V) -> Result<()> {
        let combine = self.combine;
        // It is the first one, or is combined with what there is.
        let value = Cell::new(Some(value));
        self.state.update(
            self.owner,
            || value.take().expect("init is called at most once"),
            |sum| {
                if let Some(value) = value.take() {
                    *sum = combine(sum, &value);
                }
            },
        )
    }

    /// What the values added so far give; nothing if there are none.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn get(self) -> Result<Option<&'a V>> {
        self.state.get(self.owner)
    }

    /// Forgets what was added.
    ///
    /// # Errors
    /// If state cannot be read or written.
    pub fn clear(&mut self) -> Result<()> {
        self.state.remove(self.owner).map(drop)
    }
}

/// The accumulator of one key.
pub struct Aggregating<'a, K, T, A: Aggregate<T>> {
    pub(in crate::process) state: Single<'a, K, A::Accumulator>,
    pub(in crate::process) owner: Owner<'a, K>,
    pub(in crate::process) aggregate: &'a A,
}

impl<K: Key, T, A: Aggregate<T>> Aggregating<'_, K, T, A> {
    /// Adds a record.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn add(&mut self, record: &T) -> Result<()> {
        let aggregate = self.aggregate;
        let add = |accumulator: &mut A::Accumulator| aggregate.add(accumulator, record);
        self.state.update(self.owner, || aggregate.create(), add)
    }

    /// The result so far; nothing if no record was added.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn get(&mut self) -> Result<Option<A::Out>> {
        let accumulator = self.state.peek(self.owner)?;
        Ok(accumulator.map(|accumulator| self.aggregate.finish(accumulator)))
    }

    /// Forgets what was added.
    ///
    /// # Errors
    /// If state cannot be read or written.
    pub fn clear(&mut self) -> Result<()> {
        self.state.remove(self.owner).map(drop)
    }
}
