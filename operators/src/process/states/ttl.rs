//! `Ttl`: how long state lives without being touched, and the queue of what is to expire.
//!
//! # Invariants
//! * I1 What expires at `until` is never seen at a clock of `until` or later, whether it is still
//!   there or not.
//! * I2 What is there says in which slice of time it is queued, and is queued there. Writes do not
//!   touch the queue: what is alive when its slice ends goes to a later one.
//! * I3 A slice is queued in chunks of about `CHUNK` parts, and a step of the clean-up works off
//!   whole chunks: its work is bounded, and what a chunk held is dropped at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_engine::state::{
    self, Namespace, OperatorState, SlicedTable, Snapshot, StateKey, StateTable, TableId,
};
use thalweg_engine::time::duration_millis;
use thalweg_engine::{Data, EventTime, Key, ProcessingTime, Result};

use super::Owner;

/// A time to live is cut into this many slices: what has expired takes room for up to one of them
/// longer.
pub(super) const SLICES: i64 = 32;

/// Parts in a chunk of the queue.
const CHUNK: usize = 1_024;

/// How long state lives: a value, an element of a list, an entry of a map is gone when it has not
/// been written for that long.
///
/// What has expired is never returned, and is removed without being touched, from memory and from
/// checkpoints, by and by. The clock is that of event time, which is the operator's watermark, or
/// of processing time. Timers see what is there at their own event time, however far the watermark
/// has leapt.
///
/// ```
/// # use std::time::Duration;
/// # use thalweg_operators::{MapState, StateDeclarations, Ttl, ValueState};
/// # fn declare(states: &mut StateDeclarations<u64>) -> (ValueState<i64>, MapState<String, u64>) {
/// let hour = Duration::from_secs(3_600);
/// let last = states.with_ttl(Ttl::by_event_time(hour)).value("last");
/// let seen = states.with_ttl(Ttl::by_processing_time(hour).from_creation()).map("seen");
/// # (last, seen)
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ttl {
    pub(super) ms: i64,
    pub(super) domain: Domain,
    pub(super) renewal: Renewal,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Domain {
    EventTime,
    ProcessingTime,
}

/// What begins a new life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Renewal {
    Creation,
    Write,
    ReadAndWrite,
}

impl Ttl {
    /// What was written at a time is gone when the watermark is `ttl` beyond that. It counts as
    /// written at the time of the record or timer, or at the watermark if that is later.
    pub fn by_event_time(ttl: Duration) -> Self {
        let ms = duration_millis(ttl);
        Ttl { ms, domain: Domain::EventTime, renewal: Renewal::Write }
    }

    /// What was written is gone `ttl` later by the clock; time for which the job does not run
    /// counts.
    pub fn by_processing_time(ttl: Duration) -> Self {
        let ms = duration_millis(ttl);
        Ttl { ms, domain: Domain::ProcessingTime, renewal: Renewal::Write }
    }

    /// The time runs from when there was nothing before, and no write prolongs it.
    #[must_use]
    pub fn from_creation(self) -> Self {
        Ttl { renewal: Renewal::Creation, ..self }
    }

    /// Reading prolongs it as writing does. Not for lists, whose elements are not written again.
    ///
    /// # Cost
    /// What was read counts as changed: the next checkpoint writes it again.
    #[must_use]
    pub fn renewed_by_reads(self) -> Self {
        Ttl { renewal: Renewal::ReadAndWrite, ..self }
    }

    pub(super) fn is_by_event_time(&self) -> bool {
        self.domain == Domain::EventTime
    }

    pub(super) fn is_renewed_by_reads(&self) -> bool {
        self.renewal == Renewal::ReadAndWrite
    }

    /// What is wrong with it.
    pub(super) fn problem(&self) -> Option<&'static str> {
        (self.ms == 0).then_some("lives for less than a millisecond, so it is never there")
    }

    fn now(&self, clocks: Clocks) -> i64 {
        match self.domain {
            Domain::EventTime => clocks.event_now.millis(),
            Domain::ProcessingTime => clocks.now.millis(),
        }
    }

    /// When what is written now expires.
    fn until(&self, clocks: Clocks) -> i64 {
        let written = match self.domain {
            Domain::EventTime => clocks.time.max(clocks.event_now).millis(),
            Domain::ProcessingTime => clocks.now.millis(),
        };
        written.saturating_add(self.ms)
    }
}

/// What the time is in a call.
#[derive(Clone, Copy, Debug)]
pub(in crate::process) struct Clocks {
    /// How far event time has come.
    pub(in crate::process) event_now: EventTime,
    /// The event time of the record or timer.
    pub(in crate::process) time: EventTime,
    pub(in crate::process) now: ProcessingTime,
}

/// A value that expires.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Stamped<V> {
    pub(super) value: V,
    pub(super) until: i64,
    /// The end of the slice in which it is queued.
    pub(super) queued: i64,
}

/// Parts of keys' state by the slice of time in which they may expire.
pub(super) struct Expiry<K, P> {
    ttl: Ttl,
    /// A slice by its end; within it, chunks by number.
    queue: SlicedTable<K, Vec<P>>,
    /// The chunk of each slice that is being filled, and what it has.
    filling: BTreeMap<i64, (i64, usize)>,
}

/// Parts of one key that may have expired.
pub(super) struct MayExpire<K, P> {
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) parts: Vec<P>,
    /// The end of the slice in which they were queued.
    pub(super) queued: i64,
}

impl<K: Key, P: Data> Expiry<K, P> {
    pub(super) fn new(state: &mut OperatorState, table: TableId, ttl: Ttl) -> Self {
        Expiry { ttl, queue: state.sliced(table), filling: BTreeMap::new() }
    }

    pub(super) fn is_renewed_by_reads(&self) -> bool {
        self.ttl.is_renewed_by_reads()
    }

    /// The clock of this state.
    pub(super) fn now(&self, clocks: Clocks) -> i64 {
        self.ttl.now(clocks)
    }

    /// When what is created now expires.
    pub(super) fn until(&self, clocks: Clocks) -> i64 {
        self.ttl.until(clocks)
    }

    /// A value that is created now; it is to be queued.
    pub(super) fn stamped<V>(&self, value: V, clocks: Clocks) -> Stamped<V> {
        let until = self.ttl.until(clocks);
        Stamped { value, until, queued: self.slice_end(until) }
    }

    /// What a write does to a value that is there; a read too, where reads renew.
    pub(super) fn renew<V>(&self, stamped: &mut Stamped<V>, clocks: Clocks) {
        if self.ttl.renewal != Renewal::Creation {
            stamped.until = stamped.until.max(self.ttl.until(clocks));
        }
    }

    /// The end of the slice in which something expires: after that.
    pub(super) fn slice_end(&self, until: i64) -> i64 {
        let length = (self.ttl.ms / SLICES).max(1);
        until.div_euclid(length).saturating_add(1).saturating_mul(length)
    }

    /// Queues a part in the slice that ends at `end`.
    pub(super) fn queue(&mut self, end: i64, owner: Owner<'_, K>, part: P) -> Result<()> {
        let (chunk, length) = match self.filling.get(&end) {
            Some(&(chunk, length)) if length < CHUNK => (chunk, length),
            Some(&(chunk, _)) => (chunk + 1, 0),
            None => {
                // Chunks that were restored are left as they are.
                let last = self.queue.namespaces().rev().find(|chunk| chunk.0 == end);
                (last.map_or(0, |Namespace(_, chunk)| chunk + 1), 0)
            }
        };
        self.filling.insert(end, (chunk, length + 1));
        let chunk = self.queue.slice(Namespace(end, chunk));
        Ok(chunk.update(owner.hash, owner.key, Vec::new, |parts| parts.push(part))?)
    }

    /// Takes a chunk whose slice has ended.
    pub(super) fn take_due(&mut self, now: i64) -> Result<Option<Vec<MayExpire<K, P>>>> {
        let first = self.queue.namespaces().next();
        let Some(chunk) = first.filter(|chunk| chunk.0 <= now) else { return Ok(None) };
        let Namespace(queued, number) = chunk;
        let mut due = Vec::new();
        if let Some(table) = self.queue.get_slice(chunk) {
            table.for_each(|key, hash, parts| {
                due.push(MayExpire { hash, key: key.clone(), parts: parts.clone(), queued });
            })?;
        }
        self.queue.drop_slice(chunk)?;
        if self.filling.get(&queued).is_some_and(|&(filling, _)| filling == number) {
            self.filling.remove(&queued);
        }
        Ok(Some(due))
    }

    /// When the clean-up has something to do, where that is in processing time.
    pub(super) fn wake_at(&self) -> Option<ProcessingTime> {
        let first = self.queue.namespaces().next().map(|Namespace(end, _)| end);
        first.filter(|_| !self.ttl.is_by_event_time()).map(ProcessingTime::from_millis)
    }

    pub(super) fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        self.queue.restore_entry(key, value)
    }

    pub(super) fn relieve(&mut self) -> state::Result<()> {
        self.queue.relieve()
    }

    pub(super) fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        self.queue.snapshot_into(snapshot)
    }

    /// The table that `snapshot_into` hands over.
    pub(super) fn state_table(&mut self) -> &mut dyn StateTable {
        &mut self.queue
    }
}
