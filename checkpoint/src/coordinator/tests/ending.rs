//! Scenarios of a job's end, and of the commits it waits for.

use super::{SINK, SOURCE, ack, collect, commands, config, given_up, one, start, trigger};
use crate::coordinator::{Command, CoordinatorConfig, Outcome};
use crate::{BarrierKind, CheckpointId};

#[test]
fn restored_committables_are_committed_first_and_before_the_end() {
    let config = CoordinatorConfig {
        first_id: CheckpointId(6),
        pending_commits: one(3),
        interval_ms: None,
        ..config()
    };
    let mut coordinator = start(config);
    let upto = CheckpointId(5);
    assert_eq!(commands(&mut coordinator), [Command::Commit { upto, committables: one(3) }]);
    coordinator.handle_drained(10, SOURCE);
    assert_eq!(commands(&mut coordinator), [trigger(6, BarrierKind::Final)]);
    collect(&mut coordinator, 11, 6, 4, &[3, 4]);
    coordinator.handle_published(12, CheckpointId(6));
    assert_eq!(commands(&mut coordinator), [Command::Completed { id: CheckpointId(6) }]);
    coordinator.handle_committed(13, upto);
    let upto = CheckpointId(6);
    assert_eq!(commands(&mut coordinator), [Command::Commit { upto, committables: one(4) }]);
    coordinator.handle_committed(14, upto);
    assert_eq!(commands(&mut coordinator), [Command::Shutdown(Outcome::Finished)]);
    assert_eq!(coordinator.next_deadline(), None);
    // It stays ended whatever comes.
    coordinator.handle_stop_request(15);
    coordinator.handle_tick(99_999);
    assert_eq!(commands(&mut coordinator), []);
}

#[test]
fn the_final_checkpoint_waits_for_the_one_under_way_and_is_tried_again() {
    let mut coordinator = start(config());
    coordinator.handle_tick(1_000);
    let _ = commands(&mut coordinator);
    coordinator.handle_drained(1_001, SOURCE);
    coordinator.handle_drained(1_001, SOURCE);
    // A subtask that is no source has nothing to say about the end.
    coordinator.handle_drained(1_001, SINK);
    assert_eq!(commands(&mut coordinator), []);
    collect(&mut coordinator, 1_002, 1, 1, &[1]);
    coordinator.handle_published(1_003, CheckpointId(1));
    assert!(commands(&mut coordinator).contains(&trigger(2, BarrierKind::Final)));
    coordinator.handle_committed(1_004, CheckpointId(1));
    coordinator.handle_decline(1_005, SINK, CheckpointId(2), "not now");
    assert_eq!(commands(&mut coordinator), given_up(2));
    assert_eq!(coordinator.next_deadline(), Some(1_105), "not before the pause is over");
    coordinator.handle_tick(1_105);
    assert_eq!(commands(&mut coordinator), [trigger(3, BarrierKind::Final)]);
    collect(&mut coordinator, 1_106, 3, 2, &[2]);
    coordinator.handle_publish_failed(1_107, CheckpointId(3), "no space");
    assert_eq!(commands(&mut coordinator), given_up(3));
    assert_eq!(coordinator.next_deadline(), Some(1_307), "the second failure waits longer");
}

#[test]
fn the_first_reason_to_end_decides() {
    // A stop before the end of the input.
    let mut coordinator = start(config());
    coordinator.handle_stop_request(1);
    assert_eq!(commands(&mut coordinator), [trigger(1, BarrierKind::Stop)]);
    coordinator.handle_drained(2, SOURCE);
    coordinator.handle_decline(3, SINK, CheckpointId(1), "again");
    coordinator.handle_tick(1_000);
    assert_eq!(commands(&mut coordinator)[2], trigger(2, BarrierKind::Stop));
    // The end of the input before a stop.
    let mut coordinator = start(config());
    coordinator.handle_drained(1, SOURCE);
    coordinator.handle_stop_request(2);
    assert_eq!(commands(&mut coordinator), [trigger(1, BarrierKind::Final)]);
    ack(&mut coordinator, 3, SOURCE, 1, None);
    ack(&mut coordinator, 3, SINK, 1, None);
    let _ = commands(&mut coordinator);
    coordinator.handle_published(4, CheckpointId(1));
    let expected =
        [Command::Completed { id: CheckpointId(1) }, Command::Shutdown(Outcome::Finished)];
    assert_eq!(commands(&mut coordinator), expected, "nothing to commit");
}

#[test]
fn a_job_without_sources_ends_at_once() {
    let config = CoordinatorConfig { subtasks: vec![], sources: vec![], ..config() };
    let mut coordinator = start(config);
    let all = commands(&mut coordinator);
    assert!(matches!(all.as_slice(), [Command::Publish(manifest)] if manifest.subtasks.is_empty()));
    coordinator.handle_published(1, CheckpointId(1));
    let end = commands(&mut coordinator).pop();
    assert_eq!(end, Some(Command::Shutdown(Outcome::Finished)));
}
