//! Interval join: rows of equal keys whose times are not too far apart.
//!
//! `b` is a partner of `a` iff `a.time + lower <= b.time <= a.time + upper`. The time of a result
//! is the later of the two rows' times, or the row's own if it has no partner. A row is late iff
//! `time + allowed lateness <= w`, where *w* is the watermark of its split.
//!
//! # Invariants
//! * I1: a row is kept as long as a partner that is not late may still come: until the operator's
//!   watermark has reached `time + upper + allowed lateness` (`-lower` for right rows).
//! * I2: rows are kept in buckets of time; a bucket is dropped when I1 holds of all its rows. What
//!   is dropped later than it might be finds no partner: any row that came would be late.
//! * I3: a result is later than the watermark forwarded before it. A pair's second row is not
//!   late, so its time, and the pair's all the more, is beyond `W - allowed lateness`; this holds
//!   with the split's watermark in the place of `W` too, so results need no late mark. A row
//!   without a partner is given out with its bucket and is older by that much: the hold allows
//!   for it.

mod side;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::state::{OperatorState, Table, TableId, codec};
use thalweg_engine::time::duration_millis;
use thalweg_engine::{
    Advance, Batch, Context, Counter, Data, EachTable, Element, Error, EventTime, Key, Marks,
    OpenContext, Operator, Outputs, Result, SnapshotContext,
};

use self::side::{Cursor, Row, Search, Side, Unmatched, bucket_of};
use super::JoinOutput;
use super::pair::{self, Outer, Pairing};
use super::rows::{Place, RowLists, Visit};
use crate::connect::ConnectedStreams;
use crate::stream::{Either, Keyed};

/// No bound is further from a row than two records' times can be from each other.
const BOUND_LIMIT_MS: i64 = 2 * EventTime::RECORD_LIMIT_MS;

/// Two streams to be joined by an interval; its bounds come next.
pub struct IntervalJoin<K, A, B> {
    pub(super) streams: ConnectedStreams<K, A, B>,
}

impl<K: Key, A: Data, B: Data> IntervalJoin<K, A, B> {
    /// Right rows from `before` before the left row to `after` after it, both included.
    pub fn between(self, before: Duration, after: Duration) -> IntervalJoined<K, A, B> {
        self.between_millis(-duration_millis(before), duration_millis(after))
    }

    /// Right rows from `lower` to `upper` milliseconds after the left row, both included; negative
    /// is before it. That `lower` is not above `upper` is checked when the job is built.
    pub fn between_millis(self, lower: i64, upper: i64) -> IntervalJoined<K, A, B> {
        let limited = |bound: i64| bound.clamp(-BOUND_LIMIT_MS, BOUND_LIMIT_MS);
        let (lower, upper) = (limited(lower), limited(upper));
        IntervalJoined { streams: self.streams, lower, upper, lateness: 0 }
    }
}

/// Two streams to be joined by an interval.
pub struct IntervalJoined<K, A, B> {
    streams: ConnectedStreams<K, A, B>,
    lower: i64,
    upper: i64,
    lateness: i64,
}

impl<K: Key, A: Data, B: Data> IntervalJoined<K, A, B> {
    /// Leaves out the lower bound itself.
    #[must_use]
    pub fn lower_bound_exclusive(self) -> Self {
        IntervalJoined { lower: self.lower + 1, ..self }
    }

    /// Leaves out the upper bound itself.
    #[must_use]
    pub fn upper_bound_exclusive(self) -> Self {
        IntervalJoined { upper: self.upper - 1, ..self }
    }

    /// Rows this much behind the watermark of their split are still joined. All rows are kept that
    /// much longer, and the operator's watermark is held back that much.
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        let lateness = duration_millis(lateness).min(BOUND_LIMIT_MS);
        IntervalJoined { lateness, ..self }
    }

    /// Gives out each pair, as soon as both rows are there.
    ///
    /// # Cost
    /// Per row three look-ups and a visit of the partner's rows in the interval and up to half an
    /// interval around it. Rows are kept up to one and a half intervals.
    #[track_caller]
    pub fn inner<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, &A, &B) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, B> {
        self.build(name.into(), Outer::NONE, pair::inner(f))
    }

    /// As [`inner`](Self::inner); left rows without a partner are given out alone when none can
    /// come any more, at most an eighth of the interval later.
    ///
    /// # Cost
    /// Per row nine look-ups at the most; where rows without a partner are given out, the bucket's
    /// rows are sorted.
    #[track_caller]
    pub fn left<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, &A, Option<&B>) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, B> {
        self.build(name.into(), Outer::LEFT, pair::left(f))
    }

    /// As [`left`](Self::left), with right rows without a partner.
    #[track_caller]
    pub fn right<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, Option<&A>, &B) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, B> {
        self.build(name.into(), Outer::RIGHT, pair::right(f))
    }

    /// As [`left`](Self::left), with the rows of both sides that have no partner.
    #[track_caller]
    pub fn full<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, Option<&A>, Option<&B>) -> R + Send + Sync + 'static,
    ) -> JoinOutput<R, A, B> {
        self.build(name.into(), Outer::BOTH, pair::full(f))
    }

    #[track_caller]
    fn build<R: Element>(
        &self,
        name: String,
        outer: Outer,
        f: impl Pairing<K, A, B, R>,
    ) -> JoinOutput<R, A, B> {
        let mut spec = OperatorSpec::stateful(name, "interval join", Location::caller());
        spec.needs_event_time = true;
        let interval = Interval { lower: self.lower, upper: self.upper, lateness: self.lateness };
        if interval.lower > interval.upper {
            spec.problems.push(format!(
                "the interval of a join is empty: no time is at least {} ms and at most {} ms \
                 after a row",
                interval.lower, interval.upper
            ));
        }
        let ConnectedStreams { left, right } = &self.streams;
        let (left, right) = (left.tagged_left::<B>(), right.tagged_right::<A>());
        let f = Arc::new(f);
        let make = move || IntervalOperator::new(interval, outer, f.clone());
        JoinOutput::new(left.job.operator2(&left, &right, spec, make))
    }
}

/// The bounds of a join, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Interval {
    lower: i64,
    upper: i64,
    lateness: i64,
}

const LEFT: TableId = TableId(0);
const RIGHT: TableId = TableId(1);
/// Rows without a partner that were not given out yet, by key. Written at a snapshot only.
const PENDING: TableId = TableId(2);

/// Rows without a partner, of one key, in a snapshot.
type Pending<A, B> = Vec<(i64, Either<A, B>)>;

struct Opened<K, A, B> {
    state: OperatorState,
    left: Side<K, A>,
    right: Side<K, B>,
    pending: Table<K, Pending<A, B>>,
}

struct IntervalOperator<K, A, B, F, R> {
    interval: Interval,
    outer: Outer,
    f: Arc<F>,
    bucket_ms: i64,
    /// The operator's watermark, for records of splits that were idle.
    watermark: EventTime,
    /// Of the first record of the input.
    cursor: Cursor,
    /// In order of (time, encoded key) within a bucket.
    unmatched: VecDeque<Unmatched<K, A, B>>,
    open: Option<Opened<K, A, B>>,
    results: PhantomData<fn() -> R>,
}

/// A row of the input beside its columns.
#[derive(Clone, Copy)]
struct Arrival {
    hash: u64,
    time: EventTime,
    mark: Option<EventTime>,
}

/// How far a row of the input has come.
enum Joined {
    /// Paired with all its partners.
    Done,
    /// There is no room for more pairs.
    InPart,
    /// Not to be joined; with the watermark that says so.
    Late(EventTime),
}

impl<K: Key, A: Data, B: Data, R: Element, F: Pairing<K, A, B, R>> IntervalOperator<K, A, B, F, R> {
    fn new(interval: Interval, outer: Outer, f: Arc<F>) -> Self {
        // An inner join looks into three buckets per row; where rows without a partner wait for
        // the end of their bucket, buckets are finer.
        let buckets = if outer == Outer::NONE { 2 } else { 8 };
        let span = interval.upper - interval.lower + 1;
        IntervalOperator {
            interval,
            outer,
            f,
            bucket_ms: (span + buckets - 1).div_euclid(buckets).max(1),
            watermark: EventTime::MIN,
            cursor: Cursor::default(),
            unmatched: VecDeque::new(),
            open: None,
            results: PhantomData,
        }
    }

    /// Pairs a row with its partners, from the cursor on, until the output is full.
    fn join_row(
        &mut self,
        row: &Keyed<K, Either<A, B>>,
        arrival: Arrival,
        out: &mut Outputs<'_, R, Either<A, B>>,
    ) -> Result<Joined> {
        let Arrival { hash, time, mark } = arrival;
        // The watermark of its split, or the operator's, where that has gone on without an idle
        // split.
        let judge = mark.unwrap_or(EventTime::MIN).max(self.watermark);
        if time.millis().saturating_add(self.interval.lateness) <= judge.millis() {
            return Ok(Joined::Late(judge));
        }
        let Some(open) = &mut self.open else { return Err(Error::bug("it was not opened")) };
        let (f, key) = (&*self.f, &row.key);
        let search = Search { key, hash, time, bucket_ms: self.bucket_ms };
        let (lower, upper) = (self.interval.lower, self.interval.upper);
        let is_done = match &row.value {
            Either::Left(a) => {
                search.run(&mut open.right, (lower, upper), &mut self.cursor, |b, at| {
                    push(out, f(key, Some(a), Some(b)), at)
                })
            }
            Either::Right(b) => {
                search.run(&mut open.left, (-upper, -lower), &mut self.cursor, |a, at| {
                    push(out, f(key, Some(a), Some(b)), at)
                })
            }
        }?;
        Ok(if is_done { Joined::Done } else { Joined::InPart })
    }

    /// Keeps a row as long as partners may come, or gives it out if it can have none any more.
    fn keep_row(
        &mut self,
        Keyed { key, value }: Keyed<K, Either<A, B>>,
        Arrival { hash, time, .. }: Arrival,
        out: &mut Outputs<'_, R, Either<A, B>>,
    ) -> Result<()> {
        let (watermark, lateness) = (self.watermark.millis(), self.interval.lateness);
        let Cursor { matched, .. } = std::mem::take(&mut self.cursor);
        let place = Place::at(bucket_of(time.millis(), self.bucket_ms));
        let Some(open) = &mut self.open else { return Err(Error::bug("it was not opened")) };
        let row_time = time.millis();
        let alone = match value {
            Either::Left(value) if open.left.expiry(row_time, lateness) > watermark => {
                let row = Row { time: row_time, matched, value };
                return Ok(open.left.rows.push(place, hash, &key, row)?);
            }
            Either::Right(value) if open.right.expiry(row_time, lateness) > watermark => {
                let row = Row { time: row_time, matched, value };
                return Ok(open.right.rows.push(place, hash, &key, row)?);
            }
            Either::Left(a) if self.outer.left && !matched => (self.f)(&key, Some(&a), None),
            Either::Right(b) if self.outer.right && !matched => (self.f)(&key, None, Some(&b)),
            Either::Left(_) | Either::Right(_) => None,
        };
        push(out, alone, time.millis());
        Ok(())
    }

    /// Drops the bucket that ends first, if it has ended at `watermark`, and queues its rows
    /// without a partner; false if there is none.
    fn expire(&mut self, watermark: EventTime) -> Result<bool> {
        let (lateness, last) = (self.interval.lateness, self.bucket_ms - 1);
        let Some(open) = &mut self.open else { return Err(Error::bug("it was not opened")) };
        let due = |bucket: Option<i64>, reach: i64| {
            let end = bucket?.saturating_add(last).saturating_add(reach).saturating_add(lateness);
            (end <= watermark.millis()).then_some(end)
        };
        let left = due(open.left.first_bucket(), open.left.reach);
        let right = due(open.right.first_bucket(), open.right.reach);
        let mut found = Vec::new();
        match (left, right) {
            (None, None) => return Ok(false),
            (Some(l), right) if right.is_none_or(|r| l <= r) => {
                open.left.drop_first(&mut found, Either::Left)?;
            }
            _ => open.right.drop_first(&mut found, Either::Right)?,
        }
        self.queue(found)?;
        Ok(true)
    }

    /// Queues rows without a partner in order of (time, encoded key).
    fn queue(&mut self, found: Vec<Unmatched<K, A, B>>) -> Result<()> {
        let mut order = Vec::with_capacity(found.len());
        for unmatched in found {
            let mut encoded = Vec::new();
            codec::encode_key(&unmatched.key, &mut encoded)?;
            order.push((unmatched.time, encoded, unmatched));
        }
        order.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        self.unmatched.extend(order.into_iter().map(|(.., unmatched)| unmatched));
        Ok(())
    }
}

/// Gives out a result, if there is one.
fn push<R, S>(out: &mut Outputs<'_, R, S>, result: Option<R>, time: i64) -> Visit {
    if out.is_full() {
        return Visit::Stop;
    }
    if let Some(result) = result {
        out.main.push(result, EventTime::from_millis(time));
    }
    Visit::Next
}

impl<K: Key, A: Data, B: Data, R: Element, F: Pairing<K, A, B, R>> Operator
    for IntervalOperator<K, A, B, F, R>
{
    type In = Keyed<K, Either<A, B>>;
    type Out = R;
    type Side = Either<A, B>;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        let Interval { lower, upper, .. } = self.interval;
        let bucket_ms = self.bucket_ms;
        let mut state = context.open_state()?;
        let mut left = Side::new(RowLists::new(&mut state, LEFT), upper, self.outer.left);
        let mut right = Side::new(RowLists::new(&mut state, RIGHT), -lower, self.outer.right);
        let mut pending: Table<K, Pending<A, B>> = state.table(PENDING);
        state.restore(context.restored, &mut |entry, value| match entry.table {
            LEFT => left.restore_entry(&entry, value, bucket_ms),
            RIGHT => right.restore_entry(&entry, value, bucket_ms),
            _ => pending.restore_entry(&entry, value),
        })?;
        left.finish_restore(bucket_ms)?;
        right.finish_restore(bucket_ms)?;
        let mut unmatched = Vec::new();
        pending.for_each(|key, hash, rows| {
            let row = |(time, row): &(i64, Either<A, B>)| Unmatched {
                time: *time,
                hash,
                key: key.clone(),
                row: row.clone(),
            };
            unmatched.extend(rows.iter().map(row));
        })?;
        // From here on they are in the queue, and no later snapshot must hold them here.
        pending.clear()?;
        self.open = Some(Opened { state, left, right, pending });
        self.queue(unmatched)
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, Either<A, B>>>,
        out: &mut Outputs<'_, R, Either<A, B>>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let mut values = VecDeque::from(std::mem::take(&mut input.values));
        let mut marks = Marks::of(&input.behind);
        let (mut taken, mut late) = (0, 0);
        while let Some(row) = values.front() {
            let (hash, time) = (input.hashes[taken], input.times[taken]);
            let arrival = Arrival { hash, time, mark: marks.at(taken) };
            let joined = self.join_row(row, arrival, out)?;
            if let Joined::InPart = joined {
                break;
            }
            taken += 1;
            match (values.pop_front(), joined) {
                (Some(row), Joined::Late(watermark)) => {
                    late += 1;
                    out.side.push_marked(row.value, time, Some(watermark));
                }
                (Some(row), _) => self.keep_row(row, arrival, out)?,
                (None, _) => {}
            }
            if out.is_full() {
                break;
            }
        }
        input.values = values.into();
        input.drain_columns(taken);
        context.metrics.add(Counter::Late, late);
        let Some(open) = &mut self.open else { return Err(Error::bug("it was not opened")) };
        open.left.rows.relieve()?;
        Ok(open.right.rows.relieve()?)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, R, Either<A, B>>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        loop {
            while let Some(Unmatched { time, key, row, .. }) = self.unmatched.front() {
                if out.is_full() {
                    return Ok(Advance::More);
                }
                let result = match row {
                    Either::Left(a) => (self.f)(key, Some(a), None),
                    Either::Right(b) => (self.f)(key, None, Some(b)),
                };
                push(out, result, *time);
                self.unmatched.pop_front();
            }
            if !self.expire(watermark)? {
                return Ok(Advance::Done);
            }
        }
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        let Interval { lower, upper, lateness } = self.interval;
        // A row may stay this much longer than until its last partner: its bucket's length.
        let alone = |is_outer: bool, reach: i64| match is_outer {
            true => (reach + self.bucket_ms - 1).max(0),
            false => 0,
        };
        let hold = alone(self.outer.left, upper).max(alone(self.outer.right, -lower));
        watermark.shifted(-(lateness + hold))
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let Some(open) = &mut self.open else { return Err(Error::bug("it was not opened")) };
        for Unmatched { time, hash, key, row } in &self.unmatched {
            open.pending.update(*hash, key, Vec::new, |rows| rows.push((*time, row.clone())))?;
        }
        let mut snapshot = open.state.begin_snapshot();
        open.left.rows.snapshot_into(&mut snapshot)?;
        open.right.rows.snapshot_into(&mut snapshot)?;
        open.pending.snapshot_into(&mut snapshot)?;
        context.put_state(open.state.finish_snapshot(snapshot));
        Ok(open.pending.clear()?)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let Some(open) = &mut self.open else { return Err(Error::bug("it was not opened")) };
        f(open.left.rows.state_table())?;
        f(open.right.rows.state_table())?;
        Ok(f(&mut open.pending)?)
    }
}

#[cfg(test)]
mod tests;
