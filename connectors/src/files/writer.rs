//! The writer of one subtask: fills a hidden part, rolls it, and prepares what was written.
//!
//! # Invariants
//! * I1: what `prepare_commit` returns is on the disk, and so are the names it gives.
//! * I2: after an error nothing more is written or prepared: a failed sync may have lost data that
//!   a second one would not report.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use thalweg_engine::sink::{Committable, SinkWriter, WriteStatus, WriterContext};
use thalweg_engine::{Batch, CheckpointId, Error, ProcessingTime, Result};

use super::encode::OutputFormat;
use super::part::{Part, final_name, hidden_name, open_name, output_error, sync_directory};

/// Encoded records are written in pieces of this size.
const BUFFER_BYTES: usize = 256 * 1024;

pub(super) struct PartWriter<F> {
    format: Arc<F>,
    directory: PathBuf,
    roll_after_bytes: u64,
    subtask: usize,
    is_checkpointed: bool,
    open: Option<OpenPart>,
    /// Parts that are complete and have no name yet.
    rolled: Vec<RolledPart>,
    /// Parts that have one and may be committed, where nothing is checkpointed.
    ready: Vec<Committable>,
    /// Parts that were begun.
    begun: u64,
    /// Parts that were named, where nothing is checkpointed.
    named: u64,
    has_failed: bool,
    /// Encoded records of the open part that are not yet in the file.
    buffer: Vec<u8>,
}

struct OpenPart {
    hidden: String,
    file: File,
    bytes: u64,
}

/// A complete part under the name that it was written as.
struct RolledPart {
    hidden: String,
    bytes: u64,
}

impl<F: OutputFormat> PartWriter<F> {
    pub(super) fn new(
        format: Arc<F>,
        directory: PathBuf,
        roll_after_bytes: u64,
        context: &WriterContext,
    ) -> Self {
        PartWriter {
            format,
            directory,
            roll_after_bytes,
            subtask: context.subtask_index,
            is_checkpointed: !context.commits_when_rolled,
            open: None,
            rolled: Vec::new(),
            ready: Vec::new(),
            begun: 0,
            named: 0,
            has_failed: false,
            buffer: Vec::new(),
        }
    }

    /// Runs `work`, unless an earlier one failed (I2).
    fn guarded<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        if self.has_failed {
            return Err(Error::unavailable(format!(
                "output directory {} failed before; the job has to restart",
                self.directory.display()
            )));
        }
        let result = work(self);
        self.has_failed = result.is_err();
        result
    }

    fn append(&mut self, records: &[F::Item]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let begins_part = self.open.is_none();
        if begins_part {
            self.begin_part()?;
        }
        let before = self.buffer.len();
        self.format.encode(records, begins_part, &mut self.buffer).map_err(|message| {
            let format = self.format.name();
            Error::user(format!("a record cannot be written as {format}: {message}"))
        })?;
        let grown = (self.buffer.len() - before) as u64;
        let bytes = self.open.as_mut().map_or(0, |part| {
            part.bytes += grown;
            part.bytes
        });
        if bytes >= self.roll_after_bytes {
            self.roll()?;
            if !self.is_checkpointed {
                let ready = self.name_rolled(None)?;
                self.ready.extend(ready);
            }
        } else if self.buffer.len() >= BUFFER_BYTES {
            self.write_buffer()?;
        }
        Ok(())
    }

    fn begin_part(&mut self) -> Result<()> {
        let hidden = open_name(self.subtask, self.begun, self.format.extension());
        let path = self.directory.join(&hidden);
        let file = File::create(&path).map_err(|error| output_error("create", &path, &error))?;
        self.begun += 1;
        self.open = Some(OpenPart { hidden, file, bytes: 0 });
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<()> {
        let Some(part) = &mut self.open else { return Ok(()) };
        let written = part.file.write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(|error| output_error("write", &self.directory.join(&part.hidden), &error))
    }

    /// Completes the open part, if there is one.
    fn roll(&mut self) -> Result<()> {
        self.write_buffer()?;
        let Some(OpenPart { hidden, file, bytes }) = self.open.take() else { return Ok(()) };
        file.sync_all()
            .map_err(|error| output_error("sync", &self.directory.join(&hidden), &error))?;
        self.rolled.push(RolledPart { hidden, bytes });
        Ok(())
    }

    /// Gives the complete parts the names that they will have, hidden still, durably.
    fn name_rolled(&mut self, checkpoint: Option<CheckpointId>) -> Result<Vec<Committable>> {
        if self.rolled.is_empty() {
            return Ok(Vec::new());
        }
        let mut committables = Vec::with_capacity(self.rolled.len());
        for (i, part) in self.rolled.drain(..).enumerate() {
            let n = if checkpoint.is_some() { i as u64 } else { self.named };
            self.named += 1;
            let name = final_name(checkpoint, self.subtask, n, self.format.extension());
            let hidden = hidden_name(&name);
            let (from, to) = (self.directory.join(part.hidden), self.directory.join(&hidden));
            fs::rename(&from, &to).map_err(|error| output_error("rename", &from, &error))?;
            committables.push(Part::new(hidden, name, part.bytes).encode());
        }
        sync_directory(&self.directory)?;
        Ok(committables)
    }
}

impl<F: OutputFormat> SinkWriter<F::Item> for PartWriter<F> {
    fn write(&mut self, batch: &mut Batch<F::Item>, _now: ProcessingTime) -> Result<WriteStatus> {
        self.guarded(|writer| writer.append(&batch.values))?;
        batch.clear();
        Ok(WriteStatus::Done)
    }

    fn prepare_commit(&mut self, id: CheckpointId) -> Result<Vec<Committable>> {
        self.guarded(|writer| {
            writer.roll()?;
            let named = writer.name_rolled(writer.is_checkpointed.then_some(id))?;
            let mut committables = std::mem::take(&mut writer.ready);
            committables.extend(named);
            Ok(committables)
        })
    }

    fn poll_rolled(&mut self) -> Vec<Committable> {
        std::mem::take(&mut self.ready)
    }
}
