//! Splits of a numbered sequence: record `i` belongs to split `i mod n`; positions that know `n`.

use thalweg_engine::source::Split;
use thalweg_engine::{Error, Result, planted};

/// One split of a sequence that is dealt out to `splits` splits in turn, and how far it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Strided {
    split: u64,
    splits: u64,
    /// Records of this split that were read.
    read: u64,
}

impl Strided {
    /// The splits `0 .. splits`, named by their number.
    pub(crate) fn list(splits: u64) -> Vec<Split> {
        (0..splits).map(|i| Split::new(i.to_string())).collect()
    }

    /// The split named `split`, at its beginning or where `position` says.
    pub(crate) fn open(split: &Split, splits: u64, position: Option<&[u8]>) -> Result<Self> {
        let index = split_index(split, splits)?;
        let read = match position {
            None => 0,
            Some(bytes) => {
                let (read, of) = bytes.split_at_checked(8).ok_or_else(|| not_a_position(split))?;
                let (read, of) = (read_u64(read, split)?, read_u64(of, split)?);
                if of != splits {
                    return Err(Error::config(format!(
                        "the checkpoint was taken of a source with {of} splits and this one has \
                         {splits}: start with the former number"
                    )));
                }
                restored_index(read)
            }
        };
        if read.checked_mul(splits).and_then(|n| n.checked_add(index)).is_none() {
            return Err(not_a_position(split));
        }
        Ok(Strided { split: index, splits, read })
    }

    /// The position: records read and number of splits, 64 bits each, little-endian.
    pub(crate) fn position(&self) -> Vec<u8> {
        [self.read.to_le_bytes(), self.splits.to_le_bytes()].concat()
    }

    /// The index in the whole sequence of the split's next record.
    #[inline]
    pub(crate) fn next_index(&self) -> u64 {
        self.split + self.read * self.splits
    }

    /// How many records of this split are left in a sequence of `len`.
    #[inline]
    pub(crate) fn left_of(&self, len: u64) -> u64 {
        len.saturating_sub(self.next_index()).div_ceil(self.splits)
    }

    /// How far apart the split's records are in the whole sequence.
    #[inline]
    pub(crate) fn stride(&self) -> u64 {
        self.splits
    }

    /// `count` more records were read.
    #[inline]
    pub(crate) fn advance(&mut self, count: u64) {
        self.read += count;
    }
}

/// The number of the split named `split`, below `splits`.
pub(crate) fn split_index(split: &Split, splits: u64) -> Result<u64> {
    split.id.parse().ok().filter(|index| *index < splits).ok_or_else(|| {
        Error::config(format!(
            "there is no split `{}`: the source has {splits} splits, named from 0",
            split.id
        ))
    })
}

/// A position that is one number, 64 bits, little-endian.
pub(crate) fn read_u64(bytes: &[u8], split: &Split) -> Result<u64> {
    bytes.try_into().map(u64::from_le_bytes).map_err(|_| not_a_position(split))
}

/// Where to resume when `index` records were read.
pub(crate) fn restored_index(index: u64) -> u64 {
    if planted!(OffsetOffByOne) { index.saturating_sub(1) } else { index }
}

fn not_a_position(split: &Split) -> Error {
    Error::corrupt(format!("the position of split `{}` in the checkpoint is not one", split.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use thalweg_engine::ErrorKind;

    #[test]
    fn every_record_belongs_to_exactly_one_split() {
        for splits in 1..5 {
            for len in 0..12 {
                let mut seen = vec![0; len as usize];
                for split in Strided::list(splits) {
                    let mut at = Strided::open(&split, splits, None).expect("a split of the list");
                    while at.left_of(len) > 0 {
                        seen[at.next_index() as usize] += 1;
                        at.advance(1);
                    }
                }
                assert!(seen.iter().all(|n| *n == 1), "{splits} splits of {len}: {seen:?}");
            }
        }
    }

    #[test]
    fn positions_of_another_number_of_splits_and_bad_bytes_are_refused() {
        let split = Split::new("1");
        let mut at = Strided::open(&split, 3, None).expect("split 1 of 3");
        at.advance(7);
        let position = at.position();
        assert_eq!(Strided::open(&split, 3, Some(&position)).expect("its own position"), at);
        let kind = |result: Result<Strided>| result.expect_err("must be refused").kind();
        assert_eq!(kind(Strided::open(&split, 4, Some(&position))), ErrorKind::Config);
        assert_eq!(kind(Strided::open(&Split::new("3"), 3, None)), ErrorKind::Config);
        assert_eq!(kind(Strided::open(&Split::new("x"), 3, None)), ErrorKind::Config);
        for len in 0..16 {
            let cut = &position[..len];
            assert_eq!(kind(Strided::open(&split, 3, Some(cut))), ErrorKind::Corrupt);
        }
        let beyond = [u64::MAX.to_le_bytes(), 3u64.to_le_bytes()].concat();
        assert_eq!(kind(Strided::open(&split, 3, Some(&beyond))), ErrorKind::Corrupt);
    }
}
