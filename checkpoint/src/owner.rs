//! Who uses a store, so that another process can be told of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process that uses a checkpoint store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its number on its host.
    pub pid: u32,
    /// The name of its host.
    pub host: String,
    /// When it opened the store, in milliseconds since the Unix epoch.
    pub started_ms: i64,
}

impl Owner {
    /// This process, which opens the store now.
    pub fn this_process(now_ms: i64) -> Self {
        // Where the system does not say, the process is still told from others on its host.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = match host.trim() {
            "" => "an unnamed host",
            host => host,
        };
        Self { pid: std::process::id(), host: host.to_owned(), started_ms: now_ms }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, host, started_ms } = self;
        let seconds = started_ms.div_euclid(1000);
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil_date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "process {pid} on {host}, started {year:04}-{month:02}-{day:02} \
             {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

/// Year, month and day of a number of days since 1970-01-01 (H. Hinnant, "chrono-compatible
/// low-level date algorithms", `civil_from_days`).
fn civil_date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{Owner, civil_date};

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(civil_date(0), (1970, 1, 1));
        assert_eq!(civil_date(11_016), (2000, 2, 29));
        assert_eq!(civil_date(11_017), (2000, 3, 1));
        assert_eq!(civil_date(-1), (1969, 12, 31));
        let owner = Owner { pid: 7, host: "a".to_owned(), started_ms: 1_700_000_000_123 };
        assert_eq!(owner.to_string(), "process 7 on a, started 2023-11-14 22:13:20 UTC");
    }
}
