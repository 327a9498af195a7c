//! `process`: a user's function with keyed state and event-time timers.
//!
//! ```
//! use thalweg_engine::{EventTime, Result};
//! use thalweg_operators::{ProcessContext, ProcessFunction};
//!
//! /// Tells of users that have been silent for a minute.
//! struct Silence;
//!
//! impl ProcessFunction<u64, String> for Silence {
//!     type State = i64;
//!     type Out = u64;
//!
//!     fn on_record(
//!         &self,
//!         _click: String,
//!         context: &mut ProcessContext<'_, u64, i64, u64>,
//!     ) -> Result<()> {
//!         context.delete_timer(EventTime::from_millis(*context.state));
//!         *context.state = context.time().millis() + 60_000;
//!         context.register_timer(EventTime::from_millis(*context.state));
//!         Ok(())
//!     }
//!
//!     fn on_timer(
//!         &self,
//!         _time: EventTime,
//!         context: &mut ProcessContext<'_, u64, i64, u64>,
//!     ) -> Result<()> {
//!         context.emit(*context.key());
//!         Ok(())
//!     }
//! }
//! ```

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::state::{Namespace, OperatorState, SlicedTable, Table, TableId, codec};
use thalweg_engine::{
    Advance, BATCH_RECORDS, Batch, Context, Data, Element, Error, EventTime, Key, Marks,
    OpenContext, Operator, Outputs, Result, SnapshotContext,
};

use crate::stream::{Keyed, KeyedStream, Stream};

/// What a `process` operator does with each record and timer.
pub trait ProcessFunction<K: Key, T>: Send + Sync + 'static {
    /// What is kept per key; keys that were not seen have the default.
    type State: Data + Default;
    /// What is given out.
    type Out: Element;

    /// A record has come.
    ///
    /// # Errors
    /// Fails the job.
    fn on_record(
        &self,
        record: T,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out>,
    ) -> Result<()>;

    /// A timer is due: the watermark has reached its time.
    ///
    /// # Errors
    /// Fails the job.
    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, K, Self::State, Self::Out>,
    ) -> Result<()> {
        let _ = (time, context);
        Ok(())
    }
}

/// What a process function sees and can do.
pub struct ProcessContext<'a, K, S, O> {
    /// The state of the key.
    pub state: &'a mut S,
    key: &'a K,
    time: EventTime,
    mark: Option<EventTime>,
    watermark: EventTime,
    out: &'a mut Batch<O>,
    timers: &'a mut Vec<TimerChange>,
}

enum TimerChange {
    Register(EventTime),
    Delete(EventTime),
}

impl<K, S, O> ProcessContext<'_, K, S, O> {
    /// The key of the record or timer.
    pub fn key(&self) -> &K {
        self.key
    }

    /// The event time of the record, or of the timer.
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// The operator's watermark.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// The watermark of the record's split, if the record is behind it.
    pub fn behind(&self) -> Option<EventTime> {
        self.mark
    }

    /// Gives out a record with the time of the input. The late mark travels on.
    pub fn emit(&mut self, value: O) {
        self.out.push_marked(value, self.time, self.mark);
    }

    /// Asks for a call of `on_timer` when the watermark reaches `time`; at most once per key and
    /// time, however often it is asked for. At the end of the input all timers are called, and
    /// what they ask for then is not: a timer that asks for the next one would never end.
    pub fn register_timer(&mut self, time: EventTime) {
        self.timers.push(TimerChange::Register(time));
    }

    /// Takes a timer back.
    pub fn delete_timer(&mut self, time: EventTime) {
        self.timers.push(TimerChange::Delete(time));
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Calls a function with keyed state and timers. Its results may depend on the order of
    /// arrival: level D2.
    #[track_caller]
    pub fn process<P: ProcessFunction<K, T>>(
        &self,
        name: impl Into<String>,
        function: P,
    ) -> Stream<P::Out> {
        let mut spec = OperatorSpec::stateful(name, "process", Location::caller());
        spec.level = Level::D2;
        let function = Arc::new(function);
        self.stream.job.operator(&self.stream, spec, move || Process::<K, T, P> {
            function: function.clone(),
            watermark: EventTime::MIN,
            due: VecDeque::new(),
            changes: Vec::new(),
            open: None,
            records: PhantomData,
        })
    }
}

const STATES: TableId = TableId(0);
/// Timers: a slice per time, an entry per key.
const TIMERS: TableId = TableId(1);

struct Process<K: Key, T, P: ProcessFunction<K, T>> {
    function: Arc<P>,
    watermark: EventTime,
    /// Timers that are due, in order of (time, encoded key). They are in the table until called.
    due: VecDeque<(EventTime, u64, K)>,
    changes: Vec<TimerChange>,
    open: Option<Opened<K, P::State>>,
    records: PhantomData<fn(T)>,
}

struct Opened<K, S> {
    state: OperatorState,
    states: Table<K, S>,
    timers: SlicedTable<K, ()>,
}

/// What calls the user's function: a record or a timer.
struct Call<'a, K, O> {
    key: &'a K,
    hash: u64,
    time: EventTime,
    mark: Option<EventTime>,
    out: &'a mut Batch<O>,
}

impl<K: Key, T: Data, P: ProcessFunction<K, T>> Process<K, T, P> {
    fn opened(&mut self) -> Result<&mut Opened<K, P::State>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    fn call(
        &mut self,
        call: Call<'_, K, P::Out>,
        f: impl FnOnce(&P, &mut ProcessContext<'_, K, P::State, P::Out>) -> Result<()>,
    ) -> Result<()> {
        let Call { key, hash, time, mark, out } = call;
        let mut changes = std::mem::take(&mut self.changes);
        let (function, watermark) = (self.function.clone(), self.watermark);
        let opened = self.opened()?;
        opened.states.update(hash, key, P::State::default, |state| {
            let timers = &mut changes;
            f(&function, &mut ProcessContext { state, key, time, mark, watermark, out, timers })
        })??;
        for change in changes.drain(..) {
            match change {
                TimerChange::Register(at) => {
                    opened.timers.slice(Namespace(at.millis(), 0)).insert(hash, key, ())?;
                }
                TimerChange::Delete(at) => {
                    if let Some(slice) = opened.timers.get_slice(Namespace(at.millis(), 0)) {
                        slice.remove(hash, key)?;
                    }
                }
            }
        }
        self.changes = changes;
        Ok(())
    }

    /// Finds the timers of the earliest time that is due.
    fn find_due(&mut self, watermark: EventTime) -> Result<()> {
        let opened = self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        loop {
            let first = opened.timers.namespaces().next();
            let Some(Namespace(time, _)) = first.filter(|first| first.0 <= watermark.millis())
            else {
                return Ok(());
            };
            let mut keys = Vec::new();
            if let Some(slice) = opened.timers.get_slice(Namespace(time, 0)) {
                slice.for_each(|key, hash, ()| keys.push((Vec::new(), hash, key.clone())))?;
            }
            if keys.is_empty() {
                opened.timers.drop_slice(Namespace(time, 0))?;
                continue;
            }
            for (encoded, _, key) in &mut keys {
                codec::encode_key(key, encoded)?;
            }
            keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let time = EventTime::from_millis(time);
            self.due.extend(keys.into_iter().map(|(_, hash, key)| (time, hash, key)));
            return Ok(());
        }
    }
}

impl<K: Key, T: Data, P: ProcessFunction<K, T>> Operator for Process<K, T, P> {
    type In = Keyed<K, T>;
    type Out = P::Out;
    type Side = ();

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
        out: &mut Outputs<'_, P::Out, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let mut marks = Marks::of(&input.behind);
        let mut taken = 0;
        let mut values = std::mem::take(&mut input.values).into_iter();
        for Keyed { key, value } in values.by_ref() {
            let call = Call {
                key: &key,
                hash: input.hashes[taken],
                time: input.times.get(taken).copied().unwrap_or(EventTime::MIN),
                mark: marks.at(taken),
                out: out.main,
            };
            self.call(call, |function, context| function.on_record(value, context))?;
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        input.drain_columns(taken);
        input.values = values.collect();
        let opened = self.opened()?;
        opened.states.relieve()?;
        Ok(opened.timers.relieve()?)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, P::Out, ()>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        let mut calls = 0;
        loop {
            while let Some((time, hash, key)) = self.due.pop_front() {
                let slice = Namespace(time.millis(), 0);
                // A timer that was called before it may have deleted this one.
                let timer = self.opened()?.timers.get_slice(slice);
                if let Some(timers) = timer
                    && timers.remove(hash, &key)?.is_some()
                {
                    let call = Call { key: &key, hash, time, mark: None, out: out.main };
                    self.call(call, |function, context| {
                        let before = context.timers.len();
                        let result = function.on_timer(time, context);
                        if watermark == EventTime::MAX {
                            let made = context.timers.split_off(before);
                            let deleted = |c: &TimerChange| matches!(c, TimerChange::Delete(_));
                            context.timers.extend(made.into_iter().filter(deleted));
                        }
                        result
                    })?;
                }
                calls += 1;
                if out.is_full() || calls >= BATCH_RECORDS {
                    return Ok(Advance::More);
                }
            }
            self.find_due(watermark)?;
            if self.due.is_empty() {
                return Ok(Advance::Done);
            }
        }
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let opened = self.opened()?;
        let mut snapshot = opened.state.begin_snapshot();
        opened.states.snapshot_into(&mut snapshot)?;
        opened.timers.snapshot_into(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use thalweg_engine::state::hash_key;
    use thalweg_engine::testing::{Input, verify_operator};

    use super::*;

    /// Gives out each record, and the number of records of a key one millisecond after each.
    struct Echo;

    impl ProcessFunction<u8, i64> for Echo {
        type State = u64;
        type Out = (u8, i64);

        fn on_record(
            &self,
            record: i64,
            context: &mut ProcessContext<'_, u8, u64, (u8, i64)>,
        ) -> Result<()> {
            *context.state += 1;
            context.register_timer(EventTime::from_millis(context.time().millis() + 1));
            let key = *context.key();
            context.emit((key, record));
            Ok(())
        }

        fn on_timer(
            &self,
            time: EventTime,
            context: &mut ProcessContext<'_, u8, u64, (u8, i64)>,
        ) -> Result<()> {
            if time.millis() % 2 == 0 {
                context.delete_timer(EventTime::from_millis(time.millis() + 1));
            }
            let key = *context.key();
            context.emit((key, -time.millis()));
            Ok(())
        }
    }

    #[test]
    fn timers_fire_once_each_in_every_mode() {
        let mut script = Vec::new();
        for n in 0..30_i64 {
            let key = (n % 3) as u8;
            let time = EventTime::from_millis(n / 3);
            script.push(Input::Record(Keyed { key, value: 100 + n }, time, None));
            if n % 12 == 11 {
                script.push(Input::Watermark(EventTime::from_millis(n / 3)));
            }
        }
        script.push(Input::Watermark(EventTime::MAX));
        let given = verify_operator(
            || Process {
                function: Arc::new(Echo),
                watermark: EventTime::MIN,
                due: VecDeque::new(),
                changes: Vec::new(),
                open: None,
                records: PhantomData,
            },
            Some(&|keyed: &Keyed<u8, i64>| hash_key(&keyed.key).expect("a number has a hash")),
            &script,
        )
        .expect("all modes agree");
        // Timers stand at 1..=10 for three keys; each even one takes back the next.
        let timers = given.main.iter().filter(|line| line.contains(", -")).count();
        assert_eq!(given.main.len() - timers, 30);
        let expected: Vec<i64> = (1..=10).filter(|t| t % 2 == 0 || *t == 1).collect();
        for key in 0..3 {
            for time in 1..=10_i64 {
                let line = format!("({key}, -{time}) at {time}");
                let is_there = given.main.contains(&line);
                assert_eq!(is_there, expected.contains(&time), "{line}");
            }
        }
    }
}
