//! What a store needs from the place it keeps its data in: named objects that never change.
//!
//! A directory (`local`), an object store (`remote`) and memory (`memory`) offer it; `repository`
//! is what makes checkpoints of it, once for all of them. Keys are relative paths with `/` between
//! their pieces.

use std::path::{Path, PathBuf};

use crate::Result;

/// Named objects. One that was put is durable after the next [`Objects::settle`].
pub(crate) trait Objects: Send {
    /// Where a key is, for messages; the whole for the empty key.
    fn locate(&self, key: &str) -> PathBuf;

    /// Writes an object under a key of which nobody has read. After an error it can be tried again.
    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<()>;

    /// Takes over a finished local file under a key of which nobody has read; the file is gone
    /// then.
    fn adopt(&mut self, key: &str, file: &Path) -> Result<Summary>;

    /// Makes everything that was put, adopted or deleted so far durable.
    fn settle(&mut self) -> Result<()>;

    /// Writes an object as a whole if there is none of this key, durably; false if there is one.
    /// After an error it may be there or not.
    fn create(&mut self, key: &str, bytes: &[u8]) -> Result<bool>;

    /// The contents of an object; none if it does not exist.
    fn read(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// `bytes` bytes from `offset` on, fewer if the object ends before; none if it does not exist.
    fn read_range(&self, key: &str, offset: u64, bytes: u64) -> Result<Option<Vec<u8>>>;

    /// An object for reading piece by piece; none if it does not exist.
    fn local_file(&self, key: &str) -> Result<Option<LocalFile>>;

    /// The length of an object; none if it does not exist.
    fn size(&self, key: &str) -> Result<Option<u64>>;

    /// The objects below a folder and their lengths, in any order. Folders within it may be listed
    /// too, with `/` at the end.
    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>>;

    /// Deletes an object; fine if it does not exist.
    fn delete(&mut self, key: &str) -> Result<()>;

    /// Deletes what unfinished calls of [`Objects::create`] have left in a folder, and the folder
    /// if nothing else is in it.
    fn sweep(&mut self, folder: &str) -> Result<()>;

    /// Goes on as if just opened, after failures too: what was written and not settled is used by
    /// nobody any more.
    fn recover(&mut self) -> Result<()>;

    /// Scratch space on the local disk, empty at open; none in memory.
    fn work_directory(&self) -> Option<&Path>;
}

/// An object for reading piece by piece.
pub(crate) enum LocalFile {
    /// A file of its own, and its length.
    Path(PathBuf, u64),
    /// There are no files here: the contents.
    Contents(Vec<u8>),
}

/// Length and checksum of a sequence of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) bytes: u64,
    /// CRC-32, IEEE.
    pub(crate) crc32: u32,
}

impl Summary {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, crc32: crc32fast::hash(bytes) }
    }
}
