//! Inputs that cannot be read: each gives one clear line, and never a panic or a wrong record.

use thalweg_engine::source::{ReaderContext, Source, SplitReader};
use thalweg_engine::{Error, ErrorKind};

use super::*;
use crate::files::{self, OnMalformed};
use crate::testing::{read_all, read_once, read_to_end};

fn check(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    assert!(!message.contains('\n') && !message.ends_with('.'), "{message}");
    for part in parts {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
}

#[test]
fn a_truncated_file_is_an_error_after_its_complete_records() {
    let mut numbers = Numbers(7);
    let rows = rows(2_000, &mut numbers);
    let text = to_csv(&rows, &mut numbers);
    for (name, bytes) in [("rows.csv.gz", gzip(&text)), ("rows.csv.zst", zstd(&text))] {
        let directory = temporary();
        let path = directory.path().join(name);
        for cut in (0..bytes.len()).step_by(97).chain(bytes.len() - 12..bytes.len()) {
            write(directory.path(), name, &bytes[..cut]);
            let source = files::csv::<Row>(&path).on_malformed(OnMalformed::Skip);
            let split = &source.splits().expect("one")[0];
            let opened = source.reader(split, None, &ReaderContext::default());
            let (reads, result) = read_to_end(&mut *opened.expect("opens lazily"), 100);
            let error = result.expect_err("a file that was cut must not end well");
            check(&error, ErrorKind::Config, &[&path.display().to_string(), "fetch"]);
            assert_eq!(reads.skipped, 0, "cut at {cut}");
            assert_eq!(reads.records, rows[..reads.records.len()], "cut at {cut}");
        }
    }
}

#[test]
fn an_end_inside_a_record_that_is_too_long_leaves_the_position_before_it() {
    let directory = temporary();
    let mut numbers = Numbers(9);
    let mut text = b"a\n".to_vec();
    text.extend((0..2_000_000).map(|_| b'0' + numbers.below(64) as u8));
    let bytes = gzip(&text);
    write(directory.path(), "a.gz", &bytes[..bytes.len() - 1_000]);
    let source = files::lines(directory.path().join("a.gz")).on_malformed(OnMalformed::Skip);
    let split = &source.splits().expect("one")[0];
    let mut reader = source.open(split, None).expect("opens lazily");
    reader.limit_records_to(500_000);
    let (reads, result) = read_to_end(&mut reader, 10);
    check(&result.expect_err("was cut"), ErrorKind::Config, &["ends too early"]);
    assert_eq!((reads.records.as_slice(), reads.skipped), (["a".to_owned()].as_slice(), 0));
    let position = String::from_utf8(reader.position()).expect("JSON");
    assert!(position.contains("\"offset\":2,\"line\":1,"), "{position}");
}

#[test]
fn a_damaged_compressed_file_never_panics_and_mostly_fails() {
    let text = "some text that is compressed\n".repeat(3_000);
    for (name, bytes) in [("a.gz", gzip(text.as_bytes())), ("a.zst", zstd(text.as_bytes()))] {
        let directory = temporary();
        let mut failed = 0;
        let flips: Vec<usize> = (4..bytes.len()).collect();
        for &flip in &flips {
            let mut bytes = bytes.clone();
            bytes[flip] ^= 0x55;
            write(directory.path(), name, &bytes);
            failed += usize::from(read_all(&files::lines(directory.path().join(name))).is_err());
        }
        assert!(
            failed * 10 > flips.len() * 9,
            "{failed} of {} damages of {name} found",
            flips.len()
        );
    }
}

#[test]
fn missing_inputs_say_so_before_the_job_runs() {
    let directory = temporary();
    let missing = directory.path().join("none.csv");
    let error = files::csv::<Row>(&missing).splits().expect_err("does not exist");
    check(&error, ErrorKind::Config, &["none.csv does not exist", "check the path"]);
    write(directory.path(), ".hidden", b"x");
    let error = files::lines(directory.path()).splits_by_file().splits().expect_err("no files");
    check(&error, ErrorKind::Config, &["has no files", "put the input there"]);
    let error = files::lines(directory.path()).splits().expect_err("no files");
    check(&error, ErrorKind::Config, &["has no files"]);
    write(directory.path(), "rows.csv", b"id,\"name\n1,2\n");
    let error =
        read_all(&files::csv::<Row>(directory.path().join("rows.csv"))).expect_err("header");
    check(&error, ErrorKind::Config, &["rows.csv line 1", "does not end"]);
    std::os::unix::fs::symlink("nowhere", directory.path().join("zlink")).expect("links");
    let error = read_all(&files::lines(directory.path())).expect_err("a dangling link");
    check(&error, ErrorKind::Config, &["zlink does not exist"]);
}

#[test]
fn a_file_that_was_changed_under_a_checkpoint_is_refused() {
    let text = "abcdefghi\n".repeat(1_000);
    let shorter = text[..5_000].to_owned();
    let other = format!("X{}", &text[1..]);
    for compress in [|bytes: &[u8]| bytes.to_vec(), gzip, zstd] {
        let directory = temporary();
        let path = directory.path().join("data");
        write(directory.path(), "data", &compress(text.as_bytes()));
        let source = files::lines(&path);
        let split = source.splits().expect("one").remove(0);
        let context = ReaderContext::default();
        let mut reader = source.reader(&split, None, &context).expect("opens");
        assert_eq!(read_once(&mut *reader, 900, 0).expect("reads").records.len(), 900);
        let position = reader.position();
        let error_after = |bytes: Option<&[u8]>| {
            match bytes {
                Some(bytes) => write(directory.path(), "data", bytes),
                None => std::fs::remove_file(&path).expect("was there"),
            }
            let mut reader = source.reader(&split, Some(&position), &context).expect("lazily");
            read_to_end(&mut *reader, 10).1.expect_err("must be refused")
        };
        let parts =
            ["is not the file that the checkpoint was taken of", "put the former file back"];
        let bytes = compress(shorter.as_bytes());
        let is_stored_shorter = bytes.len() < compress(text.as_bytes()).len();
        let how = if is_stored_shorter { "it had " } else { "it ends after 5000 bytes" };
        check(&error_after(Some(&bytes)), ErrorKind::Corrupt, &[parts[0], parts[1], how]);
        check(&error_after(Some(&compress(other.as_bytes()))), ErrorKind::Corrupt, &parts);
        // Longer as stored and with the same beginning, but shorter as decompressed.
        let mut numbers = Numbers(3);
        let mut noise = text.as_bytes()[..6_000].to_vec();
        noise.extend((0..2_000).map(|_| numbers.below(250) as u8));
        let shorter = compress(&noise);
        if shorter.len() > compress(text.as_bytes()).len() {
            check(&error_after(Some(&shorter)), ErrorKind::Corrupt, &["it ends after 8000 bytes"]);
        }
        check(&error_after(None), ErrorKind::Config, &["does not exist"]);
    }
}

#[test]
fn a_file_gone_from_a_directory_is_named() {
    let directory = temporary();
    write(directory.path(), "a", b"1\n2\n");
    write(directory.path(), "b", b"3\n");
    let source = files::lines(directory.path());
    let split = source.splits().expect("one").remove(0);
    let context = ReaderContext::default();
    let mut reader = source.reader(&split, None, &context).expect("opens");
    read_once(&mut *reader, 1, 0).expect("reads");
    let position = reader.position();
    std::fs::remove_file(directory.path().join("a")).expect("was there");
    let mut reader = source.reader(&split, Some(&position), &context).expect("lazily");
    let error = read_once(&mut *reader, 1, 0).expect_err("a is gone");
    check(&error, ErrorKind::Config, &["the file a of", "put it back"]);
}

#[test]
fn positions_that_are_none_are_corrupt() {
    let directory = temporary();
    write(directory.path(), "a", b"1\n2\n");
    let source = files::lines(directory.path());
    let split = source.splits().expect("one").remove(0);
    let context = ReaderContext::default();
    let position = source.reader(&split, None, &context).expect("opens").position();
    for cut in 0..position.len() {
        let refused = source.reader(&split, Some(&position[..cut]), &context);
        check(&refused.err().expect("cut"), ErrorKind::Corrupt, &["split `all files`"]);
    }
    let newer =
        String::from_utf8(position).expect("JSON").replace("\"version\":1", "\"version\":2");
    let refused = source.reader(&split, Some(newer.as_bytes()), &context);
    check(&refused.err().expect("newer"), ErrorKind::Corrupt, &["has version 2"]);
}
