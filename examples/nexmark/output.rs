//! Where results go: into a digest, and into a file of canonical lines, exactly once.
//!
//! The file is made in two steps. While the job runs, lines go to the parts of a directory beside
//! the file, which become visible with their checkpoint; when the job has finished, [`merge`] sorts
//! them into the file. So a job that is killed and started again leaves the same file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thalweg::Stream;
use thalweg::connectors::files::{FileSink, OutputFormat};
use thalweg::connectors::sink;
use thalweg::engine::Element;

use crate::canonical::{Digest, Row, write_lines};
use crate::query::Query;

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
        let tally = self.tally.clone();
        rows.sink("digest", sink::for_each(move |rows: &[R]| tally.add(rows)));
        if let Some(parts) = &self.parts {
            rows.sink("lines", FileSink::new(parts, CanonicalLines(PhantomData)));
        }
    }

    /// The digest of all results so far.
    pub(crate) fn digest(&self) -> Digest {
        Digest::from_sum(self.tally.digest.load(Ordering::Relaxed))
    }

    /// The number of results so far; of running counts, every update is one.
    pub(crate) fn row_count(&self) -> u64 {
        self.tally.rows.load(Ordering::Relaxed)
    }
}

impl Tally {
    fn add<R: Row>(&self, rows: &[R]) {
        // An atomic addition wraps around, as a digest does.
        self.digest.fetch_add(Digest::of(rows).sum(), Ordering::Relaxed);
        self.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
    }
}

/// Rows as canonical lines, unsorted.
struct CanonicalLines<R>(PhantomData<fn(R)>);

impl<R: Row + Element> OutputFormat for CanonicalLines<R> {
    type Item = R;

    fn name(&self) -> &'static str {
        "canonical csv"
    }

    fn extension(&self) -> &'static str {
        "csv"
    }

    fn encode(&self, rows: &[R], _begins_part: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let mut lines = String::new();
        for row in rows {
            row.line(&mut lines);
            lines.push('\n');
        }
        out.extend_from_slice(lines.as_bytes());
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
    if query == Query::State {
        lines = last_counts(lines);
    }
    lines.sort_unstable();
    let unfinished = with_suffix(file, ".tmp");
    write_lines(&lines, BufWriter::new(File::create(&unfinished)?))?;
    fs::rename(&unfinished, file)?;
    Ok(lines.len())
}

/// Of lines `key,count`, that of the greatest count for each key.
fn last_counts(mut lines: Vec<String>) -> Vec<String> {
    let parsed = |line: &String| {
        let (key, count) = line.split_once(',').unwrap_or((line, ""));
        (key.to_owned(), count.parse::<u64>().unwrap_or(0))
    };
    lines.sort_by_cached_key(parsed);
    let is_last = |pair: &[String]| parsed(&pair[0]).0 != parsed(&pair[1]).0;
    let mut last: Vec<String> =
        lines.windows(2).filter(|pair| is_last(pair)).map(|pair| pair[0].clone()).collect();
    last.extend(lines.pop());
    last
}

#[cfg(test)]
mod tests {
    use super::last_counts;

    #[test]
    fn the_last_count_of_a_key_is_its_greatest() {
        let lines = ["12,9", "1,2", "12,10", "1,1", "7,3", "12,8"].map(str::to_owned);
        assert_eq!(last_counts(lines.to_vec()), ["1,2", "12,10", "7,3"]);
        assert!(last_counts(Vec::new()).is_empty());
    }
}
