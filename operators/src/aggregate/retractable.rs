//! `RetractableAggregate`: aggregates that can take back what was added.

use std::collections::BTreeMap;

use thalweg_engine::Data;

use super::{Count, Max, Mean, Min, Sum};

/// An aggregate over rows that can be taken away again, as
/// [`aggregate_changes`](crate::KeyedStream::aggregate_changes) needs it.
///
/// Adding and taking back commute: a row that is taken back before it is added leaves nothing.
pub trait RetractableAggregate<T>: Send + Sync + 'static {
    /// What is kept while rows come and go.
    type Accumulator: Data;
    /// The result.
    type Out: Data + PartialEq;

    /// The accumulator of no rows.
    fn create(&self) -> Self::Accumulator;

    /// Adds a row.
    fn add(&self, accumulator: &mut Self::Accumulator, row: &T);

    /// Takes a row back.
    fn retract(&self, accumulator: &mut Self::Accumulator, row: &T);

    /// True if the accumulator is as [`create`](RetractableAggregate::create) made it.
    fn is_empty(&self, accumulator: &Self::Accumulator) -> bool;

    /// The result of the rows that there are.
    fn finish(&self, accumulator: &Self::Accumulator) -> Self::Out;
}

impl<T> RetractableAggregate<T> for Count {
    type Accumulator = i64;
    type Out = i64;

    fn create(&self) -> i64 {
        0
    }

    fn add(&self, accumulator: &mut i64, _row: &T) {
        *accumulator += 1;
    }

    fn retract(&self, accumulator: &mut i64, _row: &T) {
        *accumulator -= 1;
    }

    fn is_empty(&self, accumulator: &i64) -> bool {
        *accumulator == 0
    }

    fn finish(&self, accumulator: &i64) -> i64 {
        *accumulator
    }
}

impl<T: 'static, F: Fn(&T) -> i64 + Send + Sync + 'static> RetractableAggregate<T> for Sum<F, T> {
    type Accumulator = i128;
    type Out = i128;

    fn create(&self) -> i128 {
        0
    }

    fn add(&self, accumulator: &mut i128, row: &T) {
        *accumulator += i128::from((self.0)(row));
    }

    fn retract(&self, accumulator: &mut i128, row: &T) {
        *accumulator -= i128::from((self.0)(row));
    }

    fn is_empty(&self, accumulator: &i128) -> bool {
        *accumulator == 0
    }

    fn finish(&self, accumulator: &i128) -> i128 {
        *accumulator
    }
}

impl<T: 'static, F: Fn(&T) -> i64 + Send + Sync + 'static> RetractableAggregate<T> for Mean<F, T> {
    type Accumulator = (i128, i64);
    type Out = Option<f64>;

    fn create(&self) -> (i128, i64) {
        (0, 0)
    }

    fn add(&self, (sum, count): &mut (i128, i64), row: &T) {
        *sum += i128::from((self.0)(row));
        *count += 1;
    }

    fn retract(&self, (sum, count): &mut (i128, i64), row: &T) {
        *sum -= i128::from((self.0)(row));
        *count -= 1;
    }

    fn is_empty(&self, accumulator: &(i128, i64)) -> bool {
        *accumulator == (0, 0)
    }

    fn finish(&self, (sum, count): &(i128, i64)) -> Option<f64> {
        (*count > 0).then(|| *sum as f64 / *count as f64)
    }
}

/// How often each value is there; a value that was taken back before it came counts below 0.
type Multiset<V> = BTreeMap<V, i64>;

fn add_to<V: Ord>(set: &mut Multiset<V>, value: V, weight: i64) {
    let mut entry = match set.entry(value) {
        std::collections::btree_map::Entry::Vacant(vacant) => {
            vacant.insert(weight);
            return;
        }
        std::collections::btree_map::Entry::Occupied(occupied) => occupied,
    };
    *entry.get_mut() += weight;
    if *entry.get() == 0 {
        entry.remove();
    }
}

macro_rules! extreme {
    ($name:ident, $iter:ident) => {
        /// Keeps all values, counted: when the extreme one is taken back, the next is known.
        impl<T: 'static, V, F> RetractableAggregate<T> for $name<F, T>
        where
            V: Data + Ord,
            F: Fn(&T) -> V + Send + Sync + 'static,
        {
            type Accumulator = Multiset<V>;
            type Out = Option<V>;

            fn create(&self) -> Multiset<V> {
                Multiset::new()
            }

            fn add(&self, accumulator: &mut Multiset<V>, row: &T) {
                add_to(accumulator, (self.0)(row), 1);
            }

            fn retract(&self, accumulator: &mut Multiset<V>, row: &T) {
                add_to(accumulator, (self.0)(row), -1);
            }

            fn is_empty(&self, accumulator: &Multiset<V>) -> bool {
                accumulator.is_empty()
            }

            fn finish(&self, accumulator: &Multiset<V>) -> Option<V> {
                let mut values = accumulator.iter();
                loop {
                    let (value, count) = values.$iter()?;
                    if *count > 0 {
                        return Some(value.clone());
                    }
                }
            }
        }
    };
}

extreme!(Min, next);
extreme!(Max, next_back);

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<T, $($name: RetractableAggregate<T>),+> RetractableAggregate<T> for ($($name,)+) {
            type Accumulator = ($($name::Accumulator,)+);
            type Out = ($($name::Out,)+);

            fn create(&self) -> Self::Accumulator {
                ($(self.$index.create(),)+)
            }

            fn add(&self, accumulator: &mut Self::Accumulator, row: &T) {
                $(self.$index.add(&mut accumulator.$index, row);)+
            }

            fn retract(&self, accumulator: &mut Self::Accumulator, row: &T) {
                $(self.$index.retract(&mut accumulator.$index, row);)+
            }

            fn is_empty(&self, accumulator: &Self::Accumulator) -> bool {
                $(self.$index.is_empty(&accumulator.$index))&&+
            }

            fn finish(&self, accumulator: &Self::Accumulator) -> Self::Out {
                ($(self.$index.finish(&accumulator.$index),)+)
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
