//! `connect`: two keyed streams taken together, by a function that sees the state of the key.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::Result;
//! use thalweg_operators::{CoProcessFunction, Job, ProcessContext};
//!
//! /// Gives each order the price that was known last.
//! struct Price;
//!
//! impl CoProcessFunction<String, (String, u64), (String, u64)> for Price {
//!     type State = u64;
//!     type Out = u64;
//!
//!     fn on_left(
//!         &self,
//!         (_article, count): (String, u64),
//!         context: &mut ProcessContext<'_, String, u64, u64>,
//!     ) -> Result<()> {
//!         let price = *context.state;
//!         context.emit(count * price);
//!         Ok(())
//!     }
//!
//!     fn on_right(
//!         &self,
//!         (_article, price): (String, u64),
//!         context: &mut ProcessContext<'_, String, u64, u64>,
//!     ) -> Result<()> {
//!         *context.state = price;
//!         Ok(())
//!     }
//! }
//!
//! let job = Job::new();
//! let (sink, _) = memory::sink();
//! let orders = job.source("orders", memory::source(vec![("nut".to_owned(), 2)]));
//! let prices = job.source("prices", memory::source(vec![("nut".to_owned(), 5)]));
//! let (orders, prices) = (orders.key_by(|o| o.0.clone()), prices.key_by(|p| p.0.clone()));
//! orders.connect(&prices).process("priced", Price).sink("out", sink);
//! ```

use std::marker::PhantomData;
use std::panic::Location;

use thalweg_engine::{Data, Element, EventTime, Key, ProcessingTime, Result};

use crate::process::{self, ProcessContext, ProcessFunction, ProcessStream, StateDeclarations};
use crate::stream::{Either, KeyedStream};

/// Two streams with keys of one type: records of equal keys meet in one subtask.
pub struct ConnectedStreams<K, A, B> {
    pub(crate) left: KeyedStream<K, A>,
    pub(crate) right: KeyedStream<K, B>,
}

impl<K: Key, A: Data> KeyedStream<K, A> {
    /// This stream and another, to be taken together.
    pub fn connect<B: Data>(&self, right: &KeyedStream<K, B>) -> ConnectedStreams<K, A, B> {
        let left = KeyedStream { stream: self.stream.clone() };
        ConnectedStreams { left, right: KeyedStream { stream: right.stream.clone() } }
    }
}

/// What is done with the records of two streams, and with timers. `D` is what goes to the side
/// output.
pub trait CoProcessFunction<K: Key, A, B, D: Element = ()>: Send + Sync + 'static {
    /// What is kept per key; keys that were not seen have the default. `()` costs nothing.
    type State: Data + Default;
    /// What is given out.
    type Out: Element;

    /// Whether it wants to know which record a record is: sources attach identities then.
    const NEEDS_RECORD_IDS: bool = false;

    /// A record of the left stream has come.
    ///
    /// # Errors
    /// Fails the job.
    fn on_left(
        &self,
        record: A,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()>;

    /// A record of the right stream has come.
    ///
    /// # Errors
    /// Fails the job.
    fn on_right(
        &self,
        record: B,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()>;

    /// A timer is due: the watermark has reached its time.
    ///
    /// # Errors
    /// Fails the job.
    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()> {
        let _ = (time, context);
        Ok(())
    }

    /// A processing-time timer is due: the clock has reached its time, or the input has ended.
    ///
    /// # Errors
    /// Fails the job.
    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out, D>,
    ) -> Result<()> {
        let _ = (time, context);
        Ok(())
    }
}

impl<K: Key, A: Data, B: Data> ConnectedStreams<K, A, B> {
    /// Calls a function with keyed state and timers for the records of both streams. Its results
    /// may depend on the order in which they meet: level D2.
    #[track_caller]
    pub fn process<D: Element, P: CoProcessFunction<K, A, B, D>>(
        &self,
        name: impl Into<String>,
        function: P,
    ) -> ProcessStream<P::Out, D> {
        self.process_with(name, |_| function)
    }

    /// As [`process`](ConnectedStreams::process), for a function with named state: `declare` is
    /// called once, here, and returns the function.
    #[track_caller]
    pub fn process_with<D: Element, P: CoProcessFunction<K, A, B, D>>(
        &self,
        name: impl Into<String>,
        declare: impl FnOnce(&mut StateDeclarations<K>) -> P,
    ) -> ProcessStream<P::Out, D> {
        let (left, right) = (self.left.tagged_left::<B>(), self.right.tagged_right::<A>());
        let spec = process::spec(name.into(), "co-process", Location::caller());
        let both = left.process_keyed(spec, |states| Both(declare(states), PhantomData));
        left.job.connect(&right, both.node);
        both
    }
}

/// A function of two streams as one of a stream of either.
struct Both<A, B, P>(P, PhantomData<fn(A, B)>);

impl<K, A, B, D, P> ProcessFunction<K, Either<A, B>, D> for Both<A, B, P>
where
    K: Key,
    A: Data,
    B: Data,
    D: Element,
    P: CoProcessFunction<K, A, B, D>,
{
    type State = P::State;
    type Out = P::Out;

    const NEEDS_RECORD_IDS: bool = P::NEEDS_RECORD_IDS;

    fn on_record(
        &self,
        record: Either<A, B>,
        context: &mut ProcessContext<'_, K, P::State, P::Out, D>,
    ) -> Result<()> {
        match record {
            Either::Left(record) => self.0.on_left(record, context),
            Either::Right(record) => self.0.on_right(record, context),
        }
    }

    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, K, P::State, P::Out, D>,
    ) -> Result<()> {
        self.0.on_timer(time, context)
    }

    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        context: &mut ProcessContext<'_, K, P::State, P::Out, D>,
    ) -> Result<()> {
        self.0.on_processing_timer(time, context)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use thalweg_engine::sim::Random;
    use thalweg_engine::testing::Input;

    use super::*;
    use crate::process::states::{ListState, MapState};
    use crate::process::tests::{at, verify};
    use crate::stream::Keyed;

    /// Counts the words of the left stream, and keeps the numbers of the right one; tells both
    /// when a timer of the right one is due.
    struct Meet {
        words: MapState<String, u32>,
        numbers: ListState<i64>,
    }

    type Out = String;

    impl CoProcessFunction<u8, String, i64, i64> for Meet {
        type State = u32;
        type Out = Out;

        fn on_left(
            &self,
            word: String,
            context: &mut ProcessContext<'_, u8, u32, Out, i64>,
        ) -> Result<()> {
            *context.state += 1;
            context.map(&self.words).update(&word, || 0, |count| *count += 1)
        }

        fn on_right(
            &self,
            number: i64,
            context: &mut ProcessContext<'_, u8, u32, Out, i64>,
        ) -> Result<()> {
            context.emit_side(number);
            context.register_timer(at(number));
            context.list(&self.numbers).push(number)
        }

        fn on_timer(
            &self,
            _time: EventTime,
            context: &mut ProcessContext<'_, u8, u32, Out, i64>,
        ) -> Result<()> {
            let mut words = Vec::new();
            context.map(&self.words).for_each(|word, n| words.push((word.clone(), *n)))?;
            let numbers = context.list(&self.numbers).to_vec()?;
            let told = format!("{} {} {words:?} {numbers:?}", context.key(), context.state);
            context.emit(told);
            Ok(())
        }
    }

    #[test]
    fn both_sides_see_the_state_of_the_key() {
        for seed in 0..60 {
            let mut random = Random::new(seed);
            let mut script = Vec::new();
            let (mut words, mut numbers) =
                (BTreeMap::<u8, Vec<(String, u32)>>::new(), BTreeMap::<u8, Vec<i64>>::new());
            let mut side = Vec::new();
            for time in 0..40 {
                let key = random.below(3) as u8;
                let value = if random.is_chosen(60) {
                    let word = format!("word-{}", random.below(4));
                    let counts = words.entry(key).or_default();
                    match counts.iter_mut().find(|(other, _)| *other == word) {
                        Some((_, count)) => *count += 1,
                        None => counts.push((word.clone(), 1)),
                    }
                    Either::Left(word)
                } else {
                    let number = random.between(100, 110);
                    numbers.entry(key).or_default().push(number);
                    side.push(format!("{number} at {time}"));
                    Either::Right(number)
                };
                script.push(Input::Record(Keyed { key, value }, at(time), None));
            }
            script.push(Input::Watermark(EventTime::MAX));
            let mut expected = Vec::new();
            for (key, numbers) in &numbers {
                let words = words.remove(key).unwrap_or_default();
                let total: u32 = words.iter().map(|(_, count)| count).sum();
                let mut times = numbers.clone();
                times.sort_unstable();
                times.dedup();
                let told = format!("{key} {total} {words:?} {numbers:?}");
                expected.extend(times.iter().map(|time| format!("{told:?} at {time}")));
            }
            expected.sort_unstable();
            side.sort_unstable();
            let declare = |states: &mut StateDeclarations<u8>| {
                let meet = Meet { words: states.map("words"), numbers: states.list("numbers") };
                Both(meet, PhantomData)
            };
            let given = verify::<Either<String, i64>, i64, _>(declare, &script);
            let given = given.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!((given.main, given.side), (expected, side), "seed {seed}");
        }
    }
}
