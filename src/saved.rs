//! The commands about savepoints and running jobs: `savepoint`, `stop`, `status`.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thalweg_engine::checkpoint::Archive;
use thalweg_engine::savepoint::export_archive;
use thalweg_engine::{Error, Result};

use crate::command_line::saved::{DirectoryOptions, SavedRequest, SavepointOptions, StopOptions};
use crate::control;

pub(crate) mod check;
mod inspect;

/// Does what was asked for; prints what there is to say.
pub(crate) fn run(request: &SavedRequest) -> Result<()> {
    match request {
        SavedRequest::Savepoint(options) => savepoint(options),
        SavedRequest::Stop(options) => stop(options),
        SavedRequest::Status(options) => status(options),
        SavedRequest::Inspect(options) => inspect::inspect(options),
    }
}

fn savepoint(options: &SavepointOptions) -> Result<()> {
    let request = json!({ "command": "savepoint", "dir": absolute(&options.to)? });
    let path = match ask(&options.of, &request)? {
        Some(answer) => text_of(&answer["savepoint"]),
        None => {
            // No job runs: its newest checkpoint is what it would start from.
            let archive = Archive::open(&options.of.checkpoint_dir, None)?;
            export_archive(&archive, &options.to)?.display().to_string()
        }
    };
    print(&path)
}

fn stop(options: &StopOptions) -> Result<()> {
    let mut request = json!({ "command": "stop" });
    if let Some(dir) = &options.with_savepoint {
        request["savepoint"] = json!(absolute(dir)?);
    }
    let Some(answer) = ask(&options.of, &request)? else { return Err(no_job(&options.of)) };
    if options.with_savepoint.is_some() {
        return print(&text_of(&answer["savepoint"]));
    }
    match answer["checkpoint"].as_u64() {
        Some(id) => print(&format!("{} at checkpoint {id}", text_of(&answer["outcome"]))),
        None => print(&text_of(&answer["outcome"])),
    }
}

fn status(options: &DirectoryOptions) -> Result<()> {
    let answer = ask(options, &json!({ "command": "status" }))?;
    let Some(Value::Object(mut answer)) = answer else { return Err(no_job(options)) };
    answer.remove("ok");
    print(&Value::Object(answer).to_string())
}

/// Asks the job, if one runs.
fn ask(options: &DirectoryOptions, request: &Value) -> Result<Option<Value>> {
    match control::socket_path(Some(&options.checkpoint_dir), options.control.as_deref()) {
        Some(path) => control::ask(&path, request),
        None => Ok(None),
    }
}

fn no_job(options: &DirectoryOptions) -> Error {
    Error::config(format!("no job is running in {}", options.checkpoint_dir.display()))
}

/// The job may have another working directory.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Error::config(format!("{} is no path", path.display())).with_source(error))
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Prints a line to the standard output; whoever closes it early has seen enough.
pub(crate) fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::unavailable("cannot write to the standard output").with_source(error))
        }
        _ => Ok(()),
    }
}
