//! The operator verifier: runs one operator over one script in every awkward mode and compares.
//!
//! Modes: records one by one and all at once; outputs that are full after one record; a snapshot
//! and restore into new instances after every step, also in the middle of a watermark's work; and
//! one instance becoming two and one again; and records that come while a watermark before them is
//! being worked at. No result may be behind the watermark that was forwarded. Operators that ask
//! for a wake-up get it when the script moves the time. Records have the identities of one split,
//! in the order of the script. Every call must make progress. After an idea of Hazelcast Jet
//! (`TestSupport`).
//!
//! What it cannot see: channels, alignment, and anything between operators; that is the
//! simulator's part.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thalweg_checkpoint::CheckpointId;
use thalweg_state::{
    BackendConfig, ChangeStream, GatheredChanges, KeyGroup, KeyGroupCount, KeyGroupRange,
    LimitedRun, PortableReader, PortableWriter, RestoreSource, RunMerge, SnapshotPart, StreamItem,
    subtask_of,
};

use crate::batch::{Batch, RecordId};
use crate::error::{Error, Result};
use crate::external::External;
use crate::metrics::OperatorMetrics;
use crate::operator::{Advance, Context, OpenContext, Operator, Outputs, SnapshotContext};
use crate::park::Waker;
use crate::sim::external::{Spawned, poll};
use crate::time::{EventTime, ProcessingTime};

/// What an operator is given, in order.
#[derive(Clone, Debug)]
pub enum Input<T> {
    /// A record, its event time, and the watermark of its split if it is behind it.
    Record(T, EventTime, Option<EventTime>),
    /// The operator's watermark.
    Watermark(EventTime),
    /// Processing time, which only grows; it is 0 before.
    Time(ProcessingTime),
}

/// What an operator gave out: main and side records with their times, in a canonical order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Given {
    /// The main output.
    pub main: Vec<String>,
    /// The side output.
    pub side: Vec<String>,
}

/// The key hash of a record.
pub type HashOf<'a, T> = &'a dyn Fn(&T) -> u64;

/// How records find instances: by hash, or to all.
type Routes<'a, T> = (Option<HashOf<'a, T>>, &'a dyn Fn(&T) -> bool);

/// Records at a time, and the room of the outputs.
const BATCHES: [(usize, usize); 6] =
    [(1, 1), (1, 1024), (3, 1), (3, 1024), (usize::MAX, 1), (usize::MAX, 1024)];

/// How an operator is restored: not at all, as one instance, as another number of them.
const RESTORES: [(bool, bool); 3] = [(false, false), (true, false), (true, true)];

#[derive(Clone, Copy, Debug)]
struct Mode {
    batch: usize,
    capacity: usize,
    restores: bool,
    rescales: bool,
    /// Records that are after a watermark come while it is being worked at.
    interleaves: bool,
}

/// What is asked of an operator besides the same results in all modes.
#[derive(Clone, Copy)]
struct Claims {
    /// That the results are the same, too, where records come during a watermark's work.
    is_order_free: bool,
    /// That no result is behind the watermark it has forwarded.
    is_in_time: bool,
}

/// Runs the operators that `make` makes over `script` in all modes; returns what they gave out.
///
/// `hash` gives the key hash of a record where the operator is keyed; such operators are also
/// split over two instances.
///
/// # Errors
/// `Bug` if two modes give out different records or a call makes no progress, and whatever the
/// operator fails with.
pub fn verify_operator<O: Operator>(
    make: impl Fn() -> O,
    hash: Option<HashOf<'_, O::In>>,
    script: &[Input<O::In>],
) -> Result<Given>
where
    O::Out: Debug,
    O::Side: Debug,
{
    verify(make, (hash, &|_| false), Claims { is_order_free: true, is_in_time: true }, script)
}

/// As [`verify_operator`], for an operator whose results depend on whether a record comes before or
/// after a watermark that is behind it: of level D2.
///
/// # Errors
/// As [`verify_operator`].
pub fn verify_in_order<O: Operator>(
    make: impl Fn() -> O,
    hash: Option<HashOf<'_, O::In>>,
    script: &[Input<O::In>],
) -> Result<Given>
where
    O::Out: Debug,
    O::Side: Debug,
{
    verify(make, (hash, &|_| false), Claims { is_order_free: false, is_in_time: true }, script)
}

/// As [`verify_in_order`], for an operator that also takes records that go to every instance:
/// those for which `is_broadcast` is true. Its results may have any times.
///
/// # Errors
/// As [`verify_operator`].
pub fn verify_beside_broadcast<O: Operator>(
    make: impl Fn() -> O,
    hash: Option<HashOf<'_, O::In>>,
    is_broadcast: &dyn Fn(&O::In) -> bool,
    script: &[Input<O::In>],
) -> Result<Given>
where
    O::Out: Debug,
    O::Side: Debug,
{
    let claims = Claims { is_order_free: false, is_in_time: false };
    verify(make, (hash, is_broadcast), claims, script)
}

fn verify<O: Operator>(
    make: impl Fn() -> O,
    routes: Routes<'_, O::In>,
    claims: Claims,
    script: &[Input<O::In>],
) -> Result<Given>
where
    O::Out: Debug,
    O::Side: Debug,
{
    let mut first: Option<(Mode, Given)> = None;
    for (batch, capacity) in BATCHES {
        for (restores, rescales) in RESTORES {
            let rescales = rescales && routes.0.is_some();
            for interleaves in [false, true] {
                if interleaves && !claims.is_order_free {
                    continue;
                }
                let mode = Mode { batch, capacity, restores, rescales, interleaves };
                let given = Run::new(&make, routes, claims, mode)?.play(script)?;
                match &first {
                    None => first = Some((mode, given)),
                    Some((other, expected)) if *expected != given => {
                        return Err(Error::bug(format!(
                            "{mode:?} gave out {given:?}, but {other:?} gave out {expected:?}"
                        )));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    Ok(first.map(|(_, given)| given).unwrap_or_default())
}

/// One pass over the script.
struct Run<'a, O: Operator, M> {
    make: &'a M,
    hash: Option<HashOf<'a, O::In>>,
    is_broadcast: &'a dyn Fn(&O::In) -> bool,
    claims: Claims,
    mode: Mode,
    instances: Vec<O>,
    /// Per instance: where its state changes, and the runs it was restored from.
    state: Vec<(Option<Arc<ChangeStream>>, Vec<LimitedRun>)>,
    /// When each instance wants to be called.
    wake_at: Vec<Option<ProcessingTime>>,
    notified: Vec<Arc<AtomicBool>>,
    /// Calls to the world outside: each is answered at once when the operator waits for it.
    spawned: Arc<Spawned>,
    metrics: OperatorMetrics,
    watermark: EventTime,
    /// The watermark all of whose work has been done.
    done: EventTime,
    /// The watermark that was forwarded.
    forwarded: EventTime,
    /// The times of unmarked records that came behind the watermark, as from a split that was idle.
    behind: Vec<EventTime>,
    now: ProcessingTime,
    fed: u64,
    snapshots: u64,
    given: Given,
}

impl<'a, O: Operator, M: Fn() -> O> Run<'a, O, M>
where
    O::Out: Debug,
    O::Side: Debug,
{
    fn new(
        make: &'a M,
        (hash, is_broadcast): Routes<'a, O::In>,
        claims: Claims,
        mode: Mode,
    ) -> Result<Self> {
        let mut run = Run {
            make,
            hash,
            is_broadcast,
            claims,
            mode,
            instances: Vec::new(),
            state: Vec::new(),
            wake_at: Vec::new(),
            notified: Vec::new(),
            spawned: Arc::default(),
            metrics: OperatorMetrics::default(),
            watermark: EventTime::MIN,
            done: EventTime::MIN,
            forwarded: EventTime::MIN,
            behind: Vec::new(),
            now: ProcessingTime::default(),
            fed: 0,
            snapshots: 0,
            given: Given::default(),
        };
        run.open(1, &[])?;
        Ok(run)
    }

    fn play(mut self, mut script: &[Input<O::In>]) -> Result<Given> {
        let mut records = Vec::new();
        while let Some((input, rest)) = script.split_first() {
            script = rest;
            match input {
                Input::Record(value, time, mark) => {
                    records.push((value.clone(), *time, *mark));
                    if records.len() >= self.mode.batch {
                        self.feed(std::mem::take(&mut records))?;
                    }
                }
                Input::Watermark(watermark) => {
                    self.feed(std::mem::take(&mut records))?;
                    self.watermark = *watermark;
                    self.advance(&mut script)?;
                }
                Input::Time(now) => {
                    self.feed(std::mem::take(&mut records))?;
                    self.now = *now;
                    self.on_time()?;
                }
            }
            self.restore()?;
        }
        self.feed(records)?;
        self.restore()?;
        self.given.main.sort_unstable();
        self.given.side.sort_unstable();
        Ok(self.given)
    }

    /// Opens `count` new instances from `parts`.
    fn open(&mut self, count: usize, parts: &[RestoreSource]) -> Result<()> {
        self.instances.clear();
        self.state.clear();
        self.wake_at = vec![Some(ProcessingTime::default()); count];
        self.notified = (0..count).map(|_| Arc::default()).collect();
        self.spawned = Arc::default();
        let key_group_count = KeyGroupCount::default();
        for subtask_index in 0..count {
            let mut operator = (self.make)();
            let mut context = OpenContext {
                operator: "verified",
                subtask_index,
                parallelism: count,
                key_groups: KeyGroupRange::of_subtask(subtask_index, count, key_group_count),
                key_group_count,
                backend: BackendConfig::Memory,
                restored: parts,
                // The one being worked at, as in a job, where results cannot depend on it.
                restored_watermark: match self.claims.is_order_free {
                    true => self.watermark,
                    false => self.done,
                },
                restored_from: None,
                is_checkpointed: true,
                leave_from: Some(if self.snapshots.is_multiple_of(2) { 0 } else { u64::MAX }),
                waker: Waker::default(),
                stream: RefCell::default(),
                notified: Some(self.notified[subtask_index].clone()),
                external: External::new(self.spawned.clone()),
            };
            operator.open(&mut context)?;
            let range = context.key_groups;
            let runs = parts.iter().flat_map(RestoreSource::runs);
            let runs = runs.map(|(run, limit)| (run.clone(), limit.intersection(range)));
            self.state.push((context.stream.take(), runs.collect()));
            self.instances.push(operator);
        }
        Ok(())
    }

    fn feed(&mut self, records: Vec<(O::In, EventTime, Option<EventTime>)>) -> Result<()> {
        let key_groups = KeyGroupCount::default();
        let mut batches: Vec<Batch<O::In>> =
            self.instances.iter().map(|_| Batch::default()).collect();
        for (value, time, mark) in records {
            if mark.is_none() && time <= self.watermark {
                self.behind.push(time);
            }
            let hash = self.hash.map(|hash| hash(&value));
            let group = KeyGroup::of(hash.unwrap_or(0), key_groups);
            let to = match (self.is_broadcast)(&value) {
                true => 0..batches.len(),
                false => {
                    let to = subtask_of(group, self.instances.len(), key_groups);
                    to..to + 1
                }
            };
            for batch in &mut batches[to] {
                batch.push_marked(value.clone(), time, mark);
                batch.hashes.extend(hash);
                batch.ids.push(RecordId { split: 0, offset: self.fed });
            }
            self.fed += 1;
        }
        for (index, batch) in batches.iter_mut().enumerate() {
            while !batch.is_empty() {
                let before = batch.len();
                let given = self
                    .call(index, |operator, out, context| operator.process(batch, out, context))?;
                let is_stuck = batch.len() == before && given.1 == 0;
                if is_stuck && !self.answer_calls()? {
                    return Err(Error::bug(format!("process made no progress in {:?}", self.mode)));
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, script: &mut &[Input<O::In>]) -> Result<()> {
        let mut index = 0;
        while index < self.instances.len() {
            let watermark = self.watermark;
            let (advance, count) = self
                .call(index, |operator, out, context| operator.advance(watermark, out, context))?;
            match advance {
                Advance::Done => index += 1,
                Advance::Wait if count == 0 && !self.answer_calls()? => {
                    return Err(Error::bug(format!("advance waits in vain in {:?}", self.mode)));
                }
                Advance::Wait => {}
                Advance::More if count == 0 => {
                    return Err(Error::bug(format!("advance made no progress in {:?}", self.mode)));
                }
                Advance::More => {
                    self.interleave(script)?;
                    let instances = self.instances.len();
                    self.restore()?;
                    // Restored instances find out for themselves what is still to be given out.
                    if self.mode.restores && instances > 0 {
                        index = 0;
                    }
                }
            }
        }
        self.done = self.watermark;
        let forwarded = self.instances.iter().map(|operator| operator.forwarded(self.watermark));
        self.forwarded = self.forwarded.max(forwarded.min().unwrap_or(EventTime::MIN));
        Ok(())
    }

    /// Feeds the next record of the script, if it is after the watermark that is being worked at.
    fn interleave(&mut self, script: &mut &[Input<O::In>]) -> Result<()> {
        match script.split_first() {
            Some((Input::Record(value, time, None), rest))
                if self.mode.interleaves && *time > self.watermark =>
            {
                *script = rest;
                self.feed(vec![(value.clone(), *time, None)])
            }
            _ => Ok(()),
        }
    }

    /// Answers all calls to the world outside, and tells the operators; true if there were any.
    fn answer_calls(&mut self) -> Result<bool> {
        let calls = self.spawned.take();
        let had_calls = !calls.is_empty();
        for mut call in calls {
            while poll(&mut call).is_pending() {}
        }
        while self.call_due()?.is_some() {}
        Ok(had_calls)
    }

    /// Calls one that has asked to be called by now; how many records it gave out.
    fn call_due(&mut self) -> Result<Option<usize>> {
        let due = (0..self.instances.len()).find(|&index| {
            self.wake_at[index].is_some_and(|at| at <= self.now)
                || self.notified[index].load(Ordering::SeqCst)
        });
        let Some(index) = due else { return Ok(None) };
        self.wake_at[index] = None;
        self.notified[index].store(false, Ordering::SeqCst);
        let call = self.call(index, |operator, out, context| operator.on_time(out, context))?;
        Ok(Some(call.1))
    }

    /// Calls all that have asked to be called by now.
    fn on_time(&mut self) -> Result<()> {
        let mut calls = 0;
        while let Some(count) = self.call_due()? {
            calls = if count == 0 { calls + 1 } else { 0 };
            if calls > 10 * self.instances.len() {
                return Err(Error::bug(format!("on_time made no progress in {:?}", self.mode)));
            }
            if count > 0 {
                self.restore()?;
            }
        }
        Ok(())
    }

    /// Has each instance give out what must not become state.
    fn before_barrier(&mut self) -> Result<()> {
        let mut index = 0;
        while index < self.instances.len() {
            let (advance, _) =
                self.call(index, |operator, out, context| operator.before_barrier(out, context))?;
            index += usize::from(advance == Advance::Done);
        }
        Ok(())
    }

    /// Calls one instance with empty outputs and keeps what it gives out.
    fn call<R>(
        &mut self,
        index: usize,
        f: impl FnOnce(&mut O, &mut Outputs<'_, O::Out, O::Side>, &mut Context<'_>) -> Result<R>,
    ) -> Result<(R, usize)> {
        let (mut main, mut side) = (Batch::default(), Batch::default());
        let capacity = self.mode.capacity;
        let mut out = Outputs { main: &mut main, side: &mut side, capacity };
        let mut rolled = Vec::new();
        let mut context = Context {
            now: self.now,
            metrics: &self.metrics,
            split: 0,
            batch_records: capacity,
            wake_at: self.wake_at[index],
            rolled: &mut rolled,
        };
        let result = f(&mut self.instances[index], &mut out, &mut context)?;
        self.wake_at[index] = context.wake_at;
        let count = main.len() + side.len();
        self.check_times(&main)?;
        self.check_times(&side)?;
        keep(&main, &mut self.given.main);
        keep(&side, &mut self.given.side);
        Ok((result, count))
    }

    /// No result may be behind the watermark that was forwarded, unless its record was.
    fn check_times<T: Debug>(&self, given: &Batch<T>) -> Result<()> {
        let mut marks = given.marks();
        for (i, time) in given.times.iter().enumerate() {
            let is_in_time = *time > self.forwarded || self.behind.contains(time);
            if marks.at(i).is_none() && self.claims.is_in_time && !is_in_time {
                let (value, forwarded, mode) = (&given.values[i], self.forwarded, self.mode);
                return Err(Error::bug(format!(
                    "{value:?} at {time} follows the watermark {forwarded} in {mode:?}"
                )));
            }
        }
        Ok(())
    }

    /// Takes a snapshot and goes on with new instances, if the mode says so.
    fn restore(&mut self) -> Result<()> {
        if !self.mode.restores {
            return Ok(());
        }
        self.snapshots += 1;
        self.before_barrier()?;
        let mut parts = Vec::new();
        for (operator, (stream, runs)) in self.instances.iter_mut().zip(&mut self.state) {
            let mut context = SnapshotContext::new(CheckpointId(self.snapshots));
            // Some of what the last restore has left in runs; the rest comes when it is asked for.
            if self.snapshots.is_multiple_of(3) {
                operator.each_table(&mut |table| table.load(&mut 1))?;
            }
            operator.snapshot(&mut context)?;
            if let (SnapshotPart::Epoch(epoch), Some(stream)) = (context.part, stream) {
                sweep(operator)?;
                take_runs(stream, epoch, runs)?;
                parts.push(RestoreSource::new(std::mem::take(runs)));
            }
        }
        let count = if self.mode.rescales { 3 - self.instances.len() } else { 1 };
        self.open(count, &parts)
    }
}

/// Has an operator hand over all of its last snapshot.
fn sweep<O: Operator>(operator: &mut O) -> Result<()> {
    loop {
        let mut budget = 100;
        operator.each_table(&mut |table| table.sweep(&mut budget))?;
        if budget == 100 {
            return Ok(());
        }
    }
}

/// Adds what a stream of an operator's state has up to the end of an epoch to the runs that there
/// are, and merges them: as few runs as hold the state, none if it is empty.
///
/// # Errors
/// `Bug` if the epoch is not complete: not all tables were swept.
pub fn take_runs(stream: &ChangeStream, epoch: u64, runs: &mut Vec<LimitedRun>) -> Result<()> {
    let (count, mut complete) = (KeyGroupCount::default(), 0);
    let all = KeyGroupRange::all(count);
    while let Some(item) = stream.take() {
        match item {
            StreamItem::Changes(_, log) => {
                let mut gathered = GatheredChanges::default();
                gathered.add(log, stream);
                if let Some(bytes) = gathered.into_run(count, stream)? {
                    runs.push((PortableReader::of_bytes(&bytes)?, all));
                }
            }
            StreamItem::Emptied(_) => runs.clear(),
            StreamItem::Complete { epoch, .. } => complete = epoch,
        }
    }
    if complete < epoch {
        return Err(Error::bug("each_table leaves out a table that the snapshot has"));
    }
    let mut merge = RunMerge::new(runs, true, PortableWriter::new(count))?;
    while !merge.step(1 << 20)? {}
    runs.clear();
    if let Some(bytes) = merge.finish()? {
        runs.push((PortableReader::of_bytes(&bytes)?, all));
    }
    Ok(())
}

fn keep<T: Debug>(batch: &Batch<T>, kept: &mut Vec<String>) {
    let mut marks = batch.marks();
    for (i, value) in batch.values.iter().enumerate() {
        let time = batch.times.get(i).copied().unwrap_or(EventTime::MIN);
        let mark = marks.at(i).map(|watermark| format!(" behind {watermark}"));
        kept.push(format!("{value:?} at {time}{}", mark.unwrap_or_default()));
    }
}
