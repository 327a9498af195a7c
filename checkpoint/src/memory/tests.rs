//! Tests of the store in memory: crashes, and what each fault leaves behind.

use super::{MemoryStore, StoreFault, StoreOp};
use crate::manifest::sample;
use crate::{CheckpointId, CheckpointStore, ErrorKind, Manifest, PartFile};

const ID: CheckpointId = CheckpointId(7);

fn store() -> MemoryStore {
    MemoryStore::new("sample")
}

fn write_parts(store: &mut MemoryStore, id: CheckpointId) -> Vec<PartFile> {
    let write = |(name, bytes): (&str, &[u8])| store.write_part(id, name, bytes).expect("writes");
    [("1-0-count", b"zero".as_slice()), ("1-2-count", b"two")].map(write).to_vec()
}

fn publish(store: &mut MemoryStore, id: u64) {
    write_parts(store, CheckpointId(id));
    store.publish(&manifest(id)).expect("publishes");
}

fn manifest(id: u64) -> Manifest {
    Manifest { id: CheckpointId(id), ..sample::manifest() }
}

fn arm(store: &MemoryStore, at: StoreOp, fault: StoreFault) {
    let hook = move |op| if op == at { fault } else { StoreFault::None };
    store.set_fault_hook(Box::new(hook));
}

fn newest(store: &MemoryStore) -> Option<u64> {
    store.latest().expect("reads").map(|manifest| manifest.id.0)
}

#[test]
fn only_what_is_published_survives_a_crash() {
    let mut store = store();
    publish(&mut store, 7);
    write_parts(&mut store, CheckpointId(8));
    let mut restarted = store.clone();
    restarted.crash();
    assert_eq!(newest(&restarted), Some(7));
    assert_eq!(restarted.next_id(), CheckpointId(9));
    let error = restarted.publish(&manifest(8)).expect_err("its parts are gone");
    assert!(error.to_string().contains("missing"), "{error}");
    let part = sample::part("1-0-count", b"zero");
    assert_eq!(restarted.read_part(ID, &part).expect("sound"), b"zero");
}

#[test]
fn faults_leave_what_they_say() {
    for (fault, published) in
        [(StoreFault::Fail, None), (StoreFault::Tear, None), (StoreFault::CrashAfter, Some(7))]
    {
        let mut store = store();
        write_parts(&mut store, ID);
        arm(&store, StoreOp::Publish(ID), fault);
        assert!(store.publish(&manifest(7)).is_err(), "{fault:?}");
        assert_eq!(store.is_crashed(), fault == StoreFault::CrashAfter);
        if store.is_crashed() {
            assert!(store.latest().is_err(), "nothing works until the restart");
        }
        store.crash();
        store.clear_fault_hook();
        assert_eq!(newest(&store), published, "{fault:?}");
    }
}

#[test]
fn a_torn_part_cannot_be_published() {
    let mut store = store();
    write_parts(&mut store, ID);
    arm(&store, StoreOp::WritePart(ID), StoreFault::Tear);
    assert!(store.write_part(ID, "1-0-count", b"zero").is_err());
    let error = store.publish(&manifest(7)).expect_err("half of it is missing");
    assert_eq!(error.kind(), ErrorKind::Bug);
    assert_eq!(newest(&store), None);
}

#[test]
fn retention_and_discard_work_as_on_disk() {
    let mut store = store();
    for id in [2, 3, 5] {
        publish(&mut store, id);
    }
    store.discard(CheckpointId(5)).expect("does nothing");
    store.retain(2).expect("deletes");
    assert_eq!(store.list().expect("lists"), [CheckpointId(3), CheckpointId(5)]);
    assert!(store.publish(&manifest(4)).is_err(), "older than the newest");
    assert!(store.write_part(CheckpointId(5), "late", b"").is_err());
    write_parts(&mut store, CheckpointId(6));
    store.discard(CheckpointId(6)).expect("deletes");
    assert!(store.publish(&manifest(6)).is_err());
}

#[test]
fn another_job_is_refused() {
    let mut store = store();
    publish(&mut store, 7);
    let other = MemoryStore { job: "other".to_owned(), ..store.clone() };
    assert_eq!(other.latest().expect_err("of another job").kind(), ErrorKind::Config);
}
