//! `CountWindow`: windows of a number of records of a key.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_operators::{CountWindow, Job, Mean};
//!
//! let job = Job::new();
//! let (means, _) = memory::sink();
//! job.source("readings", memory::source(vec![("a", 20_i64), ("a", 22), ("b", 17)]))
//!     .map(|(sensor, degrees)| (sensor.to_owned(), degrees))
//!     .key_by(|reading| reading.0.clone())
//!     .window(CountWindow::sliding(10, 5))
//!     .aggregate("mean-of-ten", Mean::of(|reading: &(String, i64)| reading.1))
//!     .sink("means", means);
//! ```

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::metrics::Counter;
use thalweg_engine::{
    Batch, Context, Data, EachTable, EventTime, Key, OpenContext, Operator, Outputs, Result,
    SnapshotContext,
};

use super::Windows;
use super::two_stacks::TwoStacks;
use crate::aggregate::{Aggregate, Reduce};
use crate::keyed_table::KeyedTable;
use crate::stream::{Keyed, Stream, WindowedStream};

/// Windows of the records of a key by their number, in order of arrival.
///
/// No event time is needed; a result has the greatest one of its records. A window that is
/// incomplete when the input ends is not given out (as in Flink).
#[derive(Clone, Copy, Debug)]
pub struct CountWindow {
    size: u64,
    slide: u64,
    has_gaps: bool,
}

impl CountWindow {
    /// A window of each `count` records, which is 1 at least.
    pub fn tumbling(count: u64) -> Self {
        CountWindow::sliding(count, count)
    }

    /// After every `slide` records of a key a window of the last `size`, or of all, if it has not
    /// had as many. Both are 1 at least.
    pub fn sliding(size: u64, slide: u64) -> Self {
        CountWindow { size, slide, has_gaps: false }
    }

    /// Lets the slide be greater than the size: records in between belong to no window and are
    /// counted as gap records.
    #[must_use]
    pub fn with_gaps(self) -> Self {
        CountWindow { has_gaps: true, ..self }
    }

    fn problem(self) -> Option<String> {
        let CountWindow { size, slide, has_gaps } = self;
        if size < 1 || slide < 1 {
            return Some("the size and slide of a count window must be 1 at least".to_owned());
        }
        (slide > size && !has_gaps).then(|| {
            format!(
                "the slide of {slide} records is greater than the size of {size}, so records in \
                 between belong to no window: if that is meant, say `.with_gaps()`"
            )
        })
    }

    /// Whether the record after `seen` others is in a gap.
    fn is_gap(self, seen: u64) -> bool {
        self.slide > self.size && seen % self.slide < self.slide - self.size
    }

    /// Whether a window begins with the record after `seen` others.
    fn begins(self, seen: u64) -> bool {
        (seen % self.slide + self.size % self.slide).is_multiple_of(self.slide)
    }

    fn ends(self, seen: u64) -> bool {
        seen.is_multiple_of(self.slide)
    }
}

impl<T> Windows<T> for CountWindow {}

/// The result of one key in one count window.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CountResult<K, R> {
    /// The key.
    pub key: K,
    /// The number of the window's first record among those of the key, from 0.
    pub first: u64,
    /// The number of records in the window.
    pub count: u64,
    /// The result.
    pub value: R,
}

impl<K: Key, T: Data> WindowedStream<K, T, CountWindow> {
    /// Folds the records of each key and window. Which records share a window depends on the order
    /// of arrival: level D2.
    ///
    /// # Cost
    /// One table look-up per record; per result about three merges on average, however large the
    /// window is. A key is kept for good, with its number of records and the accumulators of the
    /// window's slices: two for each slide in the size.
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> Stream<CountResult<K, A::Out>> {
        let mut spec = OperatorSpec::stateful(name, "count window", Location::caller());
        spec.level = Level::D2;
        spec.problems.extend(self.assigner.problem());
        spec.problems.extend(aggregate.problems());
        let (window, aggregate) = (*self.assigner, Arc::new(aggregate));
        self.stream.job.operator(&self.stream, spec, move || CountOperator::<K, T, A> {
            window,
            aggregate: aggregate.clone(),
            state: KeyedTable::new(),
            records: PhantomData,
        })
    }

    /// Combines the records of each key and window two by two, in order of arrival.
    #[track_caller]
    pub fn reduce(
        &self,
        name: impl Into<String>,
        combine: impl Fn(&T, &T) -> T + Send + Sync + 'static,
    ) -> Stream<CountResult<K, T>> {
        self.aggregate(name, Reduce::with(combine))
    }
}

struct CountOperator<K, T, A: Aggregate<T>> {
    window: CountWindow,
    aggregate: Arc<A>,
    state: KeyedTable<K, Counted<A::Accumulator>>,
    records: PhantomData<fn(T)>,
}

/// The windows of a key. As with windows of time, a slice is what lies between two neighbouring
/// edges, an edge being any start or end of a window.
#[derive(Clone, Serialize, Deserialize)]
struct Counted<V> {
    /// The number of records so far.
    seen: u64,
    /// The slice that records are added to, and the number of its first record.
    slice: Option<(u64, Slice<V>)>,
    /// The slices before it that may be in windows still to come, by number of first record.
    closed: TwoStacks<Slice<V>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Slice<V> {
    max_time: EventTime,
    accumulator: V,
}

/// What a record gives.
enum Step<R> {
    Nothing,
    Gap,
    Result { first: u64, count: u64, value: R, time: EventTime },
}

impl<V: Clone> Counted<V> {
    fn new() -> Self {
        Counted { seen: 0, slice: None, closed: TwoStacks::new() }
    }

    fn add<T, A: Aggregate<T, Accumulator = V>>(
        &mut self,
        window: CountWindow,
        aggregate: &A,
        time: EventTime,
        record: &T,
    ) -> Step<A::Out> {
        let merge = |slice: &mut Slice<V>, other: &Slice<V>| {
            slice.max_time = slice.max_time.max(other.max_time);
            aggregate.merge(&mut slice.accumulator, &other.accumulator);
        };
        let seen = self.seen;
        self.seen += 1;
        if window.is_gap(seen) {
            return Step::Gap;
        }
        let (_, slice) = self.slice.get_or_insert_with(|| {
            (seen, Slice { max_time: EventTime::MIN, accumulator: aggregate.create() })
        });
        slice.max_time = slice.max_time.max(time);
        aggregate.add(&mut slice.accumulator, record);
        if (window.begins(self.seen) || window.ends(self.seen))
            && let Some((first, slice)) = self.slice.take()
        {
            self.closed.push(first as i64, slice, merge);
        }
        if !window.ends(self.seen) {
            return Step::Nothing;
        }
        let first = self.seen.saturating_sub(window.size);
        self.closed.drop_before(first as i64, merge);
        let Some(Slice { max_time, accumulator }) = self.closed.combined(merge) else {
            return Step::Nothing;
        };
        // No window still to come begins before this one's end, less the size, plus the slide.
        let next = (self.seen + window.slide).saturating_sub(window.size);
        self.closed.drop_before(next as i64, merge);
        let (count, value) = (self.seen - first, aggregate.finish(&accumulator));
        Step::Result { first, count, value, time: max_time }
    }
}

impl<K: Key, T: Data, A: Aggregate<T>> Operator for CountOperator<K, T, A> {
    type In = Keyed<K, T>;
    type Out = CountResult<K, A::Out>;
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.state.open(context)
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, CountResult<K, A::Out>, ()>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let (window, aggregate) = (self.window, self.aggregate.clone());
        let keys = self.state.table()?;
        let (values, times) = (&input.values, &input.times);
        let mut marks = input.marks();
        let mut gap = 0;
        // A record gives one result at most, so the output has room for those of a batch.
        keys.update_batch(
            &input.hashes,
            |i| &values[i].key,
            Counted::new,
            |i, counted| {
                let Keyed { key, value } = &values[i];
                let time = times.get(i).copied().unwrap_or(EventTime::MIN);
                let mark = marks.at(i);
                match counted.add(window, &*aggregate, time, value) {
                    Step::Nothing => {}
                    Step::Gap => gap += 1,
                    Step::Result { first, count, value, time } => {
                        let result = CountResult { key: key.clone(), first, count, value };
                        // The result may be newer than the record that completes it.
                        let mark = mark.filter(|&watermark| time <= watermark);
                        out.main.push_marked(result, time, mark);
                    }
                }
            },
        )?;
        keys.relieve()?;
        context.metrics.add(Counter::Gap, gap);
        input.clear();
        Ok(())
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        self.state.snapshot(context)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        self.state.each_table(f)
    }
}

#[cfg(test)]
mod tests;
