//! Loops written by hand for one query each: how fast the machine answers without an engine.
//!
//! They take the whole input by reference, as one split, follow the same rules of lateness as the
//! engine, and give the digest of the rows. A benchmark divides by their speed, so they are written
//! for speed: no allocation per event, one pass, a table made for counting, and the window of the
//! last event looked at first. Their digests are tested against the oracle's.

use crate::canonical::Digest;
use crate::event::Event;
use crate::query::{AUCTION_DIVISOR, Query};
use crate::rows::{AuctionPrice, ConvertedBid};

mod counts;
mod sessions;
mod slices;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod windowed;
mod windows;

/// The digest of the result of `query` over `events` as one split, whose watermark stays
/// `bound_ms` behind.
pub(crate) fn digest(query: Query, events: &[Event], bound_ms: i64) -> Digest {
    match query {
        Query::Q0 => q0(events),
        Query::Q1 => q1(events),
        Query::Q2 => q2(events),
        Query::Q3 => tables::q3(events),
        Query::Q4 => tables::q4(events),
        Query::Q5 => windowed::q5(events, bound_ms),
        Query::Q7 => windowed::q7(events, bound_ms),
        Query::Q8 => windowed::q8(events, bound_ms),
        Query::Q11 => windowed::q11(events, bound_ms),
        Query::Q18 => tables::q18(events),
        Query::Q19 => tables::q19(events),
        Query::Wc => windowed::wc(events, bound_ms),
        Query::State => tables::state(events),
    }
}

/// Every bid.
pub(crate) fn q0(events: &[Event]) -> Digest {
    let mut digest = Digest::default();
    for bid in events.iter().filter_map(Event::as_bid) {
        digest.add(bid);
    }
    digest
}

/// Every bid with its price converted.
pub(crate) fn q1(events: &[Event]) -> Digest {
    let mut digest = Digest::default();
    for bid in events.iter().filter_map(Event::as_bid) {
        digest.add(&ConvertedBid::of(bid));
    }
    digest
}

/// The bids of some auctions.
pub(crate) fn q2(events: &[Event]) -> Digest {
    let mut digest = Digest::default();
    for bid in events.iter().filter_map(Event::as_bid) {
        if bid.auction.is_multiple_of(AUCTION_DIVISOR) {
            digest.add(&AuctionPrice::of(bid));
        }
    }
    digest
}
