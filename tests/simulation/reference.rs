//! A sequential reference: the rules of windows and lateness, recomputed from scratch.
//!
//! Slow and obvious on purpose: every record is tried against every window, and nothing is shared
//! with the engine. What it cannot see: anything that happens to the order of results.

use std::collections::BTreeMap;

use crate::data::{Click, WindowKind};

/// What the windowed job must give out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Identities of the clicks by (user, window start, window end), sorted.
    pub(crate) windows: BTreeMap<(u32, i64, i64), Vec<u64>>,
    /// Clicks that no window accepts.
    pub(crate) late: Vec<u64>,
    /// Clicks between two windows.
    pub(crate) gaps: u64,
    /// Number of windows' results and of their clicks by (half, start of the outer window).
    pub(crate) outer: BTreeMap<(u32, i64), (u64, u64)>,
    /// Clicks by user.
    pub(crate) users: BTreeMap<u32, u64>,
}

/// Computes what a job over `splits` must give out.
pub(crate) fn expected(splits: &[Vec<Click>], kind: WindowKind, bound: i64) -> Expected {
    let mut expected = Expected::default();
    for split in splits {
        let mut greatest = i64::MIN;
        for click in split {
            let watermark = match greatest {
                i64::MIN => i64::MIN,
                greatest => greatest - bound - 1,
            };
            greatest = greatest.max(click.time);
            *expected.users.entry(click.user).or_default() += 1;
            let windows = kind.windows_of(click.time);
            let is_open = |end: i64| end - 1 + kind.lateness > watermark;
            let open: Vec<_> = windows.iter().filter(|(_, end)| is_open(*end)).collect();
            match (windows.is_empty(), open.is_empty()) {
                (true, _) => expected.gaps += 1,
                (false, true) => expected.late.push(click.id),
                (false, false) => {}
            }
            for &&(start, end) in &open {
                expected.windows.entry((click.user, start, end)).or_default().push(click.id);
            }
        }
    }
    expected.late.sort_unstable();
    for (&(user, _, end), clicks) in &mut expected.windows {
        clicks.sort_unstable();
        let outer = (end - 1).div_euclid(kind.outer) * kind.outer;
        let (results, total) = expected.outer.entry((user % 2, outer)).or_default();
        *results += 1;
        *total += clicks.len() as u64;
    }
    expected
}
