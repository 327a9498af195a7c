//! Checksums of files, remembered for files that one checkpoint shares with the next.
//!
//! A table file of RocksDB never changes once written and stays in many checkpoints as a hard link
//! of one inode. It is recognised by inode, size and time of change (not by name: a database that
//! starts anew numbers its files anew).

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::{CheckpointId, Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Checksums of files that are durable and do not change.
#[derive(Debug, Default)]
pub(crate) struct Checksums {
    known: BTreeMap<Identity, Known>,
}

#[derive(Debug)]
struct Known {
    crc32: u32,
    last_used: CheckpointId,
}

impl Checksums {
    /// The checksum of a file that an earlier checkpoint had.
    pub(crate) fn look_up(&mut self, metadata: &Metadata, id: CheckpointId) -> Option<u32> {
        let known = self.known.get_mut(&Identity::of(metadata))?;
        known.last_used = known.last_used.max(id);
        Some(known.crc32)
    }

    /// Remembers the checksum of a file that is durable.
    pub(crate) fn remember(&mut self, metadata: &Metadata, id: CheckpointId, crc32: u32) {
        self.known.insert(Identity::of(metadata), Known { crc32, last_used: id });
    }

    /// Forgets what no checkpoint from this one on has used.
    pub(crate) fn forget_before(&mut self, id: CheckpointId) {
        self.known.retain(|_, known| known.last_used >= id);
    }
}

/// Length and checksum (CRC-32, IEEE) of a file.
pub(crate) fn of_file(path: &Path) -> Result<(u64, u32)> {
    let read = || -> io::Result<(u64, u32)> {
        let mut file = File::open(path)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 256 * 1024];
        let mut bytes = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok((bytes, hasher.finalize()));
            }
            hasher.update(&buffer[..count]);
            bytes += count as u64;
        }
    };
    read().map_err(|error| Error::io("read", path, error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Checksums, of_file};
    use crate::CheckpointId;

    #[test]
    fn a_hard_link_is_recognised_and_a_new_file_of_the_same_name_is_not() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let (first, link) = (dir.path().join("1.sst"), dir.path().join("link"));
        fs::write(&first, b"contents").expect("writes");
        fs::hard_link(&first, &link).expect("links");
        let mut checksums = Checksums::default();
        let metadata = fs::metadata(&first).expect("exists");
        assert_eq!(checksums.look_up(&metadata, CheckpointId(1)), None);
        let (bytes, crc32) = of_file(&first).expect("reads");
        assert_eq!((bytes, crc32), (8, crc32fast::hash(b"contents")));
        checksums.remember(&metadata, CheckpointId(1), crc32);
        let linked = fs::metadata(&link).expect("exists");
        assert_eq!(checksums.look_up(&linked, CheckpointId(2)), Some(crc32));
        // The link keeps the inode in use, so the new file has another.
        fs::remove_file(&first).expect("deletes");
        fs::write(&first, b"CONTENTS").expect("writes");
        let anew = fs::metadata(&first).expect("exists");
        assert_eq!(checksums.look_up(&anew, CheckpointId(2)), None);
        checksums.forget_before(CheckpointId(2));
        assert_eq!(checksums.look_up(&linked, CheckpointId(2)), Some(crc32));
        checksums.forget_before(CheckpointId(3));
        assert_eq!(checksums.look_up(&linked, CheckpointId(3)), None);
    }
}
