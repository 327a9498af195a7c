//! `step`: the whole scheduling policy of a subtask.

use std::collections::VecDeque;
use std::sync::Arc;

use thalweg_checkpoint::{Barrier, BarrierKind, CheckpointId, Outstanding, SubtaskId};

use super::chain::{Chain, Drained, Outlets, earliest, guard};
use super::effect::{Capture, Control, Effect};
use super::input::{InputGate, Taken};
use super::snapshot::Swept;
use super::source_head::ErasedHead;
use crate::channel::AnyBatch;
use crate::decider::Decider;
use crate::error::Result;
use crate::in_flight::Edge;
use crate::metrics::OperatorMetrics;
use crate::operator::Advance;
use crate::planted::planted;
use crate::poison::{RecordAt, SplitRead};
use crate::time::{EventTime, ProcessingTime};

/// Fewest records that a source reads at a time, if it has them.
const LEAST_READ: usize = 16;

/// Entries of a snapshot that are handed over after each round: about half a batch's work.
const SWEPT_PER_ROUND: usize = 256;

/// The same, when there is nothing else to do.
const SWEPT_WHEN_IDLE: usize = 4_096;

/// When to try again to hand over, or to go on, in milliseconds, if those who write are behind.
const SWEEP_AGAIN_MS: i64 = 1;

/// What a machine is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Reads its input and works on it until the input has ended.
    Running,
    /// A source whose splits have all ended; answers checkpoints until shutdown.
    Drained,
    /// A source that has taken the cut of a stop; reads nothing until shutdown.
    Stopped,
    /// Has been shut down; does nothing any more.
    Done,
}

/// Where a subtask's records come from.
pub(crate) enum Head {
    /// From the readers of splits.
    Source(SourceInput),
    /// From channels.
    Channels(InputGate),
}

/// The source at the head of a chain.
pub(crate) struct SourceInput {
    pub(crate) name: String,
    pub(crate) head: Box<dyn ErasedHead>,
    pub(crate) outlets: Outlets,
    pub(crate) metrics: Arc<OperatorMetrics>,
    /// The splits that are not to be read now.
    pub(crate) held: Vec<usize>,
    /// True if it is suspected of failing at some record: it reads them one at a time.
    pub(crate) is_suspect: bool,
}

/// One parallel instance of a task.
pub(crate) struct Subtask {
    pub(crate) id: SubtaskId,
    /// The range of key groups the subtask owns, end exclusive.
    pub(crate) key_groups: (u16, u16),
    pub(super) head: Head,
    pub(super) chain: Chain,
    pub(super) phase: Phase,
    pub(super) outstanding: Outstanding,
    pub(super) effects: VecDeque<Effect>,
    /// The newest checkpoint that was asked for and not begun.
    triggered: Option<(CheckpointId, BarrierKind)>,
    /// The newest checkpoint that was begun or given up.
    newest: Option<CheckpointId>,
    /// A checkpoint whose cut must not wait for barriers or room.
    pressing: Option<CheckpointId>,
    /// The cut that is taken next.
    preparing: Option<Cut>,
    /// An early cut that was taken and for which channels are recorded.
    pub(super) recording: Option<Box<Capture>>,
    /// Restored records that are to be taken before anything else.
    pub(super) restored: VecDeque<Restored>,
    /// The edge over which the batch of the first operator came, if it can be recorded.
    pub(super) feeding: Option<Arc<Edge>>,
    /// True if operators may have a watermark to be advanced to.
    is_advancing: bool,
    /// A split that ended with the batch that is in the chain.
    ended_split: Option<usize>,
}

/// A cut that is being prepared for.
pub(super) struct Cut {
    pub(super) barrier: Barrier,
    /// The operator that prepares for it.
    next: usize,
    /// True if it does not wait for barriers (`in_flight.rs`).
    pub(super) is_early: bool,
}

/// Records that were on their way to an operator of the chain when the checkpoint was taken.
pub(crate) struct Restored {
    pub(crate) node: usize,
    pub(crate) edge: Arc<Edge>,
    pub(crate) batch: AnyBatch,
}

/// The outcome of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// True if anything changed.
    pub(crate) has_moved: bool,
    /// When to step again.
    pub(crate) next: Next,
}

/// When to step a subtask again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// At once: the budget is used up.
    Now,
    /// When a channel changes, a waker is called, or at that time.
    Wait { wake_at: Option<ProcessingTime> },
    /// Never.
    Never,
}

/// What one round of a step came to.
enum Round {
    Moved,
    Wait { wake_at: Option<ProcessingTime> },
}

impl Subtask {
    pub(crate) fn new(id: SubtaskId, key_groups: (u16, u16), head: Head, chain: Chain) -> Self {
        Subtask {
            id,
            key_groups,
            head,
            chain,
            phase: Phase::Running,
            outstanding: Outstanding::new(),
            effects: VecDeque::new(),
            triggered: None,
            newest: None,
            pressing: None,
            preparing: None,
            recording: None,
            restored: VecDeque::new(),
            feeding: None,
            // A restored split may stand at a watermark already.
            is_advancing: true,
            ended_split: None,
        }
    }

    /// True if the subtask reads a source.
    pub(crate) fn is_source(&self) -> bool {
        matches!(self.head, Head::Source(_))
    }

    /// True if it reads a source that has ended, and has told so.
    pub(crate) fn is_drained(&self) -> bool {
        self.phase == Phase::Drained && !self.effects.iter().any(|e| matches!(e, Effect::Drained))
    }

    /// The budget that lets a source read about one batch and carry it through the chain.
    pub(crate) fn one_read(&self) -> u32 {
        2 + self.chain.nodes.len() as u32
    }

    /// Something the coordinator said.
    pub(crate) fn handle(&mut self, control: Control) {
        match control {
            Control::Trigger { id, kind } => {
                if Some(id) > self.newest && Some(id) > self.triggered.map(|(id, _)| id) {
                    self.triggered = Some((id, kind));
                }
            }
            Control::Hurry { id } => self.hurry(id),
            Control::Abort { id } => {
                self.pressing.take_if(|pressing| *pressing <= id);
                self.newest = self.newest.max(Some(id));
                self.triggered.take_if(|(triggered, _)| *triggered <= id);
                if let Head::Channels(gate) = &mut self.head {
                    gate.handle_abort(id);
                }
            }
            Control::Completed { id } => self.outstanding.completed(id),
            Control::Relax => {
                self.chain.relax();
                if let Head::Source(source) = &mut self.head {
                    source.is_suspect = false;
                }
            }
            Control::Shutdown => self.phase = Phase::Done,
        }
    }

    /// How far each split has been read.
    pub(crate) fn records_read(&self) -> Vec<SplitRead> {
        match &self.head {
            Head::Source(source) => source.head.records_read(&source.name),
            Head::Channels(_) => Vec::new(),
        }
    }

    fn hurry(&mut self, id: CheckpointId) {
        let is_begun = Some(id) <= self.newest;
        let is_prepared = self.preparing.as_ref().is_some_and(|cut| cut.barrier.id == id);
        if is_begun && !is_prepared {
            return;
        }
        self.pressing = self.pressing.max(Some(id));
        if self.is_source() && !is_begun {
            self.handle(Control::Trigger { id, kind: BarrierKind::Checkpoint });
        }
    }

    /// True if a cut must not wait: the chain is emptied into gates without room.
    fn is_pressed(&self) -> bool {
        let Some(id) = self.pressing else { return false };
        match (&self.preparing, &self.head) {
            (Some(cut), _) => cut.barrier.id == id,
            (None, Head::Channels(gate)) => gate.can_record(),
            (None, Head::Source(_)) => true,
        }
    }

    /// Restored records to take before anything else, in this order.
    pub(crate) fn restore(&mut self, records: Vec<Restored>) {
        self.restored = records.into();
    }

    /// The next thing the subtask asks of the world.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Works until nothing can be done now, or `budget` operator calls and inputs are used up.
    ///
    /// # Errors
    /// An operator's error, named after it. The subtask must not be stepped again.
    pub(crate) fn step(
        &mut self,
        now: ProcessingTime,
        decider: &mut dyn Decider,
        budget: u32,
    ) -> Result<Step> {
        let mut budget = budget;
        let before = budget;
        loop {
            if self.phase == Phase::Done {
                return Ok(Step { has_moved: budget != before, next: Next::Never });
            }
            self.record()?;
            self.chain.is_pressed = self.is_pressed();
            // Records that are on their way go first: everything below needs an empty chain.
            let drained = self.chain.drain(now, &mut budget)?;
            if std::mem::take(&mut self.chain.was_called_by_time) {
                self.is_advancing = true;
                // What was given out may have reached operators that had prepared for the cut:
                // they are asked again before it is taken.
                if let Some(cut) = &mut self.preparing {
                    cut.next = 0;
                }
            }
            let round = match drained {
                Drained::Budget => Round::Moved,
                Drained::Blocked { wake_at } => self.blocked_round(wake_at, now)?,
                Drained::Empty => self.next_round(now, decider)?,
            };
            self.roll();
            let is_idle = matches!(round, Round::Wait { .. });
            let entries = if is_idle { SWEPT_WHEN_IDLE } else { SWEPT_PER_ROUND };
            let swept = self.chain.sweep(entries)?;
            match round {
                Round::Moved if budget <= 1 => {
                    self.chain.tick();
                    return Ok(Step { has_moved: true, next: Next::Now });
                }
                Round::Moved => budget -= 1,
                Round::Wait { wake_at } => {
                    self.chain.flush_starving();
                    let wake_at = earliest(wake_at, self.chain.next_wake(now));
                    let wake_at = match swept {
                        Swept::All => wake_at,
                        Swept::Some => return Ok(Step { has_moved: true, next: Next::Now }),
                        Swept::Blocked => earliest(wake_at, Some(now.plus_millis(SWEEP_AGAIN_MS))),
                    };
                    let has_moved = budget != before;
                    return Ok(Step { has_moved, next: Next::Wait { wake_at } });
                }
            }
        }
    }

    /// What comes next when the chain is not empty and nothing in it can move.
    fn blocked_round(
        &mut self,
        wake_at: Option<ProcessingTime>,
        now: ProcessingTime,
    ) -> Result<Round> {
        // What the first operator has left of its batch can be a part of the cut.
        let can_cut = self.feeding.is_some() && self.chain.only_head_waits();
        if can_cut && self.is_pressed() && self.next_cut(now)? {
            return Ok(Round::Moved);
        }
        self.restart_idleness()?;
        Ok(Round::Wait { wake_at })
    }

    /// What comes next when the chain is empty: a cut, restored records, a watermark, or input, in
    /// this order.
    fn next_round(&mut self, now: ProcessingTime, decider: &mut dyn Decider) -> Result<Round> {
        self.settle()?;
        if self.next_cut(now)? {
            return Ok(Round::Moved);
        }
        if !self.chain.has_room() {
            self.restart_idleness()?;
            return Ok(Round::Wait { wake_at: None });
        }
        // Behind the cut of a stop nothing is given out that the next run would give out again.
        if self.phase == Phase::Running
            && let Some(Restored { node, edge, mut batch }) = self.restored.pop_front()
        {
            if !planted!(RestoreSkipsInFlight) {
                self.chain.feed(node, &mut batch);
                self.feeding = (node == 0).then_some(edge);
            }
            return Ok(Round::Moved);
        }
        if self.is_advancing && self.phase != Phase::Stopped {
            return self.advance(now);
        }
        if self.phase == Phase::Running && self.chain.is_ahead_of_writers() {
            self.chain.flush();
            return Ok(Round::Wait { wake_at: Some(now.plus_millis(SWEEP_AGAIN_MS)) });
        }
        match (&self.head, self.phase) {
            (_, Phase::Stopped | Phase::Done | Phase::Drained) => {
                self.chain.flush();
                Ok(Round::Wait { wake_at: None })
            }
            (Head::Source(_), Phase::Running) => self.read_source(now, decider),
            (Head::Channels(_), Phase::Running) => self.read_channels(now, decider),
        }
    }

    /// Goes on with the next cut; false if there is none to take now.
    fn next_cut(&mut self, now: ProcessingTime) -> Result<bool> {
        if self.preparing.is_none() {
            let barrier = |id, kind| Barrier { id, kind, sent: 0 };
            let can_record = matches!(&self.head, Head::Channels(gate) if gate.can_record());
            // A last checkpoint has nothing on its way: what was restored is taken before.
            let is_due =
                |(_, kind): &mut (_, BarrierKind)| self.restored.is_empty() || !kind.is_last();
            if let Some((id, kind)) = self.triggered.take_if(is_due) {
                self.prepare(barrier(id, kind), false);
            } else if let Some(id) = self.pressing.filter(|id| Some(*id) > self.newest)
                && can_record
            {
                self.prepare(barrier(id, BarrierKind::Checkpoint), true);
            }
        }
        let Some(mut cut) = self.preparing.take() else { return Ok(false) };
        match self.chain.before_barrier(cut.next, now)? {
            Some(next) => {
                cut.next = next;
                self.preparing = Some(cut);
            }
            None => {
                self.pressing.take_if(|pressing| *pressing <= cut.barrier.id);
                self.take_barrier(cut)?;
            }
        }
        Ok(true)
    }

    fn prepare(&mut self, barrier: Barrier, is_early: bool) {
        self.newest = self.newest.max(Some(barrier.id));
        self.preparing = Some(Cut { barrier, next: 0, is_early });
    }

    /// Advances operators to the watermark of the head.
    fn advance(&mut self, now: ProcessingTime) -> Result<Round> {
        let (watermark, is_idle) = match &mut self.head {
            Head::Channels(gate) => (gate.watermark(), gate.is_idle()),
            Head::Source(source) if source.head.is_exhausted() => (EventTime::MAX, false),
            Head::Source(_) => (EventTime::MIN, false),
        };
        let outcome = self.chain.advance(watermark, is_idle, now)?;
        if outcome == Advance::Wait {
            self.chain.flush();
            return Ok(Round::Wait { wake_at: None });
        }
        if outcome == Advance::Done {
            self.is_advancing = false;
            let is_exhausted =
                matches!(&self.head, Head::Source(source) if source.head.is_exhausted());
            if is_exhausted && self.phase == Phase::Running {
                self.phase = Phase::Drained;
                self.chain.flush();
                self.effects.push_back(Effect::Drained);
            }
        }
        Ok(Round::Moved)
    }

    /// The records of the last element have passed the chain: a watermark that came with them
    /// holds now, and a split that ended with them no longer holds time back.
    fn settle(&mut self) -> Result<()> {
        if let Head::Channels(gate) = &mut self.head {
            self.is_advancing |= gate.merge();
        }
        if let Some(split) = self.ended_split.take() {
            self.is_advancing = true;
            self.chain.each_origin(|_, origin| {
                origin.finish_split(split);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn read_source(&mut self, now: ProcessingTime, decider: &mut dyn Decider) -> Result<Round> {
        let Head::Source(source) = &mut self.head else { return Ok(Round::Moved) };
        if source.head.is_exhausted() {
            // It had no split to begin with, or all had ended before the restart.
            self.is_advancing = true;
            return Ok(Round::Moved);
        }
        let held = &mut source.held;
        held.clear();
        self.chain.each_origin(|_, origin| {
            origin.held_splits(held);
            Ok(())
        })?;
        held.sort_unstable();
        // Small batches to a slow receiver: a barrier has to wait for what is on its way.
        let max = self.chain.batch_records.min(self.chain.room().max(LEAST_READ));
        let SourceInput { name, head, held, metrics, is_suspect, .. } = source;
        let max = if *is_suspect { 1 } else { max };
        let read = guard(name, || head.read(decider, now, max, held, metrics)).map_err(
            |error| match head.reading() {
                Some(id) if *is_suspect => {
                    error.at_record(RecordAt { id: Some(id), ..RecordAt::default() })
                }
                _ => error,
            },
        )?;
        self.ended_split = read.ended;
        if let Some(split) = read.split {
            self.chain.split = split;
            self.feeding = None;
            self.chain.take_from_head(&mut *source.head, &source.outlets);
            self.tell_idleness()?;
            self.is_advancing = true;
            return Ok(Round::Moved);
        }
        if read.ended.is_some() {
            return Ok(Round::Moved);
        }
        self.chain.flush();
        let check_at = self.advance_idle(now)?;
        Ok(match self.is_advancing {
            true => Round::Moved,
            false => Round::Wait { wake_at: earliest(read.until, check_at) },
        })
    }

    /// Tells the time origins which splits are idle; returns when to look again.
    fn advance_idle(&mut self, now: ProcessingTime) -> Result<Option<ProcessingTime>> {
        self.tell_idleness()?;
        let (has_changed, check_at) = self.chain.look_at_origins(now);
        self.is_advancing |= has_changed;
        Ok(check_at)
    }

    fn tell_idleness(&mut self) -> Result<()> {
        let Head::Source(source) = &self.head else { return Ok(()) };
        self.chain.each_origin(|_, origin| {
            for split in 0..source.head.split_count() {
                origin.set_idle_since(split, source.head.idle_since(split));
            }
            Ok(())
        })
    }

    /// Nothing can be given out: that a split is not read now does not make it idle.
    fn restart_idleness(&mut self) -> Result<()> {
        if let Head::Source(source) = &mut self.head {
            source.head.restart_idleness();
        }
        self.tell_idleness()
    }

    fn read_channels(&mut self, now: ProcessingTime, decider: &mut dyn Decider) -> Result<Round> {
        let Head::Channels(gate) = &mut self.head else { return Ok(Round::Moved) };
        match gate.take(decider, now)? {
            Taken::Batch { mut batch, channel } => {
                self.chain.feed(0, &mut batch);
                self.feeding = gate.edge(channel).cloned();
                gate.recycle(channel, batch);
                Ok(Round::Moved)
            }
            Taken::Control => Ok(Round::Moved),
            Taken::Aligned(barrier) => {
                self.prepare(barrier, false);
                Ok(Round::Moved)
            }
            Taken::Nothing => {
                self.chain.flush();
                Ok(Round::Wait { wake_at: None })
            }
        }
    }

    /// Hands rolled output on to be committed.
    fn roll(&mut self) {
        for node in &mut self.chain.nodes {
            if !node.rolled.is_empty() {
                let committables = std::mem::take(&mut node.rolled);
                self.effects.push_back(Effect::Commit { sink: node.name.clone(), committables });
            }
        }
    }
}
