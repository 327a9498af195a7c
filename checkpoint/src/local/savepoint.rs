//! `SavepointWriter`: writes a savepoint, which exists as a whole or not at all.
//!
//! *Writing:* 1. Files are written into `.<name>.tmp` beside the place, each synced. 2. The
//! manifest is written and synced, then the directory. 3. The rename gives the directory its name:
//! from here on the savepoint exists. 4. The directory above is synced.
//!
//! *Tests:* `local/tests/savepoints.rs` fails every operation in every way.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::system::System;
use super::{UNFINISHED, prepare};
use crate::repository::MANIFEST;
use crate::{Error, Manifest, PartFile, Result, local_directory};

/// Writes a savepoint; what was not finished disappears when it is dropped.
pub struct SavepointWriter {
    disk: Disk,
    dir: PathBuf,
    unfinished: PathBuf,
    target: PathBuf,
    is_finished: bool,
}

impl SavepointWriter {
    /// Begins the savepoint `name` in the directory `dir`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// There is something of that name, the directory cannot be written, or it is no directory but
    /// an object store.
    pub fn create(dir: &Path, name: &str) -> Result<Self> {
        let local = local_directory(dir).ok_or_else(|| Error::Location {
            location: dir.display().to_string(),
            detail: "a savepoint is made in a local directory, and can be copied from there"
                .to_owned(),
        })?;
        Self::create_on(Disk::new(Box::new(System)), &local, name)
    }

    pub(super) fn create_on(disk: Disk, dir: &Path, name: &str) -> Result<Self> {
        prepare(&disk, dir)?;
        let target = dir.join(name);
        if disk.look(&target)?.is_some() {
            return Err(Error::Exists { path: target });
        }
        let unfinished = dir.join(format!(".{name}{UNFINISHED}"));
        // What an earlier attempt left behind.
        disk.remove_tree(&unfinished)?;
        disk.create_directory(&unfinished)?;
        Ok(Self { disk, dir: dir.to_owned(), unfinished, target, is_finished: false })
    }

    /// Writes a file and returns what the manifest says of it.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<PartFile> {
        self.disk.write_file(&self.unfinished.join(name), bytes)?;
        let crc32 = crc32fast::hash(bytes);
        Ok(PartFile { name: name.to_owned(), offset: 0, bytes: bytes.len() as u64, crc32 })
    }

    /// Makes the savepoint exist and returns where it is.
    ///
    /// # Errors
    ///
    /// It cannot be written. If only the last sync failed it is there, and whole, but may be gone
    /// after a power failure.
    pub fn finish(mut self, manifest: &Manifest) -> Result<PathBuf> {
        self.disk.write_file(&self.unfinished.join(MANIFEST), &manifest.encode()?)?;
        self.disk.sync_path(&self.unfinished)?;
        if !self.disk.rename_within(&self.unfinished, &self.target)? {
            let error = io::ErrorKind::CrossesDevices.into();
            return Err(Error::io("rename", &self.unfinished, error));
        }
        self.is_finished = true;
        self.disk.sync_path(&self.dir)?;
        Ok(self.target.clone())
    }
}

impl std::fmt::Debug for SavepointWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavepointWriter").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Drop for SavepointWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            self.disk.forget_failure();
            // If it stays, the next attempt removes it.
            let _ = self.disk.remove_tree(&self.unfinished);
        }
    }
}
