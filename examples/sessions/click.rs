//! Clicks, each made from its number: days with quiet nights, some visitors busier than others.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg::sim::Random;
use thalweg::time::minutes;

const HOUR_MS: i64 = 3_600_000;
/// 2026-03-02 00:00 UTC.
const START_MS: i64 = 1_772_409_600_000;
/// Clicks of each hour of a day.
const OF_HOUR: [u64; 24] = [
    500, 300, 200, 100, 100, 200, 500, 1_000, 1_800, 2_000, 2_000, 2_100, //
    2_400, 2_200, 1_900, 1_900, 2_000, 2_300, 2_600, 3_100, 3_600, 3_400, 2_500, 1_300,
];
/// A visitor is active for so many clicks of the whole site.
const ACTIVE: u64 = 600;
/// So many visitors are active at once.
const SLOTS: usize = 400;
const VISITORS: usize = 20_000;
const PAGES: [&str; 10] =
    ["home", "search", "offers", "videos", "product", "help", "news", "cart", "account", "imprint"];

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A page was opened.
    View,
    /// A video was started: its visitor may be silent for long.
    Play,
}

/// A click, as a server of the site reports it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Click {
    /// Its number.
    pub id: u64,
    /// Who clicked.
    pub visitor: u32,
    /// On which page.
    pub page: String,
    /// What was done.
    pub kind: Kind,
    /// When: the event time.
    pub time_ms: i64,
}

impl Click {
    /// The visit ends if nothing comes for so long after this click.
    pub(crate) fn longest_silence(&self) -> Duration {
        match self.kind {
            Kind::View => minutes(30),
            Kind::Play => minutes(90),
        }
    }
}

/// The click of a number. Clicks come up to 4 minutes late; one of 500, half an hour to 3 hours.
pub(crate) fn click(id: u64) -> Click {
    let mut random = Random::new(id);
    let late_ms = match random.below(500) {
        0 => random.between(HOUR_MS / 2, 3 * HOUR_MS),
        _ => random.between(0, HOUR_MS / 15),
    };
    let visitor = active_visitor(id, random.below(SLOTS) * random.below(SLOTS) / SLOTS);
    let page = PAGES[random.below(PAGES.len()).min(random.below(PAGES.len()))];
    let kind = if page == "videos" && random.is_chosen(40) { Kind::Play } else { Kind::View };
    Click { id, visitor, page: page.to_owned(), kind, time_ms: reported_ms(id) - late_ms }
}

/// The visitor who is active in a slot: another one after so many clicks, not in all slots at once.
fn active_visitor(id: u64, slot: usize) -> u32 {
    let shift = Random::new(slot as u64).below(ACTIVE as usize) as u64;
    let turn = (id + shift) / ACTIVE;
    Random::new(turn * SLOTS as u64 + slot as u64).below(VISITORS) as u32
}

/// When a click is reported: by number, in order.
fn reported_ms(id: u64) -> i64 {
    let a_day: u64 = OF_HOUR.iter().sum();
    let (day, mut left) = ((id / a_day) as i64, id % a_day);
    let mut hour = 0;
    for clicks in OF_HOUR {
        if left < clicks {
            break;
        }
        left -= clicks;
        hour += 1;
    }
    let of_hour = OF_HOUR[hour as usize % 24];
    START_MS + (day * 24 + hour) * HOUR_MS + left as i64 * HOUR_MS / of_hour as i64
}
