//! Bad use is refused when the job is built, with the operator's name and the line that made it.
//!
//! A table of jobs, each with one mistake: the error must name the operator and a line of the
//! table's entry, and no line of the library.

mod event_time;
mod options;
mod windows;

use thalweg::prelude::*;
use thalweg::{ErrorKind, PlanFormat};

/// A job with a mistake.
struct Case {
    /// The line at which the entry begins.
    line: u32,
    /// The operator that is to be named.
    operator: &'static str,
    /// Part of what is to be said.
    says: &'static str,
    build: fn(&Job),
}

/// An entry of a table.
macro_rules! case {
    ($operator:literal, $says:literal, $build:expr) => {
        crate::refused::Case { line: line!(), operator: $operator, says: $says, build: $build }
    };
}
use case;

/// Checks the cases of `file`, in the order in which they stand there; the last ends at `end`.
fn check(cases: &[Case], file: &str, end: u32) {
    let ends = cases.iter().skip(1).map(|case| case.line).chain([end]);
    for (case, end) in cases.iter().zip(ends) {
        let place = format!("{file}:{} ({}, {})", case.line, case.operator, case.says);
        let options = JobOptions { parallelism: Some(4), ..JobOptions::default() };
        let build = |job: &Job| {
            (case.build)(job);
            Ok(())
        };
        let built = thalweg::plan("refused", build, &options, PlanFormat::Text);
        let Err(error) = built else { panic!("{place} is not refused") };
        assert_eq!(error.kind(), ErrorKind::Config, "{place}: {error}");
        let error = error.to_string();
        assert!(error.contains(&format!("`{}`", case.operator)), "{place}: {error}");
        assert!(error.contains(case.says), "{place}: {error}");
        assert!(!error.contains("operators/src"), "{place} is told a line of ours: {error}");
        let whereabouts = format!("`{}` (tests/integration/{file}:", case.operator);
        let line = error.split(&whereabouts).nth(1).and_then(|rest| rest.split(')').next());
        let line: u32 = line.and_then(|line| line.parse().ok()).unwrap_or_default();
        assert!((case.line..end).contains(&line), "{place} is told line {line}: {error}");
    }
}

/// A stream without event time.
fn numbers(job: &Job, name: &str) -> Stream<u64> {
    job.source(name, memory::source(vec![1_u64, 2])).clone()
}

/// A stream with event time.
fn timed(job: &Job, name: &str) -> Stream<u64> {
    numbers(job, name).event_time(|n| *n, Watermarks::monotonic())
}

fn keyed(job: &Job, name: &str) -> KeyedStream<u64, u64> {
    timed(job, name).key_by(|n| *n)
}

fn untimed(job: &Job, name: &str) -> KeyedStream<u64, u64> {
    numbers(job, name).key_by(|n| *n)
}

fn end<T: Element>(stream: &Stream<T>) {
    stream.sink("out", sink::discard());
}
