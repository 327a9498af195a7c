//! Window join: rows of equal keys in the same window, given out when the window is final.
//!
//! Each side follows the rules of windows and of lateness (see [`crate::window`]); the time of a
//! result is the last instant of its window.
//!
//! # Invariants
//! * I1: a row is kept once, in the slice that holds its time, whatever the number of windows over
//!   it. The part of the slice tells the first window that accepted it; a window takes only parts
//!   whose first window is not after it.
//! * I2: windows are given out in order of (end, encoded key), each once; of a key in a window a
//!   number of results. What has been given out is that number alone: the rows stay where they are
//!   until all of the window has been given out.
//! * I3: a window of one key group is fired when its end is greater than the group's `fired`, and
//!   not otherwise: after a restore key groups may have come differently far. A row that comes is
//!   late for every window that its key group has fired.

mod matcher;
mod operator;

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::time::duration_millis;
use thalweg_engine::{Data, Element, EventTime, Key};

use self::matcher::{CoGroup, Matcher, Pairs};
use self::operator::WindowJoinOperator;
use super::JoinOutput;
use super::pair::{self, Outer, Pairing};
use crate::connect::ConnectedStreams;
use crate::window::{Slices, Window, WindowAssigner};

/// More windows than this do not hold one instant.
const MOST_OVERLAPS: i64 = 1 << 31;

/// Two streams to be joined by windows, which come next.
pub struct Joined<K, A, B> {
    pub(super) streams: ConnectedStreams<K, A, B>,
}

impl<K: Key, A: Data, B: Data> Joined<K, A, B> {
    /// Joins rows in the same window.
    pub fn window<W: WindowAssigner>(self, assigner: W) -> WindowJoin<K, A, B, W> {
        WindowJoin { streams: self.streams, assigner: Arc::new(assigner), lateness: 0 }
    }
}

/// Two streams to be joined by windows.
pub struct WindowJoin<K, A, B, W> {
    streams: ConnectedStreams<K, A, B>,
    assigner: Arc<W>,
    lateness: i64,
}

impl<K: Key, A: Data, B: Data, W: WindowAssigner> WindowJoin<K, A, B, W> {
    /// Windows stay open this much longer, and give out their results that much later.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        let lateness = duration_millis(lateness).min(2 * EventTime::RECORD_LIMIT_MS);
        WindowJoin { lateness, ..self }
    }

    /// Gives out each pair of rows of a key in a window.
    ///
    /// # Cost
    /// A look-up per row. At the end of a window its keys are sorted; each key's rows in the
    /// window are in memory while its pairs are given out.
    #[track_caller]
    pub fn inner<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, &A, &B) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, B> {
        self.pairs(name.into(), Outer::NONE, pair::inner(f))
    }

    /// As [`inner`](Self::inner), with the left rows of keys that have no right row in the window.
    #[track_caller]
    pub fn left<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, &A, Option<&B>) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, B> {
        self.pairs(name.into(), Outer::LEFT, pair::left(f))
    }

    /// As [`inner`](Self::inner), with the right rows of keys that have no left row in the window.
    #[track_caller]
    pub fn right<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, Option<&A>, &B) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, B> {
        self.pairs(name.into(), Outer::RIGHT, pair::right(f))
    }

    /// As [`inner`](Self::inner), with the rows of keys that have rows on one side only.
    #[track_caller]
    pub fn full<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, Option<&A>, Option<&B>) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, B> {
        self.pairs(name.into(), Outer::BOTH, pair::full(f))
    }

    /// Calls `f` with all rows of each key and window, of which one side may have none. Rows are
    /// in order of slices, and within one in order of arrival; results that do not depend on that
    /// order are of level D4.
    ///
    /// `f` must return the same results for the same rows: after a restart it is called again for
    /// the key whose results were being given out, and those that had been are left out.
    ///
    /// # Cost
    /// As [`inner`](Self::inner); all results of one call are in memory.
    #[track_caller]
    pub fn co_group<R: Element, I: IntoIterator<Item = R>>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, Window, &[A], &[B]) -> I + Send + Sync + 'static,
    ) -> JoinOutput<R, A, B> {
        let f = move |key: &K, window: Window, left: &[A], right: &[B]| -> Vec<R> {
            f(key, window, left, right).into_iter().collect()
        };
        self.build(name.into(), CoGroup::new(f))
    }

    #[track_caller]
    fn pairs<R: Element>(
        &self,
        name: String,
        outer: Outer,
        f: impl Pairing<K, A, B, R>,
    ) -> JoinOutput<R, A, B> {
        self.build(name, Pairs::new(outer, f))
    }

    #[track_caller]
    fn build<M: Matcher<K, A, B>>(&self, name: String, matcher: M) -> JoinOutput<M::Out, A, B> {
        let mut spec = OperatorSpec::stateful(name, "window join", Location::caller());
        spec.needs_event_time = true;
        let (size, slide) = (self.assigner.size_ms(), self.assigner.slide_ms());
        match self.assigner.problem() {
            Some(problem) => spec.problems.push(problem),
            None if size / slide >= MOST_OVERLAPS => {
                spec.problems.push(format!("{} windows overlap", size / slide));
            }
            None => {}
        }
        let ConnectedStreams { left, right } = &self.streams;
        let (left, right) = (left.tagged_left::<B>(), right.tagged_right::<A>());
        let (assigner, lateness) = (self.assigner.clone(), self.lateness);
        let matcher = Arc::new(matcher);
        let make =
            move || WindowJoinOperator::new(Slices::new(&*assigner), lateness, matcher.clone());
        JoinOutput::new(left.job.operator2(&left, &right, spec, make))
    }
}
