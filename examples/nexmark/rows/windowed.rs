//! Rows of windows and sessions: q5, q7, q8, q11, wc.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{append, length};
use crate::canonical::{Row, mix};

/// q5: an auction that no other of its window has more bids than.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MostBids {
    /// The window's first millisecond.
    pub(crate) window_start: i64,
    /// The first millisecond after the window.
    pub(crate) window_end: i64,
    /// The auction.
    pub(crate) auction: u64,
    /// The number of its bids in the window.
    pub(crate) count: u64,
}

impl Row for MostBids {
    #[inline]
    fn digest(&self) -> u64 {
        let [start, end] = [self.window_start, self.window_end].map(i64::cast_unsigned);
        mix([start, end, self.auction, self.count])
    }

    fn line(&self, line: &mut String) {
        let MostBids { window_start, window_end, auction, count } = self;
        append!(line, "{window_start},{window_end},{auction},{count}");
    }
}

/// q7: a bid that no other of its window exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HighestBid {
    /// The window's first millisecond.
    pub(crate) window_start: i64,
    /// The first millisecond after the window.
    pub(crate) window_end: i64,
    /// The auction.
    pub(crate) auction: u64,
    /// Who bids.
    pub(crate) bidder: u64,
    /// The window's greatest price.
    pub(crate) price: u64,
    /// When.
    pub(crate) date_time: u64,
}

impl Row for HighestBid {
    #[inline]
    fn digest(&self) -> u64 {
        let [start, end] = [self.window_start, self.window_end].map(i64::cast_unsigned);
        mix([start, end, self.auction, self.bidder, self.price, self.date_time])
    }

    fn line(&self, line: &mut String) {
        let HighestBid { window_start, window_end, auction, bidder, price, date_time } = self;
        append!(line, "{window_start},{window_end},{auction},{bidder},{price},{date_time}");
    }
}

/// wc and q11: how many bids somebody made in a window, or in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BidderCount {
    /// Who bids.
    pub(crate) bidder: u64,
    /// The window's first millisecond.
    pub(crate) window_start: i64,
    /// The first millisecond after the window.
    pub(crate) window_end: i64,
    /// The number of bids.
    pub(crate) count: u64,
}

impl Row for BidderCount {
    #[inline]
    fn digest(&self) -> u64 {
        let [start, end] = [self.window_start, self.window_end].map(i64::cast_unsigned);
        mix([self.bidder, start, end, self.count])
    }

    fn line(&self, line: &mut String) {
        let BidderCount { bidder, window_start, window_end, count } = self;
        append!(line, "{bidder},{window_start},{window_end},{count}");
    }
}

/// q8: somebody who registered and offered something in the same window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct NewSeller<S> {
    /// The person.
    pub(crate) id: u64,
    /// The person's name.
    pub(crate) name: S,
    /// The window's first millisecond.
    pub(crate) window_start: i64,
    /// The first millisecond after the window.
    pub(crate) window_end: i64,
}

impl<S: AsRef<str>> Row for NewSeller<S> {
    #[inline]
    fn digest(&self) -> u64 {
        let [start, end] = [self.window_start, self.window_end].map(i64::cast_unsigned);
        mix([self.id, length(self.name.as_ref()), start, end])
    }

    fn line(&self, line: &mut String) {
        let NewSeller { id, name, window_start, window_end } = self;
        append!(line, "{id},{},{window_start},{window_end}", name.as_ref());
    }
}
