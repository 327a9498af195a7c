//! The events of the benchmark: persons who sell and bid, auctions, bids.
//!
//! Ids are unique per kind, prices are in cents, and times in milliseconds since the Unix epoch.
//! What else the fields mean is told by the benchmark's paper ("NEXMark: a benchmark for queries
//! over data streams", Tucker et al.); `extra` fills an event up to its kind's usual size.

use serde::{Deserialize, Serialize};

/// One event of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// Somebody registered.
    Person(Person),
    /// A person offers something.
    Auction(Auction),
    /// A person offers a price.
    Bid(Bid),
}

/// Somebody who sells and bids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) email_address: String,
    pub(crate) credit_card: String,
    pub(crate) city: String,
    pub(crate) state: String,
    pub(crate) date_time: u64,
    pub(crate) extra: String,
}

/// Something offered for sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Auction {
    pub(crate) id: u64,
    pub(crate) item_name: String,
    pub(crate) description: String,
    pub(crate) initial_bid: u64,
    pub(crate) reserve: u64,
    pub(crate) date_time: u64,
    pub(crate) expires: u64,
    /// A person's id.
    pub(crate) seller: u64,
    pub(crate) category: u64,
    pub(crate) extra: String,
}

/// A price offered in an auction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bid {
    /// An auction's id; the auction itself may come later in the stream.
    pub(crate) auction: u64,
    /// A person's id.
    pub(crate) bidder: u64,
    pub(crate) price: u64,
    pub(crate) channel: String,
    pub(crate) url: String,
    pub(crate) date_time: u64,
    pub(crate) extra: String,
}

impl Event {
    /// The greatest time an event may have: the engine's limit for any record.
    pub(crate) const MAX_DATE_TIME: u64 = 8_640_000_000_000_000;

    /// The event's time, in milliseconds since the Unix epoch.
    ///
    /// The generator and the file reader give no time above [`Event::MAX_DATE_TIME`], so that it
    /// fits in the engine's signed times.
    #[inline]
    pub(crate) fn date_time(&self) -> i64 {
        match self {
            Event::Bid(bid) => bid.date_time.cast_signed(),
            Event::Person(_) | Event::Auction(_) => self.date_time_of_rare_kinds(),
        }
    }

    /// Apart, so that for bids (23 of 25 events) the processor can read the time before it knows
    /// the kind: a branch it predicts, where a choice of addresses would have to wait.
    #[cold]
    fn date_time_of_rare_kinds(&self) -> i64 {
        match self {
            Event::Person(person) => person.date_time.cast_signed(),
            Event::Auction(auction) => auction.date_time.cast_signed(),
            Event::Bid(bid) => bid.date_time.cast_signed(),
        }
    }

    /// The bid, if the event is one.
    #[inline]
    pub(crate) fn as_bid(&self) -> Option<&Bid> {
        match self {
            Event::Bid(bid) => Some(bid),
            Event::Person(_) | Event::Auction(_) => None,
        }
    }

    /// The auction, if the event is one.
    #[inline]
    pub(crate) fn as_auction(&self) -> Option<&Auction> {
        match self {
            Event::Auction(auction) => Some(auction),
            Event::Person(_) | Event::Bid(_) => None,
        }
    }

    /// The person, if the event is one.
    #[inline]
    pub(crate) fn as_person(&self) -> Option<&Person> {
        match self {
            Event::Person(person) => Some(person),
            Event::Auction(_) | Event::Bid(_) => None,
        }
    }
}
