//! Answers per window or session, which leave out what is late: q5, q7, q8, q11, wc.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, counts};
use crate::event::{Bid, Event};
use crate::query::{SESSION_GAP_MS, SLIDE_MS, WINDOW_MS};
use crate::rows::{BidderCount, HighestBid, MostBids, NewSeller};

/// An event and the watermark of its split before it.
type Judged<'a> = (&'a Event, i64);

/// Records by the start of each window that accepts them.
struct Windows<T> {
    windows: BTreeMap<i64, Vec<T>>,
    /// Records that no window accepts.
    late: u64,
}

/// What `pick` keeps of the events, in windows of [`WINDOW_MS`] that start at every multiple of
/// `slide_ms`. An event is late for a window whose last millisecond its watermark has reached.
fn windows<'a, T: Copy>(
    judged: &[Judged<'a>],
    slide_ms: i64,
    pick: impl Fn(&'a Event) -> Option<T>,
) -> Windows<T> {
    let mut result = Windows { windows: BTreeMap::new(), late: 0 };
    for &(event, watermark) in judged {
        let Some(record) = pick(event) else { continue };
        let time = event.date_time();
        let mut is_late = true;
        let mut start = time - time.rem_euclid(slide_ms);
        while start > time - WINDOW_MS {
            let max_time = start + WINDOW_MS - 1;
            if max_time > watermark {
                result.windows.entry(start).or_default().push(record);
                is_late = false;
            }
            start -= slide_ms;
        }
        result.late += u64::from(is_late);
    }
    result
}

fn tumbling_bids<'a>(judged: &[Judged<'a>]) -> Windows<&'a Bid> {
    windows(judged, WINDOW_MS, Event::as_bid)
}

/// The auctions with the most bids in each sliding window.
pub(super) fn q5(judged: &[Judged<'_>]) -> Answer {
    let bids = windows(judged, SLIDE_MS, Event::as_bid);
    let mut rows = Vec::new();
    for (&window_start, bids) in &bids.windows {
        let counts = counts(bids.iter().map(|bid| bid.auction));
        let greatest = counts.values().copied().max();
        for (auction, count) in counts {
            if Some(count) == greatest {
                let window_end = window_start + WINDOW_MS;
                rows.push(MostBids { window_start, window_end, auction, count });
            }
        }
    }
    Answer::of(&rows, bids.late)
}

/// The highest bids of each window.
pub(super) fn q7(judged: &[Judged<'_>]) -> Answer {
    let bids = tumbling_bids(judged);
    let mut rows = Vec::new();
    for (&window_start, bids) in &bids.windows {
        let greatest = bids.iter().map(|bid| bid.price).max();
        for bid in bids.iter().filter(|bid| Some(bid.price) == greatest) {
            rows.push(HighestBid {
                window_start,
                window_end: window_start + WINDOW_MS,
                auction: bid.auction,
                bidder: bid.bidder,
                price: bid.price,
                date_time: bid.date_time,
            });
        }
    }
    Answer::of(&rows, bids.late)
}

/// Who registered and offered something in the same window, once per person and window.
pub(super) fn q8(judged: &[Judged<'_>]) -> Answer {
    let persons = windows(judged, WINDOW_MS, Event::as_person);
    let auctions = windows(judged, WINDOW_MS, Event::as_auction);
    let mut rows = BTreeSet::new();
    for (&window_start, persons) in &persons.windows {
        let Some(auctions) = auctions.windows.get(&window_start) else { continue };
        let sellers: BTreeSet<u64> = auctions.iter().map(|auction| auction.seller).collect();
        for person in persons.iter().filter(|person| sellers.contains(&person.id)) {
            let (id, name, window_end) =
                (person.id, person.name.as_str(), window_start + WINDOW_MS);
            rows.insert(NewSeller { id, name, window_start, window_end });
        }
    }
    Answer::of(&rows.into_iter().collect::<Vec<_>>(), persons.late + auctions.late)
}

/// Bids per bidder and session. A bid is late if its watermark has reached it.
pub(super) fn q11(judged: &[Judged<'_>]) -> Answer {
    let mut late = 0;
    let mut times_by_bidder: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for &(event, watermark) in judged {
        let Some(bid) = event.as_bid() else { continue };
        if event.date_time() <= watermark {
            late += 1;
        } else {
            times_by_bidder.entry(bid.bidder).or_default().push(event.date_time());
        }
    }
    let mut rows: Vec<BidderCount> = Vec::new();
    for (bidder, mut times) in times_by_bidder {
        times.sort_unstable();
        for time in times {
            let window_end = time + SESSION_GAP_MS;
            match rows.last_mut() {
                // Sessions that touch are one.
                Some(row) if row.bidder == bidder && time <= row.window_end => {
                    row.window_end = window_end;
                    row.count += 1;
                }
                _ => rows.push(BidderCount { bidder, window_start: time, window_end, count: 1 }),
            }
        }
    }
    Answer::of(&rows, late)
}

/// Bids per bidder and window.
pub(super) fn wc(judged: &[Judged<'_>]) -> Answer {
    let bids = tumbling_bids(judged);
    let mut rows = Vec::new();
    for (&window_start, bids) in &bids.windows {
        for (bidder, count) in counts(bids.iter().map(|bid| bid.bidder)) {
            let window_end = window_start + WINDOW_MS;
            rows.push(BidderCount { bidder, window_start, window_end, count });
        }
    }
    Answer::of(&rows, bids.late)
}
