//! `Changes`: what changes in an operator's tables, on its way from them to runs.
//!
//! Tables put changed entries into a log, encoded, in the order of the changes. A log that has
//! become long, and the rest of one when a snapshot is complete, goes to the [`ChangeStream`], from
//! which another thread takes it, sorts it and gathers it with others for a run.
//!
//! # Epochs
//! A snapshot ends an *epoch*, the first one being number 1. What was changed in it and is not in
//! the log yet is put there in steps while the next epoch's log may already grow: an entry is
//! logged before it changes again.
//!
//! # Invariants
//! * I1 The logs of the epochs up to a snapshot, in order, hold the newest change of every key up
//!   to it: restoring their runs gives the state as it was at the snapshot.
//! * I2 Logs of one epoch come in the order of their changes; those of a later epoch may come
//!   before the last of an earlier one, and say which epoch they are of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::portable::Dropped;
use crate::state_key::{Namespace, TableId};

mod gathered;

pub use gathered::GatheredChanges;

/// How many bytes of changes there may be, on their way to a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLimits {
    /// A log of this length is handed on.
    log: usize,
    /// With this many waiting in a stream, no more are put there than have to be.
    stream: usize,
    /// So many are gathered for a run at the most.
    gathered: usize,
    /// So many, without use, are kept for later logs.
    spare: usize,
}

/// A stream is overfull with this many times what may wait there: what changes or is evicted has
/// to be put there, full or not. To have a job wait earlier would stop it at each barrier after
/// which most of its state changes at once.
const OVERFULL: usize = 8;

impl LogLimits {
    /// Limits where memory is not bounded.
    pub(crate) const UNBOUNDED: LogLimits =
        LogLimits { log: 8 << 20, stream: 32 << 20, gathered: 128 << 20, spare: 128 << 20 };

    /// Limits that keep to this many bytes together.
    pub(crate) fn within(bytes: usize) -> Self {
        // A log is filled while another one is completed. An overfull stream alone has all of the
        // bytes: the memory that is left to nobody has room for the rest.
        let log = (bytes / 16).clamp(64 << 10, 8 << 20);
        // What is spare was in use before, and will be again: it needs no room beside the rest.
        LogLimits { log, stream: 2 * log, gathered: bytes / 2, spare: bytes }
    }
}

/// Changes of one epoch, encoded, in their order.
#[derive(Debug, Default)]
pub struct ChangeLog {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    spaces: BTreeMap<(TableId, Namespace), u32>,
    last_space: Option<((TableId, Namespace), u32)>,
    /// What was dropped, with the number of changes before it.
    drops: Vec<(Dropped, usize)>,
}

/// Where a change lies: the encoded key, then the value.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// The key's first bytes, to sort by.
    head: u64,
    key_group: KeyGroup,
    is_removed: bool,
    /// Whether `head` and nothing else is the key.
    is_whole: bool,
    /// The number of its table and namespace.
    space: u32,
    /// The number of its log, among those that are gathered.
    log: u32,
    start: u32,
    value: u32,
    end: u32,
}

impl ChangeLog {
    /// The encoded changes' length, in bytes.
    fn byte_len(&self) -> usize {
        self.bytes.len() + self.spans.len() * size_of::<Span>()
    }

    fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.drops.is_empty()
    }

    fn space(&mut self, space: (TableId, Namespace)) -> u32 {
        match self.last_space {
            Some((last, number)) if last == space => number,
            _ => {
                let next = self.spaces.len() as u32;
                let number = *self.spaces.entry(space).or_insert(next);
                self.last_space = Some((space, number));
                number
            }
        }
    }

    /// Adds a change: `put_key` appends the encoded key, `put_value` the value, of which there is
    /// none if the key was removed.
    pub(crate) fn push<F: FnOnce(&mut Vec<u8>) -> Result<()>>(
        &mut self,
        space: (TableId, Namespace),
        key_group: KeyGroup,
        put_key: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        put_value: Option<F>,
    ) -> Result<()> {
        let space = self.space(space);
        let start = self.bytes.len();
        put_key(&mut self.bytes)?;
        let value = self.bytes.len();
        let is_removed = put_value.is_none();
        if let Some(put_value) = put_value {
            put_value(&mut self.bytes)?;
        }
        let mut head = [0; 8];
        let key = &self.bytes[start..value.min(start + 8)];
        head[..key.len()].copy_from_slice(key);
        let end = self.bytes.len();
        // A log is handed on long before it has 4 GiB.
        let (start, value, end) = (start as u32, value as u32, end as u32);
        let (head, is_whole) = (u64::from_be_bytes(head), value - start == 8);
        self.spans.push(Span {
            head,
            key_group,
            is_removed,
            is_whole,
            space,
            log: 0,
            start,
            value,
            end,
        });
        Ok(())
    }
}

/// What a stream gives to the one who writes runs.
#[derive(Debug)]
pub enum StreamItem {
    /// Changes of an epoch.
    Changes(u64, ChangeLog),
    /// The state was empty at the end of this epoch: no run up to it matters any more.
    Emptied(u64),
    /// All changes of this epoch have been given.
    Complete {
        /// The epoch.
        epoch: u64,
        /// Whether its changes are all of the state: no run of an epoch before matters any more.
        is_whole: bool,
    },
}

/// Calls whoever takes from a stream, from any thread.
pub type StreamWaker = Arc<dyn Fn() + Send + Sync>;

/// The way of an operator's changes, in one subtask, to the one who writes runs.
pub struct ChangeStream {
    inner: Mutex<StreamInner>,
    limits: LogLimits,
}

#[derive(Default)]
struct StreamInner {
    items: VecDeque<StreamItem>,
    bytes: usize,
    waker: Option<StreamWaker>,
    /// What logs were made of that have been written: memory that is in use already costs less
    /// than new.
    spare_bytes: Vec<Vec<u8>>,
    spare_spans: Vec<Vec<Span>>,
    /// The lengths of the last log that was handed on because it was long: the next one will hardly
    /// have others.
    long: (usize, usize),
}

impl ChangeStream {
    pub(crate) fn new(limits: LogLimits) -> Self {
        ChangeStream { inner: Mutex::default(), limits }
    }

    /// How many bytes of changes are gathered for a run at the most.
    pub fn gathered_limit(&self) -> usize {
        self.limits.gathered
    }

    fn lock(&self) -> MutexGuard<'_, StreamInner> {
        // No call leaves it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `waker` is called when there is something to take.
    pub fn set_waker(&self, waker: StreamWaker) {
        self.lock().waker = Some(waker);
    }

    /// The next item, if there is one.
    pub fn take(&self) -> Option<StreamItem> {
        let mut inner = self.lock();
        let item = inner.items.pop_front()?;
        if let StreamItem::Changes(_, log) = &item {
            inner.bytes -= log.byte_len();
        }
        Some(item)
    }

    /// An empty log, with the memory of one that has been written if there is one, and otherwise
    /// with room for what the last long one held: growing by steps would copy it, and touch twice
    /// the memory.
    fn spare_log(&self) -> ChangeLog {
        let mut inner = self.lock();
        let (bytes, spans) = (inner.spare_bytes.pop(), inner.spare_spans.pop());
        let (byte_count, span_count) = inner.long;
        drop(inner);
        let bytes = bytes.unwrap_or_else(|| Vec::with_capacity(byte_count));
        let spans = spans.unwrap_or_else(|| Vec::with_capacity(span_count));
        ChangeLog { bytes, spans, ..ChangeLog::default() }
    }

    /// Takes back the memory of logs that have been written, as much as may be in use.
    fn give_back(
        &self,
        bytes: impl Iterator<Item = Vec<u8>>,
        spans: impl Iterator<Item = Vec<Span>>,
    ) {
        let most = self.limits.spare / self.limits.log;
        let mut inner = self.lock();
        inner.spare_bytes.extend(bytes);
        inner.spare_spans.extend(spans);
        inner.spare_bytes.truncate(most);
        inner.spare_spans.truncate(most);
    }

    /// Whether those who take from it are behind: what need not be put there now can wait.
    pub fn is_full(&self) -> bool {
        self.lock().bytes >= self.limits.stream
    }

    /// Whether they are so far behind that nothing more should change before they have caught up.
    pub fn is_overfull(&self) -> bool {
        self.lock().bytes >= OVERFULL * self.limits.stream
    }

    fn put(&self, item: StreamItem) {
        let mut inner = self.lock();
        if let StreamItem::Changes(_, log) = &item {
            inner.bytes += log.byte_len();
            if log.byte_len() >= self.limits.log {
                // And a little more, as no two are alike.
                let roomy = |len: usize| len + len / 16;
                inner.long = (roomy(log.bytes.len()), roomy(log.spans.len()));
            }
        }
        inner.items.push_back(item);
        let waker = inner.waker.clone();
        drop(inner);
        if let Some(waker) = waker {
            waker();
        }
    }
}

impl std::fmt::Debug for ChangeStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.lock();
        f.debug_struct("ChangeStream").field("items", &inner.items.len()).finish_non_exhaustive()
    }
}

/// The changes of one operator in one subtask. All its users are on one thread.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    inner: Arc<Mutex<Inner>>,
    stream: Arc<ChangeStream>,
}

#[derive(Debug)]
struct Inner {
    range: KeyGroupRange,
    /// A log of this length is handed on.
    log_bytes: usize,
    /// The epoch that has not ended.
    epoch: u64,
    current: ChangeLog,
    /// The number of entries that are logged once in the epoch; none if it cannot be told.
    once: Option<u64>,
    /// The log of the epoch before, while tables still have something to put there.
    ending: Option<Ending>,
    /// How many entries of each table a restore has handed over, less those that came to be in it.
    unplaced: BTreeMap<TableId, u64>,
    /// Tables that are to be logged as a whole.
    superseded: BTreeSet<TableId>,
}

#[derive(Debug)]
struct Ending {
    log: ChangeLog,
    once: Option<u64>,
    /// The number of entries when it ended.
    entries: u64,
    /// The tables that have not logged all of the epoch.
    tables: usize,
}

/// Which epoch a change belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// The epoch that has not ended.
    Now,
    /// The one before, which is being completed.
    Before,
}

impl Changes {
    pub(crate) fn new(range: KeyGroupRange, limits: LogLimits) -> Self {
        let inner = Inner {
            range,
            log_bytes: limits.log,
            epoch: 1,
            current: ChangeLog::default(),
            once: Some(0),
            ending: None,
            unplaced: BTreeMap::new(),
            superseded: BTreeSet::new(),
        };
        let stream = Arc::new(ChangeStream::new(limits));
        Changes { inner: Arc::new(Mutex::new(inner)), stream }
    }

    pub(crate) fn stream(&self) -> Arc<ChangeStream> {
        self.stream.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No call leaves it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `f` add changes to a log, which is handed on if it has become long.
    pub(crate) fn log(
        &self,
        when: When,
        f: impl FnOnce(&mut ChangeLog) -> Result<()>,
    ) -> Result<()> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let (log, once, epoch) = match (&mut inner.ending, when) {
            (Some(ending), When::Before) => (&mut ending.log, &mut ending.once, inner.epoch - 1),
            _ => (&mut inner.current, &mut inner.once, inner.epoch),
        };
        if log.spans.capacity() == 0 {
            *log = ChangeLog { drops: std::mem::take(&mut log.drops), ..self.stream.spare_log() };
        }
        let before = log.spans.len();
        f(log)?;
        *once = match when {
            // An entry that was frozen is logged when it is first touched, and never again.
            When::Before => once.map(|once| once + (log.spans.len() - before) as u64),
            // What leaves memory may come back, and be logged again.
            When::Now => None,
        };
        if log.byte_len() >= inner.log_bytes {
            self.stream.put(StreamItem::Changes(epoch, std::mem::take(log)));
        }
        Ok(())
    }

    /// Says that a part of a table is gone.
    pub(crate) fn log_drop(&self, when: When, table: TableId, namespace: Option<Namespace>) {
        let mut inner = self.lock();
        let key_groups = (inner.range.start, inner.range.end);
        let dropped = Dropped { key_groups, table, namespace };
        let inner = &mut *inner;
        let (log, once) = match (&mut inner.ending, when) {
            (Some(ending), When::Before) => (&mut ending.log, &mut ending.once),
            _ => (&mut inner.current, &mut inner.once),
        };
        *once = None;
        let at = log.spans.len();
        log.drops.push((dropped, at));
    }

    /// Ends the epoch, with this number of entries in all tables; `tables` tables have something of
    /// it that is not logged yet. Returns its number.
    pub(crate) fn end_epoch(&self, tables: usize, entries: u64) -> u64 {
        let mut inner = self.lock();
        let epoch = inner.epoch;
        inner.epoch += 1;
        let log = std::mem::take(&mut inner.current);
        let once = inner.once.replace(0);
        if entries == 0 {
            drop(inner);
            self.stream.put(StreamItem::Emptied(epoch));
            self.stream.put(StreamItem::Complete { epoch, is_whole: false });
            return epoch;
        }
        inner.ending = Some(Ending { log, once, entries, tables });
        drop(inner);
        if tables == 0 {
            self.complete();
        }
        epoch
    }

    /// A table has logged all of the epoch that has ended.
    pub(crate) fn table_done(&self) {
        let is_last = match &mut self.lock().ending {
            Some(ending) => {
                ending.tables = ending.tables.saturating_sub(1);
                ending.tables == 0
            }
            None => false,
        };
        if is_last {
            self.complete();
        }
    }

    fn complete(&self) {
        let mut inner = self.lock();
        let Some(ending) = inner.ending.take() else { return };
        let epoch = inner.epoch - 1;
        drop(inner);
        if !ending.log.is_empty() {
            self.stream.put(StreamItem::Changes(epoch, ending.log));
        }
        let is_whole = ending.once == Some(ending.entries);
        self.stream.put(StreamItem::Complete { epoch, is_whole });
    }

    /// An entry of a table is handed over by a restore.
    pub(crate) fn count_handed(&self, table: TableId) {
        *self.lock().unplaced.entry(table).or_default() += 1;
    }

    /// An entry that was handed over is in its table.
    pub(crate) fn count_placed(&self, table: TableId) {
        if let Some(unplaced) = self.lock().unplaced.get_mut(&table) {
            *unplaced = unplaced.saturating_sub(1);
        }
    }

    /// The end of a restore: what was handed over and is in no table would stay in the runs for
    /// good, so its tables are written anew.
    pub(crate) fn end_restore(&self) {
        let unplaced = std::mem::take(&mut self.lock().unplaced);
        for (table, unplaced) in unplaced {
            if unplaced > 0 {
                self.supersede(table);
            }
        }
    }

    /// What of a table is in runs is forgotten, and the table is logged as a whole by the next
    /// snapshot.
    pub(crate) fn supersede(&self, table: TableId) {
        self.log_drop(When::Now, table, None);
        self.lock().superseded.insert(table);
    }

    /// Whether the table is to be logged as a whole.
    pub(crate) fn take_superseded(&self, table: TableId) -> bool {
        self.lock().superseded.remove(&table)
    }
}
