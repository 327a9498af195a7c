//! The explorer's job: sources that send their elements round the sinks, over channels in order.

use std::collections::{BTreeSet, VecDeque};

use super::PendingManifest;
use crate::random::Random;
use crate::{
    Aligner, Alignment, Barrier, BarrierKind, CheckpointId, CheckpointMode, Outstanding,
    SplitState, SubtaskAck, SubtaskId, SubtaskSnapshot,
};

pub(super) const SOURCES_TASK: u32 = 0;
pub(super) const SINKS_TASK: u32 = 1;

/// A message to a subtask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Down {
    Trigger(CheckpointId, BarrierKind),
    Hurry(CheckpointId),
    Abort(CheckpointId),
    Completed(CheckpointId),
}

/// A message to the coordinator.
#[derive(Clone, Debug)]
pub(super) enum Up {
    Ack(SubtaskAck),
    Decline(SubtaskId, CheckpointId),
    Drained(SubtaskId),
    Published(CheckpointId),
    PublishFailed(CheckpointId),
    Committed(CheckpointId),
    CommitFailed(CheckpointId),
}

enum Item {
    Element(u64),
    Barrier(Barrier),
}

struct Source {
    elements: u64,
    position: u64,
    last_trigger: CheckpointId,
    stopped: bool,
}

struct Sink {
    aligner: Aligner,
    /// Elements taken from each channel, over all attempts.
    taken: Vec<u64>,
    outstanding: Outstanding,
    /// A snapshot that was taken early, and the elements recorded for it: channel and number.
    early: Option<(SubtaskSnapshot, Vec<(u8, u64)>)>,
}

impl Sink {
    fn take(&mut self, attempt: u8, channel: usize, number: u64) {
        self.taken[channel] += 1;
        let committable = [&[attempt, channel as u8][..], &number.to_le_bytes()];
        self.outstanding.add("sink", vec![committable.concat()]);
    }

    fn snapshot(&mut self, id: CheckpointId) -> SubtaskSnapshot {
        SubtaskSnapshot {
            committables: self.outstanding.acknowledge(id),
            counters: self.taken.iter().map(|count| (String::new(), *count)).collect(),
            ..SubtaskSnapshot::default()
        }
    }
}

pub(super) struct Subtasks {
    attempt: u8,
    sources: Vec<Source>,
    sinks: Vec<Sink>,
    /// By source, then by sink: what was sent, and what is under way.
    channels: Vec<Vec<(u64, VecDeque<Item>)>>,
}

impl Subtasks {
    pub(super) fn new(elements: &[u64], sinks: usize, attempt: u8) -> Self {
        let source = |&elements| Source {
            elements,
            position: 0,
            last_trigger: CheckpointId(0),
            stopped: false,
        };
        let sink = || Sink {
            aligner: Aligner::new(elements.len(), CheckpointMode::ExactlyOnce),
            taken: vec![0; elements.len()],
            outstanding: Outstanding::new(),
            early: None,
        };
        let channel = || (0, VecDeque::new());
        let channels_of = || (0..sinks).map(|_| channel()).collect();
        Self {
            attempt,
            sources: elements.iter().map(source).collect(),
            sinks: (0..sinks).map(|_| sink()).collect(),
            channels: elements.iter().map(|_| channels_of()).collect(),
        }
    }

    pub(super) fn restore(&mut self, manifest: &PendingManifest) {
        for record in &manifest.subtasks {
            let index = record.subtask.index as usize;
            if record.subtask.task == SOURCES_TASK {
                self.sources[index].position = position_of(&record.snapshot);
            } else {
                let counters = record.snapshot.counters.iter();
                self.sinks[index].taken = counters.map(|(_, count)| *count).collect();
                for (channel, number) in in_flight(&record.snapshot) {
                    self.sinks[index].take(self.attempt, usize::from(channel), number);
                }
            }
        }
        for (source, channels) in self.channels.iter_mut().enumerate() {
            for (sink, channel) in channels.iter_mut().enumerate() {
                channel.0 = self.sinks[sink].taken[source];
            }
        }
    }

    /// A source sends an element, or says that it has none.
    pub(super) fn step_source(&mut self, random: &mut Random, up: &mut Vec<Up>) {
        let index = random.below(self.sources.len() as u64) as usize;
        let source = &mut self.sources[index];
        if source.stopped {
            return;
        }
        if source.position == source.elements {
            // It says so again and again: a message may be lost.
            if random.chance(20) {
                up.push(Up::Drained(SubtaskId { task: SOURCES_TASK, index: index as u32 }));
            }
            return;
        }
        let sink = (source.position % self.sinks.len() as u64) as usize;
        let (sent, queue) = &mut self.channels[index][sink];
        queue.push_back(Item::Element(source.position));
        (source.position, *sent) = (source.position + 1, *sent + 1);
    }

    /// A sink reads one item from a channel that is not blocked.
    pub(super) fn step_sink(&mut self, random: &mut Random, up: &mut Vec<Up>) {
        let index = random.below(self.sinks.len() as u64) as usize;
        let channel = random.below(self.sources.len() as u64) as usize;
        let sink = &mut self.sinks[index];
        if sink.aligner.is_blocked(channel) {
            return;
        }
        let barrier = match self.channels[channel][index].1.pop_front() {
            None => return,
            Some(Item::Element(number)) => {
                sink.take(self.attempt, channel, number);
                if sink.aligner.is_recorded(channel)
                    && let Some((_, recorded)) = &mut sink.early
                {
                    recorded.push((channel as u8, number));
                }
                return;
            }
            Some(Item::Barrier(barrier)) => barrier,
        };
        assert_eq!(barrier.sent, sink.taken[channel], "elements got lost in the channel");
        let answer = sink.aligner.handle_barrier(channel, barrier.id, barrier.kind);
        let early = sink.early.take_if(|_| sink.aligner.recording().is_none());
        let (id, payload) = match answer.expect("channels keep their order") {
            Alignment::Aligned { id, .. } => (id, sink.snapshot(id)),
            Alignment::Recorded { id } => {
                let (mut payload, recorded) = early.expect("a snapshot was taken");
                payload.splits.extend((!recorded.is_empty()).then(|| recording(&recorded)));
                (id, payload)
            }
            _ => return,
        };
        let subtask = SubtaskId { task: SINKS_TASK, index: index as u32 };
        if random.chance(4) {
            up.push(Up::Decline(subtask, id));
            return;
        }
        up.push(Up::Ack(SubtaskAck { subtask, id, payload }));
    }

    pub(super) fn deliver(&mut self, subtask: SubtaskId, message: Down, up: &mut Vec<Up>) {
        let index = subtask.index as usize;
        match (message, subtask.task) {
            (Down::Trigger(id, kind), _) => self.cut_source(subtask, id, kind, up),
            (Down::Hurry(id), SOURCES_TASK) => {
                self.cut_source(subtask, id, BarrierKind::Checkpoint, up);
            }
            (Down::Hurry(id), _) => {
                let sink = &mut self.sinks[index];
                if sink.aligner.recording() != Some(id) && sink.aligner.cut_early(id) {
                    sink.early = Some((sink.snapshot(id), Vec::new()));
                }
            }
            (Down::Abort(id), SINKS_TASK) => {
                self.sinks[index].aligner.handle_abort(id);
            }
            (Down::Completed(id), SINKS_TASK) => self.sinks[index].outstanding.completed(id),
            _ => {}
        }
    }

    fn cut_source(
        &mut self,
        subtask: SubtaskId,
        id: CheckpointId,
        kind: BarrierKind,
        up: &mut Vec<Up>,
    ) {
        let index = subtask.index as usize;
        let source = &mut self.sources[index];
        if id <= source.last_trigger {
            return;
        }
        source.last_trigger = id;
        source.stopped |= kind == BarrierKind::Stop;
        for (sent, queue) in &mut self.channels[index] {
            queue.push_back(Item::Barrier(Barrier { id, kind, sent: *sent }));
        }
        let split = SplitState {
            source: "source".into(),
            split: index.to_string(),
            position: source.position.to_le_bytes().to_vec(),
            generator: Vec::new(),
            finished: source.position == source.elements,
        };
        let payload = SubtaskSnapshot { splits: vec![split], ..SubtaskSnapshot::default() };
        up.push(Up::Ack(SubtaskAck { subtask, id, payload }));
    }

    /// Whether the sinks have taken exactly what the sources had sent at their positions.
    pub(super) fn check_cut(&self, manifest: &PendingManifest) -> Result<(), String> {
        let sinks = self.sinks.len() as u64;
        let (sources, takers) = manifest.subtasks.split_at(self.sources.len());
        for (source, record) in sources.iter().enumerate() {
            let position = position_of(&record.snapshot);
            for (sink, taker) in takers.iter().enumerate() {
                let sent = (0..position).filter(|number| number % sinks == sink as u64).count();
                let recorded = in_flight(&taker.snapshot);
                let recorded = recorded.iter().filter(|(c, _)| usize::from(*c) == source).count();
                let taken = taker.snapshot.counters[source].1 + recorded as u64;
                if sent as u64 != taken {
                    let id = manifest.id;
                    return Err(format!("cut {id}: {source}->{sink} sent {sent}, took {taken}"));
                }
            }
        }
        Ok(())
    }

    /// Source and number of every element that was read.
    pub(super) fn elements_read(&self) -> BTreeSet<(u8, u64)> {
        let sources = self.sources.iter().enumerate();
        sources.flat_map(|(index, s)| (0..s.position).map(move |n| (index as u8, n))).collect()
    }
}

/// Source and number of the element a committable stands for.
pub(super) fn element_of(committable: &[u8]) -> (u8, u64) {
    let number = committable[2..].try_into().expect("made of eight bytes");
    (committable[1], u64::from_le_bytes(number))
}

/// Elements that were recorded for a snapshot, as a part of it.
fn recording(elements: &[(u8, u64)]) -> SplitState {
    let bytes = |(channel, number): &(u8, u64)| [&[*channel][..], &number.to_le_bytes()].concat();
    SplitState {
        source: "in flight".into(),
        split: String::new(),
        position: elements.iter().flat_map(bytes).collect(),
        generator: Vec::new(),
        finished: false,
    }
}

fn in_flight(snapshot: &SubtaskSnapshot) -> Vec<(u8, u64)> {
    let recorded = snapshot.splits.iter().filter(|split| split.source == "in flight");
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("made of eight bytes"));
    recorded.flat_map(|split| split.position.chunks(9).map(|c| (c[0], number(&c[1..])))).collect()
}

fn position_of(snapshot: &SubtaskSnapshot) -> u64 {
    let bytes = snapshot.splits[0].position.as_slice();
    u64::from_le_bytes(bytes.try_into().expect("made of eight bytes"))
}
