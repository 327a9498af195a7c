//! Compares what is on disk with what a manifest says.

use std::fs;
use std::io;
use std::path::Path;

use crate::{CheckpointId, Error, FileEntry, Manifest, PartFile, PartKind, Result};

use super::checksums;

/// The manifest of a published checkpoint.
pub(super) fn decode_manifest(id: CheckpointId, path: &Path, bytes: &[u8]) -> Result<Manifest> {
    match Manifest::decode(path, bytes) {
        Err(Error::Corrupt { path, detail }) => Err(Error::Damaged { id, path, detail }),
        Ok(manifest) if manifest.id != id => {
            Err(damaged(id, path, format!("it is the manifest of checkpoint {}", manifest.id)))
        }
        other => other,
    }
}

/// The contents of a file part.
pub(super) fn read_file(id: CheckpointId, path: &Path, part: &PartFile) -> Result<Vec<u8>> {
    if part.kind != PartKind::Portable {
        return Err(Error::Refused { id, detail: format!("{} is a directory", part.name) });
    }
    // Sizes are compared first: a file that has grown is not read into memory.
    check_size(id, path, part.bytes)?;
    let bytes = fs::read(path).map_err(|error| Error::io("read", path, error))?;
    compare(id, path, (part.bytes, part.crc32), (bytes.len() as u64, crc32fast::hash(&bytes)))?;
    Ok(bytes)
}

/// Checks every file of a directory part; files that it does not name are not looked at.
pub(super) fn check_directory(id: CheckpointId, path: &Path, part: &PartFile) -> Result<()> {
    if part.kind != PartKind::Directory {
        return Err(Error::Refused { id, detail: format!("{} is a file", part.name) });
    }
    for file in &part.files {
        let path = path.join(&file.name);
        check_size(id, &path, file.bytes)?;
        compare(id, &path, (file.bytes, file.crc32), checksums::of_file(&path)?)?;
    }
    if directory_checksum(&part.files) != part.crc32 {
        return Err(damaged(id, path, "its list of files does not add up".to_owned()));
    }
    Ok(())
}

/// Checks that a part that is about to be published is there; contents were written by the store.
pub(super) fn check_presence(id: CheckpointId, dir: &Path, part: &PartFile) -> Result<()> {
    let path = dir.join(&part.name);
    let sound = match part.kind {
        PartKind::Portable => check_size(id, &path, part.bytes),
        PartKind::Directory => part
            .files
            .iter()
            .try_for_each(|file| check_size(id, &path.join(&file.name), file.bytes)),
    };
    match sound {
        Err(Error::Damaged { path, detail, .. }) => {
            Err(Error::Refused { id, detail: format!("part {}: {detail}", path.display()) })
        }
        other => other,
    }
}

/// Names of the files in a directory, sorted; it must not hold directories.
pub(super) fn file_names(id: CheckpointId, dir: &Path) -> Result<Vec<String>> {
    let failed = |error: io::Error| Error::io("list", dir, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().into_string().ok();
        match name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
            Some(name) => names.push(name),
            None => {
                let detail = format!("{} is not a plain file", entry.path().display());
                return Err(Error::Refused { id, detail });
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The checksum of a directory: that of its files' names, lengths and checksums.
pub(super) fn directory_checksum(files: &[FileEntry]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for file in files {
        hasher.update(file.name.as_bytes());
        hasher.update(&[0]);
        hasher.update(&file.bytes.to_le_bytes());
        hasher.update(&file.crc32.to_le_bytes());
    }
    hasher.finalize()
}

fn check_size(id: CheckpointId, path: &Path, bytes: u64) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.len() == bytes => Ok(()),
        Ok(found) => {
            Err(damaged(id, path, format!("has {} bytes instead of {bytes}", found.len())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(damaged(id, path, "is missing".to_owned()))
        }
        Err(error) => Err(Error::io("read", path, error)),
    }
}

fn compare(id: CheckpointId, path: &Path, expected: (u64, u32), found: (u64, u32)) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let detail = format!(
        "has {} bytes with checksum {:08x} instead of {} with {:08x}",
        found.0, found.1, expected.0, expected.1
    );
    Err(damaged(id, path, detail))
}

fn damaged(id: CheckpointId, path: &Path, detail: String) -> Error {
    Error::Damaged { id, path: path.to_owned(), detail }
}
