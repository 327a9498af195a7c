//! Rows of results over the whole input: q3, q4, q19, state. Those of q18 are bids.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{append, length};
use crate::canonical::{Row, mix};

/// q3: somebody and one of the auctions they sell in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalAuction<S> {
    /// The seller's name.
    pub(crate) name: S,
    /// The seller's city.
    pub(crate) city: S,
    /// The seller's state.
    pub(crate) state: S,
    /// The auction.
    pub(crate) auction: u64,
}

impl<S: AsRef<str>> Row for LocalAuction<S> {
    #[inline]
    fn digest(&self) -> u64 {
        let [name, city, state] =
            [&self.name, &self.city, &self.state].map(|text| length(text.as_ref()));
        mix([name, city, state, self.auction])
    }

    fn line(&self, line: &mut String) {
        let [name, city, state] = [&self.name, &self.city, &self.state].map(AsRef::as_ref);
        append!(line, "{name},{city},{state},{}", self.auction);
    }
}

/// q4: what the auctions of a category have fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CategoryMean {
    /// The category.
    pub(crate) category: u64,
    /// The sum of the greatest prices of its auctions.
    pub(crate) sum: u128,
    /// The number of its auctions with a bid, at least 1.
    pub(crate) auctions: u64,
}

impl Row for CategoryMean {
    #[inline]
    fn digest(&self) -> u64 {
        let [low, high] =
            [self.sum, self.sum >> 64].map(|half| (half & u128::from(u64::MAX)) as u64);
        mix([self.category, low, high, self.auctions])
    }

    fn line(&self, line: &mut String) {
        let CategoryMean { category, sum, auctions } = self;
        append!(line, "{category},{sum},{auctions},{}", sum / u128::from(*auctions));
    }
}

/// q19: a bid among the highest of its auction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RankedBid {
    /// The auction.
    pub(crate) auction: u64,
    /// 1 for the highest bid.
    pub(crate) rank: u64,
    /// Who bids.
    pub(crate) bidder: u64,
    /// The price.
    pub(crate) price: u64,
    /// When.
    pub(crate) date_time: u64,
}

impl Row for RankedBid {
    #[inline]
    fn digest(&self) -> u64 {
        mix([self.auction, self.rank, self.bidder, self.price, self.date_time])
    }

    fn line(&self, line: &mut String) {
        let RankedBid { auction, rank, bidder, price, date_time } = self;
        append!(line, "{auction},{rank},{bidder},{price},{date_time}");
    }
}

/// state: how many bids an auction has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuctionCount {
    /// The auction.
    pub(crate) auction: u64,
    /// The number of bids.
    pub(crate) count: u64,
}

impl Row for AuctionCount {
    #[inline]
    fn digest(&self) -> u64 {
        mix([self.auction, self.count])
    }

    fn line(&self, line: &mut String) {
        append!(line, "{},{}", self.auction, self.count);
    }
}
