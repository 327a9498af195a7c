//! The loops over the whole input: q3, q4, q18, q19, state.

use super::counts::Counts;
use super::table::Table;
use crate::canonical::Digest;
use crate::event::{Auction, Bid, Event, Person};
use crate::query::{CATEGORY, RANKS, STATES};
use crate::rows::{AuctionCount, CategoryMean, LocalAuction, RankedBid};

/// Persons of some states and the auctions of one category that they sell in.
pub(super) fn q3(events: &[Event]) -> Digest {
    let mut sellers: Table<u64, (Vec<&Person>, Vec<u64>)> = Table::default();
    let mut digest = Digest::default();
    let mut add = |person: &Person, auction: u64| {
        let Person { name, city, state, .. } = person;
        digest.add(&LocalAuction { name, city, state, auction });
    };
    for event in events {
        match event {
            Event::Person(person) if STATES.contains(&person.state.as_str()) => {
                let (persons, auctions) = sellers.entry(person.id);
                auctions.iter().for_each(|auction| add(person, *auction));
                persons.push(person);
            }
            Event::Auction(auction) if auction.category == CATEGORY => {
                let (persons, auctions) = sellers.entry(auction.seller);
                persons.iter().for_each(|person| add(person, auction.id));
                auctions.push(auction.id);
            }
            Event::Person(_) | Event::Auction(_) | Event::Bid(_) => {}
        }
    }
    digest
}

/// The mean of the greatest valid bids, per category.
pub(super) fn q4(events: &[Event]) -> Digest {
    let mut auctions: Table<u64, Bidding<'_>> = Table::default();
    for event in events {
        match event {
            Event::Bid(bid) => auctions.entry(bid.auction).bid(bid),
            Event::Auction(auction) => auctions.entry(auction.id).open(auction),
            Event::Person(_) => {}
        }
    }
    let mut categories: Table<u64, (u128, u64)> = Table::default();
    for (_, bidding) in auctions.iter() {
        if let (Some(auction), Some(greatest)) = (bidding.auction, bidding.greatest) {
            let (sum, auctions) = categories.entry(auction.category);
            *sum += u128::from(greatest);
            *auctions += 1;
        }
    }
    let rows = categories.iter();
    Digest::of(rows.map(|(category, &(sum, auctions))| CategoryMean { category, sum, auctions }))
}

/// An auction, which may come after some of its bids.
#[derive(Default)]
struct Bidding<'a> {
    auction: Option<&'a Auction>,
    /// Bids that came before the auction.
    early: Vec<&'a Bid>,
    greatest: Option<u64>,
}

impl<'a> Bidding<'a> {
    #[inline]
    fn bid(&mut self, bid: &'a Bid) {
        let Some(auction) = self.auction else { return self.early.push(bid) };
        if (auction.date_time..=auction.expires).contains(&bid.date_time) {
            self.greatest = self.greatest.max(Some(bid.price));
        }
    }

    fn open(&mut self, auction: &'a Auction) {
        self.auction = Some(auction);
        std::mem::take(&mut self.early).into_iter().for_each(|bid| self.bid(bid));
    }
}

/// The last bid of each bidder in each auction.
pub(super) fn q18(events: &[Event]) -> Digest {
    let mut last: Table<(u64, u64), Option<&Bid>> = Table::default();
    for bid in events.iter().filter_map(Event::as_bid) {
        let slot = last.entry((bid.bidder, bid.auction));
        if slot.is_none_or(|last| last.date_time <= bid.date_time) {
            *slot = Some(bid);
        }
    }
    Digest::of(last.iter().filter_map(|(_, bid)| *bid))
}

/// The highest bids of each auction.
pub(super) fn q19(events: &[Event]) -> Digest {
    let mut auctions: Table<u64, Vec<(u64, &Bid)>> = Table::default();
    for bid in events.iter().filter_map(Event::as_bid) {
        let highest = auctions.entry(bid.auction);
        if highest.len() == RANKS {
            if highest[RANKS - 1].0 >= bid.price {
                continue;
            }
            highest.pop();
        }
        let at = highest.partition_point(|&(price, _)| price >= bid.price);
        highest.insert(at, (bid.price, bid));
    }
    let mut digest = Digest::default();
    for (auction, highest) in auctions.iter() {
        for (rank, &(price, bid)) in (1..).zip(highest) {
            let (bidder, date_time) = (bid.bidder, bid.date_time);
            digest.add(&RankedBid { auction, rank, bidder, price, date_time });
        }
    }
    digest
}

/// Bids per auction.
pub(super) fn state(events: &[Event]) -> Digest {
    let mut counts = Counts::default();
    for bid in events.iter().filter_map(Event::as_bid) {
        counts.add(bid.auction, 1);
    }
    Digest::of(counts.iter().map(|(auction, count)| AuctionCount { auction, count }))
}
