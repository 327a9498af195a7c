//! The window operator: one accumulator per key and slice, shared by all windows over the slice.
//!
//! # Invariants
//! * I1: a slice's accumulators are kept per (slice, end of the first window that accepted the
//!   record), and a window combines only those whose first end is not after its own: a record
//!   late for one window and on time for the next is not counted by the first.
//! * I2: windows are given out in order of (end, encoded key), each once.
//! * I3: a window of one key group is fired when its end is greater than the group's `fired`, and
//!   not otherwise: after a restore key groups may have come differently far.
//! * I4: a slice is dropped when the last window over it has been fired.
//! * I5: `waiting` names the parts of slices (I1) that no window fired so far combines. Where
//!   windows overlap, `combined` has all the others, and each window adds those that it is the
//!   first for.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use thalweg_engine::state::{Namespace, OperatorState, SlicedTable, TableId};
use thalweg_engine::{
    Advance, Batch, Context, Counter, Data, EachTable, Error, EventTime, Key, OpenContext,
    Operator, Outputs, Result, SnapshotContext, planted,
};

use super::assigner::{Slice, Slices, WindowAssigner};
use super::combined::Combined;
use super::combiner::Part;
use super::firing::{Fired, Firing};
use super::progress::{FiringTables, Progress};
use super::{Window, WindowResult};
use crate::aggregate::Aggregate;
use crate::stream::Keyed;

/// Accumulators by slice.
const SLICES: TableId = TableId(0);
/// The end of the last window fired, by key group. Written at a snapshot only.
const FIRED: TableId = TableId(1);
/// Accumulators of final windows that were not given out yet. Written at a snapshot only.
const PENDING: TableId = TableId(2);

/// What the operator takes in.
pub(super) trait Intake<T, A: Aggregate<T>>: 'static {
    /// A record, or what stands for several.
    type Record: Data;

    /// Adds it to an accumulator.
    fn add(aggregate: &A, accumulator: &mut A::Accumulator, record: &Self::Record);

    /// The record, if it is one.
    fn late(record: &Self::Record) -> Option<T>;
}

/// Records as they come.
pub(super) struct Records;

impl<T: Data, A: Aggregate<T>> Intake<T, A> for Records {
    type Record = T;

    #[inline]
    fn add(aggregate: &A, accumulator: &mut A::Accumulator, record: &T) {
        aggregate.add(accumulator, record);
    }

    fn late(record: &T) -> Option<T> {
        Some(record.clone())
    }
}

/// What comes from a combiner.
pub(super) struct Parts;

impl<T: Data, A: Aggregate<T>> Intake<T, A> for Parts {
    type Record = Part<T, A::Accumulator>;

    fn add(aggregate: &A, accumulator: &mut A::Accumulator, record: &Self::Record) {
        match record {
            Part::Record(record) => aggregate.add(accumulator, record),
            Part::Combined(part) => aggregate.merge(accumulator, part),
        }
    }

    fn late(record: &Self::Record) -> Option<T> {
        match record {
            Part::Record(record) => Some(record.clone()),
            Part::Combined(_) => None,
        }
    }
}

pub(super) struct WindowOperator<K, T, A: Aggregate<T>, W, I> {
    slices: Slices,
    aggregate: Arc<A>,
    lateness_ms: i64,
    progress: Progress,
    firing: Firing<K, A::Accumulator>,
    /// The least end of a window that has contents and was not fired yet.
    next_end: Option<i64>,
    /// Parts of slices by the end of the first window that combines them, then by start.
    waiting: BTreeSet<(i64, i64)>,
    /// The last part that records went to.
    last_part: Option<(i64, i64)>,
    /// The operator's watermark, for records of splits that were idle.
    watermark: EventTime,
    open: Option<Opened<K, A::Accumulator>>,
    types: PhantomData<fn(T) -> (W, I)>,
}

struct Opened<K, V> {
    state: OperatorState,
    slices: SlicedTable<K, V>,
    /// What the current window has; none where every window is a slice.
    combined: Option<Combined<K, V>>,
    tables: FiringTables<K, V>,
}

/// What becomes of a record.
enum Verdict {
    /// It belongs to this slice, and this is the end of the first window that accepts it.
    Accepted(i64),
    Late,
    Gap,
}

impl<K, T, A, W, I> WindowOperator<K, T, A, W, I>
where
    K: Key,
    T: Data,
    A: Aggregate<T>,
    W: WindowAssigner,
    I: Intake<T, A>,
{
    pub(super) fn new(assigner: &W, aggregate: Arc<A>, lateness_ms: i64) -> Self {
        WindowOperator {
            slices: Slices::new(assigner),
            aggregate,
            lateness_ms,
            progress: Progress::new(),
            firing: Firing::new(),
            next_end: None,
            waiting: BTreeSet::new(),
            last_part: None,
            watermark: EventTime::MIN,
            open: None,
            types: PhantomData,
        }
    }

    fn opened(&mut self) -> Result<&mut Opened<K, A::Accumulator>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    /// Late for a window iff `max_ts + lateness <= w`.
    fn is_late(&self, end: i64, watermark: EventTime) -> bool {
        (end - 1).saturating_add(self.lateness_ms) <= watermark.millis()
    }

    /// The watermark that judges a record: its split's, where the record is behind it; the
    /// operator's, where that has gone on without an idle split.
    fn effective(&self, slice: &Slice, behind: Option<EventTime>) -> Option<EventTime> {
        if planted!(LatenessAtOperator) {
            return Some(self.watermark);
        }
        if self.is_late(slice.first_end, self.watermark) {
            return behind.max(Some(self.watermark));
        }
        behind
    }

    /// Judges a record by the watermark of its split, where it is behind it.
    fn judge(&self, slice: &Slice, behind: Option<EventTime>) -> Verdict {
        if slice.last_end < slice.first_end {
            return Verdict::Gap;
        }
        let Some(watermark) = behind else { return Verdict::Accepted(slice.first_end) };
        if self.is_late(slice.last_end, watermark) {
            return Verdict::Late;
        }
        if planted!(SlicesForgetLateness) {
            return Verdict::Accepted(slice.first_end);
        }
        // The first end for which the record is not late.
        let last_late = watermark.millis().saturating_add(1).saturating_sub(self.lateness_ms);
        Verdict::Accepted(self.slices.next_end(slice.first_end, last_late))
    }

    /// Queues the contents of the window that ends at `end`.
    fn fire(&mut self, end: i64) -> Result<()> {
        let aggregate = self.aggregate.clone();
        let start = end - self.slices.size();
        let waiting = self.waiting.split_off(&(end.saturating_add(1), i64::MIN));
        let entering = std::mem::replace(&mut self.waiting, waiting);
        self.last_part = None;
        let progress = self.progress.clone();
        let Opened { slices, combined, .. } = self.opened()?;
        let is_due = |hash: u64| end > progress.of_hash(hash);
        let mut window: Vec<Fired<K, A::Accumulator>> = Vec::new();
        if let Some(combined) = combined {
            for (first_end, slice) in entering {
                let part = Namespace(slice, first_end);
                combined.move_start(first_end - (end - start), slices, &*aggregate)?;
                let Some(table) = slices.get_slice(part) else { continue };
                combined.enter(part, table, &*aggregate)?;
            }
            combined.move_start(start, slices, &*aggregate)?;
            combined.for_each(start, &*aggregate, |key, hash, accumulator| {
                if is_due(hash) {
                    window.push(Fired { end, key: key.clone(), hash, accumulator });
                }
            })?;
        } else if let Some(table) = slices.get_slice(Namespace(start, end)) {
            table.for_each(|key, hash, accumulator| {
                if is_due(hash) {
                    let (key, accumulator) = (key.clone(), accumulator.clone());
                    window.push(Fired { end, key, hash, accumulator });
                }
            })?;
        }
        let is_sorted = combined.is_some();
        match is_sorted {
            true => self.firing.extend(window),
            false => self.firing.push_window(window)?,
        }
        self.progress.reach(end);
        Ok(())
    }

    /// Notes the least end of a window that may have contents and was not fired yet.
    fn find_next_end(&mut self) -> Result<()> {
        let (slices, fired) = (self.slices, self.progress.fired);
        let waiting = self.waiting.iter().filter_map(|&(first, slice)| {
            let end = slices.next_end(first, fired);
            (end <= slices.last_end(slice)).then_some(end)
        });
        // Where nothing was restored, all that waits has its first window still to come.
        let waiting = match self.waiting.first() {
            Some(&(first, _)) if first > fired => Some(first),
            _ => waiting.min(),
        };
        let is_moving = self.opened()?.combined.as_ref().is_some_and(|c| !c.is_empty());
        let moved = is_moving.then_some(fired.saturating_add(slices.slide()));
        self.next_end = moved.into_iter().chain(waiting).min();
        Ok(())
    }

    /// Notes that a part of a slice has records for windows from `first_end` on.
    fn expect_part(&mut self, slice: i64, first_end: i64) -> Result<()> {
        if self.last_part == Some((first_end, slice)) {
            return Ok(());
        }
        self.last_part = Some((first_end, slice));
        let next_end = self.slices.next_end(first_end, self.progress.fired);
        self.next_end = Some(self.next_end.map_or(next_end, |next| next.min(next_end)));
        self.waiting.insert((first_end, slice));
        if first_end <= self.progress.fired {
            // The part may have been combined already, which can only be after a restore.
            self.wait_for_all()?;
        }
        Ok(())
    }

    /// Has the next window combine all parts anew.
    fn wait_for_all(&mut self) -> Result<()> {
        let Opened { slices, combined, .. } = self.opened()?;
        if let Some(combined) = combined {
            combined.clear()?;
        }
        let parts: Vec<_> = slices.namespaces().map(|Namespace(s, first)| (first, s)).collect();
        self.waiting.extend(parts);
        Ok(())
    }

    /// Drops the slices whose last window has been fired.
    fn drop_slices(&mut self) -> Result<()> {
        if planted!(KeepFiredWindows) {
            return Ok(());
        }
        let (slices, fired) = (self.slices, self.progress.fired);
        let opened = self.opened()?;
        let done: Vec<Namespace> = opened
            .slices
            .namespaces()
            .take_while(|&Namespace(slice, _)| slices.last_end(slice) <= fired)
            .collect();
        for namespace in done {
            opened.slices.drop_slice(namespace)?;
        }
        Ok(())
    }

    /// Gives out what is queued until the output is full; true if all was given out.
    fn give_out(&mut self, out: &mut Outputs<'_, WindowResult<K, A::Out>, T>) -> bool {
        while !out.is_full() {
            let Some(Fired { end, key, accumulator, .. }) = self.firing.pop() else { return true };
            let (start, end) = (end - self.slices.size(), end);
            let window =
                Window { start: EventTime::from_millis(start), end: EventTime::from_millis(end) };
            let value = self.aggregate.finish(&accumulator);
            out.main.push(WindowResult { key, window, value }, window.max_time());
        }
        self.firing.is_empty()
    }
}

impl<K, T, A, W, I> Operator for WindowOperator<K, T, A, W, I>
where
    K: Key,
    T: Data,
    A: Aggregate<T>,
    W: WindowAssigner,
    I: Intake<T, A>,
{
    type In = Keyed<K, I::Record>;
    type Out = WindowResult<K, A::Out>;
    type Side = T;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        let mut state = context.open_state()?;
        let mut slices = state.sliced(SLICES);
        let mut tables = FiringTables::open(&mut state, [FIRED, PENDING], context)?;
        let mut restore = state.begin_restore(context.restored)?;
        restore.leave(&mut slices)?;
        restore.run(&mut |key, value| match key.table {
            SLICES => slices.restore_entry(&key, value),
            _ => tables.restore_entry(&key, value),
        })?;
        self.progress = tables.finish_restore(&mut self.firing)?;
        let key_groups = context.key_group_count;
        let combined = match self.slices.slide() < self.slices.size() {
            true => Some(Combined::new(&self.slices, key_groups)?),
            false => None,
        };
        self.open = Some(Opened { state, slices, combined, tables });
        self.wait_for_all()?;
        self.find_next_end()
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, I::Record>>,
        out: &mut Outputs<'_, WindowResult<K, A::Out>, T>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let (values, times, hashes) = (&input.values, &input.times, &input.hashes);
        let mut marks = input.marks();
        let (mut index, mut gap) = (0, 0);
        while index < values.len() {
            let slice = self.slices.at(times[index].millis());
            let mark = self.effective(&slice, marks.at(index));
            let first_end = match self.judge(&slice, mark) {
                Verdict::Accepted(first_end) => first_end,
                verdict => {
                    if let Verdict::Late = verdict {
                        let late = I::late(&values[index].value).ok_or_else(|| {
                            Error::bug("records that were combined came too late")
                        })?;
                        out.side.push_marked(late, times[index], mark);
                    } else {
                        gap += 1;
                    }
                    index += 1;
                    continue;
                }
            };
            // The run of records that go the same way.
            let mut end = index + 1;
            if mark.is_none() {
                let until = marks.next_index().unwrap_or(values.len());
                let belongs = |t: EventTime| slice.start <= t.millis() && t.millis() < slice.end;
                while end < until && belongs(times[end]) {
                    end += 1;
                }
            }
            self.expect_part(slice.start, first_end)?;
            let aggregate = self.aggregate.clone();
            let run = &values[index..end];
            self.opened()?.slices.slice(Namespace(slice.start, first_end)).update_batch(
                &hashes[index..end],
                |i| &run[i].key,
                || aggregate.create(),
                |i, accumulator| I::add(&aggregate, accumulator, &run[i].value),
            )?;
            index = end;
        }
        context.metrics.add(Counter::Late, out.side.len() as u64);
        context.metrics.add(Counter::Gap, gap);
        input.clear();
        Ok(self.opened()?.slices.relieve()?)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, WindowResult<K, A::Out>, T>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        loop {
            if !self.give_out(out) {
                return Ok(Advance::More);
            }
            match self.next_end {
                Some(end) if self.is_late(end, watermark) => {
                    self.fire(end)?;
                    self.drop_slices()?;
                    self.find_next_end()?;
                }
                _ => return Ok(Advance::Done),
            }
        }
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        watermark.shifted(-self.lateness_ms)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let opened = self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        // Without contents nothing can be fired again.
        let progress = (!opened.slices.is_empty()).then_some(&self.progress);
        let mut snapshot = opened.state.begin_snapshot();
        opened.slices.snapshot_into(&mut snapshot)?;
        opened.tables.snapshot_into(progress, self.firing.iter(), &mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        opened.tables.after_snapshot()
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let opened = self.opened()?;
        f(&mut opened.slices)?;
        opened.tables.each_table(f)
    }
}

#[cfg(test)]
mod tests;
