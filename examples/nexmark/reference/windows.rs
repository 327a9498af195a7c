//! The open tumbling windows of one split, the window of the last event in front.

use crate::query::WINDOW_MS;

/// Accumulators by window, and the watermark that closes them.
pub(super) struct Windows<A> {
    /// First millisecond and accumulator. Only a few are open at a time.
    open: Vec<(i64, A)>,
    /// The least last millisecond of the open windows; `i64::MAX` if none is open.
    due: i64,
    watermark: i64,
    bound_ms: i64,
}

impl<A: Default> Windows<A> {
    /// No window, with a watermark `bound_ms` behind the greatest time.
    pub(super) fn new(bound_ms: i64) -> Self {
        Windows { open: Vec::new(), due: i64::MAX, watermark: i64::MIN, bound_ms }
    }

    /// The accumulator of the window of `time`; `None` if it is late for that window.
    #[inline]
    pub(super) fn accept(&mut self, time: i64) -> Option<&mut A> {
        let in_front =
            self.open.first().is_some_and(|&(start, _)| (start..start + WINDOW_MS).contains(&time));
        // An open window is one that the watermark has not reached: no need to judge.
        if !in_front && !self.bring_to_front(time) {
            return None;
        }
        self.open.first_mut().map(|(_, accumulator)| accumulator)
    }

    /// Finds or opens the window of `time`; false if it is late.
    #[cold]
    fn bring_to_front(&mut self, time: i64) -> bool {
        let start = time - time.rem_euclid(WINDOW_MS);
        let max_time = start + WINDOW_MS - 1;
        if max_time <= self.watermark {
            return false;
        }
        let known = self.open.iter().position(|&(open, _)| open == start);
        let position = known.unwrap_or_else(|| {
            self.open.push((start, A::default()));
            self.due = self.due.min(max_time);
            self.open.len() - 1
        });
        self.open.swap(0, position);
        true
    }

    /// Takes note of an event at `time` and gives the windows that end by it to `fire`.
    #[inline]
    pub(super) fn advance(&mut self, time: i64, fire: &mut impl FnMut(i64, &A)) {
        let watermark = time.saturating_sub(self.bound_ms).saturating_sub(1);
        self.watermark = self.watermark.max(watermark);
        if self.due <= self.watermark {
            self.fire_due(fire);
        }
    }

    /// Gives all windows to `fire`: the input has ended.
    pub(super) fn end(mut self, fire: &mut impl FnMut(i64, &A)) {
        self.watermark = i64::MAX;
        self.fire_due(fire);
    }

    #[cold]
    fn fire_due(&mut self, fire: &mut impl FnMut(i64, &A)) {
        let watermark = self.watermark;
        for (start, accumulator) in
            self.open.extract_if(.., |(start, _)| *start + WINDOW_MS - 1 <= watermark)
        {
            fire(start, &accumulator);
        }
        let last_times = self.open.iter().map(|&(start, _)| start + WINDOW_MS - 1);
        self.due = last_times.min().unwrap_or(i64::MAX);
    }
}
