//! Checkpoints in a directory of the local file system.
//!
//! *Layout:* `LOCK`; `checkpoints/<number, ten digits>/` with the parts and, once published, the
//! file `manifest`, and the empty file `committed` once its committables have been committed;
//! `work/`, scratch space that is emptied at open.
//!
//! *Publishing:* 1. parts are synced as they are written. 2. `manifest.tmp` is written and synced.
//! 3. The directory is synced, so that no manifest can outlive the entries of its parts. 4. The
//! rename to `manifest`: from here on the checkpoint exists. 5. The directory and the one above it
//! are synced: from here on it exists after a power failure too.
//!
//! *Invariants*
//! * L1: in a directory with a `manifest` no file is ever changed, and none added but `committed`;
//!   deleting one begins with the manifest.
//! * L2: after a failed sync nothing more is written ([`disk`]), until all that was not published
//!   has been given up ([`CheckpointStore::recover`]).
//! * L3: no other process writes while this one holds the lock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::lock::DirectoryLock;
use crate::store::check_name;
use crate::{
    CheckpointId, CheckpointStore, Error, FileEntry, Manifest, PartFile, PartKind, Result,
    to_delete,
};

mod checksums;
mod disk;
mod verify;

#[cfg(test)]
mod tests;

use checksums::Checksums;
use disk::{Disk, create_directory, remove_directory};

const MANIFEST: &str = "manifest";
/// The empty file beside a manifest whose committables have all been committed.
const COMMITTED: &str = "committed";
const MANIFEST_UNFINISHED: &str = "manifest.tmp";

/// The checkpoints of one job in one directory, which it has for itself.
#[derive(Debug)]
pub struct LocalStore {
    dir: PathBuf,
    job: String,
    disk: Disk,
    checksums: Checksums,
    newest: Option<CheckpointId>,
    next_id: CheckpointId,
    _lock: DirectoryLock,
}

impl LocalStore {
    /// Opens the directory for a job, creating it if the folder it lies in exists. Deletes what
    /// unpublished checkpoints left behind, unless the newest checkpoint cannot be read.
    ///
    /// # Errors
    ///
    /// The directory is in use, belongs to another job, is no directory, or cannot be written. A
    /// damaged checkpoint is not an error here but in [`CheckpointStore::latest`].
    pub fn open(dir: &Path, job: &str) -> Result<Self> {
        Self::open_with(dir, job, fs::File::sync_all)
    }

    fn open_with(dir: &Path, job: &str, sync: disk::SyncFile) -> Result<Self> {
        let created = prepare_directory(dir)?;
        let lock = DirectoryLock::acquire(dir)?;
        let mut store = Self {
            dir: dir.to_owned(),
            job: job.to_owned(),
            disk: Disk::new(sync),
            checksums: Checksums::default(),
            newest: None,
            next_id: CheckpointId(1),
            _lock: lock,
        };
        create_directory(&store.checkpoints())?;
        store.disk.sync_path(dir)?;
        if created {
            store.disk.sync_path(parent_of(dir))?;
        }
        store.recover()?;
        Ok(store)
    }

    /// Scratch space on the same file system, empty at open.
    pub fn work_directory(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// The directory that was opened.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    fn checkpoints(&self) -> PathBuf {
        self.dir.join("checkpoints")
    }

    fn path_of(&self, id: CheckpointId) -> PathBuf {
        self.checkpoints().join(format!("{id:010}"))
    }

    fn is_published(&self, id: CheckpointId) -> bool {
        self.path_of(id).join(MANIFEST).exists()
    }

    /// All checkpoint directories, published or not, oldest first.
    fn directories(&self) -> Result<Vec<CheckpointId>> {
        let path = self.checkpoints();
        let mut ids = Vec::new();
        let entries = fs::read_dir(&path).map_err(|error| Error::io("list", &path, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("list", &path, error))?;
            ids.extend(entry.file_name().to_str().and_then(parse_number));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The directory of a checkpoint that is being taken.
    fn begin(&mut self, id: CheckpointId) -> Result<PathBuf> {
        self.disk.check()?;
        if self.is_published(id) {
            let detail = "it is published and cannot be changed".to_owned();
            return Err(Error::Refused { id, detail });
        }
        let path = self.path_of(id);
        create_directory(&path)?;
        self.next_id = self.next_id.max(id.next());
        Ok(path)
    }

    fn try_adopt(&mut self, id: CheckpointId, name: &str, dir: &Path) -> Result<PartFile> {
        let target = self.begin(id)?.join(name);
        self.disk.rename(dir, &target)?;
        let mut files = Vec::new();
        for file in verify::file_names(id, &target)? {
            let path = target.join(&file);
            let metadata = fs::metadata(&path).map_err(|error| Error::io("read", &path, error))?;
            let crc32 = match self.checksums.look_up(&metadata, id) {
                Some(crc32) => crc32,
                None => {
                    let (_, crc32) = checksums::of_file(&path)?;
                    self.disk.sync_path(&path)?;
                    self.checksums.remember(&metadata, id, crc32);
                    crc32
                }
            };
            files.push(FileEntry { name: file, bytes: metadata.len(), crc32 });
        }
        self.disk.sync_path(&target)?;
        let bytes = files.iter().map(|file| file.bytes).sum();
        let crc32 = verify::directory_checksum(&files);
        Ok(PartFile { name: name.to_owned(), bytes, crc32, kind: PartKind::Directory, files })
    }

    fn try_publish(&mut self, manifest: &Manifest) -> Result<()> {
        let bytes = manifest.encode()?;
        let path = self.begin(manifest.id)?;
        for part in manifest.part_files() {
            verify::check_presence(manifest.id, &path, part)?;
        }
        let unfinished = path.join(MANIFEST_UNFINISHED);
        self.disk.write_file(&unfinished, &bytes)?;
        self.disk.sync_path(&path)?;
        self.disk.rename(&unfinished, &path.join(MANIFEST))?;
        self.disk.sync_path(&path)?;
        self.disk.sync_path(&self.checkpoints())
    }
}

impl CheckpointStore for LocalStore {
    fn write_part(&mut self, id: CheckpointId, name: &str, bytes: &[u8]) -> Result<PartFile> {
        check_name(id, name)?;
        let path = self.begin(id).map_err(|error| error.with_intact(self.newest))?.join(name);
        self.disk.write_file(&path, bytes).map_err(|error| error.with_intact(self.newest))?;
        Ok(PartFile {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(bytes),
            kind: PartKind::Portable,
            files: Vec::new(),
        })
    }

    fn adopt_directory(&mut self, id: CheckpointId, name: &str, dir: &Path) -> Result<PartFile> {
        check_name(id, name)?;
        self.try_adopt(id, name, dir).map_err(|error| error.with_intact(self.newest))
    }

    fn publish(&mut self, manifest: &Manifest) -> Result<()> {
        let id = manifest.id;
        if manifest.job != self.job {
            let detail = format!("manifest names job {:?}, not {:?}", manifest.job, self.job);
            return Err(Error::Refused { id, detail });
        }
        if let Some(newest) = self.newest.filter(|newest| *newest >= id) {
            let detail = format!("checkpoint {newest} is published already");
            return Err(Error::Refused { id, detail });
        }
        self.try_publish(manifest).map_err(|error| error.with_intact(self.newest))?;
        // Files that the one before last had and neither of the last two has are gone.
        if let Some(previous) = self.newest.replace(id) {
            self.checksums.forget_before(previous);
        }
        Ok(())
    }

    fn latest(&self) -> Result<Option<Manifest>> {
        self.list()?.last().map(|newest| self.load(*newest)).transpose()
    }

    fn load(&self, id: CheckpointId) -> Result<Manifest> {
        let path = self.path_of(id).join(MANIFEST);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound { id, dir: self.dir.clone() });
            }
            other => other.map_err(|error| Error::io("read", &path, error))?,
        };
        let manifest = verify::decode_manifest(id, &path, &bytes)?;
        if manifest.job != self.job {
            let (dir, expected) = (self.dir.clone(), self.job.clone());
            return Err(Error::OtherJob { dir, found: manifest.job, expected });
        }
        Ok(manifest)
    }

    fn read_part(&self, id: CheckpointId, part: &PartFile) -> Result<Vec<u8>> {
        check_name(id, &part.name)?;
        verify::read_file(id, &self.path_of(id).join(&part.name), part)
    }

    fn part_directory(&self, id: CheckpointId, part: &PartFile) -> Result<PathBuf> {
        check_name(id, &part.name)?;
        let path = self.path_of(id).join(&part.name);
        verify::check_directory(id, &path, part)?;
        Ok(path)
    }

    fn discard(&mut self, id: CheckpointId) -> Result<()> {
        self.disk.check()?;
        if self.is_published(id) {
            return Ok(());
        }
        remove_directory(&self.path_of(id))
    }

    fn mark_committed(&mut self, id: CheckpointId) -> Result<()> {
        self.disk.check()?;
        let path = self.path_of(id);
        if !self.is_published(id) {
            // Removed by retention in the meantime: nobody will start from it.
            return Ok(());
        }
        self.disk.write_file(&path.join(COMMITTED), b"")?;
        self.disk.sync_path(&path)
    }

    fn is_committed(&self, id: CheckpointId) -> Result<bool> {
        Ok(self.path_of(id).join(COMMITTED).exists())
    }

    fn retain(&mut self, newest: usize) -> Result<()> {
        let published = self.list()?;
        for id in to_delete(&published, newest) {
            self.disk.check()?;
            let path = self.path_of(id);
            let manifest = path.join(MANIFEST);
            fs::remove_file(&manifest).map_err(|error| Error::io("delete", &manifest, error))?;
            self.disk.sync_path(&path)?;
            remove_directory(&path)?;
        }
        // A part may have been written after its checkpoint was discarded.
        for id in self.directories()?.into_iter().filter(|id| Some(*id) < self.newest) {
            if !self.is_published(id) {
                remove_directory(&self.path_of(id))?;
            }
        }
        Ok(())
    }

    fn recover(&mut self) -> Result<()> {
        // Nothing that was written and not published is used any more.
        self.disk.forget_failure();
        // Nothing is deleted before the directory is known to be this job's.
        let readable = match self.latest() {
            Ok(_) => true,
            Err(error @ Error::OtherJob { .. }) => return Err(error),
            Err(_) => false,
        };
        self.newest = self.list()?.last().copied();
        // If publishing it failed at its last step, whether its name is durable is not known. All
        // else in it was synced before.
        if let Some(newest) = self.newest {
            self.disk.sync_path(&self.path_of(newest))?;
            self.disk.sync_path(&self.checkpoints())?;
        }
        let all = self.directories()?;
        let next = all.last().map_or(CheckpointId(1), |newest| newest.next());
        self.next_id = self.next_id.max(next);
        if readable {
            for id in all.into_iter().filter(|id| !self.is_published(*id)) {
                tracing::info!(checkpoint = id.0, "deleting an unfinished checkpoint");
                remove_directory(&self.path_of(id))?;
            }
        }
        remove_directory(&self.work_directory())?;
        create_directory(&self.work_directory())?;
        Ok(())
    }

    fn list(&self) -> Result<Vec<CheckpointId>> {
        let mut ids = self.directories()?;
        ids.retain(|id| self.is_published(*id));
        Ok(ids)
    }

    fn next_id(&self) -> CheckpointId {
        self.next_id
    }
}

/// Makes sure there is a directory, with all above it, and says whether it is new.
fn prepare_directory(dir: &Path) -> Result<bool> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => return Ok(false),
        Ok(_) => {
            return Err(Error::NotADirectory { path: dir.to_owned() });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Error::NotADirectory { path: parent_of(dir).to_owned() });
        }
        Err(error) => return Err(Error::io("open", dir, error)),
    }
    // What is above it is created too, each durable before what is below.
    let parent = parent_of(dir);
    if prepare_directory(parent)? {
        disk::sync_new_directory(parent_of(parent))?;
    }
    create_directory(dir)?;
    Ok(true)
}

fn parent_of(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The number of a checkpoint directory; none if the store did not make that name.
fn parse_number(name: &str) -> Option<CheckpointId> {
    let id = CheckpointId(name.parse().ok()?);
    (format!("{id:010}") == name).then_some(id)
}
