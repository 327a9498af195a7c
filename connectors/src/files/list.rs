//! Which files a path means: itself, or the files of a directory in the order of their names.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use thalweg_engine::{Error, Result};

/// A path as the user gave it.
#[derive(Clone, Debug)]
pub(super) struct FileSet {
    pub(super) path: PathBuf,
}

/// One file to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DataFile {
    /// The name inside the directory; identifies the file in checkpoints.
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl FileSet {
    /// All files, by name, at least one. Hidden files and directories inside are passed over.
    ///
    /// # Errors
    /// `Config` if there is none or the path cannot be read.
    pub(super) fn list(&self) -> Result<Vec<DataFile>> {
        let metadata = fs::metadata(&self.path).map_err(|error| self.unreadable(&error))?;
        if !metadata.is_dir() {
            let name = self.path.file_name().unwrap_or(self.path.as_os_str());
            return Ok(vec![self.data_file(name, self.path.clone())?]);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|error| self.unreadable(&error))? {
            let entry = entry.map_err(|error| self.unreadable(&error))?;
            let (name, path) = (entry.file_name(), entry.path());
            let is_hidden = name.as_encoded_bytes().starts_with(b".");
            if !is_hidden && !fs::metadata(&path).is_ok_and(|m: Metadata| m.is_dir()) {
                files.push(self.data_file(&name, path)?);
            }
        }
        if files.is_empty() {
            return Err(Error::config(format!(
                "input directory {} has no files (hidden ones do not count): put the input \
                 there, or give another path",
                self.path.display()
            )));
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn data_file(&self, name: &std::ffi::OsStr, path: PathBuf) -> Result<DataFile> {
        let name = name.to_str().ok_or_else(|| {
            Error::config(format!("the name of {} is not UTF-8: rename the file", path.display()))
        })?;
        Ok(DataFile { name: name.to_owned(), path })
    }

    fn unreadable(&self, error: &io::Error) -> Error {
        unreadable(&self.path, error)
    }
}

/// The error of an input that cannot be opened or read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => Error::config(format!(
            "input {path} does not exist: check the path, it is relative to the working directory"
        )),
        io::ErrorKind::PermissionDenied => {
            Error::config(format!("input {path} cannot be read: permission denied"))
        }
        _ => Error::unavailable(format!("input {path} cannot be read: {error}")),
    }
}
