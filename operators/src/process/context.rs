//! What a function sees and can do in a call: `ProcessContext` behind `key_by`, `RecordContext`
//! without a key.

use thalweg_engine::{
    Batch, Context, Data, EventTime, Key, Marks, Outputs, ProcessingTime, RecordId,
};

use super::states::{
    Aggregating, AggregatingState, Clocks, ListEntries, ListState, MapEntries, MapState, Named,
    Owner, Reducing, ReducingState, Value, ValueState,
};
use crate::aggregate::Aggregate;

/// When a call happens, and what causes it.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    /// Event time of the record or timer.
    pub(crate) time: EventTime,
    /// The watermark of the record's split, if it is behind it.
    pub(crate) mark: Option<EventTime>,
    /// The record, where identities are known.
    pub(crate) id: Option<RecordId>,
    pub(crate) watermark: EventTime,
    pub(crate) now: ProcessingTime,
}

impl Moment {
    /// The moment of record `index` of a batch.
    #[inline]
    pub(crate) fn of<T>(
        batch: &Batch<T>,
        index: usize,
        marks: &mut Marks<'_>,
        (watermark, now): (EventTime, ProcessingTime),
    ) -> Self {
        Moment {
            time: batch.times.get(index).copied().unwrap_or(EventTime::MIN),
            mark: marks.at(index),
            id: batch.ids.get(index).copied(),
            watermark,
            now,
        }
    }

    #[inline]
    fn give<O>(&self, out: &mut Batch<O>, value: O) {
        out.push_marked(value, self.time, self.mark);
        out.ids.extend(self.id);
    }
}

/// What a function without a key sees and can do.
pub struct RecordContext<'a, O, D = ()> {
    moment: Moment,
    main: &'a mut Batch<O>,
    side: &'a mut Batch<D>,
}

impl<'a, O, D> RecordContext<'a, O, D> {
    pub(crate) fn new(moment: Moment, out: &'a mut Outputs<'_, O, D>) -> Self {
        RecordContext { moment, main: out.main, side: out.side }
    }
}

/// What a function with keyed state sees and can do. `S` is the state of a key, `O` what is given
/// out, `D` what goes to the side output.
pub struct ProcessContext<'a, K, S, O, D = ()> {
    /// The state of the key.
    pub state: &'a mut S,
    pub(super) owner: Owner<'a, K>,
    pub(super) moment: Moment,
    pub(super) main: &'a mut Batch<O>,
    pub(super) side: &'a mut Batch<D>,
    pub(super) changes: &'a mut Vec<Change>,
    pub(super) named: &'a mut Named<K>,
    /// The time, for state that expires.
    pub(super) clocks: Clocks,
}

/// What a call asks for that happens when it returns.
pub(super) enum Change {
    Register(EventTime),
    Delete(EventTime),
    RegisterProcessing(ProcessingTime),
    DeleteProcessing(ProcessingTime),
    ClearState,
}

/// What every context has.
macro_rules! context_methods {
    () => {
        /// The event time of the record or timer. In a processing-time timer: the time of the call
        /// that registered it, or the first instant that is not behind the watermark, whichever is
        /// later; so what is given out there is never late.
        pub fn time(&self) -> EventTime {
            self.moment.time
        }

        /// The operator's watermark.
        pub fn watermark(&self) -> EventTime {
            self.moment.watermark
        }

        /// The time by the clock, as of the batch.
        pub fn processing_time(&self) -> ProcessingTime {
            self.moment.now
        }

        /// The watermark of the record's split, if the record is behind it.
        pub fn behind(&self) -> Option<EventTime> {
            self.moment.mark
        }

        /// Which record it is, for functions that say `NEEDS_RECORD_IDS`; otherwise, and in a
        /// timer, the least of all.
        pub fn record_id(&self) -> RecordId {
            self.moment.id.unwrap_or_default()
        }

        /// Gives out a record with the time of the input. The late mark travels on.
        #[inline]
        pub fn emit(&mut self, value: O) {
            self.moment.give(self.main, value);
        }

        /// Gives out a record to the side output, with the time of the input.
        #[inline]
        pub fn emit_side(&mut self, value: D) {
            self.moment.give(self.side, value);
        }
    };
}

impl<O, D> RecordContext<'_, O, D> {
    context_methods!();
}

impl<K, S, O, D> ProcessContext<'_, K, S, O, D> {
    context_methods!();

    /// The key of the record or timer.
    pub fn key(&self) -> &K {
        self.owner.key
    }

    /// Asks for a call of `on_timer` when the watermark reaches `time`; at most once per key and
    /// time, however often it is asked for. At the end of the input all timers are called, and
    /// what they ask for then is not: a timer that asks for the next one would never end.
    pub fn register_timer(&mut self, time: EventTime) {
        self.changes.push(Change::Register(time));
    }

    /// Takes a timer back.
    pub fn delete_timer(&mut self, time: EventTime) {
        self.changes.push(Change::Delete(time));
    }

    /// Asks for a call of `on_processing_timer` when the clock shows `time`; at most once per key
    /// and time. At the end of the input, when all event-time timers have been called, those that
    /// are left are called at once, in order and with the time they were asked for; what is asked
    /// for then is not. (Flink drops them.)
    pub fn register_processing_timer(&mut self, time: ProcessingTime) {
        self.changes.push(Change::RegisterProcessing(time));
    }

    /// Takes a processing-time timer back.
    pub fn delete_processing_timer(&mut self, time: ProcessingTime) {
        self.changes.push(Change::DeleteProcessing(time));
    }

    /// Forgets the key's `state` when the call returns: it takes no room until the key comes
    /// again. Named states are cleared on their own.
    pub fn clear_state(&mut self) {
        self.changes.push(Change::ClearState);
    }
}

impl<K: Key, S, O, D> ProcessContext<'_, K, S, O, D> {
    /// A named value of the key.
    pub fn value<V: Data>(&mut self, state: &ValueState<V>) -> Value<'_, K, V> {
        Value { state: self.named.single(state.slot, self.clocks), owner: self.owner }
    }

    /// A named list of the key.
    pub fn list<V: Data>(&mut self, state: &ListState<V>) -> ListEntries<'_, K, V> {
        ListEntries { list: self.named.list(state.slot, self.clocks), owner: self.owner }
    }

    /// A named map of the key.
    pub fn map<M: Key, V: Data>(&mut self, state: &MapState<M, V>) -> MapEntries<'_, K, M, V> {
        MapEntries { map: self.named.map(state.slot, self.clocks), owner: self.owner }
    }

    /// A named value of the key that what is added is combined into.
    pub fn reducing<'b, V: Data>(&'b mut self, state: &'b ReducingState<V>) -> Reducing<'b, K, V> {
        let single = self.named.single(state.slot, self.clocks);
        Reducing { state: single, owner: self.owner, combine: &*state.combine }
    }

    /// A named accumulator of the key.
    pub fn aggregating<'b, T: 'static, A: Aggregate<T>>(
        &'b mut self,
        state: &'b AggregatingState<T, A>,
    ) -> Aggregating<'b, K, T, A> {
        Aggregating {
            state: self.named.single(state.slot, self.clocks),
            owner: self.owner,
            aggregate: &*state.aggregate,
        }
    }
}

/// What calls, batch by batch, have in common.
pub(crate) fn at(watermark: EventTime, context: &Context<'_>) -> (EventTime, ProcessingTime) {
    (watermark, context.now)
}
