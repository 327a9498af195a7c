//! Checkpoints over named objects: naming, packing, publishing, reference counting and fencing,
//! the same for a directory, an object store and memory.
//!
//! *Layout:* `epochs/<ten digits>`, who has opened the store (`epochs`); `files/<name>`, the parts
//! of all checkpoints (`files`); `checkpoints/<number, ten digits>/manifest`, and beside it the
//! empty object `committed` once its committables have been committed.
//!
//! *Publishing:* 1. The packs that the manifest names are written. 2. Every file that it names is
//! there, with the length it needs. 3. Everything is settled: it survives a power failure. 4. No
//! other process has taken over. 5. The manifest is created, which fails if there is one of this
//! number: from here on the checkpoint exists. 6. Still no other process has taken over.
//!
//! *Invariants*
//! * R1: no object is ever changed. Deleting a checkpoint begins with its manifest, durably; files
//!   follow that no manifest names.
//! * R2: while a manifest cannot be read, no file is deleted: it may name any of them.
//! * R3: E1 to E3 of [`epochs`]: after another process has taken over, nothing counts as published,
//!   and nothing is deleted.
//!
//! *Tests:* `repository/tests.rs`, for all places alike; the faults of a disk in
//! `local/tests/faults.rs`, those of an object store in `remote/tests.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::objects::{LocalFile, Objects, Summary};
use crate::store::{check_name, check_part_name};
use crate::{
    CheckpointId, CheckpointStore, Error, LocalPart, Manifest, Owner, PartFile, Result, to_delete,
};

mod epochs;
pub(crate) mod files;
mod opening;

#[cfg(test)]
pub(crate) mod tests;

use epochs::Epochs;
use files::{Files, SMALL};

pub(crate) const CHECKPOINTS: &str = "checkpoints";
pub(crate) const MANIFEST: &str = "manifest";
/// The empty object beside a manifest whose committables have all been committed.
const COMMITTED: &str = "committed";

/// For whom a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Name of the job.
    pub job: String,
    /// The process that opens it.
    pub owner: Owner,
    /// Where scratch files go. By default they go into the folder `work` of a checkpoint directory;
    /// for an object store, to the system's place for temporary files.
    pub work_dir: Option<PathBuf>,
}

/// The checkpoints of one job in one place, which one process at a time may add to.
pub struct Repository {
    objects: Box<dyn Objects>,
    job: String,
    epoch: u64,
    /// What is left of the processes before this one.
    epochs: Epochs,
    files: Files,
    published: BTreeMap<CheckpointId, Published>,
    next_id: CheckpointId,
    /// Who has taken over, as soon as this is known.
    successor: Option<String>,
}

/// A published checkpoint.
#[derive(Debug)]
struct Published {
    epoch: u64,
    /// The files that its manifest names; none if it cannot be read.
    files: Option<BTreeSet<String>>,
}

impl Published {
    fn of(manifest: &Manifest) -> Self {
        let names = manifest.part_files().map(|part| part.name.clone());
        Self { epoch: manifest.epoch, files: Some(names.collect()) }
    }
}

pub(crate) fn folder_of(id: CheckpointId) -> String {
    format!("{CHECKPOINTS}/{id:010}")
}

pub(crate) fn manifest_key(id: CheckpointId) -> String {
    format!("{}/{MANIFEST}", folder_of(id))
}

pub(crate) fn committed_key(id: CheckpointId) -> String {
    format!("{}/{COMMITTED}", folder_of(id))
}

/// The checkpoint that a key lies in, and the rest of the key; none if no store made it.
pub(crate) fn parse_key(key: &str) -> Option<(CheckpointId, &str)> {
    let (number, rest) = key.strip_prefix(CHECKPOINTS)?.strip_prefix('/')?.split_once('/')?;
    let id = CheckpointId(number.parse().ok()?);
    (format!("{id:010}") == number).then_some((id, rest))
}

impl Repository {
    /// Where it is.
    pub fn location(&self) -> PathBuf {
        self.objects.locate("")
    }

    fn newest(&self) -> Option<CheckpointId> {
        self.published.last_key_value().map(|(id, _)| *id)
    }

    /// Refuses what a process must not do any more that has been replaced.
    fn check_owner(&self) -> Result<()> {
        match &self.successor {
            None => Ok(()),
            Some(by) => Err(Error::TakenOver { dir: self.location(), by: by.clone() }),
        }
    }

    /// Looks for a process that has taken over.
    fn look_for_successor(&mut self) -> Result<()> {
        self.successor = epochs::successor(&*self.objects, self.epoch)?;
        self.check_owner()
    }

    fn begin(&mut self, id: CheckpointId, name: &str) -> Result<()> {
        check_part_name(id, name)?;
        self.check_owner()?;
        if self.published.contains_key(&id) {
            let detail = "it is published and cannot be changed".to_owned();
            return Err(Error::Refused { id, detail });
        }
        self.next_id = self.next_id.max(id.next());
        Ok(())
    }

    fn try_write(&mut self, id: CheckpointId, name: &str, bytes: &[u8]) -> Result<PartFile> {
        if bytes.len() < SMALL {
            if let Some(pack) = self.files.full_pack(id) {
                let name = pack.name.clone();
                self.objects.put(&files::key_of(&name), &pack.bytes)?;
                self.files.pack_is_written(&name);
            }
            return Ok(self.files.pack(id, bytes));
        }
        let name = self.files.new_name(id, name);
        self.objects.put(&files::key_of(&name), bytes)?;
        Ok(self.new_file(name, Summary::of(bytes)))
    }

    fn new_file(&mut self, name: String, summary: Summary) -> PartFile {
        self.files.remember(&name, summary.bytes);
        PartFile { name, offset: 0, bytes: summary.bytes, crc32: summary.crc32 }
    }

    fn check_publishable(&self, manifest: &Manifest) -> Result<()> {
        self.check_owner()?;
        let id = manifest.id;
        if manifest.job != self.job {
            let detail = format!("manifest names job {:?}, not {:?}", manifest.job, self.job);
            return Err(Error::Refused { id, detail });
        }
        if let Some(newest) = self.newest().filter(|newest| *newest >= id) {
            let detail = format!("checkpoint {newest} is published already");
            return Err(Error::Refused { id, detail });
        }
        Ok(())
    }

    fn try_publish(&mut self, manifest: &Manifest) -> Result<()> {
        let id = manifest.id;
        let bytes = manifest.encode()?;
        self.next_id = self.next_id.max(id.next());
        self.write_packs(manifest)?;
        for part in manifest.part_files() {
            self.check_presence(id, part)?;
        }
        self.objects.settle()?;
        self.look_for_successor()?;
        let key = manifest_key(id);
        // One that is there already may be this one, if an earlier answer was lost.
        if !self.objects.create(&key, &bytes)? && self.objects.read(&key)?.as_ref() != Some(&bytes)
        {
            self.look_for_successor()?;
            let by = format!("the process that has published checkpoint {id}");
            self.successor = Some(by);
            return self.check_owner();
        }
        self.published.insert(id, Published::of(manifest));
        self.files.handle_publication();
        self.look_for_successor()
    }

    fn write_packs(&mut self, manifest: &Manifest) -> Result<()> {
        let named: BTreeSet<_> = manifest.part_files().map(|part| part.name.as_str()).collect();
        let mut written = Vec::new();
        for pack in self.files.packs().filter(|pack| named.contains(pack.name.as_str())) {
            self.objects.put(&files::key_of(&pack.name), &pack.bytes)?;
            written.push(pack.name.clone());
        }
        for name in written {
            self.files.pack_is_written(&name);
        }
        Ok(())
    }

    /// A part that is about to be published has a file; contents were written by the store.
    fn check_presence(&mut self, id: CheckpointId, part: &PartFile) -> Result<()> {
        let length = match self.files.length(&part.name) {
            None => self.objects.size(&files::key_of(&part.name))?,
            known => known,
        };
        let refused = |what: String| {
            let detail = format!(
                "file {} {what}",
                self.objects.locate(&files::key_of(&part.name)).display()
            );
            Err(Error::Refused { id, detail })
        };
        match length {
            None => refused("is missing".to_owned()),
            Some(length) if length < part.offset.saturating_add(part.bytes) => {
                refused(format!("has {length} bytes, a part is to end behind them"))
            }
            Some(length) => {
                if self.files.length(&part.name).is_none() {
                    self.files.remember(&part.name, length);
                }
                Ok(())
            }
        }
    }

    /// The newest checkpoint that names a file, otherwise the one it was written for.
    fn checkpoint_of(&self, name: &str) -> CheckpointId {
        let mut newest_first = self.published.iter().rev();
        let names =
            |published: &Published| published.files.as_ref().is_some_and(|all| all.contains(name));
        let found = newest_first.find(|(_, published)| names(published)).map(|(id, _)| *id);
        found.or(files::parse_name(name).map(|(_, id)| id)).unwrap_or_default()
    }

    /// Compares what was found with what a manifest says.
    fn compare(&self, part: &PartFile, found: Option<Summary>) -> Result<()> {
        let expected = Summary { bytes: part.bytes, crc32: part.crc32 };
        let detail = match found {
            Some(found) if found == expected => return Ok(()),
            None => "is missing".to_owned(),
            Some(found) => format!(
                "has {} bytes with checksum {:08x} instead of {} with {:08x} from byte {} on",
                found.bytes, found.crc32, expected.bytes, expected.crc32, part.offset
            ),
        };
        Err(self.damaged(part, detail))
    }

    fn damaged(&self, part: &PartFile, detail: String) -> Error {
        let path = self.objects.locate(&files::key_of(&part.name));
        Error::Damaged { id: self.checkpoint_of(&part.name), path, detail }
    }

    /// Small parts that are not in a file yet are read from memory.
    fn read_checked(&self, part: &PartFile) -> Result<Vec<u8>> {
        let range = || {
            let start = usize::try_from(part.offset).ok()?;
            Some(start..start.checked_add(usize::try_from(part.bytes).ok()?)?)
        };
        let pack = self.files.packs().find(|pack| pack.name == part.name);
        let bytes = match pack {
            Some(pack) => range().and_then(|range| pack.bytes.get(range)).map(<[u8]>::to_vec),
            None => self.objects.read_range(&files::key_of(&part.name), part.offset, part.bytes)?,
        };
        self.compare(part, bytes.as_deref().map(Summary::of))?;
        Ok(bytes.unwrap_or_default())
    }

    fn delete_checkpoint(&mut self, id: CheckpointId) -> Result<()> {
        self.objects.delete(&manifest_key(id))?;
        self.objects.delete(&committed_key(id))?;
        self.objects.sweep(&folder_of(id))?;
        self.published.remove(&id);
        Ok(())
    }

    /// Deletes what is older than the newest checkpoint and not published by any valid claim:
    /// manifests whose writers never heard that they exist, or that are void.
    fn delete_strays(&mut self) -> Result<()> {
        let listed = self.objects.list(CHECKPOINTS)?;
        let Some(newest) = self.newest() else { return Ok(()) };
        let ids = listed.iter().filter_map(|(key, _)| parse_key(key)).map(|(id, _)| id);
        let strays = ids.filter(|id| *id < newest && !self.published.contains_key(id));
        for id in strays.collect::<BTreeSet<_>>() {
            self.delete_checkpoint(id)?;
        }
        Ok(())
    }

    fn delete_unneeded_files(&mut self) -> Result<()> {
        let mut named = BTreeSet::new();
        for published in self.published.values() {
            // R2
            let Some(files) = &published.files else { return Ok(()) };
            named.extend(files.iter().map(String::as_str));
        }
        for name in self.files.unneeded(&named) {
            self.objects.delete(&files::key_of(&name))?;
            self.files.forget(&name);
        }
        Ok(())
    }

    /// Deletes claims that make no manifest void any more.
    fn delete_old_claims(&mut self) -> Result<()> {
        if self.published.values().any(|published| published.files.is_none()) {
            // R2, for claims: its epoch is not known either.
            return Ok(());
        }
        let oldest = self.published.values().map(|published| published.epoch).min();
        self.epochs.delete_before(&mut *self.objects, oldest.unwrap_or(self.epoch))
    }
}

impl CheckpointStore for Repository {
    fn write_part(&mut self, id: CheckpointId, name: &str, bytes: &[u8]) -> Result<PartFile> {
        self.begin(id, name)?;
        self.try_write(id, name, bytes).map_err(|error| error.with_intact(self.newest()))
    }

    fn adopt_file(&mut self, id: CheckpointId, name: &str, path: &Path) -> Result<PartFile> {
        self.begin(id, name)?;
        let name = self.files.new_name(id, name);
        let adopted = self.objects.adopt(&files::key_of(&name), path);
        let summary = adopted.map_err(|error| error.with_intact(self.newest()))?;
        Ok(self.new_file(name, summary))
    }

    fn publish(&mut self, manifest: &Manifest) -> Result<()> {
        self.check_publishable(manifest)?;
        let manifest = Manifest { epoch: self.epoch, ..manifest.clone() };
        self.try_publish(&manifest).map_err(|error| error.with_intact(self.newest()))
    }

    fn latest(&self) -> Result<Option<Manifest>> {
        self.newest().map(|newest| self.load(newest)).transpose()
    }

    fn load(&self, id: CheckpointId) -> Result<Manifest> {
        let key = manifest_key(id);
        let bytes = match self.published.contains_key(&id) {
            true => self.objects.read(&key)?,
            false => None,
        };
        let bytes = bytes.ok_or_else(|| Error::NotFound { id, dir: self.location() })?;
        opening::decode_manifest(&*self.objects, &self.job, id, &bytes)
    }

    fn read_part(&self, part: &PartFile) -> Result<Vec<u8>> {
        check_name(self.checkpoint_of(&part.name), &part.name)?;
        self.read_checked(part)
    }

    fn local_part(&self, part: &PartFile) -> Result<LocalPart> {
        check_name(self.checkpoint_of(&part.name), &part.name)?;
        let is_own_file = part.offset == 0 && part.bytes >= SMALL as u64;
        if !is_own_file {
            return self.read_checked(part).map(LocalPart::Bytes);
        }
        match self.objects.local_file(&files::key_of(&part.name))? {
            Some(LocalFile::Path(path, bytes)) if bytes == part.bytes => Ok(LocalPart::File(path)),
            Some(LocalFile::Path(_, bytes)) => {
                Err(self.damaged(part, format!("has {bytes} bytes instead of {}", part.bytes)))
            }
            Some(LocalFile::Contents(bytes)) => {
                self.compare(part, Some(Summary::of(&bytes)))?;
                Ok(LocalPart::Bytes(bytes))
            }
            None => Err(self.damaged(part, "is missing".to_owned())),
        }
    }

    fn mark_committed(&mut self, id: CheckpointId) -> Result<()> {
        self.check_owner()?;
        // One removed by retention in the meantime: nobody will start from it.
        if self.published.contains_key(&id) {
            self.objects.create(&committed_key(id), b"")?;
        }
        Ok(())
    }

    fn is_committed(&self, id: CheckpointId) -> Result<bool> {
        Ok(self.objects.size(&committed_key(id))?.is_some())
    }

    fn discard(&mut self, id: CheckpointId) -> Result<()> {
        self.check_owner()?;
        if self.published.contains_key(&id) {
            return Ok(());
        }
        self.objects.sweep(&folder_of(id))
    }

    fn retain(&mut self, newest: usize) -> Result<()> {
        self.check_owner()?;
        let published: Vec<_> = self.published.keys().copied().collect();
        for id in to_delete(&published, newest) {
            self.delete_checkpoint(id)?;
        }
        self.delete_strays()?;
        self.objects.settle()?;
        self.delete_unneeded_files()?;
        self.delete_old_claims()
    }

    fn recover(&mut self) -> Result<()> {
        self.check_owner()?;
        self.open_again()
    }

    fn list(&self) -> Result<Vec<CheckpointId>> {
        Ok(self.published.keys().copied().collect())
    }

    fn next_id(&self) -> CheckpointId {
        self.next_id
    }

    fn work_directory(&self) -> Option<PathBuf> {
        self.objects.work_directory().map(Path::to_owned)
    }
}
