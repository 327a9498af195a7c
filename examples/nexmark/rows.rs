//! The result rows of the queries, with their canonical lines and digests.
//!
//! Rows borrow what a job passes by reference: a `&'static Bid` is a row of q0 as a [`Bid`] is,
//! and the text of [`ConvertedBid`] is a `String` or a `&str`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::canonical::{Row, mix};
use crate::event::Bid;
use crate::query::converted;

/// Appends formatted text to a `String`, which does not fail.
macro_rules! append {
    ($line:expr, $($format:tt)*) => {
        write!($line, $($format)*).expect("a string takes any text")
    };
}

/// The part of a text column that a digest sees.
#[inline]
fn length(text: &str) -> u64 {
    // A length is at most `isize::MAX`.
    text.len() as u64
}

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

/// wc: how many bids somebody made in a window.
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

/// state, while it is counted: a row that replaces the one with the count before it.
///
/// Its digest is what it changes: over all rows of a key only the last one's digest remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunningCount(pub(crate) AuctionCount);

impl Row for RunningCount {
    #[inline]
    fn digest(&self) -> u64 {
        let RunningCount(row) = *self;
        let replaced = match row.count {
            1 => 0,
            count => AuctionCount { count: count - 1, ..row }.digest(),
        };
        row.digest().wrapping_sub(replaced)
    }

    fn line(&self, line: &mut String) {
        self.0.line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::{AuctionCount, ConvertedBid, RunningCount};
    use crate::canonical::{Digest, Row};
    use crate::event::Bid;

    fn bid() -> Bid {
        Bid {
            auction: 1,
            bidder: 2,
            price: 1_999,
            channel: "Google".to_owned(),
            url: "https://x".to_owned(),
            date_time: 5,
            extra: "abc".to_owned(),
        }
    }

    fn line(row: impl Row) -> String {
        let mut line = String::new();
        row.line(&mut line);
        line
    }

    #[test]
    fn columns_stand_in_the_order_of_the_contract() {
        assert_eq!(line(bid()), "1,2,1999,Google,https://x,5,abc");
        assert_eq!(line(ConvertedBid::of(&bid())), "1,2,1815,5,abc");
    }

    #[test]
    fn borrowed_and_owned_rows_are_the_same_row() {
        let bid = bid();
        let borrowed = ConvertedBid::of(&bid);
        let ConvertedBid { auction, bidder, price, date_time, extra } = borrowed;
        let owned = ConvertedBid { auction, bidder, price, date_time, extra: extra.to_owned() };
        assert_eq!(borrowed.digest(), owned.digest());
        assert_eq!(line(borrowed), line(owned));
    }

    #[test]
    fn the_digest_of_running_counts_is_that_of_the_last_ones() {
        let row = |auction, count| AuctionCount { auction, count };
        let running = [row(7, 1), row(9, 1), row(7, 2), row(7, 3)].map(RunningCount);
        assert_eq!(Digest::of(running), Digest::of([row(9, 1), row(7, 3)]));
        assert_ne!(Digest::of(&running[..3]), Digest::of([row(9, 1), row(7, 3)]));
    }
}
