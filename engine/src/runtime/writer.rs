//! The checkpoint writer: a thread that makes captures durable and acknowledges them, and merges
//! runs when there is nothing else to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};
use thalweg_checkpoint::CheckpointId;

use super::coordinate::Report;
use super::{SharedStore, lock};
use crate::error::Result;
use crate::state_writer::{StateWriter, WriteRequest};

/// Bytes of a merged run between two looks at what else there is to do.
const MERGED_AT_A_TIME: u64 = 1 << 20;

/// The checkpoint writer's thread.
pub(crate) struct CheckpointWriter {
    pub(crate) requests: Receiver<WriteRequest>,
    pub(crate) reports: Sender<Report>,
    pub(crate) writer: StateWriter,
    pub(crate) store: Option<SharedStore>,
    /// The newest checkpoint that was given up: its captures need not be acknowledged.
    pub(crate) aborted: Arc<AtomicU64>,
}

impl CheckpointWriter {
    /// Writes until all workers have gone, or something cannot be written. Returns what writes, as
    /// it then is.
    pub(crate) fn run(mut self) -> StateWriter {
        let (poke, pokes) = bounded(1);
        for stream in self.writer.streams() {
            let poke = poke.clone();
            // One poke that waits is enough.
            let wake = move || {
                let _ = poke.try_send(());
            };
            stream.set_waker(Arc::new(wake));
        }
        let mut is_merging = false;
        loop {
            let at_once = if is_merging { after(Duration::ZERO) } else { never() };
            select! {
                recv(self.requests) -> request => match request {
                    Ok(request) => self.writer.add(request),
                    Err(_) => return self.writer,
                },
                recv(pokes) -> _ => {}
                recv(at_once) -> _ => {}
            }
            self.requests.try_iter().for_each(|request| self.writer.add(request));
            match self.work() {
                Ok(more) => is_merging = more,
                Err(error) => {
                    let _ = self.reports.send(Report::Failed(error, None));
                    return self.writer;
                }
            }
        }
    }

    /// Does what can be done; true if there is something left to merge.
    fn work(&mut self) -> Result<bool> {
        self.writer.abort(CheckpointId(self.aborted.load(Ordering::Relaxed)));
        let Some(store) = &self.store else {
            self.acknowledge();
            return Ok(false);
        };
        while self.writer.prepare()? {
            self.writer.write(&mut **lock(store))?;
        }
        self.writer.write(&mut **lock(store))?;
        let is_merging = self.writer.merge(MERGED_AT_A_TIME, &mut **lock(store))?;
        self.acknowledge();
        Ok(is_merging)
    }

    fn acknowledge(&mut self) {
        while let Some(ack) = self.writer.poll_ack() {
            // A coordinator that has gone is not waiting.
            let _ = self.reports.send(Report::Ack(ack));
        }
    }
}
