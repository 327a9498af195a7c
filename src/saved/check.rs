//! `check`: whether the job can start from a savepoint or checkpoint, told before it is tried.

use serde_json::{Value, json};
use thalweg_engine::checkpoint::{Archive, CheckpointId};
use thalweg_engine::graph::JobGraph;
use thalweg_engine::state::KeyGroupCount;
use thalweg_engine::upgrade::{Comparison, OperatorComparison, Verdict, compare};
use thalweg_engine::{Error, Result};

use super::print;
use crate::command_line::saved::{CheckFormat, CheckOptions};

/// Prints what would become of the state; true if the job can start.
pub(crate) fn check(job: &str, graph: &JobGraph, options: &CheckOptions) -> Result<bool> {
    graph.validate()?;
    let key_groups = KeyGroupCount::new(usize::from(options.key_groups.unwrap_or(128)))
        .ok_or_else(|| Error::config("the number of key groups must be 1 to 32768"))?;
    let archive = Archive::open(&options.path, options.checkpoint.map(CheckpointId))?;
    let comparison = compare(graph, job, &archive, key_groups)?;
    match options.format {
        CheckFormat::Text => print(text(&archive, &comparison).trim_end())?,
        CheckFormat::Json => print(&in_json(&archive, &comparison).to_string())?,
    }
    Ok(comparison.can_start())
}

fn text(archive: &Archive, comparison: &Comparison) -> String {
    let manifest = archive.manifest();
    let path = archive.path().display();
    let mut text = format!("{path}: job {}, checkpoint {}\n", manifest.job, manifest.id);
    for problem in &comparison.problems {
        text.push_str(&format!("  {problem}\n"));
    }
    let width = comparison.operators.iter().map(|found| found.name.len()).max().unwrap_or(0);
    for OperatorComparison { name, was, verdict } in &comparison.operators {
        let (word, details) = in_words(verdict);
        let was = was.as_ref().map(|was| format!(" (was {was})")).unwrap_or_default();
        let details = details.join(", ");
        let details = if details.is_empty() { details } else { format!(": {details}") };
        text.push_str(&format!("  {name:width$}  {word}{was}{details}\n"));
    }
    text.push_str(match comparison.can_start() {
        true => "the job can start from it",
        false => "the job cannot start from it",
    });
    text
}

fn in_words(verdict: &Verdict) -> (&'static str, Vec<String>) {
    match verdict {
        Verdict::Same => ("same", Vec::new()),
        Verdict::Migrates { changes } => ("migrates", changes.clone()),
        Verdict::Refused { reason } => ("refused", vec![reason.clone()]),
        Verdict::Unrecorded => {
            ("unrecorded", vec!["its types are not recorded: taken as they are".to_owned()])
        }
        Verdict::Dropped => ("dropped", Vec::new()),
        Verdict::Missing => (
            "missing",
            vec![
                "the job does not have it: say `Job::renamed` or `Job::dropped`, or bring it back"
                    .to_owned(),
            ],
        ),
        Verdict::New => ("new", vec!["begins without state".to_owned()]),
    }
}

fn in_json(archive: &Archive, comparison: &Comparison) -> Value {
    let operator = |found: &OperatorComparison| {
        let (verdict, details) = in_words(&found.verdict);
        json!({ "name": found.name, "was": found.was, "verdict": verdict, "details": details })
    };
    let operators: Vec<Value> = comparison.operators.iter().map(operator).collect();
    let manifest = archive.manifest();
    json!({
        "path": archive.path(),
        "job": manifest.job,
        "checkpoint": manifest.id,
        "can_start": comparison.can_start(),
        "problems": comparison.problems,
        "operators": operators,
    })
}
