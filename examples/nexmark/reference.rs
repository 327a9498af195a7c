//! Loops written by hand for one query each: how fast the machine answers without an engine.
//!
//! They take the whole input by reference, as one split, follow the same rules of lateness as the
//! engine, and give the digest of the rows. A benchmark divides by their speed, so they are written
//! for speed: no allocation per event, one pass, a table made for counting, and the window of the
//! last event looked at first. Their digests are tested against the oracle's.

use crate::canonical::Digest;
use crate::event::{Bid, Event};
use crate::query::{AUCTION_DIVISOR, Query, WINDOW_MS};
use crate::rows::{AuctionCount, AuctionPrice, BidderCount, ConvertedBid, HighestBid};

mod counts;
#[cfg(test)]
mod tests;
mod windows;

use counts::Counts;
use windows::Windows;

/// The digest of the result of `query` over `events` as one split, whose watermark stays
/// `bound_ms` behind.
pub(crate) fn digest(query: Query, events: &[Event], bound_ms: i64) -> Digest {
    match query {
        Query::Q0 => q0(events),
        Query::Q1 => q1(events),
        Query::Q2 => q2(events),
        Query::Q7 => q7(events, bound_ms),
        Query::Wc => wc(events, bound_ms),
        Query::State => state(events),
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

/// The highest bids of every window.
pub(crate) fn q7(events: &[Event], bound_ms: i64) -> Digest {
    let mut digest = Digest::default();
    let mut windows: Windows<Highest<'_>> = Windows::new(bound_ms);
    let mut fire = |window_start, highest: &Highest<'_>| {
        for bid in &highest.bids {
            digest.add(&HighestBid {
                window_start,
                window_end: window_start + WINDOW_MS,
                auction: bid.auction,
                bidder: bid.bidder,
                price: bid.price,
                date_time: bid.date_time,
            });
        }
    };
    for event in events {
        let time = event.date_time();
        if let Event::Bid(bid) = event
            && let Some(highest) = windows.accept(time)
        {
            highest.add(bid);
        }
        windows.advance(time, &mut fire);
    }
    windows.end(&mut fire);
    digest
}

/// The bids of the greatest price so far.
#[derive(Default)]
struct Highest<'a> {
    price: u64,
    bids: Vec<&'a Bid>,
}

impl<'a> Highest<'a> {
    #[inline]
    fn add(&mut self, bid: &'a Bid) {
        if bid.price < self.price {
            return;
        }
        if bid.price > self.price {
            self.price = bid.price;
            self.bids.clear();
        }
        self.bids.push(bid);
    }
}

/// Bids per bidder and window.
pub(crate) fn wc(events: &[Event], bound_ms: i64) -> Digest {
    let mut digest = Digest::default();
    let mut windows: Windows<Counts> = Windows::new(bound_ms);
    let mut fire = |window_start, counts: &Counts| {
        for (bidder, count) in counts.iter() {
            let window_end = window_start + WINDOW_MS;
            digest.add(&BidderCount { bidder, window_start, window_end, count });
        }
    };
    for event in events {
        let time = event.date_time();
        if let Event::Bid(bid) = event
            && let Some(counts) = windows.accept(time)
        {
            counts.increment(bid.bidder);
        }
        windows.advance(time, &mut fire);
    }
    windows.end(&mut fire);
    digest
}

/// Bids per auction.
pub(crate) fn state(events: &[Event]) -> Digest {
    let mut counts = Counts::default();
    for bid in events.iter().filter_map(Event::as_bid) {
        counts.increment(bid.auction);
    }
    Digest::of(counts.iter().map(|(auction, count)| AuctionCount { auction, count }))
}
