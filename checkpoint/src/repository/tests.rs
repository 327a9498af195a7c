//! Tests of what is the same wherever checkpoints lie: in memory, in a directory, in an object
//! store.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Repository, StoreOptions, files, manifest_key};
use crate::manifest::sample;
use crate::memory::Map;
use crate::objects::Objects;
use crate::{
    CheckpointId, CheckpointStore, Error, LocalPart, Manifest, OperatorPart, Owner, PartFile,
    Result, Run, SubtaskId, SubtaskRecord, SubtaskSnapshot,
};

mod damage;
mod fencing;
pub(crate) mod script;

pub(crate) const ID: CheckpointId = CheckpointId(7);

/// A place that several processes can open.
pub(crate) type Place<'a> = &'a dyn Fn() -> Box<dyn Objects>;

/// For the job "sample", by a process of this number.
pub(crate) fn options(pid: u32) -> StoreOptions {
    let owner = Owner { pid, host: "test".to_owned(), started_ms: 0 };
    StoreOptions { job: "sample".to_owned(), owner, work_dir: None }
}

pub(crate) fn open(place: Place<'_>) -> Repository {
    Repository::open(place(), &options(1)).expect("can be opened")
}

/// Runs a test in every kind of place.
pub(crate) fn everywhere(test: impl Fn(Place<'_>)) {
    let map = Map::default();
    test(&|| Box::new(map.clone()));
    let dir = tempfile::tempdir().expect("a scratch directory");
    test(&|| crate::local::tests::unlocked(dir.path()));
    let store = Arc::new(object_store::memory::InMemory::new());
    test(&|| crate::remote::tests::bucket(store.clone()));
}

/// A manifest of these parts, each a run of its own operator.
pub(crate) fn manifest(id: u64, parts: &[&PartFile]) -> Manifest {
    let operator = |(index, part): (usize, &&PartFile)| OperatorPart {
        operator: format!("operator {index}"),
        runs: vec![Run { file: (*part).clone(), key_groups: (0, 128) }],
        key_groups: (0, 128),
        watermark: 0,
    };
    let operators = parts.iter().enumerate().map(operator).collect();
    let snapshot = SubtaskSnapshot { operators, ..SubtaskSnapshot::default() };
    let subtasks = vec![SubtaskRecord { subtask: SubtaskId::default(), snapshot }];
    Manifest { id: CheckpointId(id), subtasks, ..sample::manifest() }
}

/// Contents that need a file of their own.
pub(crate) fn large(seed: u8) -> Vec<u8> {
    (0..files::SMALL).map(|i| (i / 256) as u8 ^ (i as u8).wrapping_mul(31) ^ seed).collect()
}

pub(crate) fn write(store: &mut impl CheckpointStore, id: u64, bytes: &[u8]) -> PartFile {
    store.write_part(CheckpointId(id), "part", bytes).expect("writes")
}

pub(crate) fn publish(store: &mut impl CheckpointStore, id: u64) -> PartFile {
    let part = write(store, id, b"contents");
    store.publish(&manifest(id, &[&part])).expect("publishes");
    part
}

pub(crate) fn numbers(store: &impl CheckpointStore) -> Vec<u64> {
    store.list().expect("lists").into_iter().map(|id| id.0).collect()
}

/// The names of the files there are.
pub(crate) fn names(place: Place<'_>) -> BTreeSet<String> {
    let listed = place().list(files::FOLDER).expect("lists");
    listed.into_iter().map(|(key, _)| key["files/".len()..].to_owned()).collect()
}

fn adopt(store: &mut Repository, path: &Path, bytes: &[u8]) -> Result<PartFile> {
    std::fs::write(path, bytes).expect("writes");
    store.adopt_file(ID, "run", path)
}

#[test]
fn what_is_published_is_found_again() {
    everywhere(|place| {
        let mut store = open(place);
        assert!(store.latest().expect("reads").is_none());
        assert_eq!(store.next_id(), CheckpointId(1));
        let small = write(&mut store, 7, b"contents");
        let big = write(&mut store, 7, &large(0));
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("run");
        let run = adopt(&mut store, &path, &large(1)).expect("moves");
        assert!(!path.exists(), "it has moved");
        let short = adopt(&mut store, &path, b"short").expect("moves");
        let parts = [&small, &big, &run, &short];
        store.publish(&manifest(7, &parts)).expect("publishes");
        for _ in 0..2 {
            drop(store);
            store = open(place);
            let found = store.latest().expect("sound").expect("published");
            assert_eq!(found, Manifest { epoch: 1, ..manifest(7, &parts) });
            let contents = parts.map(|part| store.read_part(part).expect("sound"));
            let expected = [b"contents".to_vec(), large(0), large(1), b"short".to_vec()];
            assert!(contents == expected);
            for (part, expected) in parts.into_iter().zip(&expected) {
                let read = match store.local_part(part).expect("sound") {
                    LocalPart::Bytes(bytes) => bytes,
                    LocalPart::File(path) => std::fs::read(path).expect("a file"),
                };
                assert!(read == *expected);
            }
            assert_eq!(store.next_id(), CheckpointId(8));
        }
        assert!(matches!(store.load(CheckpointId(6)), Err(Error::NotFound { .. })));
    });
}

#[test]
fn small_parts_share_a_file_that_is_written_when_they_are_named() {
    everywhere(|place| {
        let mut store = open(place);
        let [first, second] = [b"first".as_slice(), b"second"].map(|b| write(&mut store, 7, b));
        assert_eq!(first.name, second.name);
        assert_eq!((first.offset, second.offset), (0, 5));
        assert_eq!(names(place).len(), 0, "nothing is written yet");
        assert_eq!(store.read_part(&second).expect("from memory"), b"second");
        let local = store.local_part(&first).expect("from memory");
        assert_eq!(local, LocalPart::Bytes(b"first".to_vec()));
        // Checkpoint 7 is given up, its run is named by the next one.
        store.discard(ID).expect("nothing to delete");
        let third = write(&mut store, 8, b"third");
        assert_ne!(first.name, third.name);
        store.publish(&manifest(8, &[&first, &third])).expect("publishes");
        assert_eq!(names(place), BTreeSet::from([first.name.clone(), third.name.clone()]));
        let store = open(place);
        assert_eq!(store.read_part(&first).expect("sound"), b"first");
        assert_eq!(store.read_part(&third).expect("sound"), b"third");
    });
}

#[test]
fn a_full_pack_is_written_before_it_grows_on() {
    everywhere(|place| {
        let mut store = open(place);
        let bytes = vec![1; files::SMALL - 1];
        let parts: Vec<_> =
            (0..66).map(|i| write(&mut store, 7, if i == 65 { b"last" } else { &bytes })).collect();
        assert_eq!(names(place).len(), 1);
        let packs: BTreeSet<_> = parts.iter().map(|part| part.name.clone()).collect();
        assert_eq!(packs.len(), 2);
        store.publish(&manifest(7, &parts.iter().collect::<Vec<_>>())).expect("publishes");
        assert_eq!(names(place), packs);
        assert_eq!(open(place).read_part(&parts[65]).expect("sound"), b"last");
    });
}

#[test]
fn what_is_not_published_is_deleted_at_open_and_its_names_are_not_used_again() {
    everywhere(|place| {
        let mut store = open(place);
        let kept = publish(&mut store, 7);
        let lost = write(&mut store, 9, &large(0));
        assert!(names(place).contains(&lost.name));
        place().put("files/mine", b"").expect("writes");
        drop(store);
        let mut store = open(place);
        assert_eq!(numbers(&store), [7]);
        assert_eq!(names(place), BTreeSet::from([kept.name, "files/mine"[6..].to_owned()]));
        assert_eq!(store.next_id(), CheckpointId(10), "a number is not used again");
        assert_ne!(write(&mut store, 9, &large(0)).name, lost.name);
    });
}

#[test]
fn a_file_goes_with_the_last_checkpoint_that_names_it() {
    everywhere(|place| {
        let mut store = open(place);
        let shared = write(&mut store, 1, &large(0));
        for id in 1..=4 {
            let own = write(&mut store, id, &large(id as u8));
            let parts: &[_] = if id < 4 { &[&shared, &own] } else { &[&own] };
            store.publish(&manifest(id, parts)).expect("publishes");
            store.retain(2).expect("deletes");
            assert!(names(place).contains(&shared.name), "checkpoint 3 names it");
        }
        assert_eq!(numbers(&store), [3, 4]);
        assert_eq!(names(place).len(), 3);
        publish(&mut store, 5);
        store.retain(2).expect("deletes");
        assert!(!names(place).contains(&shared.name));
        // Nothing that the kept ones name was touched.
        for id in store.list().expect("lists") {
            for part in store.load(id).expect("sound").part_files() {
                store.read_part(part).expect("sound");
            }
        }
    });
}

#[test]
fn a_run_that_was_written_early_is_not_deleted_before_it_is_named() {
    everywhere(|place| {
        let mut store = open(place);
        // Written after its subtask's snapshot for 1, by the merging of older runs.
        let merged = write(&mut store, 1, &large(0));
        publish(&mut store, 1);
        store.retain(1).expect("deletes");
        store.publish(&manifest(2, &[&merged])).expect("is still there");
        let never = write(&mut store, 3, &large(1));
        for id in 3..=4 {
            publish(&mut store, id);
            store.retain(1).expect("deletes");
        }
        assert!(!names(place).contains(&never.name));
        let error = store.publish(&manifest(5, &[&never])).expect_err("has gone");
        assert!(error.to_string().contains("is missing"), "{error}");
    });
}

#[test]
fn the_newest_stay_and_strays_go() {
    everywhere(|place| {
        let mut store = open(place);
        for id in [2, 3, 5, 8] {
            publish(&mut store, id);
        }
        store.mark_committed(CheckpointId(3)).expect("writes");
        assert!(store.is_committed(CheckpointId(3)).expect("reads"));
        // Its writer never heard that it came into being.
        let stray = Manifest { epoch: 1, ..manifest(4, &[]) }.encode().expect("sound");
        place().create(&manifest_key(CheckpointId(4)), &stray).expect("writes");
        store.retain(2).expect("deletes");
        assert_eq!(numbers(&store), [5, 8]);
        let left = place().list("checkpoints").expect("lists");
        let mut left: Vec<_> = left.iter().map(|(key, _)| key.trim_end_matches('/')).collect();
        left.retain(|key| key.ends_with("manifest") || key.ends_with("committed"));
        left.sort_unstable();
        let expected = ["checkpoints/0000000005/manifest", "checkpoints/0000000008/manifest"];
        assert_eq!(left, expected);
        store.retain(0).expect("deletes");
        assert_eq!(numbers(&store), [8]);
    });
}

#[test]
fn a_published_checkpoint_is_not_changed() {
    everywhere(|place| {
        let mut store = open(place);
        let part = publish(&mut store, 7);
        assert!(store.write_part(ID, "more", b"").is_err());
        assert!(store.publish(&manifest(7, &[&part])).is_err());
        assert!(store.publish(&manifest(6, &[])).is_err());
        store.discard(ID).expect("does nothing");
        assert_eq!(numbers(&store), [7]);
        assert!(store.latest().expect("sound").is_some());
    });
}

#[test]
fn a_manifest_without_its_files_is_refused() {
    everywhere(|place| {
        let mut store = open(place);
        let missing = sample::part("e1-c7-0-part", b"contents");
        let error = store.publish(&manifest(7, &[&missing])).expect_err("missing");
        assert!(error.to_string().contains("is missing"), "{error}");
        let sound = write(&mut store, 7, &large(0));
        let long = PartFile { bytes: sound.bytes + 1, ..sound.clone() };
        assert!(store.publish(&manifest(7, &[&long])).is_err());
        let behind = PartFile { offset: u64::MAX, ..sound.clone() };
        assert!(store.publish(&manifest(7, &[&behind])).is_err());
        let other = Manifest { job: "other".into(), ..manifest(7, &[]) };
        assert!(store.publish(&other).is_err());
        assert_eq!(numbers(&store), [0; 0]);
        store.publish(&manifest(7, &[&sound])).expect("sound");
    });
}

#[test]
fn another_job_is_refused_and_nothing_is_changed() {
    everywhere(|place| {
        let mut store = open(place);
        publish(&mut store, 7);
        write(&mut store, 8, &large(0));
        drop(store);
        let all = || {
            let objects = place();
            let folders = ["files", "checkpoints", "epochs"].map(|folder| objects.list(folder));
            folders.map(|listed| listed.expect("lists"))
        };
        let before = all();
        let other = StoreOptions { job: "other".to_owned(), ..options(2) };
        let error = Repository::open(place(), &other).err().expect("of another job");
        let text = error.to_string();
        assert!(text.contains("\"sample\"") && text.contains("\"other\""), "{text}");
        assert_eq!(error.kind(), crate::ErrorKind::Config);
        assert_eq!(all(), before);
    });
}
