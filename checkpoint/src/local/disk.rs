//! The one door to the file system, and the refusal to go on after a failed sync.
//!
//! [`FileSystem`] is what a store needs of a file system; [`super::system`] is the real one, tests
//! have a model that fails, tears and forgets. [`Disk`] is all that the store itself calls: it
//! names what failed, and poisons itself.
//!
//! When a sync fails, the system may have dropped the pages it could not write and report success
//! the next time, so nothing can be known about the file from then on ("fsyncgate", 2018).

use std::io;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A file of this length.
    File(u64),
    /// A directory.
    Directory,
}

/// The operations on files and directories that a store is made of.
pub(super) trait FileSystem: Send {
    fn look(&self, path: &Path) -> io::Result<Found>;
    /// Names in a directory, and what they lead to.
    fn entries(&self, dir: &Path) -> io::Result<Vec<(String, Found)>>;
    /// At most `bytes` bytes from `offset` on.
    fn read(&self, path: &Path, offset: u64, bytes: u64) -> io::Result<Vec<u8>>;
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// A new file, or an old one made empty.
    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// Makes a file's contents or a directory's entries durable.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// A second name for a file, which must be free.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub(super) trait OpenFile {
    /// Appends bytes, and says how many.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn sync(&mut self) -> io::Result<()>;
}

/// Works on a file system until the first failed sync, and only reads from then on.
pub(super) struct Disk {
    system: Box<dyn FileSystem>,
    poisoned: Option<(PathBuf, String)>,
}

impl Disk {
    pub(super) fn new(system: Box<dyn FileSystem>) -> Self {
        Self { system, poisoned: None }
    }

    /// Forgets an earlier failure. For a caller that has given up all that it wrote since its last
    /// successful sync.
    pub(super) fn forget_failure(&mut self) {
        self.poisoned = None;
    }

    fn check(&self) -> Result<()> {
        match &self.poisoned {
            None => Ok(()),
            Some((path, detail)) => {
                Err(Error::Poisoned { path: path.clone(), detail: detail.clone() })
            }
        }
    }

    fn poison(&mut self, path: &Path, error: io::Error) -> Error {
        self.poisoned = Some((path.to_owned(), error.to_string()));
        Error::io("sync", path, error)
    }

    /// What a path leads to; none if to nothing.
    pub(super) fn look(&self, path: &Path) -> Result<Option<Found>> {
        none_if_missing(self.system.look(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => {
                let path = path.parent().unwrap_or(path).to_owned();
                Error::NotADirectory { path }
            }
            _ => Error::io("look at", path, error),
        })
    }

    /// What is in a directory, sorted by name; nothing if it does not exist.
    pub(super) fn entries(&self, dir: &Path) -> Result<Vec<(String, Found)>> {
        let entries = none_if_missing(self.system.entries(dir));
        let mut entries = entries.map_err(|e| Error::io("list", dir, e))?.unwrap_or_default();
        entries.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        Ok(entries)
    }

    /// At most `bytes` bytes from `offset` on; none if there is no such file.
    pub(super) fn read(&self, path: &Path, offset: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        none_if_missing(self.system.read(path, offset, bytes))
            .map_err(|error| Error::io("read", path, error))
    }

    /// Creates a directory; false if there is one.
    pub(super) fn create_directory(&self, path: &Path) -> Result<bool> {
        self.check()?;
        match self.system.create_directory(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.look(path)? {
                Some(Found::Directory) => Ok(false),
                _ => Err(Error::io("create", path, error)),
            },
            Err(error) => Err(Error::io("create", path, error)),
        }
    }

    /// Creates a file, or makes an old one empty.
    pub(super) fn create(&self, path: &Path) -> Result<Box<dyn OpenFile>> {
        self.check()?;
        self.system.create(path).map_err(|error| Error::io("create", path, error))
    }

    pub(super) fn write(&self, path: &Path, file: &mut dyn OpenFile, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.check()?;
            match file.write(rest) {
                Ok(0) => return Err(Error::io("write", path, io::ErrorKind::WriteZero.into())),
                Ok(count) => rest = &rest[count.min(rest.len())..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("write", path, error)),
            }
        }
        Ok(())
    }

    pub(super) fn sync_open(&mut self, path: &Path, file: &mut dyn OpenFile) -> Result<()> {
        self.check()?;
        file.sync().map_err(|error| self.poison(path, error))
    }

    /// Creates a file, or replaces its contents, durably; its directory entry is not synced.
    pub(super) fn write_file(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = self.create(path)?;
        self.write(path, &mut *file, bytes)?;
        self.sync_open(path, &mut *file)
    }

    /// Makes a file's contents or a directory's entries durable.
    pub(super) fn sync_path(&mut self, path: &Path) -> Result<()> {
        self.check()?;
        self.system.sync(path).map_err(|error| self.poison(path, error))
    }

    /// The same before there is a store that could be poisoned.
    pub(super) fn sync_new(&self, path: &Path) -> Result<()> {
        self.system.sync(path).map_err(|error| Error::io("sync", path, error))
    }

    /// Gives a finished file its name if that is free; false if it is not. The old name may stay.
    pub(super) fn give_name(&self, file: &Path, name: &Path) -> Result<bool> {
        self.check()?;
        match self.system.link(file, name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            // What file systems without hard links say.
            Err(error) if has_no_links(&error) => {
                if self.look(name)?.is_some() {
                    return Ok(false);
                }
                let renamed = self.system.rename(file, name);
                renamed.map(|()| true).map_err(|error| Error::io("rename", file, error))
            }
            Err(error) => Err(Error::io("link", file, error)),
        }
    }

    /// Renames a file; false if the new name is on another file system.
    pub(super) fn rename_within(&self, from: &Path, to: &Path) -> Result<bool> {
        self.check()?;
        match self.system.rename(from, to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Ok(false),
            Err(error) => Err(Error::io("rename", from, error)),
        }
    }

    /// Removes a file; fine if it does not exist.
    pub(super) fn remove_file(&self, path: &Path) -> Result<()> {
        self.check()?;
        let removed = none_if_missing(self.system.remove_file(path));
        removed.map(drop).map_err(|error| Error::io("delete", path, error))
    }

    /// Removes an empty directory; fine if it does not exist.
    pub(super) fn remove_directory(&self, path: &Path) -> Result<()> {
        self.check()?;
        let removed = none_if_missing(self.system.remove_directory(path));
        removed.map(drop).map_err(|error| Error::io("delete", path, error))
    }

    /// Removes a directory and all in it; fine if it does not exist.
    pub(super) fn remove_tree(&self, path: &Path) -> Result<()> {
        for (name, found) in self.entries(path)? {
            match found {
                Found::File(_) => self.remove_file(&path.join(name))?,
                Found::Directory => self.remove_tree(&path.join(name))?,
            }
        }
        self.remove_directory(path)
    }
}

fn none_if_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn has_no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}
