//! Savepoints: written from a published checkpoint, and taken in at the start of a job.
//!
//! # What a savepoint holds
//! All that a checkpoint holds, in files of its own: the entries of each operator as they are,
//! without what newer ones have replaced. The checkpoint waits for all barriers, so no records are
//! on their way in it (in one that is exported offline there may be some). A savepoint is reported
//! when the output that its checkpoint prepared has been committed, so nothing in it waits for a
//! commit; but for one that was made offline, of a job that ended before it had committed.
//!
//! # Where it is taken in
//! It becomes the first checkpoint of the directory it is taken into, all of its files copied: the
//! job does not depend on it afterwards. Its number is greater than that of the checkpoint that it
//! was, so that output has other names than that of the job before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thalweg_checkpoint::{
    Archive, CheckpointStore, LocalPart, Manifest, OperatorPart, PartFile, Run, SavepointWriter,
    SubtaskId, SubtaskSnapshot, part_name,
};
use thalweg_state::{
    KeyGroupCount, KeyGroupRange, LimitedRun, PortableReader, PortableWriter, RestoreSource,
    StateKey,
};

use crate::error::{Error, Result};

/// A file is closed at the next key group when it has this many bytes.
const FILE_BYTES: u64 = 64 << 20;

/// Gives a part of a checkpoint, checked.
pub(crate) type ReadPart<'a> = dyn FnMut(&PartFile) -> Result<LocalPart> + 'a;

/// Writes a savepoint of a checkpoint into a new directory within `dir`, and returns its path.
/// The name of that directory has the job's name and the number of the checkpoint.
///
/// # Errors
/// `Config` if there is one of that name, `Corrupt` if the checkpoint is damaged, `Unavailable` if
/// the savepoint cannot be written.
///
/// # Cost
/// Reads and writes all state; one file of some 64 MiB at a time is in memory.
pub(crate) fn export(
    manifest: &Manifest,
    is_committed: bool,
    read: &mut ReadPart<'_>,
    dir: &Path,
) -> Result<PathBuf> {
    let count = key_group_count(manifest)?;
    let mut writer = SavepointWriter::create(dir, &name_of(manifest))?;
    let mut savepoint = Manifest { savepoint: None, ..manifest.clone() };
    if is_committed {
        savepoint.committables.clear();
    }
    for record in &mut savepoint.subtasks {
        for part in &mut record.snapshot.operators {
            part.runs = export_part(record.subtask, part, count, (&mut *read, &mut writer))?;
        }
        for (i, part) in record.snapshot.in_flight.iter_mut().enumerate() {
            let name = format!("{}-on-the-way-{i}", part_name(record.subtask, &part.to));
            part.file = writer.write(&name, &bytes_of(read(&part.file)?)?)?;
        }
    }
    Ok(writer.finish(&savepoint)?)
}

/// Writes a savepoint of a checkpoint or savepoint that no job is using.
///
/// # Errors
/// `Config` if there is one of that name, `Corrupt` if the checkpoint is damaged, `Unavailable` if
/// the savepoint cannot be written.
pub fn export_archive(archive: &Archive, dir: &Path) -> Result<PathBuf> {
    let read = &mut |part: &PartFile| Ok(archive.part(part)?);
    export(archive.manifest(), archive.is_committed(), read, dir)
}

/// `savepoint-<job>-<checkpoint>`, whatever the job is called.
fn name_of(manifest: &Manifest) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let job: String = manifest.job.chars().take(100).map(plain).collect();
    format!("savepoint-{job}-{}", manifest.id)
}

/// The number of key groups of a manifest.
pub(crate) fn key_group_count(manifest: &Manifest) -> Result<KeyGroupCount> {
    KeyGroupCount::try_from(manifest.key_group_count).map_err(Error::corrupt)
}

/// A part's entries, the newest of each key, opened for reading.
pub(crate) fn open_part(part: &OperatorPart, read: &mut ReadPart<'_>) -> Result<RestoreSource> {
    let runs = part.runs.iter().map(|run| open_run(run, &read(&run.file)?));
    Ok(RestoreSource::new(runs.collect::<Result<_>>()?))
}

/// Whether to go on through entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// With the next one.
    Continue,
    /// Enough has been seen.
    Stop,
}

/// What [`read_entries`] calls for an entry.
pub type VisitEntry<'a> = dyn FnMut(&StateKey<'_>, &[u8]) -> Result<Entries> + 'a;

/// Calls `f` with the entries of a part, sorted by state key.
///
/// # Errors
/// `Corrupt` if the part is damaged, and what `f` returns.
pub fn read_entries(archive: &Archive, part: &OperatorPart, f: &mut VisitEntry<'_>) -> Result<()> {
    let (start, end) = part.key_groups;
    let source = open_part(part, &mut |file| Ok(archive.part(file)?))?;
    let mut ended = Ok(Entries::Continue);
    // Between key groups one can stop.
    for group in start..end {
        if !matches!(ended, Ok(Entries::Continue)) {
            break;
        }
        source.for_each(KeyGroupRange::new(group, group + 1), |key, value| {
            if matches!(ended, Ok(Entries::Continue)) {
                ended = f(&key, value);
            }
            Ok(())
        })?;
    }
    ended.map(drop)
}

/// A run, opened for reading, with the key groups of it that matter.
pub(crate) fn open_run(run: &Run, part: &LocalPart) -> Result<LimitedRun> {
    let reader = match part {
        LocalPart::Bytes(bytes) => PortableReader::of_bytes(bytes)?,
        LocalPart::File(path) => PortableReader::of_file(path)?,
    };
    Ok((reader, KeyGroupRange::new(run.key_groups.0, run.key_groups.1)))
}

/// Writes the entries of a part into files of their own, cut between key groups.
fn export_part(
    subtask: SubtaskId,
    part: &OperatorPart,
    count: KeyGroupCount,
    (read, writer): (&mut ReadPart<'_>, &mut SavepointWriter),
) -> Result<Vec<Run>> {
    let (start, end) = part.key_groups;
    let range = KeyGroupRange::new(start, end);
    let name = part_name(subtask, &part.operator);
    let mut runs: Vec<Run> = Vec::new();
    let mut from = start;
    let mut group = start;
    let mut file = PortableWriter::new(count);
    let mut failure = None;
    let source = open_part(part, read)?;
    source.for_each(range, |key, value| {
        let next = key.key_group.get();
        if next != group && file.length() > FILE_BYTES && failure.is_none() {
            let full = std::mem::replace(&mut file, PortableWriter::new(count)).finish()?;
            match writer.write(&format!("{name}-{from}"), &full) {
                Ok(file) => runs.push(Run { file, key_groups: (from, next) }),
                Err(error) => failure = Some(error),
            }
            from = next;
        }
        group = next;
        let mut state_key = Vec::new();
        key.encode(&mut state_key);
        file.push(&state_key, value)
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    if !file.is_empty() {
        let file = writer.write(&format!("{name}-{from}"), &file.finish()?)?;
        runs.push(Run { file, key_groups: (from, end) });
    }
    Ok(runs)
}

/// Takes a savepoint into the store of a job: as its newest checkpoint.
///
/// # Errors
/// `Config` if it is of another job, `Corrupt` if it is damaged, and what the store returns.
pub(crate) fn import(
    archive: &Archive,
    store: &mut dyn CheckpointStore,
    job: &str,
) -> Result<Manifest> {
    let saved = archive.manifest();
    if saved.job != job {
        return Err(Error::config(format!(
            "the savepoint {} is of the job `{}`, not of `{job}`",
            archive.path().display(),
            saved.job
        )));
    }
    let id = store.next_id().max(saved.id.next());
    let mut manifest = Manifest { id, savepoint: Some(saved.identity()), ..saved.clone() };
    let mut copied: BTreeMap<(String, u64), PartFile> = BTreeMap::new();
    for record in &mut manifest.subtasks {
        let SubtaskSnapshot { operators, in_flight, .. } = &mut record.snapshot;
        let runs = operators.iter_mut().flat_map(|part| &mut part.runs).map(|run| &mut run.file);
        for file in runs.chain(in_flight.iter_mut().map(|part| &mut part.file)) {
            let key = (file.name.clone(), file.offset);
            let copy = match copied.get(&key) {
                Some(copy) => copy.clone(),
                None => match archive.part(file)? {
                    LocalPart::Bytes(bytes) => store.write_part(id, &key.0, &bytes)?,
                    LocalPart::File(path) => copy_file(store, (id, &key.0), &path)?,
                },
            };
            copied.insert(key, copy.clone());
            *file = copy;
        }
    }
    store.publish(&manifest)?;
    if archive.is_committed() {
        store.mark_committed(id)?;
    }
    Ok(manifest)
}

fn copy_file(
    store: &mut dyn CheckpointStore,
    (id, name): (thalweg_checkpoint::CheckpointId, &str),
    path: &Path,
) -> Result<PartFile> {
    let Some(work) = store.work_directory() else {
        let bytes = bytes_of(LocalPart::File(path.to_owned()))?;
        return Ok(store.write_part(id, name, &bytes)?);
    };
    let copy = work.join(format!("copy-of-{name}"));
    std::fs::copy(path, &copy).map_err(|error| unreadable(path, error))?;
    Ok(store.adopt_file(id, name, &copy)?)
}

fn bytes_of(part: LocalPart) -> Result<Vec<u8>> {
    match part {
        LocalPart::Bytes(bytes) => Ok(bytes),
        LocalPart::File(path) => std::fs::read(&path).map_err(|error| unreadable(&path, error)),
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::unavailable(format!("cannot read {}", path.display())).with_source(error)
}
