//! What is read: formats, compressions, directories; and that a reader resumes anywhere.

use thalweg_engine::source::{ReadStatus, ReaderContext, Source};

use super::*;
use crate::files::{self, FileSource};
use crate::testing::{check_resumes_anywhere, read_all, read_once};

#[test]
fn csv_reads_what_another_implementation_wrote_and_resumes_after_every_record() {
    for seed in 0..12 {
        let directory = temporary();
        let mut numbers = Numbers(seed);
        let rows = rows(25, &mut numbers);
        let text = to_csv(&rows, &mut numbers);
        let (first, second) = text.split_at(text.len() / 2);
        write(directory.path(), "plain", &text);
        write(directory.path(), "gzip", &gzip(&text));
        write(directory.path(), "members", &[gzip(first), gzip(b""), gzip(second)].concat());
        write(directory.path(), "zstd", &zstd(&text));
        write(directory.path(), "frames", &[zstd(first), zstd(second)].concat());
        for name in ["plain", "gzip", "members", "zstd", "frames"] {
            let source = files::csv::<Row>(directory.path().join(name));
            assert_eq!(read_all(&source).expect(name), rows, "{name}, seed {seed}");
            check_resumes_anywhere(&source);
        }
    }
}

#[test]
fn rows_longer_than_the_window_are_read_whole() {
    let directory = temporary();
    let row = |id, length: usize| Row { id, name: "x,\n".repeat(length), delay: None };
    let rows = [row(0, 1), row(1, 400_000), row(2, 2), row(3, 100_000), row(4, 0)];
    write(directory.path(), "wide.csv", &to_csv(&rows, &mut Numbers(1)));
    let source = files::csv::<Row>(directory.path().join("wide.csv"));
    assert!(read_all(&source).expect("reads") == rows);
    check_resumes_anywhere(&source);
    let name = "y".repeat(1_000_000);
    write(directory.path(), "long.txt", format!("a\n{name}\nb").as_bytes());
    let lines = read_all(&files::lines(directory.path().join("long.txt"))).expect("reads");
    assert_eq!((lines.len(), lines[1].len()), (3, 1_000_000));
}

#[test]
fn lines_and_json_lines_and_csv_dialects() {
    let directory = temporary();
    let path = |name: &str| directory.path().join(name);
    write(directory.path(), "text", "\u{feff}one\r\n\ntwo\n three".as_bytes());
    let lines = files::lines(path("text"));
    assert_eq!(read_all(&lines).expect("reads"), ["one", "", "two", " three"]);
    check_resumes_anywhere(&lines);

    write(
        directory.path(),
        "rows",
        b"{\"id\":1,\"name\":\"a\",\"delay\":-5}\n \n{\"id\":2,\"name\":\"\"}\n",
    );
    let json = files::json_lines::<Row>(path("rows"));
    let expected = [
        Row { id: 1, name: "a".into(), delay: Some(-5) },
        Row { id: 2, name: "".into(), delay: None },
    ];
    assert_eq!(read_all(&json).expect("reads"), expected);
    check_resumes_anywhere(&json);

    write(directory.path(), "semicolons", b"1;a;-5\n2;\"\";\n");
    let csv = files::csv::<Row>(path("semicolons")).delimited_by(b';').without_header();
    assert_eq!(read_all(&csv).expect("reads"), expected);
    check_resumes_anywhere(&csv);

    write(
        directory.path(),
        "columns",
        "\u{feff}\r\ndelay,id,more,name\r\n-5,1,x,a\r\n,2,,\r\n".as_bytes(),
    );
    assert_eq!(read_all(&files::csv::<Row>(path("columns"))).expect("by name"), expected);

    for empty in ["", "\n", "id,name,delay\n"] {
        write(directory.path(), "empty", empty.as_bytes());
        let source = files::csv::<Row>(path("empty"));
        assert!(read_all(&source).expect("no records").is_empty());
        check_resumes_anywhere(&source);
    }
}

/// A directory of three files of lines, a hidden one, and a directory.
fn directory_of_lines() -> tempfile::TempDir {
    let directory = temporary();
    write(directory.path(), "b.txt", b"b1\nb2\n");
    write(directory.path(), "a.txt.gz", &gzip(b"a1\na2"));
    write(directory.path(), "c.txt", b"");
    write(directory.path(), "d.txt", b"d1\n");
    write(directory.path(), ".hidden", b"no\n");
    std::fs::create_dir(directory.path().join("inside")).expect("creates");
    directory
}

#[test]
fn a_directory_is_one_split_in_the_order_of_names_or_one_for_each_file() {
    let directory = directory_of_lines();
    let all = files::lines(directory.path());
    assert_eq!(all.splits().expect("one").len(), 1);
    assert_eq!(read_all(&all).expect("reads"), ["a1", "a2", "b1", "b2", "d1"]);
    check_resumes_anywhere(&all);
    let each = files::lines(directory.path()).splits_by_file();
    let splits = each.splits().expect("four");
    let names: Vec<&str> = splits.iter().map(|split| split.id.as_str()).collect();
    assert_eq!(names, ["a.txt.gz", "b.txt", "c.txt", "d.txt"]);
    assert_eq!(read_all(&each).expect("reads"), ["a1", "a2", "b1", "b2", "d1"]);
    check_resumes_anywhere(&each);
}

#[test]
fn a_moved_directory_and_a_file_that_has_grown_are_read_on() {
    let directory = temporary();
    let (before, after) = (directory.path().join("before"), directory.path().join("after"));
    std::fs::create_dir(&before).expect("creates");
    write(&before, "a", b"a1\na2\n");
    let context = ReaderContext::default();
    let open = |source: &FileSource<files::Lines>, position: Option<&[u8]>| {
        let split = &source.splits().expect("one")[0];
        source.reader(split, position, &context).expect("opens")
    };
    let mut reader = open(&files::lines(&before), None);
    assert_eq!(read_once(&mut *reader, 1, 0).expect("reads").records, ["a1"]);
    let position = reader.position();
    std::fs::rename(&before, &after).expect("moves");
    write(&after, "a", b"a1\na2\na3\n");
    let mut reader = open(&files::lines(&after), Some(&position));
    let reads = read_once(&mut *reader, 5, 0).expect("reads");
    assert_eq!((reads.records, reads.status), (vec!["a2".into(), "a3".into()], ReadStatus::End));
}

#[test]
fn a_long_way_to_the_restored_offset_is_skipped_in_pieces() {
    let directory = temporary();
    let text = format!("{}\n", "z".repeat(99)).repeat(400_000);
    write(directory.path(), "long.gz", &gzip(format!("{text}last\n").as_bytes()));
    let source = files::lines(directory.path().join("long.gz"));
    let split = &source.splits().expect("one")[0];
    let context = ReaderContext::default();
    let mut reader = source.reader(split, None, &context).expect("opens");
    let mut read = 0;
    while read < 400_000 {
        read += read_once(&mut *reader, 400_000 - read, 0).expect("reads").records.len();
    }
    let position = reader.position();
    let mut reader = source.reader(split, Some(&position), &context).expect("opens");
    let mut pieces = 0;
    let reads = loop {
        let reads = read_once(&mut *reader, 5, 0).expect("reads");
        assert_eq!(reader.position() == position, reads.records.is_empty());
        if !reads.records.is_empty() {
            break reads;
        }
        pieces += 1;
    };
    assert_eq!((reads.records, pieces), (vec!["last".to_owned()], 2));
}
