//! Objects as files of a directory, durable by the rules of a POSIX file system.
//!
//! *Layout:* that of [`crate::Repository`], and `LOCK`, and `work/`, scratch space that is emptied
//! at open (unless it was asked for elsewhere).
//!
//! *Creating a file that must not be there:* 1. It is written under a name that no other process
//! uses and ends in `.tmp`, and synced. 2. It gets its name by a hard link, which fails if the name
//! is taken (where there are no hard links: by a rename, if the name is free). 3. The directory is
//! synced, and the one above if that is new. What is put or adopted is synced at once, its entry in
//! the directory when the store settles.
//!
//! *Invariants*
//! * L1: a file that has its name never changes.
//! * L2: after a failed sync nothing more is written ([`disk`]), until all that was not published
//!   has been given up ([`Objects::recover`]).
//! * L3: no other process writes while this one holds the lock. Where locks do not reach (network
//!   file systems, containers), epochs do ([`crate::Repository`]).
//!
//! *Tests:* `local/tests/faults.rs` fails every operation in every way on a model of a disk.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::lock::DirectoryLock;
use crate::objects::{LocalFile, Objects, Summary};
use crate::{Error, Owner, Repository, Result, StoreOptions};

mod disk;
pub(crate) mod savepoint;
mod system;

#[cfg(test)]
pub(crate) mod tests;

use disk::{Disk, Found};
use system::System;

/// The ending of a file that does not have its name yet.
const UNFINISHED: &str = ".tmp";
/// How much is read at once of a file that is copied or checked, in bytes.
const CHUNK: u64 = 1 << 20;

impl Repository {
    /// Opens the checkpoints in a directory, creating it if need be.
    ///
    /// # Errors
    ///
    /// The directory is in use, belongs to another job, is no directory, or cannot be written. A
    /// damaged checkpoint is not an error here but in [`crate::CheckpointStore::latest`].
    pub fn open_directory(dir: &Path, options: &StoreOptions) -> Result<Self> {
        let disk = Disk::new(Box::new(System));
        prepare(&disk, dir)?;
        let lock = DirectoryLock::acquire(dir)?;
        let objects = Directory::open(dir, disk, options, Some(lock))?;
        Self::open(Box::new(objects), options)
    }
}

/// A directory that one process has for itself.
struct Directory {
    dir: PathBuf,
    disk: Disk,
    /// Directories whose entries have changed since they were synced.
    unsettled: BTreeSet<PathBuf>,
    /// Stands in the names of files that do not have their names yet.
    nonce: String,
    work: PathBuf,
    /// Removes scratch space that lies elsewhere.
    _temporary: Option<tempfile::TempDir>,
    _lock: Option<DirectoryLock>,
}

impl Directory {
    fn open(
        dir: &Path,
        disk: Disk,
        options: &StoreOptions,
        lock: Option<DirectoryLock>,
    ) -> Result<Self> {
        let temporary = options.work_dir.as_deref().map(crate::scratch::create).transpose()?;
        let work = temporary.as_ref().map_or_else(|| dir.join("work"), |dir| dir.path().to_owned());
        let mut store = Self {
            dir: dir.to_owned(),
            disk,
            unsettled: BTreeSet::new(),
            nonce: nonce_of(&options.owner),
            work,
            _temporary: temporary,
            _lock: lock,
        };
        for folder in ["checkpoints", "epochs", "files"] {
            let folder = dir.join(folder);
            store.disk.create_directory(&folder)?;
            store.unsettled.insert(folder);
        }
        store.settle_what_is_found()?;
        store.empty_work()?;
        Ok(store)
    }

    fn empty_work(&mut self) -> Result<()> {
        if self._temporary.is_none() {
            self.disk.remove_tree(&self.work)?;
            self.disk.create_directory(&self.work)?;
        }
        Ok(())
    }

    fn path_of(&self, key: &str) -> PathBuf {
        self.dir.join(key)
    }

    /// Makes durable what the last process may have seen and not synced when it ended: from now on
    /// others act on it.
    fn settle_what_is_found(&mut self) -> Result<()> {
        let checkpoints = self.dir.join("checkpoints");
        for (name, found) in self.disk.entries(&checkpoints)? {
            if found == Found::Directory {
                self.unsettled.insert(checkpoints.join(name));
            }
        }
        self.unsettled.insert(self.dir.clone());
        self.settle()?;
        // It may be somebody else's, and closed to this process.
        match self.disk.sync_new(parent_of(&self.dir)) {
            Err(Error::Denied { .. }) => Ok(()),
            synced => synced,
        }
    }

    /// A directory whose parent exists.
    fn create_folder(&mut self, path: &Path) -> Result<()> {
        if self.disk.create_directory(path)? {
            self.unsettled.insert(parent_of(path).to_owned());
        }
        Ok(())
    }

    /// Copies a file from another file system.
    fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let mut file = self.disk.create(to)?;
        let mut offset = 0;
        loop {
            let bytes = self.disk.read(from, offset, CHUNK)?.unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
            self.disk.write(to, &mut *file, &bytes)?;
        }
        self.disk.sync_open(to, &mut *file)?;
        self.disk.remove_file(from)
    }

    fn try_create(&mut self, path: &Path, unfinished: &Path, bytes: &[u8]) -> Result<bool> {
        self.disk.write_file(unfinished, bytes)?;
        let is_new = self.disk.give_name(unfinished, path)?;
        if is_new {
            self.unsettled.insert(parent_of(path).to_owned());
        }
        Ok(is_new)
    }

    fn list_into(&self, folder: &str, list: &mut Vec<(String, u64)>) -> Result<()> {
        for (name, found) in self.disk.entries(&self.path_of(folder))? {
            let key = format!("{folder}/{name}");
            match found {
                Found::File(bytes) => list.push((key, bytes)),
                Found::Directory => {
                    self.list_into(&key, list)?;
                    list.push((key + "/", 0));
                }
            }
        }
        Ok(())
    }

    fn summary_of(&self, path: &Path) -> Result<Option<Summary>> {
        let mut hasher = crc32fast::Hasher::new();
        let mut offset = 0;
        loop {
            let Some(bytes) = self.disk.read(path, offset, CHUNK)? else { return Ok(None) };
            if bytes.is_empty() {
                return Ok(Some(Summary { bytes: offset, crc32: hasher.finalize() }));
            }
            hasher.update(&bytes);
            offset += bytes.len() as u64;
        }
    }
}

impl Objects for Directory {
    fn locate(&self, key: &str) -> PathBuf {
        if key.is_empty() { self.dir.clone() } else { self.path_of(key) }
    }

    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path_of(key);
        let written = self.disk.write_file(&path, bytes);
        if written.is_err() {
            // It keeps no space; if it stays, nobody names it.
            let _ = self.disk.remove_file(&path);
        }
        self.unsettled.insert(parent_of(&path).to_owned());
        written
    }

    fn adopt(&mut self, key: &str, file: &Path) -> Result<Summary> {
        let path = self.path_of(key);
        let summary = self
            .summary_of(file)?
            .ok_or_else(|| Error::io("adopt", file, io::Error::from(io::ErrorKind::NotFound)))?;
        self.disk.sync_path(file)?;
        self.unsettled.insert(parent_of(&path).to_owned());
        if !self.disk.rename_within(file, &path)?
            && let Err(error) = self.copy(file, &path)
        {
            let _ = self.disk.remove_file(&path);
            return Err(error);
        }
        Ok(summary)
    }

    fn settle(&mut self) -> Result<()> {
        while let Some(dir) = self.unsettled.first() {
            self.disk.sync_path(dir)?;
            self.unsettled.pop_first();
        }
        Ok(())
    }

    fn create(&mut self, key: &str, bytes: &[u8]) -> Result<bool> {
        let path = self.path_of(key);
        self.create_folder(parent_of(&path))?;
        let unfinished = self.dir.join(format!("{key}.{}{UNFINISHED}", self.nonce));
        let created = self.try_create(&path, &unfinished, bytes);
        // If it stays, it is swept up later.
        let _ = self.disk.remove_file(&unfinished);
        if created? {
            self.settle()?;
            return Ok(true);
        }
        Ok(false)
    }

    fn read(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.disk.read(&self.path_of(key), 0, u64::MAX)
    }

    fn read_range(&self, key: &str, offset: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        self.disk.read(&self.path_of(key), offset, bytes)
    }

    fn local_file(&self, key: &str) -> Result<Option<LocalFile>> {
        Ok(self.size(key)?.map(|bytes| LocalFile::Path(self.path_of(key), bytes)))
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(match self.disk.look(&self.path_of(key))? {
            Some(Found::File(bytes)) => Some(bytes),
            _ => None,
        })
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        let mut list = Vec::new();
        self.list_into(folder, &mut list)?;
        Ok(list)
    }

    fn delete(&mut self, key: &str) -> Result<()> {
        let path = self.path_of(key);
        self.disk.remove_file(&path)?;
        self.unsettled.insert(parent_of(&path).to_owned());
        Ok(())
    }

    fn sweep(&mut self, folder: &str) -> Result<()> {
        let path = self.path_of(folder);
        for (name, _) in self.disk.entries(&path)? {
            if name.ends_with(UNFINISHED) {
                self.disk.remove_file(&path.join(name))?;
            }
        }
        if self.disk.entries(&path)?.is_empty() {
            self.disk.remove_directory(&path)?;
            self.unsettled.remove(&path);
            self.unsettled.insert(parent_of(&path).to_owned());
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<()> {
        self.disk.forget_failure();
        self.settle_what_is_found()?;
        self.empty_work()
    }

    fn work_directory(&self) -> Option<&Path> {
        Some(&self.work)
    }
}

/// Makes sure there is a directory, with all above it, each durable before what is below.
fn prepare(disk: &Disk, dir: &Path) -> Result<()> {
    match disk.look(dir) {
        Ok(Some(Found::Directory)) => return Ok(()),
        Ok(Some(Found::File(_))) => return Err(Error::NotADirectory { path: dir.to_owned() }),
        Ok(None) => {}
        Err(error) => return Err(error),
    }
    let parent = parent_of(dir);
    prepare(disk, parent)?;
    disk.create_directory(dir)?;
    disk.sync_new(parent)
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What tells the files of one process from those of another, on whatever host.
fn nonce_of(owner: &Owner) -> String {
    let Owner { pid, host, started_ms } = owner;
    format!("{pid}-{:08x}-{started_ms:x}", crc32fast::hash(host.as_bytes()))
}
