//! Objects in a map; clones share it, as processes share a directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::objects::{LocalFile, Objects, Summary};
use crate::{Error, Result};

/// Objects that live as long as the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Map(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    objects: BTreeMap<String, Vec<u8>>,
    refuses_to_create: bool,
}

impl Map {
    /// Whether [`Objects::create`] fails from now on.
    pub(super) fn refuse_to_create(&self, refuse: bool) {
        self.lock().refuses_to_create = refuse;
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // No call can leave the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objects for Map {
    fn locate(&self, key: &str) -> PathBuf {
        Path::new("memory").join(key)
    }

    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<()> {
        self.lock().objects.insert(key.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn adopt(&mut self, key: &str, file: &Path) -> Result<Summary> {
        let read = |path: &Path| -> io::Result<Vec<u8>> {
            let bytes = std::fs::read(path)?;
            std::fs::remove_file(path).map(|()| bytes)
        };
        let bytes = read(file).map_err(|error| Error::io("adopt", file, error))?;
        let summary = Summary::of(&bytes);
        self.lock().objects.insert(key.to_owned(), bytes);
        Ok(summary)
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn create(&mut self, key: &str, bytes: &[u8]) -> Result<bool> {
        let mut contents = self.lock();
        if contents.refuses_to_create {
            return Err(Error::Injected { detail: format!("{key} is not created") });
        }
        if contents.objects.contains_key(key) {
            return Ok(false);
        }
        contents.objects.insert(key.to_owned(), bytes.to_vec());
        Ok(true)
    }

    fn read(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.lock().objects.get(key).cloned())
    }

    fn read_range(&self, key: &str, offset: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        let contents = self.lock();
        let Some(all) = contents.objects.get(key) else { return Ok(None) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
        let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(all.len() - start);
        Ok(Some(all[start..start + length].to_vec()))
    }

    fn local_file(&self, key: &str) -> Result<Option<LocalFile>> {
        Ok(self.read(key)?.map(LocalFile::Contents))
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.lock().objects.get(key).map(|bytes| bytes.len() as u64))
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        let folder = format!("{folder}/");
        let contents = self.lock();
        let below = contents.objects.iter().filter(|(key, _)| key.starts_with(&folder));
        Ok(below.map(|(key, bytes)| (key.clone(), bytes.len() as u64)).collect())
    }

    fn delete(&mut self, key: &str) -> Result<()> {
        self.lock().objects.remove(key);
        Ok(())
    }

    fn sweep(&mut self, _folder: &str) -> Result<()> {
        Ok(())
    }

    fn recover(&mut self) -> Result<()> {
        Ok(())
    }

    fn work_directory(&self) -> Option<&Path> {
        None
    }
}
