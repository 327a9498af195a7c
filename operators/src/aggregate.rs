//! `Aggregate`: how records are folded into an accumulator, and the aggregates that come with it.
//!
//! Accumulators can be merged, which is what sliced windows and restores need. Several aggregates
//! at once are a tuple:
//!
//! ```
//! use thalweg_operators::{Aggregate, Count, Mean};
//!
//! let both = (Count, Mean::of(|delay: &i64| *delay));
//! let mut accumulator = both.create();
//! for delay in [10, 20, 60] {
//!     both.add(&mut accumulator, &delay);
//! }
//! assert_eq!(both.finish(&accumulator), (3, Some(30.0)));
//! ```

mod collect;
mod distinct;
mod float_sum;
mod ordered;
mod quantiles;
mod then;

use std::marker::PhantomData;
use std::sync::Arc;

use thalweg_engine::graph::Level;
use thalweg_engine::{Data, Element};

pub use collect::Collect;
pub use distinct::{ApproxDistinct, CountDistinct, Registers};
pub use float_sum::{ExactSum, FloatMean, FloatSum};
pub use ordered::{MaxBy, MinBy, TopN};
pub use quantiles::{MAX_BINS, Quantiles, Sketch};
pub use then::Then;

/// Folds records into an accumulator.
///
/// `merge` of the accumulators of any parts of the records, in order, must give what adding all
/// records gives; and in any order, if the level is D4. Aggregates side by side are a tuple of two
/// to six.
pub trait Aggregate<T>: Send + Sync + 'static {
    /// What is kept while records come in.
    type Accumulator: Data;
    /// The result.
    type Out: Element;

    /// The accumulator of no records.
    fn create(&self) -> Self::Accumulator;

    /// Adds a record.
    fn add(&self, accumulator: &mut Self::Accumulator, record: &T);

    /// Adds what `other` has gathered.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator);

    /// The result of what was gathered.
    fn finish(&self, accumulator: &Self::Accumulator) -> Self::Out;

    /// Whether the result depends on the order of the records: D4 if not.
    fn level(&self) -> Level {
        Level::D4
    }

    /// What is wrong with how it was declared: the job is refused, with these reasons.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// This aggregate, with its result going through `f`.
    ///
    /// ```
    /// use thalweg_operators::{Aggregate, Sum};
    ///
    /// let kilobytes = Sum::of(|bytes: &i64| *bytes).then(|bytes| bytes / 1_000);
    /// let mut sum = kilobytes.create();
    /// kilobytes.add(&mut sum, &2_500);
    /// assert_eq!(kilobytes.finish(&sum), 2);
    /// ```
    fn then<O: Element, F>(self, f: F) -> Then<Self, F, T>
    where
        Self: Sized,
        F: Fn(Self::Out) -> O + Send + Sync + 'static,
    {
        Then::new(self, f)
    }
}

/// Counts records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

impl<T> Aggregate<T> for Count {
    type Accumulator = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    #[inline]
    fn add(&self, accumulator: &mut u64, _record: &T) {
        *accumulator += 1;
    }

    fn merge(&self, accumulator: &mut u64, other: &u64) {
        *accumulator += other;
    }

    fn finish(&self, accumulator: &u64) -> u64 {
        *accumulator
    }
}

/// Adds up whole numbers, exactly: in 128 bits, which no stream overflows.
pub struct Sum<F, T>(F, PhantomData<fn(&T)>);

impl<T, F: Fn(&T) -> i64> Sum<F, T> {
    /// The sum of `value` over the records.
    pub fn of(value: F) -> Self {
        Sum(value, PhantomData)
    }
}

impl<T: 'static, F: Fn(&T) -> i64 + Send + Sync + 'static> Aggregate<T> for Sum<F, T> {
    type Accumulator = i128;
    type Out = i128;

    fn create(&self) -> i128 {
        0
    }

    #[inline]
    fn add(&self, accumulator: &mut i128, record: &T) {
        *accumulator += i128::from((self.0)(record));
    }

    fn merge(&self, accumulator: &mut i128, other: &i128) {
        *accumulator += other;
    }

    fn finish(&self, accumulator: &i128) -> i128 {
        *accumulator
    }
}

/// The mean of whole numbers: summed exactly, divided once.
pub struct Mean<F, T>(F, PhantomData<fn(&T)>);

impl<T, F: Fn(&T) -> i64> Mean<F, T> {
    /// The mean of `value` over the records; none if there are no records.
    pub fn of(value: F) -> Self {
        Mean(value, PhantomData)
    }
}

impl<T: 'static, F: Fn(&T) -> i64 + Send + Sync + 'static> Aggregate<T> for Mean<F, T> {
    type Accumulator = (i128, u64);
    type Out = Option<f64>;

    fn create(&self) -> (i128, u64) {
        (0, 0)
    }

    #[inline]
    fn add(&self, (sum, count): &mut (i128, u64), record: &T) {
        *sum += i128::from((self.0)(record));
        *count += 1;
    }

    fn merge(&self, (sum, count): &mut (i128, u64), other: &(i128, u64)) {
        *sum += other.0;
        *count += other.1;
    }

    fn finish(&self, (sum, count): &(i128, u64)) -> Option<f64> {
        (*count > 0).then(|| *sum as f64 / *count as f64)
    }
}

macro_rules! extreme {
    ($(#[$doc:meta])* $name:ident, $better:tt) => {
        $(#[$doc])*
        pub struct $name<F, T>(F, PhantomData<fn(&T)>);

        impl<T, V, F: Fn(&T) -> V> $name<F, T> {
            /// The extreme of `value` over the records; none if there are no records.
            pub fn of(value: F) -> Self {
                $name(value, PhantomData)
            }
        }

        impl<T: 'static, V, F> Aggregate<T> for $name<F, T>
        where
            V: Data + Ord,
            F: Fn(&T) -> V + Send + Sync + 'static,
        {
            type Accumulator = Option<V>;
            type Out = Option<V>;

            fn create(&self) -> Option<V> {
                None
            }

            #[inline]
            fn add(&self, accumulator: &mut Option<V>, record: &T) {
                let value = (self.0)(record);
                if accumulator.as_ref().is_none_or(|best| value $better *best) {
                    *accumulator = Some(value);
                }
            }

            fn merge(&self, accumulator: &mut Option<V>, other: &Option<V>) {
                if let Some(value) = other
                    && accumulator.as_ref().is_none_or(|best| value $better best)
                {
                    *accumulator = Some(value.clone());
                }
            }

            fn finish(&self, accumulator: &Option<V>) -> Option<V> {
                accumulator.clone()
            }
        }
    };
}

extreme!(
    /// The least value.
    Min, <
);
extreme!(
    /// The greatest value.
    Max, >
);

/// Combines records two by two. In arrival order, so of level D2, unless it is said that the
/// order does not matter.
pub struct Reduce<F> {
    combine: Arc<F>,
    level: Level,
}

impl<F> Reduce<F> {
    /// Combines records in arrival order.
    pub fn with(combine: F) -> Self {
        Reduce { combine: Arc::new(combine), level: Level::D2 }
    }

    /// Combines records in any order: `combine` must be associative and commutative.
    pub fn commutative(combine: F) -> Self {
        Reduce { combine: Arc::new(combine), level: Level::D4 }
    }
}

impl<T: Data, F: Fn(&T, &T) -> T + Send + Sync + 'static> Aggregate<T> for Reduce<F> {
    type Accumulator = Option<T>;
    type Out = T;

    fn create(&self) -> Option<T> {
        None
    }

    fn add(&self, accumulator: &mut Option<T>, record: &T) {
        *accumulator = Some(match accumulator {
            Some(value) => (self.combine)(value, record),
            None => record.clone(),
        });
    }

    fn merge(&self, accumulator: &mut Option<T>, other: &Option<T>) {
        if let Some(other) = other {
            self.add(accumulator, other);
        }
    }

    fn finish(&self, accumulator: &Option<T>) -> T {
        accumulator.clone().expect("an accumulator is created for its first record")
    }

    fn level(&self) -> Level {
        self.level
    }
}

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        impl<T, $($name: Aggregate<T>),+> Aggregate<T> for ($($name,)+) {
            type Accumulator = ($($name::Accumulator,)+);
            type Out = ($($name::Out,)+);

            fn create(&self) -> Self::Accumulator {
                ($(self.$index.create(),)+)
            }

            #[inline]
            fn add(&self, accumulator: &mut Self::Accumulator, record: &T) {
                $(self.$index.add(&mut accumulator.$index, record);)+
            }

            fn merge(&self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator) {
                $(self.$index.merge(&mut accumulator.$index, &other.$index);)+
            }

            fn finish(&self, accumulator: &Self::Accumulator) -> Self::Out {
                ($(self.$index.finish(&accumulator.$index),)+)
            }

            fn level(&self) -> Level {
                [$(self.$index.level()),+].into_iter().min().unwrap_or(Level::D4)
            }

            fn problems(&self) -> Vec<String> {
                [$(self.$index.problems()),+].concat()
            }
        }
    };
}

tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, G 5);

#[cfg(test)]
mod tests;
