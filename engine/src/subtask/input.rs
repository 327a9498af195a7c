//! The input gate: chooses the next channel, checks cuts, records, and merges watermarks.
//!
//! # Invariants
//! * I1: the merged watermark is the least among active channels and never falls. It is `MAX` only
//!   when all channels have ended: an idle one may still deliver records.
//! * I2: a channel that has delivered the barrier of the current alignment is not read.
//! * I3: a barrier's count equals the elements taken from its channel before it.
//! * I4: a channel that is recorded is read through its buffer alone (I2 of `in_flight.rs`).

use std::sync::Arc;

use thalweg_checkpoint::{Aligner, Alignment, Barrier, CheckpointId, CheckpointMode};

use crate::channel::{AnyBatch, Receiver, StreamElement};
use crate::decider::Decider;
use crate::error::{Error, Result};
use crate::in_flight::{Edge, InFlight};
use crate::planted::planted;
use crate::time::{EventTime, ProcessingTime};

/// All channels into a subtask.
pub(crate) struct InputGate {
    channels: Vec<Input>,
    aligner: Aligner,
    merged: EventTime,
    is_idle: bool,
    /// Channels that can be read, kept to save an allocation per choice.
    ready: Vec<usize>,
    /// The edges, if all of them can be recorded.
    edges: Vec<Arc<Edge>>,
    /// What was recorded of each edge.
    recorded: Vec<Vec<u8>>,
}

struct Input {
    receiver: Receiver,
    /// Its edge, as a position.
    edge: usize,
    watermark: EventTime,
    is_idle: bool,
}

/// What the gate found.
pub(crate) enum Taken {
    /// A batch for the head of the chain; give the emptied one back with `recycle`.
    Batch { batch: AnyBatch, channel: usize },
    /// The element changed nothing that the chain must know beyond the watermark that `merge`
    /// gives.
    Control,
    /// All channels have delivered this barrier.
    Aligned(Barrier),
    /// Nothing can be read now.
    Nothing,
}

impl InputGate {
    /// The gate of these channels, each with the position of its edge. Without edges no early cut
    /// is taken.
    pub(crate) fn new(
        receivers: Vec<(usize, Receiver)>,
        edges: Vec<Arc<Edge>>,
        mode: CheckpointMode,
    ) -> Self {
        let aligner = Aligner::new(receivers.len(), mode);
        let input = |(edge, receiver)| {
            let watermark = EventTime::MIN;
            Input { receiver, edge, watermark, is_idle: false }
        };
        InputGate {
            channels: receivers.into_iter().map(input).collect(),
            recorded: vec![Vec::new(); edges.len()],
            edges,
            aligner,
            merged: EventTime::MIN,
            is_idle: false,
            ready: Vec::new(),
        }
    }

    /// The least watermark of the active channels.
    pub(crate) fn watermark(&self) -> EventTime {
        self.merged
    }

    /// True if no channel is active.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// Takes the next element from a channel that the decider chooses.
    pub(crate) fn take(&mut self, decider: &mut dyn Decider, now: ProcessingTime) -> Result<Taken> {
        self.ready.clear();
        for (i, channel) in self.channels.iter().enumerate() {
            let is_ready = match self.aligner.is_recorded(i) {
                true => !channel.receiver.buffer().is_empty(),
                false => channel.receiver.is_ready() && !self.is_blocked(i),
            };
            if is_ready {
                self.ready.push(i);
            }
        }
        let index = match self.ready.len() {
            0 => return Ok(Taken::Nothing),
            1 => self.ready[0],
            count => self.ready[decider.choose(count)],
        };
        let channel = &mut self.channels[index];
        let Some(element) = channel.receiver.take(now) else { return Ok(Taken::Nothing) };
        match element {
            StreamElement::Batch { batch, watermark, .. } => {
                channel.is_idle = false;
                if let Some(watermark) = watermark {
                    self.raise(index, watermark)?;
                }
                Ok(Taken::Batch { batch, channel: index })
            }
            StreamElement::Watermark(watermark) => {
                channel.is_idle = false;
                self.raise(index, watermark)?;
                Ok(Taken::Control)
            }
            StreamElement::Idle => {
                channel.is_idle = true;
                Ok(Taken::Control)
            }
            StreamElement::Barrier(barrier) => self.handle_barrier(index, barrier),
        }
    }

    fn is_blocked(&self, channel: usize) -> bool {
        self.aligner.is_blocked(channel) && !planted!(NoAlignment)
    }

    fn raise(&mut self, index: usize, watermark: EventTime) -> Result<()> {
        let channel = &mut self.channels[index];
        if watermark < channel.watermark {
            return Err(Error::bug(format!(
                "the watermark of channel {index} fell from {} to {watermark}",
                channel.watermark
            )));
        }
        channel.watermark = watermark;
        Ok(())
    }

    /// Recomputes the merged watermark, once the records before it have been processed; true if
    /// anything changed.
    pub(crate) fn merge(&mut self) -> bool {
        let before = (self.merged, self.is_idle);
        let mut active = self.channels.iter().filter(|c| !c.is_idle).map(|c| c.watermark);
        let least = match planted!(WatermarkMaximum) {
            true => active.max(),
            false => active.next().map(|first| active.fold(first, EventTime::min)),
        };
        // Some are idle and the others have ended: time stands still, it has not ended.
        let is_any_idle = || self.channels.iter().any(|channel| channel.is_idle);
        let least = least.filter(|least| *least < EventTime::MAX || !is_any_idle());
        self.is_idle = least.is_none();
        // When the last input goes idle the watermark stays where it is.
        self.merged = self.merged.max(least.unwrap_or(self.merged));
        before != (self.merged, self.is_idle)
    }

    fn handle_barrier(&mut self, index: usize, barrier: Barrier) -> Result<Taken> {
        let received = self.channels[index].receiver.received();
        if barrier.sent != received {
            return Err(Error::bug(format!(
                "I3: barrier {} on channel {index} was sent after {} elements, but {received} \
                 were received",
                barrier.id, barrier.sent
            )));
        }
        let alignment = self
            .aligner
            .handle_barrier(index, barrier.id, barrier.kind)
            .map_err(|e| Error::bug(e.to_string()))?;
        Ok(match alignment {
            Alignment::Aligned { id, kind } => Taken::Aligned(Barrier { id, kind, sent: 0 }),
            Alignment::Ignored
            | Alignment::Waiting
            | Alignment::Released
            | Alignment::Recorded { .. } => Taken::Control,
        })
    }

    /// True if all that comes in can be recorded.
    pub(crate) fn can_record(&self) -> bool {
        !self.edges.is_empty()
    }

    /// The edge of a channel, if what it delivers can be recorded.
    pub(crate) fn edge(&self, channel: usize) -> Option<&Arc<Edge>> {
        self.edges.get(self.channels[channel].edge)
    }

    /// The cut of this checkpoint is taken now: begins to record what belongs to it. False if the
    /// checkpoint has been given up.
    pub(crate) fn begin_recording(&mut self, id: CheckpointId) -> Result<bool> {
        if !self.can_record() || !self.aligner.cut_early(id) {
            return Ok(false);
        }
        self.recorded.iter_mut().for_each(Vec::clear);
        for (i, channel) in self.channels.iter().enumerate() {
            if !self.aligner.is_recorded(i) {
                continue;
            }
            // What an earlier recording has left.
            for element in channel.receiver.buffer() {
                if let StreamElement::Batch { batch, .. } = element {
                    let codec = self.edges[channel.edge].codec;
                    codec.encode(&**batch, &mut self.recorded[channel.edge])?;
                }
            }
        }
        Ok(true)
    }

    /// Records what has come on channels that have not delivered the barrier of this checkpoint.
    /// False when there is nothing more to record: all have, or it was given up.
    pub(crate) fn record(&mut self, id: CheckpointId) -> Result<bool> {
        for channel in 0..self.channels.len() {
            if self.aligner.recording() == Some(id) && self.aligner.is_recorded(channel) {
                self.record_channel(channel, id)?;
            }
        }
        Ok(self.aligner.recording() == Some(id))
    }

    fn record_channel(&mut self, index: usize, id: CheckpointId) -> Result<()> {
        loop {
            if let Some(barrier) = self.channels[index].receiver.take_barrier(id) {
                self.handle_barrier(index, barrier)?;
                if barrier.id == id {
                    return Ok(());
                }
            }
            let Input { receiver, edge, .. } = &mut self.channels[index];
            match receiver.pull() {
                None => return Ok(()),
                Some(StreamElement::Batch { batch, .. }) => {
                    self.edges[*edge].codec.encode(&**batch, &mut self.recorded[*edge])?;
                }
                Some(_) => {}
            }
        }
    }

    /// What was recorded.
    pub(crate) fn take_recorded(&mut self) -> Vec<InFlight> {
        let recorded = self.edges.iter().zip(&mut self.recorded);
        let recorded = recorded.filter(|(_, bytes)| !bytes.is_empty());
        let take = |(edge, bytes): (&Arc<Edge>, &mut Vec<u8>)| InFlight {
            edge: edge.clone(),
            bytes: std::mem::take(bytes),
        };
        recorded.map(take).collect()
    }

    /// The coordinator gave a checkpoint up.
    pub(crate) fn handle_abort(&mut self, id: CheckpointId) {
        self.aligner.handle_abort(id);
    }

    /// Gives an emptied batch back to where it came from.
    pub(crate) fn recycle(&self, channel: usize, batch: AnyBatch) {
        self.channels[channel].receiver.recycle(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::{ChannelBounds, channel};
    use crate::park::Waker;
    use crate::sim::Random;

    #[test]
    fn time_does_not_end_while_a_channel_is_idle() {
        let open = || channel(ChannelBounds::default(), Waker::default(), Waker::default());
        let (mut ended, ended_receiver) = open();
        let (mut idle, idle_receiver) = open();
        let mut gate = InputGate::new(
            vec![(0, ended_receiver), (0, idle_receiver)],
            Vec::new(),
            CheckpointMode::ExactlyOnce,
        );
        let merged = |gate: &mut InputGate| {
            let (mut random, now) = (Random::new(1), ProcessingTime::default());
            while !matches!(gate.take(&mut random, now), Ok(Taken::Nothing)) {}
            gate.merge();
            (gate.watermark(), gate.is_idle())
        };
        let at = EventTime::from_millis;
        ended.send(StreamElement::Watermark(at(7)));
        idle.send(StreamElement::Watermark(at(5)));
        assert_eq!(merged(&mut gate), (at(5), false));
        idle.send(StreamElement::Idle);
        assert_eq!(merged(&mut gate), (at(7), false));
        ended.send(StreamElement::Watermark(EventTime::MAX));
        assert_eq!(merged(&mut gate), (at(7), true));
        idle.send(StreamElement::Watermark(at(9)));
        assert_eq!(merged(&mut gate), (at(9), false));
        idle.send(StreamElement::Watermark(EventTime::MAX));
        assert_eq!(merged(&mut gate), (EventTime::MAX, false));
    }
}
