//! New York's local time, by the rule of the United States since 2007.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, Weekday};

const HOUR_SECONDS: i32 = 3_600;

/// The local time in New York at `millis` since the epoch; none if that is no date.
///
/// Daylight saving time begins on the second Sunday of March and ends on the first of November,
/// both at 2 o'clock in the morning (Energy Policy Act of 2005).
pub(crate) fn local_time(millis: i64) -> Option<DateTime<FixedOffset>> {
    let utc = DateTime::from_timestamp_millis(millis)?;
    let begin = sunday(utc.year(), 3, 2)?.and_hms_opt(7, 0, 0)?.and_utc();
    let end = sunday(utc.year(), 11, 1)?.and_hms_opt(6, 0, 0)?.and_utc();
    let hours = if (begin..end).contains(&utc) { -4 } else { -5 };
    Some(utc.with_timezone(&FixedOffset::east_opt(hours * HOUR_SECONDS)?))
}

fn sunday(year: i32, month: u32, nth: u8) -> Option<NaiveDate> {
    NaiveDate::from_weekday_of_month_opt(year, month, Weekday::Sun, nth)
}
