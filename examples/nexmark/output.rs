//! Where results go: into a digest, and into a file of canonical lines, exactly once.
//!
//! The file is made in two steps. While the job runs, lines go to the parts of a directory beside
//! the file, which become visible with their checkpoint; when the job has finished, [`merge`] sorts
//! them into the file. So a job that is killed and started again leaves the same file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thalweg::Stream;
use thalweg::connectors::files::{FileSink, OutputFormat};
use thalweg::connectors::sink;
use thalweg::engine::Element;

use crate::canonical::{Digest, Row, write_lines};
use crate::query::Query;
use crate::rows::{Change, Version, split_version};

/// The sinks of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    tally: Arc<Tally>,
    parts: Option<PathBuf>,
}

/// What the sinks of all subtasks have taken.
#[derive(Debug, Default)]
struct Tally {
    digest: AtomicU64,
    rows: AtomicU64,
}

impl Output {
    /// A digest, and parts in a directory if one is given.
    pub(crate) fn new(parts: Option<PathBuf>) -> Self {
        Output { tally: Arc::default(), parts }
    }

    /// Leads a stream of results into the sinks.
    pub(crate) fn rows<R: Row + Element>(&self, rows: &Stream<R>) {
        let line = |row: &R, lines: &mut String| {
            row.line(lines);
            lines.push('\n');
        };
        self.lead(rows, |rows| Digest::of(rows).sum(), line);
    }

    /// Leads the changes of a result into the sinks, where the last row of each key remains.
    pub(crate) fn changes<C: Change + Element>(&self, changes: &Stream<C>) {
        let digest = |changes: &[C]| {
            changes.iter().fold(0_u64, |sum, change| sum.wrapping_add(change.digest()))
        };
        self.lead(changes, digest, C::versioned_lines);
    }

    fn lead<R: Element>(
        &self,
        rows: &Stream<R>,
        digest: impl Fn(&[R]) -> u64 + Send + Sync + 'static,
        append: fn(&R, &mut String),
    ) {
        let tally = self.tally.clone();
        rows.sink("digest", sink::for_each(move |rows: &[R]| tally.add(digest(rows), rows.len())));
        if let Some(parts) = &self.parts {
            let lines = rows.map(move |row| {
                let mut lines = String::new();
                append(&row, &mut lines);
                lines
            });
            lines.sink("lines", FileSink::new(parts, CanonicalLines));
        }
    }

    /// The digest of all results so far.
    pub(crate) fn digest(&self) -> Digest {
        Digest::from_sum(self.tally.digest.load(Ordering::Relaxed))
    }

    /// The number of results so far; of those that change, every change is one.
    pub(crate) fn row_count(&self) -> u64 {
        self.tally.rows.load(Ordering::Relaxed)
    }
}

impl Tally {
    fn add(&self, digest: u64, rows: usize) {
        // An atomic addition wraps around, as a digest does.
        self.digest.fetch_add(digest, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }
}

/// Lines as they are, unsorted: canonical ones, or of changes versioned ones.
struct CanonicalLines;

impl OutputFormat for CanonicalLines {
    type Item = String;

    fn name(&self) -> &'static str {
        "canonical csv"
    }

    fn extension(&self) -> &'static str {
        "csv"
    }

    fn encode(
        &self,
        lines: &[String],
        _begins_part: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        out.extend(lines.iter().flat_map(|lines| lines.as_bytes()));
        Ok(())
    }
}

/// The directory of the parts of `file`.
pub(crate) fn parts_of(file: &Path) -> PathBuf {
    with_suffix(file, ".parts")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Sorts the visible parts of `file` into it and returns the number of lines.
///
/// # Errors
/// Those of the file system; the file is then as it was.
pub(crate) fn merge(query: Query, file: &Path) -> io::Result<usize> {
    let mut lines: Vec<String> = Vec::new();
    for entry in fs::read_dir(parts_of(file))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("part-") {
            lines.extend(fs::read_to_string(entry.path())?.lines().map(str::to_owned));
        }
    }
    if let Some(columns) = query.replaced_by_columns() {
        lines = last_of_each_key(lines, columns)?;
    }
    lines.sort_unstable();
    let unfinished = with_suffix(file, ".tmp");
    write_lines(&lines, BufWriter::new(File::create(&unfinished)?))?;
    fs::rename(&unfinished, file)?;
    Ok(lines.len())
}

/// Of versioned lines whose first `columns` are a key, the last one of each key, without its
/// version.
fn last_of_each_key(lines: Vec<String>, columns: usize) -> io::Result<Vec<String>> {
    let mut last: BTreeMap<&str, (Version, &str)> = BTreeMap::new();
    for line in &lines {
        let (version, line) = split_version(line)
            .ok_or_else(|| io::Error::other(format!("a line without a version: {line}")))?;
        let key_end = line.match_indices(',').nth(columns - 1).map_or(line.len(), |(at, _)| at);
        let slot = last.entry(&line[..key_end]).or_insert((version, line));
        if version >= slot.0 {
            *slot = (version, line);
        }
    }
    Ok(last.into_values().map(|(_, line)| line.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::last_of_each_key;

    fn last(lines: &[&str], columns: usize) -> Vec<String> {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        last_of_each_key(lines, columns).expect("all lines have versions")
    }

    #[test]
    fn the_last_row_of_a_key_is_that_of_its_greatest_version() {
        let lines = ["9,0,12,a", "2,0,1,b", "10,0,12,c", "1,0,1,d", "3,0,7,e", "8,7,12,f"];
        assert_eq!(last(&lines, 1), ["1,b", "12,c", "7,e"]);
        let lines = ["5,9,1,1,x", "5,10,1,1,y", "0,0,1,2,z", "4,11,1,1,w"];
        assert_eq!(last(&lines, 2), ["1,1,y", "1,2,z"]);
        assert!(last(&[], 1).is_empty());
        assert_eq!(last(&["0,0,1"], 1), ["1"], "a row may have no columns but its key");
    }

    #[test]
    fn a_line_without_a_version_is_an_error() {
        for line in ["", "1", "1,2", "x,2,3", "1,-2,3"] {
            assert!(last_of_each_key(vec![line.to_owned()], 1).is_err(), "{line}");
        }
    }
}
