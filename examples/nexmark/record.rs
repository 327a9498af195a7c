//! Events as a job passes them: by reference to the input in memory, or owned.
//!
//! Every job is written once, for both. By reference is how records that stay in memory are
//! passed; owned is what a job would do that had just decoded them.

use std::borrow::Borrow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg::Stream;
use thalweg::engine::Element;

use crate::canonical::Row;
use crate::event::{Auction, Bid, Event, Person};
use crate::rows::ConvertedBid;

mod kept;

pub(crate) use kept::{KeptBid, KeptText};

/// An event that a job passes.
pub(crate) trait EventRecord: Element + Borrow<Event> {
    /// A bid passed in the same way.
    type Bid: BidRecord;

    /// The stream of a source, with its records passed in this way.
    fn passed(events: &Stream<&'static Event>) -> Stream<Self>;

    /// The same of a source that gives positions.
    fn passed_with_positions(events: &Stream<(u64, &'static Event)>) -> Stream<(u64, Self)>;

    /// The bid, if the event is one.
    fn into_bid(self) -> Option<Self::Bid>;

    /// What queries look at of the person, if the event is one.
    fn into_seller(self) -> Option<Seller>;
}

/// A bid that a job passes.
pub(crate) trait BidRecord: Element + Borrow<Bid> + Row {
    /// Its text.
    type Text: Element + AsRef<str>;

    /// The bid in the other currency, with the text it had.
    fn into_converted(self) -> ConvertedBid<Self::Text>;

    /// The bid in a form that state takes.
    fn into_kept(self) -> KeptBid;
}

/// The columns of a person that queries look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Seller {
    /// The person.
    pub(crate) id: u64,
    /// The person's name.
    pub(crate) name: KeptText,
    /// Where the person lives.
    pub(crate) city: KeptText,
    /// Where the city is.
    pub(crate) state: KeptText,
}

/// The columns of an auction that queries look at: all of its numbers but the prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offered {
    /// The auction.
    pub(crate) id: u64,
    /// A person.
    pub(crate) seller: u64,
    /// The category.
    pub(crate) category: u64,
    /// When it begins.
    pub(crate) date_time: u64,
    /// The last time at which a bid is valid.
    pub(crate) expires: u64,
}

impl Offered {
    /// The columns of `auction`.
    #[inline]
    pub(crate) fn of(auction: &Auction) -> Self {
        let Auction { id, seller, category, date_time, expires, .. } = *auction;
        Offered { id, seller, category, date_time, expires }
    }
}

/// The columns of a bid that queries look at: all of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// The auction.
    pub(crate) auction: u64,
    /// Who bids.
    pub(crate) bidder: u64,
    /// The price.
    pub(crate) price: u64,
    /// When.
    pub(crate) date_time: u64,
}

impl Offer {
    /// The columns of `bid`.
    #[inline]
    pub(crate) fn of(bid: &Bid) -> Self {
        let Bid { auction, bidder, price, date_time, .. } = *bid;
        Offer { auction, bidder, price, date_time }
    }
}

/// A bid and its position in the stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlacedBid {
    /// Its position.
    pub(crate) position: u64,
    /// The bid.
    pub(crate) bid: KeptBid,
}

impl EventRecord for &'static Event {
    type Bid = &'static Bid;

    fn passed(events: &Stream<&'static Event>) -> Stream<Self> {
        events.clone()
    }

    fn passed_with_positions(events: &Stream<(u64, &'static Event)>) -> Stream<(u64, Self)> {
        events.clone()
    }

    #[inline]
    fn into_bid(self) -> Option<&'static Bid> {
        self.as_bid()
    }

    fn into_seller(self) -> Option<Seller> {
        let Event::Person(Person { id, name, city, state, .. }) = self else { return None };
        let [name, city, state] = [name, city, state].map(|text| KeptText::Static(text));
        Some(Seller { id: *id, name, city, state })
    }
}

impl BidRecord for &'static Bid {
    type Text = &'static str;

    #[inline]
    fn into_converted(self) -> ConvertedBid<&'static str> {
        ConvertedBid::of(self)
    }

    #[inline]
    fn into_kept(self) -> KeptBid {
        KeptBid::Static(self)
    }
}

impl EventRecord for Event {
    type Bid = Bid;

    fn passed(events: &Stream<&'static Event>) -> Stream<Self> {
        events.map(Event::clone)
    }

    fn passed_with_positions(events: &Stream<(u64, &'static Event)>) -> Stream<(u64, Self)> {
        events.map(|(position, event)| (position, event.clone()))
    }

    #[inline]
    fn into_bid(self) -> Option<Bid> {
        match self {
            Event::Bid(bid) => Some(bid),
            Event::Person(_) | Event::Auction(_) => None,
        }
    }

    fn into_seller(self) -> Option<Seller> {
        let Event::Person(Person { id, name, city, state, .. }) = self else { return None };
        let [name, city, state] = [name, city, state].map(|text| KeptText::Owned(text.into()));
        Some(Seller { id, name, city, state })
    }
}

impl BidRecord for Bid {
    type Text = String;

    #[inline]
    fn into_converted(self) -> ConvertedBid<String> {
        let ConvertedBid { auction, bidder, price, date_time, .. } = ConvertedBid::of(&self);
        ConvertedBid { auction, bidder, price, date_time, extra: self.extra }
    }

    #[inline]
    fn into_kept(self) -> KeptBid {
        KeptBid::Owned(Arc::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::{EventRecord as _, Offered};
    use crate::event::Event;
    use crate::generate::tests::generated;

    #[test]
    fn columns_are_the_same_by_reference_and_owned() {
        let events: &'static [Event] = generated(500, 1_000, 1).leak();
        let (mut sellers, mut auctions) = (0, 0);
        for event in events {
            let (borrowed, owned) = (event.into_seller(), event.clone().into_seller());
            assert_eq!(borrowed.is_some(), matches!(event, Event::Person(_)));
            if let (Some(borrowed), Some(owned)) = (borrowed, owned) {
                assert_eq!(
                    format!("{:?}", borrowed.name),
                    format!("Static({:?})", owned.name.as_ref())
                );
                assert_eq!(borrowed.id, owned.id);
                assert_eq!(borrowed.city.as_ref(), owned.city.as_ref());
                assert_eq!(borrowed.state.as_ref(), owned.state.as_ref());
                sellers += 1;
            }
            if let Some(auction) = event.as_auction() {
                let Offered { id, seller, category, date_time, expires } = Offered::of(auction);
                assert_eq!([id, seller, category], [auction.id, auction.seller, auction.category]);
                assert_eq!([date_time, expires], [auction.date_time, auction.expires]);
                auctions += 1;
            }
        }
        assert_eq!([sellers, auctions], [10, 30]);
    }
}
