//! What happens to records that cannot be decoded.

use serde::{Deserialize, Serialize};

/// What a file source does with a record that cannot be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum OnMalformed {
    /// The job fails with an error that names file, line and what is wrong.
    #[default]
    Fail,
    /// The record is skipped and counted.
    Skip,
    /// The record goes to the dead-letter stream, as a [`DeadLetter`].
    DeadLetter,
}

/// A record that could not be decoded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The file, as messages name it.
    pub file: String,
    /// The line on which the record begins, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub error: String,
    /// The record as it stands in the (decompressed) file, without its line end; of a record that
    /// is too long, its beginning.
    pub raw: Vec<u8>,
}
