//! `event_time`: assigns event times and generates watermarks, per split.
//!
//! Lateness is decided here, once and for all: a record is behind if its time is not after the
//! watermark of its own split as it stood when the record was read, a function of that split's
//! prefix alone. The mark travels with the record. See
//! `docs/decisions/0003-lateness-at-the-split.md`.
//!
//! How a split's watermark comes about is said by [`Watermarks`]: bounded, monotonic, punctuated,
//! or by a generator of your own; and for all of them what becomes of splits that are silent, or
//! far ahead of others.
//!
//! ```
//! use std::time::Duration;
//!
//! use thalweg_connectors::memory;
//! use thalweg_engine::EventTime;
//! use thalweg_operators::{Job, Watermarks};
//!
//! #[derive(Clone)]
//! enum Line {
//!     Reading { time: i64, value: f64 },
//!     /// Nothing up to this time will follow.
//!     Complete { up_to: i64 },
//! }
//!
//! let lines = vec![Line::Reading { time: 5, value: 0.5 }, Line::Complete { up_to: 9 }];
//! let watermarks = Watermarks::punctuated(|line: &Line| match line {
//!     Line::Complete { up_to } => Some(EventTime::from_millis(*up_to)),
//!     Line::Reading { .. } => None,
//! });
//! let job = Job::new();
//! let timed = job.source("lines", memory::source(lines)).event_time(
//!     |line| match line {
//!         Line::Reading { time, .. } => *time,
//!         Line::Complete { up_to } => *up_to,
//!     },
//!     watermarks.with_alignment(Duration::from_secs(60)),
//! );
//! # drop(timed);
//! ```
//!
//! # Invariants
//! * I1: a split's watermark never falls, and is evaluated after every record.
//! * I2: every split counts, at `MIN`, until it has been read or has ended.

mod alignment;
mod kinds;

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::state::codec;
use thalweg_engine::time::duration_millis;
use thalweg_engine::{
    Batch, Context, Counter, Element, Error, EventTime, OpenContext, Operator, OriginWatermark,
    Outputs, ProcessingTime, Result, TimeOrigin,
};

use crate::stream::Stream;
use alignment::{Alignment, Member};
pub use kinds::{
    Bounded, Generated, GeneratedSplit, Punctuated, WatermarkGenerator, WatermarkKind,
};

/// What can be taken for an event time.
pub trait IntoEventTime {
    /// The event time.
    fn into_event_time(self) -> EventTime;
}

impl IntoEventTime for EventTime {
    fn into_event_time(self) -> EventTime {
        self
    }
}

impl IntoEventTime for i64 {
    /// Milliseconds since the Unix epoch.
    fn into_event_time(self) -> EventTime {
        EventTime::from_millis(self)
    }
}

impl IntoEventTime for u64 {
    /// Milliseconds since the Unix epoch.
    fn into_event_time(self) -> EventTime {
        EventTime::from_millis(i64::try_from(self).unwrap_or(i64::MAX))
    }
}

impl<Z: chrono::TimeZone> IntoEventTime for chrono::DateTime<Z> {
    fn into_event_time(self) -> EventTime {
        EventTime::from_millis(self.timestamp_millis())
    }
}

/// How watermarks are generated.
#[derive(Clone, Copy, Debug)]
pub struct Watermarks<W = Bounded> {
    kind: W,
    idle_after_ms: Option<i64>,
    drift_ms: Option<i64>,
    skips_invalid: bool,
}

impl Watermarks {
    /// Records may be up to `bound` behind the newest record of their split and still be on time:
    /// the watermark is the greatest time seen less `bound` less one millisecond
    /// (`BoundedOutOfOrdernessWatermarks` in Flink).
    pub fn bounded_out_of_orderness(bound: Duration) -> Self {
        let bound_ms = duration_millis(bound).min(EventTime::RECORD_LIMIT_MS);
        Watermarks::of(Bounded { bound_ms })
    }

    /// Records are in order within their split; equal times are in order.
    pub fn monotonic() -> Self {
        Self::bounded_out_of_orderness(Duration::ZERO)
    }
}

impl<T, F> Watermarks<Generated<Punctuated<T, F>>>
where
    T: Element,
    F: Fn(&T) -> Option<EventTime> + Clone + Send + Sync + 'static,
{
    /// Some records say how far time has come: behind one for which `watermark_of` gives a time,
    /// the split's watermark is that time, if it is greater than before. Nothing else moves it.
    pub fn punctuated(watermark_of: F) -> Self {
        Watermarks::of(Generated { generator: Punctuated { watermark_of, records: PhantomData } })
    }
}

impl<G> Watermarks<Generated<G>> {
    /// Watermarks of a generator of your own: see [`WatermarkGenerator`].
    pub fn generated<T>(generator: G) -> Self
    where
        G: WatermarkGenerator<T>,
    {
        Watermarks::of(Generated { generator })
    }
}

impl<W> Watermarks<W> {
    fn of(kind: W) -> Self {
        Watermarks { kind, idle_after_ms: None, drift_ms: None, skips_invalid: false }
    }

    /// A split that has had no record for `timeout` of processing time no longer holds the
    /// watermark back, until it has one again. Results may then depend on timing: level D2.
    #[must_use]
    pub fn with_idleness(self, timeout: Duration) -> Self {
        Watermarks { idle_after_ms: Some(duration_millis(timeout)), ..self }
    }

    /// A split whose watermark is more than `max_drift` ahead of the slowest active split of the
    /// source is not read until that has caught up: so what operators have to keep for slow
    /// splits is bounded. No result depends on it. A split that has nothing to read holds all
    /// others back unless it counts as [idle](Watermarks::with_idleness) at some time.
    #[must_use]
    pub fn with_alignment(self, max_drift: Duration) -> Self {
        Watermarks { drift_ms: Some(duration_millis(max_drift)), ..self }
    }

    /// Records whose time is more than 100 million days from the epoch are skipped and counted;
    /// without this they fail the job.
    #[must_use]
    pub fn skip_invalid(self) -> Self {
        Watermarks { skips_invalid: true, ..self }
    }
}

impl<T: Element> Stream<T> {
    /// Assigns event times and generates watermarks. Belongs directly behind a source: before any
    /// exchange, and before filters that should not slow time down.
    #[track_caller]
    pub fn event_time<E: IntoEventTime, W: WatermarkKind<T>>(
        &self,
        time_of: impl Fn(&T) -> E + Send + Sync + 'static,
        watermarks: Watermarks<W>,
    ) -> Stream<T> {
        let time_of = Arc::new(move |record: &T| time_of(record).into_event_time());
        let mut spec = OperatorSpec::stateless("event_time", Location::caller());
        spec.assigns_event_time = true;
        if watermarks.idle_after_ms.is_some() {
            spec.level = Level::D2;
        }
        if watermarks.idle_after_ms.is_some_and(|timeout| timeout < 1) {
            let problem = "a split that is idle without having been silent for a millisecond at \
                           least would never hold the watermark back";
            spec.problems.push(problem.to_owned());
        }
        let alignment = Arc::new(Alignment::default());
        self.job.operator(self, spec, move || AssignEventTime {
            time_of: time_of.clone(),
            watermarks: watermarks.clone(),
            alignment: alignment.clone(),
            member: None,
            splits: Vec::new(),
            records: PhantomData,
        })
    }
}

struct AssignEventTime<F, T, W: WatermarkKind<T>> {
    time_of: Arc<F>,
    watermarks: Watermarks<W>,
    alignment: Arc<Alignment>,
    /// This subtask among those that are aligned, if they are.
    member: Option<Member>,
    splits: Vec<SplitTime<W::Split>>,
    records: PhantomData<fn(T)>,
}

/// The event time of one split.
struct SplitTime<S> {
    generator: S,
    is_finished: bool,
    idle_since: Option<ProcessingTime>,
}

impl<T: Element, W: WatermarkKind<T>, F> AssignEventTime<F, T, W>
where
    F: Fn(&T) -> EventTime + Send + Sync + 'static,
{
    /// The time column of `values`, with marks; stops at the first invalid time.
    #[inline]
    fn assign(&mut self, split: usize, values: &[T], out: &mut Batch<T>) -> Option<usize> {
        let generator = &mut self.splits[split].generator;
        self.watermarks.kind.assign(generator, values, &*self.time_of, out)
    }
}

impl<T: Element, W: WatermarkKind<T>, F> Operator for AssignEventTime<F, T, W>
where
    F: Fn(&T) -> EventTime + Send + Sync + 'static,
{
    type In = T;
    type Out = T;
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        if let Some(drift_ms) = self.watermarks.drift_ms {
            let (index, count) = (context.subtask_index, context.parallelism);
            let notifier = context.notifier();
            self.member = Some(self.alignment.join(index, count, drift_ms, notifier));
        }
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, T, ()>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let mut invalid = self.assign(context.split, &input.values, out.main);
        if invalid.is_none() {
            std::mem::swap(&mut out.main.values, &mut input.values);
            std::mem::swap(&mut out.main.ids, &mut input.ids);
            input.clear();
        }
        while let Some(index) = invalid {
            let mut values = input.values.drain(..=index);
            out.main.values.extend(values.by_ref().take(index));
            let time = values.next().map(|value| (self.time_of)(&value));
            drop(values);
            if !input.ids.is_empty() {
                out.main.ids.extend(input.ids.drain(..=index).take(index));
            }
            if !self.watermarks.skips_invalid {
                return Err(Error::user(format!(
                    "a record has the event time {} ms, more than 100 million days from the \
                     epoch: mend the function that gives the time, or allow such records to be \
                     skipped with `Watermarks::skip_invalid`",
                    time.unwrap_or_default()
                )));
            }
            context.metrics.add(Counter::Skipped, 1);
            invalid = self.assign(context.split, &input.values, out.main);
            if invalid.is_none() {
                out.main.values.append(&mut input.values);
                out.main.ids.append(&mut input.ids);
            }
        }
        let generator = &self.splits[context.split].generator;
        context.metrics.raise_event_time(self.watermarks.kind.greatest(generator));
        Ok(())
    }

    fn as_time_origin(&mut self) -> Option<&mut dyn TimeOrigin> {
        Some(self)
    }
}

impl<T: Element, W: WatermarkKind<T>, F> TimeOrigin for AssignEventTime<F, T, W>
where
    F: Fn(&T) -> EventTime + Send + Sync + 'static,
{
    fn add_split(&mut self, split: usize, restored: Option<&[u8]>) -> Result<()> {
        let generator = match restored {
            Some(bytes) => codec::decode(bytes)?,
            None => self.watermarks.kind.create(),
        };
        debug_assert_eq!(split, self.splits.len(), "splits are added in order");
        self.splits.push(SplitTime { generator, is_finished: false, idle_since: None });
        Ok(())
    }

    fn finish_split(&mut self, split: usize) {
        self.splits[split].is_finished = true;
    }

    fn set_idle_since(&mut self, split: usize, idle_since: Option<ProcessingTime>) {
        self.splits[split].idle_since = idle_since;
    }

    fn watermark(&mut self, now: ProcessingTime) -> OriginWatermark {
        let mut least = EventTime::MAX;
        let mut is_idle = false;
        let mut check_at: Option<ProcessingTime> = None;
        for split in self.splits.iter().filter(|split| !split.is_finished) {
            if let (Some(timeout), Some(since)) = (self.watermarks.idle_after_ms, split.idle_since)
            {
                let idle_at = since.plus_millis(timeout);
                if idle_at <= now {
                    is_idle = true;
                    continue;
                }
                check_at = Some(check_at.map_or(idle_at, |at| at.min(idle_at)));
            }
            least = least.min(self.watermarks.kind.watermark(&split.generator));
        }
        if let Some(member) = &mut self.member {
            member.publish(least);
        }
        // Some splits are idle and no other is active: time stands still, it has not ended.
        let is_idle = is_idle && least == EventTime::MAX;
        let watermark = if is_idle { EventTime::MIN } else { least };
        OriginWatermark { watermark, is_idle, check_at }
    }

    fn held_splits(&mut self, held: &mut Vec<usize>) {
        let Some(member) = &mut self.member else { return };
        for (index, split) in self.splits.iter().enumerate() {
            let watermark = self.watermarks.kind.watermark(&split.generator);
            if !split.is_finished && member.is_ahead(watermark) {
                held.push(index);
            }
        }
    }

    fn snapshot_split(&self, split: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        codec::encode(&self.splits[split].generator, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
