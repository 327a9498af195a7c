//! Malformed records: what the error says, and what each choice does with them.

use thalweg_engine::source::{ReaderContext, Source};
use thalweg_engine::{ErrorKind, Result};

use super::*;
use crate::files::reader::ADVICE;
use crate::files::{self, DeadLetter, FileSource, Format, OnMalformed};
use crate::testing::{Reads, check_resumes_anywhere, read_to_end};

fn read<F: Format>(source: &FileSource<F>) -> (Reads<F::Item, DeadLetter>, Result<()>) {
    let split = &source.splits().expect("one")[0];
    let mut reader = source.reader(split, None, &ReaderContext::default()).expect("opens");
    read_to_end(&mut *reader, 3)
}

/// Reads `text` with all three choices: what the error of failing says after the path, and the
/// dead letters by line, message and content.
fn malformed(text: &str, good: &[u64]) -> (String, Vec<(u64, String, String)>) {
    let directory = temporary();
    write(directory.path(), "rows.csv", text.as_bytes());
    let path = directory.path().join("rows.csv");
    let source = files::csv::<Row>(&path);
    let ids =
        |reads: &Reads<Row, DeadLetter>| reads.records.iter().map(|r| r.id).collect::<Vec<_>>();

    let (reads, result) = read(&source);
    let error = result.expect_err("the default is to fail");
    assert_eq!(error.kind(), ErrorKind::User);
    let before = ids(&reads);
    assert!(good.starts_with(&before), "{before:?} before the error");
    let message = error.to_string();
    let message = message.strip_prefix(&path.display().to_string()).expect("names the file");
    let message = message.strip_suffix(ADVICE).expect("says what to do");

    let skipping = source.clone().on_malformed(OnMalformed::Skip);
    let (skipped, result) = read(&skipping);
    result.expect("skips");
    assert_eq!(ids(&skipped), good);
    let dead = source.on_malformed(OnMalformed::DeadLetter);
    let (reads, result) = read(&dead);
    result.expect("goes on");
    assert_eq!(ids(&reads), good);
    assert_eq!((skipped.skipped, reads.skipped), (reads.dead.len() as u64, 0));
    check_resumes_anywhere(&skipping);
    check_resumes_anywhere(&dead);
    let letters = reads.dead.into_iter().map(|letter| {
        assert_eq!(letter.file, path.display().to_string());
        (letter.line, letter.error, String::from_utf8_lossy(&letter.raw).into_owned())
    });
    (message.to_owned(), letters.collect())
}

#[test]
fn the_error_names_line_and_field() {
    let (message, letters) =
        malformed("id,name,delay\n1,\"a\nb\",\n\n2,b,1x\r\n3,c,4\n4,d,5.5\n", &[1, 3]);
    assert_eq!(message, " line 5: field delay: invalid digit found in string");
    let error = "field delay: invalid digit found in string".to_owned();
    let expected = [(5, error.clone(), "2,b,1x".to_owned()), (7, error, "4,d,5.5".to_owned())];
    assert_eq!(letters, expected);
}

#[test]
fn missing_and_extra_fields_are_malformed() {
    let (message, letters) = malformed("id,name,delay\n1,a\n2,b,3,4\n3,c,\n5\n", &[3]);
    assert_eq!(message, " line 2: 2 fields where the header has 3");
    let lines: Vec<u64> = letters.iter().map(|letter| letter.0).collect();
    assert_eq!(lines, [2, 3, 5]);
    assert_eq!(letters[1].1, "4 fields where the header has 3");
}

#[test]
fn after_a_quote_that_is_never_closed_the_next_line_is_read() {
    let (message, letters) =
        malformed("id,name,delay\n1,a,\n2,\"b,3\n3,c,\n4,\"d\"e,\n5,f,1\n", &[1, 3, 5]);
    assert_eq!(message, " line 3: a quoted field is not closed");
    let expected = [
        (3, "a quoted field is not closed".to_owned(), "2,\"b,3".to_owned()),
        (5, "text after the quoted field 2".to_owned(), "4,\"d\"e,".to_owned()),
    ];
    assert_eq!(letters, expected);
}

#[test]
fn bytes_that_are_no_text_are_malformed() {
    let directory = temporary();
    write(directory.path(), "rows.csv", b"id,name,delay\n1,a\xff,\n2,b,\n");
    let source = files::csv::<Row>(directory.path().join("rows.csv"));
    let (reads, result) = read(&source.clone().on_malformed(OnMalformed::DeadLetter));
    result.expect("goes on");
    assert_eq!((reads.records.len(), reads.dead[0].raw.as_slice()), (1, b"1,a\xff,".as_slice()));
    let message = read(&source).1.expect_err("fails").to_string();
    assert!(message.contains("line 2: field name: invalid utf-8"), "{message}");

    write(directory.path(), "text", b"good\nb\xffd\n");
    let (reads, result) = read(&files::lines(directory.path().join("text")));
    let message = result.expect_err("fails").to_string();
    assert!(message.contains("text line 2: not UTF-8 after 1 bytes; "), "{message}");
    assert_eq!(reads.records, ["good"]);
}

#[test]
fn json_errors_name_line_and_column() {
    let directory = temporary();
    write(directory.path(), "rows", b"{\"id\":1,\"name\":\"a\"}\n{\"id\":}\n{\"id\":2}\n");
    let source = files::json_lines::<Row>(directory.path().join("rows"));
    let message = read(&source).1.expect_err("fails").to_string();
    assert!(message.contains("rows line 2: column 7: expected value; "), "{message}");
    let (reads, result) = read(&source.on_malformed(OnMalformed::DeadLetter));
    result.expect("goes on");
    assert_eq!(reads.dead[1].error, "column 8: missing field `name`");
}

#[test]
fn a_missing_column_fails_whatever_was_chosen() {
    let directory = temporary();
    write(directory.path(), "rows.csv", b"id,title,delay\n1,a,\n");
    for choice in [OnMalformed::Fail, OnMalformed::Skip, OnMalformed::DeadLetter] {
        let source = files::csv::<Row>(directory.path().join("rows.csv")).on_malformed(choice);
        let error = read(&source).1.expect_err("fails");
        assert_eq!(error.kind(), ErrorKind::Config);
        let expected = "missing field `name`: the header has the columns id, title, delay";
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[test]
fn records_beyond_the_limit_are_malformed_and_their_beginning_is_kept() {
    let directory = temporary();
    let long = "x".repeat(2_000_000);
    write(directory.path(), "text", format!("a\n{long}\nb\n{long}").as_bytes());
    let source = files::lines(directory.path().join("text")).on_malformed(OnMalformed::DeadLetter);
    let split = &source.splits().expect("one")[0];
    let mut reader = source.open(split, None).expect("opens");
    reader.limit_records_to(500_000);
    let (reads, result) = read_to_end(&mut reader, 3);
    result.expect("goes on");
    assert_eq!(reads.records, ["a", "b"]);
    let letters: Vec<_> = reads.dead.iter().map(|dead| (dead.line, dead.raw.len())).collect();
    assert_eq!(letters, [(2, 65_536), (4, 65_536)]);

    let quoted = format!("id,name,delay\n1,\"{}\n2,b,3\n", "line\n".repeat(400_000));
    write(directory.path(), "rows.csv", quoted.as_bytes());
    let source =
        files::csv::<Row>(directory.path().join("rows.csv")).on_malformed(OnMalformed::Skip);
    let split = &source.splits().expect("one")[0];
    let mut reader = source.open(split, None).expect("opens");
    reader.limit_records_to(500_000);
    let (reads, result) = read_to_end(&mut reader, 1_000);
    result.expect("goes on");
    assert_eq!((reads.records.len(), reads.skipped), (1, 400_000));
}
