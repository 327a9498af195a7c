//! Whole jobs under random schedules: sources and sinks around a coordinator, mailboxes that lose,
//! double and reorder, publications of unknown outcome, commits that fail, crashes and restarts.
//!
//! A sink makes one committable of every element: the element and the number of the attempt that
//! read it. At the end every element must be committed, of exactly one attempt: an element that two
//! attempts commit was shown twice, one that none commits was lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Command, Coordinator, CoordinatorConfig, Outcome, PendingManifest};
use crate::random::Random;
use crate::{CheckpointId, SinkCommittables, SubtaskId};

mod subtasks;

use subtasks::{Down, SINKS_TASK, SOURCES_TASK, Subtasks, Up};

/// Steps until messages get lost no more, and until the job must have ended.
const UNSETTLED_STEPS: u64 = 3_000;
const MOST_STEPS: u64 = 60_000;

#[derive(Debug, Default)]
struct Totals {
    finished: u32,
    stopped: u32,
    crashes: u64,
    published: u64,
    aborted: u64,
    unheard: u64,
}

/// What outlives a crash.
#[derive(Default)]
struct Outside {
    published: BTreeMap<CheckpointId, PendingManifest>,
    committed: BTreeSet<Vec<u8>>,
    greatest_id: CheckpointId,
    attempt: u8,
    unheard: u64,
    aborted: u64,
}

struct World {
    seed: u64,
    random: Random,
    now: i64,
    outside: Outside,
    /// Elements of each source.
    elements: Vec<u64>,
    sinks: usize,
    config: CoordinatorConfig,
    // From here on: lost in a crash.
    coordinator: Coordinator,
    subtasks: Subtasks,
    down: Vec<(SubtaskId, Down)>,
    up: Vec<Up>,
    driver: VecDeque<Command>,
    last_publish: CheckpointId,
    stop_requested: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let elements: Vec<_> = (0..=random.below(3)).map(|_| random.below(250)).collect();
        let sinks = 1 + random.below(3) as usize;
        let sources = (0..elements.len() as u32).map(|index| (SOURCES_TASK, index));
        let all = sources.clone().chain((0..sinks as u32).map(|index| (SINKS_TASK, index)));
        let config = CoordinatorConfig {
            interval_ms: random.chance(80).then(|| 20 + random.below(300) as i64),
            timeout_ms: 200 + random.below(2_000) as i64,
            unaligned_after_ms: random.chance(50).then(|| random.below(200) as i64),
            resend_ms: 40 + random.below(100) as i64,
            subtasks: all.map(|(task, index)| SubtaskId { task, index }).collect(),
            sources: sources.map(|(task, index)| SubtaskId { task, index }).collect(),
            first_id: CheckpointId(1),
            pending_commits: Vec::new(),
        };
        Self {
            seed,
            random,
            now: 0,
            outside: Outside::default(),
            coordinator: Coordinator::new(config.clone(), 0),
            subtasks: Subtasks::new(&elements, sinks, 0),
            elements,
            sinks,
            config,
            down: Vec::new(),
            up: Vec::new(),
            driver: VecDeque::new(),
            last_publish: CheckpointId(0),
            stop_requested: false,
        }
    }

    /// Everything that is not outside is lost; the job starts from the newest checkpoint.
    fn crash(&mut self) {
        self.outside.attempt += 1;
        self.outside.aborted += self.coordinator.aborted();
        self.subtasks = Subtasks::new(&self.elements, self.sinks, self.outside.attempt);
        let mut pending_commits = Vec::new();
        if let Some(newest) = self.outside.published.values().last() {
            self.subtasks.restore(newest);
            pending_commits = newest.committables.clone();
        }
        let first_id = self.outside.greatest_id.next();
        let config = CoordinatorConfig { first_id, pending_commits, ..self.config.clone() };
        self.coordinator = Coordinator::new(config, self.now);
        self.down.clear();
        self.up.clear();
        self.driver.clear();
        self.stop_requested = false;
    }

    fn step(&mut self, settled: bool) -> Option<Outcome> {
        self.now += self.random.below(4) as i64;
        let due = self.coordinator.next_deadline().is_some_and(|due| due <= self.now);
        if due && self.random.chance(70) {
            self.coordinator.handle_tick(self.now);
        }
        match self.random.below(100) {
            0..25 => self.subtasks.step_source(&mut self.random, &mut self.up),
            25..55 => self.subtasks.step_sink(&mut self.random, &mut self.up),
            55..72 => self.deliver_down(settled),
            72..88 => self.deliver_up(settled),
            _ => {
                if let Some(outcome) = self.step_driver(settled) {
                    return Some(outcome);
                }
            }
        }
        while let Some(command) = self.coordinator.poll_command() {
            self.route(command);
        }
        None
    }

    fn route(&mut self, command: Command) {
        match command {
            Command::Trigger { subtask, id, kind } => {
                self.outside.greatest_id = self.outside.greatest_id.max(id);
                self.down.push((subtask, Down::Trigger(id, kind)));
            }
            Command::Hurry { subtask, id } => self.down.push((subtask, Down::Hurry(id))),
            Command::Abort { id } => self.tell_all(Down::Abort(id)),
            Command::Completed { id } => self.tell_all(Down::Completed(id)),
            other => self.driver.push_back(other),
        }
    }

    fn tell_all(&mut self, message: Down) {
        self.down.extend(self.config.subtasks.iter().map(|subtask| (*subtask, message)));
    }

    /// Takes any message, or a copy of it, or loses it; the oldest one once things have settled.
    fn take<T: Clone>(random: &mut Random, from: &mut Vec<T>, settled: bool) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        if settled {
            return Some(from.remove(0));
        }
        let at = random.below(from.len() as u64) as usize;
        if random.chance(10) {
            return Some(from[at].clone());
        }
        let message = from.swap_remove(at);
        (!random.chance(12)).then_some(message)
    }

    fn deliver_down(&mut self, settled: bool) {
        let message = Self::take(&mut self.random, &mut self.down, settled);
        if let Some((subtask, message)) = message {
            self.subtasks.deliver(subtask, message, &mut self.up);
        }
    }

    fn deliver_up(&mut self, settled: bool) {
        let Some(message) = Self::take(&mut self.random, &mut self.up, settled) else {
            return;
        };
        let (coordinator, now) = (&mut self.coordinator, self.now);
        match message {
            Up::Ack(ack) => coordinator.handle_ack(now, ack),
            Up::Decline(subtask, id) => coordinator.handle_decline(now, subtask, id, "injected"),
            Up::Drained(subtask) => coordinator.handle_drained(now, subtask),
            Up::Published(id) => coordinator.handle_published(now, id),
            Up::PublishFailed(id) => coordinator.handle_publish_failed(now, id, "injected"),
            Up::Committed(upto) => coordinator.handle_committed(now, upto),
            Up::CommitFailed(upto) => coordinator.handle_commit_failed(now, upto, "injected"),
        }
    }

    fn step_driver(&mut self, settled: bool) -> Option<Outcome> {
        match self.driver.pop_front()? {
            Command::Publish(manifest) => self.publish(manifest, settled),
            Command::Commit { upto, committables } => self.commit(upto, &committables, settled),
            Command::Shutdown(outcome) => return Some(outcome),
            _ => {}
        }
        None
    }

    fn publish(&mut self, manifest: PendingManifest, settled: bool) {
        let (seed, id) = (self.seed, manifest.id);
        assert!(id > self.last_publish, "seed {seed}: {id} after {}", self.last_publish);
        self.last_publish = id;
        let answered: Vec<_> = manifest.subtasks.iter().map(|record| record.subtask).collect();
        assert_eq!(answered, self.config.subtasks, "seed {seed}: {id} lacks acknowledgements");
        self.subtasks.check_cut(&manifest).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        let fails = !settled && self.random.chance(15);
        // Whether a publication that failed took place is not known to the driver.
        if !fails || self.random.chance(50) {
            self.outside.published.insert(id, manifest);
            self.outside.unheard += u64::from(fails);
        }
        self.up.push(if fails { Up::PublishFailed(id) } else { Up::Published(id) });
    }

    fn commit(&mut self, upto: CheckpointId, all: &[SinkCommittables], settled: bool) {
        let seed = self.seed;
        let covered = self.outside.published.range(..=upto);
        let covered: BTreeSet<_> = covered.flat_map(|(_, m)| flat(&m.committables)).collect();
        let fails = !settled && self.random.chance(15);
        for committable in flat(all) {
            assert!(covered.contains(&committable), "seed {seed}: committed before its manifest");
            // A commit that fails has done a part of its work.
            if !fails || self.random.chance(50) {
                self.outside.committed.insert(committable.clone());
            }
        }
        self.up.push(if fails { Up::CommitFailed(upto) } else { Up::Committed(upto) });
    }

    /// Every element that is covered is committed, of exactly one attempt.
    fn check_end(&self, outcome: Outcome) {
        let seed = self.seed;
        let stopped = outcome == Outcome::Stopped;
        assert!(!stopped || self.stop_requested, "seed {seed}: nobody asked for a stop");
        let expected = self.subtasks.elements_read();
        if !stopped {
            let all: u64 = self.elements.iter().sum();
            assert_eq!(expected.len() as u64, all, "seed {seed}: finished before the end");
        }
        let committed: Vec<_> =
            self.outside.committed.iter().map(|bytes| subtasks::element_of(bytes)).collect();
        let distinct: BTreeSet<_> = committed.iter().copied().collect();
        assert_eq!(committed.len(), distinct.len(), "seed {seed}: two attempts commit one element");
        assert_eq!(distinct, expected, "seed {seed}: elements are lost");
    }
}

fn flat(committables: &[SinkCommittables]) -> impl Iterator<Item = &Vec<u8>> {
    committables.iter().flat_map(|part| &part.committables)
}

fn run(seed: u64, totals: &mut Totals) {
    let mut world = World::new(seed);
    let stop_at = world.random.chance(30).then(|| world.random.below(UNSETTLED_STEPS / 4));
    let crash_chance = [0, 0, 1, 4][world.random.below(4) as usize];
    for step in 0..MOST_STEPS {
        let settled = step > UNSETTLED_STEPS;
        if stop_at == Some(step) {
            world.stop_requested = true;
            world.coordinator.handle_stop_request(world.now);
        }
        if !settled && world.random.below(2_000) < crash_chance {
            world.crash();
        }
        if let Some(outcome) = world.step(settled) {
            world.check_end(outcome);
            match outcome {
                Outcome::Finished => totals.finished += 1,
                Outcome::Stopped => totals.stopped += 1,
            }
            totals.crashes += u64::from(world.outside.attempt);
            totals.published += world.outside.published.len() as u64;
            totals.aborted += world.outside.aborted + world.coordinator.aborted();
            totals.unheard += world.outside.unheard;
            return;
        }
    }
    panic!("seed {seed}: still running, {:?}", world.coordinator);
}

#[test]
fn every_element_is_committed_once_under_every_schedule() {
    let mut totals = Totals::default();
    for seed in 0..2_000 {
        run(seed, &mut totals);
    }
    // The explorer must see what it is for.
    let Totals { finished, stopped, crashes, published, aborted, unheard } = totals;
    assert!(finished > 1_000 && stopped > 100, "few ends: {totals:?}");
    assert!(crashes > 300 && unheard > 100, "few faults: {totals:?}");
    assert!(published > 4_000 && aborted > 2_000, "few checkpoints: {totals:?}");
}
