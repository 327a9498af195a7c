//! Temporal join: a row and the version of a table that was the latest at the row's time.
//!
//! A version holds from its event time on, until the next one of its key; a deletion is the lack
//! of one. Among versions of equal time the last in order of (split, offset) counts. A row or
//! version is late iff `time + allowed lateness <= w`, where *w* is the watermark of its split.
//!
//! # Invariants
//! * I1: a row is given out when the operator's watermark has reached `time + allowed lateness`:
//!   every version up to the row's time has come then, or is late. Rows leave in order of (time,
//!   encoded key).
//! * I2: of a key's versions up to `W - allowed lateness` only the last is kept, and no deletion
//!   if it is that one: every row that is waiting or may come is later.
//! * I3: a row that waits is later than the forwarded watermark, `W - allowed lateness`, and, as
//!   it was not late, than its late mark less the allowed lateness: results need no mark.

mod operator;
mod waiting;

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::time::duration_millis;
use thalweg_engine::{Data, Element, EventTime, Key};

use self::operator::AsOfOperator;
use super::JoinOutput;
use super::pair::{self, Pairing};
use crate::connect::ConnectedStreams;
use crate::stream::Keyed;

/// The length of the spans of time by which waiting rows and clean-ups are kept, in milliseconds.
const BUCKET_MS: i64 = 1_000;

/// A stream to be joined with the versions of a table that held at its rows' times.
pub struct AsOfJoin<K, A, V> {
    streams: ConnectedStreams<K, A, Option<V>>,
    lateness: i64,
}

impl<K: Key, A: Data, V: Data> AsOfJoin<K, A, V> {
    pub(super) fn new(streams: ConnectedStreams<K, A, Option<V>>) -> Self {
        AsOfJoin { streams, lateness: 0 }
    }

    /// Rows and versions this much behind the watermark of their split still count. Rows wait that
    /// much longer.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        let lateness = duration_millis(lateness).min(2 * EventTime::RECORD_LIMIT_MS);
        AsOfJoin { lateness, ..self }
    }

    /// Gives out the rows whose key has a version at their time. Late versions are given out with
    /// their keys: a deletion is nothing else.
    ///
    /// # Cost
    /// Rows wait for the watermark; those of the second that is being given out are in memory,
    /// sorted. A version costs a search among the versions of its key since the watermark, and
    /// those are written together; a later clean-up visits keys that had several, or a deletion.
    #[track_caller]
    pub fn inner<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, &A, &V) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, Keyed<K, Option<V>>> {
        self.build(name.into(), pair::inner(f))
    }

    /// As [`inner`](Self::inner), with all rows that are not late.
    #[track_caller]
    pub fn left<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, &A, Option<&V>) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, Keyed<K, Option<V>>> {
        self.build(name.into(), pair::left(f))
    }

    #[track_caller]
    fn build<R: Element>(
        &self,
        name: String,
        f: impl Pairing<K, A, V, R>,
    ) -> JoinOutput<R, A, Keyed<K, Option<V>>> {
        let mut spec = OperatorSpec::stateful(name, "as-of join", Location::caller());
        spec.needs_event_time = true;
        spec.needs_record_ids = true;
        let ConnectedStreams { left, right } = &self.streams;
        let (left, right) = (left.tagged_left::<Option<V>>(), right.tagged_right::<A>());
        let (f, lateness) = (Arc::new(f), self.lateness);
        let make = move || AsOfOperator::<K, A, V, _, R>::new(f.clone(), lateness, BUCKET_MS);
        JoinOutput::new(left.job.operator2(&left, &right, spec, make))
    }
}

#[cfg(test)]
mod tests;
