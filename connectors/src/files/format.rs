//! Record formats: how a file is cut into records and what a record's bytes mean.

mod csv;
mod json;
mod lines;

use thalweg_engine::Element;

pub use csv::Csv;
pub use json::JsonLines;
pub use lines::Lines;

/// A format of text files: implement it to read another one with a [`FileSource`].
///
/// [`FileSource`]: super::FileSource
pub trait Format: Send + Sync + 'static {
    /// The records.
    type Item: Element;
    /// What decoding keeps from one record to the next: a header, buffers. One for each file.
    type Scratch: Default + Send + 'static;

    /// The name in plans and messages: `csv`.
    fn name(&self) -> &'static str;

    /// How the bytes are cut into records.
    fn framing(&self) -> Framing;

    /// Looks at the first record of a file and says whether it is one.
    ///
    /// # Errors
    /// A message, if the file cannot be read after it.
    fn first(&self, raw: &[u8], scratch: &mut Self::Scratch) -> Result<FirstRecord, String>;

    /// Decodes a record; none if it is blank and stands for nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    fn decode(
        &self,
        raw: &[u8],
        scratch: &mut Self::Scratch,
    ) -> Result<Option<Self::Item>, Malformed>;
}

/// How bytes are cut into records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// A record is a line. A carriage return before the line end belongs to the line end.
    Lines,
    /// A record is a line, but line ends inside quoted fields do not count (RFC 4180).
    Quoted {
        /// What stands between two fields.
        delimiter: u8,
    },
}

/// What the first record of a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FirstRecord {
    /// It describes the others and is passed over.
    Header,
    /// It is a record like the others.
    Record,
    /// It is blank: the next one is the first.
    Blank,
}

/// What is wrong with a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// The record itself, as the message says: the user's choice applies.
    Record(String),
    /// The file does not fit the type, which no record can mend: the job fails.
    File(String),
}
