//! The chain: a batch through the fused operators, a watermark through them, their snapshots.
//!
//! # Place
//! Called by `subtask/step.rs`; calls operators through `subtask/erased.rs` and hands their output
//! to the next operator or to `subtask/output.rs`. User panics are caught here and nowhere else.
//!
//! # Invariants
//! * I1: an operator runs only when its outputs are empty and every gate behind them has room,
//!   or a cut is pressing: then the chain is emptied into gates without room.
//! * I2: an operator is advanced to a watermark only when the chain holds no record, so nothing
//!   that came before the watermark is behind it.
//! * I3: parents stand before children.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thalweg_checkpoint::{Barrier, CheckpointId};
use thalweg_state::{ChangeStream, SnapshotPart};

use super::erased::{ErasedOperator, ErasedOutputs, PORTS};
use super::output::ErasedGate;
use crate::channel::AnyBatch;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Counter, OperatorMetrics};
use crate::operator::{Advance, Context, OriginWatermark, SnapshotContext, TimeOrigin};
use crate::poison::RecordAt;
use crate::sink::Committable;
use crate::time::{EventTime, ProcessingTime};

/// Where the records of a port go, inside one subtask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outlet {
    /// To the operator at this position.
    Node(usize),
    /// Through the gate at this position.
    Gate(usize),
}

/// The outlets of an operator's or source's ports.
pub(crate) type Outlets = [Vec<Outlet>; PORTS];

/// One operator of the chain.
pub(crate) struct ChainNode {
    pub(crate) name: String,
    pub(crate) operator: Box<dyn ErasedOperator>,
    pub(crate) outlets: Outlets,
    /// The operator before it, or none for a child of the head.
    pub(crate) parent: Option<usize>,
    pub(crate) metrics: Arc<OperatorMetrics>,
    /// The watermark the operator has been advanced to.
    pub(crate) watermark: EventTime,
    /// The watermark it has begun to be advanced to, in this run or before: what is being given
    /// out belongs to it, and what it has been restored from had worked up to it.
    pub(crate) begun: EventTime,
    /// The watermark it is advanced to at least, when restored records have passed the chain.
    pub(crate) floor: EventTime,
    /// The watermark it forwards.
    pub(crate) forwarded: EventTime,
    /// True if all splits of its time origin are idle.
    pub(crate) is_idle: bool,
    /// When it wants to be called again.
    wake_at: Option<ProcessingTime>,
    /// True if it has left input until then.
    is_waiting: bool,
    /// Set from outside when `on_time` is to be called.
    pub(crate) notified: Option<Arc<AtomicBool>>,
    /// Committables that rolled, where nothing is checkpointed.
    pub(crate) rolled: Vec<Committable>,
    /// True if its snapshot is part of a cut: a sink's always, to be committed; state only where
    /// somebody keeps it.
    pub(crate) is_captured: bool,
    /// Where the changes of its state go.
    pub(crate) stream: Option<Arc<ChangeStream>>,
    /// True if its tables may have entries of the last snapshot that are to be handed over, or such
    /// that a restore has left in runs.
    pub(crate) is_sweeping: bool,
    /// True if it is suspected of failing at some record: it gets them one at a time.
    pub(crate) is_suspect: bool,
}

impl ChainNode {
    pub(crate) fn new(
        name: String,
        operator: Box<dyn ErasedOperator>,
        outlets: Outlets,
        parent: Option<usize>,
        metrics: Arc<OperatorMetrics>,
    ) -> Self {
        ChainNode {
            name,
            operator,
            outlets,
            parent,
            metrics,
            watermark: EventTime::MIN,
            begun: EventTime::MIN,
            floor: EventTime::MIN,
            forwarded: EventTime::MIN,
            is_idle: false,
            // What it restored may be due already.
            wake_at: Some(ProcessingTime::default()),
            is_waiting: false,
            notified: None,
            rolled: Vec::new(),
            is_captured: true,
            stream: None,
            is_sweeping: false,
            is_suspect: false,
        }
    }

    /// True if `on_time` is to be called.
    fn is_due(&self, now: ProcessingTime) -> bool {
        self.wake_at.is_some_and(|at| at <= now)
            || self.notified.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}

/// The operators of one subtask, and the gates behind them.
pub(crate) struct Chain {
    pub(crate) nodes: Vec<ChainNode>,
    pub(crate) gates: Vec<ChainGate>,
    /// The split of the batch that is in the chain.
    pub(crate) split: usize,
    /// Records of a batch, before an operator looks for room again.
    pub(crate) batch_records: usize,
    /// True if an operator was called because of the time: it may forward another watermark now.
    pub(crate) was_called_by_time: bool,
    /// True if gates take what they have no room for: a cut must not wait for it.
    pub(crate) is_pressed: bool,
}

/// A gate and whose watermark it forwards.
pub(crate) struct ChainGate {
    pub(crate) gate: Box<dyn ErasedGate>,
    /// The operator it stands behind, or none for the source itself.
    pub(crate) parent: Option<usize>,
}

/// What a pass over the chain found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Drained {
    /// No record is left in the chain.
    Empty,
    /// The budget is used up.
    Budget,
    /// A gate has no room, or an operator waits.
    Blocked { wake_at: Option<ProcessingTime> },
}

/// What became of an operator's output.
struct HandOn {
    /// Some was handed on.
    has_moved: bool,
    /// Some has to stay for now.
    is_blocked: bool,
}

impl Chain {
    pub(crate) fn new(nodes: Vec<ChainNode>, gates: Vec<ChainGate>, batch_records: usize) -> Self {
        let (was_called_by_time, is_pressed) = (false, false);
        Chain { nodes, gates, split: 0, batch_records, was_called_by_time, is_pressed }
    }

    /// Gives a batch to an operator and takes the emptied one.
    pub(crate) fn feed(&mut self, node: usize, batch: &mut AnyBatch) {
        self.nodes[node].operator.swap_input(batch);
    }

    /// True if the only records in the chain are those that its first operator has left.
    pub(crate) fn only_head_waits(&self) -> bool {
        let is_empty =
            |node: &ChainNode| (0..PORTS).all(|port| node.operator.output_len(port) == 0);
        let Some((first, others)) = self.nodes.split_first() else { return false };
        first.is_waiting
            && self.nodes.iter().all(is_empty)
            && others.iter().all(|node| node.operator.input_len() == 0)
    }

    /// True if every gate takes more.
    pub(crate) fn has_room(&mut self) -> bool {
        // Every gate is asked: asking also sends what waits for room.
        let mut has_room = true;
        for gate in &mut self.gates {
            has_room &= gate.gate.has_room();
        }
        has_room
    }

    /// About how many records may enter the chain before a channel behind it is full.
    pub(crate) fn room(&self) -> usize {
        self.gates.iter().map(|gate| gate.gate.room()).min().unwrap_or(usize::MAX)
    }

    /// True if those who write changes of state are far behind.
    pub(crate) fn is_ahead_of_writers(&self) -> bool {
        self.nodes.iter().filter_map(|node| node.stream.as_ref()).any(|s| s.is_overfull())
    }

    /// Moves records on until the chain is empty, blocked, or the budget is used up.
    ///
    /// A pass visits parents before children, so that one pass carries a batch to its end.
    pub(crate) fn drain(&mut self, now: ProcessingTime, budget: &mut u32) -> Result<Drained> {
        loop {
            let (mut moved, mut left, mut wake_at) = (false, false, None);
            for index in 0..self.nodes.len() {
                let handed_on = self.hand_on(index);
                moved |= handed_on.has_moved;
                left |= handed_on.is_blocked;
                if handed_on.is_blocked {
                    continue;
                }
                let node = &self.nodes[index];
                let is_due = node.is_due(now);
                if node.operator.input_len() == 0 && !is_due {
                    continue;
                }
                if node.is_waiting && !is_due {
                    left = true;
                    wake_at = earliest(wake_at, node.wake_at);
                    continue;
                }
                if !self.outlets_have_room(index) {
                    left = true;
                    continue;
                }
                if *budget == 0 {
                    return Ok(Drained::Budget);
                }
                *budget -= 1;
                if is_due {
                    self.on_time(index, now)?;
                    // What it gave out is handed on before it is called again.
                    (moved, left) = (true, true);
                    continue;
                }
                moved |= self.process(index, now)?;
                wake_at = earliest(wake_at, self.nodes[index].wake_at);
                left |= self.nodes[index].operator.input_len() > 0;
                left |= self.hand_on(index).is_blocked;
            }
            if !left {
                return Ok(Drained::Empty);
            }
            if !moved {
                return Ok(Drained::Blocked { wake_at });
            }
        }
    }

    /// Gives all operators whole batches again.
    pub(crate) fn relax(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| node.is_suspect) {
            node.is_suspect = false;
            node.operator.rejoin();
        }
    }

    /// Tells an operator that its time has come.
    fn on_time(&mut self, index: usize, now: ProcessingTime) -> Result<()> {
        if let Some(flag) = &self.nodes[index].notified {
            // Before the call: what happens from now on is told again. Not a store, which would not
            // make sure that the call sees what was done before the flag was set.
            flag.swap(false, Ordering::SeqCst);
        }
        let split = self.split;
        self.call(index, now, split, |operator, context| operator.on_time(context))?;
        let node = &mut self.nodes[index];
        node.is_waiting = false;
        node.metrics.add(Counter::Out, node.operator.output_len(0) as u64);
        self.was_called_by_time = true;
        Ok(())
    }

    /// The earliest time to come at which an operator wants to be called. One whose time has come
    /// and that was not called waits for room, which wakes the subtask by itself.
    pub(crate) fn next_wake(&self, now: ProcessingTime) -> Option<ProcessingTime> {
        self.nodes.iter().filter_map(|node| node.wake_at).filter(|at| *at > now).min()
    }

    /// Runs one operator over its input; true if it took or gave anything.
    fn process(&mut self, index: usize, now: ProcessingTime) -> Result<bool> {
        let split = self.split;
        let before = self.nodes[index].operator.input_len();
        let isolated = match self.nodes[index].is_suspect {
            true => self.nodes[index].operator.isolate(),
            false => None,
        };
        let has_isolated = isolated.is_some();
        self.call(index, now, split, |operator, context| operator.process(context)).map_err(
            |error| match isolated {
                Some(record) => error.at_record(record),
                None => error,
            },
        )?;
        let node = &mut self.nodes[index];
        let has_output = (0..PORTS).any(|port| node.operator.output_len(port) > 0);
        let has_asked = node.wake_at.is_some() || node.notified.is_some();
        let taken = before - node.operator.input_len();
        // What stands behind a single record that was taken does not wait.
        let has_left = node.operator.input_len() > 0 && !(has_isolated && taken > 0);
        node.is_waiting = has_left && !has_output && has_asked;
        let given = node.operator.output_len(0);
        node.metrics.add(Counter::In, taken as u64);
        node.metrics.add(Counter::Out, given as u64);
        Ok(taken > 0 || given > 0)
    }

    /// Calls an operator with its context; an error or panic is named after it.
    fn call<R>(
        &mut self,
        index: usize,
        now: ProcessingTime,
        split: usize,
        f: impl FnOnce(&mut dyn ErasedOperator, &mut Context<'_>) -> Result<R>,
    ) -> Result<R> {
        let batch_records = self.batch_records;
        let ChainNode { operator, metrics, rolled, name, wake_at, .. } = &mut self.nodes[index];
        let metrics = &**metrics;
        // A wake-up that was asked for stays until its time has come.
        let pending = wake_at.filter(|at| *at > now);
        let mut context = Context { now, metrics, split, batch_records, wake_at: pending, rolled };
        let result = guard(name, || f(&mut **operator, &mut context));
        *wake_at = context.wake_at;
        result
    }

    /// Hands on what waits on an operator's ports.
    fn hand_on(&mut self, index: usize) -> HandOn {
        let mut outcome = HandOn { has_moved: false, is_blocked: false };
        for port in 0..PORTS {
            if self.nodes[index].operator.output_len(port) == 0 {
                continue;
            }
            if !self.port_has_room(Some(index), port) {
                outcome.is_blocked = true;
                continue;
            }
            outcome.has_moved = true;
            let (before, rest) = self.nodes.split_at_mut(index + 1);
            let ChainNode { operator, outlets, .. } = &mut before[index];
            distribute(&mut **operator, port, &outlets[port], index + 1, rest, &mut self.gates);
        }
        outcome
    }

    /// Hands on what the source head has read; the caller has seen to it that there is room.
    pub(crate) fn take_from_head(&mut self, head: &mut dyn ErasedOutputs, outlets: &Outlets) {
        for (port, outlets) in outlets.iter().enumerate() {
            if head.output_len(port) > 0 {
                distribute(head, port, outlets, 0, &mut self.nodes, &mut self.gates);
            }
        }
    }

    fn outlets_have_room(&mut self, index: usize) -> bool {
        (0..PORTS).all(|port| self.port_has_room(Some(index), port))
    }

    fn port_has_room(&mut self, parent: Option<usize>, port: usize) -> bool {
        let Some(index) = parent else { return true };
        (0..self.nodes[index].outlets[port].len()).all(|i| {
            match self.nodes[index].outlets[port][i] {
                Outlet::Node(child) => self.nodes[child].operator.input_len() == 0,
                // A gate is asked in any case: asking also sends what waits for room.
                Outlet::Gate(gate) => self.gates[gate].gate.has_room() || self.is_pressed,
            }
        })
    }

    /// Advances the operators, in order, to the watermarks of their parents; `head` is that of the
    /// head. Stops with `More` at an operator that has more to give out. The chain is empty before
    /// each call (I2).
    pub(crate) fn advance(
        &mut self,
        head: EventTime,
        head_is_idle: bool,
        now: ProcessingTime,
    ) -> Result<Advance> {
        for index in 0..self.nodes.len() {
            let (watermark, is_idle) = match self.nodes[index].parent {
                None => (head, head_is_idle),
                Some(parent) => (self.nodes[parent].forwarded, self.nodes[parent].is_idle),
            };
            let watermark = watermark.max(self.nodes[index].floor);
            if let Some(origin) = self.origin(index, now) {
                let node = &mut self.nodes[index];
                node.forwarded = node.forwarded.max(origin.watermark).max(watermark);
                node.is_idle = origin.is_idle;
                node.watermark = node.forwarded;
                node.begun = node.begun.max(node.forwarded);
                node.metrics.set_watermark(node.forwarded);
                continue;
            }
            self.nodes[index].is_idle = is_idle;
            if watermark <= self.nodes[index].watermark {
                let node = &mut self.nodes[index];
                if node.watermark > EventTime::MIN {
                    node.forwarded = node.forwarded.max(node.operator.forwarded(node.watermark));
                }
                continue;
            }
            let split = self.split;
            self.nodes[index].begun = self.nodes[index].begun.max(watermark);
            let is_suspect = self.nodes[index].is_suspect;
            let outcome =
                self.call(index, now, split, |operator, ctx| operator.advance(watermark, ctx));
            let outcome = outcome.map_err(|error| match is_suspect {
                true => {
                    let watermark = Some(watermark);
                    error.at_record(RecordAt { watermark, ..RecordAt::default() })
                }
                false => error,
            })?;
            let node = &mut self.nodes[index];
            node.metrics.add(Counter::Out, node.operator.output_len(0) as u64);
            if outcome == Advance::Done {
                node.watermark = watermark;
                node.forwarded = node.forwarded.max(node.operator.forwarded(watermark));
                node.metrics.set_watermark(watermark);
            }
            let has_output = (0..PORTS).any(|port| node.operator.output_len(port) > 0);
            if outcome == Advance::More || has_output {
                return Ok(Advance::More);
            }
            if outcome == Advance::Wait {
                return Ok(Advance::Wait);
            }
        }
        for gate in &mut self.gates {
            let (watermark, is_idle) = match gate.parent {
                None => (head, head_is_idle),
                Some(parent) => (self.nodes[parent].forwarded, self.nodes[parent].is_idle),
            };
            gate.gate.set_watermark(watermark, is_idle);
        }
        Ok(Advance::Done)
    }

    fn origin(&mut self, index: usize, now: ProcessingTime) -> Option<OriginWatermark> {
        let origin = self.nodes[index].operator.as_time_origin()?;
        Some(origin.watermark(now))
    }

    /// Whether a time origin says something else than it forwarded last, and when to look again.
    pub(crate) fn look_at_origins(
        &mut self,
        now: ProcessingTime,
    ) -> (bool, Option<ProcessingTime>) {
        let (mut has_changed, mut check_at) = (false, None);
        for index in 0..self.nodes.len() {
            if let Some(origin) = self.origin(index, now) {
                let node = &self.nodes[index];
                has_changed |= origin.watermark > node.forwarded || origin.is_idle != node.is_idle;
                check_at = earliest(check_at, origin.check_at);
            }
        }
        (has_changed, check_at)
    }

    /// Calls `f` with every operator that assigns event times.
    pub(crate) fn each_origin(
        &mut self,
        mut f: impl FnMut(&str, &mut dyn TimeOrigin) -> Result<()>,
    ) -> Result<()> {
        for node in &mut self.nodes {
            if let Some(origin) = node.operator.as_time_origin() {
                f(&node.name, origin)?;
            }
        }
        Ok(())
    }

    /// Notes that a step has ended; watermarks are not held back for many steps.
    pub(crate) fn tick(&mut self) {
        for gate in &mut self.gates {
            gate.gate.tick();
        }
    }

    /// Sends everything that gates hold back.
    pub(crate) fn flush(&mut self) {
        for gate in &mut self.gates {
            gate.gate.flush();
        }
    }

    /// Sends what gates hold back for receivers that have nothing to do.
    pub(crate) fn flush_starving(&mut self) {
        for gate in &mut self.gates {
            gate.gate.flush_starving();
        }
    }

    /// Sends a barrier behind everything else.
    pub(crate) fn send_barrier(&mut self, barrier: Barrier) {
        for gate in &mut self.gates {
            gate.gate.send_barrier(barrier);
        }
    }

    /// Has the operators from `first` on give out what must not become state. Returns the operator
    /// to go on with when its output has been handed on, or none if all are done.
    pub(crate) fn before_barrier(
        &mut self,
        first: usize,
        now: ProcessingTime,
    ) -> Result<Option<usize>> {
        for index in first..self.nodes.len() {
            let split = self.split;
            let outcome =
                self.call(index, now, split, |operator, ctx| operator.before_barrier(ctx))?;
            let node = &self.nodes[index];
            node.metrics.add(Counter::Out, node.operator.output_len(0) as u64);
            let has_output = (0..PORTS).any(|port| node.operator.output_len(port) > 0);
            if outcome != Advance::Done {
                return Ok(Some(index));
            }
            if has_output {
                return Ok(Some(index + 1));
            }
        }
        Ok(None)
    }

    /// The snapshots of all operators: position, state, committables.
    pub(crate) fn snapshot(
        &mut self,
        id: CheckpointId,
    ) -> Result<Vec<(SnapshotPart, Vec<Committable>)>> {
        let snapshot = |node: &mut ChainNode| {
            let mut context = SnapshotContext::new(id);
            if node.is_captured {
                guard(&node.name, || node.operator.snapshot(&mut context))?;
                node.is_sweeping = matches!(context.part, SnapshotPart::Epoch(_));
            }
            Ok((context.part, context.committables))
        };
        self.nodes.iter_mut().map(snapshot).collect()
    }
}

/// Moves one port's records to all its outlets: a copy for each but the last.
fn distribute(
    from: &mut (impl ErasedOutputs + ?Sized),
    port: usize,
    outlets: &[Outlet],
    first_node: usize,
    nodes: &mut [ChainNode],
    gates: &mut [ChainGate],
) {
    let Some((last, others)) = outlets.split_last() else {
        from.clear_output(port);
        return;
    };
    let mut give = |outlet: &Outlet, is_last: bool| {
        let target = match *outlet {
            Outlet::Node(node) => nodes[node - first_node].operator.input(),
            Outlet::Gate(gate) => gates[gate].gate.incoming(),
        };
        if is_last {
            from.move_output(port, target);
        } else {
            from.copy_output(port, target);
        }
        if let Outlet::Gate(gate) = *outlet {
            gates[gate].gate.route();
        }
    };
    for outlet in others {
        give(outlet, false);
    }
    give(last, true);
}

/// Runs user code: a panic becomes an error, and both are named after the operator.
pub(crate) fn guard<R>(operator: &str, f: impl FnOnce() -> Result<R>) -> Result<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|e| e.in_operator(operator)),
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "of an unknown kind".to_owned());
            Err(Error::new(ErrorKind::User, format!("panicked: {message}")).in_operator(operator))
        }
    }
}

pub(crate) fn earliest(
    a: Option<ProcessingTime>,
    b: Option<ProcessingTime>,
) -> Option<ProcessingTime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
