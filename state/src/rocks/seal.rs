//! The seal: one more file in a RocksDB checkpoint, against damage that RocksDB does not notice.
//!
//! RocksDB checks the blocks of its table files when they are read, but takes a manifest that was
//! cut off for the manifest of an earlier time. The seal holds the manifest's length and checksum,
//! and what the portable format says in its header.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CURRENT;
use crate::codec::{self, FrameKind};
use crate::error::{Result, StateError};
use crate::hash::HASH_VERSION;
use crate::key_group::KeyGroupCount;

/// The seal's file name.
const SEAL: &str = "SEAL";

/// The version of the seal.
const SEAL_VERSION: u16 = 1;

/// What a seal says of its directory.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Seal {
    version: u16,
    hash_version: u8,
    key_group_count: u16,
    manifest: String,
    length: u64,
    checksum: u32,
}

/// Seals a checkpoint that RocksDB has just written.
pub(super) fn write(directory: &Path, count: KeyGroupCount) -> Result<()> {
    let (manifest, length, checksum) = read_manifest(directory)?;
    let seal = Seal {
        version: SEAL_VERSION,
        hash_version: HASH_VERSION,
        key_group_count: count.get(),
        manifest,
        length,
        checksum,
    };
    let mut payload = Vec::new();
    codec::encode(&seal, &mut payload)?;
    let path = directory.join(SEAL);
    fs::write(&path, codec::frame(FrameKind::ROCKSDB_SEAL, &payload))
        .map_err(|error| StateError::io(&path, error))
}

/// The number of key groups of a sealed checkpoint.
///
/// # Errors
/// `Corrupt` if the seal or the manifest is damaged, `Unsupported` if another version wrote it,
/// `Io` if a file is missing.
pub(super) fn check(directory: &Path) -> Result<KeyGroupCount> {
    let path = directory.join(SEAL);
    let bytes = fs::read(&path).map_err(|error| StateError::io(&path, error))?;
    let damaged = |detail: String| StateError::corrupt(0, detail).in_file(&path);
    let payload = codec::unframe_kind(FrameKind::ROCKSDB_SEAL, &bytes)
        .map_err(|error| damaged(error.to_string()))?;
    let seal: Seal = codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
    if (seal.version, seal.hash_version) != (SEAL_VERSION, HASH_VERSION) {
        return Err(StateError::Unsupported(format!(
            "{} has version {} and hash version {}; this program reads {SEAL_VERSION} and \
             {HASH_VERSION}",
            path.display(),
            seal.version,
            seal.hash_version
        )));
    }
    if read_manifest(directory)? != (seal.manifest, seal.length, seal.checksum) {
        let detail = "the manifest that it names is not the one that was sealed";
        return Err(StateError::corrupt(0, detail).in_file(&directory.join(CURRENT)));
    }
    KeyGroupCount::try_from(seal.key_group_count).map_err(damaged)
}

/// The name, length and checksum of the manifest that `CURRENT` names.
fn read_manifest(directory: &Path) -> Result<(String, u64, u32)> {
    let read = |path: &Path| fs::read(path).map_err(|error| StateError::io(path, error));
    let current = directory.join(CURRENT);
    let name = String::from_utf8(read(&current)?).unwrap_or_default();
    let name = name.strip_suffix('\n').unwrap_or_default();
    if !name.starts_with("MANIFEST-") || name.contains(['/', '\0']) {
        return Err(StateError::corrupt(0, "does not name a manifest").in_file(&current));
    }
    let manifest = read(&directory.join(name))?;
    Ok((name.to_owned(), manifest.len() as u64, crc32fast::hash(&manifest)))
}
