//! Crashes between the phases of a commit: nothing is lost, nothing is shown twice.

use std::path::PathBuf;

use thalweg_engine::sink::{Committable, Sink, SinkWriter, Start, WriterContext};
use thalweg_engine::{CheckpointId, ErrorKind, Result};

use super::writing::{names, visible_lines};
use super::*;
use crate::files::{self, FileSink, JsonLinesOut};
use crate::testing::{at, batch, write_and_prepare, writer_context};

fn numbers_out(directory: &Path) -> FileSink<JsonLinesOut<u64>> {
    files::json_lines_out(directory)
}

#[test]
fn committing_again_finds_what_was_committed() -> Result<()> {
    let directory = temporary();
    let sink = numbers_out(directory.path());
    let mut committer = sink.committer()?;
    committer.recover(&[], Start::Fresh)?;
    let first = write_and_prepare(&mut *sink.writer(&writer_context(0))?, [1, 2], 1)?;
    for _ in 0..3 {
        committer.commit(&first)?;
        assert_eq!(visible_lines(directory.path()), ["1", "2"]);
    }
    committer.recover(&first, Start::Resumed)?;
    assert_eq!(visible_lines(directory.path()), ["1", "2"]);
    assert_eq!(names(directory.path()).len(), 1);
    Ok(())
}

/// A job of two writers that writes the numbers in order and is killed by its test: what a
/// checkpoint holds, and how far the commits got.
struct Job {
    directory: PathBuf,
    /// The number each writer writes next, and the committables, as the manifest has them.
    manifest: Option<(CheckpointId, [u64; 2], Vec<Committable>)>,
}

impl Job {
    /// Restarts from the manifest, takes up to `checkpoints` checkpoints, and stops after `steps`
    /// steps of one of them: true if it was not interrupted.
    fn attempt(&mut self, checkpoints: u64, steps: u64, numbers: &mut Numbers) -> Result<bool> {
        let sink = numbers_out(&self.directory).roll_after_bytes(24);
        let mut committer = sink.committer()?;
        let (restored_from, mut next, start) = match &self.manifest {
            Some((id, next, pending)) => {
                committer.recover(pending, Start::Resumed)?;
                (Some(*id), *next, *id)
            }
            None => {
                committer.recover(&[], Start::Fresh)?;
                (None, [0, 1], CheckpointId(0))
            }
        };
        let mut writers = Vec::new();
        for subtask_index in 0..2 {
            let context = WriterContext { restored_from, ..writer_context(subtask_index) };
            writers.push(sink.writer(&context)?);
        }
        let mut left = steps;
        let mut step = || {
            left = left.saturating_sub(1);
            left == 0
        };
        let mut unacknowledged: Vec<Committable> = Vec::new();
        for id in start.0 + 1..=checkpoints {
            for _ in 0..numbers.below(6) {
                let which = numbers.below(2) as usize;
                let count = numbers.below(5);
                write_numbers(&mut *writers[which], &mut next[which], count)?;
                if step() {
                    return Ok(false);
                }
            }
            let mut committables = unacknowledged.clone();
            for writer in &mut writers {
                committables.extend(writer.prepare_commit(CheckpointId(id))?);
                if step() {
                    return Ok(false);
                }
            }
            self.manifest = Some((CheckpointId(id), next, committables.clone()));
            for committable in &committables {
                if step() {
                    return Ok(false);
                }
                committer.commit(std::slice::from_ref(committable))?;
            }
            // Now and then the next manifest has them still.
            unacknowledged = if numbers.below(2) == 0 { committables } else { Vec::new() };
        }
        Ok(true)
    }
}

fn write_numbers(writer: &mut dyn SinkWriter<u64>, next: &mut u64, count: u64) -> Result<()> {
    let mut records = batch((0..count).map(|i| *next + 2 * i));
    *next += 2 * count;
    writer.write(&mut records, at(0)).map(|_| ())
}

#[test]
fn output_is_exactly_once_wherever_the_job_is_killed() -> Result<()> {
    for seed in 0..150 {
        let directory = temporary();
        let mut numbers = Numbers(seed);
        let mut job = Job { directory: directory.path().to_owned(), manifest: None };
        for _ in 0..4 {
            let steps = 1 + numbers.below(40);
            job.attempt(8, steps, &mut numbers)?;
        }
        assert!(job.attempt(9, u64::MAX, &mut numbers)?, "runs to its end");
        let (_, next, _) = job.manifest.as_ref().expect("nine checkpoints");
        let mut expected: Vec<u64> =
            (0..next[0]).step_by(2).chain((1..next[1]).step_by(2)).collect();
        expected.sort_unstable();
        let lines = visible_lines(directory.path());
        let mut found: Vec<u64> =
            lines.iter().map(|line| line.parse().expect("a number")).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "seed {seed}");
        assert!(names(directory.path()).iter().all(|name| name.starts_with("part-")));
    }
    Ok(())
}

#[test]
fn what_was_removed_or_changed_from_outside_is_said() -> Result<()> {
    let directory = temporary();
    let sink = numbers_out(directory.path());
    let mut writer = sink.writer(&writer_context(0))?;
    let prepared = write_and_prepare(&mut *writer, [1], 1)?;
    let hidden = directory.path().join(names(directory.path()).remove(0));
    let mut committer = sink.committer()?;
    let refused = |result: Result<()>, kind: ErrorKind, part: &str| {
        let error = result.expect_err("must be refused");
        assert!(error.kind() == kind && error.to_string().contains(part), "{error}");
    };
    let bytes = std::fs::read(&hidden).expect("is there");
    std::fs::write(&hidden, b"1\n2\n").expect("writes");
    refused(committer.commit(&prepared), ErrorKind::Corrupt, "was changed from outside");
    std::fs::remove_file(&hidden).expect("is there");
    refused(committer.commit(&prepared), ErrorKind::Corrupt, "was removed from outside");
    std::fs::write(&hidden, &bytes).expect("writes");
    write(directory.path(), "part-0000000001-0000-0000.jsonl", b"another's");
    refused(committer.commit(&prepared), ErrorKind::Config, "exists already");
    for damaged in [&b"{"[..], b"{\"version\":1}", &prepared[0][1..]] {
        refused(committer.commit(&[damaged.to_vec()]), ErrorKind::Corrupt, "committable");
    }
    for (from, to) in [
        ("part-", "../part-"),
        ("\"name\":\"part", "\"name\":\"x"),
        ("n\":1", "n\":9"),
        ("l.p", "l/p"),
        (".jsonl\"", "/jsonl\""),
    ] {
        let text = String::from_utf8(prepared[0].clone()).expect("JSON");
        let changed = text.replacen(from, to, 9);
        assert_ne!(text, changed);
        refused(committer.commit(&[changed.into_bytes()]), ErrorKind::Corrupt, "committable");
    }
    Ok(())
}
