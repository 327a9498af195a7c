//! Counters of operators: written per batch by their subtask, read by anyone.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::time::EventTime;

/// What is counted per operator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(usize)]
pub enum Counter {
    /// Records taken in; for a source, records read.
    In,
    /// Records given out on the main output.
    Out,
    /// Records that no window accepts, whether the late stream is used or not.
    Late,
    /// Records in a gap between windows.
    Gap,
    /// Malformed records that were skipped.
    Skipped,
    /// Malformed records that went to the dead-letter stream.
    Dead,
}

impl Counter {
    /// All counters.
    pub const ALL: [Counter; 6] =
        [Counter::In, Counter::Out, Counter::Late, Counter::Gap, Counter::Skipped, Counter::Dead];

    /// The name in checkpoints and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Counter::In => "records_in",
            Counter::Out => "records_out",
            Counter::Late => "late",
            Counter::Gap => "gap",
            Counter::Skipped => "skipped",
            Counter::Dead => "dead",
        }
    }
}

/// The counters of one operator in one subtask.
#[derive(Debug)]
pub struct OperatorMetrics {
    counters: [AtomicU64; Counter::ALL.len()],
    watermark: AtomicI64,
    event_time: AtomicI64,
}

impl Default for OperatorMetrics {
    fn default() -> Self {
        OperatorMetrics {
            counters: Default::default(),
            watermark: AtomicI64::new(EventTime::MIN.millis()),
            event_time: AtomicI64::new(EventTime::MIN.millis()),
        }
    }
}

impl OperatorMetrics {
    /// Adds to a counter. Only the owning subtask writes, so a load and a store are enough.
    #[inline]
    pub fn add(&self, counter: Counter, amount: u64) {
        if amount > 0 {
            let cell = &self.counters[counter as usize];
            cell.store(cell.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
        }
    }

    /// The value of a counter.
    pub fn value(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// Notes the operator's watermark.
    #[inline]
    pub fn set_watermark(&self, watermark: EventTime) {
        self.watermark.store(watermark.millis(), Ordering::Relaxed);
    }

    /// Notes the newest event time the operator has assigned.
    #[inline]
    pub fn raise_event_time(&self, time: EventTime) {
        self.event_time.fetch_max(time.millis(), Ordering::Relaxed);
    }

    /// The newest event time the operator has assigned; `MIN` before any.
    pub fn event_time(&self) -> EventTime {
        EventTime::from_millis(self.event_time.load(Ordering::Relaxed))
    }

    /// The operator's watermark.
    pub fn watermark(&self) -> EventTime {
        EventTime::from_millis(self.watermark.load(Ordering::Relaxed))
    }
}
