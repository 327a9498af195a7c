//! A file as a window over its decompressed bytes, cut into records.
//!
//! # Invariants
//! * I1: `offset` and `line` always describe the first byte of the window: what was consumed and
//!   nothing else.
//! * I2: looking at a record does not consume it; a failed look changes neither.
//! * I3: the window never grows beyond the record limit and one read.

use std::io::{self, Read};

use thalweg_engine::{Error, Result};

use super::decompress::Stream;
use super::format::Framing;
use super::list::DataFile;
use super::position::{HEAD_BYTES, Identity};
use super::quotes::QuoteScan;

/// A longer record is malformed.
pub(super) const RECORD_LIMIT_BYTES: usize = 64 * 1024 * 1024;
/// The window as long as records are short.
const WINDOW_BYTES: usize = 256 * 1024;
/// What is kept of a record that is too long.
const TOO_LONG_KEPT_BYTES: usize = 64 * 1024;
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// An open file.
pub(super) struct Input {
    file: DataFile,
    stream: Stream,
    window: Vec<u8>,
    start: usize,
    end: usize,
    /// The stream has no more bytes.
    is_ended: bool,
    offset: u64,
    line: u64,
    record_limit: usize,
}

/// A record in the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    /// Its bytes, without the line end.
    content: usize,
    /// Its bytes with the line end.
    len: usize,
    /// The lines it spans.
    lines: u64,
}

/// What begins at the window's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framed {
    Record(Frame),
    /// A line with a quoted field that is closed nowhere, or out of place on a later line.
    Unclosed(Frame),
    /// A record longer than the limit.
    TooLong,
    /// Nothing: the file has ended.
    End,
}

impl Input {
    /// Opens `file` at its beginning, after a byte order mark; says what identifies it.
    ///
    /// # Errors
    /// `Corrupt` if it is not the file `expected`, otherwise what [`Stream::open`] says.
    pub(super) fn open(
        file: DataFile,
        record_limit: usize,
        expected: Option<&Identity>,
    ) -> Result<(Self, Identity)> {
        let stream = Stream::open(&file)?;
        let stored_bytes = stream.stored_bytes;
        let window = vec![0; WINDOW_BYTES];
        let mut input = Input {
            file,
            stream,
            window,
            start: 0,
            end: 0,
            is_ended: false,
            offset: 0,
            line: 0,
            record_limit,
        };
        while input.end < HEAD_BYTES && input.fill()? {}
        if let Some(expected) = expected {
            expected.check(&input.file, stored_bytes, input.rest())?;
        }
        let identity = Identity::new(stored_bytes, input.rest());
        if input.rest().starts_with(&BYTE_ORDER_MARK) {
            input.take(BYTE_ORDER_MARK.len());
        }
        Ok((input, identity))
    }

    pub(super) fn file(&self) -> &DataFile {
        &self.file
    }

    /// The offset of the next record in the decompressed file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The lines before the next record.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The content of a record that [`look`](Input::look) found.
    #[inline]
    pub(super) fn content(&self, frame: &Frame) -> &[u8] {
        &self.window[self.start..self.start + frame.content]
    }

    /// Goes on after a record that [`look`](Input::look) found.
    #[inline]
    pub(super) fn consume(&mut self, frame: &Frame) {
        self.take(frame.len);
        self.line += frame.lines;
    }

    /// Finds the record at the window's start.
    #[inline]
    pub(super) fn look(&mut self, framing: Framing) -> Result<Framed> {
        let Some(line) = self.line_end()? else {
            return Ok(match self.rest().len() {
                0 => Framed::End,
                _ => Framed::TooLong,
            });
        };
        match framing {
            Framing::Lines => Ok(Framed::Record(self.frame(line, 1))),
            Framing::Quoted { .. } if memchr::memchr(b'"', &self.rest()[..line]).is_none() => {
                Ok(Framed::Record(self.frame(line, 1)))
            }
            Framing::Quoted { delimiter } => self.look_quoted(delimiter, line),
        }
    }

    /// The length of the line at the window's start, its end included; the rest of the file is a
    /// line. None if there are no bytes, or too many.
    #[inline]
    fn line_end(&mut self) -> Result<Option<usize>> {
        let mut searched = 0;
        loop {
            if let Some(i) = memchr::memchr(b'\n', &self.rest()[searched..]) {
                return Ok(Some(searched + i + 1));
            }
            searched = self.rest().len();
            if searched > self.record_limit {
                return Ok(None);
            }
            if !self.fill()? {
                return Ok((searched > 0).then_some(searched));
            }
        }
    }

    /// A record that has quotes and whose first line is `line` bytes long.
    fn look_quoted(&mut self, delimiter: u8, line: usize) -> Result<Framed> {
        let mut scan = QuoteScan::new(delimiter);
        loop {
            if let Some(end) = scan.record_end(self.rest()) {
                if scan.has_text_after_quote && scan.lines > 1 {
                    break;
                }
                return Ok(Framed::Record(self.frame(end, scan.lines)));
            }
            if self.rest().len() > self.record_limit {
                break;
            }
            if !self.fill()? {
                if scan.is_open() {
                    break;
                }
                return Ok(Framed::Record(self.frame(self.rest().len(), scan.lines + 1)));
            }
        }
        Ok(Framed::Unclosed(self.frame(line, 1)))
    }

    fn frame(&self, len: usize, lines: u64) -> Frame {
        let bytes = &self.rest()[..len];
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Frame { content: bytes.len(), len, lines }
    }

    /// Goes on to the next line and returns the beginning of this one, which is too long.
    pub(super) fn consume_too_long(&mut self) -> Result<Vec<u8>> {
        let kept = self.rest().len().min(TOO_LONG_KEPT_BYTES);
        let kept = self.rest()[..kept].to_vec();
        let begin = self.offset;
        loop {
            let end = memchr::memchr(b'\n', self.rest());
            self.take(end.map_or(self.rest().len(), |i| i + 1));
            if end.is_some() {
                break;
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    // The window is of no use after an error, but the position is (I1).
                    self.offset = begin;
                    return Err(error);
                }
            }
        }
        self.line += 1;
        Ok(kept)
    }

    /// Goes on towards `offset`, reading no more than `budget` bytes: true when it is reached.
    ///
    /// # Errors
    /// `Corrupt` if the file ends before.
    pub(super) fn skip_to(&mut self, offset: u64, line: u64, budget: u64) -> Result<bool> {
        let stop = self.offset.saturating_add(budget);
        while self.offset < offset {
            let left = offset - self.offset;
            let buffered = self.rest().len();
            if buffered > 0 {
                self.take(usize::try_from(left).map_or(buffered, |left| left.min(buffered)));
            } else if self.offset >= stop {
                return Ok(false);
            } else if !self.is_ended && self.seek_on(left, offset)? {
                self.offset = offset;
            } else if !self.fill()? {
                return Err(self.too_short(offset));
            }
        }
        self.line = line;
        Ok(true)
    }

    fn seek_on(&mut self, bytes: u64, target: u64) -> Result<bool> {
        if target > self.stream.stored_bytes {
            return Ok(false);
        }
        let sought = self.stream.seek_on(bytes);
        sought.map_err(|error| self.stream.explain(&self.file, self.offset, &error))
    }

    fn too_short(&self, offset: u64) -> Error {
        Error::corrupt(format!(
            "input {} is not the file that the checkpoint was taken of: it ends after {} bytes \
             and {offset} were read; put the former file back, or start without the checkpoint",
            self.file.path.display(),
            self.offset
        ))
    }

    #[inline]
    fn rest(&self) -> &[u8] {
        &self.window[self.start..self.end]
    }

    #[inline]
    fn take(&mut self, bytes: usize) {
        self.start += bytes;
        self.offset += bytes as u64;
    }

    /// Reads more bytes into the window: false if there are none.
    fn fill(&mut self) -> Result<bool> {
        if self.is_ended {
            return Ok(false);
        }
        self.make_room();
        loop {
            match self.stream.read(&mut self.window[self.end..]) {
                Ok(0) => {
                    self.is_ended = true;
                    return Ok(false);
                }
                Ok(bytes) => {
                    self.end += bytes;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let reached = self.offset + self.rest().len() as u64;
                    return Err(self.stream.explain(&self.file, reached, &error));
                }
            }
        }
    }

    /// Moves the window's bytes to the front; a full window grows, an empty large one shrinks.
    fn make_room(&mut self) {
        self.window.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == 0 && self.window.len() > WINDOW_BYTES {
            self.window.truncate(WINDOW_BYTES);
            self.window.shrink_to_fit();
        } else if self.end == self.window.len() {
            let grown = (self.window.len() * 2).min(self.record_limit + WINDOW_BYTES);
            self.window.resize(grown.max(self.end + 1), 0);
        }
    }
}
