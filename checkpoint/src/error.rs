//! The crate's errors: each carries what happened where, and what kind of answer it needs.

use std::io;
use std::path::{Path, PathBuf};

use crate::{AlignerError, CheckpointId};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a checkpoint or its store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process uses the checkpoint directory.
    #[error(
        "checkpoint directory {} is in use by {}: wait for it to end, or choose another",
        dir.display(), owner(*pid)
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that holds the lock, if it could be read.
        pid: Option<u32>,
    },
    /// Another process has opened the checkpoints since and may publish now; this one may not.
    #[error(
        "{} has been taken over by {by}: this process stops and has committed nothing since; let \
         one of them run, and start that one again if it has stopped",
        dir.display()
    )]
    TakenOver {
        /// Where the checkpoints are.
        dir: PathBuf,
        /// The process that took over.
        by: String,
    },
    /// The checkpoint directory is something else.
    #[error("{} is a file, a checkpoint directory is needed", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Checkpoints cannot be kept where the user says.
    #[error("{location}: {detail}")]
    Location {
        /// A path or URL.
        location: String,
        /// Why, and what to do.
        detail: String,
    },
    /// The file system is full, or a quota is exhausted.
    #[error(
        "no space left to write {}: free space and start again, {}",
        path.display(), intact_text(*intact)
    )]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// The newest published checkpoint.
        intact: Option<CheckpointId>,
    },
    /// The process may not do what it needs to do.
    #[error("no permission to {action} {}", path.display())]
    Denied {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Any other failure of the file system.
    #[error("failed to {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync to disk failed earlier: what is on disk is unknown, so nothing more is written.
    #[error("nothing more is written after a failed sync of {}: {detail}", path.display())]
    Poisoned {
        /// What could not be synced.
        path: PathBuf,
        /// What the system said then.
        detail: String,
    },
    /// A published checkpoint is not what was written.
    #[error(
        "checkpoint {id} is damaged: {}: {detail}; put the file back from a copy, or name an older \
         checkpoint to restore, behind which output is made again",
        path.display()
    )]
    Damaged {
        /// The checkpoint.
        id: CheckpointId,
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Bytes that should be a manifest are none.
    #[error("{}: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The manifest was written in another format.
    #[error("{} has manifest format {found}, this build reads format {reads}", path.display())]
    Incompatible {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that this build reads.
        reads: u32,
    },
    /// The directory holds the checkpoints of another job.
    #[error(
        "checkpoint directory {} belongs to job {found:?}, not to {expected:?}: choose another",
        dir.display()
    )]
    OtherJob {
        /// The directory.
        dir: PathBuf,
        /// The job found in it.
        found: String,
        /// The job that was to run.
        expected: String,
    },
    /// There is no published checkpoint of this number.
    #[error("there is no checkpoint {id} in {}: see its folder `checkpoints`", dir.display())]
    NotFound {
        /// The checkpoint.
        id: CheckpointId,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// There is neither a savepoint nor a checkpoint.
    #[error("{} is neither a savepoint nor a directory with a checkpoint", path.display())]
    NothingSaved {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// Something stands where a savepoint was to be written.
    #[error("{} is there already: choose another directory, or remove it", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The caller asked for something that breaks the store's rules.
    #[error("checkpoint {id}: {detail}")]
    Refused {
        /// The checkpoint.
        id: CheckpointId,
        /// The rule.
        detail: String,
    },
    /// A fault that a test asked for.
    #[error("injected fault: {detail}")]
    Injected {
        /// The operation.
        detail: String,
    },
    /// Barriers arrived in an impossible order.
    #[error(transparent)]
    Aligner(#[from] AlignerError),
}

/// What the reader of an error can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Give another directory, or repair rights.
    Config,
    /// Try again later, or make room.
    Unavailable,
    /// Data on disk are damaged.
    Corrupt,
    /// Use the version that wrote the data.
    Incompatible,
    /// Someone else owns the directory.
    Fenced,
    /// Report it: a broken invariant of this project.
    Bug,
}

impl Error {
    /// What can be done about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotADirectory { .. }
            | Self::Location { .. }
            | Self::Denied { .. }
            | Self::OtherJob { .. }
            | Self::NotFound { .. }
            | Self::NothingSaved { .. }
            | Self::Exists { .. } => ErrorKind::Config,
            Self::InUse { .. } | Self::TakenOver { .. } => ErrorKind::Fenced,
            Self::NoSpace { .. }
            | Self::Io { .. }
            | Self::Poisoned { .. }
            | Self::Injected { .. } => ErrorKind::Unavailable,
            Self::Damaged { .. } | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Incompatible { .. } => ErrorKind::Incompatible,
            Self::Refused { .. } | Self::Aligner(_) => ErrorKind::Bug,
        }
    }

    /// Sorts a failure of the file system into the variants a user can act on.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { path, intact: None }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { action, path }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Adds to "no space left" which checkpoint is still there.
    pub(crate) fn with_intact(self, newest: Option<CheckpointId>) -> Self {
        match self {
            Self::NoSpace { path, .. } => Self::NoSpace { path, intact: newest },
            other => other,
        }
    }
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn intact_text(intact: Option<CheckpointId>) -> String {
    match intact {
        Some(id) => format!("checkpoint {id} is intact"),
        None => "there is no checkpoint yet".to_owned(),
    }
}
