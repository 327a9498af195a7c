//! Where a reader of files stands: what a checkpoint remembers, and how a file is recognised.

use serde::{Deserialize, Serialize};
use thalweg_engine::{Error, Result};

use super::list::DataFile;

/// This much of a file's beginning identifies it.
pub(super) const HEAD_BYTES: usize = 4096;
const VERSION: u32 = 1;

/// A position in a split, encoded as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Position {
    version: u32,
    /// The file that was read last; none before the first.
    pub(super) at: Option<InFile>,
}

/// A position in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct InFile {
    /// The name of the file.
    pub(super) file: String,
    /// The offset in the decompressed file after the last complete record.
    pub(super) offset: u64,
    /// The lines before that offset.
    pub(super) line: u64,
    /// What the file looked like.
    pub(super) identity: Identity,
}

/// What identifies a file's content without reading all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The length of the file as it is stored.
    stored_bytes: u64,
    /// How many of the first decompressed bytes the checksum covers.
    head_bytes: u64,
    head_crc32: u32,
}

impl Position {
    pub(super) fn new(at: Option<InFile>) -> Self {
        Position { version: VERSION, at }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of numbers and strings has a JSON form")
    }

    pub(super) fn decode(bytes: &[u8], split: &str) -> Result<Self> {
        match serde_json::from_slice::<Position>(bytes) {
            Ok(position) if position.version == VERSION => Ok(position),
            Ok(position) => Err(Error::corrupt(format!(
                "the position of split `{split}` in the checkpoint has version {}, this build \
                 reads version {VERSION}",
                position.version
            ))),
            Err(error) => Err(Error::corrupt(format!(
                "the position of split `{split}` in the checkpoint is not one: {error}"
            ))),
        }
    }
}

impl Identity {
    /// The identity of a file of `stored_bytes` that begins with `head`.
    pub(super) fn new(stored_bytes: u64, head: &[u8]) -> Self {
        let head = &head[..head.len().min(HEAD_BYTES)];
        Identity { stored_bytes, head_bytes: head.len() as u64, head_crc32: crc32fast::hash(head) }
    }

    /// Checks that `file`, which now is `stored_bytes` long and begins with `head`, is the one
    /// that was read; it may have grown.
    pub(super) fn check(&self, file: &DataFile, stored_bytes: u64, head: &[u8]) -> Result<()> {
        let differs = |what: &str| {
            Err(Error::corrupt(format!(
                "input {} is not the file that the checkpoint was taken of: {what}; put the \
                 former file back, or start without the checkpoint",
                file.path.display()
            )))
        };
        if stored_bytes < self.stored_bytes {
            return differs(&format!("it had {} bytes and has {stored_bytes}", self.stored_bytes));
        }
        let head = usize::try_from(self.head_bytes).ok().and_then(|n| head.get(..n));
        if head.map(crc32fast::hash) != Some(self.head_crc32) {
            return differs("it begins with other data");
        }
        Ok(())
    }
}
