//! `StateError`: what can go wrong with state.

use std::path::{Path, PathBuf};

use crate::codec::CodecError;

/// The result of an operation on state.
pub type Result<T, E = StateError> = std::result::Result<T, E>;

/// What can go wrong with state.
///
/// After an error from a method that changes state, the operator's state is to be discarded and
/// restored from the last checkpoint: part of the change may have been made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Stored bytes are not what was written.
    #[error("state is damaged{} at byte {offset}: {detail}", in_file(file.as_deref()))]
    Corrupt {
        /// The file, if the bytes came from one.
        file: Option<PathBuf>,
        /// The offset of the damaged part, in bytes from the start.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
    /// A key or value cannot be encoded or decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The operating system refused an operation on a file.
    #[error("cannot access {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// RocksDB failed.
    #[error("rocksdb: {0}")]
    RocksDb(String),
    /// The state is sound but cannot be used by this program.
    #[error("{0}")]
    Unsupported(String),
    /// The state is sound but of other types than this program has.
    #[error("{0}")]
    Incompatible(String),
}

impl StateError {
    /// Damage without a file at `offset`.
    pub(crate) fn corrupt(offset: u64, detail: impl Into<String>) -> Self {
        StateError::Corrupt { file: None, offset, detail: detail.into() }
    }

    /// The same error, naming `path` as the damaged file.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            StateError::Corrupt { file: None, offset, detail } => {
                StateError::Corrupt { file: Some(path.to_owned()), offset, detail }
            }
            other => other,
        }
    }

    /// A failed operation on `path`.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        StateError::Io { path: path.to_owned(), source }
    }
}

fn in_file(file: Option<&Path>) -> String {
    file.map(|path| format!(" in {}", path.display())).unwrap_or_default()
}
