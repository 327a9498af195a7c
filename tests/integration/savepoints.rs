//! Savepoints of the flights job, as processes: made, moved, restored, damaged and looked into.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Ended, Flights, checkpoint_numbers, example, wait_until};
use crate::reference::{expected, parse, rows};

/// A command of the flights binary that is not `run`.
fn command(name: &str, arguments: &[&Path]) -> Ended {
    let mut command = Command::new(example("flights"));
    command.arg(name).args(arguments);
    Ended::of(&mut command)
}

fn flag(name: &str) -> &Path {
    Path::new(name)
}

/// Waits until the job has taken three checkpoints more.
fn wait_for_checkpoints(flights: &Flights) {
    let newest = || checkpoint_numbers(&flights.checkpoints()).last().copied().unwrap_or(0);
    let before = newest();
    wait_until("three checkpoints", || newest() >= before + 3);
}

/// The path that a command printed.
fn path_in(ended: &Ended) -> PathBuf {
    let path = PathBuf::from(ended.stdout.trim_end());
    assert!(path.join("manifest").is_file(), "{ended:?}");
    path
}

/// A savepoint of the job when it had been stopped midway.
fn stopped_with_savepoint(flights: &Flights, directory: &Path) -> PathBuf {
    let mut child = flights.start();
    wait_for_checkpoints(flights);
    let (of, to) = (flights.checkpoints(), directory.join("savepoints"));
    let stop = [flag("--checkpoint-dir"), &of, flag("--with-savepoint"), &to];
    let path = path_in(&command("stop", &stop).expect_success());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    path
}

/// Moves a savepoint to where nobody has seen it before.
fn moved(savepoint: &Path, directory: &Path) -> PathBuf {
    let elsewhere = directory.join("moved").join("here");
    fs::create_dir_all(elsewhere.parent().expect("has one")).expect("can be made");
    fs::rename(savepoint, &elsewhere).expect("can be moved");
    elsewhere
}

/// The options of a job that goes on from a savepoint in a directory of its own.
fn from(savepoint: &Path, directory: &Path) -> Vec<String> {
    let checkpoints = directory.join("other-checkpoints");
    ["--restore", &savepoint.display().to_string(), "--checkpoint-dir"]
        .map(str::to_owned)
        .into_iter()
        .chain([checkpoints.display().to_string()])
        .collect()
}

#[test]
fn stopped_with_a_savepoint_it_goes_on_elsewhere_and_the_result_is_the_same() {
    let (header, rows) = rows();
    let (hourly, late) = expected(&parse(&header, &rows));
    for (before, after, state) in [("2", "3", "memory"), ("3", "1", "rocksdb")] {
        let flights = Flights::with_checkpoints(&["--rate", "150000", "--parallelism", before])
            .with_more(&["--state", state])
            .with_more(&["--memory", "1MiB"]);
        let directory = flights.directory.path().to_owned();
        let savepoint = stopped_with_savepoint(&flights, &directory);
        let savepoint = moved(&savepoint, &directory);
        fs::remove_dir_all(flights.checkpoints()).expect("is not needed any more");

        let arguments = from(&savepoint, &directory);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let flights = flights.with_more(&["--parallelism", after]).with_more(&arguments[..2]);
        let flights = flights.with_more(&arguments[2..]);
        // Killed, it goes on by the same command from what came after the savepoint…
        let mut child = flights.start();
        let other = directory.join("other-checkpoints");
        let numbers = || checkpoint_numbers(&other);
        wait_until("checkpoints after the savepoint", || numbers().last() > Some(&2));
        let before = numbers();
        wait_until("one more", || numbers().last() > before.last());
        child.kill().expect("can be killed");
        child.wait().expect("has ended");
        // …and the savepoint's files are not needed by its checkpoints.
        for file in fs::read_dir(&savepoint).expect("a directory") {
            let file = file.expect("an entry").path();
            if !file.ends_with("manifest") {
                fs::remove_file(file).expect("can be removed");
            }
        }
        let ended = flights.run().expect_success();
        assert!(ended.stderr.contains("resumed from checkpoint"), "{ended:?}");
        assert!(flights.hourly() == hourly, "other results");
        assert!(flights.late() == late, "other late records");
    }
}

#[test]
fn a_savepoint_of_a_running_job_disturbs_nothing_and_holds_all_up_to_it() {
    let (header, rows) = rows();
    let (hourly, late) = expected(&parse(&header, &rows));
    let flights = Flights::with_checkpoints(&["--rate", "150000"]);
    let mut child = flights.start();
    wait_for_checkpoints(&flights);
    let (of, to) = (flights.checkpoints(), flights.directory.path().join("savepoints"));
    let asked = [flag("--checkpoint-dir"), &*of, flag("--to"), &to];
    let savepoint = path_in(&command("savepoint", &asked).expect_success());
    let second = path_in(&command("savepoint", &asked).expect_success());
    assert_ne!(savepoint, second);
    let status = command("status", &asked[..2]).expect_success();
    assert!(status.stdout.contains("\"job\":\"flights\""), "{status:?}");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert!(flights.hourly() == hourly && flights.late() == late, "other results");
    assert!(!of.join("control").exists(), "the socket is left over");
    command("stop", &asked[..2]).expect_error(2, &["no job is running"]);

    // What comes after the savepoint, made again by a job with an output of its own.
    let other = Flights::new(&["--parallelism", "3"]);
    let arguments = from(&moved(&savepoint, flights.directory.path()), other.directory.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let other = other.with_more(&arguments);
    // The job counts its output at the end, of which the first part is elsewhere.
    let ended = other.run();
    assert!(ended.stderr.contains("but the output has"), "{ended:?}");
    let again = other.hourly();
    let first = again.iter().map(|hour| hour.window_start_ms).min().expect("there are some");
    let mut rest = hourly;
    rest.retain(|hour| hour.window_start_ms >= first);
    assert!(again == rest, "other results after the savepoint");
    assert!(!other.late().is_empty() && other.late().len() < late.len());
}

#[test]
fn without_a_job_the_savepoint_is_of_the_newest_checkpoint() {
    let flights = Flights::with_checkpoints(&[]);
    flights.run().expect_success();
    let (of, to) = (flights.checkpoints(), flights.directory.path().join("savepoints"));
    let asked = [flag("--checkpoint-dir"), &*of, flag("--to"), &to];
    let savepoint = path_in(&command("savepoint", &asked).expect_success());
    command("savepoint", &asked).expect_error(2, &["is there already"]);
    let overview = command("inspect", &[&savepoint]).expect_success().stdout;
    for text in ["job flights", "operator hourly-delay", "read to its end"] {
        assert!(overview.contains(text), "`{text}` is not in {overview}");
    }
    let nothing = flights.directory.path().join("out");
    command("inspect", &[&nothing]).expect_error(2, &["neither a savepoint nor a directory"]);
    let asked = [flag("--checkpoint-dir"), &*nothing, flag("--to"), &to];
    command("savepoint", &asked).expect_error(2, &["neither a savepoint nor a directory"]);
}

#[test]
fn entries_are_shown_by_their_recorded_types() {
    let flights = Flights::with_checkpoints(&["--rate", "150000"]);
    let savepoint = stopped_with_savepoint(&flights, flights.directory.path());
    let shown = |more: &[&Path]| {
        let asked = [&[&*savepoint, flag("--operator"), flag("hourly-delay")], more].concat();
        let lines = command("inspect", &asked).expect_success().stdout;
        let lines = lines.lines().map(|line| serde_json::from_str(line).expect("is JSON"));
        lines.collect::<Vec<serde_json::Value>>()
    };
    let all = shown(&[flag("--all")]);
    let airports = |entries: &[serde_json::Value]| {
        let keys = entries.iter().filter(|entry| entry["table"] == 0 || entry["table"] == 2);
        keys.filter_map(|entry| entry["key"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let found = airports(&all);
    assert!(!found.is_empty() && found.iter().all(|a| ["EWR", "JFK", "LGA"].contains(&&**a)));
    let of_one = shown(&[flag("--key"), flag("\"EWR\"")]);
    assert!(airports(&of_one).len() == found.iter().filter(|a| *a == "EWR").count());
    assert_eq!(of_one.len(), airports(&of_one).len());
    let asked = [&*savepoint, flag("--operator"), flag("hourly")];
    command("inspect", &asked).expect_success();
    let asked = [&*savepoint, flag("--operator"), flag("nothing")];
    command("inspect", &asked).expect_error(2, &["there is no operator `nothing`"]);
    // The same job can start from it.
    let checked = command("check", &[&savepoint]).expect_success();
    assert!(checked.stdout.contains("the job can start from it"), "{checked:?}");
}

#[test]
fn damage_anywhere_in_a_savepoint_is_found() {
    let flights = Flights::with_checkpoints(&["--rate", "150000"]);
    let directory = flights.directory.path().to_owned();
    let savepoint = stopped_with_savepoint(&flights, &directory);
    let arguments = from(&savepoint, &directory);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let flights = flights.with_more(&arguments[..2]).with_more(&arguments[2..]);
    let files: Vec<PathBuf> = fs::read_dir(&savepoint)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert!(files.len() > 1, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).expect("a file");
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 4;
        let shown = file.display().to_string();
        for damaged in [&changed[..], &bytes[..bytes.len() / 2], &[]] {
            fs::write(&file, damaged).expect("can be damaged");
            flights.run().expect_error(1, &[&shown]);
            command("check", &[&savepoint]).expect_error(1, &[&shown]);
            command("inspect", &[&savepoint]).expect_error(1, &[&shown]);
        }
        fs::write(&file, bytes).expect("can be mended");
    }
    flights.run().expect_success();
    // A directory that has gone on from something else does not go back to it.
    let other = Flights::with_checkpoints(&[]);
    other.run().expect_success();
    let restore = ["--restore", arguments[1]];
    other.with_more(&restore).run().expect_error(2, &["does not come from that savepoint"]);
}
