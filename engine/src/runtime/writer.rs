//! The checkpoint writer: a thread that makes captures durable and acknowledges them.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};
use thalweg_checkpoint::{
    CheckpointId, CheckpointStore, InFlightPart, OperatorPart, SubtaskAck, SubtaskId,
    SubtaskSnapshot, part_name,
};
use thalweg_state::SnapshotPart;

use super::coordinate::Report;
use super::{SharedStore, lock};
use crate::error::Result;
use crate::in_flight::InFlight;
use crate::subtask::Capture;

/// A capture to be made durable.
pub(crate) struct WriteRequest {
    pub(crate) subtask: SubtaskId,
    pub(crate) key_groups: (u16, u16),
    pub(crate) capture: Box<Capture>,
}

impl WriteRequest {
    /// Removes what the capture left in the working directory.
    fn discard(self) {
        for (_, part, _) in self.capture.operators {
            if let SnapshotPart::Directory(dir) = part {
                // What stays is removed when the directory is opened the next time.
                let _ = std::fs::remove_dir_all(dir);
            }
        }
    }
}

/// Writes captures until all workers have gone.
///
/// Captures of checkpoints up to `aborted` are dropped: a slow disk catches up instead of writing
/// what nobody waits for.
pub(crate) fn write_captures(
    requests: &Receiver<WriteRequest>,
    reports: &Sender<Report>,
    store: Option<&SharedStore>,
    aborted: &AtomicU64,
) {
    for request in requests {
        if request.capture.id.0 <= aborted.load(Ordering::Relaxed) {
            request.discard();
            continue;
        }
        let written = match store {
            None => acknowledge(request, |_, _| Ok(None)),
            Some(store) => write_capture(request, &mut **lock(store)),
        };
        let report = match written {
            Ok(ack) => Report::Ack(ack),
            Err(error) => Report::Failed(error),
        };
        if reports.send(report).is_err() {
            return;
        }
    }
}

/// Writes the parts of one capture and returns what the coordinator is told of it.
pub(crate) fn write_capture(
    mut request: WriteRequest,
    store: &mut dyn CheckpointStore,
) -> Result<SubtaskAck> {
    let id = request.capture.id;
    let subtask = request.subtask;
    let recorded = std::mem::take(&mut request.capture.in_flight);
    let in_flight = write_in_flight(store, subtask, id, &recorded)?;
    let mut ack = acknowledge(request, |operator, part| {
        let name = part_name(subtask, operator);
        Ok(match part {
            SnapshotPart::Empty => None,
            SnapshotPart::Portable(bytes) => Some(store.write_part(id, &name, &bytes)?),
            SnapshotPart::Directory(dir) => Some(store.adopt_directory(id, &name, &dir)?),
        })
    })?;
    ack.payload.in_flight = in_flight;
    Ok(ack)
}

/// Writes records that were on their way, a file for each piece.
fn write_in_flight(
    store: &mut dyn CheckpointStore,
    subtask: SubtaskId,
    id: CheckpointId,
    recorded: &[InFlight],
) -> Result<Vec<InFlightPart>> {
    let write = |(n, InFlight { edge, bytes }): (usize, &InFlight)| {
        // No operator has a name with a space.
        let name = part_name(subtask, &format!("in flight {n} {}", edge.to));
        let file = store.write_part(id, &name, bytes)?;
        Ok(InFlightPart { from: edge.from.clone(), port: edge.port, to: edge.to.clone(), file })
    };
    recorded.iter().enumerate().map(write).collect()
}

fn acknowledge(
    request: WriteRequest,
    mut write: impl FnMut(&str, SnapshotPart) -> Result<Option<thalweg_checkpoint::PartFile>>,
) -> Result<SubtaskAck> {
    let WriteRequest { subtask, key_groups, capture } = request;
    let Capture { id, operators, splits, committables, counters, .. } = *capture;
    let mut parts = Vec::with_capacity(operators.len());
    for (operator, part, watermark) in operators {
        let file = write(&operator, part)?;
        parts.push(OperatorPart { operator, file, key_groups, watermark });
    }
    let in_flight = Vec::new();
    let payload = SubtaskSnapshot { operators: parts, splits, committables, counters, in_flight };
    Ok(SubtaskAck { subtask, id, payload })
}
