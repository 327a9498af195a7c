//! The jobs over windows of event time: q5, q7, wc.

use serde::{Deserialize, Serialize};
use thalweg::engine::time::millis;
use thalweg::{Count, Sliding, Stream, Tumbling};

use super::greatest::Greatest;
use crate::event::Bid;
use crate::output::Output;
use crate::query::{SLIDE_MS, WINDOW_MS};
use crate::record::BidRecord;
use crate::rows::{BidderCount, HighestBid, MostBids};

/// The auctions with the most bids of every window.
///
/// The results of a window carry its last millisecond as their time, and one window ends every
/// slide. So windows as long as the slide, aligned as the others are, hold the results of exactly
/// one window each; the end of that window is their end, and their key, so that one subtask need
/// not choose for all of them.
pub(super) fn q5<B: BidRecord>(bids: &Stream<B>, output: &Output) {
    let (size, slide) = (millis(WINDOW_MS.unsigned_abs()), millis(SLIDE_MS.unsigned_abs()));
    let most = bids
        .map(|bid| bid.borrow().auction)
        .key_by(|auction| *auction)
        .window(Sliding::of(size, slide))
        .aggregate("bids-per-auction", Count)
        .results()
        .map(|result| MostBids {
            window_start: result.window.start.millis(),
            window_end: result.window.end.millis(),
            auction: result.key,
            count: result.value,
        })
        .key_by(|row| row.window_end)
        .window(Tumbling::of(slide))
        .aggregate("most-bids", Greatest::by(|row: &MostBids| row.count))
        .results()
        .flat_map(|most| most.value);
    output.rows(&most);
}

/// The highest bids of every window.
pub(super) fn q7<B: BidRecord>(bids: &Stream<B>, output: &Output) {
    let highest = bids
        .map(|bid| Offer::of(bid.borrow()))
        .key_by(|_| ())
        .window(Tumbling::of(millis(WINDOW_MS.unsigned_abs())))
        .aggregate("highest-bids", Greatest::by(|offer: &Offer| offer.price))
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
pub(super) fn wc<B: BidRecord>(bids: &Stream<B>, output: &Output) {
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
