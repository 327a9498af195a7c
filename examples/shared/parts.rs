//! Reads the committed output of a job back: all records of a directory's parts.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thalweg::{Error, Result};

/// All records of the parts in `directory`.
///
/// # Errors
/// If the directory or a part cannot be read.
pub(crate) fn read<T: DeserializeOwned>(directory: &Path) -> Result<Vec<T>> {
    let unreadable = |error: std::io::Error| {
        Error::unavailable(format!("cannot read the output in {}", directory.display()))
            .with_source(error)
    };
    let mut parts: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_encoded_bytes().starts_with(b"part-") {
            parts.push(entry.path());
        }
    }
    parts.sort();
    let mut records = Vec::new();
    for part in parts {
        let rows = csv::Reader::from_path(&part).and_then(|mut file| file.deserialize().collect());
        let rows: Vec<T> = rows.map_err(|error| {
            Error::corrupt(format!("cannot read the output {}", part.display())).with_source(error)
        })?;
        records.extend(rows);
    }
    Ok(records)
}
