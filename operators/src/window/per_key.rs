//! The operator of windows whose bounds depend on the records of a key: sessions, record-aligned
//! and global windows.
//!
//! # Invariants
//! * I1: all windows of a key are one entry of one table: a look-up per record.
//! * I2: a key has a timer at or before the time at which something of it becomes due, and its
//!   entry says when. The timer is set anew when it is found to be early, so most records set none.
//! * I3: windows are given out in order of (time, encoded key), each once: they stay in the table
//!   until they are, so a snapshot in between holds what is left.
//! * I4: a record is late iff `time + lateness <= w`. What is due at `t` fires when
//!   `t + lateness <= W`, and `W <= w`: no record that is on time belongs to what was fired.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::metrics::Counter;
use thalweg_engine::state::{OperatorState, Table, TableId, codec};
use thalweg_engine::{
    Advance, Batch, Context, Data, EachTable, Error, EventTime, Key, OpenContext, Operator,
    Outputs, Result, SnapshotContext,
};

use super::firing::sorted_by_key;
use super::timers::Timers;
use super::{Window, WindowOutput, WindowResult};
use crate::aggregate::Aggregate;
use crate::stream::{Keyed, WindowedStream};

/// How the windows of one key are kept, and when they are due.
pub(super) trait KeyWindows<T, A: Aggregate<T>>: Send + Sync + 'static {
    /// The windows of one key.
    type Contents: Data;

    /// No windows.
    fn create(&self) -> Self::Contents;

    /// Adds a record that is on time.
    fn add(&self, contents: &mut Self::Contents, aggregate: &A, time: i64, record: &T);

    /// When something is due next; `END` if at the end of the input only, none if nothing is left.
    fn next_due(&self, contents: &Self::Contents) -> Option<i64>;

    /// Does what is due at `due`; what was due before has been done.
    fn fire(&self, contents: &mut Self::Contents, aggregate: &A, due: i64)
    -> Option<Fired<A::Out>>;

    /// Whether a record of this time is late where the watermark is `watermark`.
    fn is_late(&self, time: i64, lateness_ms: i64, watermark: i64) -> bool {
        time.saturating_add(lateness_ms) <= watermark
    }

    /// The watermark that no result to come is behind.
    fn forwarded(&self, watermark: EventTime, lateness_ms: i64) -> EventTime;
}

/// A window that is final.
pub(super) struct Fired<R> {
    pub(super) window: Window,
    /// The time of the result.
    pub(super) time: EventTime,
    pub(super) value: R,
}

/// The time of what is due at the end of the input only. No timers are set for it.
pub(super) const END: i64 = i64::MAX;

const KEYS: TableId = TableId(0);
/// Timers. They are set again when the operator is opened.
const TIMERS: TableId = TableId(1);

/// The state of a key.
#[derive(Clone, Serialize, Deserialize)]
struct Entry<C> {
    /// When its timer stands; others of its timers do not count.
    timer: i64,
    contents: C,
}

/// Adds the operator behind a windowed stream.
pub(super) fn aggregate<K: Key, T: Data, A: Aggregate<T>, W: KeyWindows<T, A>>(
    windowed: &WindowedStream<K, T, W>,
    mut spec: OperatorSpec,
    aggregate: A,
) -> WindowOutput<K, T, A::Out> {
    spec.level = aggregate.level();
    spec.problems.extend(aggregate.problems());
    let (windows, lateness) = (windowed.assigner.clone(), windowed.allowed_lateness_ms);
    let aggregate = Arc::new(aggregate);
    let results = windowed.stream.job.operator(&windowed.stream, spec, move || {
        PerKeyOperator::<K, T, A, W>::new(windows.clone(), aggregate.clone(), lateness)
    });
    WindowOutput { late: results.side(), results }
}

pub(super) struct PerKeyOperator<K, T, A: Aggregate<T>, W: KeyWindows<T, A>> {
    windows: Arc<W>,
    aggregate: Arc<A>,
    lateness_ms: i64,
    /// The operator's watermark, for records of splits that were idle.
    watermark: EventTime,
    /// Keys to look at because they have a timer at `due_at`, in the order of their encodings.
    due: VecDeque<(u64, K)>,
    due_at: i64,
    /// Timers to be set, by place in the batch.
    timers_to_set: Vec<(usize, i64)>,
    open: Option<Opened<K, W::Contents>>,
    records: PhantomData<fn(T)>,
}

struct Opened<K, C> {
    state: OperatorState,
    keys: Table<K, Entry<C>>,
    timers: Timers<K>,
}

impl<K: Key, T: Data, A: Aggregate<T>, W: KeyWindows<T, A>> PerKeyOperator<K, T, A, W> {
    pub(super) fn new(windows: Arc<W>, aggregate: Arc<A>, lateness_ms: i64) -> Self {
        PerKeyOperator {
            windows,
            aggregate,
            lateness_ms,
            watermark: EventTime::MIN,
            due: VecDeque::new(),
            due_at: i64::MIN,
            timers_to_set: Vec::new(),
            open: None,
            records: PhantomData,
        }
    }

    fn opened(&mut self) -> Result<&mut Opened<K, W::Contents>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    /// The watermark for which a record is late, if it is: its split's, where it is behind it; the
    /// operator's, where that has gone on without an idle split.
    fn late_for(&self, time: EventTime, behind: Option<EventTime>) -> Option<EventTime> {
        let is_late = |watermark: EventTime| {
            self.windows.is_late(time.millis(), self.lateness_ms, watermark.millis())
        };
        if is_late(self.watermark) {
            return behind.max(Some(self.watermark));
        }
        behind.filter(|&watermark| is_late(watermark))
    }

    /// Adds records that are on time.
    fn add(&mut self, records: &[Keyed<K, T>], times: &[EventTime], hashes: &[u64]) -> Result<()> {
        let (windows, aggregate) = (self.windows.clone(), self.aggregate.clone());
        let mut timers_to_set = std::mem::take(&mut self.timers_to_set);
        let opened = self.opened()?;
        opened.keys.update_batch(
            hashes,
            |i| &records[i].key,
            || Entry { timer: END, contents: windows.create() },
            |i, Entry { timer, contents }| {
                let time = times.get(i).copied().unwrap_or(EventTime::MIN).millis();
                windows.add(contents, &aggregate, time, &records[i].value);
                if let Some(due) = windows.next_due(contents).filter(|due| due < timer) {
                    *timer = due;
                    timers_to_set.push((i, due));
                }
            },
        )?;
        for (i, due) in timers_to_set.drain(..) {
            opened.timers.set(due, hashes[i], &records[i].key)?;
        }
        self.timers_to_set = timers_to_set;
        Ok(())
    }

    /// Finds the keys to look at next, if there are any at this watermark.
    fn find_due(&mut self, watermark: EventTime) -> Result<bool> {
        let lateness_ms = self.lateness_ms;
        let opened = self.opened()?;
        let until = match watermark {
            EventTime::MAX => END - 1,
            watermark => watermark.millis().saturating_sub(lateness_ms),
        };
        let (due_at, keys) = match opened.timers.take_due(until)? {
            Some(due) => due,
            None if watermark == EventTime::MAX => {
                let mut keys = Vec::new();
                opened.keys.for_each(|key, hash, entry| {
                    if entry.timer == END {
                        keys.push((hash, key.clone()));
                    }
                })?;
                (END, keys)
            }
            None => return Ok(false),
        };
        if keys.is_empty() {
            return Ok(false);
        }
        self.due_at = due_at;
        if keys.len() == 1 {
            self.due.extend(keys);
        } else {
            self.due.extend(sorted_by_key(keys, |(_, key)| key)?);
        }
        Ok(true)
    }

    /// Does what is due of a key, if this is the timer that counts.
    fn look_at(&mut self, hash: u64, key: &K) -> Result<Option<Fired<A::Out>>> {
        let (windows, aggregate, due_at) =
            (self.windows.clone(), self.aggregate.clone(), self.due_at);
        let opened = self.opened()?;
        if opened.keys.get(hash, key)?.is_none_or(|entry| entry.timer != due_at) {
            return Ok(None);
        }
        let create = || Entry { timer: END, contents: windows.create() };
        let (fired, next) = opened.keys.update(hash, key, create, |entry| {
            let fired = windows.fire(&mut entry.contents, &aggregate, due_at);
            let next = windows.next_due(&entry.contents);
            entry.timer = next.unwrap_or(END);
            (fired, next)
        })?;
        match next {
            None => drop(opened.keys.remove(hash, key)?),
            Some(END) => {}
            Some(next) => opened.timers.set(next, hash, key)?,
        }
        Ok(fired)
    }
}

impl<K: Key, T: Data, A: Aggregate<T>, W: KeyWindows<T, A>> Operator
    for PerKeyOperator<K, T, A, W>
{
    type In = Keyed<K, T>;
    type Out = WindowResult<K, A::Out>;
    type Side = T;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        let mut state = context.open_state()?;
        let mut keys = state.table(KEYS);
        let mut timers = Timers::new(state.sliced(TIMERS));
        let mut failed = None;
        state.restore(context.restored, &mut |key, value| {
            if key.table != KEYS {
                return Ok(());
            }
            let Entry::<W::Contents> { timer, .. } = codec::decode(value)?;
            let decoded: K = codec::decode_key(key.key)?;
            let hash = thalweg_engine::state::hash_key(&decoded)?;
            if timer != END && failed.is_none() {
                failed = timers.set(timer, hash, &decoded).err();
            }
            keys.restore_entry(&key, value)
        })?;
        self.open = Some(Opened { state, keys, timers });
        failed.map_or(Ok(()), Err)
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, WindowResult<K, A::Out>, T>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let (values, times, hashes) = (&input.values, &input.times, &input.hashes);
        let mut marks = input.marks();
        // Runs of records that are on time, between late ones.
        let mut start = 0;
        for index in 0..=values.len() {
            let late = match times.get(index) {
                Some(&time) => self.late_for(time, marks.at(index)).map(|mark| (time, mark)),
                None => None,
            };
            if late.is_none() && index < values.len() {
                continue;
            }
            let times = times.get(start..index).unwrap_or_default();
            self.add(&values[start..index], times, &hashes[start..index])?;
            if let Some((time, mark)) = late {
                out.side.push_marked(values[index].value.clone(), time, Some(mark));
            }
            start = index + 1;
        }
        context.metrics.add(Counter::Late, out.side.len() as u64);
        input.clear();
        let opened = self.opened()?;
        opened.keys.relieve()?;
        opened.timers.relieve()
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, WindowResult<K, A::Out>, T>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        loop {
            while let Some((hash, key)) = self.due.pop_front() {
                if let Some(Fired { window, time, value }) = self.look_at(hash, &key)? {
                    out.main.push(WindowResult { key, window, value }, time);
                }
                if out.is_full() {
                    return Ok(Advance::More);
                }
            }
            if !self.find_due(watermark)? {
                return Ok(Advance::Done);
            }
        }
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        self.windows.forwarded(watermark, self.lateness_ms)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let opened = self.opened()?;
        let mut snapshot = opened.state.begin_snapshot();
        opened.keys.snapshot_into(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        Ok(())
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        Ok(f(&mut self.opened()?.keys)?)
    }
}

#[cfg(test)]
mod tests;
