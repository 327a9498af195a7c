//! Changes of results that are final at the end of the input: q4, q18, q19, state.
//!
//! A job gives out a change whenever a row comes or is replaced. What remains is the result, and
//! it can be told from the changes in any order: digests by adding up what each change adds and
//! takes away, lines by the greatest version of each key.

use std::cmp::Reverse;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{AuctionCount, CategoryMean, RankedBid, append};
use crate::canonical::Row;
use crate::record::KeptBid;

/// Rows that come, and the rows of the same keys that they replace.
pub(crate) trait Change {
    /// The digests of the rows that come less those of the rows that go.
    fn digest(&self) -> u64;

    /// Appends the rows that come: of each the version, a `,` and the line, with its `\n`.
    fn versioned_lines(&self, lines: &mut String);
}

/// Which of two rows of a key is the later one: that of the greater version.
pub(crate) type Version = (u128, u64);

fn versioned_line((first, second): Version, row: &impl Row, lines: &mut String) {
    append!(lines, "{first},{second},");
    row.line(lines);
    lines.push('\n');
}

/// The version of a line and the line itself.
///
/// `None` if no version stands before the line.
pub(crate) fn split_version(line: &str) -> Option<(Version, &str)> {
    let (first, rest) = line.split_once(',')?;
    let (second, line) = rest.split_once(',')?;
    Some(((first.parse().ok()?, second.parse().ok()?), line))
}

/// state: the count of an auction that follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunningCount(pub(crate) AuctionCount);

impl Change for RunningCount {
    #[inline]
    fn digest(&self) -> u64 {
        let RunningCount(row) = *self;
        let replaced = match row.count {
            1 => 0,
            count => AuctionCount { count: count - 1, ..row }.digest(),
        };
        row.digest().wrapping_sub(replaced)
    }

    fn versioned_lines(&self, lines: &mut String) {
        versioned_line((self.0.count.into(), 0), &self.0, lines);
    }
}

/// q4: a category's mean comes or is replaced.
impl Change for thalweg::Change<CategoryMean> {
    #[inline]
    fn digest(&self) -> u64 {
        let digest = self.row().digest();
        if self.is_retraction() { digest.wrapping_neg() } else { digest }
    }

    fn versioned_lines(&self, lines: &mut String) {
        if !self.is_retraction() {
            // Neither of the two ever falls, and one of them rises with every change.
            let row = self.row();
            versioned_line((row.sum, row.auctions), row, lines);
        }
    }
}

/// q18: a later bid of the same bidder in the same auction.
#[derive(Clone, Debug)]
pub(crate) struct LaterBid {
    /// The bid.
    pub(crate) bid: KeptBid,
    /// Its position in the stream.
    pub(crate) position: u64,
    /// The digest of the bid it replaces; 0 if it is the first.
    pub(crate) replaced: u64,
}

impl Change for LaterBid {
    #[inline]
    fn digest(&self) -> u64 {
        self.bid.digest().wrapping_sub(self.replaced)
    }

    fn versioned_lines(&self, lines: &mut String) {
        versioned_line((self.bid.date_time.into(), self.position), &*self.bid, lines);
    }
}

/// A bid as q19 ranks it: the higher price first, of equal ones the earlier in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    /// Its position in the stream.
    pub(crate) position: u64,
    /// Who bids.
    pub(crate) bidder: u64,
    /// The price.
    pub(crate) price: u64,
    /// When.
    pub(crate) date_time: u64,
}

impl Candidate {
    /// What bids are ranked by, the least first.
    #[inline]
    pub(crate) fn rank_key(&self) -> (Reverse<u64>, u64) {
        (Reverse(self.price), self.position)
    }

    /// The row of this bid at `rank` in `auction`.
    #[inline]
    pub(crate) fn at(&self, auction: u64, rank: u64) -> RankedBid {
        let Candidate { bidder, price, date_time, .. } = *self;
        RankedBid { auction, rank, bidder, price, date_time }
    }
}

/// q19: a bid that came among the highest of its auction, and those it moved down.
#[derive(Clone, Debug)]
pub(crate) struct RanksChange {
    /// The auction.
    pub(crate) auction: u64,
    /// The rank of the new bid.
    pub(crate) first_rank: u64,
    /// The new bid and all that follow it, by rank.
    pub(crate) bids: Vec<Candidate>,
    /// The bid that had the last rank and has none any more.
    pub(crate) dropped: Option<Candidate>,
}

impl Change for RanksChange {
    #[inline]
    fn digest(&self) -> u64 {
        let digest = |(rank, bid): (u64, &Candidate)| bid.at(self.auction, rank).digest();
        let added = (self.first_rank..).zip(&self.bids).map(digest);
        // Every bid behind the new one was one rank higher up.
        let replaced = (self.first_rank..).zip(self.bids[1..].iter().chain(&self.dropped));
        let sum = added.fold(0, u64::wrapping_add);
        replaced.map(digest).fold(sum, u64::wrapping_sub)
    }

    fn versioned_lines(&self, lines: &mut String) {
        for (rank, bid) in (self.first_rank..).zip(&self.bids) {
            // The bids at a rank only ever get better: a higher price, or the same one earlier.
            let version = (bid.price.into(), u64::MAX - bid.position);
            versioned_line(version, &bid.at(self.auction, rank), lines);
        }
    }
}
