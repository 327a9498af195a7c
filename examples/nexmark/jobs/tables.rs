//! The jobs whose results change until the input ends: q18, q19, state.

use serde::{Deserialize, Serialize};
use thalweg::{Aggregate, Count, Keyed, Stream};

use crate::canonical::Row as _;
use crate::output::Output;
use crate::query::RANKS;
use crate::record::PlacedBid;
use crate::rows::{AuctionCount, Candidate, LaterBid, RanksChange, RunningCount};

/// Bids per auction so far.
pub(super) fn state(auctions: &Stream<u64>, output: &Output) {
    let counts = auctions
        .key_by(|auction| *auction)
        .aggregate("bids-per-auction", Count)
        .map(|count| RunningCount(AuctionCount { auction: count.key, count: count.value }));
    output.changes(&counts);
}

/// The last bid of each bidder in each auction.
pub(super) fn q18(bids: &Stream<PlacedBid>, output: &Output) {
    let later = bids
        .key_by(|placed| (placed.bid.bidder, placed.bid.auction))
        .aggregate("last-bids", LastBid)
        .filter_map(|last| last.value);
    output.changes(&later);
}

/// The highest bids of each auction.
pub(super) fn q19(bids: &Stream<(u64, Candidate)>, output: &Output) {
    let changes = bids
        .key_by(|&(auction, _)| auction)
        .aggregate("highest-bids", Highest)
        .filter_map(|Keyed { key: auction, value }| {
            let Moved { first_rank, bids, dropped } = value?;
            Some(RanksChange { auction, first_rank, bids, dropped })
        });
    output.changes(&changes);
}

/// Keeps the bid of the greatest time, of several the last in the stream.
struct LastBid;

/// The last bid so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct LastSoFar {
    last: Option<PlacedBid>,
    /// What the bid that was added last has replaced, if it became the last one: the digest of a
    /// bid, or 0 for none.
    replaced: Option<u64>,
}

impl Aggregate<PlacedBid> for LastBid {
    type Accumulator = LastSoFar;
    type Out = Option<LaterBid>;

    fn create(&self) -> LastSoFar {
        LastSoFar::default()
    }

    #[inline]
    fn add(&self, so_far: &mut LastSoFar, placed: &PlacedBid) {
        so_far.replaced = match &so_far.last {
            None => Some(0),
            Some(PlacedBid { position, bid }) => {
                let is_later = (placed.bid.date_time, placed.position) > (bid.date_time, *position);
                is_later.then(|| bid.digest())
            }
        };
        if so_far.replaced.is_some() {
            so_far.last = Some(placed.clone());
        }
    }

    fn merge(&self, so_far: &mut LastSoFar, other: &LastSoFar) {
        if let Some(placed) = &other.last {
            self.add(so_far, placed);
        }
    }

    #[inline]
    fn finish(&self, so_far: &LastSoFar) -> Option<LaterBid> {
        let (Some(PlacedBid { position, bid }), Some(replaced)) = (&so_far.last, so_far.replaced)
        else {
            return None;
        };
        Some(LaterBid { bid: bid.clone(), position: *position, replaced })
    }
}

/// Keeps the bids of the first ranks.
struct Highest;

/// The highest bids so far, by rank.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct HighestSoFar {
    bids: Vec<Candidate>,
    /// The place of the bid that was added last, if it has a rank.
    added_at: Option<u64>,
    /// The bid that lost its rank to it.
    dropped: Option<Candidate>,
}

/// What a bid with a rank has moved.
#[derive(Clone, Debug)]
struct Moved {
    first_rank: u64,
    bids: Vec<Candidate>,
    dropped: Option<Candidate>,
}

impl HighestSoFar {
    #[inline]
    fn add(&mut self, bid: Candidate) {
        (self.added_at, self.dropped) = (None, None);
        let rank_key = bid.rank_key();
        if self.bids.len() == RANKS && self.bids[RANKS - 1].rank_key() < rank_key {
            return;
        }
        let at = self.bids.partition_point(|other| other.rank_key() < rank_key);
        if self.bids.len() == RANKS {
            self.dropped = self.bids.pop();
        }
        self.bids.insert(at, bid);
        self.added_at = Some(at as u64);
    }
}

impl Aggregate<(u64, Candidate)> for Highest {
    type Accumulator = HighestSoFar;
    type Out = Option<Moved>;

    fn create(&self) -> HighestSoFar {
        HighestSoFar::default()
    }

    #[inline]
    fn add(&self, so_far: &mut HighestSoFar, &(_, bid): &(u64, Candidate)) {
        so_far.add(bid);
    }

    fn merge(&self, so_far: &mut HighestSoFar, other: &HighestSoFar) {
        for &bid in &other.bids {
            so_far.add(bid);
        }
    }

    #[inline]
    fn finish(&self, so_far: &HighestSoFar) -> Option<Moved> {
        let at = so_far.added_at?;
        let bids = so_far.bids[at as usize..].to_vec();
        Some(Moved { first_rank: at + 1, bids, dropped: so_far.dropped })
    }
}
