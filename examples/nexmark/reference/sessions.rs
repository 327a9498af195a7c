//! The sessions of one key: spans of time that grow, and join where they touch.

use crate::query::SESSION_GAP_MS;

/// Sessions that do not touch, in order of time.
#[derive(Default)]
pub(super) struct Sessions {
    /// Start, end and number of records.
    sessions: Vec<(i64, i64, u64)>,
}

impl Sessions {
    /// Adds a record.
    #[inline]
    pub(super) fn add(&mut self, time: i64) {
        match self.sessions.last_mut() {
            Some((start, end, count)) if (*start..=*end).contains(&time) => {
                *end = (*end).max(time + SESSION_GAP_MS);
                *count += 1;
            }
            _ => self.add_anywhere(time),
        }
    }

    #[cold]
    fn add_anywhere(&mut self, time: i64) {
        let (mut start, mut end, mut count) = (time, time + SESSION_GAP_MS, 1);
        let first = self.sessions.partition_point(|session| session.1 < start);
        let behind = self.sessions.partition_point(|session| session.0 <= end);
        for joined in self.sessions.drain(first..behind) {
            (start, end, count) = (start.min(joined.0), end.max(joined.1), count + joined.2);
        }
        self.sessions.insert(first, (start, end, count));
    }

    /// Start, end and number of records of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i64, u64)> {
        self.sessions.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Sessions;

    #[test]
    fn sessions_join_where_they_touch_and_not_before() {
        let mut sessions = Sessions::default();
        let mut all = |time| {
            sessions.add(time);
            sessions.iter().collect::<Vec<_>>()
        };
        assert_eq!(all(30_001), [(30_001, 40_001, 1)]);
        assert_eq!(all(20_000), [(20_000, 30_000, 1), (30_001, 40_001, 1)]);
        assert_eq!(all(60_000)[2..], [(60_000, 70_000, 1)]);
        assert_eq!(all(20_001), [(20_000, 40_001, 3), (60_000, 70_000, 1)]);
        assert_eq!(all(50_000), [(20_000, 40_001, 3), (50_000, 70_000, 2)]);
        assert_eq!(all(40_001), [(20_000, 70_000, 6)]);
        assert_eq!(all(9_999), [(9_999, 19_999, 1), (20_000, 70_000, 6)]);
    }
}
