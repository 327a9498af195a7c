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

use crate::location::{ReadOnly, open_read_only};
use crate::objects::{LocalFile, Summary};
use crate::repository::{
    CHECKPOINTS, MANIFEST, committed_key, files, folder_of, manifest_key, parse_key,
};
use crate::{CheckpointId, Error, LocalPart, Manifest, PartFile, Result};

/// How much is read at once of a file that is checked, in bytes.
const CHUNK: usize = 1 << 20;

/// A savepoint or a checkpoint, open for reading.
pub struct Archive {
    path: PathBuf,
    place: ReadOnly,
    is_savepoint: bool,
    manifest: Manifest,
    is_committed: bool,
}

impl Archive {
    /// Opens the savepoint at `location`, or the checkpoint of that number, or else the newest one,
    /// of the checkpoints at `location`: a path, or a URL as for [`crate::Repository::open_at`].
    ///
    /// # Errors
    ///
    /// There is none, its manifest is damaged or of another format, or the place cannot be read.
    pub fn open(location: &Path, id: Option<CheckpointId>) -> Result<Self> {
        Self::open_in(open_read_only(location)?, id)
    }

    fn open_in(place: ReadOnly, id: Option<CheckpointId>) -> Result<Self> {
        if place.has(MANIFEST)? {
            let manifest = read_manifest(&place, MANIFEST, None)?;
            if let Some(id) = id.filter(|id| *id != manifest.id) {
                return Err(Error::NotFound { id, dir: place.locate("") });
            }
            let (path, is_committed) = (place.locate(""), manifest.committables.is_empty());
            return Ok(Self { path, place, is_savepoint: true, manifest, is_committed });
        }
        let Some(newest) = place.newest_checkpoint()? else {
            return Err(Error::NothingSaved { path: place.locate("") });
        };
        let id = id.unwrap_or(newest);
        if !place.has(&manifest_key(id))? {
            return Err(Error::NotFound { id, dir: place.locate("") });
        }
        let manifest = read_manifest(&place, &manifest_key(id), Some(id))?;
        let is_committed = place.has(&committed_key(id))?;
        let path = place.locate(&folder_of(id));
        Ok(Self { path, place, is_savepoint: false, manifest, is_committed })
    }

    /// Whether it is a savepoint.
    pub fn is_savepoint(&self) -> bool {
        self.is_savepoint
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
    ///
    /// # Cost
    ///
    /// A file in an object store is downloaded once.
    pub fn part(&self, part: &PartFile) -> Result<LocalPart> {
        let key = if self.is_savepoint { part.name.clone() } else { files::key_of(&part.name) };
        let damaged = |detail: String| {
            let path = self.place.locate(&key);
            Err(Error::Damaged { id: self.manifest.id, path, detail })
        };
        let Some(file) = self.place.file(&key)? else { return damaged("is missing".to_owned()) };
        let length = match &file {
            LocalFile::Path(_, length) => *length,
            LocalFile::Contents(bytes) => bytes.len() as u64,
        };
        if part.offset.checked_add(part.bytes).is_none_or(|end| end > length) {
            return damaged(format!("has {length} bytes, too few"));
        }
        let is_whole = part.offset == 0 && part.bytes == length;
        let (summary, found) = match file {
            LocalFile::Path(path, _) if is_whole => {
                (read_piece(&path, part, &mut |_| {})?, LocalPart::File(path))
            }
            LocalFile::Path(path, _) => {
                let mut bytes = Vec::new();
                let read = read_piece(&path, part, &mut |piece| bytes.extend_from_slice(piece))?;
                (read, LocalPart::Bytes(bytes))
            }
            LocalFile::Contents(bytes) => {
                let bytes = bytes[part.offset as usize..][..part.bytes as usize].to_vec();
                (Summary::of(&bytes), LocalPart::Bytes(bytes))
            }
        };
        if summary.bytes < part.bytes {
            return damaged("is shorter than it was".to_owned());
        }
        if summary.crc32 != part.crc32 {
            let (found, expected) = (summary.crc32, part.crc32);
            return damaged(format!("has checksum {found:08x} instead of {expected:08x}"));
        }
        Ok(found)
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Reads the piece of a file that a part is, a little at a time.
fn read_piece(path: &Path, part: &PartFile, each: &mut dyn FnMut(&[u8])) -> Result<Summary> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(part.offset)).map_err(failed)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut left = part.bytes;
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let read = file.read(&mut chunk[..most]).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
        each(&chunk[..read]);
        left -= read as u64;
    }
    Ok(Summary { bytes: part.bytes - left, crc32: hasher.finalize() })
}

impl ReadOnly {
    fn locate(&self, key: &str) -> PathBuf {
        match self {
            Self::Directory(dir) if key.is_empty() => dir.clone(),
            Self::Directory(dir) => dir.join(key),
            Self::Objects(objects) => objects.locate(key),
        }
    }

    fn has(&self, key: &str) -> Result<bool> {
        match self {
            Self::Directory(dir) => Ok(dir.join(key).is_file()),
            Self::Objects(objects) => Ok(objects.size(key)?.is_some()),
        }
    }

    fn read(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Directory(dir) => {
                let path = dir.join(key);
                none_if_absent(fs::read(&path)).map_err(|error| Error::io("read", &path, error))
            }
            Self::Objects(objects) => objects.read(key),
        }
    }

    fn file(&self, key: &str) -> Result<Option<LocalFile>> {
        match self {
            Self::Directory(dir) => {
                let path = dir.join(key);
                let found = none_if_absent(fs::metadata(&path));
                let found = found.map_err(|error| Error::io("look at", &path, error))?;
                Ok(found.map(|metadata| LocalFile::Path(path, metadata.len())))
            }
            Self::Objects(objects) => objects.local_file(key),
        }
    }

    /// The greatest number of a published checkpoint.
    fn newest_checkpoint(&self) -> Result<Option<CheckpointId>> {
        match self {
            Self::Directory(dir) => {
                let folder = dir.join(CHECKPOINTS);
                let failed = |error| Error::io("list", &folder, error);
                let entries = none_if_absent(fs::read_dir(&folder)).map_err(failed)?;
                let mut newest = None;
                for entry in entries.into_iter().flatten() {
                    let name = entry.map_err(failed)?.file_name();
                    let id = name.to_str().and_then(|name| name.parse().ok()).map(CheckpointId);
                    newest = newest.max(id.filter(|id| dir.join(manifest_key(*id)).is_file()));
                }
                Ok(newest)
            }
            Self::Objects(objects) => {
                let listed = objects.list(CHECKPOINTS)?;
                let keys = listed.iter().filter_map(|(key, _)| parse_key(key));
                Ok(keys.filter(|(_, rest)| *rest == MANIFEST).map(|(id, _)| id).max())
            }
        }
    }
}

fn none_if_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn read_manifest(place: &ReadOnly, key: &str, id: Option<CheckpointId>) -> Result<Manifest> {
    let path = place.locate(key);
    let Some(bytes) = place.read(key)? else {
        return Err(Error::NothingSaved { path: place.locate("") });
    };
    match id {
        Some(id) => Manifest::decode_published(id, &path, &bytes),
        None => Manifest::decode(&path, &bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Archive, ReadOnly};
    use crate::manifest::sample;
    use crate::memory::Map;
    use crate::objects::Objects;
    use crate::repository::tests::{everywhere, large, manifest, open, write};
    use crate::{
        CheckpointId, CheckpointStore, Error, LocalPart, Manifest, PartFile, SavepointWriter,
    };

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
    fn checkpoints_are_read_everywhere_without_disturbing_their_owner() {
        everywhere(|place| {
            let read = |id: Option<u64>| {
                Archive::open_in(ReadOnly::Objects(place()), id.map(CheckpointId))
            };
            let contents = |archive: &Archive, part: &PartFile| match archive.part(part) {
                Ok(LocalPart::File(path)) => fs::read(path).expect("is there"),
                Ok(LocalPart::Bytes(bytes)) => bytes,
                Err(error) => panic!("{error}"),
            };
            let mut store = open(place);
            let error = read(None).expect_err("nothing is there");
            assert!(matches!(error, Error::NothingSaved { .. }), "{error}");
            let small = [b"one", b"two"].map(|bytes| write(&mut store, 7, bytes));
            let big = write(&mut store, 7, &large(0));
            let parts = [&small[0], &small[1], &big];
            store.publish(&manifest(7, &parts)).expect("publishes");
            store.publish(&manifest(8, &[&big])).expect("publishes");
            let newest = read(None).expect("opens");
            assert_eq!((newest.manifest().id.0, newest.is_savepoint()), (8, false));
            let first = read(Some(7)).expect("opens");
            for (part, bytes) in parts.into_iter().zip([&b"one"[..], b"two", &large(0)]) {
                assert_eq!(contents(&first, part), bytes);
            }
            assert!(!first.is_committed());
            store.mark_committed(CheckpointId(7)).expect("marks");
            assert!(read(Some(7)).expect("opens").is_committed());
            let error = read(Some(9)).expect_err("is not there");
            assert!(matches!(error, Error::NotFound { .. }), "{error}");
            // Its owner has noticed nothing.
            store.publish(&manifest(9, &[&big])).expect("publishes");
            let wrong = PartFile { crc32: 1, ..big.clone() };
            let error = read(None).expect("opens").part(&wrong).expect_err("is another one");
            assert!(error.to_string().contains("has checksum"), "{error}");
        });
    }

    #[test]
    fn a_savepoint_that_was_copied_into_an_object_store_is_read_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, manifest) = written(dir.path());
        let mut objects = Map::default();
        for name in ["manifest", "1-0-count", "1-2-count"] {
            objects.put(name, &fs::read(path.join(name)).expect("is there")).expect("uploads");
        }
        let archive = Archive::open_in(ReadOnly::Objects(Box::new(objects)), None).expect("opens");
        assert!(archive.is_savepoint() && *archive.manifest() == manifest);
        for part in manifest.part_files() {
            assert!(matches!(archive.part(part), Ok(LocalPart::Bytes(_))));
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
