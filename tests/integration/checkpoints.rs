//! Stops and restarts by the user; and checkpoint directories that must be refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Ended, Flights, checkpoint_numbers, example, signal, wait_until};
use crate::reference::{expected, parse, rows};

/// Everything below a directory, with contents; the lock and the epochs, which name the last
/// processes, apart.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("epochs") {
            files.extend(tree(&path));
        } else if path.is_file() && !path.ends_with("LOCK") {
            files.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    files
}

/// Runs the job until it has taken three checkpoints, and stops it by `signal_name`.
fn stop_midway(flights: &Flights, signal_name: &str) {
    let newest = || checkpoint_numbers(&flights.checkpoints()).last().copied().unwrap_or(0);
    let before = newest();
    let mut child = flights.start();
    wait_until("three checkpoints", || newest() >= before + 3);
    signal(&child, signal_name);
    let status = child.wait().expect("ends");
    let mut said = String::new();
    child.stderr.take().expect("is piped").read_to_string(&mut said).expect("is text");
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("start it again with the same command"), "{said}");
}

#[test]
fn stopped_and_started_again_it_gives_the_same_result_and_then_nothing_more() {
    let (header, rows) = rows();
    let (hourly, late) = expected(&parse(&header, &rows));
    let flights = Flights::with_checkpoints(&["--rate", "150000"]);
    for signal_name in ["INT", "TERM"] {
        stop_midway(&flights, signal_name);
    }
    let ended = flights.run().expect_success();
    assert!(ended.stderr.contains("resumed from checkpoint"), "{ended:?}");
    assert!(flights.hourly() == hourly, "other results");
    assert!(flights.late() == late, "other late records");

    let before = tree(flights.directory.path());
    let ended = flights.run().expect_success();
    assert!(ended.stderr.contains("already finished"), "{ended:?}");
    assert!(tree(flights.directory.path()) == before, "a finished job has changed something");
}

#[test]
fn a_second_signal_ends_the_process_at_once_and_loses_nothing() {
    let flights = Flights::with_checkpoints(&["--rate", "100000"]);
    let mut child = flights.start();
    wait_until("a checkpoint", || !checkpoint_numbers(&flights.checkpoints()).is_empty());
    // Both are pending when the process goes on.
    for signal_name in ["STOP", "INT", "TERM", "CONT"] {
        signal(&child, signal_name);
    }
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    let flights = flights.with_more(&["--rate", "1000000"]);
    let ended = flights.run().expect_success();
    assert!(ended.stderr.contains("resumed from checkpoint"), "{ended:?}");
    flights.check_conservation();
}

#[test]
fn the_directory_of_another_job_is_refused() {
    let flights = Flights::with_checkpoints(&[]);
    flights.run().expect_success();
    let before = tree(flights.directory.path());
    let mut other = Command::new(example("wordcount"));
    other.arg("--checkpoint-dir").arg(flights.checkpoints());
    Ended::of(&mut other).expect_error(2, &["belongs to job \"flights\"", "choose another"]);
    assert!(tree(flights.directory.path()) == before, "something has changed");
}

#[test]
fn a_second_process_in_the_same_directory_is_refused() {
    let flights = Flights::with_checkpoints(&["--rate", "50000"]);
    let mut child = flights.start();
    wait_until("a checkpoint", || !checkpoint_numbers(&flights.checkpoints()).is_empty());
    let in_use = format!("in use by process {}", child.id());
    flights.run().expect_error(1, &[&in_use, "choose another"]);
    assert!(child.try_wait().expect("can be asked").is_none(), "the first one goes on");
    child.kill().expect("can be killed");
    child.wait().expect("has ended");
}

/// The parts of files in a manifest: the file's name, and where the part begins and ends.
fn find_parts(value: &serde_json::Value, found: &mut Vec<(String, usize, usize)>) {
    match value {
        serde_json::Value::Object(fields) => {
            if let (Some(name), Some(offset), Some(bytes)) =
                (fields.get("name"), fields.get("offset"), fields.get("bytes"))
            {
                let number = |value: &serde_json::Value| value.as_u64().expect("a number") as usize;
                let name = name.as_str().expect("is text").to_owned();
                found.push((name, number(offset), number(offset) + number(bytes)));
            }
            fields.values().for_each(|field| find_parts(field, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|v| find_parts(v, found)),
        _ => {}
    }
}

#[test]
fn damage_anywhere_in_a_checkpoint_is_found_and_nothing_is_lost() {
    let flights = Flights::with_checkpoints(&["--rate", "100000"]);
    stop_midway(&flights, "INT");
    let newest = *checkpoint_numbers(&flights.checkpoints()).last().expect("has some");
    let manifest = flights.checkpoints().join(format!("checkpoints/{newest:010}/manifest"));
    let before = tree(flights.directory.path());
    // All parts of files that it names, and itself: what else is in a file may be dead weight.
    let text = fs::read_to_string(&manifest).expect("is text");
    let (_, json) = text.split_once('\n').expect("two lines at least");
    let mut parts = Vec::new();
    find_parts(&serde_json::from_str(json).expect("is JSON"), &mut parts);
    assert!(!parts.is_empty(), "{text}");
    let files = flights.checkpoints().join("files");
    let parts = parts.into_iter().map(|(name, start, end)| (files.join(name), start, end));
    for (file, start, end) in parts.chain([(manifest, 0, text.len())]) {
        let bytes = fs::read(&file).expect("a file");
        let mut changed = bytes.clone();
        changed[usize::midpoint(start, end)] ^= 4;
        let shown = file.display().to_string();
        for damaged in [&changed[..], &bytes[..end - 1], &[]] {
            fs::write(&file, damaged).expect("can be damaged");
            flights.run().expect_error(1, &["is damaged", &shown]);
        }
        fs::write(&file, bytes).expect("can be mended");
    }
    assert!(tree(flights.directory.path()) == before, "the damage has changed something else");
    let flights = flights.with_more(&["--rate", "1000000"]);
    flights.run().expect_success();
    let (header, rows) = rows();
    let (hourly, late) = expected(&parse(&header, &rows));
    assert!(flights.hourly() == hourly && flights.late() == late, "other results");
}
