//! `Operator`: what an operator may do, and what it is told.
//!
//! # Contract
//! * The subtask calls one method at a time; a call runs to completion and never blocks.
//! * `process` and `advance` are called with empty outputs.
//! * `process` takes records from the front of its input. It may leave some: if an output is full
//!   it is called again once that has been handed on, otherwise it has asked for a wake-up.
//! * All records that came before a watermark were taken before `advance` is called with it, and
//!   all that `advance` gives out leaves before the watermark does.
//! * `process` may come between two calls of `advance` or `before_barrier` that gave
//!   [`Advance::More`], with what an operator in front has given out in `on_time`: such records are
//!   after the watermark that is being worked at, too.
//! * `on_time` is called when the time it has asked for has come, or its notifier was used: with
//!   empty outputs, at any moment between two other calls.
//! * `before_barrier` is called with empty outputs until it is `Done`; then `snapshot` follows,
//!   with no record in between.
//! * `before_barrier` and `snapshot` may be called while records are left that `process` asked to
//!   wait with: they are recorded as its input (`in_flight.rs`), and no part of its state.
//! * `snapshot` may be called between two calls of `advance` that gave [`Advance::More`]: what is
//!   still to be given out is part of the operator's state.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use thalweg_checkpoint::CheckpointId;
use thalweg_state::{
    BackendConfig, ChangeStream, Element, KeyGroupCount, KeyGroupRange, OperatorState,
    RestoreSource, SnapshotPart, StateTable,
};

use crate::batch::Batch;
use crate::error::Result;
use crate::external::External;
use crate::metrics::OperatorMetrics;
use crate::park::{Notifier, Waker};
use crate::sink::Committable;
use crate::time::{EventTime, ProcessingTime};

/// One operator in one subtask.
pub trait Operator: Send + 'static {
    /// The records it takes.
    type In: Element;
    /// The records of its main output.
    type Out: Element;
    /// The records of its side output (late records, dead letters); `()` if it has none.
    type Side: Element;

    /// Opens its state, restored if the context has some. Called once, first.
    ///
    /// # Errors
    /// Whatever keeps the operator from working; the job fails.
    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Takes records from `input`.
    ///
    /// # Errors
    /// A user function's error or a failure of state; the job fails.
    fn process(
        &mut self,
        input: &mut Batch<Self::In>,
        out: &mut Outputs<'_, Self::Out, Self::Side>,
        context: &mut Context<'_>,
    ) -> Result<()>;

    /// Does what is due at `watermark`, until an output is full.
    ///
    /// # Errors
    /// As `process`.
    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, Self::Out, Self::Side>,
        context: &mut Context<'_>,
    ) -> Result<Advance> {
        let _ = (watermark, out, context);
        Ok(Advance::Done)
    }

    /// Does what is due at `context.now`: called when the time that was asked for by
    /// [`Context::wake_at`] has come or the operator's [`Notifier`] was used, with or without
    /// input, and once when the operator has been opened. A wake-up that was asked for stays asked
    /// for; what does not fit into the outputs is given out when it asks for `context.now` again.
    ///
    /// # Errors
    /// As `process`.
    fn on_time(
        &mut self,
        out: &mut Outputs<'_, Self::Out, Self::Side>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let _ = (out, context);
        Ok(())
    }

    /// Gives out what must not become part of its state, before a barrier leaves: for operators
    /// that hold back records without owning their keys. Called again after [`Advance::More`].
    ///
    /// # Errors
    /// As `process`.
    fn before_barrier(
        &mut self,
        out: &mut Outputs<'_, Self::Out, Self::Side>,
        context: &mut Context<'_>,
    ) -> Result<Advance> {
        let _ = (out, context);
        Ok(Advance::Done)
    }

    /// The watermark it forwards when all that was due at `watermark` has been given out: not
    /// beyond what it still may emit. Asked again after each `advance` and `on_time`, so that a
    /// watermark can be held back for a while.
    fn forwarded(&self, watermark: EventTime) -> EventTime {
        watermark
    }

    /// Hands over its state for a checkpoint.
    ///
    /// # Errors
    /// The checkpoint is declined and the job fails.
    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Calls `f` with every state table that [`snapshot`](Operator::snapshot) hands over: what of a
    /// snapshot is still to be written is written between the calls of other methods.
    ///
    /// # Errors
    /// What `f` returns; `Bug` if the operator was not opened.
    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let _ = f;
        Ok(())
    }

    /// The operator as the one that assigns event times and generates watermarks, if it is one.
    fn as_time_origin(&mut self) -> Option<&mut dyn TimeOrigin> {
        None
    }
}

/// What [`Operator::each_table`] calls.
pub type EachTable<'a> = dyn FnMut(&mut dyn StateTable) -> thalweg_state::Result<()> + 'a;

/// How far `advance` came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advance {
    /// All that was due has been given out.
    Done,
    /// There is more; call again when the outputs have been handed on.
    More,
    /// Not all is done, but nothing can be given out before the next `on_time`: then call again.
    /// Meanwhile the subtask reads nothing, so this is for the end of time
    /// ([`EventTime::MAX`]) only.
    Wait,
}

/// The outputs of an operator.
pub struct Outputs<'a, T, S> {
    /// The main output.
    pub main: &'a mut Batch<T>,
    /// The side output.
    pub side: &'a mut Batch<S>,
    pub(crate) capacity: usize,
}

impl<T, S> Outputs<'_, T, S> {
    /// True if the operator should stop at the next record boundary.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.main.len() >= self.capacity || self.side.len() >= self.capacity
    }
}

/// What an operator can see and ask for during a call.
pub struct Context<'a> {
    /// The time, as the decider gave it.
    pub now: ProcessingTime,
    /// The operator's counters.
    pub metrics: &'a OperatorMetrics,
    /// The split of the input batch, as a position in its subtask's list of splits. Only before
    /// the first exchange.
    pub split: usize,
    pub(crate) batch_records: usize,
    pub(crate) wake_at: Option<ProcessingTime>,
    pub(crate) rolled: &'a mut Vec<Committable>,
}

impl Context<'_> {
    /// Asks for the next call no later than `time`.
    pub fn wake_at(&mut self, time: ProcessingTime) {
        self.wake_at = Some(self.wake_at.map_or(time, |t| t.min(time)));
    }

    /// Hands over output that may be committed at once; only where nothing is checkpointed.
    pub fn commit_rolled(&mut self, committables: Vec<Committable>) {
        self.rolled.extend(committables);
    }
}

/// What an operator is told when it is opened.
pub struct OpenContext<'a> {
    /// The operator's name.
    pub operator: &'a str,
    /// The subtask's index, from 0.
    pub subtask_index: usize,
    /// The number of subtasks.
    pub parallelism: usize,
    /// The key groups this subtask owns.
    pub key_groups: KeyGroupRange,
    /// The number of key groups of the job.
    pub key_group_count: KeyGroupCount,
    /// Where state is kept.
    pub backend: BackendConfig,
    /// The snapshots to restore from; entries of other subtasks' key groups are to be left out.
    pub restored: &'a [RestoreSource],
    /// The watermark up to which the restored operator had worked; `MIN` if it was not restored.
    /// Splits that are new hold the operator's watermark back behind it: what they bring is
    /// judged by this one.
    pub restored_watermark: EventTime,
    /// The checkpoint the job was restored from.
    pub restored_from: Option<CheckpointId>,
    /// True if the job publishes checkpoints.
    pub is_checkpointed: bool,
    /// With this many bytes to restore, tables may stay in the snapshot's runs for a while; none:
    /// as the state says.
    pub(crate) leave_from: Option<u64>,
    pub(crate) waker: Waker,
    /// Where the changes of the state that was opened come out.
    pub(crate) stream: RefCell<Option<Arc<ChangeStream>>>,
    pub(crate) notified: Option<Arc<AtomicBool>>,
    pub(crate) external: External,
}

impl OpenContext<'_> {
    /// A handle by which futures are started that run outside of the subtask.
    pub fn external(&self) -> External {
        self.external.clone()
    }

    /// A handle by which other threads cause a call of [`Operator::on_time`].
    pub fn notifier(&mut self) -> Notifier {
        let flag = self.notified.get_or_insert_default().clone();
        Notifier { flag, waker: self.waker.clone() }
    }

    /// Opens the operator's state, empty: its tables are to be restored from `restored`.
    ///
    /// # Errors
    /// As [`OperatorState::open`].
    pub fn open_state(&self) -> Result<OperatorState> {
        let backend = self.backend.clone();
        let mut state = OperatorState::open(backend, self.key_groups, self.key_group_count)?;
        if let Some(bytes) = self.leave_from {
            state.leave_from(bytes);
        }
        if !self.is_checkpointed {
            return Ok(state.without_snapshots());
        }
        *self.stream.borrow_mut() = state.stream();
        Ok(state)
    }
}

/// What an operator hands over at a barrier.
pub struct SnapshotContext {
    /// The checkpoint.
    pub id: CheckpointId,
    pub(crate) part: SnapshotPart,
    pub(crate) committables: Vec<Committable>,
}

impl SnapshotContext {
    /// An empty snapshot for checkpoint `id`.
    pub fn new(id: CheckpointId) -> Self {
        SnapshotContext { id, part: SnapshotPart::Stateless, committables: Vec::new() }
    }

    /// Hands over the operator's state.
    pub fn put_state(&mut self, part: SnapshotPart) {
        self.part = part;
    }

    /// Hands over output to be committed when the checkpoint has been published.
    pub fn put_committables(&mut self, committables: Vec<Committable>) {
        self.committables.extend(committables);
    }
}

/// An operator that assigns event times: it keeps a watermark generator per split.
pub trait TimeOrigin {
    /// Makes split number `split` known, with what [`snapshot_split`](TimeOrigin::snapshot_split)
    /// returned for it. Every split counts, at its restored time or `MIN`, until it has finished.
    ///
    /// # Errors
    /// `Corrupt` if `restored` cannot be read.
    fn add_split(&mut self, split: usize, restored: Option<&[u8]>) -> Result<()>;

    /// The split has no more records.
    fn finish_split(&mut self, split: usize);

    /// The split has had no records since `idle_since`, with room for some; or it has again.
    fn set_idle_since(&mut self, split: usize, idle_since: Option<ProcessingTime>);

    /// The least watermark of the active splits, and whether all splits are idle at `now`.
    fn watermark(&mut self, now: ProcessingTime) -> OriginWatermark;

    /// Adds the splits that are so far ahead of others that they are not to be read now. Asked
    /// again when the operator is notified, and from time to time; that a split is held does not
    /// make it idle.
    fn held_splits(&mut self, held: &mut Vec<usize>) {
        let _ = held;
    }

    /// The generator of a split.
    ///
    /// # Errors
    /// If it cannot be encoded; the job fails.
    fn snapshot_split(&self, split: usize) -> Result<Vec<u8>>;
}

/// What a [`TimeOrigin`] says of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OriginWatermark {
    /// The watermark.
    pub watermark: EventTime,
    /// True if no split is active.
    pub is_idle: bool,
    /// When to look again, because a split becomes idle then.
    pub check_at: Option<ProcessingTime>,
}
