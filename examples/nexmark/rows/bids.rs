//! Rows that are one bid each: q0, q1, q2.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{append, length};
use crate::canonical::{Row, mix};
use crate::event::Bid;
use crate::query::converted;

/// q0: a bid as it came.
impl Row for Bid {
    #[inline]
    fn digest(&self) -> u64 {
        let (channel, url, extra) = (length(&self.channel), length(&self.url), length(&self.extra));
        mix([self.auction, self.bidder, self.price, channel, url, self.date_time, extra])
    }

    fn line(&self, line: &mut String) {
        let Bid { auction, bidder, price, channel, url, date_time, extra } = self;
        append!(line, "{auction},{bidder},{price},{channel},{url},{date_time},{extra}");
    }
}

/// q1: a bid in the other currency, its text borrowed or owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConvertedBid<S> {
    /// The auction.
    pub(crate) auction: u64,
    /// Who bids.
    pub(crate) bidder: u64,
    /// The price in the other currency.
    pub(crate) price: u64,
    /// When.
    pub(crate) date_time: u64,
    /// The bid's filler.
    pub(crate) extra: S,
}

impl<'a> ConvertedBid<&'a str> {
    /// The row of `bid`, which keeps its text.
    #[inline]
    pub(crate) fn of(bid: &'a Bid) -> Self {
        ConvertedBid {
            auction: bid.auction,
            bidder: bid.bidder,
            price: converted(bid.price),
            date_time: bid.date_time,
            extra: &bid.extra,
        }
    }
}

impl<S: AsRef<str>> Row for ConvertedBid<S> {
    #[inline]
    fn digest(&self) -> u64 {
        let extra = length(self.extra.as_ref());
        mix([self.auction, self.bidder, self.price, self.date_time, extra])
    }

    fn line(&self, line: &mut String) {
        let ConvertedBid { auction, bidder, price, date_time, extra } = self;
        append!(line, "{auction},{bidder},{price},{date_time},{}", extra.as_ref());
    }
}

/// q2: the price of a bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuctionPrice {
    /// The auction.
    pub(crate) auction: u64,
    /// The price.
    pub(crate) price: u64,
}

impl AuctionPrice {
    /// The row of `bid`.
    #[inline]
    pub(crate) fn of(bid: &Bid) -> Self {
        AuctionPrice { auction: bid.auction, price: bid.price }
    }
}

impl Row for AuctionPrice {
    #[inline]
    fn digest(&self) -> u64 {
        mix([self.auction, self.price])
    }

    fn line(&self, line: &mut String) {
        append!(line, "{},{}", self.auction, self.price);
    }
}
