//! Where checkpoints are kept: a path or a URL, as the user gives it.

use std::path::{Path, PathBuf};

use crate::memory::Map;
use crate::objects::Objects;
use crate::{Error, Repository, Result, StoreOptions};

/// A kind of object store, as the beginning of a URL names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    Gcs,
    Azure,
}

impl Service {
    /// The cargo feature that it needs.
    fn feature(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Location<'a> {
    Directory(PathBuf),
    Memory,
    Bucket(Service, &'a str),
}

impl Repository {
    /// Opens the checkpoints at a place: a path, or a URL that begins with `file://`, `s3://`,
    /// `gs://` or `az://`, followed by a bucket and a prefix. `memory:` is an empty store that goes
    /// with the process, for tests.
    ///
    /// Credentials and regions of object stores come from the variables of the environment that
    /// their own tools read (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
    ///
    /// # Errors
    ///
    /// The place is in use (a directory), belongs to another job, or cannot be read and written;
    /// the URL is none that is known, or needs a feature that this program was built without. A
    /// damaged checkpoint is not an error here but in [`crate::CheckpointStore::latest`].
    pub fn open_at(location: &Path, options: &StoreOptions) -> Result<Self> {
        match parse(location)? {
            Location::Directory(dir) => Self::open_directory(&dir, options),
            Location::Memory => Self::open(Box::new(Map::default()), options),
            Location::Bucket(service, url) => {
                Self::open(bucket(service, url, options.work_dir.as_deref())?, options)
            }
        }
    }
}

/// A place whose objects are only read.
pub(crate) enum ReadOnly {
    Directory(PathBuf),
    Objects(Box<dyn Objects>),
}

/// Opens a place for reading; whoever uses it is not disturbed.
///
/// # Errors
///
/// The URL is none that is known, needs a feature that this program was built without, or means
/// memory of a process.
pub(crate) fn open_read_only(location: &Path) -> Result<ReadOnly> {
    match parse(location)? {
        Location::Directory(dir) => Ok(ReadOnly::Directory(dir)),
        Location::Memory => Err(Error::Location {
            location: location.display().to_string(),
            detail: "what is in it goes with the process of its job".to_owned(),
        }),
        Location::Bucket(service, url) => Ok(ReadOnly::Objects(bucket(service, url, None)?)),
    }
}

/// The local directory that a path or URL means; none if it is an object store, or no place.
pub fn local_directory(location: &Path) -> Option<PathBuf> {
    match parse(location) {
        Ok(Location::Directory(dir)) => Some(dir),
        _ => None,
    }
}

fn parse(location: &Path) -> Result<Location<'_>> {
    let directory = || Ok(Location::Directory(location.to_owned()));
    let Some(text) = location.to_str() else { return directory() };
    let refused = |detail: String| Err(Error::Location { location: text.to_owned(), detail });
    if text == "memory:" {
        return Ok(Location::Memory);
    }
    let Some((scheme, rest)) = text.split_once("://") else { return directory() };
    let service = match scheme {
        "file" if rest.starts_with('/') && !rest.contains('%') => {
            return Ok(Location::Directory(PathBuf::from(rest)));
        }
        "file" => return refused("give the path as it is, without `file://`".to_owned()),
        "s3" => Service::S3,
        "gs" => Service::Gcs,
        "az" => Service::Azure,
        _ => {
            let known = "a path, or a URL with `file://`, `s3://`, `gs://` or `az://`";
            return refused(format!("`{scheme}` is no place for checkpoints: give {known}"));
        }
    };
    if rest.split('/').next().is_none_or(str::is_empty) {
        return refused(format!("names no bucket: give {scheme}://BUCKET/PREFIX"));
    }
    Ok(Location::Bucket(service, text))
}

#[cfg(feature = "object-store")]
fn bucket(service: Service, url: &str, work_dir: Option<&Path>) -> Result<Box<dyn Objects>> {
    match crate::remote::connect(service, url)? {
        Some(store) => Ok(Box::new(crate::remote::Bucket::new(store, url, work_dir)?)),
        None => Err(not_built(service, url)),
    }
}

#[cfg(not(feature = "object-store"))]
fn bucket(service: Service, url: &str, _work_dir: Option<&Path>) -> Result<Box<dyn Objects>> {
    Err(not_built(service, url))
}

fn not_built(service: Service, url: &str) -> Error {
    let feature = service.feature();
    let detail =
        format!("this program was built without it: build it with the feature `{feature}`");
    Error::Location { location: url.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Location, Service, parse};
    use crate::repository::tests::{numbers, options, publish};
    use crate::{ErrorKind, Repository};

    fn error_of(location: &str) -> String {
        let error = Repository::open_at(Path::new(location), &options(1));
        let error = error.err().expect("is refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().starts_with(location), "{error}");
        error.to_string()
    }

    #[test]
    fn paths_and_urls_are_told_apart() {
        let is_directory = |location: &str, path: &str| {
            let expected = Location::Directory(path.into());
            assert_eq!(parse(Path::new(location)).expect("is one"), expected);
        };
        is_directory("/a/b", "/a/b");
        is_directory("s3/bucket:7", "s3/bucket:7");
        is_directory("file:///a/b", "/a/b");
        for (url, service) in
            [("s3://b", Service::S3), ("gs://b/p/q", Service::Gcs), ("az://c/p", Service::Azure)]
        {
            let expected = Location::Bucket(service, url);
            assert_eq!(parse(Path::new(url)).expect("is one"), expected);
        }
    }

    #[test]
    fn wrong_urls_say_what_to_give() {
        assert!(error_of("ftp://host/dir").contains("`s3://`"));
        assert!(error_of("file://host/dir").contains("without `file://`"));
        assert!(error_of("file:///a%20b").contains("without `file://`"));
        assert!(error_of("s3:///prefix").contains("s3://BUCKET/PREFIX"));
    }

    #[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
    #[test]
    fn what_was_not_built_names_its_feature() {
        for (url, feature) in [("s3://b/p", "`s3`"), ("gs://b/p", "`gcs`"), ("az://b", "`azure`")] {
            assert!(error_of(url).contains(feature));
        }
    }

    #[test]
    fn a_url_of_a_directory_is_that_directory() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let url = format!("file://{}", dir.path().display());
        publish(&mut Repository::open_at(Path::new(&url), &options(1)).expect("opens"), 7);
        let store = Repository::open_directory(dir.path(), &options(1)).expect("opens");
        assert_eq!(numbers(&store), [7]);
        let mut store = Repository::open_at(Path::new("memory:"), &options(1)).expect("opens");
        publish(&mut store, 7);
        assert_eq!(numbers(&store), [7]);
    }
}
