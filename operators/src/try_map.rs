//! `try_map`, `try_filter_map`, `try_flat_map`, `try_inspect`: functions that can fail, and what
//! becomes of the records they fail for.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_operators::{Job, OnError};
//!
//! let job = Job::new();
//! let (numbers_out, _) = memory::sink();
//! let (failed_out, _) = memory::sink();
//! let lines = job.source("lines", memory::source(vec!["7".to_owned(), "seven".to_owned()]));
//! let numbers = lines.try_map(|line| line.parse::<i64>(), OnError::DeadLetter);
//! numbers.sink("numbers", numbers_out);
//! numbers.errors().map(|failed| (failed.record, failed.error)).sink("failed", failed_out);
//! ```

use std::any::Any;
use std::fmt::Display;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{
    Batch, Context, Counter, Element, Error, EventTime, Marks, OpenContext, Operator, Outputs,
    Result,
};

use crate::stream::Stream;

/// What becomes of a record for which a function fails.
///
/// Nothing is lost without being counted: records in are results, skipped, dead letters, or the
/// one that failed the job.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum OnError {
    /// The job fails, with the error's text; its restart policy says whether it is started again,
    /// unless the same record fails each time. A function that knows better returns an [`Error`]:
    /// one that is [`fatal`](Error::fatal) where starting again cannot help, one that is
    /// [`unavailable`](Error::unavailable) where it was not the record's fault.
    #[default]
    Fail,
    /// The record is skipped and counted.
    Skip,
    /// The record goes, with its error, to the stream of errors, and is counted.
    DeadLetter,
    /// The function is called again, at once: for errors that come of chance. Where waiting helps,
    /// use an asynchronous operator.
    Retry {
        /// How many more calls there are at the most.
        attempts: u32,
        /// What becomes of the record if all of them fail.
        then: Box<OnError>,
    },
}

impl OnError {
    /// Calls the function up to `attempts` times more, `then` does this.
    pub fn retry(attempts: u32, then: OnError) -> Self {
        OnError::Retry { attempts, then: Box::new(then) }
    }

    /// All calls after the first, and what is done in the end.
    fn resolve(&self) -> (u32, Last) {
        match self {
            OnError::Fail => (0, Last::Fail),
            OnError::Skip => (0, Last::Skip),
            OnError::DeadLetter => (0, Last::DeadLetter),
            OnError::Retry { attempts, then } => {
                let (more, last) = then.resolve();
                (attempts.saturating_add(more), last)
            }
        }
    }
}

/// What is done when all calls have failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Last {
    Fail,
    Skip,
    DeadLetter,
}

/// A record for which a function failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failed<T> {
    /// The record.
    pub record: T,
    /// What the function said.
    pub error: String,
    /// The record's event time, if it has one.
    pub time: Option<EventTime>,
    /// The name of the operator.
    pub operator: String,
}

/// The results of a function that can fail, as a stream, and beside it the records it failed for.
pub struct TryStream<U, T> {
    results: Stream<U>,
    failed: PhantomData<fn() -> T>,
}

impl<U, T> TryStream<U, T> {
    /// The results.
    pub fn results(&self) -> Stream<U> {
        self.results.clone()
    }

    /// The records for which the function failed, where the policy is [`OnError::DeadLetter`];
    /// otherwise there are none.
    pub fn errors(&self) -> Stream<Failed<T>> {
        self.results.side()
    }
}

impl<U, T> Deref for TryStream<U, T> {
    type Target = Stream<U>;

    fn deref(&self) -> &Stream<U> {
        &self.results
    }
}

impl<T: Element> Stream<T> {
    /// Turns each record into another, if that can be done.
    ///
    /// # Cost
    /// Where records may be needed again, for dead letters or another call, each is cloned first.
    #[track_caller]
    pub fn try_map<U: Element, E: Display + 'static>(
        &self,
        f: impl Fn(T) -> Result<U, E> + Send + Sync + 'static,
        on_error: OnError,
    ) -> TryStream<U, T> {
        let spec = OperatorSpec::stateless("try_map", Location::caller());
        self.tried(spec, on_error, move |record| f(record).map(Some))
    }

    /// Turns each record into another or drops it, if it can be told which.
    ///
    /// # Cost
    /// As [`try_map`](Stream::try_map).
    #[track_caller]
    pub fn try_filter_map<U: Element, E: Display + 'static>(
        &self,
        f: impl Fn(T) -> Result<Option<U>, E> + Send + Sync + 'static,
        on_error: OnError,
    ) -> TryStream<U, T> {
        let spec = OperatorSpec::stateless("try_filter_map", Location::caller());
        self.tried(spec, on_error, f)
    }

    /// Turns each record into any number of others, if that can be done.
    ///
    /// # Cost
    /// As [`try_map`](Stream::try_map).
    #[track_caller]
    pub fn try_flat_map<U: Element, I: IntoIterator<Item = U> + 'static, E: Display + 'static>(
        &self,
        f: impl Fn(T) -> Result<I, E> + Send + Sync + 'static,
        on_error: OnError,
    ) -> TryStream<U, T> {
        let spec = OperatorSpec::stateless("try_flat_map", Location::caller());
        self.tried(spec, on_error, f)
    }

    /// Passes on the records for which `check` does not fail.
    #[track_caller]
    pub fn try_inspect<E: Display + 'static>(
        &self,
        check: impl Fn(&T) -> Result<(), E> + Send + Sync + 'static,
        on_error: OnError,
    ) -> TryStream<T, T> {
        let spec = OperatorSpec::stateless("try_inspect", Location::caller());
        self.tried(spec, on_error, move |record| check(&record).map(|()| Some(record)))
    }

    fn tried<U: Element, I: IntoIterator<Item = U> + 'static, E: Display + 'static>(
        &self,
        spec: OperatorSpec,
        on_error: OnError,
        f: impl Fn(T) -> Result<I, E> + Send + Sync + 'static,
    ) -> TryStream<U, T> {
        let f = Arc::new(f);
        let (retries, last) = on_error.resolve();
        let results = self.job.operator(self, spec, move || TryFlatMap {
            f: f.clone(),
            retries,
            last,
            name: String::new(),
            types: PhantomData,
        });
        TryStream { results, failed: PhantomData }
    }
}

type Types<T, U, I, E> = PhantomData<fn(T) -> (U, I, E)>;

struct TryFlatMap<F, T, U, I, E> {
    f: Arc<F>,
    retries: u32,
    last: Last,
    name: String,
    types: Types<T, U, I, E>,
}

impl<T: Element, U, I, E, F> TryFlatMap<F, T, U, I, E>
where
    F: Fn(T) -> Result<I, E>,
{
    /// Calls the function as often as it may be called; where it fails, the record comes back if
    /// it will be needed.
    fn call(&self, record: T) -> Result<I, (Option<T>, E)> {
        if self.retries == 0 && self.last != Last::DeadLetter {
            return (self.f)(record).map_err(|error| (None, error));
        }
        let mut calls_left = self.retries;
        loop {
            match (self.f)(record.clone()) {
                Ok(results) => return Ok(results),
                Err(error) if calls_left == 0 => return Err((Some(record), error)),
                Err(_) => calls_left -= 1,
            }
        }
    }
}

impl<T: Element, U: Element, I, E, F> Operator for TryFlatMap<F, T, U, I, E>
where
    I: IntoIterator<Item = U> + 'static,
    E: Display + 'static,
    F: Fn(T) -> Result<I, E> + Send + Sync + 'static,
{
    type In = T;
    type Out = U;
    type Side = Failed<T>;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        context.operator.clone_into(&mut self.name);
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, U, Failed<T>>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let mut marks = Marks::of(&input.behind);
        let (mut taken, mut skipped) = (0, 0);
        let mut values = std::mem::take(&mut input.values).into_iter();
        for value in values.by_ref() {
            let mark = marks.at(taken);
            match (self.call(value), self.last) {
                (Ok(results), _) => {
                    let before = out.main.values.len();
                    out.main.values.extend(results);
                    out.main.fill_columns(before, input, taken, mark);
                }
                (Err((_, error)), Last::Fail) => {
                    let failed = Error::user(format!(
                        "the function failed: {error}; if such records may be passed over, say so \
                         with `OnError`"
                    ));
                    let said = (&error as &dyn Any).downcast_ref::<Error>();
                    return Err(match said {
                        Some(said) => failed.retried_as(said),
                        None => failed,
                    });
                }
                (Err((Some(record), error)), Last::DeadLetter) => {
                    let time = input.times.get(taken).copied();
                    let error = error.to_string();
                    let failed = Failed { record, error, time, operator: self.name.clone() };
                    out.side.push_from(failed, input, taken, mark);
                }
                (Err(_), _) => skipped += 1,
            }
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        context.metrics.add(Counter::Skipped, skipped);
        context.metrics.add(Counter::Dead, out.side.len() as u64);
        input.drain_columns(taken);
        input.values = values.collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
