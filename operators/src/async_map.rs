//! `async_map`: asks the world outside about each record, many at a time.
//!
//! The future of a record runs outside of the job's workers (on tokio; under the simulator at
//! moments that the seed chooses), so a slow answer stops nobody until `capacity` records wait.
//! After Flink's `AsyncDataStream`.
//!
//! * Records in flight are part of a checkpoint. After a restart they are asked again: the world
//!   may be asked more than once, but gives one result for each record.
//! * A watermark waits for the records before it, so no result is late because its answer was.
//! * Time-outs, delays between attempts and the age of cached answers are processing time.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::time::seconds;
//! use thalweg_operators::{AsyncMap, Job, Retry};
//!
//! let job = Job::new();
//! let (names, _) = memory::sink();
//! let asking = AsyncMap::ordered()
//!     .capacity(50)
//!     .timeout(seconds(2))
//!     .retry(Retry::exponential(3, seconds(1), seconds(10)));
//! job.source("ids", memory::source(vec![1_u32, 2, 3]))
//!     .async_map("names", asking, |id| async move { Ok::<_, String>(format!("user-{id}")) })
//!     .sink("out", names);
//! ```

mod flight;
mod operator;

use std::fmt::Display;
use std::future::Future;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::time::duration_millis;
use thalweg_engine::{Data, Element};

use crate::stream::Stream;
use crate::try_map::Failed;
use operator::{Asking, AsyncOperator};

/// How records are asked about.
#[derive(Clone, Copy, Debug)]
pub struct AsyncMap {
    is_ordered: bool,
    capacity: usize,
    timeout_ms: Option<i64>,
    retry: Retry,
    is_lenient: bool,
    cache: Option<Cache>,
}

/// How many answers are kept, and for how long.
#[derive(Clone, Copy, Debug)]
struct Cache {
    capacity: usize,
    ttl_ms: i64,
}

impl AsyncMap {
    /// Results in the order of the records: level D4, if the world gives the same answers.
    pub fn ordered() -> Self {
        AsyncMap {
            is_ordered: true,
            capacity: 100,
            timeout_ms: None,
            retry: Retry::none(),
            is_lenient: false,
            cache: None,
        }
    }

    /// Results as they come, though none behind a watermark that its record was before.
    pub fn unordered() -> Self {
        AsyncMap { is_ordered: false, ..Self::ordered() }
    }

    /// How many records of a subtask may wait for their answer; 100 unless told.
    #[must_use]
    pub fn capacity(self, records: usize) -> Self {
        AsyncMap { capacity: records, ..self }
    }

    /// An attempt that takes longer has failed; without this it may take as long as it likes.
    /// Where `capacity` records wait, a checkpoint waits for the first of their answers, so a call
    /// that may never be answered needs a time-out.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        AsyncMap { timeout_ms: Some(duration_millis(timeout)), ..self }
    }

    /// What happens after a failed attempt; none is repeated unless told.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        AsyncMap { retry, ..self }
    }

    /// Records whose last attempt has failed go to [`AsyncStream::errors`]; without this they fail
    /// the job.
    #[must_use]
    pub fn errors_to_stream(self) -> Self {
        AsyncMap { is_lenient: true, ..self }
    }

    /// Keeps up to `answers` of a subtask for `ttl`, by the encoded record, the oldest making room
    /// for the newest. The cache is empty after a restart. Records that ask for the same at the
    /// same time are each asked about.
    #[must_use]
    pub fn cache(self, answers: usize, ttl: Duration) -> Self {
        AsyncMap { cache: Some(Cache { capacity: answers, ttl_ms: duration_millis(ttl) }), ..self }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.capacity == 0 {
            problems.push("`async_map` with a capacity of 0 would never ask".to_owned());
        }
        if self.timeout_ms.is_some_and(|timeout| timeout <= 0) {
            problems.push("the time-out of `async_map` must be a millisecond at least".to_owned());
        }
        if self.cache.is_some_and(|cache| cache.capacity == 0 || cache.ttl_ms <= 0) {
            problems.push("a cache of no answers, or for no time, is none".to_owned());
        }
        problems
    }
}

/// What happens after a failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Attempts after the first.
    repeats: u32,
    delay_ms: i64,
    delay_max_ms: i64,
}

impl Retry {
    /// One attempt.
    pub fn none() -> Self {
        Retry { repeats: 0, delay_ms: 0, delay_max_ms: 0 }
    }

    /// Up to `repeats` more attempts, each `delay` after the failure of the last.
    pub fn fixed(repeats: u32, delay: Duration) -> Self {
        let delay_ms = duration_millis(delay);
        Retry { repeats, delay_ms, delay_max_ms: delay_ms }
    }

    /// Up to `repeats` more attempts, `delay` after the first failure and twice as long after each
    /// further one, up to `delay_max`.
    pub fn exponential(repeats: u32, delay: Duration, delay_max: Duration) -> Self {
        Retry {
            repeats,
            delay_ms: duration_millis(delay),
            delay_max_ms: duration_millis(delay_max),
        }
    }

    /// How long to wait after `failures` failed attempts; none if that was the last.
    fn delay_after(&self, failures: u32) -> Option<i64> {
        let doubled = self.delay_ms.saturating_mul(1 << failures.saturating_sub(1).min(40));
        (failures <= self.repeats).then_some(doubled.min(self.delay_max_ms))
    }
}

/// The results of `async_map`, and the records it got no answer for.
pub struct AsyncStream<T, U> {
    results: Stream<U>,
    errors: Stream<Failed<T>>,
}

impl<T, U> AsyncStream<T, U> {
    /// The records whose last attempt has failed, with
    /// [`errors_to_stream`](AsyncMap::errors_to_stream); they are counted as dead.
    pub fn errors(&self) -> Stream<Failed<T>> {
        self.errors.clone()
    }
}

impl<T, U> Deref for AsyncStream<T, U> {
    type Target = Stream<U>;

    fn deref(&self) -> &Stream<U> {
        &self.results
    }
}

impl<T: Data> Stream<T> {
    /// Turns each record into the answer that `ask` gets for it.
    ///
    /// # Cost
    /// An allocation and a lock per record: meant for calls that take much longer.
    #[track_caller]
    pub fn async_map<U, E, F>(
        &self,
        name: impl Into<String>,
        how: AsyncMap,
        ask: impl Fn(T) -> F + Send + Sync + 'static,
    ) -> AsyncStream<T, U>
    where
        U: Element,
        E: Display,
        F: Future<Output = Result<U, E>> + Send + 'static,
    {
        let mut spec = OperatorSpec::stateful(name, "async_map", Location::caller());
        spec.level = if how.is_ordered { Level::D4 } else { Level::D2 };
        spec.problems = how.problems();
        let ask = Arc::new(move |record| {
            let answer = ask(record);
            let asking: Asking<U> =
                Box::pin(async move { answer.await.map_err(|error| error.to_string()) });
            asking
        });
        let results =
            self.job.operator(self, spec, move || AsyncOperator::<T, U, _>::new(how, ask.clone()));
        AsyncStream { errors: results.side(), results }
    }
}

#[cfg(test)]
mod tests;
