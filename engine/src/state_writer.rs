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
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thalweg_checkpoint::{
    CheckpointId, CheckpointStore, InFlightPart, OperatorPart, PartFile, Run, SubtaskAck,
    SubtaskId, SubtaskSnapshot, part_name,
};
use thalweg_state::{
    ChangeStream, GatheredChanges, KeyGroupCount, KeyGroupRange, MergePlan, PortableWriter,
    RunMerge, RunSet, SnapshotPart, StreamItem,
};

use crate::error::Result;
use crate::in_flight::InFlight;
use crate::savepoint::open_run;
use crate::subtask::Capture;
use crate::upgrade::schema_to_json;

/// Runs that may become longer than this are made in a file, in bytes.
const RUN_IN_MEMORY: u64 = 1 << 20;

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
    /// Where long runs are made; in memory if there is none.
    work_directory: Option<PathBuf>,
    /// How many files were made.
    files: u64,
}

struct OperatorRuns {
    stream: Arc<ChangeStream>,
    /// Changes that become the next run of their epoch.
    gathered: BTreeMap<u64, GatheredChanges>,
    /// Memory for changes that are gathered.
    spare: GatheredChanges,
    /// Runs that the store does not have yet.
    unwritten: VecDeque<(u64, MadeRun)>,
    runs: RunSet<Run>,
    /// The last epoch of which everything is written.
    complete: u64,
    /// The last epoch of which everything has been taken.
    taken: u64,
    /// The last one that was taken whose changes are all of the state.
    whole: Option<u64>,
}

/// A run that the store is to have.
enum MadeRun {
    Bytes(Vec<u8>),
    /// A file in the work directory.
    File(PathBuf),
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
        work_directory: Option<PathBuf>,
    ) -> Self {
        let mut writer = StateWriter {
            operators: BTreeMap::new(),
            waiting: VecDeque::new(),
            next: first,
            count,
            merging: None,
            work_directory,
            files: 0,
        };
        writer.add_sources(sources);
        writer
    }

    /// Takes in further operators.
    pub(crate) fn add_sources(&mut self, sources: Vec<StateSource>) {
        self.operators.extend(sources.into_iter().map(|source| {
            let mut runs = RunSet::default();
            for run in source.restored {
                runs.add(0, run.file.bytes, run);
            }
            let operator = OperatorRuns {
                stream: source.stream,
                gathered: BTreeMap::new(),
                spare: GatheredChanges::default(),
                unwritten: VecDeque::new(),
                runs,
                complete: 0,
                taken: 0,
                whole: None,
            };
            ((source.subtask, source.operator), operator)
        }));
    }

    /// Forgets the operators of subtasks that are gone. What was written of them and is in no
    /// checkpoint is a file that nobody names.
    pub(crate) fn lose(&mut self, is_gone: impl Fn(SubtaskId) -> bool) {
        self.operators.retain(|(subtask, _), _| !is_gone(*subtask));
        self.waiting.retain(|(request, _)| !is_gone(request.subtask));
        self.merging.take_if(|merging| is_gone(merging.place.0));
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

    /// Takes the next changes that there are, and makes a run of them if their epoch is complete or
    /// they are many; false if there are none.
    ///
    /// # Cost
    /// Sorts and writes them, so it is not done while the store is locked.
    pub(crate) fn prepare(&mut self) -> Result<bool> {
        let work = WorkFiles { directory: self.work_directory.as_deref(), count: self.count };
        for operator in self.operators.values_mut() {
            let Some(item) = operator.stream.take() else { continue };
            match item {
                StreamItem::Changes(epoch, log) => {
                    let spare = &mut operator.spare;
                    let gathered =
                        operator.gathered.entry(epoch).or_insert_with(|| std::mem::take(spare));
                    gathered.add(log, &operator.stream);
                    if gathered.byte_len() >= operator.stream.gathered_limit() {
                        operator.make_run(epoch, &work, &mut self.files)?;
                    }
                }
                StreamItem::Emptied(epoch) => {
                    operator.gathered.retain(|of, _| *of > epoch);
                    operator.unwritten.retain(|(of, _)| *of > epoch);
                    operator.runs.empty(epoch);
                }
                StreamItem::Complete { epoch, is_whole } => {
                    operator.make_run(epoch, &work, &mut self.files)?;
                    operator.taken = epoch;
                    if is_whole {
                        operator.whole = Some(epoch);
                    }
                }
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Writes what was prepared.
    pub(crate) fn write(&mut self, store: &mut dyn CheckpointStore) -> Result<()> {
        let key_groups = (0, self.count.get());
        for ((subtask, name), operator) in &mut self.operators {
            while let Some((epoch, made)) = operator.unwritten.front() {
                let file = made.give(self.next, &part_name(*subtask, name), store)?;
                operator.runs.add(*epoch, file.bytes, Run { file, key_groups });
                operator.unwritten.pop_front();
            }
            operator.complete = operator.taken;
            // What is older than a whole state is of no use.
            if let Some(whole) = operator.whole.take() {
                operator.runs.empty(whole - 1);
            }
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
        let work = WorkFiles { directory: self.work_directory.as_deref(), count: self.count };
        let (writer, file) = work.open(plan.bytes, &mut self.files)?;
        let merge = RunMerge::new(&runs, plan.lies_over_nothing, writer)?;
        Ok(Some(Merging { place, plan, merge, file }))
    }

    fn finish_merge(&mut self, store: &mut dyn CheckpointStore) -> Result<()> {
        let Some(Merging { place, plan, merge, file }) = self.merging.take() else { return Ok(()) };
        let Some(operator) = self.operators.get_mut(&place) else { return Ok(()) };
        let name = part_name(place.0, &place.1);
        let made = merge.finish()?.map(|bytes| MadeRun::of(bytes, file));
        let merged = made.map(|made| made.give(self.next, &name, store)).transpose()?;
        let key_groups = (0, self.count.get());
        let merged = merged.map(|file| (file.bytes, Run { file, key_groups }));
        // If the state has become empty meanwhile, the file goes as one that nobody names.
        operator.runs.replace(&plan, merged);
        Ok(())
    }
}

impl OperatorRuns {
    /// Makes a run of what was gathered of an epoch.
    fn make_run(&mut self, epoch: u64, work: &WorkFiles<'_>, files: &mut u64) -> Result<()> {
        let Some(mut gathered) = self.gathered.remove(&epoch).filter(|all| !all.is_empty()) else {
            return Ok(());
        };
        let (mut writer, file) = work.open(gathered.byte_len() as u64, files)?;
        gathered.write(&mut writer, &self.stream)?;
        self.unwritten.push_back((epoch, MadeRun::of(writer.finish()?, file)));
        self.spare = gathered;
        Ok(())
    }
}

/// Where runs are made.
struct WorkFiles<'a> {
    directory: Option<&'a Path>,
    count: KeyGroupCount,
}

impl WorkFiles<'_> {
    /// A writer of about so many bytes, into a file if they are many.
    fn open(&self, bytes: u64, files: &mut u64) -> Result<(PortableWriter, Option<PathBuf>)> {
        let Some(directory) = self.directory.filter(|_| bytes > RUN_IN_MEMORY) else {
            return Ok((PortableWriter::new(self.count), None));
        };
        let path = directory.join(format!("run-{files}"));
        *files += 1;
        // What an attempt before this one has left there is of no use. If it cannot be deleted the
        // file cannot be made, which is an error.
        let _ = std::fs::remove_file(&path);
        Ok((PortableWriter::to_file(self.count, &path)?, Some(path)))
    }
}

impl MadeRun {
    /// What a writer has given at its end.
    fn of(bytes: Vec<u8>, file: Option<PathBuf>) -> Self {
        file.map_or(MadeRun::Bytes(bytes), MadeRun::File)
    }

    fn give(
        &self,
        id: CheckpointId,
        name: &str,
        store: &mut dyn CheckpointStore,
    ) -> Result<PartFile> {
        Ok(match self {
            MadeRun::Bytes(bytes) => store.write_part(id, name, bytes)?,
            MadeRun::File(path) => store.adopt_file(id, name, path)?,
        })
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
        let record = Some(schema_to_json(&edge.codec.record().schema())?);
        written.push(InFlightPart { from, port, to, file, record });
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
