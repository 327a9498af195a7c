//! CSV: fields between delimiters, a header line, records typed by serde.

use std::fmt;
use std::marker::PhantomData;

use ::csv::{ByteRecord, DeserializeErrorKind, ErrorKind};
use serde::de::DeserializeOwned;
use thalweg_engine::Element;

use super::{FirstRecord, Format, Framing, Malformed};
use crate::files::quotes::split_fields;

/// The CSV format of RFC 4180, with a header line; see [`csv`](crate::files::csv).
///
/// Records are read by column name into structs, or by column number into tuples. An empty field
/// is `None` to an `Option`. A row with another number of fields than the header is malformed.
/// Lines end with `\n` or `\r\n`; blank lines are passed over.
pub struct Csv<T> {
    pub(in crate::files) delimiter: u8,
    pub(in crate::files) has_header: bool,
    records: PhantomData<fn() -> T>,
}

impl<T> Default for Csv<T> {
    fn default() -> Self {
        Csv { delimiter: b',', has_header: true, records: PhantomData }
    }
}

impl<T> Clone for Csv<T> {
    fn clone(&self) -> Self {
        Csv { ..*self }
    }
}

impl<T> fmt::Debug for Csv<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csv")
            .field("delimiter", &char::from(self.delimiter))
            .field("has_header", &self.has_header)
            .finish_non_exhaustive()
    }
}

/// The header of a file, and the fields of the record at hand.
#[derive(Default, Debug)]
pub struct CsvScratch {
    header: Option<ByteRecord>,
    columns: usize,
    record: ByteRecord,
}

impl CsvScratch {
    fn column_name(&self, index: u64) -> String {
        let name = self.header.as_ref().and_then(|header| header.get(index as usize));
        name.map_or_else(|| (index + 1).to_string(), |n| String::from_utf8_lossy(n).into_owned())
    }

    fn explain(&self, error: &::csv::Error) -> Malformed {
        let ErrorKind::Deserialize { err, .. } = error.kind() else {
            return Malformed::Record(error.to_string());
        };
        let message = match err.kind() {
            DeserializeErrorKind::Message(message) => message.clone(),
            kind => kind.to_string(),
        };
        // Every row has all columns of the header, so it is the header that has too few of them.
        if err.field().is_none() && message.starts_with("missing field") {
            let header = self.header.iter().flatten();
            let columns: Vec<_> = header.map(String::from_utf8_lossy).collect();
            let columns = columns.join(", ");
            return Malformed::File(format!("{message}: the header has the columns {columns}"));
        }
        Malformed::Record(match err.field() {
            Some(index) => format!("field {}: {message}", self.column_name(index)),
            None => message,
        })
    }
}

impl<T: Element + DeserializeOwned> Format for Csv<T> {
    type Item = T;
    type Scratch = CsvScratch;

    fn name(&self) -> &'static str {
        "csv"
    }

    fn framing(&self) -> Framing {
        Framing::Quoted { delimiter: self.delimiter }
    }

    fn first(&self, raw: &[u8], scratch: &mut CsvScratch) -> Result<FirstRecord, String> {
        if raw.is_empty() {
            return Ok(FirstRecord::Blank);
        }
        let mut fields = ByteRecord::new();
        split_fields(raw, self.delimiter, &mut fields)?;
        scratch.columns = fields.len();
        if !self.has_header {
            return Ok(FirstRecord::Record);
        }
        if fields.iter().any(|name| std::str::from_utf8(name).is_err()) {
            return Err("the header is not UTF-8".to_owned());
        }
        scratch.header = Some(fields);
        Ok(FirstRecord::Header)
    }

    fn decode(&self, raw: &[u8], scratch: &mut CsvScratch) -> Result<Option<T>, Malformed> {
        if raw.is_empty() {
            return Ok(None);
        }
        split_fields(raw, self.delimiter, &mut scratch.record).map_err(Malformed::Record)?;
        if scratch.record.len() != scratch.columns {
            let first = if self.has_header { "header" } else { "first row" };
            return Err(Malformed::Record(format!(
                "{} fields where the {first} has {}",
                scratch.record.len(),
                scratch.columns
            )));
        }
        let decoded = scratch.record.deserialize(scratch.header.as_ref());
        decoded.map(Some).map_err(|error| scratch.explain(&error))
    }
}
