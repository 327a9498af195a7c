//! Tests of the store in memory: crashes, and what each fault leaves behind.

use super::{MemoryStore, StoreFault, StoreOp};
use crate::repository::tests::{ID, manifest, numbers, publish, write};
use crate::{CheckpointId, CheckpointStore, ErrorKind};

fn store() -> MemoryStore {
    MemoryStore::new("sample")
}

fn arm(store: &MemoryStore, at: StoreOp, fault: StoreFault) {
    let hook = move |op| if op == at { fault } else { StoreFault::None };
    store.set_fault_hook(Box::new(hook));
}

#[test]
fn only_what_is_published_survives_a_crash() {
    let mut store = store();
    let kept = publish(&mut store, 7);
    let lost = write(&mut store, 8, b"lost");
    assert_eq!(store.read_part(&lost).expect("not lost yet"), b"lost");
    let mut restarted = store.clone();
    restarted.crash();
    assert_eq!(numbers(&restarted), [7]);
    let error = restarted.publish(&manifest(8, &[&lost])).expect_err("its part is gone");
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!(restarted.read_part(&kept).expect("sound"), b"contents");
}

#[test]
fn faults_leave_what_they_say() {
    for fault in [StoreFault::Fail, StoreFault::Tear, StoreFault::CrashAfter] {
        let mut store = store();
        let part = write(&mut store, 7, b"contents");
        arm(&store, StoreOp::Publish(ID), fault);
        assert!(store.publish(&manifest(7, &[&part])).is_err(), "{fault:?}");
        store.clear_fault_hook();
        if fault == StoreFault::CrashAfter {
            assert!(store.is_crashed());
            assert!(store.read_part(&part).is_err(), "nothing works until the restart");
            store.crash();
        } else {
            assert_eq!(numbers(&store), [0; 0], "{fault:?}");
            store.publish(&manifest(7, &[&part])).expect("can be tried again");
        }
        assert_eq!(numbers(&store), [7], "{fault:?}");
        assert_eq!(store.read_part(&part).expect("sound"), b"contents");
    }
}

#[test]
fn a_torn_part_is_not_given_out() {
    let mut store = store();
    arm(&store, StoreOp::WritePart(ID), StoreFault::Tear);
    let error = store.write_part(ID, "part", b"contents").expect_err("torn");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    store.clear_fault_hook();
    let part = write(&mut store, 7, b"contents");
    store.publish(&manifest(7, &[&part])).expect("publishes");
    assert_eq!(store.read_part(&part).expect("sound"), b"contents");
}

#[test]
fn reads_can_fail_and_be_tried_again() {
    let mut store = store();
    let part = publish(&mut store, 7);
    for op in [StoreOp::ReadPart, StoreOp::Load(ID)] {
        arm(&store, op, StoreFault::Fail);
        assert_eq!(store.read_part(&part).is_err(), op == StoreOp::ReadPart);
        assert_eq!(store.latest().is_err(), op != StoreOp::ReadPart);
    }
    store.clear_fault_hook();
    assert_eq!(store.latest().expect("sound").map(|found| found.id), Some(ID));
}

#[test]
fn what_retention_deleted_before_a_crash_is_gone() {
    let mut store = store();
    for id in [2, 3, 5] {
        publish(&mut store, id);
    }
    arm(&store, StoreOp::Retain, StoreFault::CrashAfter);
    assert!(store.retain(2).is_err());
    store.crash();
    assert_eq!(numbers(&store), [3, 5]);
    assert_eq!(store.next_id(), CheckpointId(6));
}
