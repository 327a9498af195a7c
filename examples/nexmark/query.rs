//! The queries by name, and the constants and arithmetic that are part of their definition.

use clap::ValueEnum;

/// The size of the windows of q5, q7, q8 and wc, in milliseconds.
pub(crate) const WINDOW_MS: i64 = 10_000;

/// The distance between the starts of two windows of q5, in milliseconds.
pub(crate) const SLIDE_MS: i64 = 2_000;

/// A session of q11 ends when its bidder has been silent for so long, in milliseconds.
pub(crate) const SESSION_GAP_MS: i64 = 10_000;

/// q2 keeps the bids of auctions whose id this divides.
pub(crate) const AUCTION_DIVISOR: u64 = 123;

/// q3 looks at the persons of these states.
pub(crate) const STATES: [&str; 3] = ["or", "id", "ca"];

/// q3 looks at the auctions of this category.
pub(crate) const CATEGORY: u64 = 10;

/// q19 ranks so many bids of each auction.
pub(crate) const RANKS: usize = 10;

/// A query of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Query {
    /// Every bid.
    Q0,
    /// Every bid, its price converted at 908 / 1000.
    Q1,
    /// The bids whose auction is divisible by 123.
    Q2,
    /// Who sells in one category, in three states.
    Q3,
    /// The mean of what auctions fetch, per category.
    Q4,
    /// The auctions with the most bids of every 10 s, every 2 s, all ties.
    Q5,
    /// The highest bids of every 10 s, all ties.
    Q7,
    /// Who registers and offers something within the same 10 s.
    Q8,
    /// Bids per bidder and session, which ends after 10 s of silence.
    Q11,
    /// The last bid of each bidder in each auction.
    Q18,
    /// The ten highest bids of each auction.
    Q19,
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
            Query::Q3 => "q3",
            Query::Q4 => "q4",
            Query::Q5 => "q5",
            Query::Q7 => "q7",
            Query::Q8 => "q8",
            Query::Q11 => "q11",
            Query::Q18 => "q18",
            Query::Q19 => "q19",
            Query::Wc => "wc",
            Query::State => "state",
        }
    }

    /// How many columns at the beginning of a row are its key, where a later row replaces the
    /// earlier one of its key until the input ends; none where every row stays.
    pub(crate) fn replaced_by_columns(self) -> Option<usize> {
        match self {
            Query::State | Query::Q4 => Some(1),
            Query::Q18 | Query::Q19 => Some(2),
            Query::Q0 | Query::Q1 | Query::Q2 | Query::Q3 => None,
            Query::Q5 | Query::Q7 | Query::Q8 | Query::Q11 | Query::Wc => None,
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
        let expected =
            ["q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q11", "q18", "q19", "wc", "state"];
        assert_eq!(names, expected);
        let own_names = Query::value_variants().iter().map(|query| query.name());
        assert!(own_names.eq(names));
    }
}
