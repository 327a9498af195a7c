//! `map`, `map_values` and `filter_map`: one record in, one or none out.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_operators::Job;
//!
//! let job = Job::new();
//! let (sink, _) = memory::sink();
//! job.source("numbers", memory::source(vec![1, 2, 3])).map(|n| n * 10).sink("out", sink);
//! ```

use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::{OperatorSpec, Partition};
use thalweg_engine::{Batch, Context, Data, Element, Key, Operator, Outputs, Result};

use crate::stream::{Keyed, KeyedStream, Stream};

impl<T: Element> Stream<T> {
    /// Turns each record into another.
    #[track_caller]
    pub fn map<U: Element>(&self, f: impl Fn(T) -> U + Send + Sync + 'static) -> Stream<U> {
        let f = Arc::new(f);
        let spec = OperatorSpec::stateless("map", Location::caller());
        self.job.operator(self, spec, move || Map { f: f.clone(), types: Default::default() })
    }

    /// Turns each record into another, or drops it.
    #[track_caller]
    pub fn filter_map<U: Element>(
        &self,
        f: impl Fn(T) -> Option<U> + Send + Sync + 'static,
    ) -> Stream<U> {
        let f = Arc::new(f);
        let spec = OperatorSpec::stateless("filter_map", Location::caller());
        self.job.operator(self, spec, move || FilterMap { f: f.clone(), types: Default::default() })
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Turns each record into another of the same key; nothing is sent anywhere else.
    #[track_caller]
    pub fn map_values<U: Data>(
        &self,
        f: impl Fn(T) -> U + Send + Sync + 'static,
    ) -> KeyedStream<K, U> {
        let keyed = self.stream.with_partition(Partition::Forward);
        let mapped = keyed.map(move |Keyed { key, value }| Keyed { key, value: f(value) });
        KeyedStream { stream: mapped.over_exchange(self.stream.partition) }
    }
}

type Types<T, U> = std::marker::PhantomData<fn(T) -> U>;

struct Map<F, T, U> {
    f: Arc<F>,
    types: Types<T, U>,
}

impl<T: Element, U: Element, F: Fn(T) -> U + Send + Sync + 'static> Operator for Map<F, T, U> {
    type In = T;
    type Out = U;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, U, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        out.main.values.extend(input.values.drain(..).map(&*self.f));
        out.main.take_columns(input);
        Ok(())
    }
}

struct FilterMap<F, T, U> {
    f: Arc<F>,
    types: Types<T, U>,
}

impl<T: Element, U: Element, F> Operator for FilterMap<F, T, U>
where
    F: Fn(T) -> Option<U> + Send + Sync + 'static,
{
    type In = T;
    type Out = U;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, U, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        input.filter_map_into(out.main, &*self.f);
        Ok(())
    }
}
