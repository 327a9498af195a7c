//! When a job that has failed is started again: policies, and the machine that carries one out.
//!
//! # Place
//! [`RestartPolicy`] is an option of a job. The thread driver (`runtime/attempts.rs`) asks
//! `Restarts` after every failure that may be retried; errors that may not never get here.
//!
//! # Invariants
//! * I1: a pure machine: time is an argument, the jitter comes from a seed.
//! * I2: a failure counts once, whether it is answered with a restart or not.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::{Error, Result};

/// Whether and when a job that has failed is started again, from its newest checkpoint.
///
/// The kinds and numbers are those of Flink's restart strategies.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum RestartPolicy {
    /// Never: the first failure ends the job.
    None,
    /// After the same delay each time.
    Fixed {
        /// How many restarts there are at the most.
        attempts: u32,
        /// Time from a failure to the restart.
        delay: Duration,
    },
    /// After delays that grow from failure to failure.
    Exponential {
        /// The first delay.
        initial: Duration,
        /// The longest delay.
        max: Duration,
        /// What a delay is multiplied by to give the next.
        multiplier: f64,
        /// The share of a delay, up to 1, by which it is made shorter or longer by chance: jobs
        /// that failed for the same reason do not all come back at the same moment.
        jitter: f64,
        /// A job that has run for so long since its last restart begins with the first delay
        /// again, and with the first of its attempts.
        reset_after: Duration,
        /// How many restarts there are at the most, or none for no limit.
        attempts: Option<u32>,
    },
    /// Until there are too many failures within a span of time.
    FailureRate {
        /// So many failures are answered with a restart; one more ends the job.
        failures: u32,
        /// Within this time.
        per: Duration,
        /// Time from a failure to the restart.
        delay: Duration,
    },
}

impl RestartPolicy {
    /// Delays from 1 s to 1 min, each half as long again as the one before, a tenth more or less
    /// by chance; forgotten after an hour of calm; without a limit.
    pub const EXPONENTIAL: RestartPolicy = RestartPolicy::Exponential {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
        multiplier: 1.5,
        jitter: 0.1,
        reset_after: Duration::from_secs(3600),
        attempts: None,
    };

    /// Checks the numbers.
    ///
    /// # Errors
    /// `Config`, naming what is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        let problem = match *self {
            RestartPolicy::None => None,
            RestartPolicy::Fixed { attempts, .. } => {
                (attempts == 0).then_some("must have one attempt at least")
            }
            RestartPolicy::Exponential { initial, max, multiplier, jitter, attempts, .. } => {
                let is_growing = initial > Duration::ZERO && max >= initial;
                match (is_growing, attempts) {
                    (false, _) => Some("must have delays above zero that grow"),
                    (_, Some(0)) => Some("must have one attempt at least"),
                    _ if !(multiplier >= 1.0 && multiplier.is_finite()) => {
                        Some("must have a multiplier of 1 at least")
                    }
                    _ if !(0.0..=1.0).contains(&jitter) => Some("must have a jitter from 0 to 1"),
                    _ => None,
                }
            }
            RestartPolicy::FailureRate { failures, per, .. } => (failures == 0 || per.is_zero())
                .then_some("must have one failure at least, in a time above zero"),
        };
        match problem {
            Some(problem) => Err(Error::config(format!("the restart policy {problem}"))),
            None => Ok(()),
        }
    }
}

/// What is done about a failure.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Answer {
    /// The job is started again after this time.
    Restart(Duration),
    /// The job ends; why, to be added to its error.
    End(Option<String>),
}

/// Answers the failures of one run.
#[derive(Debug)]
pub(crate) struct Restarts {
    policy: RestartPolicy,
    random: SplitMix,
    /// Failures that were answered with a restart, by the moment of that restart: all of an
    /// exponential or fixed policy since its last reset, those within its span of a rate.
    recent: VecDeque<Duration>,
    /// The delay of the last restart, before chance, of an exponential policy.
    delay: Duration,
    total: u32,
}

impl Restarts {
    /// A run that has not failed yet.
    pub(crate) fn new(policy: RestartPolicy, seed: u64) -> Self {
        Restarts {
            policy,
            random: SplitMix(seed),
            recent: VecDeque::new(),
            delay: Duration::ZERO,
            total: 0,
        }
    }

    /// How often the job was started again.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// The job has failed, so long after the start of the run.
    pub(crate) fn handle_failure(&mut self, now: Duration) -> Answer {
        let answer = match self.policy {
            RestartPolicy::None => return Answer::End(None),
            RestartPolicy::Fixed { attempts, delay } => self.up_to(Some(attempts), delay),
            RestartPolicy::Exponential {
                initial,
                max,
                multiplier,
                jitter,
                reset_after,
                attempts,
            } => {
                let is_calm =
                    self.recent.back().is_none_or(|last| now.saturating_sub(*last) >= reset_after);
                if is_calm {
                    self.recent.clear();
                    self.delay = initial.min(max);
                } else {
                    self.delay = scaled(self.delay, multiplier).min(max);
                }
                let factor = 1.0 + jitter * (2.0 * self.random.unit() - 1.0);
                self.up_to(attempts, scaled(self.delay, factor))
            }
            RestartPolicy::FailureRate { failures, per, delay } => {
                // Counted by the failures, which were one delay before their restarts.
                let is_old = |restart: &Duration| now + delay >= *restart + per;
                while self.recent.front().is_some_and(is_old) {
                    self.recent.pop_front();
                }
                match self.recent.len() < failures as usize {
                    true => Answer::Restart(delay),
                    false => Answer::End(Some(format!(
                        "not started again: more than {failures} failures within {}",
                        seconds(per)
                    ))),
                }
            }
        };
        if let Answer::Restart(delay) = answer {
            self.recent.push_back(now + delay);
            self.total += 1;
        }
        answer
    }

    fn up_to(&self, attempts: Option<u32>, delay: Duration) -> Answer {
        match attempts {
            Some(attempts) if self.recent.len() >= attempts as usize => {
                let times = if attempts == 1 { "time" } else { "times" };
                Answer::End(Some(format!("not started again after {attempts} {times}")))
            }
            _ => Answer::Restart(delay),
        }
    }
}

/// `delay` times `factor`; a century if that is too long to be told.
fn scaled(delay: Duration, factor: f64) -> Duration {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    Duration::try_from_secs_f64(delay.as_secs_f64() * factor).unwrap_or(CENTURY)
}

/// A duration as messages tell it: `1.5 s`, `20 ms`.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{} ms", duration.as_millis());
    }
    let tenths = (duration.as_secs_f64() * 10.0).round() / 10.0;
    format!("{tenths} s")
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The answers to failures at these seconds.
    fn answers(policy: RestartPolicy, failures: &[u64]) -> Vec<Answer> {
        let mut restarts = Restarts::new(policy, 1);
        let answers = failures.iter().map(|at| restarts.handle_failure(secs(*at))).collect();
        let is_restart = |answer: &&Answer| matches!(answer, Answer::Restart(_));
        let answers: Vec<Answer> = answers;
        let count = answers.iter().filter(is_restart).count();
        assert_eq!(restarts.total() as usize, count);
        answers
    }

    fn without_jitter(attempts: Option<u32>) -> RestartPolicy {
        RestartPolicy::Exponential {
            initial: secs(2),
            max: secs(10),
            multiplier: 2.0,
            jitter: 0.0,
            reset_after: secs(100),
            attempts,
        }
    }

    #[test]
    fn no_policy_ends_at_once_and_a_fixed_one_after_its_attempts() {
        assert_eq!(answers(RestartPolicy::None, &[5]), [Answer::End(None)]);
        let fixed = RestartPolicy::Fixed { attempts: 2, delay: secs(3) };
        // However far they are apart.
        let given = answers(fixed, &[0, 100_000, 200_000]);
        assert_eq!(given[..2], [Answer::Restart(secs(3)), Answer::Restart(secs(3))]);
        let text = "not started again after 2 times".to_owned();
        assert_eq!(given[2], Answer::End(Some(text)));
    }

    #[test]
    fn delays_grow_to_the_longest_and_begin_anew_after_calm() {
        let restart = |seconds| Answer::Restart(secs(seconds));
        // The restart after 60 is at 70: 169 is not calm yet, and 179 + 100 is.
        let given = answers(without_jitter(None), &[0, 5, 20, 40, 60, 169, 279]);
        assert_eq!(given, [2, 4, 8, 10, 10, 10, 2].map(restart));
        let given = answers(without_jitter(Some(2)), &[0, 5, 200, 205, 230]);
        assert_eq!(given[..4], [2, 4, 2, 4].map(restart));
        assert!(matches!(&given[4], Answer::End(Some(text)) if text.contains("after 2 times")));
    }

    #[test]
    fn jitter_stays_within_its_share_and_comes_from_the_seed() {
        let policy = RestartPolicy::EXPONENTIAL;
        let delays = |seed| -> Vec<Duration> {
            let mut restarts = Restarts::new(policy, seed);
            let delay = |_| match restarts.handle_failure(secs(0)) {
                Answer::Restart(delay) => delay,
                Answer::End(why) => panic!("ended: {why:?}"),
            };
            (0..50).map(delay).collect()
        };
        let (first, second) = (delays(1), delays(2));
        assert_eq!(first, delays(1));
        assert_ne!(first, second);
        let mut expected = 1.0;
        for delay in first.iter().map(Duration::as_secs_f64) {
            assert!((expected * 0.9..=expected * 1.1).contains(&delay), "{delay} for {expected}");
            expected = f64::min(expected * 1.5, 60.0);
        }
        assert!(first.iter().any(|delay| *delay > secs(60)), "the longest are spread, too");
    }

    #[test]
    fn a_rate_counts_the_failures_of_its_span() {
        let rate = RestartPolicy::FailureRate { failures: 2, per: secs(60), delay: secs(10) };
        let given = answers(rate, &[0, 30, 60, 89]);
        assert_eq!(given[..3], [10, 10, 10].map(|delay| Answer::Restart(secs(delay))));
        let text = "not started again: more than 2 failures within 60 s".to_owned();
        assert_eq!(given[3], Answer::End(Some(text)));
    }

    #[test]
    fn durations_are_told_as_people_do() {
        let told = [20, 999, 1_000, 1_540, 90_000].map(|ms| seconds(Duration::from_millis(ms)));
        assert_eq!(told, ["20 ms", "999 ms", "1 s", "1.5 s", "90 s"]);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let exponential = |initial, max, multiplier, jitter, attempts| {
            let (initial, max, reset_after) = (secs(initial), secs(max), secs(1));
            RestartPolicy::Exponential { initial, max, multiplier, jitter, reset_after, attempts }
        };
        for wrong in [
            RestartPolicy::Fixed { attempts: 0, delay: secs(1) },
            exponential(0, 1, 2.0, 0.0, None),
            exponential(2, 1, 2.0, 0.0, None),
            exponential(1, 1, 0.9, 0.0, None),
            exponential(1, 1, f64::NAN, 0.0, None),
            exponential(1, 1, 1.0, 1.1, None),
            exponential(1, 1, 1.0, 0.0, Some(0)),
            RestartPolicy::FailureRate { failures: 0, per: secs(1), delay: secs(1) },
            RestartPolicy::FailureRate { failures: 1, per: secs(0), delay: secs(1) },
        ] {
            let error = wrong.check().err();
            assert!(error.is_some_and(|e| e.to_string().contains("restart policy")), "{wrong:?}");
        }
        for good in [RestartPolicy::None, RestartPolicy::EXPONENTIAL, without_jitter(Some(1))] {
            assert!(good.check().is_ok(), "{good:?}");
        }
    }
}
