//! `KeyedCalls`: the state, timers and calls of a function behind `key_by`, whatever its inputs.
//!
//! # Place
//! The operators of `process.rs` and `broadcast.rs` own one each, and say what is called.
//!
//! # Invariants
//! * I1 Event-time timers are called in order of (time, encoded key), when the watermark reaches
//!   them; processing-time timers likewise, when the clock does.
//! * I2 What a call asks for happens before the next call.
//! * I3 Whenever a processing-time timer is pending, a wake-up for the first of them is asked for.
//! * I4 At the end of the input nothing is registered any more.

use std::marker::PhantomData;
use std::sync::Arc;

use thalweg_engine::state::{self, OperatorState, Snapshot, StateKey, Table, TableId};
use thalweg_engine::{
    Advance, BATCH_RECORDS, Context, Data, EachTable, Element, Error, EventTime, Key, OpenContext,
    Outputs, ProcessingTime, RecordId, Result, SnapshotContext,
};

use super::context::{Change, Moment, ProcessContext};
use super::states::{Clocks, Declared, Named, Owner};
use super::timers::Timers;

/// The state of each key.
const STATES: TableId = TableId(0);
/// Event-time timers: a slice per time, an entry per key.
const TIMERS: TableId = TableId(1);
/// Processing-time timers; an entry holds the event time of the call that registered it.
const PROCESSING_TIMERS: TableId = TableId(2);
/// Broadcast state; see `process/rules.rs`.
pub(super) const RULES: TableId = TableId(3);

/// What is called when a timer is due.
pub(super) trait TimerCalls<K, S, O, D> {
    fn on_timer(&self, time: EventTime, context: &mut ProcessContext<'_, K, S, O, D>)
    -> Result<()>;

    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        context: &mut ProcessContext<'_, K, S, O, D>,
    ) -> Result<()>;
}

pub(super) struct KeyedCalls<K, S, O, D> {
    declared: Arc<Declared<K>>,
    pub(super) watermark: EventTime,
    /// The greatest watermark before the end of the input.
    last_watermark: EventTime,
    /// How far event time has come for state that expires: to the last watermark, before the end
    /// of the input, whose timers have all been called.
    event_now: EventTime,
    has_ended: bool,
    /// True if records have identities, so that what timers give out needs some too.
    pub(super) has_ids: bool,
    changes: Vec<Change>,
    open: Option<Opened<K, S>>,
    outputs: PhantomData<fn() -> (O, D)>,
}

struct Opened<K, S> {
    state: OperatorState,
    states: Table<K, S>,
    timers: Timers<K, ()>,
    processing: Timers<K, EventTime>,
    named: Named<K>,
}

impl<K: Key, S: Data + Default, O: Element, D: Element> KeyedCalls<K, S, O, D> {
    pub(super) fn new(declared: Arc<Declared<K>>) -> Self {
        KeyedCalls {
            declared,
            watermark: EventTime::MIN,
            last_watermark: EventTime::MIN,
            event_now: EventTime::MIN,
            has_ended: false,
            has_ids: false,
            changes: Vec::new(),
            open: None,
            outputs: PhantomData,
        }
    }

    /// Opens and restores all tables; `also` opens what else is kept, and `restore_also` restores
    /// it.
    pub(super) fn open<R>(
        &mut self,
        context: &OpenContext<'_>,
        also: impl FnOnce(&mut OperatorState) -> Result<R>,
        restore_also: impl Fn(&mut R, &StateKey<'_>, &[u8]) -> state::Result<()>,
    ) -> Result<R> {
        self.watermark = context.restored_watermark;
        if self.watermark < EventTime::MAX {
            self.last_watermark = self.watermark;
        }
        self.event_now = self.last_watermark;
        let mut state = context.open_state()?;
        let mut named = Named::open(&self.declared, &mut state, context.key_group_count);
        let mut states: Table<K, S> = state.table(STATES);
        let mut timers = Timers::open(&mut state, TIMERS);
        let mut processing = Timers::open(&mut state, PROCESSING_TIMERS);
        let mut other = also(&mut state)?;
        let mut restore = state.begin_restore(context.restored)?;
        restore.leave(&mut states)?;
        named.leave(&mut restore)?;
        restore.run(&mut |key, value| match key.table {
            STATES => states.restore_entry(&key, value),
            TIMERS => timers.restore_entry(&key, value),
            PROCESSING_TIMERS => processing.restore_entry(&key, value),
            RULES => restore_also(&mut other, &key, value),
            _ => named.restore_entry(&key, value),
        })?;
        self.open = Some(Opened { state, states, timers, processing, named });
        Ok(other)
    }

    fn opened(&mut self) -> Result<&mut Opened<K, S>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    /// Calls `f` for a key, and does what it asks for.
    #[inline]
    pub(super) fn call(
        &mut self,
        owner: (&K, u64),
        moment: Moment,
        out: &mut Outputs<'_, O, D>,
        f: impl FnOnce(&mut ProcessContext<'_, K, S, O, D>) -> Result<()>,
    ) -> Result<()> {
        self.call_at(self.event_now, owner, moment, out, f)
    }

    /// As `call`, where event time has come to `event_now`.
    #[inline]
    fn call_at(
        &mut self,
        event_now: EventTime,
        (key, hash): (&K, u64),
        moment: Moment,
        out: &mut Outputs<'_, O, D>,
        f: impl FnOnce(&mut ProcessContext<'_, K, S, O, D>) -> Result<()>,
    ) -> Result<()> {
        let changes = &mut self.changes;
        let Some(Opened { states, named, .. }) = &mut self.open else {
            return Err(Error::bug("the operator was not opened"));
        };
        let owner = Owner { key, hash };
        let (main, side) = (&mut *out.main, &mut *out.side);
        let clocks = Clocks { event_now, time: moment.time, now: moment.now };
        let call = |state: &mut S| {
            f(&mut ProcessContext { state, owner, moment, main, side, changes, named, clocks })
        };
        if size_of::<S>() == 0 {
            // Nothing to keep: a table would only cost.
            call(&mut S::default())?;
        } else {
            states.update(hash, key, S::default, call)??;
        }
        if self.changes.is_empty() { Ok(()) } else { self.change(owner, moment.time) }
    }

    /// Does what a call has asked for.
    #[inline(never)]
    fn change(&mut self, Owner { key, hash }: Owner<'_, K>, time: EventTime) -> Result<()> {
        let Some(Opened { states, timers, processing, .. }) = &mut self.open else {
            return Ok(());
        };
        let has_ended = self.has_ended;
        for change in self.changes.drain(..) {
            match change {
                Change::Register(_) | Change::RegisterProcessing(_) if has_ended => {}
                Change::Register(at) => timers.register(at.millis(), hash, key, ())?,
                Change::RegisterProcessing(at) => {
                    processing.register(at.millis(), hash, key, time)?;
                }
                Change::Delete(at) => drop(timers.delete(at.millis(), hash, key)?),
                Change::DeleteProcessing(at) => drop(processing.delete(at.millis(), hash, key)?),
                Change::ClearState => drop(states.remove(hash, key)?),
            }
        }
        Ok(())
    }

    /// The end of a batch: memory is relieved, the next wake-up asked for.
    pub(super) fn finish_batch(&mut self, context: &mut Context<'_>) -> Result<()> {
        let opened = self.opened()?;
        opened.states.relieve()?;
        opened.timers.relieve()?;
        opened.processing.relieve()?;
        opened.named.relieve()?;
        self.ask_for_wake_up(context);
        Ok(())
    }

    /// Removes state that has expired, in steps: true if nothing is left to do.
    fn clean_up(&mut self, context: &Context<'_>) -> Result<bool> {
        let time = self.event_now;
        let clocks = Clocks { event_now: time, time, now: context.now };
        self.opened()?.named.clean_up(clocks)
    }

    fn ask_for_wake_up(&self, context: &mut Context<'_>) {
        let Some(Opened { processing, named, .. }) = &self.open else { return };
        let timer = processing.first().map(ProcessingTime::from_millis);
        if let Some(time) = timer.into_iter().chain(named.wake_at()).min() {
            context.wake_at(time);
        }
    }

    /// The moment of a timer.
    fn moment(&self, time: EventTime, context: &Context<'_>) -> Moment {
        let id = self.has_ids.then(RecordId::default);
        Moment { time, mark: None, id, watermark: self.watermark, now: context.now }
    }

    /// Calls what is due at `watermark`, and at the end of the input what is left.
    pub(super) fn advance(
        &mut self,
        calls: &impl TimerCalls<K, S, O, D>,
        watermark: EventTime,
        out: &mut Outputs<'_, O, D>,
        context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        match watermark {
            EventTime::MAX => self.has_ended = true,
            _ => self.last_watermark = self.last_watermark.max(watermark),
        }
        let mut room = BATCH_RECORDS;
        while let Some(due) = self.opened()?.timers.next_due(watermark.millis())? {
            let time = EventTime::from_millis(due.time);
            let moment = self.moment(time, context);
            let now = self.event_now.max(time);
            self.call_at(now, (&due.key, due.hash), moment, out, |c| calls.on_timer(time, c))?;
            room -= 1;
            if out.is_full() || room == 0 {
                return Ok(Advance::More);
            }
        }
        self.event_now = self.event_now.max(self.last_watermark);
        if self.has_ended && !self.call_processing(calls, i64::MAX, out, context)? {
            return Ok(Advance::More);
        }
        let is_clean = self.clean_up(context)?;
        self.ask_for_wake_up(context);
        Ok(if is_clean { Advance::Done } else { Advance::More })
    }

    /// Calls the processing-time timers that are due at `context.now`.
    pub(super) fn on_time(
        &mut self,
        calls: &impl TimerCalls<K, S, O, D>,
        out: &mut Outputs<'_, O, D>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        if !self.call_processing(calls, context.now.millis(), out, context)? {
            context.wake_at(context.now);
        }
        // What is left is asked for again, at a time that has come.
        self.clean_up(context)?;
        self.ask_for_wake_up(context);
        Ok(())
    }

    /// Calls processing-time timers up to `limit`; false if some are left.
    fn call_processing(
        &mut self,
        calls: &impl TimerCalls<K, S, O, D>,
        limit: i64,
        out: &mut Outputs<'_, O, D>,
        context: &Context<'_>,
    ) -> Result<bool> {
        let mut room = BATCH_RECORDS;
        while let Some(due) = self.opened()?.processing.next_due(limit)? {
            let time = ProcessingTime::from_millis(due.time);
            let on_time = self.last_watermark.shifted(1).max(due.value);
            let moment = self.moment(on_time, context);
            self.call((&due.key, due.hash), moment, out, |c| calls.on_processing_timer(time, c))?;
            room -= 1;
            if out.is_full() || room == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands over all tables, and what `also` adds.
    pub(super) fn snapshot(
        &mut self,
        context: &mut SnapshotContext,
        also: impl FnOnce(&mut Snapshot) -> Result<()>,
    ) -> Result<()> {
        let opened = self.opened()?;
        let mut snapshot = opened.state.begin_snapshot();
        opened.states.snapshot_into(&mut snapshot)?;
        opened.timers.snapshot_into(&mut snapshot)?;
        opened.processing.snapshot_into(&mut snapshot)?;
        opened.named.snapshot_into(&mut snapshot)?;
        also(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        Ok(())
    }

    /// Calls `f` with every table but what `also` adds to a snapshot.
    pub(super) fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let opened = self.opened()?;
        f(&mut opened.states)?;
        f(opened.timers.state_table())?;
        f(opened.processing.state_table())?;
        Ok(opened.named.each_table(f)?)
    }
}
