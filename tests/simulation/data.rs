//! Random clicks in three splits: out of order within a bound, some late, some at equal times.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg::sim::Random;

/// A record of the simulated jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Click {
    pub(crate) id: u64,
    pub(crate) user: u32,
    pub(crate) time: i64,
}

/// The windows of a simulated job, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowKind {
    pub(crate) size: i64,
    pub(crate) slide: i64,
    pub(crate) offset: i64,
    pub(crate) lateness: i64,
    /// The size of the tumbling window behind.
    pub(crate) outer: i64,
}

impl WindowKind {
    pub(crate) fn random(random: &mut Random) -> Self {
        let size = random.between(1, 40);
        let slide = match random.below(3) {
            0 => size,
            1 => random.between(1, size),
            _ => random.between(1, 50),
        };
        WindowKind {
            size,
            slide,
            offset: random.between(1 - size, size - 1),
            lateness: if random.is_chosen(50) { 0 } else { random.between(0, 30) },
            outer: random.between(5, 100),
        }
    }

    /// All windows that hold `time`, as (start, end).
    pub(crate) fn windows_of(self, time: i64) -> Vec<(i64, i64)> {
        let least = (time - self.size - self.offset).div_euclid(self.slide) - 1;
        let most = (time - self.offset).div_euclid(self.slide) + 1;
        (least..=most)
            .map(|n| self.offset + n * self.slide)
            .filter(|&start| start <= time && time < start + self.size)
            .map(|start| (start, start + self.size))
            .collect()
    }

    pub(crate) fn millis(value: i64) -> Duration {
        Duration::from_millis(u64::try_from(value).expect("durations are positive"))
    }
}

/// How far records may be behind the newest of their split.
pub(crate) const BOUND: i64 = 12;

/// Three splits of different length; `late_percent` of the clicks are far behind.
pub(crate) fn clicks(random: &mut Random, late_percent: u32) -> Vec<Vec<Click>> {
    let users = random.between(1, 9) as usize;
    // Other users in every run, so that every key group is met.
    let first_user = random.below(1000);
    let lengths = [random.below(120), random.below(80), random.below(20)];
    let mut id = 0;
    let mut split = |length: usize| {
        let mut now = random.between(-200, 50);
        let mut clicks = Vec::with_capacity(length);
        for _ in 0..length {
            now += random.between(0, 4);
            let behind = match random.is_chosen(late_percent) {
                true => random.between(BOUND, 120),
                false => random.between(0, BOUND),
            };
            let user = (first_user + random.below(users)) as u32;
            clicks.push(Click { id, user, time: now - behind });
            id += 1;
        }
        clicks
    };
    lengths.map(&mut split).into()
}
