//! One attempt of a simulated job: from a deployment to its end, or to a crash.

use std::collections::VecDeque;

use thalweg_checkpoint::{
    CheckpointId, CheckpointMode, CheckpointStore, Command, Coordinator, Manifest, MemoryStore,
    Outcome, PendingManifest, SinkCommittables, StoreFault, StoreOp, SubtaskAck, SubtaskId,
};
use thalweg_state::KeyGroupCount;

use super::World;
use super::external::SimExternal;
use super::mailbox::{Mailbox, Unreliable};
use super::plan::{SimPlan, Style};
use super::random::Random;
use crate::deploy::{CheckpointTimes, Crew, check_manifest, first_id, in_flight, operator_records};
use crate::error::{Error, Result};
use crate::graph::{ExecutionPlan, JobGraph};
use crate::planted::planted;
use crate::state_writer::WriteRequest;
use crate::subtask::{Control, Effect, Next};
use crate::time::ProcessingTime;

mod deployment;
mod regions;

use deployment::deploy;

/// Steps of the last attempts in which messages, storage and commits may still fail.
const UNSAFE_STEPS: u64 = 1500;
/// Attempts without a crash of the plan's after which nothing fails any more.
const EXTRA_ATTEMPTS: u32 = 3;

/// How an attempt ended.
pub(super) enum AttemptEnd {
    /// The process crashed: start again from the newest checkpoint.
    Crashed,
    /// The job has ended.
    Ended(Outcome),
}

/// What subtasks tell the coordinator.
#[derive(Clone)]
enum Report {
    Ack(SubtaskAck),
    Decline(SubtaskId, CheckpointId),
    Drained(SubtaskId),
}

/// A job that is running in the simulator.
pub(super) struct Attempt<'a> {
    plan: &'a SimPlan,
    job: &'a str,
    graph: &'a JobGraph,
    execution: ExecutionPlan,
    parallelism: usize,
    pub(super) coordinator: Coordinator,
    /// What earlier coordinators of the attempt have published and given up.
    pub(super) before: (u64, u64),
    /// Edges whose records on their way were restored.
    pub(super) in_flight_restored: u64,
    /// How often a region failed and others went on.
    pub(super) regions_restarted: u64,
    pub(super) crew: Crew,
    /// The step at which missing regions are deployed anew.
    restores_at: Option<u64>,
    /// The subtask that has failed.
    failed: Option<SubtaskId>,
    /// When each subtask wants to be stepped again without anything else happening.
    wake_at: Vec<Option<ProcessingTime>>,
    external: SimExternal,
    control: Mailbox<(SubtaskId, Control)>,
    reports: Mailbox<Report>,
    writes: Vec<WriteRequest>,
    commands: VecDeque<Command>,
    published: Option<CheckpointId>,
    may_crash: bool,
    may_stop: bool,
    restarts: u32,
    /// Steps of this attempt.
    steps: u64,
    /// Scheduler steps in a row in which nothing moved.
    idle_steps: usize,
    current: usize,
    priorities: Vec<i64>,
    lowest: i64,
}

impl<'a> Attempt<'a> {
    /// Deploys the job from the newest checkpoint of the world's store.
    pub(super) fn start(
        plan: &'a SimPlan,
        (job, graph): (&'a str, &'a JobGraph),
        world: &mut World,
        parallelism: usize,
        (crashes, stops): (u32, u32),
    ) -> Result<Self> {
        arm_storage(plan, &world.store, &mut world.random, crashes);
        let restored = newest(graph, &world.store)?;
        let key_groups = KeyGroupCount::default();
        if let Some(manifest) = &restored {
            check_manifest(graph, manifest, key_groups)?;
        }
        let execution = in_flight::plan(graph, parallelism, restored.as_ref())?;
        let external = SimExternal::default();
        let tasks = (0..execution.tasks.len()).collect();
        let of = (graph, &execution);
        let (deployment, committers) =
            deploy((plan, of), &tasks, restored.as_ref(), world, &external)?;
        let first_id = first_id(restored.as_ref(), Some(&world.store));
        let records = operator_records(graph);
        let crew = Crew::new(deployment, committers, records, first_id, (key_groups, None));
        let coordinator = crew.coordinator(times(plan), world.now.millis());
        let in_flight_restored = restored.iter().flat_map(in_flight::parts).count() as u64;
        let count = crew.hands.subtasks.len();
        Ok(Attempt {
            plan,
            job,
            graph,
            execution,
            parallelism,
            coordinator,
            before: (0, 0),
            in_flight_restored,
            regions_restarted: 0,
            crew,
            restores_at: None,
            failed: None,
            wake_at: vec![None; count],
            external,
            control: Mailbox::new(),
            reports: Mailbox::new(),
            writes: Vec::new(),
            commands: VecDeque::new(),
            published: None,
            may_crash: crashes < plan.crashes,
            may_stop: stops < plan.stops,
            restarts: crashes,
            steps: 0,
            idle_steps: 0,
            current: 0,
            priorities: (0..count).map(|_| world.random.below(1000) as i64).collect(),
            lowest: 0,
        })
    }

    /// Runs to the end or the next crash.
    pub(super) fn run(&mut self, world: &mut World) -> Result<AttemptEnd> {
        loop {
            world.steps += 1;
            self.steps += 1;
            if world.steps > self.plan.steps_max {
                return Err(Error::bug(format!(
                    "the job does not end: no result after {} steps",
                    world.steps
                )));
            }
            let chance = self.plan.crash_per_million as usize;
            let crash = world.random.below(1_000_000) < chance;
            if self.may_crash && crash {
                return Ok(AttemptEnd::Crashed);
            }
            if self.may_stop && world.random.below(1_000_000) < chance {
                self.may_stop = false;
                self.coordinator.handle_stop_request(world.now.millis());
            }
            let done = match self.restores_at {
                Some(at) if at <= self.steps => self.restore_regions(world).map(|()| None),
                Some(_) => self.act_without(world).map(|()| None),
                None => {
                    self.route_commands(world);
                    self.act(world)
                }
            };
            match done {
                Ok(None) => {}
                Ok(Some(end)) => return Ok(end),
                Err(error) if error.is_passing() => {
                    if !self.lose_region(world) {
                        return Ok(AttemptEnd::Crashed);
                    }
                }
                Err(error) => return Err(error),
            }
            if world.store.is_crashed() {
                return Ok(AttemptEnd::Crashed);
            }
        }
    }

    /// True while messages, storage and commits may fail.
    fn is_unsafe(&self) -> bool {
        is_unsafe(self.plan, self.restarts) && (self.may_crash || self.steps < UNSAFE_STEPS)
    }

    fn unreliable(&self) -> Unreliable {
        let all = Unreliable {
            lost_percent: self.plan.lost_percent,
            doubled_percent: self.plan.doubled_percent,
            delay_ms: self.plan.delay_ms,
        };
        if self.is_unsafe() { all } else { Unreliable { doubled_percent: 0, ..all.reliable() } }
    }

    /// Puts the coordinator's commands on their way.
    fn route_commands(&mut self, world: &mut World) {
        while let Some(command) = self.coordinator.poll_command() {
            let to_all = match command {
                Command::Trigger { subtask, id, kind } => {
                    let control = Control::Trigger { id, kind };
                    self.tell(subtask, control, world);
                    continue;
                }
                Command::Hurry { subtask, id } => {
                    self.tell(subtask, Control::Hurry { id }, world);
                    continue;
                }
                Command::Abort { id } => Control::Abort { id },
                Command::Completed { id } => Control::Completed { id },
                other => {
                    self.commands.push_back(other);
                    continue;
                }
            };
            for index in 0..self.crew.hands.subtasks.len() {
                self.tell(self.crew.hands.subtasks[index].id, to_all, world);
            }
        }
    }

    fn tell(&mut self, subtask: SubtaskId, control: Control, world: &mut World) {
        let how = self.unreliable();
        self.control.send((subtask, control), how, world.now, &mut world.random);
    }

    /// Does one thing that can happen next.
    fn act(&mut self, world: &mut World) -> Result<Option<AttemptEnd>> {
        if world.random.is_chosen(25) {
            world.now = world.now.plus_millis(world.random.between(0, 3));
        }
        let action = world.random.below(12);
        world.trace.note(action as u64);
        let has_answered = self.external.run(world.now, &mut world.random);
        let has_moved = match action {
            0 => self.deliver_control(world),
            1 => self.deliver_report(world),
            2 => self.write(world),
            3 => return self.command(world),
            4 => {
                self.coordinator.handle_tick(world.now.millis());
                false
            }
            _ => self.step(world)?,
        };
        self.idle_steps = if has_moved || has_answered { 0 } else { self.idle_steps + 1 };
        if self.idle_steps > 4 * self.crew.hands.subtasks.len() + 24 {
            self.jump(world);
        }
        Ok(None)
    }

    /// Nothing moves: time jumps to the next thing that will happen by itself.
    fn jump(&mut self, world: &mut World) {
        self.idle_steps = 0;
        if !self.commands.is_empty() || !self.writes.is_empty() {
            return;
        }
        let deadline = self.coordinator.next_deadline().map(ProcessingTime::from_millis);
        let next = self
            .wake_at
            .iter()
            .copied()
            .chain([self.control.next_at(), self.reports.next_at(), deadline])
            .chain([self.external.next_at()])
            .flatten()
            .filter(|at| *at > world.now)
            .min();
        world.now = next.unwrap_or(world.now.plus_millis(1));
        self.coordinator.handle_tick(world.now.millis());
    }

    fn deliver_control(&mut self, world: &mut World) -> bool {
        let Some((id, control)) = self.control.take(world.now, &mut world.random) else {
            return false;
        };
        if let Some(subtask) = self.crew.hands.subtasks.iter_mut().find(|subtask| subtask.id == id)
        {
            subtask.handle(control);
        }
        true
    }

    fn deliver_report(&mut self, world: &mut World) -> bool {
        let now = world.now.millis();
        match self.reports.take(world.now, &mut world.random) {
            Some(Report::Ack(ack)) => self.coordinator.handle_ack(now, ack),
            Some(Report::Decline(subtask, id)) => {
                self.coordinator.handle_decline(now, subtask, id, "the storage failed");
            }
            Some(Report::Drained(subtask)) => self.coordinator.handle_drained(now, subtask),
            None => return false,
        }
        true
    }

    /// Takes a capture, writes what there is to write, and acknowledges what is durable.
    fn write(&mut self, world: &mut World) -> bool {
        let has_taken = !self.writes.is_empty();
        if has_taken {
            let chosen = world.random.below(self.writes.len());
            self.crew.hands.writer.add(self.writes.swap_remove(chosen));
        }
        let how = self.unreliable();
        let written = self.write_runs(world);
        let mut has_answered = false;
        if written.is_err() {
            // Those whose runs are not written decline; the runs are written another time.
            for request in self.crew.hands.writer.take_waiting() {
                let report = Report::Decline(request.subtask, request.capture.id);
                self.reports.send(report, how, world.now, &mut world.random);
            }
        }
        while let Some(ack) = self.crew.hands.writer.poll_ack() {
            has_answered = true;
            self.reports.send(Report::Ack(ack), how, world.now, &mut world.random);
        }
        has_taken || has_answered || written.is_err()
    }

    fn write_runs(&mut self, world: &mut World) -> Result<()> {
        while self.crew.hands.writer.prepare()? {}
        self.crew.hands.writer.write(&mut world.store)?;
        if world.random.is_chosen(50) {
            self.crew.hands.writer.merge(1 + world.random.below(2_000) as u64, &mut world.store)?;
        }
        Ok(())
    }

    /// Carries out the next command to the driver.
    fn command(&mut self, world: &mut World) -> Result<Option<AttemptEnd>> {
        match self.commands.pop_front() {
            Some(Command::Publish(pending)) => self.publish(pending, world)?,
            Some(Command::Commit { upto, committables }) => {
                self.commit(upto, &committables, world)?;
            }
            Some(Command::Discard { id }) => {
                // What cannot be removed now is removed when a newer checkpoint is kept.
                let _ = world.store.discard(id);
            }
            Some(Command::Shutdown(outcome)) => return Ok(Some(AttemptEnd::Ended(outcome))),
            _ => self.idle_steps += 1,
        }
        Ok(None)
    }

    fn publish(&mut self, pending: PendingManifest, world: &mut World) -> Result<()> {
        let id = pending.id;
        if planted!(CommitBeforeManifest) {
            for SinkCommittables { sink, committables } in &pending.committables {
                self.crew.desk.committer(sink)?.commit(committables)?;
            }
        }
        let manifest = Manifest {
            job: self.job.to_owned(),
            key_group_count: KeyGroupCount::default().get(),
            parallelism: self.parallelism as u32,
            at_least_once: self.plan.mode == CheckpointMode::AtLeastOnce,
            operators: self.crew.desk.records.clone(),
            ..Manifest::from_pending(pending)
        };
        let published = world.store.publish(&manifest);
        let now = world.now.millis();
        match published {
            Ok(()) => {
                self.published = Some(id);
                // Retention may fail without harm: it is tried again after the next one.
                let _ = world.store.retain(2);
                self.coordinator.handle_published(now, id);
            }
            Err(error) => self.coordinator.handle_publish_failed(now, id, &error.to_string()),
        }
        Ok(())
    }

    fn commit(
        &mut self,
        upto: CheckpointId,
        committables: &[SinkCommittables],
        world: &mut World,
    ) -> Result<()> {
        let now = world.now.millis();
        let fails = self.is_unsafe() && world.random.is_chosen(self.plan.commit_percent);
        // A failing commit may have taken effect in part or as a whole.
        let effect = if fails { world.random.below(3) } else { 2 };
        for SinkCommittables { sink, committables } in committables {
            let count = committables.len() * effect / 2;
            self.crew.desk.committer(sink)?.commit(&committables[..count])?;
        }
        if fails {
            self.coordinator.handle_commit_failed(now, upto, "a simulated failure");
        } else {
            self.coordinator.handle_committed(now, upto);
            if !self.coordinator.has_pending_commits()
                && let Some(newest) = self.published
            {
                // A mark that is missing means only that a restart commits once more.
                let _ = world.store.mark_committed(newest);
            }
        }
        Ok(())
    }

    /// Steps one subtask.
    fn step(&mut self, world: &mut World) -> Result<bool> {
        let index = self.choose(&mut world.random);
        let budget = 1 + world.random.below(self.plan.budget as usize) as u32;
        let subtask = &mut self.crew.hands.subtasks[index];
        let step = subtask.step(world.now, &mut world.random, budget);
        let step = step.inspect_err(|_| self.failed = Some(subtask.id))?;
        world.trace.note((index as u64) << 1 | u64::from(step.has_moved));
        self.wake_at[index] = match step.next {
            Next::Wait { wake_at } => wake_at,
            Next::Now | Next::Never => None,
        };
        if !step.has_moved {
            // A subtask that cannot move goes behind all others.
            self.lowest -= 1;
            self.priorities[index] = self.lowest;
        }
        let id = subtask.id;
        while let Some(effect) = self.crew.hands.subtasks[index].poll_effect() {
            match effect {
                Effect::Capture(capture) => {
                    world.trace.note(capture.id.0);
                    let key_groups = self.crew.hands.subtasks[index].key_groups;
                    self.writes.push(WriteRequest { subtask: id, key_groups, capture });
                }
                Effect::Drained => {
                    let how = self.unreliable().reliable();
                    let report = Report::Drained(id);
                    self.reports.send(report, how, world.now, &mut world.random);
                }
                Effect::Commit { sink, committables } => {
                    self.crew.desk.committer(&sink)?.commit(&committables)?;
                }
            }
        }
        Ok(step.has_moved)
    }

    fn choose(&mut self, random: &mut Random) -> usize {
        let count = self.crew.hands.subtasks.len();
        let chosen = match self.plan.style {
            Style::Uniform => random.below(count),
            Style::Sticky if random.is_chosen(85) && self.idle_steps == 0 => self.current,
            Style::Sticky => random.below(count),
            Style::Priority if random.is_chosen(3) => {
                let any = random.below(count);
                self.priorities[any] = random.below(1000) as i64;
                any
            }
            Style::Priority => {
                (0..count).max_by_key(|&i| self.priorities[i]).unwrap_or(self.current)
            }
        };
        self.current = chosen;
        chosen
    }
}

fn times(plan: &SimPlan) -> CheckpointTimes {
    CheckpointTimes {
        interval_ms: plan.interval_ms,
        timeout_ms: plan.timeout_ms,
        unaligned_after_ms: plan.unaligned_after_ms,
        resend_ms: 150,
    }
}

fn is_unsafe(plan: &SimPlan, restarts: u32) -> bool {
    restarts < plan.crashes + EXTRA_ATTEMPTS
}

/// Makes storage calls of this attempt fail, as the plan says.
fn arm_storage(plan: &SimPlan, store: &MemoryStore, random: &mut Random, restarts: u32) {
    if plan.storage_percent == 0 || !is_unsafe(plan, restarts) {
        store.clear_fault_hook();
        return;
    }
    let mut random = Random::new(random.bits());
    let percent = plan.storage_percent;
    let mut calls_left = 60;
    store.set_fault_hook(Box::new(move |operation| {
        calls_left -= i32::from(calls_left > 0);
        if calls_left == 0 || !random.is_chosen(percent) {
            return StoreFault::None;
        }
        let is_read = matches!(operation, StoreOp::Load(_) | StoreOp::ReadPart);
        match random.below(3) {
            // What reads damage stops a job for good: see the tests of stores.
            _ if is_read => StoreFault::Fail,
            0 => StoreFault::Fail,
            1 => StoreFault::Tear,
            _ => StoreFault::CrashAfter,
        }
    }));
}

/// The newest checkpoint, under the names that the graph has.
fn newest(graph: &JobGraph, store: &MemoryStore) -> Result<Option<Manifest>> {
    let Some(manifest) = store.latest()? else { return Ok(None) };
    let is_committed = store.is_committed(manifest.id)?;
    Ok(Some(graph.upgrades.apply(manifest, is_committed)?))
}
