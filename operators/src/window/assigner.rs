//! Which windows a time belongs to: tumbling and sliding windows, and the slices they share.
//!
//! The formulas are those of Flink's `TimeWindow.getWindowStartWithOffset` and
//! `SlidingEventTimeWindows`; slicing follows Carbone et al., *Cutty* (CIKM 2016), and Flink SQL's
//! `SliceAssigners`. A slice is the span between two neighbouring edges, an edge being any start
//! or end of a window; all records of a slice belong to the same windows.

use std::time::Duration;

use thalweg_engine::EventTime;
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

    /// Whether the slide may be greater than the size, so that records between two windows belong
    /// to none.
    fn has_gaps(&self) -> bool {
        false
    }

    /// What is wrong with it, if anything: reported when the job is built.
    fn problem(&self) -> Option<String> {
        let (size, slide, offset) = (self.size_ms(), self.slide_ms(), self.offset_ms());
        let name = self.name();
        if size < 1 {
            Some(format!("the size of a {name} must be a millisecond at least"))
        } else if slide < 1 {
            Some(format!("the slide of a {name} must be a millisecond at least"))
        } else if offset.unsigned_abs() >= size.unsigned_abs() {
            Some(format!(
                "the offset of a {name} must be below its size, either way: {offset} ms is not \
                 below {size} ms"
            ))
        } else if slide > size && !self.has_gaps() {
            Some(format!(
                "the slide of {slide} ms is greater than the size of {size} ms, so records in \
                 between belong to no window: if that is meant, say `.with_gaps()`"
            ))
        } else {
            None
        }
    }
}

/// Windows of one size that neither overlap nor leave gaps.
#[derive(Clone, Copy, Debug)]
pub struct Tumbling {
    size_ms: i64,
    offset_ms: i64,
}

impl Tumbling {
    /// Windows of `size`, a millisecond at least, aligned to the epoch.
    pub fn of(size: Duration) -> Self {
        Tumbling { size_ms: window_millis(size), offset_ms: 0 }
    }

    /// Moves the starts of all windows by `millis`, which may be negative and must be below the
    /// size, either way.
    #[must_use]
    pub fn offset_millis(self, millis: i64) -> Self {
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
    has_gaps: bool,
}

impl Sliding {
    /// Windows of `size` that begin every `slide`; both are a millisecond at least, and the slide
    /// is not greater than the size unless [`with_gaps`](Sliding::with_gaps) says so.
    pub fn of(size: Duration, slide: Duration) -> Self {
        Sliding {
            size_ms: window_millis(size),
            slide_ms: window_millis(slide),
            offset_ms: 0,
            has_gaps: false,
        }
    }

    /// Moves the starts of all windows by `millis`, which may be negative and must be below the
    /// size, either way.
    #[must_use]
    pub fn offset_millis(self, millis: i64) -> Self {
        Sliding { offset_ms: millis, ..self }
    }

    /// Lets the slide be greater than the size: records between two windows belong to none and
    /// are counted as gap records.
    #[must_use]
    pub fn with_gaps(self) -> Self {
        Sliding { has_gaps: true, ..self }
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

    fn has_gaps(&self) -> bool {
        self.has_gaps
    }
}

/// A length in milliseconds, small enough to be added to the time of a record.
pub(super) fn window_millis(duration: Duration) -> i64 {
    duration_millis(duration).min(EventTime::RECORD_LIMIT_MS)
}

/// The start of the window of `slide` that holds `time`: the greatest start not after it.
#[inline]
fn window_start(time: i64, offset: i64, slide: i64) -> i64 {
    time - (time - offset).rem_euclid(slide)
}

/// The slices of an assigner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slices {
    size: i64,
    slide: i64,
    offset: i64,
}

/// A slice and the windows that all of its records belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slice {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// The end of the first window that holds the slice.
    pub(crate) first_end: i64,
    /// The end of the last window that holds the slice; below `first_end` in a gap.
    pub(crate) last_end: i64,
}

impl Slices {
    pub(crate) fn new(assigner: &impl WindowAssigner) -> Self {
        Slices {
            size: assigner.size_ms(),
            slide: assigner.slide_ms(),
            offset: assigner.offset_ms(),
        }
    }

    /// The slice that holds `time`.
    pub(crate) fn at(&self, time: i64) -> Slice {
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
    pub(crate) fn last_end(&self, slice_start: i64) -> i64 {
        window_start(slice_start, self.offset, self.slide) + self.size
    }

    /// The first window end of the series `first_end, first_end + slide, …` after `after`.
    pub(crate) fn next_end(&self, first_end: i64, after: i64) -> i64 {
        if first_end > after {
            return first_end;
        }
        let missed = (after - first_end) / self.slide + 1;
        first_end + missed * self.slide
    }

    pub(crate) fn size(&self) -> i64 {
        self.size
    }

    pub(crate) fn slide(&self) -> i64 {
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
    fn wrong_windows_have_a_problem() {
        let millis = Duration::from_millis;
        let problem = |assigner: &dyn WindowAssigner| assigner.problem().unwrap_or_default();
        assert!(problem(&Tumbling::of(millis(0))).contains("size"));
        assert!(problem(&Tumbling::of(Duration::from_micros(999))).contains("size"));
        for offset in [10, -10, i64::MIN] {
            assert!(problem(&Tumbling::of(millis(10)).offset_millis(offset)).contains("offset"));
        }
        assert_eq!(Tumbling::of(millis(10)).offset_millis(-9).problem(), None);
        assert!(problem(&Sliding::of(millis(10), millis(0))).contains("slide"));
        assert!(problem(&Sliding::of(millis(10), millis(11))).contains("with_gaps"));
        assert_eq!(Sliding::of(millis(10), millis(11)).with_gaps().problem(), None);
        assert_eq!(Sliding::of(millis(10), millis(10)).problem(), None);
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
