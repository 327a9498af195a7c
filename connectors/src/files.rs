//! Files: CSV, JSON lines and plain lines, plain or compressed; output in parts, exactly once.
//!
//! # Reading
//! [`csv()`], [`json_lines`] and [`lines`] read one file or all files of a directory, in the order
//! of their names, as they are, gzipped or zstd-compressed (by content, not by name). A checkpoint
//! remembers the file and the offset after the last complete record; a restart continues there and
//! refuses a file that has changed. What to do with malformed records is
//! [`on_malformed`](FileSource::on_malformed)'s choice.
//!
//! # Writing
//! [`csv_out`] and [`json_lines_out`] write parts into a directory. A part is hidden until the
//! checkpoint that holds it is complete; then it is renamed to `part-…` and never touched again.
//!
//! ```
//! use thalweg_connectors::files::{self, OnMalformed};
//!
//! let flights = files::csv::<(String, i64)>("flights.csv.gz").on_malformed(OnMalformed::Skip);
//! let hourly = files::csv_out::<(String, f64)>("hourly").roll_after_bytes(64 << 20);
//! # drop((flights, hourly));
//! ```

mod list;
mod decompress;
mod format;
mod quotes;
mod input;
mod position;
mod malformed;
mod reader;
mod source;
mod part;
mod encode;
mod writer;
mod committer;
mod sink;

pub use encode::{CsvOut, JsonLinesOut, OutputFormat};
pub use format::{Csv, FirstRecord, Format, Framing, JsonLines, Lines, Malformed};
pub use malformed::{DeadLetter, OnMalformed};
pub use sink::{FileSink, csv_out, json_lines_out};
pub use source::{FileSource, csv, json_lines, lines};

#[cfg(test)]
mod tests;
