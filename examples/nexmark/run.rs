//! Runs a query with the engine, and says what came of it.

use std::path::Path;
use std::time::Duration;

use thalweg::sim::{SimPlan, SimReport};
use thalweg::{Counter, Error, Job, Progress, Result, RunOutcome, RunReport};

use crate::event::Event;
use crate::jobs::{self, Input};
use crate::options::{Driver, Options, State};
use crate::output::{Output, merge, parts_of};

impl Input {
    /// `events`, read as the options say.
    pub(crate) fn new(events: &'static [Event], options: &Options) -> Self {
        Input {
            events,
            splits: options.splits.get(),
            bound_ms: options.bound_ms(),
            is_owned: options.bench_owned,
            events_per_second: options.events_per_second,
        }
    }
}

/// Runs the query over `input` into `output`, until the input ends.
///
/// # Errors
/// Those of the engine.
pub(crate) fn execute(options: &Options, input: Input, output: &Output) -> Result<RunReport> {
    let build = |job: &Job| {
        jobs::build(job, options.query, input, output);
        Ok(())
    };
    let name = format!("nexmark-{}", options.query.name());
    match options.driver {
        Driver::Threads => thalweg::execute(&name, build, &options.job_options()),
        Driver::Sim => {
            if options.checkpoint_dir.is_some() || options.state != State::Memory {
                return Err(Error::config(
                    "the simulator keeps state and checkpoints in memory: leave out \
                     --checkpoint-dir and --state",
                ));
            }
            options.job_options().check(1)?;
            let plan = SimPlan::calm(options.seed, options.parallelism.get());
            Ok(simulated(thalweg::test::simulate_plan(&name, build, plan)?))
        }
    }
}

fn simulated(report: SimReport) -> RunReport {
    RunReport {
        outcome: RunOutcome::Finished,
        restored_from: None,
        progress: Progress {
            metrics: report.metrics,
            elapsed: Duration::ZERO,
            checkpoints: report.checkpoints,
            last_checkpoint: None,
            is_stopping: false,
            restarts: 0,
            is_restarting: false,
        },
        last_checkpoint: None,
    }
}

/// Runs the query over `events`, into a file if the options name one, and describes the run.
///
/// # Errors
/// Those of the engine, and of writing the file.
pub(crate) fn answer(options: &Options, events: &'static [Event]) -> Result<String> {
    let output = Output::new(options.out.as_deref().map(parts_of));
    let report = execute(options, Input::new(events, options), &output)?;
    let lines = match &options.out {
        Some(file) => Some(write_out(options, file)?),
        None => None,
    };
    Ok(summary(&report, &output, lines))
}

/// Makes the file of the parts; returns the number of lines.
fn write_out(options: &Options, file: &Path) -> Result<usize> {
    let fail =
        |error| Error::unavailable(format!("cannot write {}", file.display())).with_source(error);
    let lines = merge(options.query, file).map_err(fail)?;
    // With checkpoints the parts stay: the same command has to find them again.
    if options.checkpoint_dir.is_none() {
        std::fs::remove_dir_all(parts_of(file)).map_err(fail)?;
    }
    Ok(lines)
}

fn summary(report: &RunReport, output: &Output, lines: Option<usize>) -> String {
    let metrics = &report.progress.metrics;
    let mut text = match report.outcome {
        RunOutcome::Finished => format!("{} events", metrics.records_read()),
        RunOutcome::Stopped => format!("stopped after {} events", metrics.records_read()),
        RunOutcome::AlreadyFinished => "finished by an earlier run".to_owned(),
    };
    text += &format!(", {} late", metrics.total_of_all(Counter::Late));
    if let Some(lines) = lines {
        text += &format!(", {lines} lines written");
    }
    match report.restored_from {
        // The digest is of what this process has seen.
        Some(id) => text += &format!(", resumed from checkpoint {id}"),
        None => text += &format!(", {} results, digest {}", output.row_count(), output.digest()),
    }
    if let Some(id) = report.last_checkpoint {
        text += &format!(", checkpoint {id}");
    }
    text
}
