//! The source over files, and how a user asks for it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use thalweg_engine::source::{ReaderContext, Source, Split, SplitReader};
use thalweg_engine::{Element, Error, Result};

use super::format::{Csv, Format, JsonLines, Lines};
use super::list::FileSet;
use super::malformed::{DeadLetter, OnMalformed};
use super::position::Position;
use super::reader::{FileReader, ReaderOptions};
use crate::rate::{RateLimited, limit_source};

/// The one split that holds all files: its name does not depend on where they are.
const ALL_FILES: &str = "all files";

/// Reads CSV from `path`, a file or a directory of files, each with a header line.
///
/// ```
/// use serde::Deserialize;
/// use thalweg_connectors::files;
///
/// #[derive(Clone, Deserialize)]
/// struct Departure {
///     origin: String,
///     dep_delay_min: Option<i32>,
/// }
///
/// let departures = files::csv::<Departure>("examples/data/flights.csv.gz");
/// # drop(departures);
/// ```
pub fn csv<T: Element + DeserializeOwned>(path: impl Into<PathBuf>) -> FileSource<Csv<T>> {
    FileSource::new(path, Csv::default())
}

/// Reads JSON lines from `path`, a file or a directory of files.
pub fn json_lines<T: Element + DeserializeOwned>(
    path: impl Into<PathBuf>,
) -> FileSource<JsonLines<T>> {
    FileSource::new(path, JsonLines::default())
}

/// Reads lines of text from `path`, a file or a directory of files.
pub fn lines(path: impl Into<PathBuf>) -> FileSource<Lines> {
    FileSource::new(path, Lines)
}

/// A source over a file or the files of a directory; see [`csv()`], [`json_lines`] and [`lines`].
///
/// Files are gunzipped (all members) or zstd-decompressed if their content says so. Hidden files
/// and directories inside the directory are passed over. The files of a directory are listed when
/// the first of them is opened; what comes later is not read.
///
/// The position in a checkpoint is the file, the offset of the next record in the decompressed
/// file and its line, with the length of the file and a checksum of its first 4 KiB, by which a
/// file that was replaced is found out. Continuing in a compressed file decompresses what is
/// skipped.
pub struct FileSource<F> {
    files: FileSet,
    format: Arc<F>,
    on_malformed: OnMalformed,
    has_split_per_file: bool,
}

impl<F: Format> FileSource<F> {
    /// A source over `path`, a file or a directory, in `format`.
    pub fn new(path: impl Into<PathBuf>, format: F) -> Self {
        FileSource {
            files: FileSet { path: path.into() },
            format: Arc::new(format),
            on_malformed: OnMalformed::Fail,
            has_split_per_file: false,
        }
    }

    /// What to do with records that cannot be decoded; the default is to fail.
    ///
    /// A record longer than 64 MiB counts as malformed. After a quoted CSV field that is never
    /// closed reading goes on at the next line. Whatever is chosen here, the job fails where a
    /// file cannot be read or lacks a column.
    #[must_use]
    pub fn on_malformed(self, on_malformed: OnMalformed) -> Self {
        FileSource { on_malformed, ..self }
    }

    /// Makes each file a split of its own, named by the file, so that they are read in parallel.
    /// Without this, all files are one split in the order of their names.
    #[must_use]
    pub fn splits_by_file(self) -> Self {
        FileSource { has_split_per_file: true, ..self }
    }

    /// This source, at no more than `records_per_second` over all its splits.
    pub fn records_per_second(self, records_per_second: u64) -> RateLimited<Self> {
        limit_source(self, records_per_second)
    }
}

impl<T> FileSource<Csv<T>> {
    /// Fields are separated by `delimiter` instead of a comma.
    #[must_use]
    pub fn delimited_by(self, delimiter: u8) -> Self {
        let mut format = (*self.format).clone();
        format.delimiter = delimiter;
        FileSource { format: Arc::new(format), ..self }
    }

    /// The files have no header line: columns are taken by their order, and the first row says
    /// how many there are.
    #[must_use]
    pub fn without_header(self) -> Self {
        let mut format = (*self.format).clone();
        format.has_header = false;
        FileSource { format: Arc::new(format), ..self }
    }
}

impl<F> Clone for FileSource<F> {
    fn clone(&self) -> Self {
        FileSource { files: self.files.clone(), format: self.format.clone(), ..*self }
    }
}

impl<F> fmt::Debug for FileSource<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource")
            .field("path", &self.files.path)
            .field("on_malformed", &self.on_malformed)
            .field("has_split_per_file", &self.has_split_per_file)
            .finish_non_exhaustive()
    }
}

impl<F: Format> FileSource<F> {
    /// A reader of `split` from `position` on.
    pub(super) fn open(&self, split: &Split, position: Option<&[u8]>) -> Result<FileReader<F>> {
        let only = match self.has_split_per_file {
            true => Some(split.id.clone()),
            false if split.id == ALL_FILES => None,
            false => {
                return Err(Error::config(format!("input has no split `{}`", split.id)));
            }
        };
        let at = match position {
            Some(bytes) => Position::decode(bytes, &split.id)?.at,
            None => None,
        };
        let options = ReaderOptions {
            format: self.format.clone(),
            files: self.files.clone(),
            only,
            on_malformed: self.on_malformed,
        };
        Ok(FileReader::new(options, at))
    }
}

impl<F: Format> Source for FileSource<F> {
    type Item = F::Item;
    type Dead = DeadLetter;

    fn splits(&self) -> Result<Vec<Split>> {
        let files = self.files.list()?;
        Ok(match self.has_split_per_file {
            true => files.into_iter().map(|file| Split::new(file.name)).collect(),
            false => vec![Split::new(ALL_FILES)],
        })
    }

    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<F::Item, DeadLetter>>> {
        Ok(Box::new(self.open(split, position)?))
    }

    fn describe(&self) -> String {
        format!("{} {}", self.format.name(), self.files.path.display())
    }
}
