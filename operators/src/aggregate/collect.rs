//! `Collect`: all records, in order of arrival.

use thalweg_engine::Data;
use thalweg_engine::graph::Level;

use super::Aggregate;

/// Collects all records, in order of arrival: of level D2, since another schedule gives another
/// order.
///
/// # Cost
/// Memory for every record until the result is given out.
///
/// ```
/// use thalweg_operators::{Aggregate, Collect};
///
/// let mut records = Aggregate::<u8>::create(&Collect);
/// Collect.add(&mut records, &2);
/// Collect.add(&mut records, &1);
/// assert_eq!(Aggregate::<u8>::finish(&Collect, &records), [2, 1]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Collect;

impl<T: Data> Aggregate<T> for Collect {
    type Accumulator = Vec<T>;
    type Out = Vec<T>;

    fn create(&self) -> Vec<T> {
        Vec::new()
    }

    fn add(&self, accumulator: &mut Vec<T>, record: &T) {
        accumulator.push(record.clone());
    }

    fn merge(&self, accumulator: &mut Vec<T>, other: &Vec<T>) {
        accumulator.extend_from_slice(other);
    }

    fn finish(&self, accumulator: &Vec<T>) -> Vec<T> {
        accumulator.clone()
    }

    fn level(&self) -> Level {
        Level::D2
    }
}
