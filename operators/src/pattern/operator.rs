//! The pattern operator: sorts the events of each key by time and feeds them to its automaton.
//!
//! # Invariants
//! * I1: a key is in the timer slice of the time at which it is next due: of its first waiting
//!   event, of its oldest run's end, or, for a time far away, of an earlier instant, at which the
//!   right one is looked up. A key without anything waiting has no entry in any table.
//! * I2: what is due at one time is done key by key in order of encoded keys, runs that time out
//!   before events; so what is found does not depend on how far the watermark goes at once.
//! * I3: all that is due up to `watermark - lateness` has been found when `advance` is done, and
//!   later events are late. So matches are never behind what was forwarded.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use thalweg_engine::state::{Namespace, OperatorState, SlicedTable, Table, TableId, codec};
use thalweg_engine::{
    Advance, BATCH_RECORDS, Batch, Context, Counter, Data, EachTable, Error, EventTime, Key,
    OpenContext, Operator, Outputs, RecordId, Result, SnapshotContext,
};

use super::nfa::{Found, Matcher, Matching};
use super::{PatternMatch, PatternSide};
use crate::stream::Keyed;

const STATES: TableId = TableId(0);
/// Timers: a slice per time, an entry per key.
const TIMERS: TableId = TableId(1);

/// An event that waits for the watermark.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Waiting<T> {
    time: i64,
    id: RecordId,
    value: T,
}

/// What is kept of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeyState<T> {
    /// In order of time and identity.
    waiting: VecDeque<Waiting<T>>,
    matching: Matching<T>,
    /// The timer slice that the key is in.
    timer: Option<i64>,
}

impl<T> Default for KeyState<T> {
    fn default() -> Self {
        KeyState { waiting: VecDeque::new(), matching: Matching::default(), timer: None }
    }
}

impl<T: Data> KeyState<T> {
    fn insert(&mut self, event: Waiting<T>) {
        let order = |waiting: &Waiting<T>| (waiting.time, waiting.id);
        let place = self.waiting.partition_point(|waiting| order(waiting) <= order(&event));
        self.waiting.insert(place, event);
    }

    /// Does the next thing that is due at `time`; false if there is none.
    fn turn(&mut self, matcher: &mut Matcher<T>, time: i64) -> bool {
        let start = self.matching.oldest_start();
        if start.and_then(|start| matcher.automaton().deadline(start)).is_some_and(|at| at <= time)
        {
            matcher.expire(&mut self.matching, time);
            return true;
        }
        if let Some(event) = self.waiting.pop_front_if(|event| event.time <= time) {
            matcher.feed(&mut self.matching, event.time, event.value);
            return true;
        }
        if time == i64::MAX && self.matching.has_held() {
            matcher.end(&mut self.matching, time);
            return true;
        }
        false
    }

    /// When something is due next.
    fn next_due(&self, matcher: &Matcher<T>) -> Option<i64> {
        let event = self.waiting.front().map(|event| event.time);
        let start = self.matching.oldest_start();
        let deadline = start.and_then(|start| matcher.automaton().deadline(start));
        // A match that waits for another one is given out at the end of the input.
        let end = self.matching.has_held().then_some(i64::MAX);
        [event, deadline, end].into_iter().flatten().min()
    }
}

pub(super) struct PatternOperator<K, T> {
    matcher: Matcher<T>,
    lateness_ms: i64,
    /// Timers further away than this stand at a multiple of it: with the square root of `within`,
    /// there are about as many slices near as far.
    grain_ms: i64,
    watermark: EventTime,
    /// Keys that are due, in order of (time, encoded key). They are in the table until done.
    due: VecDeque<(i64, u64, K)>,
    /// Timers to be moved: record, old and new time.
    moves: Vec<(usize, Option<i64>, i64)>,
    open: Option<Opened<K, T>>,
}

struct Opened<K, T> {
    state: OperatorState,
    states: Table<K, KeyState<T>>,
    timers: SlicedTable<K, ()>,
}

impl<K: Key, T: Data> PatternOperator<K, T> {
    pub(super) fn new(matcher: Matcher<T>, lateness_ms: i64) -> Self {
        let within = matcher.automaton().within_ms.unwrap_or(0);
        PatternOperator {
            matcher,
            lateness_ms,
            grain_ms: within.isqrt().max(1),
            watermark: EventTime::MIN,
            due: VecDeque::new(),
            moves: Vec::new(),
            open: None,
        }
    }

    /// Late iff `ts + lateness <= w`.
    fn is_late(&self, time: EventTime, watermark: EventTime) -> bool {
        time.millis().saturating_add(self.lateness_ms) <= watermark.millis()
    }

    /// The watermark that a record is late for: its split's, or the operator's, where that has
    /// gone on without an idle split.
    fn late_mark(&self, time: EventTime, mark: Option<EventTime>) -> Option<EventTime> {
        if self.is_late(time, self.watermark) {
            return mark.max(Some(self.watermark));
        }
        mark.filter(|&mark| self.is_late(time, mark))
    }

    /// Finds the keys that are due at the earliest time up to `cutoff`.
    fn find_due(&mut self, cutoff: i64) -> Result<()> {
        let opened = self.open.as_mut().ok_or_else(not_opened)?;
        loop {
            let first = opened.timers.namespaces().next();
            let Some(slice) = first.filter(|first| first.0 <= cutoff) else { return Ok(()) };
            let mut keys = Vec::new();
            if let Some(table) = opened.timers.get_slice(slice) {
                table.for_each(|key, hash, ()| keys.push((Vec::new(), hash, key.clone())))?;
            }
            if keys.is_empty() {
                opened.timers.drop_slice(slice)?;
                continue;
            }
            for (encoded, _, key) in &mut keys {
                codec::encode_key(key, encoded)?;
            }
            keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            self.due.extend(keys.into_iter().map(|(_, hash, key)| (slice.0, hash, key)));
            return Ok(());
        }
    }

    /// Does what is due for the first key of `due`, until the output is full; true if all is done.
    fn work_off(
        &mut self,
        out: &mut Outputs<'_, PatternMatch<K, T>, PatternSide<K, T>>,
    ) -> Result<bool> {
        let PatternOperator { matcher, due, grain_ms, open, .. } = self;
        let opened = open.as_mut().ok_or_else(not_opened)?;
        let Some((time, hash, key)) = due.front() else { return Ok(true) };
        let (time, hash) = (*time, *hash);
        let (is_done, next) = opened.states.update(hash, key, KeyState::default, |state| {
            while !out.is_full() {
                if !state.turn(matcher, time) {
                    let next = state.next_due(matcher);
                    state.timer = next.map(|next| timer_slice(next, time, *grain_ms));
                    return (true, state.timer);
                }
                for found in matcher.found.drain(..) {
                    give_out(key, found, out);
                }
            }
            (false, None)
        })?;
        if !is_done {
            return Ok(false);
        }
        if let Some(slice) = opened.timers.get_slice(Namespace(time, 0)) {
            slice.remove(hash, key)?;
        }
        match next {
            Some(next) => opened.timers.slice(Namespace(next, 0)).insert(hash, key, ())?,
            None => {
                let is_idle = |state: &KeyState<T>| state.matching.is_idle();
                if opened.states.get(hash, key)?.is_some_and(is_idle) {
                    opened.states.remove(hash, key)?;
                }
            }
        }
        due.pop_front();
        Ok(true)
    }
}

fn not_opened() -> Error {
    Error::bug("the operator was not opened")
}

/// The timer slice for what is due at `due`, when it is `now`.
fn timer_slice(due: i64, now: i64, grain_ms: i64) -> i64 {
    if due.saturating_sub(now) <= grain_ms {
        return due;
    }
    due.div_euclid(grain_ms).saturating_mul(grain_ms)
}

/// Gives out a match, or a partial one that was cut off, at the time at which it was decided.
fn give_out<K: Key, T: Data>(
    key: &K,
    found: Found<T>,
    out: &mut Outputs<'_, PatternMatch<K, T>, PatternSide<K, T>>,
) {
    let Found { is_timed_out, stages, start, end, at } = found;
    // What is decided by the end of the input gets the last time that a record may have.
    let at = EventTime::from_millis(at.min(EventTime::RECORD_LIMIT_MS));
    let [start, end] = [start, end].map(EventTime::from_millis);
    let found = PatternMatch { key: key.clone(), start, end, stages };
    if is_timed_out {
        out.side.push(PatternSide::TimedOut(found), at);
    } else {
        out.main.push(found, at);
    }
}

impl<K: Key, T: Data> Operator for PatternOperator<K, T> {
    type In = Keyed<K, T>;
    type Out = PatternMatch<K, T>;
    type Side = PatternSide<K, T>;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        let mut state = context.open_state()?;
        let (mut states, mut timers) = (state.table(STATES), state.sliced(TIMERS));
        state.restore(context.restored, &mut |key, value| match key.table {
            STATES => states.restore_entry(&key, value),
            _ => timers.restore_entry(&key, value),
        })?;
        self.open = Some(Opened { state, states, timers });
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, Self::Out, Self::Side>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let mut marks = std::mem::take(&mut input.behind);
        marks.reverse();
        let (mut keys, mut events) = (Vec::new(), Vec::new());
        let mut hashes = Vec::with_capacity(input.len());
        let mut values = std::mem::take(&mut input.values);
        keys.reserve(values.len());
        events.reserve(values.len());
        for (index, Keyed { key, value }) in values.drain(..).enumerate() {
            let time = input.times[index];
            let mark = marks.pop_if(|mark| mark.index as usize == index);
            if let Some(mark) = self.late_mark(time, mark.map(|mark| mark.watermark)) {
                out.side.push_marked(PatternSide::Late(value), time, Some(mark));
                continue;
            }
            hashes.push(input.hashes[index]);
            keys.push(key);
            events.push(Some(Waiting { time: time.millis(), id: input.id(index), value }));
        }
        context.metrics.add(Counter::Late, out.side.len() as u64);
        input.clear();
        let (opened, moves) = (self.open.as_mut().ok_or_else(not_opened)?, &mut self.moves);
        opened.states.update_batch(
            &hashes,
            |i| &keys[i],
            KeyState::default,
            |i, state| {
                let Some(event) = events[i].take() else { return };
                let time = event.time;
                state.insert(event);
                if state.timer.is_none_or(|timer| time < timer) {
                    moves.push((i, state.timer.replace(time), time));
                }
            },
        )?;
        for (i, old, new) in moves.drain(..) {
            if let Some(slice) = old.and_then(|old| opened.timers.get_slice(Namespace(old, 0))) {
                slice.remove(hashes[i], &keys[i])?;
            }
            opened.timers.slice(Namespace(new, 0)).insert(hashes[i], &keys[i], ())?;
        }
        opened.states.relieve()?;
        Ok(opened.timers.relieve()?)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, Self::Out, Self::Side>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        let cutoff = watermark.shifted(-self.lateness_ms).millis();
        let mut calls = 0;
        loop {
            if self.due.is_empty() {
                self.find_due(cutoff)?;
            }
            if self.due.is_empty() {
                return Ok(Advance::Done);
            }
            let is_done = self.work_off(out)?;
            calls += 1;
            if !is_done || calls >= BATCH_RECORDS {
                return Ok(Advance::More);
            }
        }
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        watermark.shifted(-self.lateness_ms)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let opened = self.open.as_mut().ok_or_else(not_opened)?;
        let mut snapshot = opened.state.begin_snapshot();
        opened.states.snapshot_into(&mut snapshot)?;
        opened.timers.snapshot_into(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        Ok(())
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let opened = self.open.as_mut().ok_or_else(not_opened)?;
        f(&mut opened.states)?;
        Ok(f(&mut opened.timers)?)
    }
}
