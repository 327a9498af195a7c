//! Which windows a time belongs to: tumbling and sliding windows, and the slices they share.
//!
//! The formulas are those of Flink's `TimeWindow.getWindowStartWithOffset` and
//! `SlidingEventTimeWindows`; slicing follows Carbone et al., *Cutty* (CIKM 2016), and Flink SQL's
//! `SliceAssigners`. A slice is the span between two neighbouring edges, an edge being any start
//! or end of a window; all records of a slice belong to the same windows.

use std::time::Duration;

use thalweg_engine::time::duration_millis;

/// Assigns times to windows of one size that begin at regular distances.
pub trait WindowAssigner: Send + Sync + 'static {
    /// The length of a window in milliseconds, at least 1.
    fn size_ms(&self) -> i64;

    /// The distance between the starts of two windows in milliseconds, at least 1.
    fn slide_ms(&self) -> i64;

    /// By how much all starts are moved, in milliseconds; below `size_ms` either way.
    fn offset_ms(&self) -> i64;

    /// What it is called in plans.
    fn name(&self) -> &'static str;
}

/// Windows of one size that neither overlap nor leave gaps.
#[derive(Clone, Copy, Debug)]
pub struct Tumbling {
    size_ms: i64,
    offset_ms: i64,
}

impl Tumbling {
    /// Windows of `size`, aligned to the epoch.
    ///
    /// # Panics
    /// If `size` is below a millisecond.
    #[track_caller]
    pub fn of(size: Duration) -> Self {
        Tumbling { size_ms: positive(size, "the size of a window"), offset_ms: 0 }
    }

    /// Moves the starts of all windows by `millis`, which may be negative.
    ///
    /// # Panics
    /// If `millis` is not below the size, either way.
    #[track_caller]
    #[must_use]
    pub fn offset_millis(self, millis: i64) -> Self {
        assert!(millis.abs() < self.size_ms, "the offset of a window must be below its size");
        Tumbling { offset_ms: millis, ..self }
    }
}

impl WindowAssigner for Tumbling {
    fn size_ms(&self) -> i64 {
        self.size_ms
    }

    fn slide_ms(&self) -> i64 {
        self.size_ms
    }

    fn offset_ms(&self) -> i64 {
        self.offset_ms
    }

    fn name(&self) -> &'static str {
        "tumbling window"
    }
}

/// Windows of one size that begin every `slide`.
#[derive(Clone, Copy, Debug)]
pub struct Sliding {
    size_ms: i64,
    slide_ms: i64,
    offset_ms: i64,
}

impl Sliding {
    /// Windows of `size` that begin every `slide`. If the slide is greater than the size, records
    /// between two windows belong to none and are counted as gap records.
    ///
    /// # Panics
    /// If either is below a millisecond.
    #[track_caller]
    pub fn of(size: Duration, slide: Duration) -> Self {
        Sliding {
            size_ms: positive(size, "the size of a window"),
            slide_ms: positive(slide, "the slide of a window"),
            offset_ms: 0,
        }
    }

    /// Moves the starts of all windows by `millis`, which may be negative.
    ///
    /// # Panics
    /// If `millis` is not below the size, either way.
    #[track_caller]
    #[must_use]
    pub fn offset_millis(self, millis: i64) -> Self {
        assert!(millis.abs() < self.size_ms, "the offset of a window must be below its size");
        Sliding { offset_ms: millis, ..self }
    }
}

impl WindowAssigner for Sliding {
    fn size_ms(&self) -> i64 {
        self.size_ms
    }

    fn slide_ms(&self) -> i64 {
        self.slide_ms
    }

    fn offset_ms(&self) -> i64 {
        self.offset_ms
    }

    fn name(&self) -> &'static str {
        "sliding window"
    }
}

#[track_caller]
fn positive(duration: Duration, what: &str) -> i64 {
    let millis = duration_millis(duration);
    assert!(millis > 0, "{what} must be a millisecond at least");
    millis.min(thalweg_engine::EventTime::RECORD_LIMIT_MS)
}

/// The start of the window of `slide` that holds `time`: the greatest start not after it.
#[inline]
fn window_start(time: i64, offset: i64, slide: i64) -> i64 {
    time - (time - offset).rem_euclid(slide)
}

/// The slices of an assigner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices {
    size: i64,
    slide: i64,
    offset: i64,
}

/// A slice and the windows that all of its records belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slice {
    pub(super) start: i64,
    pub(super) end: i64,
    /// The end of the first window that holds the slice.
    pub(super) first_end: i64,
    /// The end of the last window that holds the slice; below `first_end` in a gap.
    pub(super) last_end: i64,
}

impl Slices {
    pub(super) fn new(assigner: &impl WindowAssigner) -> Self {
        Slices {
            size: assigner.size_ms(),
            slide: assigner.slide_ms(),
            offset: assigner.offset_ms(),
        }
    }

    /// The slice that holds `time`.
    pub(super) fn at(&self, time: i64) -> Slice {
        let by_start = window_start(time, self.offset, self.slide);
        let by_end = window_start(time, self.offset + self.size, self.slide);
        // The first window that holds `time` is the first that begins after `time - size`.
        let first_start = window_start(time - self.size, self.offset, self.slide) + self.slide;
        Slice {
            start: by_start.max(by_end),
            end: (by_start + self.slide).min(by_end + self.slide),
            first_end: first_start + self.size,
            last_end: by_start + self.size,
        }
    }

    /// The end of the last window that holds the slice beginning at `slice_start`.
    pub(super) fn last_end(&self, slice_start: i64) -> i64 {
        window_start(slice_start, self.offset, self.slide) + self.size
    }

    /// The first window end of the series `first_end, first_end + slide, …` after `after`.
    pub(super) fn next_end(&self, first_end: i64, after: i64) -> i64 {
        if first_end > after {
            return first_end;
        }
        let missed = (after - first_end) / self.slide + 1;
        first_end + missed * self.slide
    }

    pub(super) fn size(&self) -> i64 {
        self.size
    }

    pub(super) fn slide(&self) -> i64 {
        self.slide
    }

    pub(super) fn offset(&self) -> i64 {
        self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All window ends that hold `time`, by the definition.
    fn ends_by_definition(size: i64, slide: i64, offset: i64, time: i64) -> Vec<i64> {
        let mut ends = Vec::new();
        let mut start = window_start(time, offset, slide);
        while start > time - size {
            ends.push(start + size);
            start -= slide;
        }
        ends.reverse();
        ends
    }

    #[test]
    fn slices_agree_with_the_definition_of_windows() {
        for (size, slide, offset) in
            [(10, 10, 0), (10, 10, 3), (10, 2, 0), (10, 3, -4), (7, 5, 2), (3, 10, 0), (1, 1, 0)]
        {
            let slices = Slices { size, slide, offset };
            for time in -60..60 {
                let ends = ends_by_definition(size, slide, offset, time);
                let slice = slices.at(time);
                assert!(slice.start <= time && time < slice.end);
                let context = format!("{size} {slide} {offset} at {time}");
                match (ends.first(), ends.last()) {
                    (Some(&first), Some(&last)) => {
                        assert_eq!((slice.first_end, slice.last_end), (first, last), "{context}");
                        assert_eq!(slices.last_end(slice.start), last, "{context}");
                    }
                    _ => assert!(slice.last_end < slice.first_end, "{context}"),
                }
                for other in slice.start..slice.end {
                    assert_eq!(ends_by_definition(size, slide, offset, other), ends, "{context}");
                }
            }
        }
    }

    #[test]
    fn the_next_end_is_the_first_of_its_series_after_the_given_one() {
        let slices = Slices { size: 10, slide: 3, offset: 0 };
        assert_eq!(slices.next_end(9, i64::MIN), 9);
        assert_eq!(slices.next_end(9, 8), 9);
        assert_eq!(slices.next_end(9, 9), 12);
        assert_eq!(slices.next_end(9, 13), 15);
    }
}
