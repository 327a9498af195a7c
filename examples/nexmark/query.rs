//! The queries by name, and the constants and arithmetic that are part of their definition.

use clap::ValueEnum;

/// The size of the tumbling windows of q7 and wc, in milliseconds.
pub(crate) const WINDOW_MS: i64 = 10_000;

/// q2 keeps the bids of auctions whose id this divides.
pub(crate) const AUCTION_DIVISOR: u64 = 123;

/// A query of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Query {
    /// Every bid.
    Q0,
    /// Every bid, its price converted at 908 / 1000.
    Q1,
    /// The bids whose auction is divisible by 123.
    Q2,
    /// The highest bids of every 10 s, all ties.
    Q7,
    /// Bids per bidder in every 10 s.
    Wc,
    /// Bids per auction, a running count.
    State,
}

impl Query {
    /// The name of the query in the benchmark.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Query::Q0 => "q0",
            Query::Q1 => "q1",
            Query::Q2 => "q2",
            Query::Q7 => "q7",
            Query::Wc => "wc",
            Query::State => "state",
        }
    }
}

/// `price` × 908 / 1000, truncated; exact for every price.
///
/// Whole thousands and the rest are converted apart, so that nothing overflows:
/// ⌊(1000 a + b) × 908 / 1000⌋ = 908 a + ⌊908 b / 1000⌋.
#[inline]
pub(crate) fn converted(price: u64) -> u64 {
    price / 1_000 * 908 + price % 1_000 * 908 / 1_000
}

#[cfg(test)]
mod tests {
    use super::{Query, converted};
    use clap::ValueEnum as _;

    #[test]
    fn prices_are_converted_exactly() {
        for price in (0..5_000).chain(u64::MAX / 908 - 9..u64::MAX / 908 + 9).chain([u64::MAX]) {
            let exact = u128::from(price) * 908 / 1_000;
            assert_eq!(u128::from(converted(price)), exact, "{price}");
        }
    }

    #[test]
    fn names_are_those_of_the_benchmark() {
        let names: Vec<String> = Query::value_variants()
            .iter()
            .filter_map(|query| Some(query.to_possible_value()?.get_name().to_owned()))
            .collect();
        assert_eq!(names, ["q0", "q1", "q2", "q7", "wc", "state"]);
        let own_names = Query::value_variants().iter().map(|query| query.name());
        assert!(own_names.eq(names));
    }
}
