//! The result rows of the queries, with their canonical lines and digests.
//!
//! Rows borrow what a job passes by reference: a `&'static Bid` is a row of q0 as a
//! [`Bid`](crate::event::Bid) is, and the text of a row is a `String` or a `&str`.

mod bids;
mod changes;
mod tables;
mod windowed;

pub(crate) use bids::{AuctionPrice, ConvertedBid};
pub(crate) use changes::{
    Candidate, Change, LaterBid, RanksChange, RunningCount, Version, split_version,
};
pub(crate) use tables::{AuctionCount, CategoryMean, LocalAuction, RankedBid};
pub(crate) use windowed::{BidderCount, HighestBid, MostBids, NewSeller};

/// Appends formatted text to a `String`, which does not fail.
macro_rules! append {
    ($line:expr, $($format:tt)*) => {
        write!($line, $($format)*).expect("a string takes any text")
    };
}
use append;

/// The part of a text column that a digest sees.
#[inline]
fn length(text: &str) -> u64 {
    // A length is at most `isize::MAX`.
    text.len() as u64
}

#[cfg(test)]
mod tests {
    use super::{
        AuctionCount, CategoryMean, Change, ConvertedBid, LocalAuction, MostBids, NewSeller,
        RankedBid, RunningCount,
    };
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
        let local = LocalAuction { name: "ann", city: "kent", state: "id", auction: 7 };
        assert_eq!(line(local), "ann,kent,id,7");
        assert_eq!(line(CategoryMean { category: 10, sum: 11, auctions: 3 }), "10,11,3,3");
        let (window_start, window_end) = (-5, 5);
        let most = MostBids { window_start, window_end, auction: 7, count: 2 };
        assert_eq!(line(most), "-5,5,7,2");
        let seller = NewSeller { id: 9, name: "ann", window_start, window_end };
        assert_eq!(line(seller), "9,ann,-5,5");
        let ranked = RankedBid { auction: 7, rank: 1, bidder: 2, price: 30, date_time: 4 };
        assert_eq!(line(ranked), "7,1,2,30,4");
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
        let sum = |changes: &[RunningCount]| {
            Digest::from_sum(changes.iter().map(Change::digest).fold(0, u64::wrapping_add))
        };
        assert_eq!(sum(&running), Digest::of([row(9, 1), row(7, 3)]));
        assert_ne!(sum(&running[..3]), Digest::of([row(9, 1), row(7, 3)]));
    }
}
