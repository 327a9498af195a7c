//! The sink into files, and how a user asks for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use thalweg_engine::sink::{Committer, Sink, SinkWriter, WriterContext};
use thalweg_engine::{Element, Result};

use super::committer::PartCommitter;
use super::encode::{CsvOut, JsonLinesOut, OutputFormat};
use super::part::create_directory;
use super::writer::PartWriter;
use crate::rate::{RateLimited, limit_sink};

const ROLL_AFTER_BYTES: u64 = 128 * 1024 * 1024;

/// Writes CSV into parts in `directory`, which is created. Exactly-once.
///
/// ```
/// use serde::Serialize;
/// use thalweg_connectors::files;
///
/// #[derive(Clone, Serialize)]
/// struct Delay {
///     origin: String,
///     mean_minutes: Option<f64>,
/// }
///
/// let delays = files::csv_out::<Delay>("delays").roll_after_bytes(16 << 20);
/// # drop(delays);
/// ```
pub fn csv_out<T: Element + Serialize>(directory: impl Into<PathBuf>) -> FileSink<CsvOut<T>> {
    FileSink::new(directory, CsvOut::default())
}

/// Writes JSON lines into parts in `directory`, which is created. Exactly-once.
pub fn json_lines_out<T: Element + Serialize>(
    directory: impl Into<PathBuf>,
) -> FileSink<JsonLinesOut<T>> {
    FileSink::new(directory, JsonLinesOut::default())
}

/// A sink into the parts of a directory; see [`csv_out`] and [`json_lines_out`].
///
/// A part begins with its first record; it ends at a checkpoint, or when it has grown to
/// [`roll_after_bytes`](FileSink::roll_after_bytes). While it is written, and until the checkpoint
/// is complete, its name begins with a dot. Then it is renamed to
/// `part-<checkpoint>-<subtask>-<n>`, and this name is never used again. Without checkpoints parts
/// are renamed to `part-<subtask>-<n>` when they are full and at the end.
///
/// Each sink needs a directory of its own. A job that starts afresh refuses a directory with
/// parts in it.
pub struct FileSink<F> {
    directory: PathBuf,
    format: Arc<F>,
    roll_after_bytes: u64,
}

impl<F: OutputFormat> FileSink<F> {
    /// A sink into `directory`, in `format`.
    pub fn new(directory: impl Into<PathBuf>, format: F) -> Self {
        FileSink {
            directory: directory.into(),
            format: Arc::new(format),
            roll_after_bytes: ROLL_AFTER_BYTES,
        }
    }

    /// A part ends when it has grown to `bytes`, looked at after each batch; 128 MiB by default.
    #[must_use]
    pub fn roll_after_bytes(self, bytes: u64) -> Self {
        FileSink { roll_after_bytes: bytes, ..self }
    }

    /// This sink, taking no more than `records_per_second` over all its writers.
    pub fn records_per_second(self, records_per_second: u64) -> RateLimited<Self> {
        limit_sink(self, records_per_second)
    }
}

impl<T> FileSink<CsvOut<T>> {
    /// The parts have no header line.
    #[must_use]
    pub fn without_header(self) -> Self {
        let mut format = CsvOut::default();
        format.has_header = false;
        FileSink { format: Arc::new(format), ..self }
    }
}

impl<F> Clone for FileSink<F> {
    fn clone(&self) -> Self {
        FileSink { directory: self.directory.clone(), format: self.format.clone(), ..*self }
    }
}

impl<F> fmt::Debug for FileSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink")
            .field("directory", &self.directory)
            .field("roll_after_bytes", &self.roll_after_bytes)
            .finish_non_exhaustive()
    }
}

impl<F: OutputFormat> Sink for FileSink<F> {
    type Item = F::Item;

    fn writer(&self, context: &WriterContext) -> Result<Box<dyn SinkWriter<F::Item>>> {
        create_directory(&self.directory)?;
        Ok(Box::new(PartWriter::new(
            self.format.clone(),
            self.directory.clone(),
            self.roll_after_bytes,
            context,
        )))
    }

    fn committer(&self) -> Result<Box<dyn Committer>> {
        Ok(Box::new(PartCommitter::new(self.directory.clone(), self.format.extension())))
    }

    fn describe(&self) -> String {
        format!("{} parts in {}", self.format.name(), self.directory.display())
    }
}
