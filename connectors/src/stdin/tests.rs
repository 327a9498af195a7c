//! Lines arrive in order and once; bad input is an error; nothing is read twice.

use std::io::{self, Cursor};
use std::sync::mpsc;

use thalweg_engine::ErrorKind;

use super::*;
use crate::testing::read_once;

fn input(bytes: &'static [u8]) -> Stdin {
    from_input(move || Box::new(Cursor::new(bytes)))
}

fn open(source: &Stdin, position: Option<u64>) -> Result<Box<dyn SplitReader<String, ()>>> {
    let position = position.map(u64::to_le_bytes);
    let position = position.as_ref().map(<[u8; 8]>::as_slice);
    source.reader(&Split::new("stdin"), position, &ReaderContext::default())
}

/// Reads until the end; where nothing is there yet, lets the thread run.
fn read(reader: &mut dyn SplitReader<String, ()>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let reads = read_once(reader, 2, 0)?;
        lines.extend(reads.records);
        match reads.status {
            ReadStatus::End => return Ok(lines),
            ReadStatus::Pending { .. } => std::thread::yield_now(),
            ReadStatus::More => {}
        }
    }
}

#[test]
fn lines_come_without_their_ends() -> Result<()> {
    let mut reader = open(&input(b"one\r\n\ntwo\nthree"), None)?;
    assert_eq!(read(&mut *reader)?, ["one", "", "two", "three"]);
    assert_eq!(reader.position(), 4u64.to_le_bytes());
    assert!(read(&mut *open(&input(b""), None)?)?.is_empty());
    Ok(())
}

#[test]
fn many_lines_pass_the_bounded_channel() -> Result<()> {
    let text: &'static [u8] =
        (0..30_000).map(|i| format!("{i}\n")).collect::<String>().leak().as_bytes();
    let lines = read(&mut *open(&input(text), None)?)?;
    assert_eq!(lines.len(), 30_000);
    assert!(lines.iter().enumerate().all(|(i, line)| *line == i.to_string()));
    Ok(())
}

#[test]
fn bytes_that_are_no_text_are_an_error_with_a_line_after_the_lines_before() -> Result<()> {
    let mut reader = open(&input(b"good\nb\xffd\nmore\n"), None)?;
    let mut lines = Vec::new();
    let error = loop {
        match read_once(&mut *reader, 1, 0) {
            Ok(reads) => lines.extend(reads.records),
            Err(error) => break error,
        }
    };
    assert_eq!(lines, ["good"]);
    assert_eq!(error.kind(), ErrorKind::User);
    assert_eq!(error.to_string(), "standard input line 2: not UTF-8 after 1 bytes");
    Ok(())
}

#[test]
fn it_cannot_be_restored_nor_read_again_once_lines_were_delivered() -> Result<()> {
    let source = input(b"a\nb\n");
    let refused = |result: Result<Box<dyn SplitReader<String, ()>>>| {
        let error = result.err().expect("must be refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("cannot be read again"), "{error}");
    };
    refused(open(&source, Some(3)));
    let attempt = open(&source, Some(0))?;
    assert!(open(&source, None).is_err(), "two readers at once");
    drop(attempt);
    let mut reader = open(&source, None)?;
    assert_eq!(read(&mut *reader)?, ["a", "b"]);
    drop(reader);
    refused(open(&source, None));
    Ok(())
}

/// An input that gives one line and then blocks until the test lets it end.
struct Typing(Option<&'static [u8]>, mpsc::Receiver<()>);

impl io::Read for Typing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.take() {
            Some(line) => io::Read::read(&mut &*line, buffer),
            None => {
                // The other end is dropped: the input has ended.
                let _ = self.1.recv();
                Ok(0)
            }
        }
    }
}

#[test]
fn a_line_is_delivered_before_the_next_one_is_typed() -> Result<()> {
    let (end, ended) = mpsc::channel();
    let typing = Mutex::new(Some(Typing(Some(b"hello\n"), ended)));
    let source = from_input(move || {
        let typing = typing.lock().expect("no other holder").take();
        Box::new(typing.expect("opened once"))
    });
    let mut reader = open(&source, None)?;
    loop {
        let reads = read_once(&mut *reader, 10, 0)?;
        assert_ne!(reads.status, ReadStatus::End);
        if reads.records == ["hello"] {
            break;
        }
        std::thread::yield_now();
    }
    drop(end);
    assert!(read(&mut *reader)?.is_empty());
    Ok(())
}
