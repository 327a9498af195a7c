//! Windows of processing time: records belong where the clock stands when they are taken.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::time::seconds;
//! use thalweg_operators::{Count, Job, ProcessingTumbling};
//!
//! let job = Job::new();
//! let (rates, _) = memory::sink();
//! job.source("clicks", memory::source(vec!["home", "shop", "home"]))
//!     .map(str::to_owned)
//!     .key_by(|page| page.clone())
//!     .processing_window(ProcessingTumbling::of(seconds(10)))
//!     .aggregate("clicks-in-ten-seconds", Count)
//!     .sink("rates", rates);
//! ```
//!
//! Results depend on when and how fast the job runs: level D2. No record is late. At the end of the
//! input the windows that are open give out what they hold (Flink drops it). After a restart
//! windows whose end has passed give out their results at once.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::state::{Namespace, OperatorState, SlicedTable, TableId, codec};
use thalweg_engine::time::duration_millis;
use thalweg_engine::{
    Advance, Batch, Context, Counter, Data, EachTable, Error, EventTime, Key, OpenContext,
    Operator, Outputs, ProcessingTime, Result, SnapshotContext,
};

use crate::aggregate::{Aggregate, Reduce};
use crate::stream::{Keyed, KeyedStream, Stream};

/// A span of processing time: `start` belongs to it, `end` does not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ProcessingWindow {
    /// The first instant of the window.
    pub start: ProcessingTime,
    /// The first instant behind it.
    pub end: ProcessingTime,
}

/// The result of one key in one window of processing time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessingResult<K, R> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: ProcessingWindow,
    /// The result.
    pub value: R,
}

/// A kind of windows of processing time: [`ProcessingTumbling`], [`ProcessingSliding`] or
/// [`ProcessingSession`].
#[derive(Clone, Copy, Debug)]
pub struct ProcessingAssigner {
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Aligned { size_ms: i64, slide_ms: i64 },
    Session { gap_ms: i64 },
}

/// Windows of one size that neither overlap nor leave gaps, aligned to the epoch.
#[derive(Clone, Copy, Debug)]
pub struct ProcessingTumbling {
    size: Duration,
}

impl ProcessingTumbling {
    /// Windows of `size`.
    pub fn of(size: Duration) -> Self {
        ProcessingTumbling { size }
    }
}

impl From<ProcessingTumbling> for ProcessingAssigner {
    fn from(windows: ProcessingTumbling) -> Self {
        let size_ms = bounded(windows.size);
        ProcessingAssigner { kind: Kind::Aligned { size_ms, slide_ms: size_ms } }
    }
}

/// Windows of one size that begin every `slide`, aligned to the epoch.
#[derive(Clone, Copy, Debug)]
pub struct ProcessingSliding {
    size: Duration,
    slide: Duration,
}

impl ProcessingSliding {
    /// Windows of `size` that begin every `slide`. If the slide is greater than the size, records
    /// between two windows belong to none and are counted as gap records.
    pub fn of(size: Duration, slide: Duration) -> Self {
        ProcessingSliding { size, slide }
    }
}

impl From<ProcessingSliding> for ProcessingAssigner {
    fn from(windows: ProcessingSliding) -> Self {
        let (size_ms, slide_ms) = (bounded(windows.size), bounded(windows.slide));
        ProcessingAssigner { kind: Kind::Aligned { size_ms, slide_ms } }
    }
}

/// Windows that last until no record of the key has come for a while.
#[derive(Clone, Copy, Debug)]
pub struct ProcessingSession {
    gap: Duration,
}

impl ProcessingSession {
    /// Sessions end when no record has come for `gap`.
    pub fn with_gap(gap: Duration) -> Self {
        ProcessingSession { gap }
    }
}

impl From<ProcessingSession> for ProcessingAssigner {
    fn from(windows: ProcessingSession) -> Self {
        ProcessingAssigner { kind: Kind::Session { gap_ms: bounded(windows.gap) } }
    }
}

/// The watermark, unless it is that of the end: what is given out then is behind the last one.
fn before_end(watermark: EventTime) -> EventTime {
    if watermark == EventTime::MAX { EventTime::MIN } else { watermark }
}

/// A duration in milliseconds that can be added to any time.
fn bounded(duration: Duration) -> i64 {
    duration_millis(duration).min(EventTime::RECORD_LIMIT_MS)
}

impl ProcessingAssigner {
    fn problem(self) -> Option<String> {
        let (least, what) = match self.kind {
            Kind::Aligned { size_ms, slide_ms } => (size_ms.min(slide_ms), "size and slide"),
            Kind::Session { gap_ms } => (gap_ms, "gap"),
        };
        (least < 1).then(|| format!("{what} of a window must be a millisecond at least"))
    }

    fn name(self) -> &'static str {
        match self.kind {
            Kind::Aligned { size_ms, slide_ms } if size_ms == slide_ms => {
                "processing-time tumbling window"
            }
            Kind::Aligned { .. } => "processing-time sliding window",
            Kind::Session { .. } => "processing-time session window",
        }
    }
}

/// A keyed stream cut into windows of processing time.
pub struct ProcessingWindowedStream<K, T> {
    stream: Stream<Keyed<K, T>>,
    assigner: ProcessingAssigner,
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Cuts the stream into windows of processing time.
    pub fn processing_window(
        &self,
        windows: impl Into<ProcessingAssigner>,
    ) -> ProcessingWindowedStream<K, T> {
        ProcessingWindowedStream { stream: self.stream.clone(), assigner: windows.into() }
    }
}

impl<K: Key, T: Data> ProcessingWindowedStream<K, T> {
    /// Folds the records of each key and window. Results are given out when the clock reaches the
    /// end of the window. Their event time is that of the latest record in the window, or, if that
    /// is behind the watermark, the first time after it.
    ///
    /// # Cost
    /// One table look-up per record and window that overlaps.
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> Stream<ProcessingResult<K, A::Out>> {
        let assigner = self.assigner;
        let mut spec = OperatorSpec::stateful(name, assigner.name(), Location::caller());
        spec.level = Level::D2;
        spec.problems.extend(assigner.problem());
        spec.problems.extend(aggregate.problems());
        let aggregate = Arc::new(aggregate);
        self.stream.job.operator(&self.stream, spec, move || {
            ProcessingOperator::<K, T, A>::new(assigner.kind, aggregate.clone())
        })
    }

    /// Combines the records of each key and window two by two, in order of arrival.
    #[track_caller]
    pub fn reduce(
        &self,
        name: impl Into<String>,
        combine: impl Fn(&T, &T) -> T + Send + Sync + 'static,
    ) -> Stream<ProcessingResult<K, T>> {
        self.aggregate(name, Reduce::with(combine))
    }
}

/// Windows: aligned ones in the slice of their end and start, sessions all in one.
const WINDOWS: TableId = TableId(0);
/// Of sessions, where to look next: one timer per key with a session, not after its end.
const TIMERS: TableId = TableId(1);
const SESSIONS: Namespace = Namespace(0, 0);

struct ProcessingOperator<K, T, A: Aggregate<T>> {
    kind: Kind,
    aggregate: Arc<A>,
    /// The operator's watermark, until the end of the input.
    watermark: EventTime,
    /// Keys with something due, in a slice of windows or timers. They are there until done.
    due: VecDeque<(Namespace, u64, K)>,
    open: Option<Opened<K, A::Accumulator>>,
    records: PhantomData<fn(T)>,
}

struct Opened<K, V> {
    state: OperatorState,
    windows: SlicedTable<K, Held<V>>,
    timers: SlicedTable<K, ()>,
}

/// What a key's window holds.
#[derive(Clone, Serialize, Deserialize)]
struct Held<V> {
    window: ProcessingWindow,
    /// The greatest event time of a record.
    latest: EventTime,
    accumulator: V,
}

type ProcessingOutputs<'a, K, R> = Outputs<'a, ProcessingResult<K, R>, ()>;

impl<K: Key, T: Data, A: Aggregate<T>> ProcessingOperator<K, T, A> {
    fn new(kind: Kind, aggregate: Arc<A>) -> Self {
        ProcessingOperator {
            kind,
            aggregate,
            watermark: EventTime::MIN,
            due: VecDeque::new(),
            open: None,
            records: PhantomData,
        }
    }

    fn opened(&mut self) -> Result<&mut Opened<K, A::Accumulator>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    fn hold(&self, start: i64, end: i64) -> Held<A::Accumulator> {
        let start = ProcessingTime::from_millis(start);
        let window = ProcessingWindow { start, end: ProcessingTime::from_millis(end) };
        Held { window, latest: EventTime::MIN, accumulator: self.aggregate.create() }
    }

    /// Adds a record to its windows; false if it has none.
    fn add_aligned(
        &mut self,
        record: &Keyed<K, T>,
        hash: u64,
        time: EventTime,
        now: i64,
    ) -> Result<bool> {
        let Kind::Aligned { size_ms, slide_ms } = self.kind else { return Ok(false) };
        let aggregate = self.aggregate.clone();
        let mut start = now - now.rem_euclid(slide_ms);
        let mut is_held = false;
        while start > now - size_ms {
            let end = start + size_ms;
            let new = self.hold(start, end);
            let slice = self.opened()?.windows.slice(Namespace(end, start));
            slice.update(
                hash,
                &record.key,
                || new,
                |held| {
                    held.latest = held.latest.max(time);
                    aggregate.add(&mut held.accumulator, &record.value);
                },
            )?;
            is_held = true;
            start -= slide_ms;
        }
        Ok(is_held)
    }

    /// Adds a record to the session of its key; one that has ended is given out before.
    fn add_to_session(
        &mut self,
        record: &Keyed<K, T>,
        (hash, time): (u64, EventTime),
        now: i64,
        out: &mut ProcessingOutputs<'_, K, A::Out>,
    ) -> Result<()> {
        let Kind::Session { gap_ms } = self.kind else { return Ok(()) };
        let (new, end) = (self.hold(now, now + gap_ms), now + gap_ms);
        let aggregate = self.aggregate.clone();
        let opened = self.opened()?;
        let (mut is_new, mut ended) = (false, None);
        let create = || {
            is_new = true;
            new.clone()
        };
        opened.windows.slice(SESSIONS).update(hash, &record.key, create, |held| {
            if held.window.end.millis() <= now {
                ended = Some(std::mem::replace(held, new.clone()));
            }
            let end = ProcessingTime::from_millis(end);
            held.window.end = held.window.end.max(end);
            held.latest = held.latest.max(time);
            aggregate.add(&mut held.accumulator, &record.value);
        })?;
        if is_new {
            // Later ones are set when this one is due.
            opened.timers.slice(Namespace(end, 0)).insert(hash, &record.key, ())?;
        }
        if let Some(held) = ended {
            self.give_out(record.key.clone(), held, out);
        }
        Ok(())
    }

    fn give_out(
        &self,
        key: K,
        held: Held<A::Accumulator>,
        out: &mut ProcessingOutputs<'_, K, A::Out>,
    ) {
        let Held { window, latest, accumulator } = held;
        let value = self.aggregate.finish(&accumulator);
        let time = latest.max(self.watermark.shifted(1));
        out.main.push(ProcessingResult { key, window, value }, time);
    }

    /// Does for a key what is due in a slice.
    fn fire(
        &mut self,
        (slice, hash, key): (Namespace, u64, K),
        out: &mut ProcessingOutputs<'_, K, A::Out>,
    ) -> Result<()> {
        let is_session = matches!(self.kind, Kind::Session { .. });
        let Opened { windows, timers, .. } = self.opened()?;
        if is_session {
            let stands = timers.get_slice(slice).map(|timers| timers.remove(hash, &key));
            if stands.transpose()?.flatten().is_none() {
                return Ok(());
            }
            let sessions = windows.slice(SESSIONS);
            let Some(end) = sessions.get(hash, &key)?.map(|held| held.window.end.millis()) else {
                return Ok(());
            };
            if end > slice.0 {
                return Ok(timers.slice(Namespace(end, 0)).insert(hash, &key, ())?);
            }
        }
        let place = if is_session { SESSIONS } else { slice };
        let held = windows.get_slice(place).map(|windows| windows.remove(hash, &key));
        if let Some(held) = held.transpose()?.flatten() {
            self.give_out(key, held, out);
        }
        Ok(())
    }

    /// Finds the keys with something due first, if that is until `until`.
    fn find_due(&mut self, until: i64) -> Result<()> {
        let is_session = matches!(self.kind, Kind::Session { .. });
        let Opened { windows, timers, .. } = self.opened()?;
        loop {
            let first = match is_session {
                true => timers.namespaces().next(),
                false => windows.namespaces().next(),
            };
            let Some(first) = first.filter(|first| first.0 <= until) else { return Ok(()) };
            let mut keys = Vec::new();
            let mut add = |key: &K, hash| keys.push((Vec::new(), hash, key.clone()));
            match is_session {
                true => timers.slice(first).for_each(|key, hash, ()| add(key, hash))?,
                false => windows.slice(first).for_each(|key, hash, _| add(key, hash))?,
            }
            if keys.is_empty() {
                match is_session {
                    true => timers.drop_slice(first)?,
                    false => windows.drop_slice(first)?,
                }
                continue;
            }
            for (encoded, _, key) in &mut keys {
                codec::encode_key(key, encoded)?;
            }
            keys.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            self.due.extend(keys.into_iter().map(|(_, hash, key)| (first, hash, key)));
            return Ok(());
        }
    }

    /// Gives out what is due until `until`; false if the output was full before.
    fn fire_due(&mut self, until: i64, out: &mut ProcessingOutputs<'_, K, A::Out>) -> Result<bool> {
        loop {
            while !out.is_full() {
                let Some(due) = self.due.pop_front() else { break };
                self.fire(due, out)?;
            }
            if out.is_full() {
                return Ok(false);
            }
            self.find_due(until)?;
            if self.due.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Asks for a call when the first window ends.
    fn wake(&mut self, context: &mut Context<'_>) -> Result<()> {
        let is_session = matches!(self.kind, Kind::Session { .. });
        let Opened { windows, timers, .. } = self.opened()?;
        let first = match is_session {
            true => timers.namespaces().next(),
            false => windows.namespaces().next(),
        };
        if let Some(Namespace(end, _)) = first {
            context.wake_at(ProcessingTime::from_millis(end));
        }
        Ok(())
    }
}

impl<K: Key, T: Data, A: Aggregate<T>> Operator for ProcessingOperator<K, T, A> {
    type In = Keyed<K, T>;
    type Out = ProcessingResult<K, A::Out>;
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = before_end(context.restored_watermark);
        let mut state = context.open_state()?;
        let (mut windows, mut timers) = (state.sliced(WINDOWS), state.sliced(TIMERS));
        state.restore(context.restored, &mut |key, value| match key.table {
            WINDOWS => windows.restore_entry(&key, value),
            _ => timers.restore_entry(&key, value),
        })?;
        self.open = Some(Opened { state, windows, timers });
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut ProcessingOutputs<'_, K, A::Out>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let now = context.now.millis();
        let (mut taken, mut gap) = (0, 0);
        for (index, record) in input.values.iter().enumerate() {
            let time = input.times.get(index).copied().unwrap_or(EventTime::MIN);
            let hash = input.hashes[index];
            match self.kind {
                Kind::Aligned { .. } => {
                    gap += u64::from(!self.add_aligned(record, hash, time, now)?);
                }
                Kind::Session { .. } => self.add_to_session(record, (hash, time), now, out)?,
            }
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        input.drain_front(taken);
        context.metrics.add(Counter::Gap, gap);
        let opened = self.opened()?;
        opened.windows.relieve()?;
        opened.timers.relieve()?;
        self.wake(context)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut ProcessingOutputs<'_, K, A::Out>,
        context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(before_end(watermark));
        // At the end of the input nobody waits for the clock.
        if watermark == EventTime::MAX && !self.fire_due(i64::MAX, out)? {
            return Ok(Advance::More);
        }
        self.wake(context)?;
        Ok(Advance::Done)
    }

    fn on_time(
        &mut self,
        out: &mut ProcessingOutputs<'_, K, A::Out>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        if !self.fire_due(context.now.millis(), out)? {
            context.wake_at(context.now);
            return Ok(());
        }
        self.wake(context)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let opened = self.opened()?;
        let mut snapshot = opened.state.begin_snapshot();
        opened.windows.snapshot_into(&mut snapshot)?;
        opened.timers.snapshot_into(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        Ok(())
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let opened = self.opened()?;
        f(&mut opened.windows)?;
        Ok(f(&mut opened.timers)?)
    }
}

#[cfg(test)]
mod tests;
