//! The queries as jobs: one function each, from the stream of events to its results.
//!
//! Event time is assigned to the whole stream right behind the source; the queries filter after
//! it, so that a watermark does not depend on what a query looks at. What crosses an exchange is
//! cut down to the columns that the query needs first.

use serde::{Deserialize, Serialize};
use thalweg::connectors::memory;
use thalweg::engine::time::millis;
use thalweg::{Aggregate, Count, Job, Stream, Tumbling, Watermarks};

use crate::event::{Bid, Event};
use crate::output::Output;
use crate::query::{AUCTION_DIVISOR, Query, WINDOW_MS};
use crate::record::{BidRecord, EventRecord};
use crate::rows::{AuctionCount, AuctionPrice, BidderCount, HighestBid, RunningCount};

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
}

/// Adds `query` over `input` to a job.
pub(crate) fn build(job: &Job, query: Query, input: Input, output: &Output) {
    let watermarks = Watermarks::bounded_out_of_orderness(millis(input.bound_ms));
    let events = job.source("events", memory::from_static(input.events).splits(input.splits));
    if input.is_owned {
        let owned = events.map(Event::clone).event_time(Event::date_time, watermarks);
        answer(query, &owned, output);
    } else {
        answer(query, &events.event_time(|event| event.date_time(), watermarks), output);
    }
}

fn answer<E: EventRecord>(query: Query, events: &Stream<E>, output: &Output) {
    let bids = events.filter_map(E::into_bid);
    match query {
        Query::Q0 => q0(&bids, output),
        Query::Q1 => q1(&bids, output),
        Query::Q2 => q2(&bids, output),
        Query::Q7 => q7(&bids, output),
        Query::Wc => wc(&bids, output),
        Query::State => state(&bids, output),
    }
}

/// Every bid.
fn q0<B: BidRecord>(bids: &Stream<B>, output: &Output) {
    output.rows(bids);
}

/// Every bid with its price converted.
fn q1<B: BidRecord>(bids: &Stream<B>, output: &Output) {
    output.rows(&bids.map(B::into_converted));
}

/// The bids of some auctions.
fn q2<B: BidRecord>(bids: &Stream<B>, output: &Output) {
    let prices = bids
        .map(|bid| AuctionPrice::of(bid.borrow()))
        .filter(|bid| bid.auction.is_multiple_of(AUCTION_DIVISOR));
    output.rows(&prices);
}

/// The highest bids of every window.
fn q7<B: BidRecord>(bids: &Stream<B>, output: &Output) {
    let highest = bids
        .map(|bid| Offer::of(bid.borrow()))
        .key_by(|_| ())
        .window(Tumbling::of(millis(WINDOW_MS.unsigned_abs())))
        .aggregate("highest-bids", Highest)
        .results()
        .flat_map(|highest| {
            let (window_start, window_end) =
                (highest.window.start.millis(), highest.window.end.millis());
            highest.value.into_iter().map(move |offer| {
                let Offer { auction, bidder, price, date_time } = offer;
                HighestBid { window_start, window_end, auction, bidder, price, date_time }
            })
        });
    output.rows(&highest);
}

/// Bids per bidder and window.
fn wc<B: BidRecord>(bids: &Stream<B>, output: &Output) {
    let counts = bids
        .map(|bid| bid.borrow().bidder)
        .key_by(|bidder| *bidder)
        .window(Tumbling::of(millis(WINDOW_MS.unsigned_abs())))
        .aggregate("bids-per-bidder", Count)
        .results()
        .map(|result| BidderCount {
            bidder: result.key,
            window_start: result.window.start.millis(),
            window_end: result.window.end.millis(),
            count: result.value,
        });
    output.rows(&counts);
}

/// Bids per auction so far.
fn state<B: BidRecord>(bids: &Stream<B>, output: &Output) {
    let counts = bids
        .map(|bid| bid.borrow().auction)
        .key_by(|auction| *auction)
        .aggregate("bids-per-auction", Count)
        .map(|count| RunningCount(AuctionCount { auction: count.key, count: count.value }));
    output.rows(&counts);
}

/// The columns of a bid that q7 needs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Offer {
    auction: u64,
    bidder: u64,
    price: u64,
    date_time: u64,
}

impl Offer {
    #[inline]
    fn of(bid: &Bid) -> Self {
        let Bid { auction, bidder, price, date_time, .. } = *bid;
        Offer { auction, bidder, price, date_time }
    }
}

/// Keeps all offers of the greatest price.
struct Highest;

impl Aggregate<Offer> for Highest {
    type Accumulator = Vec<Offer>;
    type Out = Vec<Offer>;

    fn create(&self) -> Vec<Offer> {
        Vec::new()
    }

    #[inline]
    fn add(&self, highest: &mut Vec<Offer>, offer: &Offer) {
        let price = highest.first().map_or(0, |first| first.price);
        if offer.price > price {
            highest.clear();
        }
        if offer.price >= price {
            highest.push(*offer);
        }
    }

    fn merge(&self, highest: &mut Vec<Offer>, other: &Vec<Offer>) {
        for offer in other {
            self.add(highest, offer);
        }
    }

    fn finish(&self, highest: &Vec<Offer>) -> Vec<Offer> {
        highest.clone()
    }
}
