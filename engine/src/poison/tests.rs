//! Tests of the watch: what counts as the same failure, and when a suspicion ends.

use thalweg_checkpoint::{
    BarrierKind, CheckpointId, Manifest, PendingManifest, SplitState, SubtaskId, SubtaskRecord,
    SubtaskSnapshot,
};

use super::*;
use crate::subtask::RECORDS_READ;

fn failure(operator: &str, message: &str, offset: Option<u64>) -> Error {
    let error = Error::user(message).in_operator(operator);
    match offset {
        None => error,
        Some(offset) => {
            let id = Some(RecordId { split: 7, offset });
            let shown = Some("\"x\"".to_owned());
            error.at_record(RecordAt {
                id,
                time: Some(EventTime::from_millis(5)),
                shown,
                ..RecordAt::default()
            })
        }
    }
}

fn read(records: u64) -> Vec<SplitRead> {
    let (source, split) = ("lines".to_owned(), "a.csv".to_owned());
    vec![SplitRead { source, split, number: 7, read: records }]
}

fn manifest(records: u64, finished: bool) -> Manifest {
    let encoded = |value: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        value(&mut bytes);
        bytes
    };
    let number = encoded(&|bytes| thalweg_state::codec::encode(&records, bytes).expect("encodes"));
    let generators = vec![(RECORDS_READ.to_owned(), number)];
    let generator =
        encoded(&|bytes| thalweg_state::codec::encode(&generators, bytes).expect("encodes"));
    let (source, split, position) = ("lines".to_owned(), "a.csv".to_owned(), Vec::new());
    let splits = vec![SplitState { source, split, position, generator, finished }];
    let snapshot = SubtaskSnapshot { splits, ..SubtaskSnapshot::default() };
    Manifest::from_pending(PendingManifest {
        id: CheckpointId(1),
        kind: BarrierKind::Checkpoint,
        subtasks: vec![SubtaskRecord { subtask: SubtaskId { task: 0, index: 0 }, snapshot }],
        committables: Vec::new(),
    })
}

#[test]
fn a_record_that_fails_each_time_ends_the_job_with_its_name() {
    let mut watch = PoisonWatch::new(3);
    assert_eq!(watch.suspect(), None);
    // The first failure is that of a batch; the others are found to be of one record.
    assert!(watch.handle_failure(&failure("parse", "bad", None), &read(100)).is_none());
    assert_eq!(watch.suspect(), Some("parse"));
    assert!(watch.handle_failure(&failure("parse", "bad 1", Some(41)), &read(60)).is_none());
    let verdict = watch.handle_failure(&failure("parse", "bad 2", Some(41)), &read(60));
    let verdict = verdict.expect("it is the third");
    assert!(!verdict.is_retryable());
    let text = verdict.to_string();
    let record = "record 42 of split `a.csv` of `lines` (\"x\", event time 5 ms)";
    for part in ["operator `parse`: ", record, "each time, 3 times so far: bad 2", "DeadLetter"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn other_records_operators_and_kinds_are_not_the_same_failure() {
    let mut watch = PoisonWatch::new(2);
    for (operator, offset) in [("parse", 1), ("parse", 2), ("count", 2), ("parse", 2)] {
        let error = failure(operator, "bad", Some(offset));
        assert!(watch.handle_failure(&error, &read(9)).is_none(), "{operator} {offset}");
    }
    let error = failure("parse", "bad", Some(2)).retryable();
    assert!(watch.handle_failure(&error, &read(9)).is_none(), "says that it may pass");
    let error = Error::unavailable("bad").in_operator("parse");
    assert!(watch.handle_failure(&error, &read(9)).is_none(), "is not the record's fault");
    let mut never = PoisonWatch::new(0);
    for _ in 0..9 {
        assert!(never.handle_failure(&failure("parse", "bad", Some(2)), &read(9)).is_none());
        assert_eq!(never.suspect(), None);
    }
}

#[test]
fn what_is_due_at_a_watermark_fails_for_the_same_reason_if_it_says_so() {
    let due = |message, watermark| {
        let watermark = Some(EventTime::from_millis(watermark));
        failure("window", message, None).at_record(RecordAt { watermark, ..RecordAt::default() })
    };
    let mut watch = PoisonWatch::new(2);
    assert!(watch.handle_failure(&due("bad", 1), &read(9)).is_none());
    assert!(watch.handle_failure(&due("worse", 1), &read(9)).is_none());
    let verdict = watch.handle_failure(&due("worse", 3), &read(9)).expect("the second time");
    let text = verdict.to_string();
    assert!(text.contains("what is due at the watermark 3 ms makes it fail each time"), "{text}");
    // What was not watched is left to the restart policy.
    let mut watch = PoisonWatch::new(1);
    for _ in 0..9 {
        assert!(watch.handle_failure(&failure("calls", "bad", None), &read(9)).is_none());
    }
}

#[test]
fn a_checkpoint_behind_all_that_was_read_ends_the_suspicion() {
    let mut watch = PoisonWatch::new(3);
    let suspect = |watch: &mut PoisonWatch| {
        assert!(watch.handle_failure(&failure("parse", "bad", Some(1)), &read(100)).is_none());
    };
    assert!(!watch.handle_checkpoint(&manifest(100, false)), "there is none");
    suspect(&mut watch);
    assert!(!watch.handle_checkpoint(&manifest(99, false)));
    assert_eq!(watch.suspect(), Some("parse"));
    assert!(watch.handle_checkpoint(&manifest(100, false)));
    assert_eq!(watch.suspect(), None);
    suspect(&mut watch);
    assert!(watch.handle_checkpoint(&manifest(50, true)), "its end was read");
    // Its failures before it was processed do not count.
    suspect(&mut watch);
    suspect(&mut watch);
}

#[test]
fn text_and_numbers_are_shown() {
    assert_eq!(show(&"a\nb".to_owned()).as_deref(), Some("\"a\\nb\""));
    assert_eq!(show(&"static").as_deref(), Some("\"static\""));
    assert_eq!(show(&-7_i64).as_deref(), Some("-7"));
    assert_eq!(show(&vec![1]), None);
    let long = show(&"ü".repeat(201)).expect("is text");
    assert_eq!(long, format!("\"{}\", cut short", "ü".repeat(200)));
}
