//! `StateWriter`: makes captures durable. It writes what changes in state as runs, merges runs, and
//! tells when all of a capture is durable.
//!
//! # Place
//! One per run. The drivers hand it captures and let it work: the thread driver on a thread of its
//! own (`runtime/writer.rs`), the simulator when its seed says so.
//!
//! # Invariants
//! * I1 A capture is acknowledged when every change up to it is in runs that the store has.
//! * I2 A run that was written for a checkpoint that was given up stays: the next one names it.
//! * I3 Runs are merged only among those whose epochs are complete, so merging changes nothing that
//!   a later checkpoint says.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use thalweg_checkpoint::{
    CheckpointId, CheckpointStore, InFlightPart, OperatorPart, Run, SubtaskAck, SubtaskId,
    SubtaskSnapshot, part_name,
};
use thalweg_state::{
    ChangeStream, KeyGroupCount, KeyGroupRange, MergePlan, PortableWriter, RunMerge, RunSet,
    SnapshotPart, StreamItem,
};

use crate::error::Result;
use crate::in_flight::InFlight;
use crate::savepoint::open_run;
use crate::subtask::Capture;

/// Merged runs that may become longer than this go to a file, in bytes.
const MERGE_IN_MEMORY: u64 = 8 << 20;

/// A capture to be made durable.
pub(crate) struct WriteRequest {
    pub(crate) subtask: SubtaskId,
    pub(crate) key_groups: (u16, u16),
    pub(crate) capture: Box<Capture>,
}

/// Where the changes of one operator in one subtask come from, and the runs it was restored from.
pub(crate) struct StateSource {
    pub(crate) subtask: SubtaskId,
    pub(crate) operator: String,
    pub(crate) stream: Arc<ChangeStream>,
    pub(crate) restored: Vec<Run>,
}

type Place = (SubtaskId, String);

/// See the module's documentation.
pub(crate) struct StateWriter {
    operators: BTreeMap<Place, OperatorRuns>,
    /// Captures, with what of their records on their way is written.
    waiting: VecDeque<(WriteRequest, Vec<InFlightPart>)>,
    /// The checkpoint that runs are written for.
    next: CheckpointId,
    count: KeyGroupCount,
    merging: Option<Merging>,
    merges: u64,
}

struct OperatorRuns {
    stream: Arc<ChangeStream>,
    /// Runs that the store does not have yet.
    unwritten: VecDeque<(u64, Vec<u8>)>,
    runs: RunSet<Run>,
    /// The last epoch of which everything is written.
    complete: u64,
    /// The last epoch of which everything has been taken.
    taken: u64,
}

struct Merging {
    place: Place,
    plan: MergePlan<Run>,
    merge: RunMerge,
    file: Option<PathBuf>,
}

impl StateWriter {
    /// A writer for these operators; `first` is the number of the first checkpoint.
    pub(crate) fn new(
        sources: Vec<StateSource>,
        first: CheckpointId,
        count: KeyGroupCount,
    ) -> Self {
        let operators = sources.into_iter().map(|source| {
            let mut runs = RunSet::default();
            for run in source.restored {
                runs.add(0, run.file.bytes, run);
            }
            let (stream, unwritten) = (source.stream, VecDeque::new());
            let operator = OperatorRuns { stream, unwritten, runs, complete: 0, taken: 0 };
            ((source.subtask, source.operator), operator)
        });
        StateWriter {
            operators: operators.collect(),
            waiting: VecDeque::new(),
            next: first,
            count,
            merging: None,
            merges: 0,
        }
    }

    /// The streams, to be given a waker.
    pub(crate) fn streams(&self) -> impl Iterator<Item = &Arc<ChangeStream>> {
        self.operators.values().map(|operator| &operator.stream)
    }

    /// Takes a capture.
    pub(crate) fn add(&mut self, request: WriteRequest) {
        self.next = self.next.max(request.capture.id.next());
        self.waiting.push_back((request, Vec::new()));
    }

    /// Forgets the captures of this checkpoint and all before it: they were given up.
    pub(crate) fn abort(&mut self, upto: CheckpointId) {
        self.waiting.retain(|(request, _)| request.capture.id > upto);
    }

    /// Takes back the captures that are not durable yet.
    pub(crate) fn take_waiting(&mut self) -> impl Iterator<Item = WriteRequest> {
        std::mem::take(&mut self.waiting).into_iter().map(|(request, _)| request)
    }

    /// Makes a run of the next changes that there are; false if there are none.
    ///
    /// # Cost
    /// Sorts them, so it is not done while the store is locked.
    pub(crate) fn prepare(&mut self) -> Result<bool> {
        for operator in self.operators.values_mut() {
            while let Some(item) = operator.stream.take() {
                match item {
                    StreamItem::Changes(epoch, log) => {
                        let run = log.into_run(self.count)?;
                        operator.unwritten.extend(run.map(|bytes| (epoch, bytes)));
                        return Ok(true);
                    }
                    StreamItem::Emptied(epoch) => {
                        operator.unwritten.retain(|(of, _)| *of > epoch);
                        operator.runs.empty(epoch);
                    }
                    StreamItem::Complete(epoch) => operator.taken = epoch,
                }
            }
        }
        Ok(false)
    }

    /// Writes what was prepared.
    pub(crate) fn write(&mut self, store: &mut dyn CheckpointStore) -> Result<()> {
        for ((subtask, name), operator) in &mut self.operators {
            while let Some((epoch, bytes)) = operator.unwritten.front() {
                let file = store.write_part(self.next, &part_name(*subtask, name), bytes)?;
                let run = Run { file, key_groups: (0, self.count.get()) };
                operator.runs.add(*epoch, bytes.len() as u64, run);
                operator.unwritten.pop_front();
            }
            operator.complete = operator.taken;
        }
        self.waiting
            .iter_mut()
            .try_for_each(|(request, written)| write_in_flight(request, written, store))
    }

    /// The next capture that is durable.
    pub(crate) fn poll_ack(&mut self) -> Option<SubtaskAck> {
        let is_done = |(request, written): &(WriteRequest, Vec<InFlightPart>)| {
            let is_state_written = request.capture.operators.iter().all(|(name, part, _)| {
                let SnapshotPart::Epoch(epoch) = *part else { return true };
                let operator = self.operators.get(&(request.subtask, name.clone()));
                operator.is_none_or(|operator| operator.complete >= epoch)
            });
            is_state_written && written.len() == request.capture.in_flight.len()
        };
        let at = self.waiting.iter().position(is_done)?;
        let (WriteRequest { subtask, key_groups, capture }, in_flight) = self.waiting.remove(at)?;
        let Capture { id, operators, splits, committables, counters, .. } = *capture;
        let operators = operators.into_iter().map(|(operator, part, watermark)| {
            let known = self.operators.get(&(subtask, operator.clone()));
            let runs = match (part, known) {
                (SnapshotPart::Epoch(epoch), Some(known)) => known.runs.up_to(epoch).cloned(),
                _ => return OperatorPart { operator, runs: Vec::new(), key_groups, watermark },
            };
            OperatorPart { operator, runs: runs.collect(), key_groups, watermark }
        });
        let operators = operators.collect();
        let payload = SubtaskSnapshot { operators, splits, committables, counters, in_flight };
        Some(SubtaskAck { subtask, id, payload })
    }

    /// Merges runs: goes on until about `bytes` have been written. False if there is nothing to
    /// merge.
    pub(crate) fn merge(&mut self, bytes: u64, store: &mut dyn CheckpointStore) -> Result<bool> {
        if self.merging.is_none() {
            self.merging = self.begin_merge(store)?;
        }
        let Some(merging) = &mut self.merging else { return Ok(false) };
        if merging.merge.step(bytes)? {
            self.finish_merge(store)?;
        }
        Ok(true)
    }

    fn begin_merge(&mut self, store: &dyn CheckpointStore) -> Result<Option<Merging>> {
        let planned = self.operators.iter().find_map(|(place, operator)| {
            Some((place.clone(), operator.runs.plan(operator.complete)?))
        });
        let Some((place, plan)) = planned else { return Ok(None) };
        let runs = plan
            .runs
            .iter()
            .map(|run| open_run(run, &store.local_part(&run.file)?))
            .collect::<Result<Vec<_>>>()?;
        let directory = store.work_directory().filter(|_| plan.bytes > MERGE_IN_MEMORY);
        let file = directory.map(|directory| directory.join(format!("merge-{}", self.merges)));
        self.merges += 1;
        let writer = match &file {
            Some(path) => PortableWriter::to_file(self.count, path)?,
            None => PortableWriter::new(self.count),
        };
        let merge = RunMerge::new(&runs, plan.lies_over_nothing, writer)?;
        Ok(Some(Merging { place, plan, merge, file }))
    }

    fn finish_merge(&mut self, store: &mut dyn CheckpointStore) -> Result<()> {
        let Some(Merging { place, plan, merge, file }) = self.merging.take() else { return Ok(()) };
        let Some(operator) = self.operators.get_mut(&place) else { return Ok(()) };
        let name = part_name(place.0, &place.1);
        let merged = match (merge.finish()?, file) {
            (None, _) => None,
            (Some(_), Some(path)) => Some(store.adopt_file(self.next, &name, &path)?),
            (Some(bytes), None) => Some(store.write_part(self.next, &name, &bytes)?),
        };
        let key_groups = (0, self.count.get());
        let merged = merged.map(|file| (file.bytes, Run { file, key_groups }));
        // If the state has become empty meanwhile, the file goes as one that nobody names.
        operator.runs.replace(&plan, merged);
        Ok(())
    }
}

/// Writes records that were on their way, a part for each piece.
fn write_in_flight(
    request: &WriteRequest,
    written: &mut Vec<InFlightPart>,
    store: &mut dyn CheckpointStore,
) -> Result<()> {
    let id = request.capture.id;
    for InFlight { edge, bytes } in &request.capture.in_flight[written.len()..] {
        // No operator has a name with a space.
        let name = part_name(request.subtask, &format!("in flight {}", edge.to));
        let file = store.write_part(id, &name, bytes)?;
        let (from, port, to) = (edge.from.clone(), edge.port, edge.to.clone());
        written.push(InFlightPart { from, port, to, file });
    }
    Ok(())
}

/// What of runs matters to a subtask that owns `range`.
pub(crate) fn clip_runs<'a>(runs: impl Iterator<Item = &'a Run>, range: KeyGroupRange) -> Vec<Run> {
    let clipped = runs.filter_map(|run| {
        let both = KeyGroupRange::new(run.key_groups.0, run.key_groups.1).intersection(range);
        (!both.is_empty()).then(|| Run { key_groups: (both.start, both.end), ..run.clone() })
    });
    clipped.collect()
}
