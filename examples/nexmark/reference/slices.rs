//! The slices of the sliding windows of one split, the slice of the last event in front.
//!
//! A window is as long as several slides, so that each span between two starts is part of several
//! windows: it is counted once, and a window adds its slices up when it ends. What is late for a
//! window comes after that, and can be counted without it.

use super::counts::Counts;
use crate::query::{SLIDE_MS, WINDOW_MS};

const _: () = assert!(WINDOW_MS % SLIDE_MS == 0);

/// Counts by slice, and the watermark that ends windows.
pub(super) struct Slices {
    /// First millisecond and counts. Only a few are open at a time.
    open: Vec<(i64, Counts)>,
    /// The end of the next window that has contents; none is due while it is `i64::MAX`.
    next_end: i64,
    /// The end of the last window that was given out, or of a later one that is over.
    fired: i64,
    watermark: i64,
    bound_ms: i64,
}

impl Slices {
    /// No slice, with a watermark `bound_ms` behind the greatest time.
    pub(super) fn new(bound_ms: i64) -> Self {
        let (next_end, fired, watermark) = (i64::MAX, i64::MIN, i64::MIN);
        Slices { open: Vec::new(), next_end, fired, watermark, bound_ms }
    }

    /// The counts of the slice of `time`; `None` if it is late for all windows.
    #[inline]
    pub(super) fn accept(&mut self, time: i64) -> Option<&mut Counts> {
        let in_front =
            self.open.first().is_some_and(|&(start, _)| (start..start + SLIDE_MS).contains(&time));
        // An open slice is one whose last window the watermark has not reached.
        if !in_front && !self.bring_to_front(time) {
            return None;
        }
        self.open.first_mut().map(|(_, counts)| counts)
    }

    /// Finds or opens the slice of `time`; false if it is late for all windows.
    #[cold]
    fn bring_to_front(&mut self, time: i64) -> bool {
        let start = time - time.rem_euclid(SLIDE_MS);
        if start + WINDOW_MS - 1 <= self.watermark {
            return false;
        }
        let known = self.open.iter().position(|&(open, _)| open == start);
        let position = known.unwrap_or_else(|| {
            self.open.push((start, Counts::default()));
            self.open.len() - 1
        });
        self.open.swap(0, position);
        // Windows that ended without contents are over too.
        let ended = self.watermark.saturating_add(1).div_euclid(SLIDE_MS);
        self.fired = self.fired.max(ended.saturating_mul(SLIDE_MS));
        self.find_next_end();
        true
    }

    fn find_next_end(&mut self) {
        let after = self.fired.saturating_add(SLIDE_MS);
        // Ends are multiples of the slide, the first of a slice being its own end.
        let ends = self.open.iter().map(|(start, _)| (start + SLIDE_MS).max(after));
        self.next_end = ends.min().unwrap_or(i64::MAX);
    }

    /// Takes note of an event at `time` and gives the windows that end by it to `fire`.
    #[inline]
    pub(super) fn advance(&mut self, time: i64, fire: &mut impl FnMut(i64, &Counts)) {
        let watermark = time.saturating_sub(self.bound_ms).saturating_sub(1);
        self.watermark = self.watermark.max(watermark);
        if self.next_end <= self.watermark.saturating_add(1) {
            self.fire_due(fire);
        }
    }

    /// Gives all windows to `fire`: the input has ended.
    pub(super) fn end(mut self, fire: &mut impl FnMut(i64, &Counts)) {
        self.watermark = i64::MAX;
        self.fire_due(fire);
    }

    #[cold]
    fn fire_due(&mut self, fire: &mut impl FnMut(i64, &Counts)) {
        while !self.open.is_empty() && self.next_end - 1 <= self.watermark {
            let end = self.next_end;
            let mut counts = Counts::default();
            for (_, slice) in self.open.iter().filter(|(start, _)| *start < end) {
                slice.iter().for_each(|(key, count)| counts.add(key, count));
            }
            fire(end, &counts);
            self.fired = end;
            self.open.retain(|(start, _)| start + WINDOW_MS > end);
            self.find_next_end();
        }
    }
}
