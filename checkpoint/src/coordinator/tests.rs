//! Scenarios of the coordinator: one rule each, without chance.

use super::{Command, Coordinator, CoordinatorConfig};
use crate::{BarrierKind, CheckpointId, SinkCommittables, SubtaskAck, SubtaskId, SubtaskSnapshot};

mod ending;

const SOURCE: SubtaskId = SubtaskId { task: 0, index: 0 };
const SINK: SubtaskId = SubtaskId { task: 1, index: 0 };

fn config() -> CoordinatorConfig {
    CoordinatorConfig {
        interval_ms: Some(1_000),
        timeout_ms: 500,
        unaligned_after_ms: None,
        resend_ms: 100,
        subtasks: vec![SINK, SOURCE],
        sources: vec![SOURCE],
        first_id: CheckpointId(1),
        pending_commits: Vec::new(),
    }
}

fn start(config: CoordinatorConfig) -> Coordinator {
    Coordinator::new(config, 0)
}

fn commands(coordinator: &mut Coordinator) -> Vec<Command> {
    std::iter::from_fn(|| coordinator.poll_command()).collect()
}

fn one(byte: u8) -> Vec<SinkCommittables> {
    vec![SinkCommittables { sink: "out".into(), committables: vec![vec![byte]] }]
}

fn bytes(committables: &[SinkCommittables]) -> Vec<u8> {
    committables.iter().flat_map(|part| &part.committables).flatten().copied().collect()
}

fn ack(coordinator: &mut Coordinator, now: i64, subtask: SubtaskId, id: u64, byte: Option<u8>) {
    let committables = byte.map(one).unwrap_or_default();
    let payload = SubtaskSnapshot { committables, ..SubtaskSnapshot::default() };
    coordinator.handle_ack(now, SubtaskAck { subtask, id: CheckpointId(id), payload });
}

fn trigger(id: u64, kind: BarrierKind) -> Command {
    Command::Trigger { subtask: SOURCE, id: CheckpointId(id), kind }
}

fn given_up(id: u64) -> [Command; 2] {
    let id = CheckpointId(id);
    [Command::Abort { id }, Command::Discard { id }]
}

/// Both subtasks acknowledge, and the manifest to publish carries these committables.
fn collect(coordinator: &mut Coordinator, now: i64, id: u64, byte: u8, expected: &[u8]) {
    ack(coordinator, now, SOURCE, id, None);
    assert_eq!(commands(coordinator), []);
    ack(coordinator, now, SINK, id, Some(byte));
    let all = commands(coordinator);
    let [Command::Publish(manifest)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(manifest.id, CheckpointId(id));
    assert_eq!(bytes(&manifest.committables), expected);
    let order: Vec<_> = manifest.subtasks.iter().map(|record| record.subtask).collect();
    assert_eq!(order, [SOURCE, SINK]);
    assert!(manifest.subtasks.iter().all(|record| record.snapshot.committables.is_empty()));
}

#[test]
fn a_checkpoint_goes_through_its_steps() {
    let mut coordinator = start(config());
    assert_eq!(coordinator.next_deadline(), Some(1_000));
    coordinator.handle_tick(999);
    assert_eq!(commands(&mut coordinator), []);
    coordinator.handle_tick(1_000);
    assert_eq!(commands(&mut coordinator), [trigger(1, BarrierKind::Checkpoint)]);
    collect(&mut coordinator, 1_020, 1, 7, &[7]);
    coordinator.handle_published(1_030, CheckpointId(1));
    let (id, upto) = (CheckpointId(1), CheckpointId(1));
    let expected = [Command::Completed { id }, Command::Commit { upto, committables: one(7) }];
    assert_eq!(commands(&mut coordinator), expected);
    assert_eq!(coordinator.last_completed(), Some((id, 30)));
    coordinator.handle_committed(1_040, upto);
    assert_eq!(commands(&mut coordinator), []);
    // The interval counts from the start, and what was missed is not made up for.
    assert_eq!(coordinator.next_deadline(), Some(2_000));
    coordinator.handle_tick(5_500);
    assert_eq!(commands(&mut coordinator), [trigger(2, BarrierKind::Checkpoint)]);
    collect(&mut coordinator, 5_510, 2, 8, &[8]);
    coordinator.handle_published(5_520, CheckpointId(2));
    assert_eq!(coordinator.next_deadline(), Some(5_620), "the commit's repetition");
    coordinator.handle_committed(5_530, CheckpointId(2));
    assert_eq!(coordinator.next_deadline(), Some(6_500));
    assert_eq!((coordinator.completed(), coordinator.aborted()), (2, 0));
}

#[test]
fn sources_that_do_not_answer_are_told_again_and_then_given_up() {
    let mut coordinator = start(config());
    coordinator.handle_tick(1_000);
    assert_eq!(commands(&mut coordinator), [trigger(1, BarrierKind::Checkpoint)]);
    assert_eq!(coordinator.next_deadline(), Some(1_100));
    coordinator.handle_tick(1_100);
    assert_eq!(commands(&mut coordinator), [trigger(1, BarrierKind::Checkpoint)]);
    ack(&mut coordinator, 1_150, SOURCE, 1, None);
    coordinator.handle_tick(1_200);
    assert_eq!(commands(&mut coordinator), [], "the source has answered");
    coordinator.handle_tick(1_500);
    assert_eq!(commands(&mut coordinator), given_up(1));
    let reason = coordinator.last_failure().expect("it failed").to_owned();
    assert_eq!(reason, "checkpoint 1: timed out, 1 of 2 subtasks missing: 1/0");
    assert_eq!((coordinator.aborted(), coordinator.consecutive_failures()), (1, 1));
    coordinator.handle_tick(2_000);
    assert_eq!(commands(&mut coordinator), [trigger(2, BarrierKind::Checkpoint)]);
    // What is left of the first attempt does not count for the second.
    ack(&mut coordinator, 2_001, SINK, 1, Some(1));
    coordinator.handle_decline(2_002, SINK, CheckpointId(1), "late");
    collect(&mut coordinator, 2_003, 2, 2, &[2]);
    coordinator.handle_published(2_004, CheckpointId(2));
    assert_eq!(coordinator.consecutive_failures(), 0);
}

#[test]
fn a_checkpoint_that_is_asked_for_begins_at_once_and_is_not_hurried() {
    let mut coordinator = start(CoordinatorConfig { unaligned_after_ms: Some(30), ..config() });
    assert_eq!(coordinator.handle_checkpoint_request(10), CheckpointId(1));
    assert_eq!(commands(&mut coordinator), [trigger(1, BarrierKind::Checkpoint)]);
    ack(&mut coordinator, 20, SOURCE, 1, None);
    coordinator.handle_tick(90);
    assert_eq!(commands(&mut coordinator), []);
    // Asked again, there is another one after it, also at once.
    assert_eq!(coordinator.handle_checkpoint_request(91), CheckpointId(2));
    ack(&mut coordinator, 92, SINK, 1, None);
    let _ = commands(&mut coordinator);
    coordinator.handle_published(93, CheckpointId(1));
    let next = commands(&mut coordinator);
    assert!(next.contains(&trigger(2, BarrierKind::Checkpoint)), "{next:?}");
    for (moment, subtask) in [(94, SOURCE), (95, SINK)] {
        ack(&mut coordinator, moment, subtask, 2, None);
    }
    let _ = commands(&mut coordinator);
    coordinator.handle_published(96, CheckpointId(2));
    let next = commands(&mut coordinator);
    assert!(!next.iter().any(|command| matches!(command, Command::Trigger { .. })), "{next:?}");
}

#[test]
fn subtasks_are_hurried_when_a_checkpoint_takes_long_but_not_at_the_end() {
    let mut coordinator = start(CoordinatorConfig { unaligned_after_ms: Some(30), ..config() });
    coordinator.handle_tick(1_000);
    assert_eq!(commands(&mut coordinator), [trigger(1, BarrierKind::Checkpoint)]);
    assert_eq!(coordinator.next_deadline(), Some(1_030));
    ack(&mut coordinator, 1_010, SOURCE, 1, None);
    coordinator.handle_tick(1_030);
    let hurry = Command::Hurry { subtask: SINK, id: CheckpointId(1) };
    assert_eq!(commands(&mut coordinator), std::slice::from_ref(&hurry), "the source has answered");
    coordinator.handle_tick(1_129);
    assert_eq!(commands(&mut coordinator), []);
    coordinator.handle_tick(1_130);
    assert_eq!(commands(&mut coordinator), [hurry], "told again");
    ack(&mut coordinator, 1_140, SINK, 1, None);
    let _ = commands(&mut coordinator);
    coordinator.handle_published(1_150, CheckpointId(1));
    let _ = commands(&mut coordinator);
    coordinator.handle_committed(1_150, CheckpointId(1));
    coordinator.handle_stop_request(1_200);
    assert_eq!(commands(&mut coordinator), [trigger(2, BarrierKind::Stop)]);
    coordinator.handle_tick(1_290);
    assert_eq!(commands(&mut coordinator), []);
}

#[test]
fn doubled_and_foreign_acks_do_not_count() {
    let mut coordinator = start(config());
    coordinator.handle_tick(1_000);
    let _ = commands(&mut coordinator);
    for byte in [1, 2, 3] {
        ack(&mut coordinator, 1_001, SOURCE, 1, Some(byte));
    }
    ack(&mut coordinator, 1_001, SubtaskId { task: 9, index: 0 }, 1, None);
    ack(&mut coordinator, 1_001, SINK, 2, None);
    ack(&mut coordinator, 1_001, SINK, 0, None);
    assert_eq!(commands(&mut coordinator), []);
    assert_eq!(coordinator.in_flight(), Some((CheckpointId(1), BarrierKind::Checkpoint)));
    ack(&mut coordinator, 1_002, SINK, 1, None);
    let all = commands(&mut coordinator);
    let [Command::Publish(manifest)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(bytes(&manifest.committables), [1], "the first answer counts");
}

#[test]
fn a_declined_checkpoint_is_given_up() {
    let mut coordinator = start(config());
    coordinator.handle_tick(1_000);
    let _ = commands(&mut coordinator);
    coordinator.handle_decline(1_010, SINK, CheckpointId(1), "disk is full");
    assert_eq!(commands(&mut coordinator), given_up(1));
    assert!(coordinator.last_failure().is_some_and(|text| text.contains("disk is full")));
}

#[test]
fn what_is_not_committed_stays_in_later_manifests() {
    let mut coordinator = start(config());
    coordinator.handle_tick(1_000);
    let _ = commands(&mut coordinator);
    collect(&mut coordinator, 1_001, 1, 1, &[1]);
    coordinator.handle_published(1_002, CheckpointId(1));
    coordinator.handle_commit_failed(1_003, CheckpointId(1), "no route");
    assert_eq!(coordinator.consecutive_commit_failures(), 1);
    assert_eq!(commands(&mut coordinator).len(), 2);
    // The commit is asked for again after the pause.
    coordinator.handle_tick(1_103);
    let upto = CheckpointId(1);
    assert_eq!(commands(&mut coordinator), [Command::Commit { upto, committables: one(1) }]);
    coordinator.handle_tick(2_000);
    let _ = commands(&mut coordinator);
    collect(&mut coordinator, 2_001, 2, 2, &[1, 2]);
    // The answer comes while the second manifest is being written: 1 is done, 2 is not.
    coordinator.handle_committed(2_002, CheckpointId(1));
    coordinator.handle_published(2_003, CheckpointId(2));
    let (id, upto) = (CheckpointId(2), CheckpointId(2));
    let expected = [Command::Completed { id }, Command::Commit { upto, committables: one(2) }];
    assert_eq!(commands(&mut coordinator), expected);
}

#[test]
fn a_publication_that_takes_too_long_is_repeated_as_another_checkpoint() {
    let mut coordinator = start(config());
    coordinator.handle_tick(1_000);
    let _ = commands(&mut coordinator);
    collect(&mut coordinator, 1_010, 1, 1, &[1]);
    assert_eq!(coordinator.next_deadline(), Some(1_510));
    coordinator.handle_tick(1_510);
    assert_eq!(commands(&mut coordinator), given_up(1));
    // News of it come too late to count: its committables come again with the next one.
    coordinator.handle_published(1_520, CheckpointId(1));
    assert_eq!(commands(&mut coordinator), []);
    assert_eq!(coordinator.completed(), 0);
    coordinator.handle_tick(2_000);
    let _ = commands(&mut coordinator);
    collect(&mut coordinator, 2_010, 2, 2, &[2]);
    coordinator.handle_published(2_020, CheckpointId(1));
    coordinator.handle_publish_failed(2_020, CheckpointId(1), "late");
    assert_eq!(commands(&mut coordinator), []);
    coordinator.handle_published(2_030, CheckpointId(2));
    assert_eq!(coordinator.last_completed(), Some((CheckpointId(2), 30)));
}
