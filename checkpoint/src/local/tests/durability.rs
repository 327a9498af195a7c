//! Tests of what is synced when, and of a sync that fails.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::{ID, manifest, numbers, open, publish, scratch};
use crate::local::LocalStore;
use crate::{CheckpointId, CheckpointStore, Error};

thread_local! {
    /// What was synced, and whether its directory had a manifest by then.
    static SYNCED: RefCell<Vec<(String, bool)>> = const { RefCell::new(Vec::new()) };
}

fn recording_sync(file: &fs::File) -> io::Result<()> {
    let path: PathBuf = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let directory = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(&path) };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let published = directory.join("manifest").exists();
    SYNCED.with_borrow_mut(|synced| synced.push((name, published)));
    Ok(())
}

#[test]
fn everything_is_synced_before_the_manifest_gets_its_name() {
    let dir = scratch();
    let mut store = LocalStore::open_with(dir.path(), "sample", recording_sync).expect("opens");
    SYNCED.take();
    publish(&mut store, 7);
    let expected = [
        ("part", false),
        ("manifest.tmp", false),
        ("0000000007", false),
        ("0000000007", true),
        ("checkpoints", false),
    ];
    assert_eq!(SYNCED.take(), expected.map(|(name, published)| (name.to_owned(), published)));
}

#[test]
fn only_new_files_of_a_directory_are_synced() {
    let dir = scratch();
    let mut store = LocalStore::open_with(dir.path(), "sample", recording_sync).expect("opens");
    let work = store.work_directory();
    fs::write(work.join("1.sst"), b"one").expect("writes");
    for id in [7, 8, 9] {
        let made = work.join("made");
        fs::create_dir(&made).expect("creates");
        fs::hard_link(work.join("1.sst"), made.join("1.sst")).expect("links");
        fs::write(made.join("CURRENT"), b"new").expect("writes");
        SYNCED.take();
        let id = CheckpointId(id);
        let part = store.adopt_directory(id, "table", &made).expect("moves");
        let synced: Vec<_> = SYNCED.take().into_iter().map(|(name, _)| name).collect();
        let expected: &[&str] =
            if id == ID { &["1.sst", "CURRENT", "table"] } else { &["CURRENT", "table"] };
        assert_eq!(synced, expected);
        store.publish(&manifest(id, std::slice::from_ref(&part))).expect("publishes");
        store.part_directory(id, &part).expect("sound");
    }
}

/// Fails for files of thirteen bytes.
fn failing_sync(file: &fs::File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.len() == 13 {
        return Err(io::Error::other("the disk is gone"));
    }
    Ok(())
}

#[test]
fn after_a_failed_sync_nothing_is_written() {
    let dir = scratch();
    let mut store = LocalStore::open_with(dir.path(), "sample", failing_sync).expect("opens");
    let part = publish(&mut store, 7);
    let sound = store.write_part(CheckpointId(8), "sound", b"fine").expect("writes");
    let error = store.write_part(CheckpointId(8), "part", b"thirteen byte").expect_err("sync");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    let again = [
        store.write_part(CheckpointId(8), "other", b"fine").map(drop),
        store.publish(&manifest(CheckpointId(8), &[sound])),
        store.adopt_directory(CheckpointId(8), "table", dir.path()).map(drop),
        store.discard(CheckpointId(8)),
    ];
    for result in again {
        let error = result.expect_err("poisoned");
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
        assert!(error.to_string().contains("0000000008/part"), "{error}");
    }
    // What was published can still be read, and a new start is sound.
    assert_eq!(store.read_part(ID, &part).expect("sound"), b"contents");
    drop(store);
    assert_eq!(numbers(&open(dir.path())), [7]);
}

#[test]
fn a_store_that_recovers_gives_up_what_was_not_published_and_writes_again() {
    let dir = scratch();
    let mut store = LocalStore::open_with(dir.path(), "sample", failing_sync).expect("opens");
    publish(&mut store, 7);
    fs::write(store.work_directory().join("scratch"), "left over").expect("writes");
    let error = store.write_part(CheckpointId(8), "part", b"thirteen byte").expect_err("sync");
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    store.recover().expect("recovers");
    assert!(!dir.path().join("checkpoints/0000000008").exists(), "8 was never published");
    assert!(!store.work_directory().join("scratch").exists());
    // The lock is kept, and numbers are not given twice.
    assert!(LocalStore::open(dir.path(), "sample").is_err());
    assert_eq!(store.next_id(), CheckpointId(9));
    publish(&mut store, 9);
    assert_eq!(numbers(&store), [7, 9]);
}

#[test]
fn recovering_makes_the_newest_checkpoint_durable() {
    let dir = scratch();
    let mut store = LocalStore::open_with(dir.path(), "sample", recording_sync).expect("opens");
    publish(&mut store, 7);
    SYNCED.take();
    store.recover().expect("recovers");
    let expected = [("0000000007", true), ("checkpoints", false)];
    assert_eq!(SYNCED.take(), expected.map(|(name, published)| (name.to_owned(), published)));
}
