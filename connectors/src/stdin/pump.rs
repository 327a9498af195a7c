//! The thread that reads lines and hands them to the job; it is outside of the job's drivers.
//!
//! A line is handed on as soon as the input has no further whole line ready, so that a person
//! who types sees each line pass; under load lines go in batches.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use thalweg_engine::park::Waker;
use thalweg_engine::{BATCH_RECORDS, Error, Result};

/// Lines, or why there are no more.
pub(super) type Pumped = Result<Vec<String>>;

/// Batches that may wait for the job.
const CHANNEL_BATCHES: usize = 8;
const BUFFER_BYTES: usize = 64 * 1024;
/// A longer line is an error: memory is bounded whatever the input does.
const LINE_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// The waker of whichever reader has the lines now.
#[derive(Clone)]
pub(super) struct SharedWaker(Arc<Mutex<Waker>>);

impl SharedWaker {
    pub(super) fn new(waker: Waker) -> Self {
        SharedWaker(Arc::new(Mutex::new(waker)))
    }

    pub(super) fn replace(&self, waker: Waker) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }

    fn wake(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wake();
    }
}

/// Starts the thread. It ends with its input, or when nobody wants lines any more.
///
/// # Errors
/// `Unavailable` if there can be no further thread.
pub(super) fn start(
    open: Arc<dyn Fn() -> Box<dyn Read + Send> + Send + Sync>,
    waker: SharedWaker,
) -> Result<Receiver<Pumped>> {
    let (sender, receiver) = sync_channel(CHANNEL_BATCHES);
    let pump = move || {
        pump(open(), &sender, &waker);
        drop(sender);
        waker.wake();
    };
    #[expect(clippy::disallowed_methods, reason = "reading may block, so no driver can do it")]
    let started = std::thread::Builder::new().name("thalweg-stdin".to_owned()).spawn(pump);
    match started {
        Ok(_) => Ok(receiver),
        Err(error) => Err(Error::unavailable(format!("no thread for the standard input: {error}"))),
    }
}

fn pump(input: Box<dyn Read + Send>, sender: &SyncSender<Pumped>, waker: &SharedWaker) {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut lines = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        let (failed, ended) = match next_line(&mut input, number) {
            Ok(Some(line)) => {
                lines.push(line);
                (None, false)
            }
            Ok(None) => (None, true),
            Err(error) => (Some(error), true),
        };
        let is_due = ended || lines.len() == BATCH_RECORDS || !input.buffer().contains(&b'\n');
        if is_due && !lines.is_empty() && sender.send(Ok(std::mem::take(&mut lines))).is_err() {
            return;
        }
        if let Some(error) = failed
            && sender.send(Err(error)).is_err()
        {
            return;
        }
        if is_due {
            waker.wake();
        }
        if ended {
            return;
        }
    }
}

fn next_line(input: &mut BufReader<Box<dyn Read + Send>>, number: u64) -> Result<Option<String>> {
    let mut line = Vec::new();
    input
        .take(LINE_LIMIT_BYTES)
        .read_until(b'\n', &mut line)
        .map_err(|error| Error::unavailable(format!("standard input line {number}: {error}")))?;
    if line.is_empty() {
        return Ok(None);
    }
    let has_end = line.pop_if(|byte| *byte == b'\n').is_some();
    if has_end {
        line.pop_if(|byte| *byte == b'\r');
    } else if line.len() as u64 == LINE_LIMIT_BYTES {
        return Err(Error::user(format!("standard input line {number}: longer than 64 MiB")));
    }
    String::from_utf8(line).map(Some).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        Error::user(format!("standard input line {number}: not UTF-8 after {valid} bytes"))
    })
}
