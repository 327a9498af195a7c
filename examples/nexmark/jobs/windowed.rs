//! The jobs over windows of event time: q5, q7, q11, wc.

use thalweg::engine::time::millis;
use thalweg::{Count, Session, Sliding, Stream, Tumbling, WindowResult};

use super::greatest::Greatest;
use crate::output::Output;
use crate::query::{SESSION_GAP_MS, SLIDE_MS, WINDOW_MS};
use crate::record::Offer;
use crate::rows::{BidderCount, HighestBid, MostBids};

/// The auctions with the most bids of every window.
///
/// The results of a window carry its last millisecond as their time, and one window ends every
/// slide. So windows as long as the slide, aligned as the others are, hold the results of exactly
/// one window each; the end of that window is their end, and their key, so that one subtask need
/// not choose for all of them.
pub(super) fn q5(auctions: &Stream<u64>, output: &Output) {
    let (size, slide) = (millis(WINDOW_MS.unsigned_abs()), millis(SLIDE_MS.unsigned_abs()));
    let most = auctions
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
pub(super) fn q7(bids: &Stream<Offer>, output: &Output) {
    let highest = bids
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

/// Bids per bidder and session.
pub(super) fn q11(bidders: &Stream<u64>, output: &Output) {
    let sessions = bidders
        .key_by(|bidder| *bidder)
        .window(Session::with_gap(millis(SESSION_GAP_MS.unsigned_abs())))
        .aggregate("bids-per-session", Count)
        .results();
    output.rows(&sessions.map(bidder_count));
}

/// Bids per bidder and window.
pub(super) fn wc(bidders: &Stream<u64>, output: &Output) {
    let windows = bidders
        .key_by(|bidder| *bidder)
        .window(Tumbling::of(millis(WINDOW_MS.unsigned_abs())))
        .aggregate("bids-per-bidder", Count)
        .results();
    output.rows(&windows.map(bidder_count));
}

#[inline]
fn bidder_count(result: WindowResult<u64, u64>) -> BidderCount {
    BidderCount {
        bidder: result.key,
        window_start: result.window.start.millis(),
        window_end: result.window.end.millis(),
        count: result.value,
    }
}
