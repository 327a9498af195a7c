//! What a checkpoint store offers to the driver, whatever it keeps its data in.

use std::path::{Path, PathBuf};

use crate::{CheckpointId, Error, Manifest, PartFile, Result, SubtaskId};

/// Keeps the files and manifests of one job's checkpoints.
///
/// A checkpoint exists once [`CheckpointStore::publish`] has returned, and not before; if it
/// returns an error the checkpoint may exist or not. A file never changes and belongs to all
/// checkpoints whose manifests name it: it goes when the last of them has gone. What no published
/// manifest names disappears when the store is opened again.
pub trait CheckpointStore: Send {
    /// Keeps bytes as a part of this checkpoint and of those after it. A small part shares a file
    /// with others and is durable once a manifest that names it is published; until then it can be
    /// read from this store. Nothing of the same name is replaced.
    ///
    /// # Errors
    ///
    /// They could not be written, or the name is not one ([`part_name`] makes good ones). It can be
    /// tried again.
    ///
    /// # Cost
    ///
    /// A copy in memory for small ones; a file, synced or uploaded, for others.
    fn write_part(&mut self, id: CheckpointId, name: &str, bytes: &[u8]) -> Result<PartFile>;

    /// Takes over a finished local file as a part of this checkpoint and of those after it. The
    /// file is gone then. A file in [`CheckpointStore::work_directory`] is moved at best.
    ///
    /// # Errors
    ///
    /// It could not be read or taken over. If the file is still there it can be tried again.
    ///
    /// # Cost
    ///
    /// Reads the file once for its checksum.
    fn adopt_file(&mut self, id: CheckpointId, name: &str, path: &Path) -> Result<PartFile>;

    /// Makes the checkpoint exist.
    ///
    /// # Errors
    ///
    /// It could not be written, is not newer than the newest one, names files that are missing, or
    /// another process has taken over ([`Error::TakenOver`]).
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

    /// The bytes of a part, checked against its size and checksum.
    ///
    /// # Errors
    ///
    /// They cannot be read or are damaged.
    fn read_part(&self, part: &PartFile) -> Result<Vec<u8>>;

    /// The same, for reading piece by piece: the path of a local file where there is one for this
    /// part alone. It stays while a checkpoint needs it, and is not to be changed. Of a file only
    /// the length is checked: what is in parts of that size has checksums of its own.
    ///
    /// # Errors
    ///
    /// They cannot be read, or are found to be damaged.
    ///
    /// # Cost
    ///
    /// Small parts are read; an object store downloads a large one the first time.
    fn local_part(&self, part: &PartFile) -> Result<LocalPart>;

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

    /// A checkpoint was given up. Its files stay for the next one, which may name them; what none
    /// names is deleted by [`CheckpointStore::retain`].
    ///
    /// # Errors
    ///
    /// What is left of an attempt to publish it could not be deleted.
    fn discard(&mut self, id: CheckpointId) -> Result<()>;

    /// Deletes all published checkpoints but the newest ones, and the files that none of those has;
    /// the newest checkpoint always stays. Files stay that were written since the last checkpoint
    /// but one was published: a checkpoint that is being taken may name them.
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

    /// The published checkpoints, oldest first: those found at open, and those published since.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    fn list(&self) -> Result<Vec<CheckpointId>>;

    /// A number greater than that of every checkpoint this store has seen, at least 1.
    fn next_id(&self) -> CheckpointId;

    /// Scratch space on the local disk, empty at open; none for a store in memory.
    fn work_directory(&self) -> Option<PathBuf>;
}

/// A part for reading piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalPart {
    /// A small part, or one of a store in memory: its bytes.
    Bytes(Vec<u8>),
    /// A file that holds this part and nothing else.
    File(PathBuf),
}

/// A name for the part of an operator in a subtask: a file name whatever the operator is called.
/// The store adds to it what makes it unique.
pub fn part_name(subtask: SubtaskId, operator: &str) -> String {
    let readable = operator.chars().take(60);
    let readable: String = readable
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '_' })
        .collect();
    let SubtaskId { task, index } = subtask;
    format!("{task}-{index}-{readable}-{:08x}", crc32fast::hash(operator.as_bytes()))
}

/// The longest name for a part; the store adds to it.
const NAME_LIMIT: usize = 120;

/// Refuses names for parts that are not plain file names.
pub(crate) fn check_part_name(id: CheckpointId, name: &str) -> Result<()> {
    if name.len() > NAME_LIMIT {
        let detail = format!("{name:?} is longer than {NAME_LIMIT} bytes");
        return Err(Error::Refused { id, detail });
    }
    check_name(id, name)
}

/// Refuses names that are not plain file names.
pub(crate) fn check_name(id: CheckpointId, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let sound =
        !name.is_empty() && name.len() <= 200 && name.chars().all(plain) && !name.starts_with('.');
    if sound {
        return Ok(());
    }
    Err(Error::Refused { id, detail: format!("{name:?} is not a name for a part") })
}

#[cfg(test)]
mod tests {
    use super::{CheckpointId, SubtaskId, check_part_name, part_name};

    #[test]
    fn made_names_are_sound_and_differ() {
        let subtask = SubtaskId { task: 3, index: 11 };
        let long = "x".repeat(500);
        let operators = ["count", "a/b", "a:b", "..", "", "größe", "manifest", long.as_str()];
        let mut names: Vec<_> = operators.iter().map(|name| part_name(subtask, name)).collect();
        for name in &names {
            check_part_name(CheckpointId(1), name).expect("a made name is sound");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), operators.len());
        assert!(names.iter().any(|name| name.starts_with("3-11-count-")));
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let long = "x".repeat(121);
        for name in ["", ".", "..", ".x", "a/b", "a\\b", "ä", "a\0", long.as_str()] {
            assert!(check_part_name(CheckpointId(1), name).is_err(), "{name}");
        }
    }
}
