//! What a subtask hands over at a barrier: references to its parts, split positions, committables.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CheckpointId, hex};

/// One subtask of a job: a task of the physical graph and the index within its parallelism.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SubtaskId {
    /// Number of the task in the physical graph.
    pub task: u32,
    /// Index of the subtask, below the task's parallelism.
    pub index: u32,
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.task, self.index)
    }
}

/// Everything one subtask contributes to one checkpoint.
///
/// Parts it names are durable before it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskSnapshot {
    /// One entry for each stateful operator of the subtask.
    pub operators: Vec<OperatorPart>,
    /// The splits its sources read.
    pub splits: Vec<SplitState>,
    /// What its sinks have pre-committed and do not know to be in a published manifest
    /// ([`crate::Outstanding`] keeps this list).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub committables: Vec<SinkCommittables>,
    /// Records that were on their way to its operators, where it took its snapshot without waiting
    /// for barriers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<InFlightPart>,
    /// Counts a user sees that must survive a restart; summed over subtasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<(String, u64)>,
}

/// The state of one operator in one subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorPart {
    /// The operator's name, the identity of its state.
    pub operator: String,
    /// Where its entries are, oldest first: an entry in a newer run takes the place of one in an
    /// older run. Empty if it has no entry.
    pub runs: Vec<Run>,
    /// The key groups the subtask owns: first, and one past the last.
    pub key_groups: (u16, u16),
    /// The operator's watermark in event-time milliseconds: all that was due by it has fired.
    pub watermark: i64,
}

/// Records that one operator had given out and another had not taken: state of the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightPart {
    /// Name of the operator they were given out by.
    pub from: String,
    /// Its output port.
    pub port: u8,
    /// Name of the operator they are for.
    pub to: String,
    /// Where they are, in the order in which they came.
    pub file: PartFile,
    /// The schema that they were written under, in the form that the state has for it; none where
    /// an earlier version of the project wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<serde_json::Value>,
}

/// Entries of an operator, written together. A run may belong to many checkpoints, and after a
/// change of parallelism to several subtasks, of which each uses some of its key groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its bytes.
    pub file: PartFile,
    /// The key groups that count here: first, and one past the last. Others are to be skipped.
    pub key_groups: (u16, u16),
}

/// A range of a file that never changes and that checkpoints share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFile {
    /// The file's name in the store's folder `files`, unique for ever.
    pub name: String,
    /// Where the range begins.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Checksum (CRC-32, IEEE) of the range.
    pub crc32: u32,
}

/// How far one split of one source has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitState {
    /// Name of the source.
    pub source: String,
    /// Name of the split within the source.
    pub split: String,
    /// The reader's position, in the source's own encoding.
    #[serde(with = "hex::bytes")]
    pub position: Vec<u8>,
    /// The state of the split's watermark generator.
    #[serde(with = "hex::bytes")]
    pub generator: Vec<u8>,
    /// Whether the split has been read to its end.
    pub finished: bool,
}

/// What a sink has pre-committed and its committer has to commit once the manifest is published.
///
/// Committing is idempotent: a committable may be committed again after a failure, after a
/// restore, and when news of the first time were lost. What tells one committable from another is
/// in its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkCommittables {
    /// Name of the sink.
    pub sink: String,
    /// The committables in the sink's own encoding, oldest first.
    #[serde(with = "hex::list")]
    pub committables: Vec<Vec<u8>>,
}

/// A subtask's contribution to a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskRecord {
    /// The subtask.
    pub subtask: SubtaskId,
    /// Its snapshot; its committables are merged into [`crate::Manifest::committables`].
    pub snapshot: SubtaskSnapshot,
}

/// A subtask reports that its snapshot for a checkpoint is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubtaskAck {
    /// The subtask.
    pub subtask: SubtaskId,
    /// The checkpoint.
    pub id: CheckpointId,
    /// The snapshot.
    pub payload: SubtaskSnapshot,
}

/// Appends committables to a list that has one entry for each sink, sorted by name.
pub(crate) fn merge_committables(into: &mut Vec<SinkCommittables>, from: Vec<SinkCommittables>) {
    for part in from.into_iter().filter(|part| !part.committables.is_empty()) {
        match into.binary_search_by(|known| known.sink.cmp(&part.sink)) {
            Ok(at) => into[at].committables.extend(part.committables),
            Err(at) => into.insert(at, part),
        }
    }
}
