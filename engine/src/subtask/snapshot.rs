//! What happens in a subtask at a barrier: one procedure, from the cut to the capture.

use thalweg_checkpoint::{Barrier, BarrierKind, SplitState};

use super::effect::{Capture, Effect};
use super::step::{Head, Phase, Subtask};
use crate::error::Result;
use crate::metrics::Counter;

/// The number of records of a split, among its generators. No operator can have this name.
pub(crate) const RECORDS_READ: &str = "records read";

impl Subtask {
    /// Takes the cut: called when the chain is empty, between two elements of the input.
    pub(super) fn take_barrier(&mut self, barrier: Barrier) -> Result<()> {
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
        self.effects.push_back(Effect::Capture(Box::new(Capture {
            id: barrier.id,
            operators,
            splits,
            committables: self.outstanding.acknowledge(barrier.id),
            counters: self.counters(),
        })));
        // (5) Behind a stop no source is read any more. What reads channels goes on: if the stop
        //     comes to nothing, it is tried again with another barrier.
        if barrier.kind == BarrierKind::Stop && self.is_source() {
            self.phase = Phase::Stopped;
        }
        Ok(())
    }

    fn snapshot_splits(&mut self) -> Result<Vec<SplitState>> {
        let Head::Source(source) = &mut self.head else { return Ok(Vec::new()) };
        let positions = source.head.positions();
        let mut generators: Vec<Vec<(String, Vec<u8>)>> = vec![Vec::new(); positions.len()];
        self.chain.each_origin(|name, origin| {
            for (split, generators) in generators.iter_mut().enumerate() {
                generators.push((name.to_owned(), origin.snapshot_split(split)));
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
