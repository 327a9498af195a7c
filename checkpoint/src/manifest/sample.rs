//! A manifest with one of everything, for tests.

use super::{Manifest, OperatorRecord};
use crate::{
    BarrierKind, CheckpointId, OperatorPart, PartFile, Run, SinkCommittables, SplitState,
    SubtaskId, SubtaskRecord, SubtaskSnapshot,
};

/// Two sources with three splits; an operator "count" on three subtasks, the middle one empty.
pub(crate) fn manifest() -> Manifest {
    let source = |index, splits: &[&str], read| SubtaskRecord {
        subtask: SubtaskId { task: 0, index },
        snapshot: SubtaskSnapshot {
            splits: splits.iter().map(|name| split(name)).collect(),
            counters: vec![("read".into(), read)],
            ..SubtaskSnapshot::default()
        },
    };
    let count = |index, start, end, file: Option<PartFile>| SubtaskRecord {
        subtask: SubtaskId { task: 1, index },
        snapshot: SubtaskSnapshot {
            operators: vec![OperatorPart {
                operator: "count".into(),
                runs: file.map(|file| Run { file, key_groups: (start, end) }).into_iter().collect(),
                key_groups: (start, end),
                watermark: -5,
            }],
            ..SubtaskSnapshot::default()
        },
    };
    Manifest {
        job: "sample".into(),
        id: CheckpointId(7),
        epoch: 0,
        kind: BarrierKind::Checkpoint,
        thalweg_version: "0.1.0".into(),
        created_ms: 1_700_000_000_000,
        key_group_count: 128,
        parallelism: 3,
        finished: false,
        at_least_once: false,
        operators: vec![OperatorRecord {
            name: "count".into(),
            kind: "aggregate".into(),
            state: true,
            tables: Vec::new(),
        }],
        subtasks: vec![
            source(0, &["c", "a"], 10),
            source(1, &["b"], 20),
            count(2, 86, 128, Some(part("1-2-count", b"two"))),
            count(0, 0, 43, Some(part("1-0-count", b"zero"))),
            count(1, 43, 86, None),
        ],
        committables: vec![SinkCommittables { sink: "out".into(), committables: vec![vec![255]] }],
        savepoint: None,
    }
}

/// A part that is a file of these contents.
pub(crate) fn part(name: &str, contents: &[u8]) -> PartFile {
    let crc32 = crc32fast::hash(contents);
    PartFile { name: name.into(), offset: 0, bytes: contents.len() as u64, crc32 }
}

fn split(name: &str) -> SplitState {
    SplitState {
        source: "input".into(),
        split: name.into(),
        position: vec![0, 1, 254],
        generator: Vec::new(),
        finished: name == "a",
    }
}
