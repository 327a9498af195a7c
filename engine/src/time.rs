//! Event time, processing time and durations: newtypes that cannot be mixed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When something happened, in milliseconds since the Unix epoch, as the data says it.
///
/// Also the type of watermarks: a watermark `w` says that no on-time record with a time `<= w`
/// will follow. Event time never compares with [`ProcessingTime`].
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[repr(transparent)]
pub struct EventTime(i64);

impl EventTime {
    /// Before all time: the watermark before any record.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// After all time: the watermark when the input has ended.
    pub const MAX: EventTime = EventTime(i64::MAX);
    /// The greatest distance from the epoch that a record's time may have, in milliseconds
    /// (the range of ECMAScript's `Date`: ±100 million days).
    pub const RECORD_LIMIT_MS: i64 = 8_640_000_000_000_000;

    /// The time `millis` milliseconds after the Unix epoch (before it, if negative).
    #[inline]
    pub const fn from_millis(millis: i64) -> Self {
        EventTime(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[inline]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// True if a record may carry this time; others are malformed, so that one absurd timestamp
    /// does not make everything after it late.
    #[inline]
    pub const fn is_valid_for_record(self) -> bool {
        self.0 >= -Self::RECORD_LIMIT_MS && self.0 <= Self::RECORD_LIMIT_MS
    }

    /// This time moved by `millis`; `MIN` and `MAX` stay where they are.
    #[inline]
    #[must_use]
    pub const fn shifted(self, millis: i64) -> Self {
        match self {
            Self::MIN | Self::MAX => self,
            EventTime(t) => EventTime(t.saturating_add(millis)),
        }
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MIN => f.write_str("MIN"),
            Self::MAX => f.write_str("MAX"),
            EventTime(t) => write!(f, "{t}"),
        }
    }
}

/// What the clock says, in milliseconds, as the driver's decider gave it: since the Unix epoch
/// where the clock is real, since the first start where it is simulated.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[repr(transparent)]
pub struct ProcessingTime(i64);

impl ProcessingTime {
    /// The processing time `millis` milliseconds after the origin.
    #[inline]
    pub const fn from_millis(millis: i64) -> Self {
        ProcessingTime(millis)
    }

    /// Milliseconds since the origin.
    #[inline]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The time `millis` milliseconds later.
    #[inline]
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        ProcessingTime(self.0.saturating_add(millis))
    }
}

/// `duration` in whole milliseconds, saturating at `i64::MAX`.
pub fn duration_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// `n` milliseconds.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// `n` seconds.
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` minutes.
pub const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// `n` hours.
pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

/// `n` days of 24 hours.
pub const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}
