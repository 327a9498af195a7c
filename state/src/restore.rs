//! `RestoreSource`: reads the entries of a snapshot part, whichever backend wrote it.

use std::path::Path;
#[cfg(feature = "rocksdb")]
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Result, StateError};
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::portable::PortableReader;
#[cfg(feature = "rocksdb")]
use crate::rocks;
use crate::schema::Recorded;
use crate::state_key::StateKey;

/// A snapshot part to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotPartRef<'a> {
    /// Bytes in the portable format.
    Portable(&'a [u8]),
    /// A file in the portable format.
    PortableFile(&'a Path),
    /// A directory with a RocksDB checkpoint.
    Directory(&'a Path),
}

/// A snapshot part open for reading. It never changes what it reads.
#[derive(Clone, Debug)]
pub struct RestoreSource {
    part: Part,
    recorded: Option<Arc<Recorded>>,
    /// Entries of other key groups are passed over.
    limit: Option<KeyGroupRange>,
}

#[derive(Clone, Debug)]
enum Part {
    Portable(PortableReader),
    #[cfg(feature = "rocksdb")]
    Directory(PathBuf, KeyGroupCount),
}

impl RestoreSource {
    /// Opens a snapshot part.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged in a way that shows at once, `Io` if it cannot be read,
    /// `Unsupported` for a directory if this program was built without RocksDB.
    pub fn open(part: SnapshotPartRef<'_>) -> Result<Self> {
        let part = match part {
            SnapshotPartRef::Portable(bytes) => Part::Portable(PortableReader::of_bytes(bytes)?),
            SnapshotPartRef::PortableFile(path) => Part::Portable(PortableReader::of_file(path)?),
            SnapshotPartRef::Directory(path) => open_directory(path)?,
        };
        Ok(RestoreSource { part, recorded: None, limit: None })
    }

    /// The same part, with the schemas that its entries were written under. Without them entries
    /// are taken to be of the present types.
    #[must_use]
    pub fn recorded(self, schemas: Arc<Recorded>) -> Self {
        RestoreSource { recorded: Some(schemas), ..self }
    }

    /// What its entries were written under.
    pub(crate) fn schemas(&self) -> Option<&Recorded> {
        self.recorded.as_deref()
    }

    /// The same without the entries of other key groups.
    #[must_use]
    pub fn limited_to(self, range: KeyGroupRange) -> Self {
        RestoreSource { limit: Some(range), ..self }
    }

    /// Calls `f` with every entry whose key group is in `range`, sorted by state key.
    ///
    /// # Errors
    /// `Corrupt` where the part is damaged, `Io` if it cannot be read, and what `f` returns.
    pub fn for_each(
        &self,
        range: KeyGroupRange,
        mut f: impl FnMut(StateKey<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let limit = self.limit.unwrap_or(range);
        let (start, end) = (range.start.max(limit.start), range.end.min(limit.end));
        let range = KeyGroupRange { start, end: end.max(start) };
        match &self.part {
            Part::Portable(reader) => reader.for_each(range, &mut f),
            #[cfg(feature = "rocksdb")]
            Part::Directory(path, _) => rocks::for_each(path, range, &mut f),
        }
    }

    /// Refuses a part written for another number of key groups.
    pub(crate) fn check_key_groups(&self, count: KeyGroupCount) -> Result<()> {
        let found = match &self.part {
            Part::Portable(reader) => reader.key_group_count(),
            #[cfg(feature = "rocksdb")]
            Part::Directory(_, found) => *found,
        };
        if found == count {
            return Ok(());
        }
        Err(StateError::Unsupported(format!(
            "the snapshot has {} key groups, the job has {}",
            found.get(),
            count.get()
        )))
    }
}

#[cfg(feature = "rocksdb")]
fn open_directory(path: &Path) -> Result<Part> {
    let count = rocks::check_directory(path)?;
    Ok(Part::Directory(path.to_owned(), count))
}

#[cfg(not(feature = "rocksdb"))]
fn open_directory(path: &Path) -> Result<Part> {
    Err(StateError::Unsupported(format!(
        "{} was written by the RocksDB backend, and this program was built without the feature \
         rocksdb",
        path.display()
    )))
}
