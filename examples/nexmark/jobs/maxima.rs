//! The job over the greatest prices of auctions: q4.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use thalweg::engine::Result;
use thalweg::{Aggregate, CoProcessFunction, Keyed, ProcessContext, Stream};

use crate::output::Output;
use crate::record::{Offer, Offered};
use crate::rows::CategoryMean;

/// What the auctions of each category fetch, in sum and on average.
pub(super) fn q4((auctions, bids): &(Stream<Offered>, Stream<Offer>), output: &Output) {
    let means = auctions
        .key_by(|auction| auction.id)
        .connect(&bids.key_by(|bid| bid.auction))
        .process("greatest-prices", GreatestPrice)
        .results()
        .key_by(|raised| raised.category)
        .aggregate_as_changes("category-means", Fetched)
        .map(|change| {
            change.map(|Keyed { key: category, value: (sum, auctions) }| CategoryMean {
                category,
                sum,
                auctions,
            })
        });
    output.changes(&means);
}

/// The greatest price of an auction has become another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Raised {
    category: u64,
    /// The greatest price before; `None` if there was no bid.
    replaced: Option<u64>,
    price: u64,
}

/// Tells whenever the greatest price of an auction changes, of the bids made while it was open.
struct GreatestPrice;

/// What is known of an auction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct AuctionState {
    /// Its category and when it is open, once it has come.
    opened: Option<(u64, RangeInclusive<u64>)>,
    /// The greatest price so far.
    greatest: Option<u64>,
    /// The greatest price at each time, of the bids that have come before their auction.
    early: BTreeMap<u64, u64>,
}

type Context<'a> = ProcessContext<'a, u64, AuctionState, Raised>;

impl CoProcessFunction<u64, Offered, Offer> for GreatestPrice {
    type State = AuctionState;
    type Out = Raised;

    fn on_left(&self, auction: Offered, context: &mut Context<'_>) -> Result<()> {
        let open = auction.date_time..=auction.expires;
        let early = std::mem::take(&mut context.state.early);
        let valid = early.iter().filter(|(time, _)| open.contains(time));
        let greatest = valid.map(|(_, &price)| price).max();
        context.state.opened = Some((auction.category, open));
        raise(greatest, context);
        Ok(())
    }

    #[inline]
    fn on_right(&self, bid: Offer, context: &mut Context<'_>) -> Result<()> {
        match &context.state.opened {
            Some((_, open)) => {
                let price = open.contains(&bid.date_time).then_some(bid.price);
                raise(price, context);
            }
            None => {
                let greatest = context.state.early.entry(bid.date_time).or_default();
                *greatest = bid.price.max(*greatest);
            }
        }
        Ok(())
    }
}

/// Takes `price` for the greatest one if it is.
#[inline]
fn raise(price: Option<u64>, context: &mut Context<'_>) {
    let AuctionState { opened: Some((category, _)), greatest, .. } = context.state else { return };
    // No price is less than any.
    if let (Some(price), true) = (price, price > *greatest) {
        let raised = Raised { category: *category, replaced: greatest.replace(price), price };
        context.emit(raised);
    }
}

/// Sums up the greatest prices of auctions, and counts the auctions.
struct Fetched;

impl Aggregate<Raised> for Fetched {
    type Accumulator = (u128, u64);
    type Out = (u128, u64);

    fn create(&self) -> (u128, u64) {
        (0, 0)
    }

    #[inline]
    fn add(&self, (sum, auctions): &mut (u128, u64), raised: &Raised) {
        // A price only ever takes the place of a lower one.
        *sum += u128::from(raised.price - raised.replaced.unwrap_or(0));
        *auctions += u64::from(raised.replaced.is_none());
    }

    fn merge(&self, (sum, auctions): &mut (u128, u64), other: &(u128, u64)) {
        *sum += other.0;
        *auctions += other.1;
    }

    fn finish(&self, fetched: &(u128, u64)) -> (u128, u64) {
        *fetched
    }
}

#[cfg(test)]
mod tests {
    use super::{Fetched, Raised};
    use thalweg::Aggregate as _;

    #[test]
    fn a_raise_takes_the_place_of_the_price_before() {
        let raised = |replaced, price| Raised { category: 10, replaced, price };
        let sum = |raises: &[Raised]| {
            let mut fetched = Fetched.create();
            raises.iter().for_each(|raised| Fetched.add(&mut fetched, raised));
            fetched
        };
        let (first, second) = ([raised(None, 7), raised(Some(7), 9)], [raised(None, 0)]);
        assert_eq!(sum(&first), (9, 1));
        let mut both = sum(&first);
        Fetched.merge(&mut both, &sum(&second));
        assert_eq!((both, both), (Fetched.finish(&both), (9, 2)));
    }
}
