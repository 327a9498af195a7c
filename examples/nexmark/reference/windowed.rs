//! The loops over windows and sessions: q5, q7, q8, q11, wc.

use super::counts::Counts;
use super::sessions::Sessions;
use super::slices::Slices;
use super::table::Table;
use super::windows::Windows;
use crate::canonical::Digest;
use crate::event::{Bid, Event, Person};
use crate::query::WINDOW_MS;
use crate::rows::{BidderCount, HighestBid, MostBids, NewSeller};

/// The auctions with the most bids of every sliding window.
pub(super) fn q5(events: &[Event], bound_ms: i64) -> Digest {
    let mut digest = Digest::default();
    let mut slices = Slices::new(bound_ms);
    let mut fire = |window_end: i64, counts: &Counts| {
        let greatest = counts.iter().map(|(_, count)| count).max();
        for (auction, count) in counts.iter().filter(|&(_, count)| Some(count) == greatest) {
            let window_start = window_end - WINDOW_MS;
            digest.add(&MostBids { window_start, window_end, auction, count });
        }
    };
    for event in events {
        let time = event.date_time();
        if let Event::Bid(bid) = event
            && let Some(counts) = slices.accept(time)
        {
            counts.add(bid.auction, 1);
        }
        slices.advance(time, &mut fire);
    }
    slices.end(&mut fire);
    digest
}

/// The highest bids of every window.
pub(super) fn q7(events: &[Event], bound_ms: i64) -> Digest {
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

/// Who registers and offers something in the same window.
pub(super) fn q8(events: &[Event], bound_ms: i64) -> Digest {
    let mut digest = Digest::default();
    let mut windows: Windows<Newcomers<'_>> = Windows::new(bound_ms);
    let mut fire = |window_start, newcomers: &Newcomers<'_>| {
        let mut persons = newcomers.persons.clone();
        persons.sort_unstable_by_key(|person| (person.id, &*person.name));
        persons.dedup_by_key(|person| (person.id, &*person.name));
        for person in persons {
            if newcomers.sellers.get(person.id).is_some() {
                let (id, name, window_end) =
                    (person.id, person.name.as_str(), window_start + WINDOW_MS);
                digest.add(&NewSeller { id, name, window_start, window_end });
            }
        }
    };
    for event in events {
        let time = event.date_time();
        match event {
            Event::Person(person) => {
                if let Some(newcomers) = windows.accept(time) {
                    newcomers.persons.push(person);
                }
            }
            Event::Auction(auction) => {
                if let Some(newcomers) = windows.accept(time) {
                    newcomers.sellers.entry(auction.seller);
                }
            }
            Event::Bid(_) => {}
        }
        windows.advance(time, &mut fire);
    }
    windows.end(&mut fire);
    digest
}

/// The persons and the sellers of a window.
#[derive(Default)]
struct Newcomers<'a> {
    persons: Vec<&'a Person>,
    sellers: Table<u64, ()>,
}

/// Bids per bidder and session.
///
/// That a session ends changes nothing about it, as no bid on time can reach it any more: so none
/// has to be given out before the end.
pub(super) fn q11(events: &[Event], bound_ms: i64) -> Digest {
    let mut bidders: Table<u64, Sessions> = Table::default();
    let mut watermark = i64::MIN;
    for event in events {
        let time = event.date_time();
        if let Event::Bid(bid) = event
            && time > watermark
        {
            bidders.entry(bid.bidder).add(time);
        }
        watermark = watermark.max(time.saturating_sub(bound_ms).saturating_sub(1));
    }
    let mut digest = Digest::default();
    for (bidder, sessions) in bidders.iter() {
        for (window_start, window_end, count) in sessions.iter() {
            digest.add(&BidderCount { bidder, window_start, window_end, count });
        }
    }
    digest
}

/// Bids per bidder and window.
pub(super) fn wc(events: &[Event], bound_ms: i64) -> Digest {
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
            counts.add(bid.bidder, 1);
        }
        windows.advance(time, &mut fire);
    }
    windows.end(&mut fire);
    digest
}
