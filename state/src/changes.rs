//! `Changes`: what changes in an operator's tables, on its way from them to runs.
//!
//! Tables put changed entries into a log, encoded, in the order of the changes. A log that has
//! grown to `LOG_BYTES`, and the rest of one when a snapshot is complete, goes to the
//! [`ChangeStream`], from which another thread takes it, sorts it and writes it as a run.
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
use crate::key_group::{KeyGroup, KeyGroupCount, KeyGroupRange};
use crate::portable::{Dropped, PortableWriter};
use crate::state_key::{Namespace, PREFIX_BYTES, TableId, prefix};

/// A log of this many encoded bytes is handed on.
const LOG_BYTES: usize = 8 << 20;

/// With this many bytes waiting in a stream, no more are put there than have to be.
const STREAM_BYTES: usize = 4 * LOG_BYTES;

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
    /// The number of its table and namespace in this log.
    space: u32,
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
        let head = u64::from_be_bytes(head);
        self.spans.push(Span { head, key_group, is_removed, space, start, value, end });
        Ok(())
    }

    /// Writes the newest change of each key as a run.
    ///
    /// # Errors
    /// If the writer's file cannot be written.
    ///
    /// # Cost
    /// Sorts the changes.
    pub fn write(mut self, writer: &mut PortableWriter) -> Result<()> {
        // Spaces are numbered by age; from here on by order.
        let spaces: Vec<(TableId, Namespace)> = self.spaces.keys().copied().collect();
        let mut rank = vec![0_u32; spaces.len()];
        for (place, number) in self.spaces.values().enumerate() {
            rank[*number as usize] = place as u32;
        }
        // A drop is dealt with here for the changes before it, and told for the runs below.
        let mut dead_before = BTreeMap::<(TableId, Option<Namespace>), usize>::new();
        for (dropped, at) in &self.drops {
            dead_before.insert((dropped.table, dropped.namespace), *at);
            writer.drop_below(*dropped);
        }
        if !dead_before.is_empty() {
            let dead: Vec<usize> = spaces
                .iter()
                .map(|(table, namespace)| {
                    let of = |namespace| dead_before.get(&(*table, namespace)).copied();
                    of(None).max(of(Some(*namespace))).unwrap_or(0)
                })
                .collect();
            let mut at = 0;
            self.spans.retain(|span| {
                at += 1;
                at > dead[rank[span.space as usize] as usize]
            });
        }
        for span in &mut self.spans {
            span.space = rank[span.space as usize];
        }
        let bytes = &self.bytes;
        let key = |span: &Span| &bytes[span.start as usize..span.value as usize];
        let order = |span: &Span| (span.key_group, span.space, span.head);
        self.spans.sort_unstable_by(|a, b| {
            order(a)
                .cmp(&order(b))
                .then_with(|| key(a).cmp(key(b)))
                .then_with(|| a.start.cmp(&b.start))
                // Empty keys and values have no length of their own.
                .then_with(|| a.end.cmp(&b.end))
        });
        let is_same = |a: &Span, b: &Span| order(a) == order(b) && key(a) == key(b);
        let mut state_key = Vec::with_capacity(PREFIX_BYTES + 32);
        for (i, span) in self.spans.iter().enumerate() {
            if self.spans.get(i + 1).is_some_and(|next| is_same(span, next)) {
                continue;
            }
            let (table, namespace) = spaces[span.space as usize];
            state_key.clear();
            state_key.extend_from_slice(&prefix(span.key_group, table, namespace));
            state_key.extend_from_slice(key(span));
            let value = &bytes[span.value as usize..span.end as usize];
            writer.put(&state_key, (!span.is_removed).then_some(value))?;
        }
        Ok(())
    }

    /// The changes as the bytes of a run; none if there is nothing in it.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn into_run(self, count: KeyGroupCount) -> Result<Option<Vec<u8>>> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut writer = PortableWriter::new(count);
        self.write(&mut writer)?;
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
    Complete(u64),
}

/// Calls whoever takes from a stream, from any thread.
pub type StreamWaker = Arc<dyn Fn() + Send + Sync>;

/// The way of an operator's changes, in one subtask, to the one who writes runs.
#[derive(Default)]
pub struct ChangeStream {
    inner: Mutex<StreamInner>,
}

#[derive(Default)]
struct StreamInner {
    items: VecDeque<StreamItem>,
    bytes: usize,
    waker: Option<StreamWaker>,
}

impl ChangeStream {
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

    /// Whether those who take from it are behind: what need not be put there now can wait.
    pub fn is_full(&self) -> bool {
        self.lock().bytes >= STREAM_BYTES
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
    /// The epoch that has not ended.
    epoch: u64,
    current: ChangeLog,
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
    pub(crate) fn new(range: KeyGroupRange) -> Self {
        let inner = Inner {
            range,
            epoch: 1,
            current: ChangeLog::default(),
            ending: None,
            unplaced: BTreeMap::new(),
            superseded: BTreeSet::new(),
        };
        Changes { inner: Arc::new(Mutex::new(inner)), stream: Arc::default() }
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
        let (log, epoch) = match (&mut inner.ending, when) {
            (Some(ending), When::Before) => (&mut ending.log, inner.epoch - 1),
            _ => (&mut inner.current, inner.epoch),
        };
        f(log)?;
        if log.byte_len() >= LOG_BYTES {
            self.stream.put(StreamItem::Changes(epoch, std::mem::take(log)));
        }
        Ok(())
    }

    /// Says that a part of a table is gone.
    pub(crate) fn log_drop(&self, when: When, table: TableId, namespace: Option<Namespace>) {
        let mut inner = self.lock();
        let key_groups = (inner.range.start, inner.range.end);
        let dropped = Dropped { key_groups, table, namespace };
        let log = match (&mut inner.ending, when) {
            (Some(ending), When::Before) => &mut ending.log,
            _ => &mut inner.current,
        };
        let at = log.spans.len();
        log.drops.push((dropped, at));
    }

    /// Ends the epoch; `tables` tables have something of it that is not logged yet. Returns its
    /// number.
    pub(crate) fn end_epoch(&self, tables: usize, is_empty: bool) -> u64 {
        let mut inner = self.lock();
        let epoch = inner.epoch;
        inner.epoch += 1;
        let log = std::mem::take(&mut inner.current);
        if is_empty {
            drop(inner);
            self.stream.put(StreamItem::Emptied(epoch));
            self.stream.put(StreamItem::Complete(epoch));
            return epoch;
        }
        inner.ending = Some(Ending { log, tables });
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
        self.stream.put(StreamItem::Complete(epoch));
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
