//! The token bucket: how many records may pass now, and when the next one may.
//!
//! Tokens come in granules of ten milliseconds of the processing time that the driver gives, so
//! what is limited is as deterministic as its driver.
//!
//! # Invariants
//! * I1: in any span of time no more tokens are given than the rate allows for it, plus one
//!   granule and what was saved up.
//! * I2: tokens are counted from the origin, so nothing is lost to rounding: after a whole number
//!   of seconds exactly that many times the rate has been allowed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::time::ProcessingTime;

/// Tokens are given in granules of this many milliseconds.
const GRANULE_MS: i64 = 10;
const GRANULES_PER_SECOND: u64 = 1_000 / GRANULE_MS as u64;
/// Unless told otherwise, unused tokens are kept for this many granules.
const SAVED_GRANULES: u64 = 10;

/// A bucket that all splits of a source, writers of a sink or subtasks of an operator share.
#[derive(Debug)]
pub struct TokenBucket {
    per_second: u64,
    burst: Option<u64>,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    /// The time of the first call, and the latest one seen.
    times: Option<(ProcessingTime, ProcessingTime)>,
    /// Tokens given since the origin, or let lapse. At the greatest rate 64 bits are used up in a
    /// second.
    tokens: u128,
}

impl TokenBucket {
    /// A bucket that gives `per_second` tokens. What is not used is kept for a tenth of a second.
    pub fn new(per_second: u64) -> Self {
        TokenBucket { per_second, burst: None, given: Mutex::default() }
    }

    /// This bucket, keeping up to `burst` unused tokens (one at the least), for any time.
    #[must_use]
    pub fn with_burst(self, burst: u64) -> Self {
        TokenBucket { burst: Some(burst.max(1)), ..self }
    }

    /// Takes up to `wanted` tokens, at least one.
    ///
    /// # Errors
    /// When there will be a token, if there is none now.
    pub fn take(&self, wanted: u64, now: ProcessingTime) -> Result<u64, ProcessingTime> {
        let mut given = self.lock();
        let origin = given.origin(now);
        let granule = (now.millis().saturating_sub(origin.millis()) / GRANULE_MS) as u64;
        let allowed = self.allowed(granule);
        let lapsed = match self.burst {
            Some(burst) => allowed.saturating_sub(u128::from(burst)),
            None => granule.checked_sub(SAVED_GRANULES).map_or(0, |g| self.allowed(g)),
        };
        given.tokens = given.tokens.max(lapsed);
        let tokens = allowed.saturating_sub(given.tokens).min(u128::from(wanted)) as u64;
        if tokens == 0 {
            let at = self.granule_of(given.tokens + 1);
            let after = i64::try_from(at).unwrap_or(i64::MAX).saturating_mul(GRANULE_MS);
            return Err(origin.plus_millis(after));
        }
        given.tokens += u128::from(tokens);
        Ok(tokens)
    }

    /// Returns tokens that were taken and not used.
    pub fn give_back(&self, tokens: u64) {
        let mut given = self.lock();
        given.tokens = given.tokens.saturating_sub(u128::from(tokens));
    }

    /// Tokens allowed from the origin to the end of `granule`.
    fn allowed(&self, granule: u64) -> u128 {
        (u128::from(granule) + 1) * u128::from(self.per_second) / u128::from(GRANULES_PER_SECOND)
    }

    /// The first granule that allows `tokens`.
    fn granule_of(&self, tokens: u128) -> u64 {
        let granules =
            (tokens * u128::from(GRANULES_PER_SECOND)).div_ceil(u128::from(self.per_second.max(1)));
        u64::try_from(granules.saturating_sub(1)).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Given {
    /// The time from which tokens are counted; a clock that went back (another attempt with a
    /// clock of its own) begins anew.
    fn origin(&mut self, now: ProcessingTime) -> ProcessingTime {
        match &mut self.times {
            Some((origin, latest)) if now.plus_millis(1_000) >= *latest => {
                *latest = now.max(*latest);
                *origin
            }
            _ => {
                *self = Given { times: Some((now, now)), tokens: 0 };
                now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> ProcessingTime {
        ProcessingTime::from_millis(millis)
    }

    #[test]
    fn tokens_come_smoothly_and_add_up() {
        for per_second in [1, 3, 99, 100, 101, 12_345] {
            let bucket = TokenBucket::new(per_second);
            let mut given = 0;
            for now in 0..3_000 {
                while let Ok(tokens) = bucket.take(1_000, at(now)) {
                    given += tokens;
                }
                let granules = (now / GRANULE_MS + 1) as u64;
                assert_eq!(given, granules * per_second / 100, "{per_second}/s at {now} ms");
            }
            assert_eq!(given, 3 * per_second);
        }
    }

    #[test]
    fn the_time_of_the_next_token_is_exact() {
        for per_second in [1, 7, 100, 250] {
            let bucket = TokenBucket::new(per_second);
            let mut now = 5;
            for _ in 0..50 {
                match bucket.take(1, at(now)) {
                    Ok(_) => {}
                    Err(until) => {
                        assert!(until > at(now), "{until:?} is not after {now}");
                        assert!(bucket.take(1, until.plus_millis(-1)).is_err(), "{per_second}/s");
                        assert_eq!(bucket.take(1, until), Ok(1), "{per_second}/s at {until:?}");
                        now = until.millis();
                    }
                }
            }
        }
    }

    #[test]
    fn a_pause_saves_a_tenth_of_a_second_and_a_clock_that_went_back_begins_anew() {
        let bucket = TokenBucket::new(1_000);
        assert_eq!(bucket.take(u64::MAX, at(50_000)), Ok(10));
        assert_eq!(bucket.take(u64::MAX, at(60_000)), Ok(100));
        assert_eq!(bucket.take(u64::MAX, at(60_000)), Err(at(60_010)));
        assert_eq!(bucket.take(u64::MAX, at(3)), Ok(10));
        assert_eq!(bucket.take(u64::MAX, at(3)), Err(at(13)));
        bucket.give_back(4);
        assert_eq!(bucket.take(u64::MAX, at(3)), Ok(4));
    }

    /// The greatest rate is how one asks for none at all.
    #[test]
    fn the_greatest_rate_never_comes_to_an_end() {
        for bucket in [TokenBucket::new(u64::MAX), TokenBucket::new(u64::MAX).with_burst(u64::MAX)]
        {
            for now in [0, 1_000, 1_100, 5_000, i64::MAX / 2] {
                assert_eq!(bucket.take(1_000, at(now)), Ok(1_000), "at {now} ms");
            }
        }
    }

    #[test]
    fn a_burst_is_what_a_pause_saves() {
        let bucket = TokenBucket::new(1_000).with_burst(2_500);
        assert_eq!(bucket.take(u64::MAX, at(0)), Ok(10));
        assert_eq!(bucket.take(u64::MAX, at(1_000)), Ok(1_000));
        assert_eq!(bucket.take(2_000, at(61_000)), Ok(2_000));
        assert_eq!(bucket.take(u64::MAX, at(61_000)), Ok(500));
        assert_eq!(bucket.take(u64::MAX, at(61_000)), Err(at(61_010)));
        // A burst of less than a granule's tokens lowers the rate.
        let bucket = TokenBucket::new(1_000).with_burst(3);
        assert_eq!(bucket.take(u64::MAX, at(0)), Ok(3));
        assert_eq!(bucket.take(u64::MAX, at(5)), Err(at(10)));
        assert_eq!(bucket.take(u64::MAX, at(10)), Ok(3));
    }
}
