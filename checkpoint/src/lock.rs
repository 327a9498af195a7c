//! The lock of a checkpoint directory: one process at a time, released by the system at its end.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::{Error, Result};

/// Held as long as it lives (an advisory lock on the file `LOCK`, which names the owner).
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    /// Closing it releases the lock.
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of a directory.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if another process, or another store of this one, has it.
    pub(crate) fn acquire(dir: &Path) -> Result<Self> {
        let path = dir.join("LOCK");
        let mut options = OpenOptions::new();
        // The contents are the owner's until the lock is held.
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(|e| Error::io("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Whoever holds it may be about to write its number: an empty file is no error.
                let _ = (&mut file).take(32).read_to_string(&mut owner);
                let pid = owner.trim().parse().ok();
                return Err(Error::InUse { dir: dir.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path, error)),
        }
        let owner = format!("{}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(owner.as_bytes()))
            .map_err(|error| Error::io("write", &path, error))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::DirectoryLock;
    use crate::{Error, ErrorKind};

    #[test]
    fn the_second_owner_is_told_of_the_first() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let first = DirectoryLock::acquire(dir.path()).expect("free");
        let error = DirectoryLock::acquire(dir.path()).expect_err("held");
        assert_eq!(error.kind(), ErrorKind::Fenced);
        let Error::InUse { pid, .. } = error else { panic!("{error}") };
        assert_eq!(pid, Some(std::process::id()));
        drop(first);
        DirectoryLock::acquire(dir.path()).expect("free again");
    }
}
