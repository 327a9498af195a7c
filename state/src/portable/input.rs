//! Where the bytes of a run are.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Result, StateError};

/// A run's bytes, to be opened for each reading.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Bytes(Arc<[u8]>),
    /// A file from an offset on, and how many bytes of it.
    File(Arc<Path>, u64, u64),
    /// The same, kept open.
    Open(Input, u64),
}

/// A run's bytes, open for reading.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Bytes(Arc<[u8]>),
    /// A file from an offset on.
    File(Arc<File>, Arc<Path>, u64),
}

impl Source {
    /// How many bytes it is said to have.
    pub(super) fn length(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File(.., length) | Source::Open(_, length) => *length,
        }
    }

    /// The file, for errors.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Source::Bytes(_) | Source::Open(Input::Bytes(_), _) => None,
            Source::File(path, ..) | Source::Open(Input::File(_, path, _), _) => Some(path),
        }
    }

    pub(super) fn open(&self) -> Result<Input> {
        match self {
            Source::Bytes(bytes) => Ok(Input::Bytes(bytes.clone())),
            Source::File(path, start, _) => {
                let file = File::open(path).map_err(|error| StateError::io(path, error))?;
                Ok(Input::File(Arc::new(file), path.clone(), *start))
            }
            Source::Open(input, _) => Ok(input.clone()),
        }
    }
}

impl Input {
    /// How many bytes there are behind where it begins.
    pub(super) fn length(&self) -> Result<u64> {
        match self {
            Input::Bytes(bytes) => Ok(bytes.len() as u64),
            Input::File(file, path, start) => {
                let found = file.metadata().map_err(|error| StateError::io(path, error))?.len();
                Ok(found.saturating_sub(*start))
            }
        }
    }

    /// Reads `length` bytes at `offset`; both are known to lie in the file.
    pub(super) fn read(&self, offset: u64, length: usize, out: &mut Vec<u8>) -> Result<()> {
        let too_short = || StateError::corrupt(offset, "file is too short");
        match self {
            Input::Bytes(bytes) => {
                out.clear();
                let found = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
                let found = found.and_then(|bytes| bytes.get(..length));
                out.extend_from_slice(found.ok_or_else(too_short)?);
            }
            Input::File(file, path, start) => {
                out.resize(length, 0);
                file.read_exact_at(out, start + offset).map_err(|error| match error.kind() {
                    ErrorKind::UnexpectedEof => too_short(),
                    _ => StateError::io(path, error),
                })?;
            }
        }
        Ok(())
    }
}
