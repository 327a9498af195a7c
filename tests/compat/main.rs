//! Checkpoints and savepoints that each version of the formats has written: this version goes on
//! from them with the same results, and refuses damaged ones.
//!
//! `tests/compat/v1` and so on hold them, and what a job gives out that goes on from them. They are
//! not to be changed; a new version of a format gets an entry in `GOLDEN` and a directory, written
//! by `cargo test --release --test compat -- --ignored write`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thalweg::engine::checkpoint::Archive;
use thalweg::engine::savepoint::export_archive;
use thalweg::prelude::*;
use thalweg::{ErrorKind, RestartPolicy, Restore, StopSignal, memory, time};

const JOB: &str = "compat";
const RECORDS: u64 = 3_000;
/// The job is stopped when it has read this many.
const STOPPED_AFTER: u64 = 1_000;

/// What a version has written, and of which job.
#[derive(Clone, Copy)]
struct Golden {
    version: &'static str,
    keys: u64,
    key_groups: u16,
}

/// All of them, the newest last. The second has so much in a key group that it gets an index.
const GOLDEN: [Golden; 2] = [
    Golden { version: "v1", keys: 17, key_groups: 128 },
    Golden { version: "v2", keys: 60, key_groups: 4 },
];

impl Golden {
    fn directory(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat").join(self.version)
    }

    fn expected(self) -> Vec<String> {
        let text = fs::read_to_string(self.directory().join("expected.txt")).expect("is there");
        text.lines().map(str::to_owned).collect()
    }

    fn options(self, directory: &Path) -> JobOptions {
        JobOptions {
            parallelism: Some(2),
            workers: Some(1),
            key_groups: Some(self.key_groups),
            checkpoint_dir: Some(directory.to_owned()),
            checkpoint_interval: Some(time::millis(50)),
            restart: Some(RestartPolicy::None),
            ..JobOptions::default()
        }
    }

    /// The options that go on from the checkpoint, copied to `scratch`.
    fn resume_checkpoint(self, scratch: &Path) -> JobOptions {
        let directory = scratch.join("checkpoints");
        copy(&self.directory().join("checkpoint"), &directory);
        self.options(&directory)
    }

    /// The options that go on from the savepoint, copied to `scratch`.
    fn resume_savepoint(self, scratch: &Path) -> JobOptions {
        let savepoint = scratch.join("savepoint");
        copy(&self.directory().join("savepoint"), &savepoint);
        let restore = Restore::Savepoint(savepoint);
        JobOptions { restore, ..self.options(&scratch.join("checkpoints")) }
    }

    /// Runs the job, until it is asked to stop after some records if `stop` is given; returns what
    /// it gave out, sorted.
    fn run(self, options: &JobOptions, stop: Option<&StopSignal>) -> thalweg::Result<Vec<String>> {
        let keys = self.keys;
        let (sink, given) = memory::sink();
        let read = Arc::new(AtomicU64::new(0));
        let stops = stop.cloned();
        let build = move |job: &Job| {
            let (read, stops) = (read.clone(), stops.clone());
            let numbers = generator(Some(RECORDS), move |number| {
                if let Some(stop) = &stops
                    && read.fetch_add(1, Ordering::Relaxed) == STOPPED_AFTER
                {
                    stop.stop();
                }
                number
            });
            let rate = if stop.is_some() { 5_000 } else { 1_000_000 };
            let timed =
                job.source("numbers", numbers.splits(2).records_per_second(rate)).event_time(
                    |n| *n as i64 * 10,
                    Watermarks::bounded_out_of_orderness(time::millis(100)),
                );
            let by_key = timed.key_by(move |n| format!("key {}", n % keys));
            let windows = by_key.window(Sliding::of(time::seconds(5), time::seconds(1)));
            let windows = windows.aggregate("windows", (Count, Sum::of(|n: &u64| *n as i64)));
            windows.results().map(|result| format!("{result:?}")).sink("windows-out", sink.clone());
            by_key
                .aggregate("runs", Count)
                .map(|counted| format!("{counted:?}"))
                .sink("runs-out", sink.clone());
            Ok(())
        };
        let signal = stop.cloned().unwrap_or_default();
        thalweg::execute_until(JOB, build, options, &signal)?;
        let mut lines = given.snapshot();
        lines.sort_unstable();
        Ok(lines)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes a directory");
    for entry in fs::read_dir(from).expect("lists").map(|entry| entry.expect("lists")) {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("is known").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("copies")),
        }
    }
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("lists").map(|entry| entry.expect("lists")) {
        match entry.file_type().expect("is known").is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

/// The two ways to go on.
const STARTS: [fn(Golden, &Path) -> JobOptions; 2] =
    [Golden::resume_checkpoint, Golden::resume_savepoint];

#[test]
fn a_job_goes_on_from_old_checkpoints_and_savepoints() {
    for golden in GOLDEN {
        for start in STARTS {
            for parallelism in [1, 2, 3] {
                let scratch = tempfile::tempdir().expect("a temporary directory");
                let options = start(golden, scratch.path());
                let options = JobOptions { parallelism: Some(parallelism), ..options };
                let given = golden.run(&options, None).expect("it goes on");
                let version = golden.version;
                assert!(given == golden.expected(), "{version}, parallelism {parallelism}");
            }
        }
    }
}

#[test]
fn damaged_ones_are_refused() {
    for golden in GOLDEN {
        for start in STARTS {
            refuses_damage(golden, start);
        }
    }
}

fn refuses_damage(golden: Golden, start: fn(Golden, &Path) -> JobOptions) {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    start(golden, scratch.path());
    let mut all = Vec::new();
    files(scratch.path(), &mut all);
    // Claims of epochs and the mark of a commit say nothing of state.
    all.retain(|path| !path.to_string_lossy().contains("epochs") && !path.ends_with("committed"));
    assert!(all.len() >= 2, "{all:?}");
    for path in all {
        // Part of a file may be dead weight: all of it is damaged.
        let damages: [fn(&mut Vec<u8>); 3] = [
            |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55),
            |bytes| bytes.truncate(1),
            Vec::clear,
        ];
        for (number, damage) in damages.into_iter().enumerate() {
            let scratch = tempfile::tempdir().expect("a temporary directory");
            let options = start(golden, scratch.path());
            let name = path.file_name().expect("has a name");
            let mut copies = Vec::new();
            files(scratch.path(), &mut copies);
            let copy = copies.iter().find(|copy| copy.ends_with(name)).expect("was copied");
            let mut bytes = fs::read(copy).expect("reads");
            damage(&mut bytes);
            fs::write(copy, bytes).expect("writes");
            let error = golden.run(&options, None).err();
            let error = error.unwrap_or_else(|| panic!("damage {number} of {path:?} passes"));
            let is_refused = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Incompatible);
            assert!(is_refused, "damage {number} of {path:?}: {error}");
        }
    }
}

#[test]
#[ignore = "writes the newest of tests/compat anew"]
fn write_golden_files() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let newest = GOLDEN[GOLDEN.len() - 1];
    let golden = newest.directory();
    let _ = fs::remove_dir_all(&golden);
    fs::create_dir_all(&golden).expect("makes a directory");
    let checkpoints = scratch.path().join("checkpoints");
    let options = JobOptions { checkpoints_retained: Some(1), ..newest.options(&checkpoints) };
    newest.run(&options, Some(&StopSignal::default())).expect("runs");
    for folder in ["checkpoints", "epochs", "files"] {
        copy(&checkpoints.join(folder), &golden.join("checkpoint").join(folder));
    }
    // The store deletes what no manifest names some checkpoints later.
    let mut all = Vec::new();
    files(&golden.join("checkpoint"), &mut all);
    let manifest = all.iter().find(|path| path.ends_with("manifest")).expect("there is one");
    let manifest = fs::read_to_string(manifest).expect("is text");
    for pack in all.iter().filter(|path| path.to_string_lossy().ends_with("-pack")) {
        let name = pack.file_name().expect("has a name").to_string_lossy();
        if !manifest.contains(&*name) {
            fs::remove_file(pack).expect("deletes");
        }
    }
    // The same state as a savepoint, made of the checkpoint.
    let archive = Archive::open(&checkpoints, None).expect("opens");
    let made = export_archive(&archive, scratch.path()).expect("writes a savepoint");
    copy(&made, &golden.join("savepoint"));
    let resumed = newest.resume_checkpoint(scratch.path().join("resumed").as_path());
    let lines = newest.run(&resumed, None).expect("goes on");
    fs::write(golden.join("expected.txt"), lines.join("\n") + "\n").expect("writes");
}
