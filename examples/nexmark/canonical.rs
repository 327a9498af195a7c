//! Result rows as canonical CSV lines, and as a digest that does not depend on their order.
//!
//! Lines are compared byte for byte with expected results; they cost an allocation and a sort.
//! A [`Digest`] costs a few multiplications per row, so that a benchmark's sink can afford it, and
//! shows whether two runs gave the same rows.

use std::fmt;
use std::io::{self, Write};

/// A row of a query's result.
pub(crate) trait Row {
    /// A hash of the row's columns, without its line. See [`mix`].
    fn digest(&self) -> u64;

    /// Appends the row's canonical line to `line`, without the `\n`.
    fn line(&self, line: &mut String);
}

impl<R: Row + ?Sized> Row for &R {
    #[inline]
    fn digest(&self) -> u64 {
        (**self).digest()
    }

    fn line(&self, line: &mut String) {
        (**self).line(line);
    }
}

/// The digest of a bag of rows: the wrapping sum of its rows' digests.
///
/// A sum counts duplicates (an exclusive or would cancel them) and can be taken in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    /// Adds a row.
    #[inline]
    pub(crate) fn add(&mut self, row: &impl Row) {
        self.0 = self.0.wrapping_add(row.digest());
    }

    /// The digest of all `rows`.
    pub(crate) fn of<R: Row>(rows: impl IntoIterator<Item = R>) -> Self {
        let mut digest = Digest::default();
        for row in rows {
            digest.add(&row);
        }
        digest
    }

    /// The digest whose [`sum`](Digest::sum) this is.
    pub(crate) fn from_sum(sum: u64) -> Self {
        Digest(sum)
    }

    /// The sum: digests of parts are added, wrapping around.
    pub(crate) fn sum(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Odd factors, one per column: the first outputs of SplitMix64 from seed 0, made odd.
const FACTORS: [u64; 8] = [
    0xe220_a839_7b1d_cdaf,
    0x6e78_9e6a_a1b9_65f5,
    0x06c4_5d18_8009_454f,
    0xf88b_b8a8_724c_81ed,
    0x1b39_896a_51a8_749b,
    0x53cb_9f0c_747e_a2eb,
    0x2c82_9abe_1f45_32e1,
    0xc584_133a_c916_ab3d,
];

/// A hash of at most eight `columns`.
///
/// The columns are summed with a factor each and the sum is folded by a 64 × 64 → 128 bit
/// multiplication (as in wyhash), which is not linear: exchanging columns between rows changes the
/// sum of their hashes. Of a text column give the length: a row's text is not in its memory, and
/// reading it would cost more than the query. Texts that differ in content alone are told apart
/// by the lines only.
#[inline]
pub(crate) fn mix<const N: usize>(columns: [u64; N]) -> u64 {
    const { assert!(N <= FACTORS.len()) };
    let mut sum = 0x9e37_79b9_7f4a_7c15_u64;
    for (column, factor) in columns.iter().zip(FACTORS) {
        sum = sum.wrapping_add(column.wrapping_mul(factor));
    }
    let product = u128::from(sum) * u128::from(FACTORS[0]);
    let [low, high] = [product, product >> 64].map(|half| (half & u128::from(u64::MAX)) as u64);
    low ^ high
}

/// The canonical lines of `rows`: sorted bytewise, duplicates kept, without `\n`.
pub(crate) fn sorted_lines<R: Row>(rows: impl IntoIterator<Item = R>) -> Vec<String> {
    let mut lines: Vec<String> = rows
        .into_iter()
        .map(|row| {
            let mut line = String::new();
            row.line(&mut line);
            line
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// Writes `lines` as a canonical CSV file, `\n` after every line.
///
/// # Errors
/// Those of `to`.
pub(crate) fn write_lines(lines: &[String], mut to: impl Write) -> io::Result<()> {
    for line in lines {
        to.write_all(line.as_bytes())?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::{Digest, mix, sorted_lines, write_lines};
    use crate::rows::{AuctionCount, AuctionPrice};

    fn price(auction: u64, price: u64) -> AuctionPrice {
        AuctionPrice { auction, price }
    }

    #[test]
    fn lines_are_sorted_as_bytes_and_duplicates_stay() {
        let rows = [price(9, 1), price(10, 2), price(10, 2), price(1, 7)];
        assert_eq!(sorted_lines(rows), ["1,7", "10,2", "10,2", "9,1"]);
    }

    #[test]
    fn every_line_ends() {
        let mut file = Vec::new();
        write_lines(&["1,7".to_owned(), "9,1".to_owned()], &mut file).expect("memory takes it");
        assert_eq!(file, b"1,7\n9,1\n");
    }

    #[test]
    fn a_digest_is_of_the_bag_of_rows() {
        let rows = [price(1, 2), price(3, 4), price(3, 4)];
        let whole = Digest::of(rows);
        assert_eq!(whole, Digest::of(rows.iter().rev()), "order does not matter");
        let parts = [&rows[..1], &rows[1..]].map(|part| Digest::of(part).sum());
        assert_eq!(whole, Digest::from_sum(parts[0].wrapping_add(parts[1])), "nor do parts");
        assert_ne!(Digest::of(&rows[1..]), Digest::default(), "duplicates do not cancel out");
        assert_ne!(whole, Digest::of([price(3, 2), price(1, 4), price(3, 4)]), "columns exchanged");
        assert_ne!(whole, Digest::of([price(2, 1), price(3, 4), price(3, 4)]), "columns swapped");
        assert_eq!(Digest::of(Vec::<AuctionCount>::new()).to_string(), "0000000000000000");
    }

    #[test]
    fn every_column_counts() {
        let columns = [7, 7, 7, 7, 7, 7, 7, 7];
        for position in 0..columns.len() {
            let mut other = columns;
            other[position] += 1;
            assert_ne!(mix(columns), mix(other), "column {position}");
        }
    }
}
