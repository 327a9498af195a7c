//! The answers by definition: slow, sequential, and as plain as the rules they follow.
//!
//! Every query is written over [`judged`] events, each with the watermark of its own split as it
//! stood before it. Nothing fires here: what is not late is grouped, and the groups are the result,
//! because at the end of the input every window is final.
//!
//! *Absent:* parallelism, state, firing order, and anything shared with the engine.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use crate::canonical::{Digest, Row, sorted_lines};
use crate::event::{Bid, Event};
use crate::query::{AUCTION_DIVISOR, Query};
use crate::rows::{AuctionPrice, ConvertedBid};

mod tables;
#[cfg(test)]
mod tests;
mod windowed;

/// How the stream is split and how far behind the greatest time seen a watermark stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Splitting {
    /// The event at position i belongs to split i mod `splits`.
    pub(crate) splits: NonZeroUsize,
    /// The bound of the out-of-orderness, in milliseconds.
    pub(crate) bound_ms: i64,
}

/// The final result of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The canonical lines, sorted.
    pub(crate) lines: Vec<String>,
    /// The digest of the rows.
    pub(crate) digest: Digest,
    /// Records that no window or session accepted; 0 for queries that judge no lateness.
    pub(crate) late: u64,
}

impl Answer {
    fn of<R: Row>(rows: &[R], late: u64) -> Self {
        Answer { lines: sorted_lines(rows), digest: Digest::of(rows), late }
    }
}

/// The result of `query` over `events`.
pub(crate) fn answer(query: Query, events: &[Event], splitting: Splitting) -> Answer {
    match query {
        Query::Q0 => Answer::of(&bids(events).collect::<Vec<_>>(), 0),
        Query::Q1 => q1(events),
        Query::Q2 => q2(events),
        Query::Q3 => tables::q3(events),
        Query::Q4 => tables::q4(events),
        Query::Q5 => windowed::q5(&judged(events, splitting)),
        Query::Q7 => windowed::q7(&judged(events, splitting)),
        Query::Q8 => windowed::q8(&judged(events, splitting)),
        Query::Q11 => windowed::q11(&judged(events, splitting)),
        Query::Q18 => tables::q18(events),
        Query::Q19 => tables::q19(events),
        Query::Wc => windowed::wc(&judged(events, splitting)),
        Query::State => tables::state(events),
    }
}

fn bids(events: &[Event]) -> impl Iterator<Item = &Bid> {
    events.iter().filter_map(Event::as_bid)
}

/// Every event with the watermark of its split before it: the greatest time of the events before
/// it in that split, of all kinds, minus the bound and 1; `i64::MIN` if there is none.
fn judged(events: &[Event], splitting: Splitting) -> Vec<(&Event, i64)> {
    let mut greatest: Vec<Option<i64>> = vec![None; splitting.splits.get()];
    let mut judged = Vec::with_capacity(events.len());
    for (position, event) in events.iter().enumerate() {
        let seen = &mut greatest[position % splitting.splits.get()];
        let watermark = match *seen {
            None => i64::MIN,
            Some(time) => time.saturating_sub(splitting.bound_ms).saturating_sub(1),
        };
        judged.push((event, watermark));
        *seen = Some(event.date_time()).max(*seen);
    }
    judged
}

/// How often each key occurs.
fn counts<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

fn q1(events: &[Event]) -> Answer {
    let rows: Vec<_> = bids(events)
        .map(|bid| {
            let price = u128::from(bid.price) * 908 / 1_000;
            let price = u64::try_from(price).expect("less than the price it comes from");
            ConvertedBid { price, ..ConvertedBid::of(bid) }
        })
        .collect();
    Answer::of(&rows, 0)
}

fn q2(events: &[Event]) -> Answer {
    let kept = bids(events).filter(|bid| bid.auction % AUCTION_DIVISOR == 0);
    Answer::of(&kept.map(AuctionPrice::of).collect::<Vec<_>>(), 0)
}
