//! Output formats: how records become the bytes of a part.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use thalweg_engine::Element;

/// A format of text files to write: implement it to write another one with a [`FileSink`].
///
/// [`FileSink`]: super::FileSink
pub trait OutputFormat: Send + Sync + 'static {
    /// The records.
    type Item: Element;

    /// The name in plans and messages: `csv`.
    fn name(&self) -> &'static str;

    /// The ending of the files' names, without the dot.
    fn extension(&self) -> &'static str;

    /// Appends `records` to `out`; the first records of a part, if `begins_part`.
    ///
    /// # Errors
    /// A message, if a record has no form in this format.
    fn encode(
        &self,
        records: &[Self::Item],
        begins_part: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), String>;
}

/// CSV as [`csv_out`](super::csv_out) writes it: fields quoted where they have to be, `None`
/// empty, a header line in each part if records are structs.
pub struct CsvOut<T> {
    pub(super) has_header: bool,
    records: PhantomData<fn(T)>,
}

impl<T> Default for CsvOut<T> {
    fn default() -> Self {
        CsvOut { has_header: true, records: PhantomData }
    }
}

impl<T> fmt::Debug for CsvOut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsvOut").field("has_header", &self.has_header).finish_non_exhaustive()
    }
}

impl<T: Element + Serialize> OutputFormat for CsvOut<T> {
    type Item = T;

    fn name(&self) -> &'static str {
        "csv"
    }

    fn extension(&self) -> &'static str {
        "csv"
    }

    fn encode(&self, records: &[T], begins_part: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let mut writer =
            csv::WriterBuilder::new().has_headers(begins_part && self.has_header).from_writer(out);
        for record in records {
            writer.serialize(record).map_err(|error| error.to_string())?;
        }
        writer.flush().map_err(|error| error.to_string())
    }
}

/// JSON lines as [`json_lines_out`](super::json_lines_out) writes them.
pub struct JsonLinesOut<T> {
    records: PhantomData<fn(T)>,
}

impl<T> Default for JsonLinesOut<T> {
    fn default() -> Self {
        JsonLinesOut { records: PhantomData }
    }
}

impl<T> fmt::Debug for JsonLinesOut<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonLinesOut")
    }
}

impl<T: Element + Serialize> OutputFormat for JsonLinesOut<T> {
    type Item = T;

    fn name(&self) -> &'static str {
        "json lines"
    }

    fn extension(&self) -> &'static str {
        "jsonl"
    }

    fn encode(&self, records: &[T], _begins_part: bool, out: &mut Vec<u8>) -> Result<(), String> {
        for record in records {
            serde_json::to_writer(&mut *out, record).map_err(|error| error.to_string())?;
            out.push(b'\n');
        }
        Ok(())
    }
}
