//! Scratch space outside of a checkpoint directory.

use std::path::Path;

use crate::{Error, Result};

/// A new directory in `parent`, which goes with all in it when the value does.
pub(crate) fn create(parent: &Path) -> Result<tempfile::TempDir> {
    let created = tempfile::Builder::new().prefix("thalweg-").tempdir_in(parent);
    created.map_err(|error| Error::io("create a directory in", parent, error))
}
