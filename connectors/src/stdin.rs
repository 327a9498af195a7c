//! The lines of the standard input, as a source that cannot be read twice.
//!
//! A thread reads the input and hands batches of lines to the job through a bounded channel. The
//! standard input cannot be wound back: a job that reads it can be checkpointed, but once a line
//! was delivered it can neither be restored nor restarted; both are refused with an error that
//! says so.

mod pump;

use std::fmt;
use std::io::Read;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thalweg_engine::source::{ReadInto, ReadStatus, ReaderContext, Source, Split, SplitReader};
use thalweg_engine::{Error, Result};

use crate::rate::{RateLimited, limit_source};
use crate::strided::read_u64;
use pump::{Pumped, SharedWaker};

/// The lines of the standard input, without their line ends, in one split.
///
/// ```
/// let words = thalweg_connectors::stdin::lines();
/// # drop(words);
/// ```
pub fn lines() -> Stdin {
    from_input(|| Box::new(std::io::stdin()))
}

fn from_input(open: impl Fn() -> Box<dyn Read + Send> + Send + Sync + 'static) -> Stdin {
    Stdin { shared: Arc::default(), open: Arc::new(open) }
}

/// A source of the lines of the standard input; see [`lines`].
///
/// The position is the number of lines read, 64 bits, little-endian.
#[derive(Clone)]
pub struct Stdin {
    shared: Arc<Mutex<Shared>>,
    open: Arc<dyn Fn() -> Box<dyn Read + Send> + Send + Sync>,
}

#[derive(Default)]
struct Shared {
    /// Set when the thread was started.
    waker: Option<SharedWaker>,
    /// The thread's lines, while no reader has them.
    receiver: Option<Receiver<Pumped>>,
    /// Lines that a job was given.
    delivered: u64,
}

impl Stdin {
    /// This source, at no more than `records_per_second`.
    pub fn records_per_second(self, records_per_second: u64) -> RateLimited<Self> {
        limit_source(self, records_per_second)
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin").finish_non_exhaustive()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cannot_resume(lines: u64) -> Error {
    Error::config(format!(
        "the standard input cannot be read again: {lines} of its lines were read before the \
         restart; start without a checkpoint, or read from a file"
    ))
}

impl Source for Stdin {
    type Item = String;
    type Dead = ();

    fn splits(&self) -> Result<Vec<Split>> {
        Ok(vec![Split::new("stdin")])
    }

    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<String, ()>>> {
        let restored = position.map_or(Ok(0), |bytes| read_u64(bytes, split))?;
        let mut shared = lock(&self.shared);
        if restored > 0 || shared.delivered > 0 {
            return Err(cannot_resume(restored.max(shared.delivered)));
        }
        match &shared.waker {
            Some(waker) => waker.replace(context.waker.clone()),
            None => {
                let waker = SharedWaker::new(context.waker.clone());
                shared.receiver = Some(pump::start(self.open.clone(), waker.clone())?);
                shared.waker = Some(waker);
            }
        }
        let receiver = shared.receiver.take().ok_or_else(|| {
            Error::config("the standard input has a reader already: use one source for it")
        })?;
        Ok(Box::new(StdinReader {
            shared: self.shared.clone(),
            receiver: Some(receiver),
            lines: Vec::new().into_iter(),
            read: 0,
        }))
    }

    fn describe(&self) -> String {
        "the standard input".to_owned()
    }
}

struct StdinReader {
    shared: Arc<Mutex<Shared>>,
    /// Some until the reader is dropped.
    receiver: Option<Receiver<Pumped>>,
    lines: std::vec::IntoIter<String>,
    read: u64,
}

impl SplitReader<String, ()> for StdinReader {
    fn read(&mut self, out: &mut ReadInto<'_, String, ()>, max: usize) -> Result<ReadStatus> {
        if self.lines.len() == 0 {
            let received =
                self.receiver.as_ref().map_or(Err(TryRecvError::Disconnected), |r| r.try_recv());
            match received {
                Ok(lines) => self.lines = lines?.into_iter(),
                Err(TryRecvError::Empty) => return Ok(ReadStatus::Pending { until: None }),
                Err(TryRecvError::Disconnected) => return Ok(ReadStatus::End),
            }
        }
        let count = self.lines.len().min(max);
        out.records.values.extend(self.lines.by_ref().take(count));
        self.read += count as u64;
        lock(&self.shared).delivered = self.read;
        Ok(ReadStatus::More)
    }

    fn position(&self) -> Vec<u8> {
        self.read.to_le_bytes().to_vec()
    }
}

impl Drop for StdinReader {
    /// An attempt that failed before it read a line leaves the input to the next one.
    fn drop(&mut self) {
        lock(&self.shared).receiver = self.receiver.take();
    }
}

#[cfg(test)]
mod tests;
