//! Tests of object stores: every request of a run fails before or after it took effect, and what is
//! found afterwards is the newest checkpoint or the one before, byte for byte.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::{Bucket, CHUNK};
use crate::objects::{LocalFile, Objects, Summary};
use crate::repository::tests::script::{Script, adopted};
use crate::repository::tests::{numbers, options, publish};
use crate::{Error, ErrorKind, Repository, Result, StoreOptions};

mod flaky;

use flaky::{Fault, Flaky};

const URL: &str = "s3://bucket/a/job/";

/// A prefix of a store that several processes can open.
pub(crate) fn bucket(store: Arc<dyn ObjectStore>) -> Box<dyn Objects> {
    Box::new(Bucket::new(store, URL, None).expect("a sound address"))
}

fn open(store: &Flaky) -> Result<Repository> {
    Repository::open(Box::new(Bucket::new(Arc::new(store.clone()), URL, None)?), &options(1))
}

/// Runs the script with a fault at a request; false if the script has fewer.
fn strike(at: u64, fault: Fault, tries_again: bool) -> bool {
    let store = Flaky::default();
    let dir = tempfile::tempdir().expect("a scratch directory");
    let run = dir.path().join("run");
    std::fs::write(&run, adopted()).expect("writes");
    store.plant(Some((at, fault)));
    let mut script = Script { tries_again, ..Script::default() };
    let opened = script.open(&|| open(&store));
    let result = opened.and_then(|store| script.run(store, &run));
    let is_within = store.requests() > at;
    if !store.is_struck() {
        return is_within;
    }
    let story = format!("{fault:?} at {at}, tries again: {tries_again}");
    match fault {
        Fault::Before | Fault::After => {
            assert!(result.is_ok() || !tries_again, "{story}: {result:?}");
        }
        Fault::EndBefore | Fault::EndAfter => assert!(result.is_err(), "{story}"),
    }
    store.plant(None);
    let (found, _) = script.restore(&|| open(&store), &story);
    Script::go_on(found, &story);
    is_within
}

#[test]
fn every_fault_at_every_request_leaves_a_checkpoint_that_can_be_restored() {
    for tries_again in [false, true] {
        for fault in Fault::ALL {
            let struck = (0..).take_while(|at| strike(*at, fault, tries_again)).count();
            assert!(struck > 30, "{struck} requests");
        }
    }
}

/// Contents that are uploaded in five pieces, the last one short.
fn huge() -> Vec<u8> {
    (0..4 * CHUNK + 77).map(|i| (i / CHUNK) as u8 ^ (i as u8).wrapping_mul(7)).collect()
}

#[test]
fn large_objects_are_uploaded_in_pieces_or_not_at_all() {
    let store = Flaky::default();
    let mut objects = bucket(Arc::new(store.clone()));
    let dir = tempfile::tempdir().expect("a scratch directory");
    let file = dir.path().join("run");
    let bytes = huge();
    store.plant(None);
    objects.put("files/whole", &bytes).expect("uploads");
    assert_eq!(store.requests(), 7, "begin, five pieces, end");
    assert!(objects.read("files/whole").expect("reads") == Some(bytes.clone()));
    for request in 0..7 {
        std::fs::write(&file, &bytes).expect("writes");
        for fault in [Fault::Before, Fault::After] {
            let key = format!("files/{request}-{fault:?}");
            store.plant(Some((request, fault)));
            objects.adopt(&key, &file).expect_err("a request fails");
            let found = objects.read(&key).expect("reads");
            // The last one may have come into being.
            assert!(found.is_none() || ((request, fault) == (6, Fault::After)), "{key}");
            assert!(found.is_none_or(|found| found == bytes), "{key}");
        }
        let key = format!("files/{request}");
        assert_eq!(objects.adopt(&key, &file).expect("uploads"), Summary::of(&bytes));
        assert!(!file.exists());
        assert!(objects.read(&key).expect("reads").as_ref() == Some(&bytes));
    }
}

#[test]
fn what_is_read_piece_by_piece_is_downloaded_once() {
    let store = Flaky::default();
    let mut objects = bucket(Arc::new(store.clone()));
    objects.put("files/a", b"contents").expect("uploads");
    store.plant(Some((0, Fault::Before)));
    assert!(objects.local_file("files/a").is_err());
    store.plant(None);
    for _ in 0..2 {
        let Some(LocalFile::Path(path, length)) = objects.local_file("files/a").expect("reads")
        else {
            panic!("a file");
        };
        assert_eq!(length, 8);
        assert_eq!(std::fs::read(path).expect("a file"), b"contents");
    }
    assert_eq!(store.requests(), 1);
    objects.delete("files/a").expect("deletes");
    assert!(objects.local_file("files/a").expect("asks").is_none(), "the copy has gone too");
    assert!(objects.local_file("files/b").expect("asks").is_none());
}

#[test]
fn jobs_under_different_prefixes_do_not_meet() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let open = |url: &str, job: &str| {
        let options = StoreOptions { job: job.to_owned(), ..options(1) };
        Repository::open(Box::new(Bucket::new(store.clone(), url, None)?), &options)
    };
    publish(&mut open("s3://b/jobs/a", "sample").expect("opens"), 7);
    assert_eq!(numbers(&open("s3://b/jobs/a/", "sample").expect("opens")), [7]);
    for elsewhere in ["s3://b/jobs/ab", "s3://b/jobs", "s3://b"] {
        assert_eq!(numbers(&open(elsewhere, "other").expect("opens")), [0; 0], "{elsewhere}");
    }
    let error = open("s3://b/jobs/a", "other").err().expect("of another job");
    assert!(error.to_string().contains("s3://b/jobs/a belongs to job"), "{error}");
    let error = open("s3://b/a//b", "other").err().expect("an empty name");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[test]
fn scratch_space_is_where_it_was_asked_for_and_goes_with_the_store() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let store = Arc::new(InMemory::new());
    let bucket = Bucket::new(store.clone(), URL, Some(dir.path())).expect("a sound address");
    let work = bucket.work_directory().expect("has one").to_owned();
    assert!(work.starts_with(dir.path()) && work.is_dir());
    drop(bucket);
    assert!(!work.exists());
    let nowhere = dir.path().join("none");
    let error = Bucket::new(store, URL, Some(&nowhere)).err().expect("no such directory");
    assert!(matches!(error, Error::Io { .. }), "{error}");
}
