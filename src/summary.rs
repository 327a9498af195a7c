//! What a job binary says at the end: how it went, in a few lines; or what went wrong, in one.

use std::fmt::Write;
use std::time::Duration;

use thalweg_engine::Error;
use thalweg_engine::graph::{JobGraph, NodeKind};
use thalweg_engine::metrics::Counter;
use thalweg_engine::progress::{RunOutcome, RunReport};

/// The lines about a run of `job`, whose graph is `graph`; `has_dir` if it takes checkpoints.
pub(crate) fn summary(job: &str, graph: &JobGraph, report: &RunReport, has_dir: bool) -> String {
    let metrics = &report.progress.metrics;
    let mut text = outcome(job, report, has_dir);
    if report.outcome == RunOutcome::AlreadyFinished {
        return text;
    }
    let mut line = |name: &str, value: String| {
        let _ = write!(text, "\n  {name:<12} {value}");
    };
    let (all, now) = (metrics.records_read(), metrics.records_read_in_this_run());
    let rate = rate(now, report.progress.elapsed);
    match all == now {
        true => line("records", format!("{} ({} a second)", grouped(all), grouped(rate))),
        false => line(
            "records",
            format!("{}, {} in this run ({} a second)", grouped(all), grouped(now), grouped(rate)),
        ),
    }
    for (name, counter) in [
        ("late", Counter::Late),
        ("in no window", Counter::Gap),
        ("skipped", Counter::Skipped),
        ("dead letters", Counter::Dead),
    ] {
        let count = metrics.total_of_all(counter);
        if count > 0 {
            line(name, grouped(count));
        }
    }
    for node in graph.nodes().map(|node| graph.info(node)) {
        if node.kind == NodeKind::Sink {
            let count = grouped(metrics.total(&node.name, Counter::In));
            line("written", format!("{count} to {}", node.name));
        }
    }
    if report.progress.restarts > 0 {
        line("restarts", grouped(report.progress.restarts.into()));
    }
    if let Some((id, took)) = report.progress.last_checkpoint.filter(|_| has_dir) {
        let count = grouped(report.progress.checkpoints);
        line("checkpoints", format!("{count}, the last is {id} and took {} ms", took.as_millis()));
    }
    text
}

fn outcome(job: &str, report: &RunReport, has_dir: bool) -> String {
    let seconds = report.progress.elapsed.as_secs_f64();
    match report.outcome {
        RunOutcome::Finished => match report.restored_from {
            None => format!("{job}: finished in {seconds:.1} s"),
            Some(id) => format!("{job}: finished in {seconds:.1} s, resumed from checkpoint {id}"),
        },
        RunOutcome::Stopped => match report.last_checkpoint {
            Some(id) => format!(
                "{job}: stopped after {seconds:.1} s at checkpoint {id}; start it again with the \
                 same command to go on from there"
            ),
            None if has_dir => format!(
                "{job}: stopped after {seconds:.1} s; start it again with the same command to go \
                 on from its newest checkpoint"
            ),
            None => format!(
                "{job}: stopped after {seconds:.1} s without a checkpoint (give --checkpoint-dir \
                 to be able to go on); its output is incomplete"
            ),
        },
        RunOutcome::AlreadyFinished => format!(
            "{job}: has already finished, with checkpoint {}; nothing was done (to run it again \
             choose another checkpoint directory and another output)",
            report.restored_from.map_or_else(|| "?".to_owned(), |id| id.to_string()),
        ),
    }
}

/// An error in one line.
pub(crate) fn error_line(error: &Error) -> String {
    format!("error: {}", error.to_line())
}

/// Records a second.
pub(crate) fn rate(records: u64, elapsed: Duration) -> u64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { (records as f64 / seconds) as u64 } else { 0 }
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let of = |n| grouped(n);
        assert_eq!([of(0), of(999), of(1_000), of(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn an_error_is_one_line_that_says_nothing_twice() {
        let cause = std::io::Error::other("first\n  second");
        let error = Error::config("cannot read `x`").with_source(cause).in_operator("flights");
        assert_eq!(error_line(&error), "error: operator `flights`: cannot read `x`: first second");
        let cause = std::io::Error::other("no space");
        let error = Error::unavailable("cannot write: no space").with_source(cause);
        assert_eq!(error_line(&error), "error: cannot write: no space");
    }
}
