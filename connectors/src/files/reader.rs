//! The reader of one split: goes through its files in order, record by record.
//!
//! # Phases
//! Unopened (nothing was touched yet) → Skipping (towards the restored offset, a piece per read)
//! → Reading → Between two files → … → Ended; or Failed, for good.
//!
//! # Invariants
//! * I1: the position is that of the last record that was returned or passed over, never inside
//!   or behind a record that was not.
//! * I2: an error is returned by a read that returns no records, so none are lost by it; a file is
//!   not touched after an error (decoders then report its end).

use std::sync::Arc;

use thalweg_engine::source::{ReadInto, ReadStatus, SplitReader};
use thalweg_engine::{Error, Result};

use super::format::{FirstRecord, Format, Malformed};
use super::input::{Frame, Framed, Input, RECORD_LIMIT_BYTES};
use super::list::{DataFile, FileSet};
use super::malformed::{DeadLetter, OnMalformed};
use super::position::{Identity, InFile, Position};

/// How much of a file is skipped by one read, when a restart continues inside it.
const SKIP_BYTES_PER_READ: u64 = 16 * 1024 * 1024;

/// What to do about malformed records where they fail the job.
pub(super) const ADVICE: &str = "; mend the file, or let such records be skipped (`on_malformed`)";

/// What a reader is opened for.
pub(super) struct ReaderOptions<F> {
    pub(super) format: Arc<F>,
    pub(super) files: FileSet,
    /// The only file of the split, or all of them.
    pub(super) only: Option<String>,
    pub(super) on_malformed: OnMalformed,
}

pub(super) struct FileReader<F: Format> {
    options: ReaderOptions<F>,
    phase: Phase<F::Scratch>,
    /// Where the reader stands while no file is being read.
    at: Option<InFile>,
    /// The files of the split, from the first open on, with the next one last.
    coming: Vec<DataFile>,
    record_limit: usize,
}

enum Phase<S> {
    Unopened,
    Skipping {
        open: OpenFile<S>,
        target: InFile,
    },
    Reading(OpenFile<S>),
    Between,
    /// The error is returned by the next read.
    Failed(Option<Error>),
    Ended,
}

struct OpenFile<S> {
    input: Input,
    identity: Identity,
    scratch: S,
}

impl<S> OpenFile<S> {
    fn position(&self) -> InFile {
        InFile {
            file: self.input.file().name.clone(),
            offset: self.input.offset(),
            line: self.input.line(),
            identity: self.identity,
        }
    }

    /// An error at the record that begins here.
    fn error(&self, message: &str) -> String {
        format!("{}: {message}", self.place())
    }

    /// Where the next record begins.
    fn place(&self) -> String {
        format!("{} line {}", self.shown(), self.input.line() + 1)
    }

    fn shown(&self) -> String {
        self.input.file().path.display().to_string()
    }
}

/// What became of the records of a file that were looked at.
enum Progress {
    /// As many as were asked for.
    Full,
    FileEnded,
}

impl<F: Format> FileReader<F> {
    pub(super) fn new(options: ReaderOptions<F>, at: Option<InFile>) -> Self {
        let record_limit = RECORD_LIMIT_BYTES;
        FileReader { options, phase: Phase::Unopened, at, coming: Vec::new(), record_limit }
    }

    #[cfg(test)]
    pub(super) fn limit_records_to(&mut self, bytes: usize) {
        self.record_limit = bytes;
    }

    /// Lists the files that are still to be read, and goes on in the one that was being read.
    fn start(&mut self) -> Result<()> {
        let mut files = self.options.files.list()?;
        if let Some(only) = &self.options.only {
            files.retain(|file| file.name == *only);
            if files.is_empty() {
                return Err(self.gone(only));
            }
        }
        files.reverse();
        self.coming = files;
        let Some(at) = &self.at else {
            self.phase = Phase::Between;
            return Ok(());
        };
        let file = self
            .coming
            .iter()
            .position(|file| file.name == at.file)
            .ok_or_else(|| self.gone(&at.file))?;
        let target = at.clone();
        self.coming.truncate(file + 1);
        self.phase = match self.coming.pop() {
            Some(file) => {
                let open = self.open(file, Some(&target.identity))?;
                Phase::Skipping { open, target }
            }
            None => Phase::Between,
        };
        Ok(())
    }

    fn gone(&self, file: &str) -> Error {
        Error::config(format!(
            "the file {file} of {} was to be read and is gone: put it back, or start without \
             the checkpoint",
            self.options.files.path.display()
        ))
    }

    /// Opens `file` and reads what stands before its first record.
    fn open(&self, file: DataFile, expected: Option<&Identity>) -> Result<OpenFile<F::Scratch>> {
        let (input, identity) = Input::open(file, self.record_limit, expected)?;
        let mut open = OpenFile { input, identity, scratch: F::Scratch::default() };
        let format = &*self.options.format;
        loop {
            let frame = match open.input.look(format.framing())? {
                Framed::End => return Ok(open),
                Framed::Record(frame) => frame,
                Framed::Unclosed(_) | Framed::TooLong => {
                    let message = "the first record does not end; is this the right format?";
                    return Err(Error::config(open.error(message)));
                }
            };
            match format.first(open.input.content(&frame), &mut open.scratch) {
                Ok(FirstRecord::Record) => return Ok(open),
                Ok(FirstRecord::Header) => {
                    open.input.consume(&frame);
                    return Ok(open);
                }
                Ok(FirstRecord::Blank) => open.input.consume(&frame),
                Err(message) => return Err(Error::config(open.error(&message))),
            }
        }
    }

    /// Goes on to the next file; without one the split has ended.
    fn next_file(&mut self) -> Result<()> {
        self.phase = match self.coming.last() {
            None => Phase::Ended,
            Some(file) => {
                let open = self.open(file.clone(), None)?;
                self.coming.pop();
                Phase::Reading(open)
            }
        };
        Ok(())
    }
}

/// Reads up to `max` records of `open`.
fn read_records<F: Format>(
    open: &mut OpenFile<F::Scratch>,
    options: &ReaderOptions<F>,
    out: &mut ReadInto<'_, F::Item, DeadLetter>,
    max: usize,
) -> Result<Progress> {
    let (format, framing) = (&*options.format, options.format.framing());
    for _ in 0..max {
        let (frame, message) = match open.input.look(framing)? {
            Framed::End => return Ok(Progress::FileEnded),
            Framed::Record(frame) => {
                match format.decode(open.input.content(&frame), &mut open.scratch) {
                    Ok(record) => {
                        out.records.values.extend(record);
                        open.input.consume(&frame);
                        continue;
                    }
                    Err(Malformed::Record(message)) => (Some(frame), message),
                    Err(Malformed::File(message)) => {
                        return Err(Error::config(format!("{}: {message}", open.shown())));
                    }
                }
            }
            Framed::Unclosed(frame) => (Some(frame), "a quoted field is not closed".to_owned()),
            Framed::TooLong => (None, "the record is longer than 64 MiB".to_owned()),
        };
        pass_over(open, options.on_malformed, out, frame, message)?;
    }
    Ok(Progress::Full)
}

/// Does what the user chose for malformed records with the one that begins here.
fn pass_over<T, S>(
    open: &mut OpenFile<S>,
    on_malformed: OnMalformed,
    out: &mut ReadInto<'_, T, DeadLetter>,
    frame: Option<Frame>,
    message: String,
) -> Result<()> {
    if on_malformed == OnMalformed::Fail {
        // Read again it would be the same.
        return Err(Error::user(open.error(&format!("{message}{ADVICE}"))).fatal());
    }
    let line = open.input.line() + 1;
    let raw = match frame {
        Some(frame) => {
            let raw = open.input.content(&frame).to_vec();
            open.input.consume(&frame);
            raw
        }
        None => open.input.consume_too_long()?,
    };
    match on_malformed {
        OnMalformed::DeadLetter => {
            out.dead.values.push(DeadLetter { file: open.shown(), line, error: message, raw });
        }
        OnMalformed::Skip | OnMalformed::Fail => *out.skipped += 1,
    }
    Ok(())
}

impl<F: Format> SplitReader<F::Item, DeadLetter> for FileReader<F> {
    fn read(
        &mut self,
        out: &mut ReadInto<'_, F::Item, DeadLetter>,
        max: usize,
    ) -> Result<ReadStatus> {
        let before = (out.records.len(), out.dead.len(), *out.skipped);
        loop {
            let has_read = before != (out.records.len(), out.dead.len(), *out.skipped);
            match &mut self.phase {
                Phase::Unopened => self.start()?,
                Phase::Skipping { open, target } => {
                    if !open.input.skip_to(target.offset, target.line, SKIP_BYTES_PER_READ)? {
                        return Ok(ReadStatus::More);
                    }
                    let Phase::Skipping { open, .. } =
                        std::mem::replace(&mut self.phase, Phase::Between)
                    else {
                        return Err(Error::bug("a file reader changed its phase by itself"));
                    };
                    self.phase = Phase::Reading(open);
                }
                Phase::Reading(open) => {
                    let result = read_records(open, &self.options, out, max);
                    let has_read = before != (out.records.len(), out.dead.len(), *out.skipped);
                    match result {
                        Ok(Progress::Full) => return Ok(ReadStatus::More),
                        Ok(Progress::FileEnded) => {
                            self.at = Some(open.position());
                            self.phase = Phase::Between;
                        }
                        Err(error) => {
                            self.at = Some(open.position());
                            self.phase = Phase::Failed(Some(error));
                            if has_read {
                                return Ok(ReadStatus::More);
                            }
                        }
                    }
                }
                Phase::Between if has_read && !self.coming.is_empty() => {
                    return Ok(ReadStatus::More);
                }
                Phase::Between => self.next_file()?,
                Phase::Failed(error) => {
                    let bug = || Error::bug("a file was read on after an error");
                    return Err(error.take().unwrap_or_else(bug));
                }
                Phase::Ended => return Ok(ReadStatus::End),
            }
        }
    }

    fn position(&self) -> Vec<u8> {
        let at = match &self.phase {
            Phase::Reading(open) => Some(open.position()),
            _ => self.at.clone(),
        };
        Position::new(at).encode()
    }

    fn whereabouts(&self) -> Option<String> {
        match &self.phase {
            Phase::Reading(open) => Some(open.place()),
            Phase::Unopened | Phase::Skipping { .. } => {
                let at = self.at.as_ref()?;
                Some(format!("{} line {}", at.file, at.line + 1))
            }
            Phase::Between | Phase::Failed(_) | Phase::Ended => None,
        }
    }
}
