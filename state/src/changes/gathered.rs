//! `GatheredChanges`: the logs of an epoch, sorted and written as one run.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{ChangeLog, ChangeStream, Span};
use crate::error::Result;
use crate::key_group::KeyGroupCount;
use crate::portable::{Dropped, PortableWriter};
use crate::state_key::{Namespace, PREFIX_BYTES, TableId, prefix};

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
        writer.finish().map(Some)
    }
}
