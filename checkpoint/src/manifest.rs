//! The manifest: the file whose publication makes a checkpoint exist.
//!
//! *Format:* one line `thalweg-manifest <format> <crc32> <length>` with the checksum (CRC-32,
//! IEEE, eight hexadecimal digits) and the length in bytes of all that follows, a JSON document.
//! Fields may be added under the same format number if old readers can do without them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    BarrierKind, CheckpointId, Error, PartFile, PendingManifest, Result, Run, SinkCommittables,
    SubtaskRecord,
};

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

/// The manifest format that this build writes and reads.
pub const FORMAT_VERSION: u32 = 2;

const MAGIC: &str = "thalweg-manifest";

/// Everything a job needs to start from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the job.
    pub job: String,
    /// The checkpoint.
    pub id: CheckpointId,
    /// The epoch of the process that published it; filled in by the store.
    pub epoch: u64,
    /// Why it was taken.
    pub kind: BarrierKind,
    /// Version of the project that wrote it.
    pub thalweg_version: String,
    /// When it was written, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Number of key groups, fixed for the job's life.
    pub key_group_count: u16,
    /// The job's default parallelism.
    pub parallelism: u32,
    /// Whether the job had read all its input: nothing is left to do but the committables.
    pub finished: bool,
    /// Whether subtasks had not waited for barriers ([`crate::CheckpointMode::AtLeastOnce`]): they
    /// may have come further than the sources.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_least_once: bool,
    /// The operators of the job.
    pub operators: Vec<OperatorRecord>,
    /// What each subtask handed over, sorted by subtask.
    pub subtasks: Vec<SubtaskRecord>,
    /// What is not acknowledged as committed: committed again at a restore, before anything else.
    pub committables: Vec<SinkCommittables>,
    /// The savepoint from which the job began in this place ([`Manifest::identity`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
}

/// One operator of the job that wrote the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// Its name, the identity of its state.
    pub name: String,
    /// What kind of operator it is, for comparing jobs.
    pub kind: String,
    /// Whether it has state that a successor must take over.
    pub state: bool,
    /// The tables of its state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableRecord>,
}

/// One table of an operator: what its entries were written under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Its number.
    pub id: u16,
    /// The schema of its keys, in the form that the state has for it.
    pub key: serde_json::Value,
    /// The schema of its values.
    pub value: serde_json::Value,
}

impl Manifest {
    /// A manifest of what the coordinator collected; the fields that only the driver knows
    /// (job, version, time, key groups, parallelism, operators) are to be filled in.
    pub fn from_pending(pending: PendingManifest) -> Self {
        Self {
            job: String::new(),
            id: pending.id,
            epoch: 0,
            kind: pending.kind,
            thalweg_version: env!("CARGO_PKG_VERSION").to_owned(),
            created_ms: 0,
            key_group_count: 0,
            parallelism: 0,
            finished: pending.kind == BarrierKind::Final,
            at_least_once: false,
            operators: Vec::new(),
            subtasks: pending.subtasks,
            committables: pending.committables,
            savepoint: None,
        }
    }

    /// What tells it from other manifests: job, checkpoint and time.
    pub fn identity(&self) -> String {
        format!("{}/{}/{}", self.job, self.id, self.created_ms)
    }

    /// All ranges of files that belong to it; one may come several times.
    pub fn part_files(&self) -> impl Iterator<Item = &PartFile> {
        self.subtasks.iter().flat_map(|SubtaskRecord { snapshot, .. }| {
            let runs = snapshot.operators.iter().flat_map(|part| &part.runs);
            runs.map(|run| &run.file).chain(snapshot.in_flight.iter().map(|part| &part.file))
        })
    }

    /// Its bytes on disk.
    ///
    /// # Errors
    ///
    /// It contradicts itself: a split that is read twice, or key groups of a run in a part twice.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.check_unique()?;
        let refused = |detail: String| Error::Refused { id: self.id, detail };
        let json = serde_json::to_vec(self)
            .map_err(|error| refused(format!("manifest cannot be encoded: {error}")))?;
        let mut bytes = header(&json).into_bytes();
        bytes.extend_from_slice(&json);
        Ok(bytes)
    }

    /// Reads the bytes of the file `path`, which is only named in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] if it is of another format, [`Error::Corrupt`] if a single byte
    /// differs from what was written.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let corrupt = |detail: String| Error::Corrupt { path: path.to_owned(), detail };
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| corrupt(format!("no first line in {} bytes", bytes.len())))?;
        let (line, json) = (&bytes[..=end], &bytes[end + 1..]);
        let version = format_of(line).ok_or_else(|| corrupt("not a manifest".to_owned()))?;
        if version != FORMAT_VERSION {
            let path = path.to_owned();
            return Err(Error::Incompatible { path, found: version, reads: FORMAT_VERSION });
        }
        // The line is a function of what follows it, so comparing it checks all its fields.
        let expected = header(json);
        if line != expected.as_bytes() {
            let found = String::from_utf8_lossy(&line[..end.min(80)]).into_owned();
            let expected = expected.trim_end();
            return Err(corrupt(format!("says {found:?}, contents are {expected:?}")));
        }
        serde_json::from_slice(json).map_err(|error| corrupt(format!("not understood: {error}")))
    }

    /// The same for that of a published checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Incompatible`] as above, and [`Error::Damaged`] if a byte differs from what was
    /// written or if it is the manifest of another checkpoint.
    pub(crate) fn decode_published(id: CheckpointId, path: &Path, bytes: &[u8]) -> Result<Self> {
        let damaged = |detail: String| Error::Damaged { id, path: path.to_owned(), detail };
        match Self::decode(path, bytes) {
            Err(Error::Corrupt { detail, .. }) => Err(damaged(detail)),
            Ok(manifest) if manifest.id != id => {
                Err(damaged(format!("it is the manifest of checkpoint {}", manifest.id)))
            }
            decoded => decoded,
        }
    }

    fn check_unique(&self) -> Result<()> {
        let refused = |detail: String| Err(Error::Refused { id: self.id, detail });
        let snapshots = || self.subtasks.iter().map(|record| &record.snapshot);
        let mut splits: Vec<_> =
            snapshots().flat_map(|s| &s.splits).map(|s| (&s.source, &s.split)).collect();
        splits.sort_unstable();
        if let Some(twice) = splits.windows(2).find(|pair| pair[0] == pair[1]) {
            let (source, split) = twice[0];
            return refused(format!("split {split:?} of source {source:?} is read twice"));
        }
        for part in snapshots().flat_map(|s| &s.operators) {
            // After changes of parallelism a run may come several times, each with its key groups.
            let mut runs: Vec<_> = part.runs.iter().collect();
            runs.sort_unstable_by_key(|run| (&run.file.name, run.file.offset, run.key_groups));
            let is_twice = |pair: &&[&Run]| {
                pair[0].file == pair[1].file && pair[1].key_groups.0 < pair[0].key_groups.1
            };
            if let Some(twice) = runs.windows(2).find(is_twice) {
                let (operator, name) = (&part.operator, &twice[0].file.name);
                return refused(format!("operator {operator:?} has the run {name:?} twice"));
            }
        }
        Ok(())
    }
}

fn header(json: &[u8]) -> String {
    format!("{MAGIC} {FORMAT_VERSION} {:08x} {}\n", crc32fast::hash(json), json.len())
}

fn format_of(line: &[u8]) -> Option<u32> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    if words.next()? != MAGIC {
        return None;
    }
    words.next()?.parse().ok()
}
