//! The test kit: a job under the simulator, by seed.
//!
//! [`simulate`] runs a job on one thread, in virtual time. Everything that could go one way or
//! another is drawn from the seed: which subtask goes next, when messages arrive, when the storage
//! fails, when the process crashes, and with which parallelism it starts again. The same seed
//! gives the same run. See the [tutorial](crate::tutorial#testing).

use thalweg_engine::Result;
use thalweg_engine::sim::Simulation;
use thalweg_operators::Job;

pub use thalweg_engine::sim::{SimPlan, SimReport};

use crate::execute::build_graph;

/// Runs the job that `build` declares to its end, with everything drawn from `seed`.
///
/// `build` is called for the first attempt and after every crash; sinks of
/// [`memory::sink`](crate::memory::sink) that it clones outlive them.
///
/// # Errors
/// What the job fails with, and `Bug` if it comes to no end; the message names the seed.
pub fn simulate(name: &str, build: impl Fn(&Job) -> Result<()>, seed: u64) -> Result<SimReport> {
    Simulation::new(seed).run(name, || build_graph(&build))
}

/// As [`simulate`], but after a plan of your own.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_plan(
    name: &str,
    build: impl Fn(&Job) -> Result<()>,
    plan: SimPlan,
) -> Result<SimReport> {
    Simulation::with_plan(plan).run(name, || build_graph(&build))
}
