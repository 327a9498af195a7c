//! `TopN`, `MinBy`, `MaxBy`: the records that are first by an order key.
//!
//! Records with equal keys are ordered by their encodings, the lesser bytes first. So the order is
//! total up to records that nobody can tell apart, and the results are of level D4.

use std::cmp::Ordering;
use std::marker::PhantomData;

use thalweg_engine::Data;
use thalweg_engine::state::codec;

use super::Aggregate;

/// Which end of the order is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Greatest,
    Least,
}

impl End {
    /// `Less` if a record with key `a` comes before one with key `b`.
    fn compare<K: Ord>(self, a: &K, b: &K) -> Ordering {
        match self {
            End::Greatest => b.cmp(a),
            End::Least => a.cmp(b),
        }
    }
}

/// The order of records with equal keys: that of their encodings.
fn break_tie<T: Data>(a: &T, b: &T) -> Ordering {
    let encoded = |record: &T| {
        let mut bytes = Vec::new();
        // A record that cannot be encoded fails the checkpoint, which can say so.
        codec::encode(record, &mut bytes).ok().map(|()| bytes)
    };
    encoded(a).cmp(&encoded(b))
}

/// The first `n` records by an order key.
///
/// # Cost
/// A call of the key function per record, or log n of them where the record is among the first so
/// far; two encodings where keys are equal. Memory for n records.
///
/// ```
/// use thalweg_operators::{Aggregate, TopN};
///
/// let longest = TopN::by(2, |word: &String| word.len());
/// let mut words = longest.create();
/// for word in ["a", "river", "finds", "its", "bed"] {
///     longest.add(&mut words, &word.to_owned());
/// }
/// // Of equal length: in the order of their encodings.
/// assert_eq!(longest.finish(&words), ["finds", "river"]);
/// ```
pub struct TopN<F, T> {
    n: usize,
    key: F,
    end: End,
    records: PhantomData<fn(&T)>,
}

impl<T, K: Ord, F: Fn(&T) -> K> TopN<F, T> {
    /// The `n` records with the greatest keys, the greatest first.
    pub fn by(n: usize, key: F) -> Self {
        TopN { n, key, end: End::Greatest, records: PhantomData }
    }

    /// The `n` records with the least keys, the least first.
    pub fn least(n: usize, key: F) -> Self {
        TopN { n, key, end: End::Least, records: PhantomData }
    }

    /// Orders records with equal keys by a second key, in the same direction.
    pub fn then_by<L: Ord>(self, second: impl Fn(&T) -> L) -> TopN<impl Fn(&T) -> (K, L), T> {
        let first = self.key;
        let key = move |record: &T| (first(record), second(record));
        TopN { n: self.n, key, end: self.end, records: PhantomData }
    }
}

impl<T: Data, K: Ord, F: Fn(&T) -> K + Send + Sync + 'static> Aggregate<T> for TopN<F, T> {
    type Accumulator = Vec<T>;
    type Out = Vec<T>;

    fn create(&self) -> Vec<T> {
        Vec::new()
    }

    fn add(&self, first: &mut Vec<T>, record: &T) {
        let key = (self.key)(record);
        let compare = |other: &T| {
            let by_key = self.end.compare(&(self.key)(other), &key);
            by_key.then_with(|| break_tie(other, record))
        };
        if first.len() >= self.n && first.last().is_none_or(|last| compare(last).is_lt()) {
            return;
        }
        let place = first.partition_point(|other| compare(other).is_lt());
        first.insert(place, record.clone());
        first.truncate(self.n);
    }

    fn merge(&self, first: &mut Vec<T>, other: &Vec<T>) {
        for record in other {
            self.add(first, record);
        }
    }

    fn finish(&self, first: &Vec<T>) -> Vec<T> {
        first.clone()
    }

    fn problems(&self) -> Vec<String> {
        match self.n {
            0 => vec!["the first 0 records are none: TopN needs at least 1".to_owned()],
            _ => Vec::new(),
        }
    }
}

macro_rules! extreme_by {
    ($(#[$doc:meta])* $name:ident, $end:ident) => {
        $(#[$doc])*
        ///
        /// Of records with equal keys it is the one with the least encoding. None if there are no
        /// records.
        pub struct $name<F, T>(F, PhantomData<fn(&T)>);

        impl<T, K: Ord, F: Fn(&T) -> K> $name<F, T> {
            /// The extreme record by `key`.
            pub fn of(key: F) -> Self {
                $name(key, PhantomData)
            }
        }

        impl<T: Data, K: Ord, F> Aggregate<T> for $name<F, T>
        where
            F: Fn(&T) -> K + Send + Sync + 'static,
        {
            type Accumulator = Option<T>;
            type Out = Option<T>;

            fn create(&self) -> Option<T> {
                None
            }

            fn add(&self, best: &mut Option<T>, record: &T) {
                let is_better = best.as_ref().is_none_or(|best| {
                    let by_key = End::$end.compare(&(self.0)(record), &(self.0)(best));
                    by_key.then_with(|| break_tie(record, best)).is_lt()
                });
                if is_better {
                    *best = Some(record.clone());
                }
            }

            fn merge(&self, best: &mut Option<T>, other: &Option<T>) {
                if let Some(record) = other {
                    self.add(best, record);
                }
            }

            fn finish(&self, best: &Option<T>) -> Option<T> {
                best.clone()
            }
        }
    };
}

extreme_by!(
    /// The whole record with the least key.
    MinBy, Least
);
extreme_by!(
    /// The whole record with the greatest key.
    MaxBy, Greatest
);
