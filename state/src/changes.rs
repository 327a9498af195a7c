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

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Result;
use crate::key_group::{KeyGroup, KeyGroupCount, KeyGroupRange};
use crate::portable::{Dropped, PortableWriter};
use crate::state_key::{Namespace, PREFIX_BYTES, TableId, prefix};

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

impl LogLimits {
    /// Limits where memory is not bounded.
    pub(crate) const UNBOUNDED: LogLimits =
        LogLimits { log: 8 << 20, stream: 32 << 20, gathered: 128 << 20, spare: 128 << 20 };

    /// Limits that keep to this many bytes together.
    pub(crate) fn within(bytes: usize) -> Self {
        // A log is filled while another one is completed.
        let log = (bytes / 16).clamp(64 << 10, 8 << 20);
        LogLimits { log, stream: 2 * log, gathered: bytes / 2, spare: bytes / 4 }
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

/// The logs of an epoch, on their way into one run.
#[derive(Debug, Default)]
pub struct GatheredChanges {
    logs: Vec<Vec<u8>>,
    /// Spaces are numbered as in `spaces`.
    spans: Vec<Span>,
    /// The same by key group, while they are written.
    sorted: Vec<Span>,
    spaces: BTreeMap<(TableId, Namespace), u32>,
    drops: Vec<Dropped>,
}

/// Changes that are brought into the cache together.
const TOUCHED: usize = 32;

impl GatheredChanges {
    /// Adds the log, out of a stream, that follows those that are there.
    pub fn add(&mut self, log: ChangeLog, stream: &ChangeStream) {
        let ChangeLog { bytes, mut spans, spaces, drops, .. } = log;
        let mut numbers = vec![0; spaces.len()];
        for (space, number) in spaces {
            let next = self.spaces.len() as u32;
            numbers[number as usize] = *self.spaces.entry(space).or_insert(next);
        }
        let (number, names) = (self.logs.len() as u32, self.names());
        for span in &mut spans {
            (span.space, span.log) = (numbers[span.space as usize], number);
        }
        // A drop is dealt with here for the changes before it, and told for the runs below.
        let mut dead_before = vec![None; names.len()];
        for (dropped, at) in drops {
            for (dead, (table, namespace)) in dead_before.iter_mut().zip(&names) {
                let is_of = dropped.namespace.is_none_or(|of| of == *namespace);
                if dropped.table == *table && is_of {
                    *dead = (*dead).max(Some(at));
                }
            }
            self.drops.push(dropped);
        }
        if dead_before.iter().any(Option::is_some) {
            self.spans.retain(|span| dead_before[span.space as usize].is_none());
            let mut at = 0;
            spans.retain(|span| {
                at += 1;
                dead_before[span.space as usize].is_none_or(|dead| at > dead)
            });
        }
        self.logs.push(bytes);
        self.spans.append(&mut spans);
        stream.give_back(std::iter::empty(), std::iter::once(spans));
    }

    /// The length of what was gathered, in bytes.
    pub fn byte_len(&self) -> usize {
        let logs: usize = self.logs.iter().map(Vec::len).sum();
        logs + self.spans.len() * size_of::<Span>()
    }

    /// Whether nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.drops.is_empty()
    }

    /// The spaces by their numbers.
    fn names(&self) -> Vec<(TableId, Namespace)> {
        let mut names = vec![(TableId(0), Namespace::default()); self.spaces.len()];
        for (space, number) in &self.spaces {
            names[*number as usize] = *space;
        }
        names
    }

    /// The places of the spaces in their order, by their numbers.
    fn ranks(&self) -> Vec<u32> {
        let mut ranks = vec![0; self.spaces.len()];
        for (place, number) in self.spaces.values().enumerate() {
            ranks[*number as usize] = place as u32;
        }
        ranks
    }

    fn key(&self, span: &Span) -> &[u8] {
        &self.logs[span.log as usize][span.start as usize..span.value as usize]
    }

    /// The order of two changes' state keys, in one key group.
    fn order(&self, ranks: &[u32], a: &Span, b: &Span) -> Ordering {
        let place = |span: &Span| (ranks[span.space as usize], span.head);
        place(a).cmp(&place(b)).then_with(|| match a.is_whole && b.is_whole {
            true => Ordering::Equal,
            false => self.key(a).cmp(self.key(b)),
        })
    }

    /// Writes the newest change of each key as a run. Nothing is gathered then.
    ///
    /// # Errors
    /// If the writer's file cannot be written.
    ///
    /// # Cost
    /// Sorts the changes.
    pub fn write(&mut self, writer: &mut PortableWriter, stream: &ChangeStream) -> Result<()> {
        self.drops.iter().for_each(|dropped| writer.drop_below(*dropped));
        let (names, ranks) = (self.names(), self.ranks());
        self.sort_by_key_group();
        let mut spans = std::mem::take(&mut self.sorted);
        for spans in spans.chunk_by_mut(|a, b| a.key_group == b.key_group) {
            spans.sort_unstable_by(|a, b| {
                // Of equal keys the newest comes last. What is empty has no length of its own.
                let age = |span: &Span| (span.log, span.start, span.end);
                self.order(&ranks, a, b).then_with(|| age(a).cmp(&age(b)))
            });
            self.write_group(spans, (&names, &ranks), writer)?;
        }
        self.sorted = spans;
        self.spaces.clear();
        self.drops.clear();
        let logs = self.logs.drain(..).map(|mut bytes| {
            bytes.clear();
            bytes
        });
        stream.give_back(logs, std::iter::empty());
        Ok(())
    }

    /// Puts the changes of each key group together, in their order.
    fn sort_by_key_group(&mut self) {
        let mut starts = Vec::new();
        for span in &self.spans {
            let group = usize::from(span.key_group.get());
            if starts.len() <= group {
                starts.resize(group + 1, 0);
            }
            starts[group] += 1;
        }
        let mut next = 0;
        for start in &mut starts {
            next += std::mem::replace(start, next);
        }
        self.sorted.clone_from(&self.spans);
        for span in self.spans.drain(..) {
            let place = &mut starts[usize::from(span.key_group.get())];
            self.sorted[*place] = span;
            *place += 1;
        }
    }

    /// Writes the sorted changes of a key group.
    fn write_group(
        &self,
        spans: &[Span],
        (names, ranks): (&[(TableId, Namespace)], &[u32]),
        writer: &mut PortableWriter,
    ) -> Result<()> {
        let mut state_key = Vec::with_capacity(PREFIX_BYTES + 32);
        for (i, span) in spans.iter().enumerate() {
            if i.is_multiple_of(TOUCHED) {
                self.touch(&spans[i..spans.len().min(i + TOUCHED)]);
            }
            let next = spans.get(i + 1);
            if next.is_some_and(|next| self.order(ranks, span, next).is_eq()) {
                continue;
            }
            let (table, namespace) = names[span.space as usize];
            state_key.clear();
            state_key.extend_from_slice(&prefix(span.key_group, table, namespace));
            state_key.extend_from_slice(self.key(span));
            let value = &self.logs[span.log as usize][span.value as usize..span.end as usize];
            writer.put(&state_key, (!span.is_removed).then_some(value))?;
        }
        Ok(())
    }

    /// Brings changes, which lie anywhere in the logs, into the cache: no access waits for another.
    fn touch(&self, spans: &[Span]) {
        let touched = spans.iter().fold(0_u8, |touched, span| {
            let log = &self.logs[span.log as usize];
            let at = |place: u32| log.get(place as usize).copied().unwrap_or(0);
            touched ^ at(span.start) ^ at(span.end.saturating_sub(1))
        });
        std::hint::black_box(touched);
    }

    /// The changes as the bytes of a run; none if there is nothing in it.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn into_run(
        mut self,
        count: KeyGroupCount,
        stream: &ChangeStream,
    ) -> Result<Option<Vec<u8>>> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut writer = PortableWriter::new(count);
        self.write(&mut writer, stream)?;
        Ok(if writer.is_empty() { None } else { Some(writer.finish()?) })
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

    /// An empty log, with the memory of one that has been written if there is one.
    fn spare_log(&self) -> ChangeLog {
        let mut inner = self.lock();
        let bytes = inner.spare_bytes.pop().unwrap_or_default();
        let spans = inner.spare_spans.pop().unwrap_or_default();
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

    fn put(&self, item: StreamItem) {
        let mut inner = self.lock();
        if let StreamItem::Changes(_, log) = &item {
            inner.bytes += log.byte_len();
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
        let before = log.spans.len();
        f(log)?;
        *once = match when {
            // An entry that was frozen is logged when it is first touched, and never again.
            When::Before => once.map(|once| once + (log.spans.len() - before) as u64),
            // What leaves memory may come back, and be logged again.
            When::Now => None,
        };
        if log.byte_len() >= inner.log_bytes {
            let next = self.stream.spare_log();
            self.stream.put(StreamItem::Changes(epoch, std::mem::replace(log, next)));
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
