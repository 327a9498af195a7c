//! The output gate: partitions records among channels, fills batches, and sends control elements
//! behind them.
//!
//! # Invariants
//! * I1: a watermark is sent on a channel only after every record that came before it.
//! * I2: a gate is given records only when it has room, so what it holds is bounded by one batch
//!   in the making and one batch's worth of waiting messages per channel; and by what is in the
//!   chain, where a cut is pressing.
//! * I3: watermarks on a channel never fall.

use std::any::Any;

use thalweg_checkpoint::Barrier;
use thalweg_state::{Element, KeyGroup, KeyGroupCount};

use crate::batch::{Batch, Behind};
use crate::channel::{Sender, StreamElement};
use crate::graph::Partition;
use crate::planted::planted;
use crate::time::EventTime;

/// For how many steps and watermarks a gate waits for a full batch that carries its watermark.
const WATERMARK_PATIENCE: u32 = 8;

/// An output gate without its record type.
pub(crate) trait ErasedGate: Send {
    /// The batch to fill before calling [`route`](ErasedGate::route), as `Batch<T>`.
    fn incoming(&mut self) -> &mut dyn Any;
    /// Distributes the incoming batch over the channels.
    fn route(&mut self);
    /// True if every channel takes more.
    fn has_room(&mut self) -> bool;
    /// About how many records it takes before a channel is full.
    fn room(&self) -> usize;
    /// Notes a watermark, to be sent behind the records that came before it.
    fn set_watermark(&mut self, watermark: EventTime, is_idle: bool);
    /// Notes that a step has ended: a watermark is not held back for many of them.
    fn tick(&mut self);
    /// Sends everything that is held back: the producer has nothing more to do.
    fn flush(&mut self);
    /// Sends everything that is held back to receivers that have nothing to do.
    fn flush_starving(&mut self);
    /// Sends everything, then the barrier, on every channel.
    fn send_barrier(&mut self, barrier: Barrier);
}

/// An output gate.
pub(crate) struct Gate<T> {
    partition: Partition,
    key_groups: KeyGroupCount,
    incoming: Batch<T>,
    lanes: Vec<Lane<T>>,
    /// Key group to channel.
    lane_of_group: Vec<u16>,
    next_lane: usize,
    watermark: EventTime,
    is_idle: bool,
    /// Steps and watermarks since a watermark is held back.
    held: u32,
}

/// One channel and the batch that is being filled for it.
struct Lane<T> {
    sender: Sender,
    buffer: Batch<T>,
    watermark: EventTime,
    is_idle: bool,
}

impl<T: Element> Gate<T> {
    pub(crate) fn new(
        partition: Partition,
        key_groups: KeyGroupCount,
        senders: Vec<Sender>,
    ) -> Self {
        let count = senders.len();
        let lane_of_group = (0..key_groups.get())
            .map(|group| thalweg_state::subtask_of(KeyGroup::new(group), count, key_groups) as u16)
            .collect();
        let lane = |sender| Lane {
            sender,
            buffer: Batch::default(),
            watermark: EventTime::MIN,
            is_idle: false,
        };
        Gate {
            partition,
            key_groups,
            incoming: Batch::default(),
            lanes: senders.into_iter().map(lane).collect(),
            lane_of_group,
            next_lane: 0,
            watermark: EventTime::MIN,
            is_idle: false,
            held: 0,
        }
    }

    fn route_by_hash(&mut self) {
        let incoming = &mut self.incoming;
        let timed = !incoming.times.is_empty();
        if incoming.ids.is_empty() {
            // Records with and without identities come together behind a union.
            self.lanes.iter_mut().for_each(|lane| lane.buffer.ids.clear());
        }
        debug_assert_eq!(incoming.hashes.len(), incoming.len(), "keyed batches carry hashes");
        if incoming.behind.is_empty() && incoming.ids.is_empty() {
            for (i, value) in incoming.values.drain(..).enumerate() {
                let hash = incoming.hashes[i];
                let group = KeyGroup::of(hash, self.key_groups);
                let buffer = &mut self.lanes[self.lane_of_group[group.index()] as usize].buffer;
                buffer.values.push(value);
                buffer.hashes.push(hash);
                if timed {
                    buffer.times.push(incoming.times[i]);
                }
            }
            return;
        }
        let mut marks = incoming.behind.iter().peekable();
        for (i, value) in incoming.values.drain(..).enumerate() {
            let hash = incoming.hashes[i];
            let group = KeyGroup::of(hash, self.key_groups);
            let buffer = &mut self.lanes[self.lane_of_group[group.index()] as usize].buffer;
            if let Some(mark) = marks.next_if(|mark| mark.index as usize == i) {
                let index = buffer.values.len() as u32;
                buffer.behind.push(Behind { index, watermark: mark.watermark });
            }
            if let Some(&id) = incoming.ids.get(i)
                && buffer.ids.len() == buffer.values.len()
            {
                buffer.ids.push(id);
            }
            buffer.values.push(value);
            buffer.hashes.push(hash);
            if timed {
                buffer.times.push(incoming.times[i]);
            }
        }
    }

    fn route_whole(&mut self, lane: usize) {
        let buffer = &mut self.lanes[lane].buffer;
        if buffer.is_empty() {
            std::mem::swap(buffer, &mut self.incoming);
        } else {
            buffer.append(&mut self.incoming);
        }
    }
}

impl<T: Element> Lane<T> {
    /// Sends the buffer, and with it a watermark that is due.
    fn send_buffer(&mut self, watermark: EventTime) {
        let due = (watermark > self.watermark).then_some(watermark);
        if !self.buffer.is_empty() {
            let records = self.buffer.len();
            let empty = match self.sender.recycled() {
                Some(batch) => batch,
                None => Box::new(Batch::<T>::default()),
            };
            let mut batch = empty;
            let typed: &mut Batch<T> =
                batch.downcast_mut().expect("a channel returns batches of its own type");
            std::mem::swap(typed, &mut self.buffer);
            self.sender.send(StreamElement::Batch { batch, records, watermark: due });
            self.is_idle = false;
        } else if let Some(watermark) = due {
            self.sender.send(StreamElement::Watermark(watermark));
            self.is_idle = false;
        }
        self.watermark = self.watermark.max(watermark);
    }

    fn flush(&mut self, watermark: EventTime, is_idle: bool) {
        self.send_buffer(watermark);
        if is_idle != self.is_idle {
            self.is_idle = is_idle;
            self.sender.send(match is_idle {
                true => StreamElement::Idle,
                false => StreamElement::Watermark(self.watermark),
            });
        }
    }
}

impl<T: Element> ErasedGate for Gate<T> {
    fn incoming(&mut self) -> &mut dyn Any {
        &mut self.incoming
    }

    fn route(&mut self) {
        match self.partition {
            Partition::Hash if self.lanes.len() > 1 => {
                self.route_by_hash();
                self.incoming.clear();
            }
            Partition::Forward | Partition::Global | Partition::Hash => self.route_whole(0),
            Partition::Rebalance => {
                self.route_whole(self.next_lane);
                self.next_lane = (self.next_lane + 1) % self.lanes.len();
            }
            Partition::Broadcast => {
                for lane in &mut self.lanes[1..] {
                    lane.buffer.append(&mut self.incoming.clone());
                }
                self.route_whole(0);
            }
        }
        for lane in &mut self.lanes {
            if lane.buffer.len() >= lane.sender.batch_records() {
                lane.send_buffer(self.watermark);
            }
        }
    }

    fn has_room(&mut self) -> bool {
        // Every lane is asked: asking also sends what waits for room.
        let mut has_room = true;
        for lane in &mut self.lanes {
            has_room &= lane.sender.flush_waiting() && lane.sender.has_room();
        }
        has_room
    }

    fn room(&self) -> usize {
        let least = self.lanes.iter().map(|lane| lane.sender.room()).min().unwrap_or(usize::MAX);
        match self.partition {
            Partition::Hash => least.saturating_mul(self.lanes.len()),
            _ => least,
        }
    }

    fn set_watermark(&mut self, watermark: EventTime, is_idle: bool) {
        let was_idle = std::mem::replace(&mut self.is_idle, is_idle);
        if watermark > self.watermark {
            self.watermark = watermark;
            if planted!(WatermarkOvertakes) {
                for lane in &mut self.lanes {
                    lane.watermark = watermark;
                    lane.sender.send(StreamElement::Watermark(watermark));
                }
            }
        }
        if watermark == EventTime::MAX || was_idle != is_idle {
            self.flush();
        }
        self.tick();
    }

    fn tick(&mut self) {
        if self.lanes.iter().all(|lane| lane.watermark == self.watermark) {
            self.held = 0;
            return;
        }
        self.held += 1;
        if self.held >= WATERMARK_PATIENCE {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.held = 0;
        for lane in &mut self.lanes {
            lane.flush(self.watermark, self.is_idle);
        }
    }

    fn flush_starving(&mut self) {
        for lane in &mut self.lanes {
            if lane.sender.is_starving() {
                lane.flush(self.watermark, self.is_idle);
            }
        }
    }

    fn send_barrier(&mut self, barrier: Barrier) {
        self.flush();
        for lane in &mut self.lanes {
            lane.sender.send_barrier(barrier);
        }
    }
}
