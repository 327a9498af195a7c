//! The operator behind a triggered window: its tables, its timers, and the order of what is due.
//!
//! # Invariants
//! * I1: a window's entries stand in the slice of its start and end; of windows that merge, all
//!   entries of a key stand together, in one slice, and no two of them touch.
//! * I2: a timer stands in its entry and in a table of timers. Timers at the end of an aligned
//!   window stand in the entry alone: `visits` knows the windows, and with that the times.
//! * I3: what is due is done in order of (time, encoded key, window, step) and stands in the tables
//!   until it is done, so that a snapshot between two steps holds what is left.
//! * I4: an entry is dropped when its window is final, with its timers.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use thalweg_engine::state::{Namespace, OperatorState, SlicedTable, TableId};
use thalweg_engine::{
    Advance, BATCH_RECORDS, Batch, Context, Counter, Data, EachTable, Error, EventTime, Key, Marks,
    OpenContext, Operator, Outputs, ProcessingTime, Result, SnapshotContext,
};

use super::Lateness;
use super::entry::{Entry, Ready, Stand, Standing, Step, Timers, collect, in_order, stand};
use super::logic::{Call, EntryOf, Logic, Reached, WindowOutputs};
use crate::stream::Keyed;
use crate::window::assign::Assign;
use crate::window::function::{ElementRef, Holding};
use crate::window::pane::WindowSide;
use crate::window::trigger::{Timer, TimerChange, Trigger};
use crate::window::{Window, WindowResult};

const ENTRIES: TableId = TableId(0);
/// Event-time timers, by time and step.
const EVENT_TIMERS: TableId = TableId(1);
const PROCESSING_TIMERS: TableId = TableId(2);

/// Where the windows of a key stand if they merge.
const MERGING: Namespace = Namespace(0, 0);

pub(super) struct TriggeredOperator<K: Key, T, W, H: Holding<K, T>, Tr: Trigger<T>> {
    assigner: Arc<W>,
    logic: Arc<Logic<K, T, H, Tr>>,
    reached: Reached,
    /// What is due at one event time.
    ready: VecDeque<Ready<K>>,
    /// What is due at one processing time.
    ready_now: VecDeque<Ready<K>>,
    /// When something may be due for all keys of an aligned window, and which step.
    visits: BTreeSet<(EventTime, Step, Window)>,
    windows: Vec<Window>,
    asked: Vec<TimerChange>,
    stands: Vec<Stand>,
    open: Option<OpenedOf<K, T, H, Tr>>,
}

struct Opened<K, E> {
    state: OperatorState,
    entries: SlicedTable<K, Vec<E>>,
    event_timers: Timers<K>,
    processing_timers: Timers<K>,
}

type OpenedOf<K, T, H, Tr> = Opened<K, EntryOf<K, T, H, Tr>>;

/// The places of an entry.
struct At<'a, K> {
    hash: u64,
    key: &'a K,
    window: Window,
}

/// What surrounds a record or a step.
struct Around<'a, 'b, K, T, R> {
    now: ProcessingTime,
    out: &'a mut WindowOutputs<'b, K, T, R>,
}

impl<K, T, W, H, Tr> TriggeredOperator<K, T, W, H, Tr>
where
    K: Key,
    T: Data,
    W: Assign<T>,
    H: Holding<K, T>,
    Tr: Trigger<T>,
{
    pub(super) fn new(assigner: Arc<W>, logic: Arc<Logic<K, T, H, Tr>>) -> Self {
        TriggeredOperator {
            assigner,
            logic,
            reached: Reached::nothing(),
            ready: VecDeque::new(),
            ready_now: VecDeque::new(),
            visits: BTreeSet::new(),
            windows: Vec::new(),
            asked: Vec::new(),
            stands: Vec::new(),
            open: None,
        }
    }

    fn opened(&mut self) -> Result<&mut OpenedOf<K, T, H, Tr>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    fn slice_of(&self, window: Window) -> Namespace {
        if self.logic.merges {
            return MERGING;
        }
        Namespace(window.start.millis(), window.end.millis())
    }

    /// The watermark that judges a record: its split's, where the record is behind it; the
    /// operator's, where that has gone on without an idle split, or where it is asked for.
    fn effective(&self, behind: Option<EventTime>) -> Option<EventTime> {
        match self.logic.lateness {
            Lateness::AtSplit => behind.max(Some(self.reached.watermark)),
            Lateness::AtOperator => Some(self.reached.watermark),
        }
    }

    /// Puts a record into its windows; gives it back with its mark if it is late for all of them.
    fn take(
        &mut self,
        record: &Keyed<K, T>,
        (hash, mark): (u64, Option<EventTime>),
        (time, id): (EventTime, thalweg_engine::RecordId),
        around: &mut Around<'_, '_, K, T, H::Out>,
    ) -> Result<Verdict> {
        let mut windows = std::mem::take(&mut self.windows);
        windows.clear();
        self.assigner.assign(&record.value, time, &mut windows);
        let judge = self.effective(mark);
        let logic = self.logic.clone();
        let element = &ElementRef { value: &record.value, time, id };
        let is_late = |window: Window, watermark: Option<EventTime>| {
            let final_at = match (logic.merges, logic.lateness) {
                (false, _) => logic.final_at(window),
                // The rule of sessions, whatever the gap.
                (true, Lateness::AtSplit) => time.shifted(logic.lateness_ms),
                // The merged window is judged where it is made.
                (true, Lateness::AtOperator) => return false,
            };
            watermark.is_some_and(|watermark| final_at <= watermark)
        };
        let mut is_accepted = false;
        for &window in windows.iter().filter(|window| !is_late(**window, judge)) {
            let at = At { hash, key: &record.key, window };
            is_accepted |= match logic.merges {
                true => self.add_merging(at, element, around)?,
                false => self.add(at, element, around)?,
            };
        }
        let verdict = match windows.first() {
            None => Verdict::Gap,
            Some(_) if is_accepted => Verdict::Accepted,
            Some(first) => {
                let is_behind_operator = logic.lateness == Lateness::AtOperator
                    || is_late(*first, Some(self.reached.watermark));
                let mark =
                    if is_behind_operator { mark.max(Some(self.reached.watermark)) } else { mark };
                Verdict::Late(mark)
            }
        };
        self.windows = windows;
        Ok(verdict)
    }

    /// Adds a record to an aligned window.
    fn add(
        &mut self,
        at: At<'_, K>,
        element: &ElementRef<'_, T>,
        around: &mut Around<'_, '_, K, T, H::Out>,
    ) -> Result<bool> {
        let (logic, reached, window) = (self.logic.clone(), self.reached, at.window);
        let slice = self.slice_of(window);
        if self.opened()?.entries.get_slice(slice).is_none() {
            self.visit(window);
        }
        let Self { asked, stands, open, .. } = self;
        let opened = open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        let Around { now, out } = around;
        let call = &mut Call { reached, now: *now, out, asked, stands };
        opened.entries.slice(slice).update(at.hash, at.key, Vec::new, |cell| {
            if cell.is_empty() {
                cell.push(Entry::new(window, logic.holding.create()));
            }
            logic.add(&mut cell[0], at.key, element, call)
        })??;
        self.apply(at.hash, at.key, None)?;
        Ok(true)
    }

    /// Adds a record to the window that its own window merges into; false if that is final.
    fn add_merging(
        &mut self,
        at: At<'_, K>,
        element: &ElementRef<'_, T>,
        around: &mut Around<'_, '_, K, T, H::Out>,
    ) -> Result<bool> {
        let (logic, reached) = (self.logic.clone(), self.reached);
        let Self { asked, stands, open, .. } = self;
        let opened = open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        let Around { now, out } = around;
        let call = &mut Call { reached, now: *now, out, asked, stands };
        let slice = opened.entries.slice(MERGING);
        let (is_accepted, is_empty) =
            slice.update(at.hash, at.key, Vec::new, |cell| -> Result<_> {
                let place = logic.place(cell, at.window, call);
                if let Some(place) = place {
                    logic.add(&mut cell[place], at.key, element, call)?;
                }
                Ok((place.is_some(), cell.is_empty()))
            })??;
        if is_empty {
            slice.remove(at.hash, at.key)?;
        }
        self.apply(at.hash, at.key, None)?;
        Ok(is_accepted)
    }

    /// Notes when something may be due for all keys of a window.
    fn visit(&mut self, window: Window) {
        let due = self.logic.due(window);
        if due > self.reached.watermark {
            self.visits.insert((due, Step::Timer, window));
        }
        self.visits.insert((self.logic.final_at(window), Step::Final, window));
    }

    /// Sets and takes back timers as the last call wants it. `reached` is the event time of what
    /// is being done: what is set for a time up to it comes next.
    fn apply(&mut self, hash: u64, key: &K, reached: Option<i64>) -> Result<()> {
        if self.stands.is_empty() {
            return Ok(());
        }
        let (logic, watermark) = (self.logic.clone(), self.reached.watermark);
        let mut stands = std::mem::take(&mut self.stands);
        let opened = self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        for Stand { window, at, is_set } in stands.drain(..) {
            let (timers, namespace) = match at {
                Standing::Final(time) => (&mut opened.event_timers, Namespace(time, 1)),
                Standing::Trigger(Timer::Processing(time)) => {
                    (&mut opened.processing_timers, Namespace(time, 0))
                }
                Standing::Trigger(Timer::Event(time)) => {
                    let due = logic.due(window);
                    let is_visited = !logic.merges && due.millis() == time && due > watermark;
                    if is_visited && is_set {
                        continue;
                    }
                    if is_set && reached.is_some_and(|reached| time <= reached) {
                        let (key, step) = (key.clone(), Step::Timer);
                        self.ready.push_front(Ready { time, hash, key, window, step });
                    }
                    (&mut opened.event_timers, Namespace(time, 0))
                }
            };
            stand(timers, namespace, (hash, key), window, is_set)?;
        }
        self.stands = stands;
        Ok(())
    }

    /// Finds what is due at the earliest event time, up to the watermark.
    fn find_ready(&mut self) -> Result<()> {
        let watermark = self.reached.watermark;
        loop {
            let visit = self.visits.first().copied();
            let opened =
                self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
            let timer = opened.event_timers.namespaces().next();
            let times = [visit.map(|(time, ..)| time.millis()), timer.map(|first| first.0)];
            let Some(time) = times.into_iter().flatten().min() else { return Ok(()) };
            if time > watermark.millis() {
                return Ok(());
            }
            let mut ready = Vec::new();
            collect(&mut opened.event_timers, Namespace(time, 0), Step::Timer, &mut ready)?;
            collect(&mut opened.event_timers, Namespace(time, 1), Step::Final, &mut ready)?;
            let at = EventTime::from_millis(time);
            let visits: Vec<_> = self.visits.iter().take_while(|v| v.0 == at).copied().collect();
            for (_, step, window) in visits {
                self.collect_visit(time, step, window, &mut ready)?;
            }
            if !ready.is_empty() {
                self.ready = in_order(ready)?;
                return Ok(());
            }
        }
    }

    /// Adds the keys of an aligned window that have something to do at this step.
    fn collect_visit(
        &mut self,
        time: i64,
        step: Step,
        window: Window,
        ready: &mut Vec<Ready<K>>,
    ) -> Result<()> {
        let namespace = self.slice_of(window);
        let entries = &mut self.opened()?.entries;
        let before = ready.len();
        if let Some(slice) = entries.get_slice(namespace) {
            let timer = Timer::Event(time);
            slice.for_each(|key, hash, cell| {
                if step == Step::Final || cell.iter().any(|entry| entry.timers.contains(&timer)) {
                    ready.push(Ready { time, hash, key: key.clone(), window, step });
                }
            })?;
        }
        // The timers of keys are found in their entries again after a restore, as are the windows.
        if step == Step::Timer || ready.len() == before {
            self.visits.remove(&(EventTime::from_millis(time), step, window));
        }
        if step == Step::Final && ready.len() == before {
            self.opened()?.entries.drop_slice(namespace)?;
        }
        Ok(())
    }

    /// Calls the trigger for a timer.
    fn on_timer(
        &mut self,
        at: At<'_, K>,
        timer: Timer,
        around: &mut Around<'_, '_, K, T, H::Out>,
    ) -> Result<()> {
        let (logic, reached, window) = (self.logic.clone(), self.reached, at.window);
        let namespace = self.slice_of(window);
        let Self { asked, stands, open, .. } = self;
        let opened = open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        let (timers, time, called_at) = match timer {
            Timer::Event(time) => (&mut opened.event_timers, time, Some(time)),
            Timer::Processing(time) => (&mut opened.processing_timers, time, None),
        };
        stand(timers, Namespace(time, 0), (at.hash, at.key), window, false)?;
        let Some(slice) = opened.entries.get_slice(namespace) else { return Ok(()) };
        if slice.get(at.hash, at.key)?.is_none() {
            return Ok(());
        }
        let Around { now, out } = around;
        let call = &mut Call { reached, now: *now, out, asked, stands };
        slice.update(at.hash, at.key, Vec::new, |cell| {
            match cell.iter_mut().find(|entry| entry.window == window) {
                Some(entry) => logic.on_timer(entry, at.key, timer, call),
                None => Ok(()),
            }
        })??;
        self.apply(at.hash, at.key, called_at)
    }

    /// Drops a window that is final.
    fn close(
        &mut self,
        at: At<'_, K>,
        time: i64,
        around: &mut Around<'_, '_, K, T, H::Out>,
    ) -> Result<()> {
        let (logic, reached, window) = (self.logic.clone(), self.reached, at.window);
        let namespace = self.slice_of(window);
        let opened = self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        if logic.merges {
            let timers = &mut opened.event_timers;
            stand(timers, Namespace(time, 1), (at.hash, at.key), window, false)?;
        }
        let Some(slice) = opened.entries.get_slice(namespace) else { return Ok(()) };
        let Some(mut cell) = slice.remove(at.hash, at.key)? else { return Ok(()) };
        let place = cell.iter().position(|entry| entry.window == window);
        let closed = place.map(|place| cell.swap_remove(place));
        if !cell.is_empty() {
            slice.insert(at.hash, at.key, cell)?;
        }
        let Some(entry) = closed else { return Ok(()) };
        let Self { asked, stands, .. } = self;
        let Around { now, out } = around;
        let call = &mut Call { reached, now: *now, out, asked, stands };
        logic.close(entry, at.key, call)?;
        self.apply(at.hash, at.key, None)
    }

    /// Asks for a call when the first processing-time timer is due.
    fn wake(&mut self, context: &mut Context<'_>) -> Result<()> {
        if let Some(Namespace(time, _)) = self.opened()?.processing_timers.namespaces().next() {
            context.wake_at(ProcessingTime::from_millis(time));
        }
        Ok(())
    }
}

/// What became of a record.
enum Verdict {
    Accepted,
    Gap,
    /// Late, with the watermark it is behind.
    Late(Option<EventTime>),
}

impl<K, T, W, H, Tr> Operator for TriggeredOperator<K, T, W, H, Tr>
where
    K: Key,
    T: Data,
    W: Assign<T>,
    H: Holding<K, T>,
    Tr: Trigger<T>,
{
    type In = Keyed<K, T>;
    type Out = WindowResult<K, H::Out>;
    type Side = WindowSide<K, T, H::Out>;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.reached.reach(context.restored_watermark);
        let mut state = context.open_state()?;
        let mut entries = state.sliced(ENTRIES);
        let mut event_timers = state.sliced(EVENT_TIMERS);
        let mut processing_timers = state.sliced(PROCESSING_TIMERS);
        state.restore(context.restored, &mut |key, value| match key.table {
            ENTRIES => entries.restore_entry(&key, value),
            EVENT_TIMERS => event_timers.restore_entry(&key, value),
            _ => processing_timers.restore_entry(&key, value),
        })?;
        if !self.logic.merges {
            for Namespace(start, end) in entries.namespaces() {
                let (start, end) = (EventTime::from_millis(start), EventTime::from_millis(end));
                let window = Window { start, end };
                // The end may have been reached without all keys having been called.
                self.visits.insert((self.logic.due(window), Step::Timer, window));
                self.visits.insert((self.logic.final_at(window), Step::Final, window));
            }
        }
        self.open = Some(Opened { state, entries, event_timers, processing_timers });
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, Self::Out, Self::Side>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let (mut taken, mut late, mut gap) = (0, 0, 0);
        let mut marks = Marks::of(&input.behind);
        let mut values = std::mem::take(&mut input.values).into_iter();
        for record in values.by_ref() {
            let mark = marks.at(taken);
            let time = input.times.get(taken).copied().unwrap_or(EventTime::MIN);
            let stamp = (time, input.ids.get(taken).copied().unwrap_or_default());
            let around = &mut Around { now: context.now, out: &mut *out };
            match self.take(&record, (input.hashes[taken], mark), stamp, around)? {
                Verdict::Accepted => {}
                Verdict::Gap => gap += 1,
                Verdict::Late(mark) => {
                    late += 1;
                    out.side.push_marked(WindowSide::Late(record.value), time, mark);
                }
            }
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        input.drain_columns(taken);
        input.values = values.collect();
        context.metrics.add(Counter::Late, late);
        context.metrics.add(Counter::Gap, gap);
        let opened = self.opened()?;
        opened.entries.relieve()?;
        opened.event_timers.relieve()?;
        opened.processing_timers.relieve()?;
        self.wake(context)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, Self::Out, Self::Side>,
        context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.reached.reach(watermark);
        let mut steps = 0;
        loop {
            while let Some(Ready { time, hash, key, window, step }) = self.ready.pop_front() {
                let at = At { hash, key: &key, window };
                let around = &mut Around { now: context.now, out: &mut *out };
                match step {
                    Step::Timer => self.on_timer(at, Timer::Event(time), around)?,
                    Step::Final => self.close(at, time, around)?,
                }
                steps += 1;
                if out.is_full() || steps >= BATCH_RECORDS {
                    self.wake(context)?;
                    return Ok(Advance::More);
                }
            }
            self.find_ready()?;
            if self.ready.is_empty() {
                self.wake(context)?;
                return Ok(Advance::Done);
            }
        }
    }

    fn on_time(
        &mut self,
        out: &mut Outputs<'_, Self::Out, Self::Side>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let now = context.now;
        loop {
            while let Some(Ready { time, hash, key, window, .. }) = self.ready_now.pop_front() {
                let around = &mut Around { now, out: &mut *out };
                self.on_timer(At { hash, key: &key, window }, Timer::Processing(time), around)?;
                if out.is_full() {
                    context.wake_at(now);
                    return Ok(());
                }
            }
            let timers = &mut self.opened()?.processing_timers;
            let first = timers.namespaces().next().filter(|first| first.0 <= now.millis());
            let Some(first) = first else { return self.wake(context) };
            let mut ready = Vec::new();
            collect(timers, first, Step::Timer, &mut ready)?;
            self.ready_now = in_order(ready)?;
        }
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        self.logic.forwarded(watermark)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let opened = self.opened()?;
        let mut snapshot = opened.state.begin_snapshot();
        opened.entries.snapshot_into(&mut snapshot)?;
        opened.event_timers.snapshot_into(&mut snapshot)?;
        opened.processing_timers.snapshot_into(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        Ok(())
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let opened = self.opened()?;
        f(&mut opened.entries)?;
        f(&mut opened.event_timers)?;
        Ok(f(&mut opened.processing_timers)?)
    }
}
