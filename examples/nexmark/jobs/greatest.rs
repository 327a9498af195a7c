//! An aggregate that keeps all records of the greatest value, ties included.

use std::marker::PhantomData;

use thalweg::Aggregate;
use thalweg::engine::Data;

/// Keeps the records than which no other has a greater value.
pub(super) struct Greatest<F, T> {
    value: F,
    records: PhantomData<fn(&T)>,
}

impl<T, F: Fn(&T) -> u64> Greatest<F, T> {
    /// Records are compared by `value`.
    pub(super) fn by(value: F) -> Self {
        Greatest { value, records: PhantomData }
    }
}

impl<T: Data, F: Fn(&T) -> u64 + Send + Sync + 'static> Aggregate<T> for Greatest<F, T> {
    type Accumulator = Vec<T>;
    type Out = Vec<T>;

    fn create(&self) -> Vec<T> {
        Vec::new()
    }

    #[inline]
    fn add(&self, greatest: &mut Vec<T>, record: &T) {
        let value = (self.value)(record);
        let value_so_far = greatest.first().map_or(0, &self.value);
        if value > value_so_far {
            greatest.clear();
        }
        if value >= value_so_far {
            greatest.push(record.clone());
        }
    }

    fn merge(&self, greatest: &mut Vec<T>, other: &Vec<T>) {
        for record in other {
            self.add(greatest, record);
        }
    }

    fn finish(&self, greatest: &Vec<T>) -> Vec<T> {
        greatest.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Greatest;
    use thalweg::Aggregate as _;

    #[test]
    fn all_of_the_greatest_value_are_kept_in_parts_too() {
        let greatest = Greatest::by(|&(value, _): &(u64, char)| value);
        let gather = |records: &[(u64, char)]| {
            let mut gathered = greatest.create();
            records.iter().for_each(|record| greatest.add(&mut gathered, record));
            gathered
        };
        let mut left = gather(&[(0, 'a'), (3, 'b'), (2, 'c'), (3, 'd')]);
        assert_eq!(greatest.finish(&left), [(3, 'b'), (3, 'd')]);
        greatest.merge(&mut left, &gather(&[(1, 'e')]));
        greatest.merge(&mut left, &gather(&[(3, 'f')]));
        assert_eq!(greatest.finish(&left), [(3, 'b'), (3, 'd'), (3, 'f')]);
        greatest.merge(&mut left, &gather(&[(4, 'g')]));
        assert_eq!(greatest.finish(&left), [(4, 'g')]);
        assert_eq!(gather(&[(0, 'a'), (0, 'b')]), [(0, 'a'), (0, 'b')]);
    }
}
