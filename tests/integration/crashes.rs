//! Processes that are killed at random moments and started again: the same result, to the record.

use std::fs;

use crate::process::{Flights, checkpoint_numbers, wait_until};
use crate::reference::{expected, parse, rows};

const KILLS: u64 = 5;

/// Moments after the start, in milliseconds; another list for each process, and printed.
fn random_moments(count: u64) -> Vec<u64> {
    let mut seed = std::process::id().into();
    println!("random moments from seed {seed}");
    let next = |_| {
        // SplitMix64 (Steele, Lea, Flood 2014).
        seed = u64::wrapping_add(seed, 0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        20 + (z ^ (z >> 31)) % 300
    };
    (0..count).map(next).collect()
}

#[expect(clippy::disallowed_methods, reason = "lets another process run for a while")]
fn kill_repeatedly(flights: &Flights) {
    for moment in random_moments(KILLS) {
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
