//! What a checkpoint store offers to the driver, whatever it keeps its data in.

use std::path::{Path, PathBuf};

use crate::{CheckpointId, Error, Manifest, PartFile, Result, SubtaskId};

/// Keeps the parts and manifests of one job's checkpoints.
///
/// A checkpoint exists once [`CheckpointStore::publish`] has returned, and not before; if it
/// returns an error the checkpoint may exist or not. Parts that were never published disappear
/// with [`CheckpointStore::discard`] or when the store is opened again.
pub trait CheckpointStore: Send {
    /// Makes bytes durable as a part of a checkpoint that is being taken.
    ///
    /// # Errors
    ///
    /// They could not be written, or the name is not one ([`part_name`] makes good ones).
    fn write_part(&mut self, id: CheckpointId, name: &str, bytes: &[u8]) -> Result<PartFile>;

    /// Moves a directory of finished files into a checkpoint that is being taken, durably. The
    /// files may be hard links that others only read.
    ///
    /// # Errors
    ///
    /// It could not be moved or read, or the store does not keep directories.
    ///
    /// # Cost
    ///
    /// Reads every file that an earlier checkpoint did not have.
    fn adopt_directory(&mut self, id: CheckpointId, name: &str, dir: &Path) -> Result<PartFile>;

    /// Makes the checkpoint exist.
    ///
    /// # Errors
    ///
    /// It could not be written, is not newer than the newest one, or names parts that are missing.
    fn publish(&mut self, manifest: &Manifest) -> Result<()>;

    /// The newest published checkpoint.
    ///
    /// # Errors
    ///
    /// It is damaged, or of another job or format. An older one is never given instead: sinks have
    /// shown what the newest one covers.
    fn latest(&self) -> Result<Option<Manifest>>;

    /// A published checkpoint.
    ///
    /// # Errors
    ///
    /// There is none, or it is damaged, or of another job or format.
    fn load(&self, id: CheckpointId) -> Result<Manifest>;

    /// The bytes of a file part, checked against size and checksum.
    ///
    /// # Errors
    ///
    /// They cannot be read or are damaged.
    fn read_part(&self, id: CheckpointId, part: &PartFile) -> Result<Vec<u8>>;

    /// Where a directory part is, all its files checked. Nothing may be written there: open a copy
    /// made of hard links.
    ///
    /// # Errors
    ///
    /// A file is missing or damaged.
    fn part_directory(&self, id: CheckpointId, part: &PartFile) -> Result<PathBuf>;

    /// Notes that everything in a published manifest has been committed, so that a restart does not
    /// look for output that others may have taken away.
    ///
    /// # Errors
    ///
    /// It could not be written.
    fn mark_committed(&mut self, id: CheckpointId) -> Result<()>;

    /// Whether [`mark_committed`](Self::mark_committed) was called for a checkpoint.
    ///
    /// # Errors
    ///
    /// It could not be found out.
    fn is_committed(&self, id: CheckpointId) -> Result<bool>;

    /// Deletes what there is of a checkpoint that was given up. One that was published stays.
    ///
    /// # Errors
    ///
    /// It could not be deleted.
    fn discard(&mut self, id: CheckpointId) -> Result<()>;

    /// Deletes all published checkpoints but the newest ones; the newest one always stays.
    ///
    /// # Errors
    ///
    /// One could not be deleted.
    fn retain(&mut self, newest: usize) -> Result<()>;

    /// Gives up all that was not published, and goes on as a store that has just been opened, after
    /// failures too: for a job that starts again in the same process. No part may be in the making.
    ///
    /// # Errors
    ///
    /// What was not published cannot be removed, or the newest checkpoint cannot be made durable.
    fn recover(&mut self) -> Result<()>;

    /// The published checkpoints, oldest first.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn list(&self) -> Result<Vec<CheckpointId>>;

    /// A number greater than that of every checkpoint this store has seen, at least 1.
    fn next_id(&self) -> CheckpointId;
}

/// A name for the part of an operator in a subtask: unique within a checkpoint, and a file name
/// whatever the operator is called.
pub fn part_name(subtask: SubtaskId, operator: &str) -> String {
    let readable = operator.chars().take(60);
    let readable: String = readable
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '_' })
        .collect();
    let SubtaskId { task, index } = subtask;
    format!("{task}-{index}-{readable}-{:08x}", crc32fast::hash(operator.as_bytes()))
}

/// Refuses names that are not plain file names or that the store uses itself.
pub(crate) fn check_name(id: CheckpointId, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let sound = !name.is_empty()
        && name.len() <= 200
        && name.chars().all(plain)
        && !name.starts_with('.')
        && !name.starts_with("manifest");
    if sound {
        return Ok(());
    }
    Err(Error::Refused { id, detail: format!("{name:?} is not a name for a part") })
}

#[cfg(test)]
mod tests {
    use super::{CheckpointId, SubtaskId, check_name, part_name};

    #[test]
    fn made_names_are_sound_and_differ() {
        let subtask = SubtaskId { task: 3, index: 11 };
        let long = "x".repeat(500);
        let operators = ["count", "a/b", "a:b", "..", "", "größe", "manifest", long.as_str()];
        let mut names: Vec<_> = operators.iter().map(|name| part_name(subtask, name)).collect();
        for name in &names {
            check_name(CheckpointId(1), name).expect("a made name is sound");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), operators.len());
        assert!(names.iter().any(|name| name.starts_with("3-11-count-")));
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["", ".", "..", ".x", "a/b", "a\\b", "manifest", "manifest.tmp", "ä", "a\0"] {
            assert!(check_name(CheckpointId(1), name).is_err(), "{name}");
        }
    }
}
