//! One subtask alone, step by step: what no seed finds often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use thalweg_checkpoint::{Barrier, BarrierKind, CheckpointId, CheckpointMode, SubtaskId};
use thalweg_state::KeyGroupCount;
#[cfg(feature = "rocksdb")]
use thalweg_state::{BackendConfig, KeyGroupRange, OperatorState, RocksShared, TableId, hash_key};

use super::chain::{Chain, ChainGate, ChainNode, Outlet};
use super::effect::{Control, Effect};
use super::erased::OperatorCell;
use super::input::InputGate;
use super::output::Gate;
use super::source_head::{ErasedSource, SourceCell};
use super::step::{Head, Next, Step, Subtask};
use crate::batch::Batch;
use crate::channel::{ChannelBounds, Receiver, Sender, StreamElement, channel};
use crate::decider::RoundRobin;
use crate::error::{Error, Result};
use crate::graph::Partition;
use crate::in_flight::{Edge, InFlight, WireCodec};
use crate::metrics::OperatorMetrics;
use crate::operator::{Advance, Context, Operator, Outputs, SnapshotContext};
use crate::park::Waker;
use crate::source::{ReadInto, ReadStatus, ReaderContext, Source, Split, SplitReader};
use crate::time::{EventTime, ProcessingTime};

fn at(millis: i64) -> ProcessingTime {
    ProcessingTime::from_millis(millis)
}

/// Gives a record out ten milliseconds after it came, or when it is notified.
#[derive(Default)]
struct Later {
    waiting: Vec<(ProcessingTime, u64)>,
    notified: Arc<AtomicBool>,
}

impl Operator for Later {
    type In = u64;
    type Out = u64;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<u64>,
        _out: &mut Outputs<'_, u64, ()>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let due = context.now.plus_millis(10);
        self.waiting.extend(input.values.drain(..).map(|record| (due, record)));
        context.wake_at(due);
        input.clear();
        Ok(())
    }

    fn on_time(&mut self, out: &mut Outputs<'_, u64, ()>, context: &mut Context<'_>) -> Result<()> {
        let was_notified = self.notified.swap(false, Ordering::Relaxed);
        let due = |(at, _): &(ProcessingTime, u64)| was_notified || *at <= context.now;
        let due = self.waiting.first().is_some_and(due).then(|| self.waiting.remove(0));
        if let Some((_, record)) = due {
            out.main.push(record, EventTime::MIN);
        }
        if let Some((at, _)) = self.waiting.first() {
            context.wake_at(*at);
        }
        Ok(())
    }
}

/// Keeps records up to the next barrier; while it gives them out the operator before it is
/// notified.
struct UntilBarrier {
    kept: Vec<u64>,
    notified: [Arc<AtomicBool>; 2],
}

impl Operator for UntilBarrier {
    type In = u64;
    type Out = u64;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<u64>,
        _out: &mut Outputs<'_, u64, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        self.kept.append(&mut input.values);
        input.clear();
        Ok(())
    }

    fn before_barrier(
        &mut self,
        out: &mut Outputs<'_, u64, ()>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        for record in self.kept.drain(..) {
            out.main.push(record, EventTime::MIN);
        }
        self.notified.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
        Ok(Advance::Done)
    }

    fn snapshot(&mut self, _context: &mut SnapshotContext) -> Result<()> {
        match self.kept.is_empty() {
            true => Ok(()),
            false => Err(Error::bug("records are kept across the barrier")),
        }
    }
}

/// A subtask of `nodes`, each behind the one before it; up to `records` may be on their way from
/// it.
fn subtask(mut nodes: Vec<ChainNode>, records: usize) -> (Subtask, Sender, Receiver) {
    let bounds = ChannelBounds { records, ..ChannelBounds::default() };
    let (sender, input) = channel(ChannelBounds::default(), Waker::default(), Waker::default());
    let (output, receiver) = channel(bounds, Waker::default(), Waker::default());
    let last = nodes.len() - 1;
    for (n, node) in nodes.iter_mut().enumerate() {
        node.parent = n.checked_sub(1);
        node.outlets[0] = vec![if n == last { Outlet::Gate(0) } else { Outlet::Node(n + 1) }];
    }
    let gate = Gate::<u64>::new(Partition::Forward, KeyGroupCount::default(), vec![output]);
    let gates = vec![ChainGate { gate: Box::new(gate), parent: Some(last) }];
    let chain = Chain::new(nodes, gates, 8);
    let head =
        Head::Channels(InputGate::new(vec![(0, input)], Vec::new(), CheckpointMode::ExactlyOnce));
    (Subtask::new(SubtaskId { task: 0, index: 0 }, (0, 128), head, chain), sender, receiver)
}

fn node<O: Operator>(name: &str, operator: O) -> ChainNode {
    let operator = Box::new(OperatorCell::new(operator));
    ChainNode::new(name.to_owned(), operator, Default::default(), None, Arc::default())
}

fn send(sender: &mut Sender, values: Vec<u64>) {
    let records = values.len();
    let batch = Box::new(Batch { values, ..Batch::default() });
    sender.send(StreamElement::Batch { batch, records, watermark: None });
}

fn step(subtask: &mut Subtask, now: i64) -> Step {
    subtask.step(at(now), &mut RoundRobin::default(), 64).expect("a step")
}

fn records(receiver: &mut Receiver, now: i64) -> Vec<u64> {
    let mut records = Vec::new();
    while let Some(element) = receiver.take(at(now)) {
        if let StreamElement::Batch { batch, .. } = element {
            records.extend(batch.downcast::<Batch<u64>>().expect("numbers").values);
        }
    }
    records
}

/// A record that the clock or an answer brings while a cut is prepared: the operators behind it
/// are asked again before the cut is taken.
#[test]
fn what_comes_while_a_cut_is_prepared_is_in_front_of_the_barrier() {
    let later = Later::default();
    let (told, flag) = (later.notified.clone(), Arc::new(AtomicBool::new(false)));
    let mut first = node("later", later);
    first.notified = Some(flag.clone());
    let keeper = UntilBarrier { kept: vec![7], notified: [told, flag] };
    let (mut subtask, mut sender, mut receiver) =
        subtask(vec![first, node("until-barrier", keeper)], 8);
    send(&mut sender, vec![8]);
    sender.send_barrier(Barrier { id: CheckpointId(1), kind: BarrierKind::Checkpoint, sent: 0 });
    step(&mut subtask, 1);
    assert!(matches!(subtask.poll_effect(), Some(Effect::Capture(_))), "the cut is taken");
    assert_eq!(records(&mut receiver, 1), [7, 8], "both left in front of the barrier");
}

/// An operator whose time has come and that has no room is called when there is room: asking for
/// its time again would have the worker wake up for nothing, each millisecond.
#[test]
fn an_operator_that_is_due_without_room_does_not_keep_its_worker_awake() {
    let (mut subtask, mut sender, mut receiver) = subtask(vec![node("later", Later::default())], 1);
    send(&mut sender, vec![1, 2]);
    assert_eq!(step(&mut subtask, 1).next, Next::Wait { wake_at: Some(at(11)) });
    send(&mut sender, vec![3]);
    step(&mut subtask, 2);
    let waits = step(&mut subtask, 11);
    assert_eq!(waits.next, Next::Wait { wake_at: None }, "the channel is full");
    assert!(!step(&mut subtask, 11).has_moved, "nothing moves without room");
    assert_eq!(records(&mut receiver, 11), [1], "room is made");
    step(&mut subtask, 11);
    assert_eq!(records(&mut receiver, 11), [2]);
    assert_eq!(step(&mut subtask, 11).next, Next::Wait { wake_at: Some(at(12)) });
}

/// Gives on what it takes, one by one.
struct Pass;

impl Operator for Pass {
    type In = u64;
    type Out = u64;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<u64>,
        out: &mut Outputs<'_, u64, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        out.main.values.push(input.values.remove(0));
        Ok(())
    }
}

/// What is evicted is logged whether there is room or not: nothing is read until those who write
/// have caught up.
#[test]
#[cfg(feature = "rocksdb")]
fn a_subtask_waits_for_those_who_write_its_changes() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = BackendConfig::RocksDb {
        directory: directory.path().to_owned(),
        memory_bytes: 1 << 20,
        shared: RocksShared::new(1 << 20, 1),
    };
    let count = KeyGroupCount::default();
    let state = OperatorState::open(config, KeyGroupRange::all(count), count);
    let mut state = state.expect("opens");
    let mut table = state.table::<u64, [u64; 12]>(TableId(0));
    let mut node = node("pass", Pass);
    node.stream = state.stream();
    let stream = state.stream().expect("there are snapshots");
    let (mut subtask, mut sender, mut receiver) = subtask(vec![node], 8);
    send(&mut sender, vec![1]);
    for key in 0..30_000_u64 {
        let hash = hash_key(&key).expect("hashes");
        table.insert(hash, &key, [key; 12]).expect("inserts");
        table.evict(1).expect("evicts");
    }
    assert_eq!(step(&mut subtask, 1).next, Next::Wait { wake_at: Some(at(2)) });
    assert!(records(&mut receiver, 1).is_empty(), "nothing is read");
    while stream.take().is_some() {}
    step(&mut subtask, 2);
    assert_eq!(records(&mut receiver, 2), [1], "it goes on");
}

/// A subtask behind two channels whose records can be written down, and with room for one record.
fn recording_subtask() -> (Subtask, [Sender; 2], Receiver) {
    let names = ("from".to_owned(), "pass".to_owned());
    let edge = Edge { from: names.0, port: 0, to: names.1, codec: WireCodec::of::<u64>() };
    let open = || channel(ChannelBounds::default(), Waker::default(), Waker::default());
    let ((left, left_in), (right, right_in)) = (open(), open());
    let bounds = ChannelBounds { records: 1, ..ChannelBounds::default() };
    let (output, receiver) = channel(bounds, Waker::default(), Waker::default());
    let mut pass = node("pass", Pass);
    pass.outlets[0] = vec![Outlet::Gate(0)];
    let gate = Gate::<u64>::new(Partition::Forward, KeyGroupCount::default(), vec![output]);
    let gates = vec![ChainGate { gate: Box::new(gate), parent: Some(0) }];
    let inputs = vec![(0, left_in), (0, right_in)];
    let mode = CheckpointMode::ExactlyOnce;
    let head = Head::Channels(InputGate::new(inputs, vec![Arc::new(edge)], mode));
    let id = SubtaskId { task: 0, index: 0 };
    let subtask = Subtask::new(id, (0, 128), head, Chain::new(vec![pass], gates, 8));
    (subtask, [left, right], receiver)
}

fn barrier(id: u64) -> Barrier {
    Barrier { id: CheckpointId(id), kind: BarrierKind::Checkpoint, sent: 0 }
}

/// The next capture: its checkpoint and the records that were on their way.
fn captured(subtask: &mut Subtask) -> Option<(u64, Vec<u64>)> {
    let Effect::Capture(capture) = subtask.poll_effect()? else { return None };
    let decode = |in_flight: &InFlight| in_flight.edge.codec.decode(&in_flight.bytes, None, None);
    let batches = capture.in_flight.iter().flat_map(|part| decode(part).expect("readable"));
    let values = batches.flat_map(|batch| batch.downcast::<Batch<u64>>().expect("numbers").values);
    Some((capture.id.0, values.collect()))
}

/// What has come out, with a 0 for each barrier.
fn given_out(receiver: &mut Receiver) -> Vec<u64> {
    let mut out = Vec::new();
    while let Some(element) = receiver.take(at(1)) {
        match element {
            StreamElement::Batch { batch, .. } => {
                out.extend(batch.downcast::<Batch<u64>>().expect("numbers").values);
            }
            StreamElement::Barrier(_) => out.push(0),
            _ => {}
        }
    }
    out
}

#[test]
fn a_cut_that_does_not_wait_holds_what_is_on_its_way() {
    let (mut subtask, [mut left, mut right], mut receiver) = recording_subtask();
    send(&mut left, vec![1, 7]);
    step(&mut subtask, 1);
    // There is no room for what is inside, nor for these.
    send(&mut left, vec![2]);
    send(&mut right, vec![3]);
    assert!(!step(&mut subtask, 1).has_moved, "it has no room");
    subtask.handle(Control::Hurry { id: CheckpointId(1) });
    left.send_barrier(barrier(1));
    send(&mut left, vec![4]);
    step(&mut subtask, 1);
    assert_eq!(captured(&mut subtask), None, "the other barrier is missing");
    send(&mut right, vec![5]);
    right.send_barrier(barrier(1));
    send(&mut right, vec![6]);
    step(&mut subtask, 1);
    let (id, mut records) = captured(&mut subtask).expect("the recording is complete");
    records.sort_unstable();
    assert_eq!((id, records), (1, vec![2, 3, 5]));
    let mut out = Vec::new();
    for _ in 0..9 {
        out.extend(given_out(&mut receiver));
        step(&mut subtask, 1);
    }
    assert_eq!(
        out[..3],
        [1, 7, 0],
        "what is inside leaves without room, and the barrier leaves before what was recorded"
    );
    out.sort_unstable();
    assert_eq!(out, [0, 1, 2, 3, 4, 5, 6, 7], "and all of it is worked on once");
}

#[test]
fn a_recording_that_is_given_up_is_followed_by_an_ordinary_cut() {
    let (mut subtask, [mut left, mut right], mut receiver) = recording_subtask();
    send(&mut left, vec![1]);
    step(&mut subtask, 1);
    send(&mut left, vec![2]);
    subtask.handle(Control::Hurry { id: CheckpointId(1) });
    step(&mut subtask, 1);
    subtask.handle(Control::Abort { id: CheckpointId(1) });
    step(&mut subtask, 1);
    assert_eq!(captured(&mut subtask), Some((1, vec![2])), "for whoever removes its parts");
    // The barriers of the first stand in front of those of the second, one of them in the buffer.
    for sender in [&mut left, &mut right] {
        sender.send_barrier(barrier(1));
        sender.send_barrier(barrier(2));
    }
    let mut out = Vec::new();
    for _ in 0..9 {
        out.extend(given_out(&mut receiver));
        step(&mut subtask, 1);
    }
    assert_eq!(captured(&mut subtask), Some((2, Vec::new())));
    assert_eq!(out, [1, 0, 2, 0]);
}

/// One split, of one number.
struct One;

impl Source for One {
    type Item = u64;
    type Dead = ();

    fn splits(&self) -> Result<Vec<Split>> {
        Ok(vec![Split { id: "0".to_owned() }])
    }

    fn reader(
        &self,
        _split: &Split,
        _position: Option<&[u8]>,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<u64, ()>>> {
        Ok(Box::new(One))
    }

    fn describe(&self) -> String {
        "one".to_owned()
    }
}

impl SplitReader<u64, ()> for One {
    fn read(&mut self, out: &mut ReadInto<'_, u64, ()>, _max: usize) -> Result<ReadStatus> {
        out.records.values.push(1);
        Ok(ReadStatus::End)
    }

    fn position(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// Sources name their splits alike; behind a union their records are still told apart.
#[test]
fn records_of_two_sources_have_different_identities() {
    let ids = |name: Option<&str>| {
        let (source, context) = (SourceCell::new(Arc::new(One)), ReaderContext::default());
        let splits = source.splits().expect("splits").into_iter().map(|split| (split, None));
        let mut head = source.open(splits.collect(), name, &context).expect("opens");
        let metrics = OperatorMetrics::default();
        head.read(&mut RoundRobin::default(), at(0), 8, &[], &metrics).expect("reads");
        let mut batch = Batch::<u64>::default();
        head.move_output(0, &mut batch);
        batch.ids
    };
    let (left, right) = (ids(Some("left")), ids(Some("right")));
    assert_eq!((left.len(), right.len()), (1, 1));
    assert_ne!(left, right);
    assert_eq!(left, ids(Some("left")), "the same in every run");
    assert!(ids(None).is_empty(), "nobody has asked");
}

/// Notes how many records it is given at a time; fails at 13.
#[derive(Default)]
struct Sizes(Arc<Mutex<Vec<usize>>>);

impl Operator for Sizes {
    type In = u64;
    type Out = u64;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<u64>,
        out: &mut Outputs<'_, u64, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        self.0.lock().expect("is not poisoned").push(input.len());
        if input.values.contains(&13) {
            return Err(Error::user("unlucky"));
        }
        out.main.values.append(&mut input.values);
        out.main.take_columns(input);
        Ok(())
    }
}

/// Under suspicion an operator gets single records, and its error says at which it failed; the
/// operators around it, and itself when the suspicion is over, get batches.
#[test]
fn a_suspect_gets_its_records_one_at_a_time() {
    let [sizes, others]: [Arc<Mutex<Vec<usize>>>; 2] = Default::default();
    let mut suspect = node("suspect", Sizes(sizes.clone()));
    suspect.is_suspect = true;
    let nodes = vec![node("before", Sizes(others.clone())), suspect];
    let (mut subtask, mut sender, mut receiver) = subtask(nodes, 100);
    let given = || std::mem::take(&mut *sizes.lock().expect("is not poisoned"));
    send(&mut sender, vec![1, 2, 3]);
    step(&mut subtask, 1);
    assert_eq!(records(&mut receiver, 1), [1, 2, 3]);
    assert_eq!((given(), &others.lock().expect("is not poisoned")[..]), (vec![1; 3], &[3][..]));
    // Relaxed with records behind the one in work.
    send(&mut sender, vec![4, 5, 6]);
    let paused = subtask.step(at(2), &mut RoundRobin::default(), 3).expect("a step");
    assert_eq!((paused.next, given()), (Next::Now, vec![1]));
    subtask.handle(Control::Relax);
    send(&mut sender, vec![7, 8]);
    step(&mut subtask, 2);
    assert_eq!((records(&mut receiver, 2), given()), (vec![4, 5, 6, 7, 8], vec![2, 2]));

    subtask.chain.nodes[0].is_suspect = true;
    send(&mut sender, vec![11, 12, 13, 14]);
    let error = subtask.step(at(3), &mut RoundRobin::default(), 64).expect_err("fails at 13");
    assert_eq!(error.record().and_then(|record| record.shown.as_deref()), Some("13"));
}

/// An operator that waits for its time has taken a single record: the next one does not wait.
#[test]
fn a_suspect_that_asks_for_a_time_takes_what_is_there() {
    let mut later = node("later", Later::default());
    later.is_suspect = true;
    let (mut subtask, mut sender, mut receiver) = subtask(vec![later], 100);
    send(&mut sender, vec![1, 2, 3]);
    step(&mut subtask, 1);
    step(&mut subtask, 11);
    assert_eq!(records(&mut receiver, 11), [1, 2, 3]);
}
