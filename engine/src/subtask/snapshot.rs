//! What happens in a subtask at a barrier: one procedure, from the cut to the capture; and after
//! it, in steps: the state that was frozen is handed over.

use thalweg_checkpoint::{BarrierKind, SplitState};

use super::chain::{Chain, guard};
use super::effect::{Capture, Effect};
use super::step::{Cut, Head, Phase, Subtask};
use crate::error::Result;
use crate::in_flight::InFlight;
use crate::metrics::Counter;

/// The number of records of a split, among its generators. No operator can have this name.
pub(crate) const RECORDS_READ: &str = "records read";

/// How much of the last snapshot has been handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Swept {
    /// All of it.
    All,
    /// Some.
    Some,
    /// The rest has to wait until what was handed over has been written.
    Blocked,
}

impl Chain {
    /// Hands over up to `entries` entries of each operator's last snapshot. Where there are none,
    /// tables take over what a restore has left in runs.
    pub(crate) fn sweep(&mut self, entries: usize) -> Result<Swept> {
        let mut swept = Swept::All;
        for node in self.nodes.iter_mut().filter(|node| node.is_sweeping) {
            if node.stream.as_ref().is_some_and(|stream| stream.is_full()) {
                // Those who write are behind: what is handed over would only wait there.
                swept = Swept::Blocked;
                continue;
            }
            let mut budget = entries;
            guard(&node.name, || {
                node.operator.each_table(&mut |table| table.sweep(&mut budget))?;
                match budget < entries {
                    true => Ok(()),
                    false => node.operator.each_table(&mut |table| table.load(&mut budget)),
                }
            })?;
            // Only a table that has something takes from the budget.
            node.is_sweeping = budget < entries;
            if node.is_sweeping && swept == Swept::All {
                swept = Swept::Some;
            }
        }
        Ok(swept)
    }
}

impl Subtask {
    /// Takes the cut: called when the chain is empty, between two elements of the input; an early
    /// one also when the first operator has left a part of its batch.
    pub(super) fn take_barrier(&mut self, Cut { barrier, is_early, .. }: Cut) -> Result<()> {
        // (0) An early cut: from here on what channels deliver belongs to it. If the checkpoint
        //     has been given up in the meantime there is nothing to do.
        if let Head::Channels(gate) = &mut self.head
            && is_early
        {
            // That of an older checkpoint can only have been given up.
            self.effects.extend(self.recording.take().map(Effect::Capture));
            if !gate.begin_recording(barrier.id)? {
                return Ok(());
            }
        }
        // (1) The barrier leaves behind everything that was given out before it. That it leaves
        //     before the state is captured lets the next subtask begin its alignment.
        self.chain.send_barrier(barrier);
        // (2) State and committables of every operator. What fails here fails the job: half a
        //     cut cannot be taken back.
        let parts = self.chain.snapshot(barrier.id)?;
        let mut operators = Vec::new();
        for (node, (part, committables)) in self.chain.nodes.iter().zip(parts) {
            operators.push((node.name.clone(), part, node.begun.millis()));
            if !committables.is_empty() {
                self.outstanding.add(&node.name, committables);
            }
        }
        // (3) Positions and generators of the splits.
        let splits = self.snapshot_splits()?;
        // (4) The capture is made durable elsewhere; the acknowledgement follows from there.
        //     It carries all committables of checkpoints that did not come about, too.
        let capture = Box::new(Capture {
            id: barrier.id,
            operators,
            splits,
            committables: self.outstanding.acknowledge(barrier.id),
            counters: self.counters(),
            in_flight: self.untaken()?,
        });
        match is_early && !self.is_source() {
            true => self.recording = Some(capture),
            false => self.effects.push_back(Effect::Capture(capture)),
        }
        // (5) Behind a stop no source is read any more. What reads channels goes on: if the stop
        //     comes to nothing, it is tried again with another barrier.
        if barrier.kind == BarrierKind::Stop && self.is_source() {
            self.phase = Phase::Stopped;
        }
        Ok(())
    }

    /// Records what has come for an early cut; hands the capture over when there is no more.
    pub(super) fn record(&mut self) -> Result<()> {
        let Some(capture) = &self.recording else { return Ok(()) };
        let Head::Channels(gate) = &mut self.head else { return Ok(()) };
        if !gate.record(capture.id)?
            && let Some(mut capture) = self.recording.take()
        {
            // Of a checkpoint that was given up, too: whoever writes it removes what it left.
            capture.in_flight.extend(gate.take_recorded());
            self.effects.push_back(Effect::Capture(capture));
        }
        Ok(())
    }

    /// What the first operator has left of its batch, then restored records that were not taken.
    fn untaken(&mut self) -> Result<Vec<InFlight>> {
        let mut in_flight = Vec::new();
        if let Some(edge) = &self.feeding
            && let Some(first) = self.chain.nodes.first_mut()
            && first.operator.input_len() > 0
        {
            let mut bytes = Vec::new();
            edge.codec.encode(first.operator.input(), &mut bytes)?;
            in_flight.push(InFlight { edge: edge.clone(), bytes });
        }
        for restored in &self.restored {
            let mut bytes = Vec::new();
            restored.edge.codec.encode(&*restored.batch, &mut bytes)?;
            in_flight.push(InFlight { edge: restored.edge.clone(), bytes });
        }
        Ok(in_flight)
    }

    fn snapshot_splits(&mut self) -> Result<Vec<SplitState>> {
        let Head::Source(source) = &mut self.head else { return Ok(Vec::new()) };
        let positions = source.head.positions();
        let mut generators: Vec<Vec<(String, Vec<u8>)>> = vec![Vec::new(); positions.len()];
        self.chain.each_origin(|name, origin| {
            for (split, generators) in generators.iter_mut().enumerate() {
                generators.push((name.to_owned(), origin.snapshot_split(split)?));
            }
            Ok(())
        })?;
        let mut splits = Vec::with_capacity(positions.len());
        for ((split, restored), mut generators) in positions.into_iter().zip(generators) {
            let mut read = Vec::new();
            thalweg_state::codec::encode(&restored.read, &mut read)?;
            generators.push((RECORDS_READ.to_owned(), read));
            let mut generator = Vec::new();
            thalweg_state::codec::encode(&generators, &mut generator)?;
            splits.push(SplitState {
                source: source.name.clone(),
                split,
                position: restored.position,
                generator,
                finished: restored.is_finished,
            });
        }
        Ok(splits)
    }

    /// Counters of all operators, as `operator/counter`.
    fn counters(&self) -> Vec<(String, u64)> {
        let mut counters = Vec::new();
        let mut add = |name: &str, metrics: &crate::metrics::OperatorMetrics| {
            for counter in Counter::ALL {
                let value = metrics.value(counter);
                if value > 0 {
                    counters.push((format!("{name}/{}", counter.name()), value));
                }
            }
        };
        if let Head::Source(source) = &self.head {
            add(&source.name, &source.metrics);
        }
        for node in &self.chain.nodes {
            add(&node.name, &node.metrics);
        }
        counters
    }
}
