//! `event_time`: assigns event times and generates watermarks, per split.
//!
//! Lateness is decided here, once and for all: a record is behind if its time is not after the
//! watermark of its own split as it stood when the record was read, a function of that split's
//! prefix alone. The mark travels with the record. See
//! `docs/decisions/0003-lateness-at-the-split.md`.
//!
//! # Invariants
//! * I1: a split's watermark never falls, and is evaluated after every record.
//! * I2: every split counts, at `MIN`, until it has been read or has ended.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::state::codec;
use thalweg_engine::time::duration_millis;
use thalweg_engine::{
    Batch, Behind, Context, Counter, Element, Error, EventTime, Operator, OriginWatermark, Outputs,
    ProcessingTime, Result, TimeOrigin,
};

use crate::stream::Stream;

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
pub struct Watermarks {
    bound_ms: i64,
    idle_after_ms: Option<i64>,
    skips_invalid: bool,
}

impl Watermarks {
    /// Records may be up to `bound` behind the newest record of their split and still be on time:
    /// the watermark is the greatest time seen less `bound` less one millisecond
    /// (`BoundedOutOfOrdernessWatermarks` in Flink).
    pub fn bounded_out_of_orderness(bound: Duration) -> Self {
        let bound_ms = duration_millis(bound).min(EventTime::RECORD_LIMIT_MS);
        Watermarks { bound_ms, idle_after_ms: None, skips_invalid: false }
    }

    /// Records are in order within their split; equal times are in order.
    pub fn monotonic() -> Self {
        Self::bounded_out_of_orderness(Duration::ZERO)
    }

    /// A split that has had no record for `timeout` of processing time no longer holds the
    /// watermark back, until it has one again. Results may then depend on timing: level D2.
    #[must_use]
    pub fn with_idleness(self, timeout: Duration) -> Self {
        Watermarks { idle_after_ms: Some(duration_millis(timeout)), ..self }
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
    pub fn event_time<E: IntoEventTime>(
        &self,
        time_of: impl Fn(&T) -> E + Send + Sync + 'static,
        watermarks: Watermarks,
    ) -> Stream<T> {
        let time_of = Arc::new(move |record: &T| time_of(record).into_event_time());
        let mut spec = OperatorSpec::stateless("event_time", Location::caller());
        spec.assigns_event_time = true;
        if watermarks.idle_after_ms.is_some() {
            spec.level = Level::D2;
        }
        self.job.operator(self, spec, move || AssignEventTime {
            time_of: time_of.clone(),
            watermarks,
            splits: Vec::new(),
            records: PhantomData,
        })
    }
}

struct AssignEventTime<F, T> {
    time_of: Arc<F>,
    watermarks: Watermarks,
    splits: Vec<Generator>,
    records: PhantomData<fn(T)>,
}

/// The watermark generator of one split.
#[derive(Clone, Copy, Debug)]
struct Generator {
    /// The greatest time seen, `MIN` before any.
    greatest: EventTime,
    is_finished: bool,
    idle_since: Option<ProcessingTime>,
}

impl Generator {
    #[inline]
    fn watermark(&self, bound_ms: i64) -> EventTime {
        self.greatest.shifted(-bound_ms - 1)
    }
}

impl<T: Element, F: Fn(&T) -> EventTime + Send + Sync + 'static> AssignEventTime<F, T> {
    /// The time column of `values`, with marks; stops at the first invalid time.
    ///
    /// # Cost
    /// The records are often touched here for the first time. So the loop over them is short and
    /// without branches, which lets the processor wait for many of them at once; only where it
    /// found a record behind or invalid, a second loop judges the column.
    fn assign(&mut self, split: usize, values: &[T], out: &mut Batch<T>) -> Option<usize> {
        let (time_of, bound) = (&*self.time_of, self.watermarks.bound_ms);
        let generator = &mut self.splits[split];
        let first = out.times.len();
        let mut greatest = generator.greatest;
        let mut is_in_order = true;
        out.times.extend(values.iter().map(|value| {
            let time = time_of(value);
            // Valid times and bounds are far from overflowing.
            is_in_order &= time.is_valid_for_record()
                & (time.millis().wrapping_add(bound) >= greatest.millis());
            greatest = greatest.max(time);
            time
        }));
        if is_in_order {
            generator.greatest = greatest;
            return None;
        }
        let invalid = out.times[first..].iter().position(|time| !time.is_valid_for_record());
        out.times.truncate(first + invalid.unwrap_or(values.len()));
        let mut watermark = generator.watermark(bound);
        for (index, &time) in (first as u32..).zip(&out.times[first..]) {
            if time <= watermark {
                out.behind.push(Behind { index, watermark });
            }
            generator.greatest = generator.greatest.max(time);
            watermark = generator.watermark(bound);
        }
        invalid
    }
}

impl<T: Element, F: Fn(&T) -> EventTime + Send + Sync + 'static> Operator
    for AssignEventTime<F, T>
{
    type In = T;
    type Out = T;
    type Side = ();

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
        context.metrics.raise_event_time(self.splits[context.split].greatest);
        Ok(())
    }

    fn as_time_origin(&mut self) -> Option<&mut dyn TimeOrigin> {
        Some(self)
    }
}

impl<T: Element, F: Fn(&T) -> EventTime + Send + Sync + 'static> TimeOrigin
    for AssignEventTime<F, T>
{
    fn add_split(&mut self, split: usize, restored: Option<&[u8]>) -> Result<()> {
        let greatest = match restored {
            Some(bytes) => codec::decode(bytes)?,
            None => EventTime::MIN,
        };
        debug_assert_eq!(split, self.splits.len(), "splits are added in order");
        self.splits.push(Generator { greatest, is_finished: false, idle_since: None });
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
            least = least.min(split.watermark(self.watermarks.bound_ms));
        }
        // Some splits are idle and no other is active: time stands still, it has not ended.
        let is_idle = is_idle && least == EventTime::MAX;
        let watermark = if is_idle { EventTime::MIN } else { least };
        OriginWatermark { watermark, is_idle, check_at }
    }

    fn snapshot_split(&self, split: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode(&self.splits[split].greatest, &mut bytes)
            .expect("a number can always be encoded");
        bytes
    }
}
