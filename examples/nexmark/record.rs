//! Events as a job passes them: by reference to the input in memory, or owned.
//!
//! Every job is written once, for both. By reference is how records that stay in memory are
//! passed; owned is what a job would do that had just decoded them.

use std::borrow::Borrow;

use thalweg::engine::Element;

use crate::canonical::Row;
use crate::event::{Bid, Event};
use crate::rows::ConvertedBid;

/// An event that a job passes.
pub(crate) trait EventRecord: Element + Borrow<Event> {
    /// A bid passed in the same way.
    type Bid: BidRecord;

    /// The bid, if the event is one.
    fn into_bid(self) -> Option<Self::Bid>;
}

/// A bid that a job passes.
pub(crate) trait BidRecord: Element + Borrow<Bid> + Row {
    /// Its text.
    type Text: Element + AsRef<str>;

    /// The bid in the other currency, with the text it had.
    fn into_converted(self) -> ConvertedBid<Self::Text>;
}

impl EventRecord for &'static Event {
    type Bid = &'static Bid;

    #[inline]
    fn into_bid(self) -> Option<&'static Bid> {
        self.as_bid()
    }
}

impl BidRecord for &'static Bid {
    type Text = &'static str;

    #[inline]
    fn into_converted(self) -> ConvertedBid<&'static str> {
        ConvertedBid::of(self)
    }
}

impl EventRecord for Event {
    type Bid = Bid;

    #[inline]
    fn into_bid(self) -> Option<Bid> {
        match self {
            Event::Bid(bid) => Some(bid),
            Event::Person(_) | Event::Auction(_) => None,
        }
    }
}

impl BidRecord for Bid {
    type Text = String;

    #[inline]
    fn into_converted(self) -> ConvertedBid<String> {
        let ConvertedBid { auction, bidder, price, date_time, .. } = ConvertedBid::of(&self);
        ConvertedBid { auction, bidder, price, date_time, extra: self.extra }
    }
}
