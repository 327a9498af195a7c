//! Runs over one another: reading what they say together, and merging several into one.
//!
//! Of a key the newest run that has it, or that has dropped what it belongs to, tells what it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::{Result, StateError};
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::portable::{Cursor, Dropped, PortableReader, PortableWriter};
use crate::schema::Recorded;
use crate::state_key::{PREFIX_BYTES, StateKey, TableId, table_end};

/// A run, and the key groups of it that matter.
pub type LimitedRun = (PortableReader, KeyGroupRange);

/// What is gone from the runs below, of the key groups of the run that matter: runs of other key
/// groups may lie below, too.
pub(crate) fn drops_of((run, limit): &LimitedRun) -> impl Iterator<Item = Dropped> {
    run.drops().iter().filter_map(|dropped| dropped.limited_to(*limit))
}

/// The snapshot of an operator's state in one subtask, open for reading: runs, oldest first.
#[derive(Clone, Debug, Default)]
pub struct RestoreSource {
    runs: Vec<LimitedRun>,
    recorded: Option<Arc<Recorded>>,
}

impl RestoreSource {
    /// What these runs, oldest first, say together.
    pub fn new(runs: Vec<LimitedRun>) -> Self {
        RestoreSource { runs, recorded: None }
    }

    /// The same, with the schemas that its entries were written under. Without them entries are
    /// taken to be of the present types.
    #[must_use]
    pub fn recorded(self, schemas: Arc<Recorded>) -> Self {
        RestoreSource { recorded: Some(schemas), ..self }
    }

    /// What its entries were written under.
    pub(crate) fn schemas(&self) -> Option<&Recorded> {
        self.recorded.as_deref()
    }

    /// Its runs, oldest first.
    pub fn runs(&self) -> &[LimitedRun] {
        &self.runs
    }

    /// Calls `f` with every entry whose key group is in `range`, sorted by state key.
    ///
    /// # Errors
    /// `Corrupt` where a run is damaged, `Io` if one cannot be read, and what `f` returns.
    pub fn for_each(
        &self,
        range: KeyGroupRange,
        f: impl FnMut(StateKey<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.for_each_but(&BTreeSet::new(), range, f)
    }

    /// The same, without the entries of some tables. If there are any, the runs must have indexes.
    pub(crate) fn for_each_but(
        &self,
        left_out: &BTreeSet<TableId>,
        range: KeyGroupRange,
        mut f: impl FnMut(StateKey<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut merged = MergedRuns::new(&self.runs, range)?;
        let mut has_entry = merged.advance()?;
        while has_entry {
            let key = StateKey::decode(merged.key())?;
            if left_out.contains(&key.table) {
                let behind = table_end(key.key_group, key.table);
                has_entry = merged.seek(&behind)?;
                continue;
            }
            if let Some(value) = merged.value() {
                f(key, value)?;
            }
            has_entry = merged.advance()?;
        }
        Ok(())
    }

    /// Refuses runs written for another number of key groups.
    pub(crate) fn check_key_groups(&self, count: KeyGroupCount) -> Result<()> {
        match self.runs.iter().map(|(run, _)| run.key_group_count()).find(|found| *found != count) {
            None => Ok(()),
            Some(found) => Err(StateError::Unsupported(format!(
                "the snapshot has {} key groups, the job has {}",
                found.get(),
                count.get()
            ))),
        }
    }
}

/// A pass over runs, as one.
pub(crate) struct MergedRuns {
    runs: Vec<(Cursor, Vec<Dropped>)>,
    /// The runs that are not at their end, as a heap: the least key first, of equal ones the newest
    /// run.
    heap: Vec<usize>,
    /// The run with the present entry.
    at: Option<usize>,
    /// Runs below this one are hidden from keys with this prefix.
    hidden: Option<([u8; PREFIX_BYTES], usize)>,
    has_drops: bool,
}

impl MergedRuns {
    pub(crate) fn new(runs: &[LimitedRun], range: KeyGroupRange) -> Result<Self> {
        let mut merged = MergedRuns {
            runs: Vec::with_capacity(runs.len()),
            heap: Vec::with_capacity(runs.len()),
            at: None,
            hidden: None,
            has_drops: runs.iter().any(|(run, _)| !run.drops().is_empty()),
        };
        for limited in runs {
            let (run, limit) = limited;
            let mut cursor = run.cursor(range.intersection(*limit))?;
            let has_entry = cursor.advance()?;
            merged.runs.push((cursor, drops_of(limited).collect()));
            if has_entry {
                merged.heap.push(merged.runs.len() - 1);
            }
        }
        merged.heapify();
        Ok(merged)
    }

    /// Goes to the first key that is not before `key`; false if there is none. The runs must have
    /// indexes.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<bool> {
        (self.at, self.hidden) = (None, None);
        self.heap.clear();
        for (place, (cursor, _)) in self.runs.iter_mut().enumerate() {
            if cursor.seek(key)? {
                self.heap.push(place);
            }
        }
        self.heapify();
        self.advance()
    }

    fn heapify(&mut self) {
        for place in (0..self.heap.len() / 2).rev() {
            self.sift(place);
        }
    }

    /// Goes to the next key; false if there is none.
    pub(crate) fn advance(&mut self) -> Result<bool> {
        loop {
            if let Some(at) = self.at.take() {
                self.pass(at)?;
            }
            let Some(&newest) = self.heap.first() else { return Ok(false) };
            self.at = Some(newest);
            if !self.has_drops || newest >= self.first_visible()? {
                return Ok(true);
            }
        }
    }

    /// Goes past the key of a run, in all runs.
    fn pass(&mut self, at: usize) -> Result<()> {
        let key = self.runs[at].0.key().to_vec();
        while let Some(&first) = self.heap.first() {
            let (cursor, _) = &mut self.runs[first];
            if cursor.key() != key {
                break;
            }
            if !cursor.advance()? {
                self.heap.swap_remove(0);
            }
            self.sift(0);
        }
        Ok(())
    }

    /// The oldest run that no newer one hides from the present key.
    fn first_visible(&mut self) -> Result<usize> {
        let key = self.key();
        let prefix: [u8; PREFIX_BYTES] = *key
            .first_chunk()
            .ok_or_else(|| StateError::corrupt(0, "state key is shorter than its prefix"))?;
        if let Some((of, hidden)) = self.hidden
            && of == prefix
        {
            return Ok(hidden);
        }
        let key = StateKey::decode(key)?;
        let hides = |(_, drops): &(Cursor, Vec<Dropped>)| drops.iter().any(|d| d.covers(&key));
        let hidden = self.runs.iter().rposition(hides).unwrap_or(0);
        self.hidden = Some((prefix, hidden));
        Ok(hidden)
    }

    /// The encoded state key.
    pub(crate) fn key(&self) -> &[u8] {
        self.at.map_or(&[], |at| self.runs[at].0.key())
    }

    /// The value; none if the key was removed.
    pub(crate) fn value(&self) -> Option<&[u8]> {
        self.at.and_then(|at| self.runs[at].0.value())
    }

    fn is_before(&self, a: usize, b: usize) -> bool {
        self.runs[a].0.key().cmp(self.runs[b].0.key()).then(b.cmp(&a)).is_lt()
    }

    /// Moves the run at `place` down the heap to where it belongs.
    fn sift(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.is_before(self.heap[child], self.heap[least]) {
                    least = child;
                }
            }
            if least == place {
                return;
            }
            self.heap.swap(place, least);
            place = least;
        }
    }
}

/// Several runs being merged into one, in steps.
pub struct RunMerge {
    merged: MergedRuns,
    writer: PortableWriter,
    lies_over_nothing: bool,
}

impl RunMerge {
    /// Begins to merge adjacent runs, oldest first, into the writer. What was removed and dropped
    /// is left out if there are no runs below (`lies_over_nothing`).
    ///
    /// # Errors
    /// `Corrupt` if a run is damaged, `Io` if one cannot be read.
    pub fn new(
        runs: &[LimitedRun],
        lies_over_nothing: bool,
        mut writer: PortableWriter,
    ) -> Result<Self> {
        let all = KeyGroupRange::new(0, u16::MAX);
        if !lies_over_nothing {
            runs.iter().flat_map(drops_of).for_each(|dropped| writer.drop_below(dropped));
        }
        Ok(RunMerge { merged: MergedRuns::new(runs, all)?, writer, lies_over_nothing })
    }

    /// Goes on until about `bytes` more have been written; true if all has been.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and `Io` if the writer's file cannot be written.
    pub fn step(&mut self, bytes: u64) -> Result<bool> {
        let until = self.writer.length() + bytes;
        // Entries that are left out take time too.
        let mut looks = bytes / 16 + 1;
        while self.merged.advance()? {
            let value = self.merged.value();
            if value.is_some() || !self.lies_over_nothing {
                self.writer.put(self.merged.key(), value)?;
            }
            looks -= 1;
            if self.writer.length() >= until || looks == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The merged run; its bytes are empty if it went to a file. None if nothing is left.
    ///
    /// # Errors
    /// As for [`PortableWriter::finish`].
    pub fn finish(self) -> Result<Option<Vec<u8>>> {
        if self.writer.is_empty() { Ok(None) } else { self.writer.finish().map(Some) }
    }
}

#[cfg(test)]
mod tests;
