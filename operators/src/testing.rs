//! What the tests of several operators share: whole jobs, under the simulator and on threads.

use thalweg_engine::Result;
use thalweg_engine::options::JobOptions;
use thalweg_engine::progress::RunReport;
use thalweg_engine::runtime::{self, StopSignal};
use thalweg_engine::sim::{SimPlan, SimReport, Simulation};

use crate::job::Job;

/// Runs the job that `build` declares after the plan of `seed`, with crashes and rescaling.
pub(crate) fn simulate(seed: u64, build: impl Fn(&Job)) -> SimReport {
    simulate_plan(SimPlan::from_seed(seed), build)
}

/// Runs the job that `build` declares after `plan`.
pub(crate) fn simulate_plan(plan: SimPlan, build: impl Fn(&Job)) -> SimReport {
    try_simulate(plan, build).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`simulate_plan`], with the error that ended the job.
pub(crate) fn try_simulate(plan: SimPlan, build: impl Fn(&Job)) -> Result<SimReport> {
    Simulation::with_plan(plan).run("test", || {
        let job = Job::new();
        build(&job);
        Ok(job.into_graph())
    })
}

/// Runs the job that `build` declares on threads, as many as subtasks of an operator.
pub(crate) fn run_on_threads(parallelism: usize, build: impl Fn(&Job)) -> Result<RunReport> {
    let job = Job::new();
    build(&job);
    let options = JobOptions { parallelism: Some(parallelism), ..JobOptions::default() };
    let config = options.check(parallelism)?;
    runtime::run(&job.into_graph(), "test", &config, &StopSignal::default(), &mut |_| {})
}
