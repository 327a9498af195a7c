//! The one file that reads the clocks.
#![expect(clippy::disallowed_methods, reason = "the clock of the thread driver")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::{ProcessingTime, duration_millis};

/// Processing time: whole milliseconds since the Unix epoch, as the system had it at the start of
/// the run; from there on it never falls.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_ms: i64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { start: Instant::now(), start_ms: wall_clock_millis() }
    }

    pub(crate) fn now(&self) -> ProcessingTime {
        ProcessingTime::from_millis(self.start_ms)
            .plus_millis(duration_millis(self.start.elapsed()))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Milliseconds since the Unix epoch, to date manifests.
pub(crate) fn wall_clock_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, duration_millis)
}
