//! `in_event_order`: gives records out in event-time order.
//!
//! Records are kept until the watermark reaches their time, and given out ordered by (time, split,
//! offset); records of equal identity (several made of one) by their encoding. Behind it an
//! operator that looks at the order of a key's records is of level D4: the same for every schedule.
//! Records at or behind the watermark of their split come too late: they go to
//! [`late`](WithLate::late) and are counted.
//!
//! A keyed stream is ordered per key, in parallel. A stream without keys is ordered as a whole, by
//! one subtask: between several there would be no order; and as its state is that of one key,
//! it can be restored at any parallelism of the job.
//!
//! ```
//! use std::time::Duration;
//!
//! use thalweg_connectors::memory;
//! use thalweg_operators::{Job, Watermarks};
//!
//! let job = Job::new();
//! let (sink, _) = memory::sink();
//! let (late, _) = memory::sink();
//! let moves = job
//!     .source("moves", memory::source(vec![(1_u64, 20_i64, 'b'), (1, 10, 'a')]))
//!     .event_time(|m| m.1, Watermarks::bounded_out_of_orderness(Duration::from_secs(1)))
//!     .key_by(|m| m.0)
//!     .in_event_order("in-order");
//! // The last move of each player, whatever the order of arrival.
//! moves.reduce("last", |_, later| *later).sink("last-moves", sink);
//! moves.late().sink("late-moves", late);
//! ```

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::Location;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::state::{Namespace, OperatorState, SlicedTable, TableId, codec};
use thalweg_engine::{
    Advance, Batch, Context, Counter, Data, EachTable, Error, EventTime, Key, Marks, OpenContext,
    Operator, Outputs, RecordId, Result, SnapshotContext,
};

use crate::late::WithLate;
use crate::stream::{Keyed, KeyedStream, Stream};

/// What the operator is, in plans; see [`KeyedStream::is_in_event_order`].
const WHAT: &str = "in_event_order";

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Gives the records of each key out in event-time order, when the watermark has reached them.
    ///
    /// # Cost
    /// All records that are ahead of the watermark are state.
    #[track_caller]
    pub fn in_event_order(&self, name: impl Into<String>) -> WithLate<KeyedStream<K, T>, T> {
        let spec = spec(name.into(), Location::caller());
        let stream = self.stream.job.operator(&self.stream, spec, InEventOrder::new);
        let late = stream.side();
        WithLate::new(KeyedStream { stream }, late)
    }

    /// True if each key's records come in event-time order, which makes what looks at their order
    /// as deterministic as everything else.
    pub(crate) fn is_in_event_order(&self) -> bool {
        self.stream.job.is_behind(&self.stream, WHAT)
    }

    /// The level of an operator whose results depend on the order of each key's records.
    pub(crate) fn level_of_order(&self) -> Level {
        if self.is_in_event_order() { Level::D4 } else { Level::D2 }
    }
}

impl<T: Data> Stream<T> {
    /// Gives all records out in event-time order, when the watermark has reached them. It is done
    /// by one subtask, and what follows has parallelism 1 up to the next exchange.
    ///
    /// # Cost
    /// All records that are ahead of the watermark are state.
    #[track_caller]
    pub fn in_event_order(&self, name: impl Into<String>) -> WithLate<Stream<T>, T> {
        let keyed = self.key_by(|_| ());
        let mut spec = spec(name.into(), Location::caller());
        spec.parallelism = Some(1);
        let stream = self.job.operator(&keyed.stream, spec, InEventOrder::<(), T>::new);
        let late = stream.side();
        WithLate::new(stream.map(|keyed| keyed.value), late)
    }
}

fn spec(name: String, location: &'static Location<'static>) -> OperatorSpec {
    let mut spec = OperatorSpec::stateful(name, WHAT, location);
    spec.needs_event_time = true;
    spec.needs_record_ids = true;
    spec
}

/// Records that wait: a slice per instant, an entry per key.
const WAITING: TableId = TableId(0);

/// A record that waits.
#[derive(Clone, Serialize, Deserialize)]
struct Row<T> {
    id: RecordId,
    value: T,
}

/// A record that is being given out.
struct Released<K, T> {
    time: EventTime,
    hash: u64,
    key: K,
    row: Row<T>,
}

struct InEventOrder<K: Key, T: Data> {
    watermark: EventTime,
    /// The records of one instant, in order; they are no longer in the table, but for a snapshot.
    released: VecDeque<Released<K, T>>,
    open: Option<Opened<K, T>>,
    records: PhantomData<fn(T)>,
}

struct Opened<K, T> {
    state: OperatorState,
    waiting: SlicedTable<K, Vec<Row<T>>>,
}

fn slice_of(time: EventTime) -> Namespace {
    Namespace(time.millis(), 0)
}

impl<K: Key, T: Data> InEventOrder<K, T> {
    fn new() -> Self {
        InEventOrder {
            watermark: EventTime::MIN,
            released: VecDeque::new(),
            open: None,
            records: PhantomData,
        }
    }

    fn opened(&mut self) -> Result<&mut Opened<K, T>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    /// Takes the records of the earliest instant that is due out of the table, in order; false if
    /// none is due.
    fn release(&mut self, watermark: EventTime) -> Result<bool> {
        let opened = self.opened()?;
        let first = opened.waiting.namespaces().next();
        let Some(slice) = first.filter(|slice| slice.0 <= watermark.millis()) else {
            return Ok(false);
        };
        let mut rows: Vec<(Vec<u8>, Released<K, T>)> = Vec::new();
        if let Some(table) = opened.waiting.get_slice(slice) {
            let time = EventTime::from_millis(slice.0);
            table.for_each(|key, hash, waiting| {
                rows.extend(waiting.iter().map(|row| {
                    let (key, row) = (key.clone(), row.clone());
                    (Vec::new(), Released { time, hash, key, row })
                }));
            })?;
        }
        if rows.len() > 1 {
            for (encoded, Released { key, row, .. }) in &mut rows {
                codec::encode_key(key, encoded)?;
                codec::encode(&row.value, encoded)?;
            }
            rows.sort_unstable_by(|a, b| a.1.row.id.cmp(&b.1.row.id).then_with(|| a.0.cmp(&b.0)));
        }
        opened.waiting.drop_slice(slice)?;
        self.released.extend(rows.into_iter().map(|(_, released)| released));
        Ok(true)
    }

    /// Puts the records that are being given out back into the table, for a snapshot.
    fn give_back(&mut self) -> Result<()> {
        let opened = self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        for Released { time, hash, key, row } in &self.released {
            let table = opened.waiting.slice(slice_of(*time));
            table.update(*hash, key, Vec::new, |rows| rows.push(row.clone()))?;
        }
        Ok(())
    }
}

impl<K: Key, T: Data> Operator for InEventOrder<K, T> {
    type In = Keyed<K, T>;
    type Out = Keyed<K, T>;
    type Side = T;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        let mut state = context.open_state()?;
        let mut waiting = state.sliced(WAITING);
        state.restore(context.restored, &mut |key, value| waiting.restore_entry(&key, value))?;
        self.open = Some(Opened { state, waiting });
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, Keyed<K, T>, T>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let watermark = self.watermark;
        let opened = self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        let mut values = std::mem::take(&mut input.values);
        let mut marks = Marks::of(&input.behind);
        for (i, Keyed { key, value }) in values.drain(..).enumerate() {
            let (time, mark) = (input.times[i], marks.at(i));
            // The watermark of the record's split; the operator's, where that has gone on without
            // an idle split.
            if mark.is_some_and(|mark| time <= mark) || time <= watermark {
                let mark = mark.max(Some(watermark));
                out.side.push_from(value, input, i, mark);
                continue;
            }
            let row = Row { id: input.id(i), value };
            let table = opened.waiting.slice(slice_of(time));
            table.update(input.hashes[i], &key, Vec::new, |rows| rows.push(row))?;
        }
        context.metrics.add(Counter::Late, out.side.len() as u64);
        input.values = values;
        input.clear();
        Ok(opened.waiting.relieve()?)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, Keyed<K, T>, T>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        loop {
            while let Some(Released { time, hash, key, row }) = self.released.pop_front() {
                out.main.push(Keyed { key, value: row.value }, time);
                out.main.hashes.push(hash);
                out.main.ids.push(row.id);
                if out.is_full() {
                    return Ok(Advance::More);
                }
            }
            if !self.release(watermark)? {
                return Ok(Advance::Done);
            }
        }
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        self.give_back()?;
        let opened = self.opened()?;
        let mut snapshot = opened.state.begin_snapshot();
        opened.waiting.snapshot_into(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        if let Some(time) = self.released.front().map(|released| released.time) {
            self.opened()?.waiting.drop_slice(slice_of(time))?;
        }
        Ok(())
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        Ok(f(&mut self.opened()?.waiting)?)
    }
}

#[cfg(test)]
mod tests;
