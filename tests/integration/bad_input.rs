//! Bad input and bad surroundings: one clear line, a status that is not 0, nothing lost.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{Flights, RECORDS, data, wait_until};
use crate::reference::rows;

fn flights_with(input: &Path) -> Flights {
    Flights::new(&["--input", &input.display().to_string()])
}

#[test]
fn input_that_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    flights_with(&path("nothing.csv")).run().expect_error(2, &["nothing.csv", "does not exist"]);
    fs::create_dir(path("empty")).expect("a directory");
    flights_with(&path("empty")).run().expect_error(2, &["empty", "has no files"]);
    let whole = fs::read(data()).expect("the data set");
    fs::write(path("cut.csv.gz"), &whole[..whole.len() / 3]).expect("can be written");
    flights_with(&path("cut.csv.gz")).run().expect_error(2, &["cut.csv.gz", "ends too early"]);
    let mut damaged = whole;
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xff);
    fs::write(path("damaged.csv.gz"), damaged).expect("can be written");
    let ended = flights_with(&path("damaged.csv.gz")).run();
    assert!(ended.code == Some(1) || ended.code == Some(2), "{ended:?}");
    let code = ended.code.expect("has a status");
    ended.expect_error(code, &["damaged.csv.gz"]);
}

#[test]
fn rows_that_are_none() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (header, rows) = rows();
    let write = |name: &str, header: &str, row: &str| {
        let path = directory.path().join(name);
        let text = format!("{header}\n{}\n{row}\n{}\n", rows[..5_000].join("\n"), rows[5_001]);
        fs::write(&path, text).expect("can be written");
        flights_with(&path)
    };
    let short = write("short.csv", &header, "5000,1,2,3");
    short.run().expect_error(1, &["short.csv line 5002", "4 fields", "mend the file"]);
    let word = write("word.csv", &header, &rows[5_000].replacen("5000", "many", 1));
    word.run().expect_error(1, &["word.csv line 5002", "seq", "mend the file"]);
    let header = header.replace("dep_delay_min", "delay");
    write("column.csv", &header, &rows[5_000]).run().expect_error(2, &["dep_delay_min"]);
}

#[test]
fn a_bad_row_loses_nothing_that_was_committed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("flights.csv");
    let (header, mut rows) = rows();
    let good = std::mem::replace(&mut rows[RECORDS / 2], "1,2".to_owned());
    let write = |rows: &[String]| {
        fs::write(&path, format!("{header}\n{}\n", rows.join("\n"))).expect("can be written");
    };
    write(&rows);
    let input = path.display().to_string();
    let flights = Flights::with_checkpoints(&["--input", &input, "--rate", "200000"]);
    flights.run().expect_error(1, &["line 163675", "2 fields where the header has 13"]);
    let committed = flights.hourly().len();
    assert!(committed > 0, "something was committed before the bad row");
    rows[RECORDS / 2] = good;
    write(&rows);
    flights.run().expect_success();
    flights.check_conservation();
    assert!(flights.hourly().len() > committed, "more came behind it");
}

#[test]
fn output_that_cannot_be_written() {
    let flights = Flights::new(&[]);
    fs::write(flights.out(), "a file").expect("can be written");
    flights.run().expect_error(2, &["out/hourly", "a file stands where the directory should be"]);
    let flights = Flights::new(&[]);
    flights.run().expect_success();
    let before = flights.hourly();
    flights.run().expect_error(2, &["already holds output of an earlier run", "choose another"]);
    assert!(flights.hourly() == before, "the earlier output has changed");
    let flights = Flights::with_checkpoints(&[]);
    fs::write(flights.checkpoints(), "a file").expect("can be written");
    flights.run().expect_error(2, &["is a file, a checkpoint directory is needed"]);
}

#[test]
fn options_that_are_none() {
    for (arguments, text) in [
        (&["--parallelism", "0"][..], "parallelism must be 1 to 128"),
        (&["--checkpoint-interval", "1s"], "needs a checkpoint directory"),
        (&["--restart", "fixed:3,1s"], "a restart policy needs a checkpoint directory"),
        (&["--restart", "fixed:0,1s", "--checkpoint-dir", "x"], "must have one attempt at least"),
        (&["--workers", "0"], "workers must be 1 to 256"),
        (&["--key-groups", "0"], "key groups must be 1 to 32768"),
    ] {
        Flights::new(arguments).run().expect_error(2, &[text]);
    }
    for (arguments, text) in [
        (&["--memory", "12 apples"][..], "as in 1048576, 512MiB, 4GiB"),
        (&["--checkpoint-interval", "5"], "as in 100ms, 4s, 5m, 1h"),
        (&["--state", "disk"], "`memory` or `rocksdb`"),
        (&["--restart", "always"], "`fixed:3,10s`"),
        (&["--log", "much"], "off, error, warn, info, debug or trace"),
        (&["--rate", "0"], "--rate"),
    ] {
        let ended = Flights::new(arguments).run();
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(text), "`{text}` is not in {ended:?}");
    }
}

/// A file system of one megabyte; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(directory.path());
        let output = mount.output().ok()?;
        output.status.success().then(|| SmallDisk(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If it stays mounted, nothing but a megabyte is lost.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_under_the_output_or_the_checkpoints() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a small file system needs root");
        return;
    };
    let out = disk.0.path().join("out").display().to_string();
    let flights = Flights::with_checkpoints(&["--restart", "none"]);
    let mut command = flights.command();
    let arguments: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
    // The output is the second argument.
    let mut on_full_disk = Command::new(command.get_program());
    on_full_disk.arg("--out").arg(&out).args(&arguments[2..]);
    command = on_full_disk;
    let ended = crate::process::Ended::of(&mut command);
    ended.expect_error(1, &[&out, "the disk is full", "start again"]);

    fs::remove_dir_all(&out).expect("can be removed");
    let filler = disk.0.path().join("filler");
    // What is left are six pages: for the lock, the claim of an epoch, and one or two checkpoints
    // of at least two files.
    fs::write(&filler, vec![0; (1 << 20) - 6 * 4_096]).expect("almost fills the disk");
    let checkpoints = disk.0.path().join("checkpoints").display().to_string();
    let flights =
        Flights::new(&["--checkpoint-dir", &checkpoints, "--checkpoint-interval", "50ms"])
            .with_more(&["--restart", "none"]);
    flights.run().expect_error(1, &["no space left", "start again", "intact"]);
    fs::remove_file(filler).expect("can be removed");
    flights.run().expect_success();
    flights.check_conservation();
}

#[test]
fn a_full_disk_is_waited_for() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: mounting a small file system needs root");
        return;
    };
    let filler = disk.0.path().join("filler");
    fs::write(&filler, vec![0; (1 << 20) - 4 * 4_096]).expect("almost fills the disk");
    let checkpoints = disk.0.path().join("checkpoints").display().to_string();
    let flights =
        Flights::new(&["--checkpoint-dir", &checkpoints, "--checkpoint-interval", "50ms"])
            .with_more(&["--restart", "fixed:1000,20ms"]);
    let mut command = flights.command();
    let said = flights.directory.path().join("said");
    command.stdout(Stdio::null()).stderr(fs::File::create(&said).expect("can be created"));
    let mut child = command.spawn().expect("the job starts");
    let says = |text: &str| fs::read_to_string(&said).expect("can be read").contains(text);
    wait_until("a second restart", || says("restart 2 in 20 ms from "));
    fs::remove_file(filler).expect("can be removed");
    assert!(child.wait().expect("ends").success());
    assert!(says("no space left") && says("flights: finished in") && says("restarts"));
    flights.check_conservation();
}
