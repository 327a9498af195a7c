//! The kinds of watermark generators: bounded, punctuated, and the user's own.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};
use thalweg_engine::{Batch, Behind, Data, Element, EventTime};

/// A watermark generator of the user's: called with every record of a split, in order.
///
/// One value serves all splits; what it remembers of a split is a state of its own, which is part
/// of checkpoints.
///
/// ```
/// use thalweg_engine::EventTime;
/// use thalweg_operators::{WatermarkGenerator, Watermarks};
///
/// /// Records may be behind by as much as the widest gap between two records so far.
/// #[derive(Clone)]
/// struct WidestGap;
///
/// impl WatermarkGenerator<i64> for WidestGap {
///     type State = Option<(i64, i64)>;
///
///     fn create(&self) -> Option<(i64, i64)> {
///         None
///     }
///
///     fn on_record(
///         &self,
///         state: &mut Option<(i64, i64)>,
///         _record: &i64,
///         time: EventTime,
///     ) -> Option<EventTime> {
///         let (greatest, gap) = state.unwrap_or((time.millis(), 0));
///         let gap = gap.max(time.millis() - greatest);
///         *state = Some((greatest.max(time.millis()), gap));
///         state.map(|(greatest, gap)| EventTime::from_millis(greatest - gap - 1))
///     }
/// }
///
/// let watermarks = Watermarks::generated(WidestGap);
/// # drop(watermarks);
/// ```
pub trait WatermarkGenerator<T>: Clone + Send + Sync + 'static {
    /// What is remembered of a split.
    type State: Data;

    /// The state of a split that has not been read.
    fn create(&self) -> Self::State;

    /// A record has been read. Returns the watermark that holds behind it, or none if the record
    /// says nothing of it. A watermark that is not greater than the last one is passed over: a
    /// split's watermark never falls.
    fn on_record(&self, state: &mut Self::State, record: &T, time: EventTime) -> Option<EventTime>;
}

/// How the records of a split make its watermark: [`Bounded`] or [`Generated`].
///
/// Not to be implemented: a generator of your own is a [`WatermarkGenerator`].
pub trait WatermarkKind<T>: Clone + Send + Sync + 'static {
    /// What is kept of a split, and put into checkpoints.
    type Split: Data;

    /// A split that has not been read.
    fn create(&self) -> Self::Split;

    /// The watermark of a split.
    fn watermark(&self, split: &Self::Split) -> EventTime;

    /// The greatest time of the split's records.
    fn greatest(&self, split: &Self::Split) -> EventTime;

    /// Appends the times of `values` to the columns of `out`, with marks, and moves the split's
    /// watermark on; stops at the first invalid time and returns its position.
    fn assign(
        &self,
        split: &mut Self::Split,
        values: &[T],
        time_of: impl Fn(&T) -> EventTime,
        out: &mut Batch<T>,
    ) -> Option<usize>;
}

/// Records are behind the newest of their split by no more than a bound.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    pub(super) bound_ms: i64,
}

impl Bounded {
    #[inline]
    fn behind(self, greatest: EventTime) -> EventTime {
        greatest.shifted(-self.bound_ms - 1)
    }
}

impl<T: Element> WatermarkKind<T> for Bounded {
    /// The greatest time seen, `MIN` before any.
    type Split = EventTime;

    fn create(&self) -> EventTime {
        EventTime::MIN
    }

    #[inline]
    fn watermark(&self, split: &EventTime) -> EventTime {
        self.behind(*split)
    }

    fn greatest(&self, split: &EventTime) -> EventTime {
        *split
    }

    /// # Cost
    /// The records are often touched here for the first time. So the loop over them is short and
    /// without branches, which lets the processor wait for many of them at once; only where it
    /// found a record behind or invalid, a second loop judges the column.
    fn assign(
        &self,
        split: &mut EventTime,
        values: &[T],
        time_of: impl Fn(&T) -> EventTime,
        out: &mut Batch<T>,
    ) -> Option<usize> {
        let bound = self.bound_ms;
        let first = out.times.len();
        let mut greatest = *split;
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
            *split = greatest;
            return None;
        }
        let invalid = out.times[first..].iter().position(|time| !time.is_valid_for_record());
        out.times.truncate(first + invalid.unwrap_or(values.len()));
        let mut watermark = self.behind(*split);
        for (index, &time) in (first as u32..).zip(&out.times[first..]) {
            if time <= watermark {
                out.behind.push(Behind { index, watermark });
            }
            *split = (*split).max(time);
            watermark = self.behind(*split);
        }
        invalid
    }
}

/// Watermarks come from a [`WatermarkGenerator`].
#[derive(Clone, Copy, Debug)]
pub struct Generated<G> {
    pub(super) generator: G,
}

/// A split whose watermark is generated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GeneratedSplit<S> {
    state: S,
    watermark: EventTime,
    greatest: EventTime,
}

impl<T: Element, G: WatermarkGenerator<T>> WatermarkKind<T> for Generated<G> {
    type Split = GeneratedSplit<G::State>;

    fn create(&self) -> Self::Split {
        let state = self.generator.create();
        GeneratedSplit { state, watermark: EventTime::MIN, greatest: EventTime::MIN }
    }

    fn watermark(&self, split: &Self::Split) -> EventTime {
        split.watermark
    }

    fn greatest(&self, split: &Self::Split) -> EventTime {
        split.greatest
    }

    fn assign(
        &self,
        split: &mut Self::Split,
        values: &[T],
        time_of: impl Fn(&T) -> EventTime,
        out: &mut Batch<T>,
    ) -> Option<usize> {
        // The end of time is not a record's to say.
        let limit = EventTime::from_millis(EventTime::RECORD_LIMIT_MS);
        for (position, value) in values.iter().enumerate() {
            let time = time_of(value);
            if !time.is_valid_for_record() {
                return Some(position);
            }
            if time <= split.watermark {
                let index = out.times.len() as u32;
                out.behind.push(Behind { index, watermark: split.watermark });
            }
            out.times.push(time);
            split.greatest = split.greatest.max(time);
            if let Some(watermark) = self.generator.on_record(&mut split.state, value, time) {
                split.watermark = split.watermark.max(watermark.min(limit));
            }
        }
        None
    }
}

/// The generator of [`Watermarks::punctuated`](super::Watermarks::punctuated): some records say
/// how far time has come.
pub struct Punctuated<T, F> {
    pub(super) watermark_of: F,
    pub(super) records: PhantomData<fn(&T)>,
}

impl<T, F: Clone> Clone for Punctuated<T, F> {
    fn clone(&self) -> Self {
        Punctuated { watermark_of: self.watermark_of.clone(), records: PhantomData }
    }
}

impl<T, F> fmt::Debug for Punctuated<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Punctuated").finish_non_exhaustive()
    }
}

impl<T, F> WatermarkGenerator<T> for Punctuated<T, F>
where
    T: 'static,
    F: Fn(&T) -> Option<EventTime> + Clone + Send + Sync + 'static,
{
    type State = ();

    fn create(&self) {}

    fn on_record(&self, _state: &mut (), record: &T, _time: EventTime) -> Option<EventTime> {
        (self.watermark_of)(record)
    }
}
