//! Durable writes, and the refusal to go on after a failed sync.
//!
//! When a sync fails, the system may have dropped the pages it could not write and report success
//! the next time, so nothing can be known about the file from then on ("fsyncgate", 2018).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// How a file or directory is synced; tests give one that fails.
pub(crate) type SyncFile = fn(&File) -> io::Result<()>;

/// Writes to disk until the first failed sync.
#[derive(Debug)]
pub(crate) struct Disk {
    sync: SyncFile,
    poisoned: Option<(PathBuf, String)>,
}

impl Disk {
    pub(crate) fn new(sync: SyncFile) -> Self {
        Self { sync, poisoned: None }
    }

    /// Forgets an earlier failure. For a caller that has given up all that it wrote since its last
    /// successful sync.
    pub(crate) fn forget_failure(&mut self) {
        self.poisoned = None;
    }

    /// Fails if an earlier sync failed.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.poisoned {
            None => Ok(()),
            Some((path, detail)) => {
                Err(Error::Poisoned { path: path.clone(), detail: detail.clone() })
            }
        }
    }

    /// Creates a file, or replaces its contents, durably; its directory entry is not synced.
    pub(crate) fn write_file(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let mut file = File::create(path).map_err(|error| Error::io("create", path, error))?;
        file.write_all(bytes).map_err(|error| Error::io("write", path, error))?;
        self.sync_open(path, &file)
    }

    /// Makes a file's contents or a directory's entries durable.
    pub(crate) fn sync_path(&mut self, path: &Path) -> Result<()> {
        self.check()?;
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        self.sync_open(path, &file)
    }

    /// Renames; neither directory is synced.
    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.check()?;
        fs::rename(from, to).map_err(|error| Error::io("rename", from, error))
    }

    fn sync_open(&mut self, path: &Path, file: &File) -> Result<()> {
        (self.sync)(file).map_err(|error| {
            self.poisoned = Some((path.to_owned(), error.to_string()));
            Error::io("sync", path, error)
        })
    }
}

/// Creates a directory; fine if it exists.
pub(crate) fn create_directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(Error::io("create", path, error)),
        Ok(()) => Ok(()),
    }
}

/// Makes the entries of a directory durable, before there is a store that could be poisoned.
pub(crate) fn sync_new_directory(path: &Path) -> Result<()> {
    let synced = fs::File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Error::io("sync", path, error))
}

/// Deletes a directory and all in it; fine if it does not exist.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("delete", path, error))
        }
        _ => Ok(()),
    }
}
