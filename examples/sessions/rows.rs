//! What the sessions job gives out: visits, landing pages, hours.

use serde::{Deserialize, Serialize};
use thalweg::WindowResult;

use crate::click::Click;

/// The clicks of one visitor, close together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Visit {
    /// Whose visit.
    pub visitor: u32,
    /// The time of its first click.
    pub first_ms: i64,
    /// The time of its last click.
    pub last_ms: i64,
    /// When it was over, as no click had come for long: the time of this record is just before.
    pub end_ms: i64,
    /// How many clicks.
    pub clicks: u64,
    /// On how many different pages.
    pub pages: u64,
    /// The page of the first click.
    pub landing_page: String,
}

impl Visit {
    /// True if the visitor left after the first click.
    pub(crate) fn is_bounce(&self) -> bool {
        self.clicks == 1
    }
}

impl From<WindowResult<u32, (u64, u64, Option<Click>, Option<i64>)>> for Visit {
    fn from(result: WindowResult<u32, (u64, u64, Option<Click>, Option<i64>)>) -> Self {
        let WindowResult { key, window, value: (clicks, pages, first, last_ms) } = result;
        let first_ms = window.start.millis();
        Visit {
            visitor: key,
            first_ms,
            last_ms: last_ms.unwrap_or(first_ms),
            end_ms: window.end.millis(),
            clicks,
            pages,
            landing_page: first.map_or_else(String::new, |click| click.page),
        }
    }
}

/// The visits of one hour that began on one page.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct LandingPage {
    /// The page.
    pub page: String,
    /// How many visits.
    pub visits: u64,
    /// How many of them had but one click.
    pub bounces: u64,
    /// How many different visitors, about.
    pub visitors_about: u64,
}

impl LandingPage {
    /// How many visits, to be added up.
    pub(crate) fn visits(&self) -> i64 {
        count(self.visits)
    }

    /// How many bounces, to be added up.
    pub(crate) fn bounces(&self) -> i64 {
        count(self.bounces)
    }
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A sum of counts, as a count.
fn sum(n: i128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

impl From<WindowResult<String, (u64, i128, u64)>> for LandingPage {
    fn from(result: WindowResult<String, (u64, i128, u64)>) -> Self {
        let (visits, bounces, visitors_about) = result.value;
        LandingPage { page: result.key, visits, bounces: sum(bounces), visitors_about }
    }
}

/// The visits of one hour, and the pages on which most of them began.
pub(crate) type HourResult = WindowResult<(), (i128, i128, Vec<LandingPage>)>;

/// All visits that were over in one hour.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Hour {
    /// The first millisecond of the hour.
    pub start_ms: i64,
    /// How many visits.
    pub visits: u64,
    /// How many of them had but one click.
    pub bounces: u64,
}

impl From<&HourResult> for Hour {
    fn from(result: &HourResult) -> Self {
        let (visits, bounces, _) = &result.value;
        Hour {
            start_ms: result.window.start.millis(),
            visits: sum(*visits),
            bounces: sum(*bounces),
        }
    }
}

/// One of the best landing pages of an hour.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct TopPage {
    /// The first millisecond of the hour.
    pub start_ms: i64,
    /// Its place: 1 is the best.
    pub rank: u64,
    /// The page.
    pub page: String,
    /// How many visits began there.
    pub visits: u64,
    /// How many of them had but one click.
    pub bounces: u64,
    /// How many different visitors, about.
    pub visitors_about: u64,
}

impl TopPage {
    /// The best of an hour, in order.
    pub(crate) fn of_hour(result: HourResult) -> impl Iterator<Item = TopPage> {
        let start_ms = result.window.start.millis();
        (1..).zip(result.value.2).map(move |(rank, page)| TopPage {
            start_ms,
            rank,
            page: page.page,
            visits: page.visits,
            bounces: page.bounces,
            visitors_about: page.visitors_about,
        })
    }
}
