//! `dedup`: the first record of each key, and of its repetitions none.
//!
//! *First* is by arrival, so which record is kept depends on the order of arrival: level D2. Behind
//! [`in_event_order`](KeyedStream::in_event_order) it is the first by event time, the same for
//! every schedule: level D4. To keep the *last* record of each key, see
//! [`to_changes`](KeyedStream::to_changes).
//!
//! How long a key is remembered is said by [`Dedup`].
//!
//! ```
//! use std::time::Duration;
//!
//! use thalweg_connectors::memory;
//! use thalweg_operators::{Dedup, Job, Watermarks};
//!
//! let job = Job::new();
//! let (sink, _) = memory::sink();
//! let (late, _) = memory::sink();
//! let payments = job
//!     .source("payments", memory::source(vec![(7_u64, 100_i64), (7, 105), (8, 110)]))
//!     .event_time(|payment| payment.1, Watermarks::monotonic())
//!     .key_by(|payment| payment.0)
//!     .dedup("once", Dedup::by_event_time(Duration::from_secs(3600)));
//! payments.records().map(|keyed| keyed.value).sink("payments-once", sink);
//! payments.late().sink("late-payments", late);
//! ```

use std::marker::PhantomData;
use std::panic::Location;
use std::time::Duration;

use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::state::{Namespace, OperatorState, SlicedTable, Table, TableId, codec};
use thalweg_engine::time::duration_millis;
use thalweg_engine::{
    Advance, Batch, Context, Counter, Data, EachTable, Error, EventTime, Key, Marks, OpenContext,
    Operator, Outputs, ProcessingTime, Result, SnapshotContext,
};

use crate::group_keys::{GroupKey, GroupKeys};
use crate::late::WithLate;
use crate::stream::{Keyed, KeyedStream};

/// How long `dedup` remembers a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dedup {
    memory: Memory,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Memory {
    Forever,
    EventTime { ttl_ms: i64 },
    ProcessingTime { ttl_ms: i64 },
}

impl Dedup {
    /// A record with a time before *t* + `ttl` repeats one of time *t* that was kept. A record at
    /// or behind the watermark of its split comes too late, because the record it repeats may have
    /// been forgotten: it goes to [`late`](WithLate::late) and is counted.
    pub fn by_event_time(ttl: Duration) -> Self {
        Dedup { memory: Memory::EventTime { ttl_ms: duration_millis(ttl) } }
    }

    /// A record repeats one that was kept less than `ttl` ago by the clock of the job: level D2.
    /// Time for which the job does not run counts too.
    pub fn by_processing_time(ttl: Duration) -> Self {
        Dedup { memory: Memory::ProcessingTime { ttl_ms: duration_millis(ttl) } }
    }

    /// A key is never forgotten.
    ///
    /// # Cost
    /// State grows with the number of keys, without end.
    pub fn forever() -> Self {
        Dedup { memory: Memory::Forever }
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Keeps the first record of each key and drops those that repeat it, for as long as `dedup`
    /// says; then the next one is a first again. The records keep their keys and stay where they
    /// are.
    #[track_caller]
    pub fn dedup(&self, name: impl Into<String>, dedup: Dedup) -> WithLate<KeyedStream<K, T>, T> {
        let mut spec = OperatorSpec::stateful(name, "dedup", Location::caller());
        spec.level = self.level_of_order();
        match dedup.memory {
            Memory::Forever => {}
            Memory::EventTime { .. } => spec.needs_event_time = true,
            Memory::ProcessingTime { .. } => spec.level = Level::D2,
        }
        if let Memory::EventTime { ttl_ms: 0 } | Memory::ProcessingTime { ttl_ms: 0 } = dedup.memory
        {
            let problem = "a key that is remembered for less than a millisecond is never repeated";
            spec.problems.push(problem.to_owned());
        }
        let stream = self.stream.job.operator(&self.stream, spec, move || KeepFirst::new(dedup));
        let late = stream.side();
        WithLate::new(KeyedStream { stream }, late)
    }
}

/// When each key is forgotten.
const KEPT: TableId = TableId(0);
/// Keys by the slice of time in which they are to be forgotten.
const ENDING: TableId = TableId(1);
/// The operator's clock, by the key of each key group. Written at a snapshot only.
const CLOCK: TableId = TableId(2);

/// A time to live is cut into this many slices: a key is forgotten up to one of them late, which
/// shows in nothing but memory.
const SLICES: i64 = 32;

struct KeepFirst<K: Key, T> {
    memory: Memory,
    watermark: EventTime,
    clock: Clock,
    open: Option<Opened<K>>,
    records: PhantomData<fn(T)>,
}

struct Opened<K> {
    state: OperatorState,
    kept: Table<K, i64>,
    ending: SlicedTable<K, ()>,
    clocks: Table<u32, i64>,
    group_keys: GroupKeys,
}

/// Processing time that does not go back, even if the system's clock was set back between two runs:
/// then it goes on where the restored operator's was.
#[derive(Default)]
struct Clock {
    /// The latest time seen, on this clock.
    latest: i64,
    /// What this clock is ahead of the driver's; none before the first call.
    ahead_ms: Option<i64>,
}

impl Clock {
    fn tell(&mut self, now: ProcessingTime) -> i64 {
        let latest = self.latest;
        let ahead = *self.ahead_ms.get_or_insert_with(|| (latest - now.millis()).max(0));
        self.latest = latest.max(now.millis() + ahead);
        self.latest
    }
}

impl<K: Key, T: Data> KeepFirst<K, T> {
    fn new(dedup: Dedup) -> Self {
        KeepFirst {
            memory: dedup.memory,
            watermark: EventTime::MIN,
            clock: Clock::default(),
            open: None,
            records: PhantomData,
        }
    }

    fn opened(&mut self) -> Result<&mut Opened<K>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    /// Forgets the keys of the slices that end by `now`.
    fn forget(&mut self, now: i64) -> Result<()> {
        let Opened { kept, ending, .. } = self.opened()?;
        loop {
            let first = ending.namespaces().next();
            let Some(slice) = first.filter(|slice| slice.0 <= now) else { return Ok(()) };
            let mut keys = Vec::new();
            if let Some(table) = ending.get_slice(slice) {
                table.for_each(|key, hash, ()| keys.push((hash, key.clone())))?;
            }
            for (hash, key) in keys {
                // A key that was kept again is in a later slice, too.
                if kept.get(hash, &key)?.is_some_and(|until| *until <= now) {
                    kept.remove(hash, &key)?;
                }
            }
            ending.drop_slice(slice)?;
        }
    }

    /// Asks to be called when the next slice ends, where time is that of the clock.
    fn wake(&mut self, context: &mut Context<'_>) -> Result<()> {
        let ahead = self.clock.ahead_ms.unwrap_or(0);
        if let Memory::ProcessingTime { .. } = self.memory
            && let Some(slice) = self.opened()?.ending.namespaces().next()
        {
            context.wake_at(ProcessingTime::from_millis(slice.0.saturating_sub(ahead)));
        }
        Ok(())
    }

    /// Keeps a key until then, if it is not kept already; true if the record is the first.
    #[inline]
    fn keep(&mut self, (hash, key): (u64, &K), now: i64, ttl_ms: i64) -> Result<bool> {
        let until = now.saturating_add(ttl_ms);
        let Opened { kept, ending, .. } = self.opened()?;
        let is_first = kept.update(
            hash,
            key,
            || i64::MIN,
            |kept_until| {
                let is_first = *kept_until <= now;
                if is_first {
                    *kept_until = until;
                }
                is_first
            },
        )?;
        if is_first && ttl_ms < i64::MAX {
            let length = (ttl_ms / SLICES).max(1);
            let end = until.div_euclid(length).saturating_add(1).saturating_mul(length);
            ending.slice(Namespace(end, 0)).insert(hash, key, ())?;
        }
        Ok(is_first)
    }
}

impl<K: Key, T: Data> Operator for KeepFirst<K, T> {
    type In = Keyed<K, T>;
    type Out = Keyed<K, T>;
    type Side = T;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        let mut state = context.open_state()?;
        let (mut kept, mut ending) = (state.table(KEPT), state.sliced(ENDING));
        let mut clocks = state.table(CLOCK);
        let clock = &mut self.clock.latest;
        let mut restore = state.begin_restore(context.restored)?;
        restore.leave(&mut kept)?;
        restore.leave(&mut ending)?;
        restore.run(&mut |key, value| {
            match key.table {
                KEPT => kept.restore_entry(&key, value)?,
                ENDING => ending.restore_entry(&key, value)?,
                _ => {
                    *clock = (*clock).max(codec::decode(value)?);
                    clocks.restore_entry(&key, value)?;
                }
            }
            Ok(())
        })?;
        let group_keys = GroupKeys::new(context.key_groups, context.key_group_count)?;
        self.open = Some(Opened { state, kept, ending, clocks, group_keys });
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, Keyed<K, T>, T>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let watermark = self.watermark;
        let clock = self.clock.tell(context.now);
        let mut values = std::mem::take(&mut input.values);
        let mut marks = Marks::of(&input.behind);
        for (i, record) in values.drain(..).enumerate() {
            let mark = marks.at(i);
            let key = (input.hashes[i], &record.key);
            let is_first = match self.memory {
                Memory::Forever => self.keep(key, 0, i64::MAX)?,
                Memory::ProcessingTime { ttl_ms } => self.keep(key, clock, ttl_ms)?,
                Memory::EventTime { ttl_ms } => {
                    let time = input.times[i];
                    if mark.is_some_and(|mark| time <= mark) || time <= watermark {
                        let mark = mark.max(Some(watermark));
                        out.side.push_from(record.value, input, i, mark);
                        continue;
                    }
                    self.keep(key, time.millis(), ttl_ms)?
                }
            };
            if is_first {
                out.main.push_from(record, input, i, mark);
            }
        }
        context.metrics.add(Counter::Late, out.side.len() as u64);
        input.values = values;
        input.clear();
        self.wake(context)?;
        let opened = self.opened()?;
        opened.kept.relieve()?;
        Ok(opened.ending.relieve()?)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        _out: &mut Outputs<'_, Keyed<K, T>, T>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        if let Memory::EventTime { .. } = self.memory {
            self.forget(watermark.millis())?;
        }
        Ok(Advance::Done)
    }

    fn on_time(
        &mut self,
        _out: &mut Outputs<'_, Keyed<K, T>, T>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let clock = self.clock.tell(context.now);
        if let Memory::ProcessingTime { .. } = self.memory {
            self.forget(clock)?;
        }
        self.wake(context)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let clock = self.clock.latest;
        let is_clock = matches!(self.memory, Memory::ProcessingTime { .. });
        let opened = self.opened()?;
        if is_clock && !opened.kept.is_empty() {
            for GroupKey { key, hash, .. } in opened.group_keys.iter() {
                opened.clocks.insert(hash, &key, clock)?;
            }
        }
        let mut snapshot = opened.state.begin_snapshot();
        opened.kept.snapshot_into(&mut snapshot)?;
        opened.ending.snapshot_into(&mut snapshot)?;
        opened.clocks.snapshot_into(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        Ok(())
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let opened = self.opened()?;
        f(&mut opened.kept)?;
        f(&mut opened.ending)?;
        Ok(f(&mut opened.clocks)?)
    }
}

#[cfg(test)]
mod tests;
