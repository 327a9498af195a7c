//! The simulator: a second driver for the same subtasks, on one thread, by seed.
//!
//! Everything that could go one way or another is drawn from one seed: which subtask steps next
//! and how far, how large channels and batches are, when messages arrive and which get lost,
//! when the storage fails, when the process crashes, and with which parallelism it starts again.
//! Time is virtual. The same seed gives the same run, step by step; the trace's hash says so.
//!
//! # Place
//! Steps the same `Subtask`s, `Coordinator` and committers as `runtime`, with `deploy` in common.
//!
//! # Absent
//! No thread, no clock, no file: checkpoints are kept in a `MemoryStore`, which forgets what was
//! not published when the process crashes.

mod attempt;
pub(crate) mod external;
mod mailbox;
mod plan;
mod random;

use std::collections::BTreeMap;

use thalweg_checkpoint::{CheckpointStore, MemoryStore, Outcome};

use crate::error::{Error, Result};
use crate::graph::JobGraph;
use crate::progress::JobMetrics;
use crate::time::ProcessingTime;
use attempt::{Attempt, AttemptEnd};
pub use plan::{SimPlan, Style};
pub use random::Random;

/// A job under the simulator.
pub struct Simulation {
    plan: SimPlan,
}

/// What a simulated run did, up to the end of its input.
#[derive(Clone)]
pub struct SimReport {
    /// A hash over every decision and its effect: equal for equal runs.
    pub trace: u64,
    /// Steps of the scheduler.
    pub steps: u64,
    /// How often the job was started again.
    pub restarts: u32,
    /// How often of these it had been asked to stop.
    pub stops: u32,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Checkpoints given up.
    pub aborted: u64,
    /// How often the records of an edge that were on their way were restored.
    pub in_flight_restored: u64,
    /// How often a region of the job failed and was started again while others went on.
    pub regions_restarted: u64,
    /// The parallelism of each attempt.
    pub parallelisms: Vec<usize>,
    /// Bytes of state in the last checkpoint, by operator.
    pub final_state_bytes: BTreeMap<String, u64>,
    /// The counters, with those of earlier attempts.
    pub metrics: JobMetrics,
}

/// What outlives a crash.
struct World {
    random: Random,
    store: MemoryStore,
    now: ProcessingTime,
    trace: Trace,
    steps: u64,
}

/// A rolling hash of everything that happens.
#[derive(Clone, Copy)]
struct Trace(u64);

impl Trace {
    fn note(&mut self, what: u64) {
        self.0 = (self.0.rotate_left(5) ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Simulation {
    /// A run with everything drawn from `seed`: schedules, faults, crashes, rescaling.
    pub fn new(seed: u64) -> Self {
        Simulation { plan: SimPlan::from_seed(seed) }
    }

    /// A run after a plan of the caller's.
    pub fn with_plan(plan: SimPlan) -> Self {
        Simulation { plan }
    }

    /// The plan: the seed expanded into options.
    pub fn plan(&self) -> &SimPlan {
        &self.plan
    }

    /// Runs the job that `build` builds, once per attempt, to its end.
    ///
    /// # Errors
    /// What the job fails with, and `Bug` if it does not end within the plan's number of steps.
    /// The message names the seed.
    pub fn run(&self, job: &str, build: impl Fn() -> Result<JobGraph>) -> Result<SimReport> {
        self.run_attempts(job, &build).map_err(|error| {
            let kind = error.kind();
            Error::new(kind, format!("{error} [simulated with {}]", self.plan))
        })
    }

    fn run_attempts(&self, job: &str, build: &dyn Fn() -> Result<JobGraph>) -> Result<SimReport> {
        let mut world = World {
            random: Random::new(self.plan.seed),
            store: MemoryStore::new(job),
            now: ProcessingTime::default(),
            trace: Trace(self.plan.seed),
            steps: 0,
        };
        let mut report = SimReport {
            trace: 0,
            steps: 0,
            restarts: 0,
            stops: 0,
            checkpoints: 0,
            aborted: 0,
            in_flight_restored: 0,
            regions_restarted: 0,
            parallelisms: Vec::new(),
            final_state_bytes: BTreeMap::new(),
            metrics: JobMetrics::default(),
        };
        loop {
            let graph = build()?;
            graph.validate()?;
            let parallelism = self.plan.parallelism(report.restarts as usize);
            report.parallelisms.push(parallelism);
            world.trace.note(parallelism as u64);
            let ends = (report.restarts - report.stops, report.stops);
            let attempt = Attempt::start(&self.plan, (job, &graph), &mut world, parallelism, ends);
            let (end, counted) = match attempt {
                Ok(mut attempt) => {
                    let end = attempt.run(&mut world)?;
                    (end, Some(attempt))
                }
                Err(error) if error.is_passing() => (AttemptEnd::Crashed, None),
                Err(error) => return Err(error),
            };
            if let Some(attempt) = &counted {
                report.checkpoints += attempt.before.0 + attempt.coordinator.completed();
                report.aborted += attempt.before.1 + attempt.coordinator.aborted();
                report.regions_restarted += attempt.regions_restarted;
                report.in_flight_restored += attempt.in_flight_restored;
                report.metrics = attempt.crew.desk.metrics.clone();
            }
            match end {
                AttemptEnd::Crashed => {
                    drop(counted);
                    world.store.crash();
                    report.restarts += 1;
                }
                AttemptEnd::Ended(Outcome::Stopped) => {
                    world.store.crash();
                    report.stops += 1;
                    report.restarts += 1;
                }
                AttemptEnd::Ended(Outcome::Finished) => break,
            }
        }
        world.store.clear_fault_hook();
        if let Some(manifest) = world.store.latest()? {
            for part in manifest.subtasks.iter().flat_map(|record| &record.snapshot.operators) {
                let bytes = part.runs.iter().map(|run| run.file.bytes).sum::<u64>();
                *report.final_state_bytes.entry(part.operator.clone()).or_default() += bytes;
            }
        }
        report.trace = world.trace.0;
        report.steps = world.steps;
        Ok(report)
    }
}
