//! The committer of a file sink: gives hidden parts their final names, once.
//!
//! # Protocol
//! (1) A part is renamed from hidden to final; (2) the directory is synced; only then the commit
//! is acknowledged. A crash between the two leaves the part under either name, and committing it
//! again finds it there. At a start what is pending is committed first, and every hidden part that
//! is left then belongs to an attempt that nobody will commit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thalweg_engine::sink::{Committable, Committer, Start};
use thalweg_engine::{Error, Result};

use super::part::{
    Part, create_directory, is_hidden_part, is_visible_part, output_error, sync_directory,
};

pub(super) struct PartCommitter {
    directory: PathBuf,
    extension: &'static str,
}

impl PartCommitter {
    pub(super) fn new(directory: PathBuf, extension: &'static str) -> Self {
        PartCommitter { directory, extension }
    }

    fn names(&self) -> Result<Vec<String>> {
        let fail = |error: io::Error| output_error("list", &self.directory, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(fail)? {
            // Names that are not UTF-8 are not ours.
            names.extend(entry.map_err(fail)?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn check_fresh(&self) -> Result<()> {
        let names = self.names()?;
        let mut parts = names.iter().filter(|name| is_visible_part(name));
        match parts.next() {
            None => Ok(()),
            Some(first) => Err(Error::config(format!(
                "output directory {} already holds output of an earlier run: {first}{}; remove \
                 it or choose another",
                self.directory.display(),
                match parts.count() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                }
            ))),
        }
    }

    /// Removes the hidden parts of attempts that are over.
    fn remove_leftovers(&self) -> Result<()> {
        for name in self.names()? {
            if is_hidden_part(&name, self.extension) {
                let path = self.directory.join(&name);
                fs::remove_file(&path).map_err(|error| output_error("remove", &path, &error))?;
            }
        }
        Ok(())
    }

    fn commit_part(&self, part: &Part) -> Result<()> {
        let (hidden, path) = (self.directory.join(&part.hidden), self.directory.join(&part.name));
        match (stored_bytes(&hidden)?, stored_bytes(&path)?) {
            (Some(bytes), None) if bytes == part.bytes => {
                fs::rename(&hidden, &path).map_err(|error| output_error("rename", &hidden, &error))
            }
            (Some(_), Some(_)) => Err(Error::config(format!(
                "output {} exists already: another sink writes to this directory, or a job that \
                 went back to an older checkpoint; give each its own directory",
                path.display()
            ))),
            (None, Some(bytes)) if bytes == part.bytes => Ok(()),
            (Some(bytes), None) => Err(wrong_size(&hidden, bytes, part.bytes)),
            (None, Some(bytes)) => Err(wrong_size(&path, bytes, part.bytes)),
            (None, None) => Err(Error::corrupt(format!(
                "output {} was prepared by a checkpoint and is gone, as is {}: it was removed \
                 from outside; put it back, or start without the checkpoint",
                path.display(),
                part.hidden
            ))),
        }
    }
}

impl Committer for PartCommitter {
    fn recover(&mut self, pending: &[Committable], start: Start) -> Result<()> {
        create_directory(&self.directory)?;
        if start == Start::Fresh {
            self.check_fresh()?;
        }
        self.commit(pending)?;
        self.remove_leftovers()
    }

    fn commit(&mut self, committables: &[Committable]) -> Result<()> {
        if committables.is_empty() {
            return Ok(());
        }
        for committable in committables {
            self.commit_part(&Part::decode(committable)?)?;
        }
        sync_directory(&self.directory)
    }
}

/// The length of a file, or none if it does not exist.
fn stored_bytes(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(output_error("look at", path, &error)),
    }
}

fn wrong_size(path: &Path, bytes: u64, expected: u64) -> Error {
    Error::corrupt(format!(
        "output {} has {bytes} bytes and was prepared with {expected}: it was changed from outside",
        path.display()
    ))
}
