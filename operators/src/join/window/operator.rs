//! The operator behind a window join; see the parent module for its invariants.

use std::sync::Arc;

use thalweg_engine::state::{
    BackendConfig, KeyGroupCount, KeyGroupRange, OperatorState, Table, TableId,
};
use thalweg_engine::{
    Advance, Batch, Context, Counter, Data, EachTable, Error, EventTime, Key, Marks, OpenContext,
    Operator, Outputs, Result, SnapshotContext,
};

use super::matcher::{Matcher, Rows};
use crate::join::rows::{Place, RowLists, Visit};
use crate::stream::{Either, Keyed};
use crate::window::{Fired, Firing, FiringTables, Progress, Slice, Slices, Window};

const LEFT: TableId = TableId(0);
const RIGHT: TableId = TableId(1);
/// The end of the last window fired, by key group. Written at a snapshot only.
const FIRED: TableId = TableId(2);
/// The keys of final windows that were not given out yet, and the number of results that were.
/// Written at a snapshot only.
const PENDING: TableId = TableId(3);

pub(super) struct WindowJoinOperator<K, A, B, M: Matcher<K, A, B>> {
    slices: Slices,
    lateness_ms: i64,
    matcher: Arc<M>,
    progress: Progress,
    /// Keys of final windows, with the number of their results that have been given out.
    firing: Firing<K, u64>,
    /// The key being given out.
    current: Option<Current<K, A, B, M::Rest>>,
    /// The places of the rows of the window being given out.
    places: Places,
    /// The least end of a window that has contents and was not fired yet.
    next_end: Option<i64>,
    /// Whether slices may be there that no window needs any more.
    has_done_slices: bool,
    /// The operator's watermark, for records of splits that were idle.
    watermark: EventTime,
    open: Option<Opened<K, A, B>>,
}

/// A key whose results are being given out.
struct Current<K, A, B, Rest> {
    fired: Fired<K, u64>,
    rows: Rows<A, B>,
    rest: Rest,
}

/// The places whose rows belong to the window that ends at `end`.
#[derive(Default)]
struct Places {
    end: Option<i64>,
    left: Vec<Place>,
    right: Vec<Place>,
}

struct Opened<K, A, B> {
    state: OperatorState,
    left: RowLists<K, A>,
    right: RowLists<K, B>,
    tables: FiringTables<K, u64>,
    key_groups: KeyGroupCount,
}

/// What becomes of a row.
enum Verdict {
    /// It belongs to its slice, and this is the end of the first window that accepts it.
    Accepted(i64),
    /// No window accepts it, because of this watermark.
    Late(EventTime),
    Gap,
}

impl<K: Key, A: Data, B: Data, M: Matcher<K, A, B>> WindowJoinOperator<K, A, B, M> {
    pub(super) fn new(slices: Slices, lateness_ms: i64, matcher: Arc<M>) -> Self {
        WindowJoinOperator {
            slices,
            lateness_ms,
            matcher,
            progress: Progress::new(),
            firing: Firing::new(),
            current: None,
            places: Places::default(),
            next_end: None,
            has_done_slices: true,
            watermark: EventTime::MIN,
            open: None,
        }
    }

    fn opened(&mut self) -> Result<&mut Opened<K, A, B>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    /// Late for a window iff `max_ts + lateness <= w`.
    fn is_late(&self, end: i64, watermark: EventTime) -> bool {
        (end - 1).saturating_add(self.lateness_ms) <= watermark.millis()
    }

    /// Judges a row by the watermark of its split, or by the operator's where that has gone on
    /// without an idle split; and no window takes rows once its key group has fired it.
    fn judge(&self, slice: &Slice, hash: u64, mark: Option<EventTime>) -> Verdict {
        if slice.last_end < slice.first_end {
            return Verdict::Gap;
        }
        let watermark = mark.unwrap_or(EventTime::MIN).max(self.watermark);
        // The greatest end that is late: the least that is not is above it.
        let late_end = watermark.millis().saturating_sub(self.lateness_ms).saturating_add(1);
        let fired = self.progress.of_hash(hash);
        let late_end = late_end.max(fired);
        if slice.last_end <= late_end {
            let fired_at = fired.saturating_sub(1).saturating_add(self.lateness_ms);
            return Verdict::Late(watermark.max(EventTime::from_millis(fired_at)));
        }
        Verdict::Accepted(self.slices.next_end(slice.first_end, late_end))
    }

    /// Queues the keys of the window that ends at `end`.
    fn fire(&mut self, end: i64) -> Result<()> {
        let progress = self.progress.clone();
        let outer = self.matcher.outer();
        self.find_places(end)?;
        let Places { left, right, .. } = std::mem::take(&mut self.places);
        let opened = self.opened()?;
        let key_groups = opened.key_groups;
        let mut keys: Vec<Fired<K, u64>> = Vec::new();
        // Which keys there are already; only needed if they may be met twice.
        let range = KeyGroupRange::all(key_groups);
        let mut seen: Table<K, ()> =
            OperatorState::open(BackendConfig::Memory, range, key_groups)?.table(TableId(0));
        let asked = left.len() + if outer.right { right.len() } else { 0 };
        let mut add = |key: &K, hash: u64| -> Result<()> {
            let mut is_new = true;
            if asked > 1 {
                let before = seen.len();
                seen.insert(hash, key, ())?;
                is_new = seen.len() > before;
            }
            if is_new && end > progress.of_hash(hash) {
                keys.push(Fired { end, key: key.clone(), hash, accumulator: 0 });
            }
            Ok(())
        };
        for &place in &left {
            opened.left.for_each_key(place, &mut add)?;
        }
        // A key without left rows has results only if right rows alone have.
        for &place in right.iter().filter(|_| outer.right) {
            opened.right.for_each_key(place, &mut add)?;
        }
        self.places = Places { end: Some(end), left, right };
        self.progress.reach(end);
        self.firing.push_window(keys)
    }

    /// The end of the first window that accepted the rows at `place`.
    fn first_end(slices: &Slices, place: Place) -> i64 {
        slices.at(place.bucket).first_end + i64::from(place.part) * slices.slide()
    }

    /// Finds the places of the rows of the window that ends at `end`.
    fn find_places(&mut self, end: i64) -> Result<()> {
        if self.places.end == Some(end) {
            return Ok(());
        }
        let slices = self.slices;
        let belongs = |place: &Place| {
            let is_within = place.bucket >= end - slices.size() && place.bucket < end;
            is_within && Self::first_end(&slices, *place) <= end
        };
        let opened = self.opened()?;
        let left = opened.left.places().filter(belongs).collect();
        let right = opened.right.places().filter(belongs).collect();
        self.places = Places { end: Some(end), left, right };
        Ok(())
    }

    /// Notes the least end of a window that has contents and was not fired yet.
    fn find_next_end(&mut self) -> Result<()> {
        let (slices, fired) = (self.slices, self.progress.fired);
        let opened = self.opened()?;
        let ends = opened.left.places().chain(opened.right.places()).filter_map(|place| {
            let end = slices.next_end(Self::first_end(&slices, place), fired);
            (end <= slices.last_end(place.bucket)).then_some(end)
        });
        self.next_end = ends.min();
        Ok(())
    }

    /// Drops the slices whose last window has been fired and given out.
    fn drop_slices(&mut self) -> Result<()> {
        let (slices, fired) = (self.slices, self.progress.fired);
        let opened = self.opened()?;
        let buckets = opened.left.places().chain(opened.right.places());
        let is_done = |bucket: &i64| slices.last_end(*bucket) <= fired;
        if let Some(last) = buckets.map(|place| place.bucket).filter(is_done).max() {
            opened.left.drop_until(last)?;
            opened.right.drop_until(last)?;
        }
        self.has_done_slices = false;
        Ok(())
    }

    /// Gives out what is queued until the output is full; true if all was given out.
    fn give_out(&mut self, out: &mut Outputs<'_, M::Out, Either<A, B>>) -> Result<bool> {
        while !out.is_full() {
            let Some(current) = &mut self.current else {
                let Some(fired) = self.firing.pop() else { return Ok(true) };
                self.current = Some(self.gather(fired)?);
                continue;
            };
            let Current { fired, rows, rest } = current;
            match self.matcher.next(&fired.key, rows, rest) {
                Some(result) => {
                    fired.accumulator += 1;
                    out.main.push(result, EventTime::from_millis(fired.end - 1));
                }
                None => self.current = None,
            }
        }
        Ok(self.current.is_none() && self.firing.is_empty())
    }

    /// Brings the rows of a key in a window together.
    fn gather(&mut self, fired: Fired<K, u64>) -> Result<Current<K, A, B, M::Rest>> {
        self.find_places(fired.end)?;
        let Some(open) = &mut self.open else { return Err(Error::bug("it was not opened")) };
        let mut rows = Rows { left: Vec::new(), right: Vec::new() };
        let key = (fired.hash, &fired.key);
        for &place in &self.places.left {
            open.left.visit(place, key, 0, |row| {
                rows.left.push(row.clone());
                Visit::Next
            })?;
        }
        for &place in &self.places.right {
            open.right.visit(place, key, 0, |row| {
                rows.right.push(row.clone());
                Visit::Next
            })?;
        }
        let start = EventTime::from_millis(fired.end - self.slices.size());
        let window = Window { start, end: EventTime::from_millis(fired.end) };
        let rest = self.matcher.begin(&fired.key, window, &rows, fired.accumulator);
        Ok(Current { fired, rows, rest })
    }
}

impl<K: Key, A: Data, B: Data, M: Matcher<K, A, B>> Operator for WindowJoinOperator<K, A, B, M> {
    type In = Keyed<K, Either<A, B>>;
    type Out = M::Out;
    type Side = Either<A, B>;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        let mut state = context.open_state()?;
        let mut left = RowLists::new(&mut state, LEFT);
        let mut right = RowLists::new(&mut state, RIGHT);
        let mut tables = FiringTables::open(&mut state, [FIRED, PENDING], context)?;
        let mut restore = state.begin_restore(context.restored)?;
        left.leave(&mut restore)?;
        right.leave(&mut restore)?;
        restore.run(&mut |key, value| match key.table {
            LEFT => left.restore_entry(&key, value),
            RIGHT => right.restore_entry(&key, value),
            _ => tables.restore_entry(&key, value),
        })?;
        self.progress = tables.finish_restore(&mut self.firing)?;
        let key_groups = context.key_group_count;
        self.open = Some(Opened { state, left, right, tables, key_groups });
        self.find_next_end()
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, Either<A, B>>>,
        out: &mut Outputs<'_, M::Out, Either<A, B>>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let mut marks = Marks::of(&input.behind);
        let (slide, mut gap) = (self.slices.slide(), 0);
        // Places that were found have other rows now.
        self.places.end = None;
        for (index, Keyed { key, value }) in input.values.drain(..).enumerate() {
            let (time, hash) = (input.times[index], input.hashes[index]);
            let slice = self.slices.at(time.millis());
            let first_end = match self.judge(&slice, hash, marks.at(index)) {
                Verdict::Accepted(first_end) => first_end,
                Verdict::Late(watermark) => {
                    out.side.push_marked(value, time, Some(watermark));
                    continue;
                }
                Verdict::Gap => {
                    gap += 1;
                    continue;
                }
            };
            self.next_end = Some(self.next_end.map_or(first_end, |next| next.min(first_end)));
            let part = ((first_end - slice.first_end) / slide) as u32;
            let place = Place { bucket: slice.start, part };
            let opened = self.opened()?;
            match value {
                Either::Left(row) => opened.left.push(place, hash, &key, row)?,
                Either::Right(row) => opened.right.push(place, hash, &key, row)?,
            }
        }
        context.metrics.add(Counter::Late, out.side.len() as u64);
        context.metrics.add(Counter::Gap, gap);
        input.clear();
        let opened = self.opened()?;
        opened.left.relieve()?;
        Ok(opened.right.relieve()?)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, M::Out, Either<A, B>>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        loop {
            if !self.give_out(out)? {
                return Ok(Advance::More);
            }
            if self.has_done_slices {
                self.drop_slices()?;
            }
            match self.next_end {
                Some(end) if self.is_late(end, watermark) => {
                    self.fire(end)?;
                    self.has_done_slices = true;
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
        let current = self.current.iter().map(|current| &current.fired);
        let Some(opened) = &mut self.open else { return Err(Error::bug("it was not opened")) };
        // Without rows nothing can be fired again.
        let has_rows = !(opened.left.is_empty() && opened.right.is_empty());
        let progress = has_rows.then_some(&self.progress);
        let mut snapshot = opened.state.begin_snapshot();
        opened.left.snapshot_into(&mut snapshot)?;
        opened.right.snapshot_into(&mut snapshot)?;
        let firing = current.chain(self.firing.iter());
        opened.tables.snapshot_into(progress, firing, &mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        opened.tables.after_snapshot()
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let Some(opened) = &mut self.open else { return Err(Error::bug("it was not opened")) };
        f(opened.left.state_table())?;
        f(opened.right.state_table())?;
        opened.tables.each_table(f)
    }
}

#[cfg(test)]
mod tests;
