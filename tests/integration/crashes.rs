//! Processes that are killed at random moments and started again: the same result, to the record.

use std::fs;

use crate::process::{Flights, checkpoint_numbers, random_moments, wait_until};
use crate::reference::{expected, parse, rows};

const KILLS: u64 = 5;

#[expect(clippy::disallowed_methods, reason = "lets another process run for a while")]
fn kill_repeatedly(flights: &Flights) {
    for moment in random_moments(KILLS, 20..320) {
        let mut child = flights.start();
        std::thread::sleep(std::time::Duration::from_millis(moment));
        let ended = child.try_wait().expect("can be asked");
        assert!(ended.is_none(), "the job ended before it was killed: {ended:?}");
        child.kill().expect("can be killed");
        child.wait().expect("has ended");
    }
}

#[test]
fn killed_and_started_again_it_gives_the_same_result() {
    let (header, rows) = rows();
    let (hourly, late) = expected(&parse(&header, &rows));
    for arguments in [
        &["--parallelism", "2", "--rate", "130000"][..],
        &["--parallelism", "3", "--rate", "130000", "--state", "rocksdb", "--memory", "1MiB"],
        &["--parallelism", "2", "--rate", "130000", "--unaligned-after", "0s"],
    ] {
        let flights = Flights::with_checkpoints(arguments);
        kill_repeatedly(&flights);
        flights.run().expect_success();
        assert!(flights.hourly() == hourly, "other results with {arguments:?}");
        assert!(flights.late() == late, "other late records with {arguments:?}");
        let left = fs::read_dir(flights.out().join("hourly")).expect("the output");
        for entry in left {
            let name = entry.expect("an entry").file_name();
            assert!(name.to_string_lossy().starts_with("part-"), "{name:?} is left over");
        }
    }
}

#[test]
fn a_restart_may_have_another_parallelism() {
    let (header, rows) = rows();
    let (hourly, late) = expected(&parse(&header, &rows));
    let mut flights = Flights::with_checkpoints(&["--rate", "100000"]);
    for parallelism in ["3", "1", "4"] {
        flights = flights.with_more(&["--parallelism", parallelism]);
        let before = checkpoint_numbers(&flights.checkpoints()).last().copied();
        let mut child = flights.start();
        wait_until("another checkpoint", || {
            checkpoint_numbers(&flights.checkpoints()).last().copied() > before
        });
        child.kill().expect("can be killed");
        child.wait().expect("has ended");
    }
    let flights = flights.with_more(&["--parallelism", "2"]);
    let ended = flights.run().expect_success();
    assert!(ended.stderr.contains("resumed from checkpoint"), "{ended:?}");
    assert!(flights.hourly() == hourly, "other results");
    assert!(flights.late() == late, "other late records");
}
