//! Answers over the whole input, which judge no lateness: q3, q4, q18, q19, state.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Answer, bids, counts};
use crate::event::{Auction, Bid, Event};
use crate::query::{CATEGORY, RANKS, STATES};
use crate::rows::{AuctionCount, CategoryMean, LocalAuction, RankedBid};

/// Every pair of a person in one of the states and an auction of the category that they sell in.
pub(super) fn q3(events: &[Event]) -> Answer {
    let mut auctions_by_seller: BTreeMap<u64, Vec<&Auction>> = BTreeMap::new();
    for auction in events.iter().filter_map(Event::as_auction) {
        if auction.category == CATEGORY {
            auctions_by_seller.entry(auction.seller).or_default().push(auction);
        }
    }
    let mut rows = Vec::new();
    for person in events.iter().filter_map(Event::as_person) {
        if !STATES.contains(&person.state.as_str()) {
            continue;
        }
        for auction in auctions_by_seller.get(&person.id).into_iter().flatten() {
            rows.push(LocalAuction {
                name: &person.name,
                city: &person.city,
                state: &person.state,
                auction: auction.id,
            });
        }
    }
    Answer::of(&rows, 0)
}

/// Per category, over its auctions with a valid bid, the sum of the greatest prices.
pub(super) fn q4(events: &[Event]) -> Answer {
    let bids_by_auction = by_auction(bids(events));
    let mut categories: BTreeMap<u64, CategoryMean> = BTreeMap::new();
    for auction in events.iter().filter_map(Event::as_auction) {
        let valid =
            bids_by_auction.get(&auction.id).into_iter().flatten().filter(|bid| {
                auction.date_time <= bid.date_time && bid.date_time <= auction.expires
            });
        let Some(greatest) = valid.map(|bid| bid.price).max() else { continue };
        let category = auction.category;
        let mean =
            categories.entry(category).or_insert(CategoryMean { category, sum: 0, auctions: 0 });
        mean.sum += u128::from(greatest);
        mean.auctions += 1;
    }
    Answer::of(&categories.into_values().collect::<Vec<_>>(), 0)
}

/// Of the bids of each bidder in each auction the one of the greatest time; of several the last.
pub(super) fn q18(events: &[Event]) -> Answer {
    let mut last: BTreeMap<(u64, u64), &Bid> = BTreeMap::new();
    for bid in bids(events) {
        let slot = last.entry((bid.bidder, bid.auction)).or_insert(bid);
        if bid.date_time >= slot.date_time {
            *slot = bid;
        }
    }
    Answer::of(&last.into_values().collect::<Vec<_>>(), 0)
}

/// The highest bids of each auction, those of one price as they came.
pub(super) fn q19(events: &[Event]) -> Answer {
    let mut rows = Vec::new();
    for (auction, mut bids) in by_auction(bids(events)) {
        // The sort is stable.
        bids.sort_by_key(|bid| Reverse(bid.price));
        for (rank, bid) in (1..).zip(bids.into_iter().take(RANKS)) {
            let Bid { bidder, price, date_time, .. } = *bid;
            rows.push(RankedBid { auction, rank, bidder, price, date_time });
        }
    }
    Answer::of(&rows, 0)
}

/// Bids per auction.
pub(super) fn state(events: &[Event]) -> Answer {
    let counts = counts(bids(events).map(|bid| bid.auction));
    let rows: Vec<_> =
        counts.into_iter().map(|(auction, count)| AuctionCount { auction, count }).collect();
    Answer::of(&rows, 0)
}

/// The bids of each auction, in the order of the stream.
fn by_auction<'a>(bids: impl Iterator<Item = &'a Bid>) -> BTreeMap<u64, Vec<&'a Bid>> {
    let mut by_auction: BTreeMap<u64, Vec<&Bid>> = BTreeMap::new();
    for bid in bids {
        by_auction.entry(bid.auction).or_default().push(bid);
    }
    by_auction
}
