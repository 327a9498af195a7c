//! Bounded channels between two subtasks, and what travels in them.
//!
//! One channel connects one upstream subtask with one downstream subtask and keeps order. It is
//! bounded in messages, in records, and in the time the receiver needs to drain it, so that a
//! barrier passes quickly under backpressure. Emptied batches travel back to the sender, whose
//! thread allocated them.
//!
//! # Invariants
//! * I1: elements arrive in the order in which they were sent.
//! * I2: a barrier's `sent` equals the number of elements the receiver has taken before it.
//! * I3: what the receiver has pulled into its buffer counts as in flight until it is taken. A
//!   barrier in the buffer is its last element.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel as crossbeam;
use thalweg_checkpoint::{Barrier, CheckpointId};

use crate::batch::BATCH_RECORDS;
use crate::park::Waker;
use crate::time::{EventTime, ProcessingTime};

/// A batch whose record type is forgotten; see `subtask/erased.rs`.
pub(crate) type AnyBatch = Box<dyn Any + Send>;

/// What travels in a channel. Legal order: any, but nothing follows a watermark of `MAX` except
/// barriers, and watermarks never fall.
pub(crate) enum StreamElement {
    /// Records, and the watermark that holds after them.
    Batch { batch: AnyBatch, records: usize, watermark: Option<EventTime> },
    /// No on-time record at or before this time will follow.
    Watermark(EventTime),
    /// The sender makes no promise for now and is to be left out of the minimum.
    Idle,
    /// The cut of a checkpoint.
    Barrier(Barrier),
}

impl StreamElement {
    /// How many elements this message counts for.
    fn count(&self) -> u64 {
        match self {
            StreamElement::Batch { records, watermark, .. } => {
                *records as u64 + u64::from(watermark.is_some())
            }
            StreamElement::Watermark(_) | StreamElement::Idle => 1,
            StreamElement::Barrier(_) => 0,
        }
    }

    fn records(&self) -> usize {
        match self {
            StreamElement::Batch { records, .. } => *records,
            _ => 0,
        }
    }
}

/// The bounds of a channel.
#[derive(Clone, Copy, Debug)]
pub struct ChannelBounds {
    /// Messages in flight at the most.
    pub messages: usize,
    /// Records in flight at the most.
    pub records: usize,
    /// Time in which the receiver should be able to drain what is in flight, in milliseconds.
    pub drain_ms: i64,
}

impl Default for ChannelBounds {
    fn default() -> Self {
        ChannelBounds { messages: 8, records: 8 * BATCH_RECORDS, drain_ms: 20 }
    }
}

/// Fewest records that may be in flight, however slow the receiver is.
const LEAST_RECORDS: usize = 16;
/// Records that may be in flight while nothing is known of the receiver's speed.
const FIRST_RECORDS: usize = 256;
/// What may be in flight to a receiver that keeps up, as a multiple of what it takes in a drain
/// time: room for its speed to rise.
const HEADROOM: usize = 4;

struct Flow {
    in_flight: AtomicUsize,
    limit: AtomicUsize,
}

/// The sending end: never blocks, never refuses. What does not fit waits in order, and the
/// subtask runs none of its operators until it has gone.
pub(crate) struct Sender {
    queue: crossbeam::Sender<StreamElement>,
    recycled: crossbeam::Receiver<AnyBatch>,
    waiting: VecDeque<StreamElement>,
    flow: Arc<Flow>,
    receiver: Waker,
    sent: u64,
}

/// The receiving end.
pub(crate) struct Receiver {
    queue: crossbeam::Receiver<StreamElement>,
    /// Elements that were pulled out of the queue before the subtask had use for them.
    buffer: VecDeque<StreamElement>,
    recycle: crossbeam::Sender<AnyBatch>,
    flow: Arc<Flow>,
    sender: Waker,
    received: u64,
    bounds: ChannelBounds,
    measured: Measured,
}

/// The receiver's drain rate, measured while the channel is never empty.
struct Measured {
    since: ProcessingTime,
    records: usize,
    ran_empty: bool,
}

/// A channel whose ends wake the given workers.
pub(crate) fn channel(bounds: ChannelBounds, sender: Waker, receiver: Waker) -> (Sender, Receiver) {
    let (queue_in, queue_out) = crossbeam::bounded(bounds.messages);
    let (recycle, recycled) = crossbeam::bounded(bounds.messages + 2);
    let flow = Arc::new(Flow {
        in_flight: AtomicUsize::new(0),
        limit: AtomicUsize::new(bounds.records.min(FIRST_RECORDS)),
    });
    let measured = Measured { since: ProcessingTime::default(), records: 0, ran_empty: true };
    (
        Sender {
            queue: queue_in,
            recycled,
            waiting: VecDeque::new(),
            flow: flow.clone(),
            receiver,
            sent: 0,
        },
        Receiver {
            queue: queue_out,
            buffer: VecDeque::new(),
            recycle,
            flow,
            sender,
            received: 0,
            bounds,
            measured,
        },
    )
}

impl Sender {
    /// Sends in order; what does not fit waits.
    pub(crate) fn send(&mut self, element: StreamElement) {
        self.sent += element.count();
        self.flow.in_flight.fetch_add(element.records(), Ordering::Relaxed);
        self.waiting.push_back(element);
        self.flush_waiting();
    }

    /// Sends a barrier with the count of what went before it.
    pub(crate) fn send_barrier(&mut self, barrier: Barrier) {
        let sent = self.sent;
        self.send(StreamElement::Barrier(Barrier { sent, ..barrier }));
    }

    /// Moves what waits into the channel; true if nothing waits any more.
    pub(crate) fn flush_waiting(&mut self) -> bool {
        let mut moved = false;
        while let Some(element) = self.waiting.pop_front() {
            match self.queue.try_send(element) {
                Ok(()) => moved = true,
                Err(crossbeam::TrySendError::Full(element)) => {
                    self.waiting.push_front(element);
                    break;
                }
                // The receiver is gone: the job is being torn down, nobody will miss this.
                Err(crossbeam::TrySendError::Disconnected(_)) => {}
            }
        }
        if moved {
            self.receiver.wake();
        }
        self.waiting.is_empty()
    }

    /// True if an operator may run that sends here.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.is_empty()
            && !self.queue.is_full()
            && self.flow.in_flight.load(Ordering::Relaxed) < self.flow.limit.load(Ordering::Relaxed)
    }

    /// How many records may be sent before the limit is reached.
    pub(crate) fn room(&self) -> usize {
        let limit = self.flow.limit.load(Ordering::Relaxed);
        limit.saturating_sub(self.flow.in_flight.load(Ordering::Relaxed))
    }

    /// How many records a batch should have now.
    #[inline]
    pub(crate) fn batch_records(&self) -> usize {
        (self.flow.limit.load(Ordering::Relaxed) / 2).clamp(1, BATCH_RECORDS)
    }

    /// True if the receiver has nothing left to take.
    pub(crate) fn is_starving(&self) -> bool {
        self.queue.is_empty() && self.waiting.is_empty()
    }

    /// An emptied batch that came back.
    pub(crate) fn recycled(&self) -> Option<AnyBatch> {
        self.recycled.try_recv().ok()
    }
}

impl Receiver {
    /// True if there is something to take.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        !self.buffer.is_empty() || !self.queue.is_empty()
    }

    /// The elements that were pulled and not taken.
    pub(crate) fn buffer(&self) -> &VecDeque<StreamElement> {
        &self.buffer
    }

    /// Moves the next element into the buffer and shows it; none behind a barrier.
    pub(crate) fn pull(&mut self) -> Option<&StreamElement> {
        if let Some(StreamElement::Barrier(_)) = self.buffer.back() {
            return None;
        }
        let element = self.queue.try_recv().ok()?;
        self.received += element.count();
        self.buffer.push_back(element);
        self.sender.wake();
        self.buffer.back()
    }

    /// Takes the barrier that is the last element of the buffer, ahead of what is before it, if
    /// its checkpoint is not after `id`.
    pub(crate) fn take_barrier(&mut self, id: CheckpointId) -> Option<Barrier> {
        let Some(&StreamElement::Barrier(barrier)) = self.buffer.back() else { return None };
        if barrier.id > id {
            return None;
        }
        self.buffer.pop_back();
        Some(barrier)
    }

    /// The next element.
    pub(crate) fn take(&mut self, now: ProcessingTime) -> Option<StreamElement> {
        let element = match self.buffer.pop_front() {
            Some(element) => element,
            None => {
                let element = self.queue.try_recv().ok()?;
                self.received += element.count();
                element
            }
        };
        let records = element.records();
        self.flow.in_flight.fetch_sub(records, Ordering::Relaxed);
        self.measure(records, now);
        self.sender.wake();
        Some(element)
    }

    /// How many elements have been taken or pulled.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Gives an emptied batch back to the sender.
    pub(crate) fn recycle(&self, batch: AnyBatch) {
        // A full return channel means that the sender has enough.
        let _ = self.recycle.try_send(batch);
    }

    fn measure(&mut self, records: usize, now: ProcessingTime) {
        let measured = &mut self.measured;
        measured.records += records;
        let is_empty = self.buffer.is_empty() && self.queue.is_empty();
        measured.ran_empty |= is_empty;
        let elapsed = now.millis() - measured.since.millis();
        let most = self.bounds.records;
        if elapsed < self.bounds.drain_ms {
            // All that may be in flight was taken in less than a drain time: the receiver is
            // faster than the limit lets it be.
            let limit = self.flow.limit.load(Ordering::Relaxed);
            if measured.records >= limit && limit < most {
                self.flow.limit.store((limit * 2).min(most), Ordering::Relaxed);
                *measured = Measured { since: now, records: 0, ran_empty: is_empty };
            }
            return;
        }
        let per_drain = measured.records as i64 * self.bounds.drain_ms / elapsed;
        let per_drain = usize::try_from(per_drain).unwrap_or(0);
        // A channel that ran empty shows how fast records come, not how fast they are taken.
        let limit = match measured.ran_empty {
            true => (per_drain * HEADROOM).clamp(FIRST_RECORDS.min(most), most),
            false => per_drain.clamp(LEAST_RECORDS.min(most), most),
        };
        self.flow.limit.store(limit, Ordering::Relaxed);
        self.measured = Measured { since: now, records: 0, ran_empty: is_empty };
    }
}
