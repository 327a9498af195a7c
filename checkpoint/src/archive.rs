//! `Archive`: what a savepoint or a checkpoint holds, for those who only read.
//!
//! A savepoint is a checkpoint that the user owns, a directory that stands for itself.
//!
//! *Layout:* the file `manifest` as in a checkpoint, and beside it the files that it names. There
//! are no other names in it: the directory can be moved and copied.
//!
//! Reading changes nothing and takes no lock: an [`Archive`] is a savepoint, or one checkpoint of a
//! directory in which a job may be running.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::{CheckpointId, Error, LocalPart, Manifest, PartFile, Result, local_directory};

/// The name of a manifest, in a checkpoint and in a savepoint.
pub(crate) const MANIFEST: &str = "manifest";

/// How much is read at once of a file that is checked, in bytes.
const CHUNK: usize = 1 << 20;

/// A savepoint or a checkpoint, open for reading.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    files: PathBuf,
    manifest: Manifest,
    is_committed: bool,
}

impl Archive {
    /// Opens the savepoint at `path`, or the checkpoint of that number, or else the newest one, in
    /// the checkpoint directory at `path`.
    ///
    /// # Errors
    ///
    /// There is none, or its manifest is damaged or of another format.
    pub fn open(path: &Path, id: Option<CheckpointId>) -> Result<Self> {
        let local = local_directory(path).ok_or_else(|| Error::Location {
            location: path.display().to_string(),
            detail: "only what is in a local directory can be looked into".to_owned(),
        })?;
        let path = &*local;
        if Self::is_savepoint(path) {
            let manifest = read_manifest(&path.join(MANIFEST), None)?;
            if let Some(id) = id.filter(|id| *id != manifest.id) {
                return Err(Error::NotFound { id, dir: path.to_owned() });
            }
            let is_committed = manifest.committables.is_empty();
            let (path, files) = (path.to_owned(), path.to_owned());
            return Ok(Self { path, files, manifest, is_committed });
        }
        let Some(newest) = Self::list(path)?.last().copied() else {
            return Err(Error::NothingSaved { path: path.to_owned() });
        };
        let id = id.unwrap_or(newest);
        let folder = path.join(format!("checkpoints/{id:010}"));
        if !folder.join(MANIFEST).exists() {
            return Err(Error::NotFound { id, dir: path.to_owned() });
        }
        let manifest = read_manifest(&folder.join(MANIFEST), Some(id))?;
        let is_committed = folder.join("committed").exists();
        Ok(Self { path: folder, files: path.join("files"), manifest, is_committed })
    }

    /// Whether a savepoint is at `path`.
    pub fn is_savepoint(path: &Path) -> bool {
        path.join(MANIFEST).is_file()
    }

    /// The published checkpoints of a directory, oldest first; none if it is not one.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn list(path: &Path) -> Result<Vec<CheckpointId>> {
        let folder = path.join("checkpoints");
        let entries = match fs::read_dir(&folder) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            entries => entries.map_err(|error| Error::io("list", &folder, error))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("list", &folder, error))?;
            let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
            ids.extend(number.filter(|_| entry.path().join(MANIFEST).exists()).map(CheckpointId));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// What it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether all that its sinks prepared has been committed.
    pub fn is_committed(&self) -> bool {
        self.is_committed
    }

    /// A part, checked against its size and checksum.
    ///
    /// # Errors
    ///
    /// It cannot be read or is damaged.
    pub fn part(&self, part: &PartFile) -> Result<LocalPart> {
        let path = self.files.join(&part.name);
        let damaged = |detail: String| {
            Err(Error::Damaged { id: self.manifest.id, path: path.clone(), detail })
        };
        let mut file = match File::open(&path) {
            Err(error) if is_absent(&error) => return damaged("is missing".to_owned()),
            file => file.map_err(|error| Error::io("open", &path, error))?,
        };
        let failed = |error| Error::io("read", &path, error);
        let length = file.metadata().map_err(failed)?.len();
        if part.offset.checked_add(part.bytes).is_none_or(|end| end > length) {
            return damaged(format!("has {length} bytes, too few"));
        }
        file.seek(SeekFrom::Start(part.offset)).map_err(failed)?;
        let is_whole = part.offset == 0 && part.bytes == length;
        let mut bytes = Vec::new();
        let mut hasher = crc32fast::Hasher::new();
        let mut left = part.bytes;
        let mut chunk = vec![0; CHUNK];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let read = file.read(&mut chunk[..most]).map_err(failed)?;
            if read == 0 {
                return damaged("is shorter than it was".to_owned());
            }
            hasher.update(&chunk[..read]);
            left -= read as u64;
            if !is_whole {
                bytes.extend_from_slice(&chunk[..read]);
            }
        }
        let crc32 = hasher.finalize();
        if crc32 != part.crc32 {
            return damaged(format!("has checksum {crc32:08x} instead of {:08x}", part.crc32));
        }
        Ok(if is_whole { LocalPart::File(path) } else { LocalPart::Bytes(bytes) })
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read_manifest(path: &Path, id: Option<CheckpointId>) -> Result<Manifest> {
    let bytes = fs::read(path).map_err(|error| Error::io("read", path, error))?;
    let manifest = match (Manifest::decode(path, &bytes), id) {
        (Err(Error::Corrupt { path, detail }), Some(id)) => {
            return Err(Error::Damaged { id, path, detail });
        }
        (decoded, _) => decoded?,
    };
    match id.filter(|id| *id != manifest.id) {
        None => Ok(manifest),
        Some(id) => Err(Error::Damaged {
            id,
            path: path.to_owned(),
            detail: format!("it is the manifest of checkpoint {}", manifest.id),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Archive;
    use crate::manifest::sample;
    use crate::{LocalPart, Manifest, SavepointWriter};

    /// A savepoint of the sample manifest, whose two parts have contents.
    fn written(dir: &std::path::Path) -> (std::path::PathBuf, Manifest) {
        let mut writer = SavepointWriter::create(dir, "one").expect("begins");
        for (name, contents) in [("1-0-count", b"zero".as_slice()), ("1-2-count", b"two")] {
            let part = writer.write(name, contents).expect("is written");
            assert_eq!(part, sample::part(name, contents));
        }
        let mut manifest = sample::manifest();
        manifest.subtasks.sort_by_key(|record| record.subtask);
        assert!(!dir.join("one").exists(), "it exists before it is finished");
        (writer.finish(&manifest).expect("is finished"), manifest)
    }

    #[test]
    fn what_was_written_is_read_also_from_another_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, manifest) = written(dir.path());
        let moved = dir.path().join("elsewhere");
        fs::rename(path, &moved).expect("can be moved");
        let archive = Archive::open(&moved, None).expect("is a savepoint");
        assert_eq!(*archive.manifest(), manifest);
        for part in manifest.part_files() {
            let LocalPart::File(path) = archive.part(part).expect("is there") else {
                panic!("a whole file");
            };
            assert_eq!(fs::read(path).expect("is read").len() as u64, part.bytes);
        }
    }

    #[test]
    fn every_damage_is_found_and_names_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, manifest) = written(dir.path());
        for name in ["manifest", "1-0-count", "1-2-count"] {
            let file = path.join(name);
            let bytes = fs::read(&file).expect("is there");
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 2] ^= 1;
            for damaged in [Some(&flipped[..]), Some(&bytes[..bytes.len() - 1]), None] {
                match damaged {
                    Some(bytes) => fs::write(&file, bytes).expect("can be damaged"),
                    None => fs::remove_file(&file).expect("can be removed"),
                }
                let read = || {
                    let archive = Archive::open(&path, None)?;
                    manifest.part_files().try_for_each(|part| archive.part(part).map(drop))
                };
                let error = read().expect_err("is damaged").to_string();
                let is_named = error.contains(name) || error.contains("neither");
                assert!(is_named, "{error}");
            }
            fs::write(&file, bytes).expect("can be mended");
        }
    }
}
