//! `pattern`: matches of a pattern among the events of each key, in event time (CEP).
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::sim::Simulation;
//! use thalweg_engine::time::seconds;
//! use thalweg_operators::{Job, Pattern, Watermarks};
//!
//! let (alerts, seen) = memory::sink();
//! let (given_up, _) = memory::sink();
//! let payment = |amount: u32, time: i64| ("anna".to_owned(), amount, time);
//! let build = || {
//!     let payments = vec![payment(1, 0), payment(950, 9_000), payment(900, 4_000)];
//!     // A small payment that tries the card, then two large ones, all within a minute.
//!     let fraud = Pattern::begin("trial", |p: &(String, u32, i64)| p.1 < 5)
//!         .followed_by("large", |p| p.1 > 500)
//!         .times(2)
//!         .within(seconds(60));
//!     let job = Job::new();
//!     let found = job
//!         .source("payments", memory::source(payments))
//!         .event_time(|p| p.2, Watermarks::bounded_out_of_orderness(seconds(5)))
//!         .key_by(|p| p.0.clone())
//!         .pattern("fraud", fraud);
//!     let amounts = |payments: &[(_, u32, _)]| payments.iter().map(|p| p.1).collect::<Vec<_>>();
//!     found
//!         .select(move |m| (m.key.clone(), amounts(m.events("large"))))
//!         .sink("alerts", alerts.clone());
//!     found.timed_out().map(|m| m.key).sink("given-up", given_up.clone());
//!     Ok(job.into_graph())
//! };
//! Simulation::new(7).run("fraud", build)?;
//! assert_eq!(seen.take(), [("anna".to_owned(), vec![900, 950])]);
//! # Ok::<(), thalweg_engine::Error>(())
//! ```
//!
//! Events are sorted by time, those of equal time by split and offset, so that the matches are the
//! same whatever the schedule. The semantics are those of Flink CEP, with these differences:
//! * a partial match is reported as timed out once, and not at all if it was a match already (a
//!   loop at the end of a pattern);
//! * a greedy stage only rules matches out: there is none that would not be one without it;
//! * an event that satisfies a negation ends the partial match even if the stage behind would
//!   take it as the last event;
//! * at the end of the input matches that wait for one which started earlier are given out.
//!
//! # Cost
//! Per event a look-up of its key when it comes and one when its time has come, its place in the
//! key's waiting events, and a timer if it is the key's first; per partial match of the key a test
//! of each stage that may come next. An event that neither begins nor continues a match is dropped
//! without an allocation once it has waited. The number of partial matches is what the pattern
//! makes it: `followed_by_any` and `allow_combinations` double it with every event that would do.
//! Without [`within`](Pattern::within) partial matches are kept until they end.

mod buffer;
mod builder;
mod nfa;
mod operator;

use std::panic::Location;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::{Data, EventTime, Key};

pub use buffer::Earlier;
pub use builder::{Pattern, Skip};
use nfa::{Automaton, Matcher};
use operator::PatternOperator;

use crate::stream::{KeyedStream, Stream};

/// A match of a pattern, or the part of one that [`Pattern::within`] cut off.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PatternMatch<K, T> {
    /// The key.
    pub key: K,
    /// The time of the first event.
    pub start: EventTime,
    /// The time of the last event. The match itself has the time at which it was decided: this
    /// one, unless it had to wait for a negation or for a match that started earlier.
    pub end: EventTime,
    stages: Vec<(Arc<str>, Vec<T>)>,
}

impl<K, T> PatternMatch<K, T> {
    /// The events of stage `name`, in order; none if it was left out.
    pub fn events(&self, name: &str) -> &[T] {
        let stage = self.stages.iter().find(|(stage, _)| **stage == *name);
        stage.map_or(&[], |(_, events)| events)
    }

    /// The stages that have events, in order.
    pub fn stages(&self) -> impl Iterator<Item = (&str, &[T])> {
        self.stages.iter().map(|(name, events)| (&**name, &**events))
    }
}

/// The side output of the operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum PatternSide<K, T> {
    TimedOut(PatternMatch<K, T>),
    Late(T),
}

/// What a pattern gives out.
pub struct PatternOutput<K, T> {
    matches: Stream<PatternMatch<K, T>>,
    side: Stream<PatternSide<K, T>>,
}

impl<K: Key, T: Data> PatternOutput<K, T> {
    /// The matches, with the time at which they were decided.
    pub fn matches(&self) -> Stream<PatternMatch<K, T>> {
        self.matches.clone()
    }

    /// Each match, as what `f` makes of it.
    #[track_caller]
    pub fn select<R: Data>(
        &self,
        f: impl Fn(PatternMatch<K, T>) -> R + Send + Sync + 'static,
    ) -> Stream<R> {
        self.matches.map(f)
    }

    /// The partial matches that `within` cut off, with the time of their first event plus that
    /// duration.
    #[track_caller]
    pub fn timed_out(&self) -> Stream<PatternMatch<K, T>> {
        self.side.filter_map(|side| match side {
            PatternSide::TimedOut(partial) => Some(partial),
            PatternSide::Late(_) => None,
        })
    }

    /// The events that came too late to be put in order. They are counted whether this is used or
    /// not.
    #[track_caller]
    pub fn late(&self) -> Stream<T> {
        self.side.filter_map(|side| match side {
            PatternSide::Late(event) => Some(event),
            PatternSide::TimedOut(_) => None,
        })
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Looks for the matches of a pattern among the events of each key. See the
    /// [module](crate::pattern) for semantics and costs.
    #[track_caller]
    pub fn pattern(&self, name: impl Into<String>, pattern: Pattern<T>) -> PatternOutput<K, T> {
        let mut spec = OperatorSpec::stateful(name, "pattern", Location::caller());
        spec.needs_event_time = true;
        spec.needs_record_ids = true;
        spec.level = Level::D4;
        spec.problems = pattern.problems();
        let lateness = pattern.allowed_lateness_ms;
        let matches = self.stream.job.operator(&self.stream, spec, move || {
            PatternOperator::<K, T>::new(Matcher::new(Automaton::new(&pattern)), lateness)
        });
        PatternOutput { side: matches.side(), matches }
    }
}

#[cfg(test)]
mod tests;
