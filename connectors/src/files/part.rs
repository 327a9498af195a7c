//! Parts of a file sink's output: their names, and the committable that stands for one.
//!
//! # Format
//! Hidden while written: `.part-open-<subtask>-<n>.<ext>.pending`; hidden and complete:
//! `.<final name>.pending`. Final: `part-<checkpoint, 10 digits>-<subtask, 4>-<n, 4>.<ext>`, or
//! `part-<subtask>-<n>.<ext>` where nothing is checkpointed. A committable is JSON with a version.
//!
//! # Invariants
//! * I1: a visible name is used once: a checkpoint's number is, and *n* counts within it.
//! * I2: the hidden names of a sink begin with `.part-` and end with its extension and `.pending`.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thalweg_engine::{CheckpointId, Error, Result};

const VERSION: u32 = 1;
const PENDING: &str = ".pending";

/// A part that is complete and durable, and still hidden.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Part {
    version: u32,
    /// The hidden name.
    pub(super) hidden: String,
    /// The name it gets.
    pub(super) name: String,
    /// Its length.
    pub(super) bytes: u64,
}

impl Part {
    pub(super) fn new(hidden: String, name: String, bytes: u64) -> Self {
        Part { version: VERSION, hidden, name, bytes }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of numbers and strings has a JSON form")
    }

    /// The part that `bytes` stand for.
    ///
    /// # Errors
    /// `Corrupt` if they are not a committable, or name something that is not a part.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let part: Part = serde_json::from_slice(bytes).map_err(|error| {
            Error::corrupt(format!("a committable of a file sink is damaged: {error}"))
        })?;
        let is_local = |name: &str| !name.contains(['/', '\\']);
        let names_parts = is_visible_part(&part.name)
            && part.hidden.starts_with(".part-")
            && is_local(&part.name)
            && is_local(&part.hidden);
        if part.version != VERSION || !names_parts {
            return Err(Error::corrupt(format!(
                "a committable of a file sink names `{}` (version {}), which is no part of one",
                part.name, part.version
            )));
        }
        Ok(part)
    }
}

/// The name of a part that is being written.
pub(super) fn open_name(subtask: usize, n: u64, extension: &str) -> String {
    format!(".part-open-{subtask:04}-{n:04}.{extension}{PENDING}")
}

/// The hidden name of a complete part.
pub(super) fn hidden_name(name: &str) -> String {
    format!(".{name}{PENDING}")
}

/// The final name of part `n` of a checkpoint, or of a job without checkpoints.
pub(super) fn final_name(
    checkpoint: Option<CheckpointId>,
    subtask: usize,
    n: u64,
    extension: &str,
) -> String {
    match checkpoint {
        Some(id) => format!("part-{:010}-{subtask:04}-{n:04}.{extension}", id.0),
        None => format!("part-{subtask:04}-{n:04}.{extension}"),
    }
}

/// True for the name of a hidden part of a sink with this extension.
pub(super) fn is_hidden_part(name: &str, extension: &str) -> bool {
    name.starts_with(".part-") && name.ends_with(&format!(".{extension}{PENDING}"))
}

/// True for the name of a part that readers see.
pub(super) fn is_visible_part(name: &str) -> bool {
    name.starts_with("part-")
}

/// Creates the output directory with its parents, durably.
pub(super) fn create_directory(directory: &Path) -> Result<()> {
    let fail = |error: io::Error| output_error("create", directory, &error);
    let missing: Vec<&Path> = directory.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(directory).map_err(fail)?;
    for created in missing {
        match created.parent() {
            Some(parent) if parent.as_os_str().is_empty() => sync_directory(Path::new("."))?,
            Some(parent) => sync_directory(parent)?,
            None => {}
        }
    }
    Ok(())
}

/// Makes new and changed names in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| output_error("sync", directory, &error))
}

/// The error of output that failed: what was tried, where, and what to do.
pub(super) fn output_error(action: &str, path: &Path, error: &io::Error) -> Error {
    use io::ErrorKind as Kind;
    let path = path.display();
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => Error::unavailable(format!(
            "cannot {action} output {path}: the disk is full; free some space and start again"
        )),
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Error::config(format!(
            "cannot {action} output {path}: {error}; choose a directory that can be written"
        )),
        Kind::AlreadyExists | Kind::NotADirectory => Error::config(format!(
            "cannot {action} output {path}: a file stands where the directory should be; remove \
             it or choose another directory"
        )),
        _ => Error::unavailable(format!("cannot {action} output {path}: {error}")),
    }
}
