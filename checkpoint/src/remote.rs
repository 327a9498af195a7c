//! Objects in an object store: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure.
//!
//! Works with every store that offers conditional creation and shows every object in a listing
//! that was created before it (`PutMode::Create` of the crate `object_store`, whose stores retry
//! failed requests themselves, a bounded number of times). That crate is asynchronous: the futures
//! of a call run on a runtime of the store's own, on the thread that calls.
//!
//! Everything is durable when its request has been answered: to settle is to do nothing. Objects of
//! more than [`CHUNK`] bytes are uploaded in pieces, several at a time, and come into being with
//! the last request. What is read piece by piece is downloaded into scratch space once.
//!
//! *Tests:* `remote/tests.rs`, over a store in memory that fails every request in every way.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use object_store::path::Path as Key;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use crate::objects::{LocalFile, Objects, Summary};
use crate::{Error, Result};

#[cfg(feature = "object-store")]
mod services;
#[cfg(test)]
pub(crate) mod tests;

#[cfg(feature = "object-store")]
pub(crate) use services::connect;

/// Larger objects are uploaded in pieces of this length, in bytes.
const CHUNK: usize = 8 << 20;
/// Pieces that are uploaded at the same time.
const AT_ONCE: usize = 4;

/// A part of an object store.
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    url: String,
    prefix: Key,
    runtime: tokio::runtime::Runtime,
    /// With what was downloaded, in the folder `files`.
    scratch: tempfile::TempDir,
    work: PathBuf,
}

impl Bucket {
    /// The objects below the prefix in `url`, which also names them in messages. Scratch space is
    /// made in `work_dir`, or else where the system has its own.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        url: &str,
        work_dir: Option<&Path>,
    ) -> Result<Self> {
        let url = url.trim_end_matches('/').to_owned();
        let path = url.split_once("://").map_or("", |(_, rest)| rest);
        let prefix = path.split_once('/').map_or("", |(_, prefix)| prefix);
        let prefix = Key::parse(prefix).map_err(|error| Error::Location {
            location: url.clone(),
            detail: error.to_string(),
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("connect to", Path::new(&url), error))?;
        let system = std::env::temp_dir();
        let scratch = crate::scratch::create(work_dir.unwrap_or(&system))?;
        let work = scratch.path().join("work");
        for dir in [&work, &scratch.path().join("files")] {
            fs::create_dir(dir).map_err(|error| Error::io("create", dir, error))?;
        }
        Ok(Self { store, url, prefix, runtime, scratch, work })
    }

    fn key(&self, key: &str) -> Key {
        key.split('/').fold(self.prefix.clone(), Key::join)
    }

    /// Waits for a request; none if it is about an object that does not exist.
    fn wait<T>(
        &self,
        action: &'static str,
        key: &str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<Option<T>> {
        match self.runtime.block_on(request) {
            Ok(value) => Ok(Some(value)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(action, &self.locate(key), error)),
        }
    }

    /// The same where an object that does not exist is an error.
    fn demand<T>(
        &self,
        action: &'static str,
        key: &str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        let result = self.runtime.block_on(request);
        result.map_err(|error| failed(action, &self.locate(key), error))
    }

    /// Uploads an object in pieces, as the reader gives them.
    fn upload(&self, key: &str, mut read: impl FnMut() -> Result<Vec<u8>>) -> Result<()> {
        let target = self.key(key);
        let mut upload = self.demand("write", key, self.store.put_multipart(&target))?;
        let uploaded = loop {
            let mut pieces = Vec::new();
            let mut is_whole = false;
            while pieces.len() < AT_ONCE && !is_whole {
                match read() {
                    Ok(bytes) if bytes.is_empty() => is_whole = true,
                    Ok(bytes) => pieces.push(upload.put_part(PutPayload::from(bytes))),
                    Err(error) => {
                        // What stays is removed by the rules of the bucket for unfinished uploads.
                        let _ = self.runtime.block_on(upload.abort());
                        return Err(error);
                    }
                }
            }
            let sent = self.demand("write", key, try_join_all(pieces));
            if sent.is_err() || is_whole {
                break sent;
            }
        };
        let finished = uploaded.and_then(|_| self.demand("write", key, upload.complete()));
        if finished.is_err() {
            let _ = self.runtime.block_on(upload.abort());
        }
        finished.map(drop)
    }

    fn downloaded(&self, key: &str) -> PathBuf {
        self.scratch.path().join("files").join(key.rsplit('/').next().unwrap_or(key))
    }

    fn download(&self, key: &str, to: &Path) -> Result<Option<()>> {
        let source = self.key(key);
        let Some(object) = self.wait("read", key, self.store.get(&source))? else {
            return Ok(None);
        };
        let failed = |error| Error::io("write", to, error);
        // Half a download must not be taken for a whole one.
        let unfinished = to.with_extension("part");
        let mut file = File::create(&unfinished).map_err(failed)?;
        let mut pieces = object.into_stream();
        while let Some(bytes) = self.demand("read", key, pieces.try_next())? {
            io::Write::write_all(&mut file, &bytes).map_err(failed)?;
        }
        fs::rename(&unfinished, to).map_err(failed)?;
        Ok(Some(()))
    }
}

/// Reads a local file in pieces of [`CHUNK`] bytes; the last one is empty.
struct Pieces<'a> {
    path: &'a Path,
    file: File,
    hasher: crc32fast::Hasher,
    bytes: u64,
}

impl<'a> Pieces<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
        Ok(Self { path, file, hasher: crc32fast::Hasher::new(), bytes: 0 })
    }

    fn next(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.file).take(CHUNK as u64).read_to_end(&mut bytes);
        read.map_err(|error| Error::io("read", self.path, error))?;
        self.hasher.update(&bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes)
    }

    /// Of what was read so far.
    fn summary(self) -> Summary {
        Summary { bytes: self.bytes, crc32: self.hasher.finalize() }
    }
}

impl Objects for Bucket {
    fn locate(&self, key: &str) -> PathBuf {
        if key.is_empty() { PathBuf::from(&self.url) } else { format!("{}/{key}", self.url).into() }
    }

    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() > CHUNK {
            let mut pieces = bytes.chunks(CHUNK);
            return self.upload(key, || Ok(pieces.next().unwrap_or_default().to_vec()));
        }
        let payload = PutPayload::from(bytes.to_vec());
        self.demand("write", key, self.store.put(&self.key(key), payload)).map(drop)
    }

    fn adopt(&mut self, key: &str, file: &Path) -> Result<Summary> {
        let mut pieces = Pieces::open(file)?;
        let length = fs::metadata(file).map_err(|error| Error::io("read", file, error))?.len();
        if length > CHUNK as u64 {
            self.upload(key, || pieces.next())?;
        } else {
            let bytes = pieces.next()?;
            self.put(key, &bytes)?;
        }
        fs::remove_file(file).map_err(|error| Error::io("delete", file, error))?;
        Ok(pieces.summary())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn create(&mut self, key: &str, bytes: &[u8]) -> Result<bool> {
        let payload = PutPayload::from(bytes.to_vec());
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let target = self.key(key);
        let created = self.runtime.block_on(self.store.put_opts(&target, payload, options));
        match created {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(error) => Err(failed("write", &self.locate(key), error)),
        }
    }

    fn read(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let source = self.key(key);
        let read = async { self.store.get(&source).await?.bytes().await };
        Ok(self.wait("read", key, read)?.map(|bytes| bytes.to_vec()))
    }

    fn read_range(&self, key: &str, offset: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        if bytes == 0 {
            return Ok(self.size(key)?.map(|_| Vec::new()));
        }
        let source = self.key(key);
        let range = Some(GetRange::Bounded(offset..offset.saturating_add(bytes)));
        let options = GetOptions { range, ..GetOptions::default() };
        let read = async { self.store.get_opts(&source, options).await?.bytes().await };
        match self.wait("read", key, read) {
            Ok(read) => Ok(read.map(|bytes| bytes.to_vec())),
            // A range behind the end is refused.
            Err(error) => match self.size(key)? {
                Some(length) if length > offset => Err(error),
                length => Ok(length.map(|_| Vec::new())),
            },
        }
    }

    fn local_file(&self, key: &str) -> Result<Option<LocalFile>> {
        let path = self.downloaded(key);
        if !path.exists() && self.download(key, &path)?.is_none() {
            return Ok(None);
        }
        let length = fs::metadata(&path).map_err(|error| Error::io("read", &path, error))?.len();
        Ok(Some(LocalFile::Path(path, length)))
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        let source = self.key(key);
        Ok(self.wait("look at", key, self.store.head(&source))?.map(|found| found.size))
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        let prefix = self.key(folder);
        let listed: Vec<_> =
            self.demand("list", folder, self.store.list(Some(&prefix)).try_collect())?;
        let keys = listed.into_iter().filter_map(|found| {
            let rest = found.location.as_ref().strip_prefix(prefix.as_ref())?;
            Some((format!("{folder}{rest}"), found.size))
        });
        Ok(keys.collect())
    }

    fn delete(&mut self, key: &str) -> Result<()> {
        // A copy that cannot be removed goes with the scratch space.
        let _ = fs::remove_file(self.downloaded(key));
        let target = self.key(key);
        self.wait("delete", key, self.store.delete(&target)).map(drop)
    }

    fn sweep(&mut self, _folder: &str) -> Result<()> {
        // An object is created as a whole or not at all.
        Ok(())
    }

    fn recover(&mut self) -> Result<()> {
        // Every request stands by itself: only scratch space may hold something of a failed one.
        let emptied =
            std::fs::remove_dir_all(&self.work).and_then(|()| std::fs::create_dir(&self.work));
        emptied.map_err(|error| Error::io("empty", &self.work, error))
    }

    fn work_directory(&self) -> Option<&Path> {
        Some(&self.work)
    }
}

/// Sorts a failed request into the variants a user can act on.
fn failed(action: &'static str, path: &Path, error: object_store::Error) -> Error {
    use object_store::Error as Failed;
    let path = path.to_owned();
    match error {
        Failed::PermissionDenied { .. } | Failed::Unauthenticated { .. } => {
            Error::Denied { action, path }
        }
        error => Error::Io { action, path, source: io::Error::other(error) },
    }
}
