//! Measures a query: the engine and the loop written by hand in turn, over events in memory.

use std::io::Write;
use std::time::{Duration, Instant};

use serde::Serialize;
use thalweg::engine::{Error, Result};

use crate::event::Event;
use crate::jobs::Input;
use crate::options::Options;
use crate::output::Output;
use crate::reference;
use crate::run::execute;

/// What a run is reported as.
#[derive(Debug, Serialize)]
struct Line<'a> {
    query: &'a str,
    parallelism: usize,
    splits: usize,
    state: &'a str,
    owned: bool,
    events: usize,
    /// From before the job is built to after its threads have ended.
    seconds: f64,
    events_per_second: f64,
    digest: String,
    /// The loop written by hand, on one thread and by reference, right before this run.
    reference_seconds: f64,
    /// The speed of the engine divided by that of the loop.
    ratio: f64,
}

/// Runs the query `runs` times over `events` and writes a line of JSON for each.
///
/// # Errors
/// Those of the engine and of `to`; `Bug` if the engine's answer is not that of the loop.
pub(crate) fn bench(
    options: &Options,
    events: &'static [Event],
    runs: usize,
    mut to: impl Write,
) -> Result<()> {
    let bound_ms = i64::try_from(options.bound_ms()).unwrap_or(i64::MAX);
    for _ in 0..runs {
        let (expected, reference) = timed(|| reference::digest(options.query, events, bound_ms));
        let output = Output::default();
        let (report, elapsed) = timed(|| execute(options, Input::new(events, options), &output));
        report?;
        // With several splits, each with its own watermark, other records are late.
        if options.splits.get() == 1 && output.digest() != expected {
            return Err(Error::bug(format!(
                "the results of {} have the digest {}, not {expected}",
                options.query.name(),
                output.digest()
            )));
        }
        let (seconds, reference_seconds) = (elapsed.as_secs_f64(), reference.as_secs_f64());
        let line = Line {
            query: options.query.name(),
            parallelism: options.parallelism.get(),
            splits: options.splits.get(),
            state: options.state.name(),
            owned: options.bench_owned,
            events: events.len(),
            seconds,
            events_per_second: events.len() as f64 / seconds,
            digest: output.digest().to_string(),
            reference_seconds,
            ratio: reference_seconds / seconds,
        };
        let written = serde_json::to_string(&line)
            .map_err(std::io::Error::from)
            .and_then(|line| writeln!(to, "{line}"));
        written.map_err(|error| Error::unavailable("cannot print").with_source(error))?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed<R>(f: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let result = f();
    (result, start.elapsed())
}
