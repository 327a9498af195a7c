//! Running a job from inside another program, without a command line.

use std::num::NonZeroUsize;

use thalweg_engine::Result;
use thalweg_engine::graph::{ExecutionPlan, JobGraph, PlanFormat};
use thalweg_engine::options::JobOptions;
use thalweg_engine::progress::RunReport;
use thalweg_engine::runtime::{self, Observer, StopSignal};
use thalweg_operators::Job;

/// Builds the job with `build` and runs it until its input ends; blocks the calling thread.
///
/// `name` is the identity of the job in its checkpoint directory.
///
/// # Errors
/// What `build` returns; otherwise see [`ErrorKind`](crate::ErrorKind): wrong options and graphs,
/// checkpoints that cannot be restored, failures of user code.
pub fn execute(
    name: &str,
    build: impl Fn(&Job) -> Result<()>,
    options: &JobOptions,
) -> Result<RunReport> {
    execute_until(name, build, options, &StopSignal::default())
}

/// As [`execute`], but ends early, after a last checkpoint, when `stop` is given from any thread.
///
/// # Errors
/// As [`execute`].
pub fn execute_until(
    name: &str,
    build: impl Fn(&Job) -> Result<()>,
    options: &JobOptions,
    stop: &StopSignal,
) -> Result<RunReport> {
    let graph = build_graph(build)?;
    run_graph(name, &graph, options, stop, &mut |_| {})
}

/// Shows what would run: tasks with their chained operators, parallelism, exchanges, and the
/// determinism level of each operator and of the job. Reads no input.
///
/// # Errors
/// What `build` returns; `Config` for wrong graphs and options.
pub fn plan(
    name: &str,
    build: impl Fn(&Job) -> Result<()>,
    options: &JobOptions,
    format: PlanFormat,
) -> Result<String> {
    let graph = build_graph(build)?;
    graph.validate()?;
    options.check(cores())?;
    let parallelism = options.parallelism.or(options.workers).unwrap_or(cores());
    Ok(ExecutionPlan::new(&graph, parallelism)?.render(&graph, name, format))
}

/// The graph that `build` declares.
pub(crate) fn build_graph(build: impl Fn(&Job) -> Result<()>) -> Result<JobGraph> {
    let job = Job::new();
    build(&job)?;
    Ok(job.into_graph())
}

/// Runs a graph under `options`, shown to `observer`.
pub(crate) fn run_graph(
    name: &str,
    graph: &JobGraph,
    options: &JobOptions,
    stop: &StopSignal,
    observer: Observer<'_>,
) -> Result<RunReport> {
    runtime::run(graph, name, &options.check(cores())?, stop, observer)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
