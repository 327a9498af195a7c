//! The queries as jobs: one function each, from the stream of events to its results.
//!
//! Event time is assigned to the whole stream right behind the source; the queries filter after
//! it, so that a watermark does not depend on what a query looks at. What crosses an exchange is
//! cut down to the columns that the query needs first.

use thalweg::connectors::memory;
use thalweg::engine::time::millis;
use thalweg::{Error, Job, Result, Stream, Watermarks};

use crate::event::Event;
use crate::output::Output;
use crate::query::{AUCTION_DIVISOR, Query};
use crate::record::{BidRecord, EventRecord};
use crate::rows::AuctionPrice;

mod greatest;
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
}

/// Adds `query` over `input` to a job.
///
/// # Errors
/// The query has no job yet.
pub(crate) fn build(job: &Job, query: Query, input: Input, output: &Output) -> Result<()> {
    if input.is_owned {
        answer::<Event>(job, query, input, output)
    } else {
        answer::<&'static Event>(job, query, input, output)
    }
}

fn answer<E: EventRecord>(job: &Job, query: Query, input: Input, output: &Output) -> Result<()> {
    let bids = || events::<E>(job, input).filter_map(E::into_bid);
    match query {
        Query::Q0 => q0(&bids(), output),
        Query::Q1 => q1(&bids(), output),
        Query::Q2 => q2(&bids(), output),
        Query::Q5 => windowed::q5(&bids(), output),
        Query::Q7 => windowed::q7(&bids(), output),
        Query::Wc => windowed::wc(&bids(), output),
        Query::State => tables::state(&bids(), output),
        Query::Q18 => tables::q18(&bids_with_positions::<E>(job, input), output),
        Query::Q19 => tables::q19(&bids_with_positions::<E>(job, input), output),
        Query::Q3 | Query::Q4 | Query::Q8 | Query::Q11 => {
            let name = query.name();
            return Err(Error::config(format!("{name} is answered by --oracle only")));
        }
    }
    Ok(())
}

/// Whether `query` has a job.
#[cfg(test)]
pub(crate) fn can_build(query: Query) -> bool {
    !matches!(query, Query::Q3 | Query::Q4 | Query::Q8 | Query::Q11)
}

fn watermarks(input: Input) -> Watermarks {
    Watermarks::bounded_out_of_orderness(millis(input.bound_ms))
}

/// The events with their times.
fn events<E: EventRecord>(job: &Job, input: Input) -> Stream<E> {
    let source = memory::from_static(input.events).splits(input.splits);
    let events = E::passed(&job.source("events", source));
    events.event_time(|event| event.borrow().date_time(), watermarks(input))
}

/// The bids with their times and their positions in the stream, for queries in which it decides
/// between equal bids.
fn bids_with_positions<E: EventRecord>(job: &Job, input: Input) -> Stream<(u64, E::Bid)> {
    let source = memory::from_static(input.events).splits(input.splits).enumerated();
    E::passed_with_positions(&job.source("events", source))
        .event_time(|(_, event)| event.borrow().date_time(), watermarks(input))
        .filter_map(|(position, event)| Some((position, event.into_bid()?)))
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
