//! The queries as jobs: one function each, from the columns that it needs to its results.
//!
//! Event time is assigned to the whole stream right behind the source, so that a watermark does
//! not depend on what a query looks at. The next step cuts events down to the columns of the
//! query: less crosses an exchange, and what follows is compiled once, whatever way events are
//! passed.

use thalweg::connectors::memory;
use thalweg::connectors::rate::limit_source;
use thalweg::engine::Element;
use thalweg::engine::time::millis;
use thalweg::{Either, Job, Stream, Watermarks};

use crate::event::{Bid, Event};
use crate::output::Output;
use crate::query::{AUCTION_DIVISOR, Query};
use crate::record::{BidRecord as _, EventRecord, Offer, Offered, PlacedBid, Seller};
use crate::rows::{AuctionPrice, Candidate};

mod greatest;
mod maxima;
mod sellers;
mod tables;
mod windowed;

/// What a job reads, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input {
    /// The events, in the order of the stream.
    pub(crate) events: &'static [Event],
    /// The event at position i goes to split i mod `splits`.
    pub(crate) splits: usize,
    /// How far behind the greatest time of its split an event may be, in milliseconds.
    pub(crate) bound_ms: u64,
    /// Whether events are cloned behind the source, and passed owned.
    pub(crate) is_owned: bool,
    /// How many events may be read per second.
    pub(crate) events_per_second: Option<u64>,
}

/// Adds `query` over `input` to a job.
pub(crate) fn build(job: &Job, query: Query, input: Input, output: &Output) {
    let events = Events { job, input };
    if input.is_owned {
        answer::<Event>(events, query, output);
    } else {
        answer::<&'static Event>(events, query, output);
    }
}

fn answer<E: EventRecord>(events: Events<'_>, query: Query, output: &Output) {
    match query {
        Query::Q0 => output.rows(&events.timed::<E>().filter_map(E::into_bid)),
        Query::Q1 => {
            let bids = events.timed::<E>().filter_map(E::into_bid);
            output.rows(&bids.map(|bid| bid.into_converted()));
        }
        Query::Q2 => {
            let prices = events.bids::<E, _>(AuctionPrice::of);
            output.rows(&prices.filter(|bid| bid.auction.is_multiple_of(AUCTION_DIVISOR)));
        }
        Query::Q3 => sellers::q3(&events.sellers_and_auctions::<E>(), output),
        Query::Q4 => maxima::q4(&events.auctions_and_offers::<E>(), output),
        Query::Q5 => windowed::q5(&events.bids::<E, _>(auction), output),
        Query::Q7 => windowed::q7(&events.bids::<E, _>(Offer::of), output),
        Query::Q8 => sellers::q8(&events.sellers_and_auctions::<E>(), output),
        Query::Q11 => windowed::q11(&events.bids::<E, _>(bidder), output),
        Query::Q18 => tables::q18(&events.placed_bids::<E>(), output),
        Query::Q19 => tables::q19(&events.candidates::<E>(), output),
        Query::Wc => windowed::wc(&events.bids::<E, _>(bidder), output),
        Query::State => tables::state(&events.bids::<E, _>(auction), output),
    }
}

// Named, so that queries that look at the same column share what is compiled for it.

#[inline]
fn auction(bid: &Bid) -> u64 {
    bid.auction
}

#[inline]
fn bidder(bid: &Bid) -> u64 {
    bid.bidder
}

/// The source of a job.
#[derive(Clone, Copy)]
struct Events<'a> {
    job: &'a Job,
    input: Input,
}

impl Events<'_> {
    fn watermarks(&self) -> Watermarks {
        Watermarks::bounded_out_of_orderness(millis(self.input.bound_ms))
    }

    /// The events with their times.
    fn timed<E: EventRecord>(&self) -> Stream<E> {
        let source = memory::from_static(self.input.events).splits(self.input.splits);
        let events = match self.input.events_per_second {
            None => self.job.source("events", source),
            Some(rate) => self.job.source("events", source.records_per_second(rate)),
        };
        E::passed(&events).event_time(|event| event.borrow().date_time(), self.watermarks())
    }

    /// The same with their positions in the stream, for queries in which it decides between equal
    /// bids.
    fn timed_with_positions<E: EventRecord>(&self) -> Stream<(u64, E)> {
        let source = memory::from_static(self.input.events).splits(self.input.splits).enumerated();
        let events = match self.input.events_per_second {
            None => self.job.source("events", source),
            Some(rate) => self.job.source("events", limit_source(source, rate)),
        };
        E::passed_with_positions(&events)
            .event_time(|(_, event)| event.borrow().date_time(), self.watermarks())
    }

    /// Columns of the bids.
    fn bids<E: EventRecord, T: Element>(
        &self,
        columns: impl Fn(&Bid) -> T + Send + Sync + 'static,
    ) -> Stream<T> {
        self.timed::<E>().filter_map(move |event| event.borrow().as_bid().map(&columns))
    }

    /// The bids and their positions.
    fn placed_bids<E: EventRecord>(&self) -> Stream<PlacedBid> {
        self.timed_with_positions::<E>().filter_map(|(position, event)| {
            Some(PlacedBid { position, bid: event.into_bid()?.into_kept() })
        })
    }

    /// The bids as they are ranked, with their auctions.
    fn candidates<E: EventRecord>(&self) -> Stream<(u64, Candidate)> {
        self.timed_with_positions::<E>().filter_map(|(position, event)| {
            let Bid { auction, bidder, price, date_time, .. } = *event.borrow().as_bid()?;
            Some((auction, Candidate { position, bidder, price, date_time }))
        })
    }

    /// The persons and the auctions.
    fn sellers_and_auctions<E: EventRecord>(&self) -> (Stream<Seller>, Stream<Offered>) {
        self.timed::<E>()
            .filter_map(|event| match event.borrow() {
                Event::Auction(auction) => Some(Either::Right(Offered::of(auction))),
                Event::Person(_) => event.into_seller().map(Either::Left),
                Event::Bid(_) => None,
            })
            .side_output(|event| event)
    }

    /// The auctions and the bids.
    fn auctions_and_offers<E: EventRecord>(&self) -> (Stream<Offered>, Stream<Offer>) {
        self.timed::<E>()
            .filter_map(|event| match event.borrow() {
                Event::Auction(auction) => Some(Either::Left(Offered::of(auction))),
                Event::Bid(bid) => Some(Either::Right(Offer::of(bid))),
                Event::Person(_) => None,
            })
            .side_output(|event| event)
    }
}
