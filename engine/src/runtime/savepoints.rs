//! Savepoints of a running job: who asks for one, and the thread that writes it.
//!
//! A savepoint is asked for through the [`StopSignal`](super::StopSignal). The coordinating thread
//! orders a checkpoint; once that is published, and its output committed, a thread writes the
//! savepoint while the job goes on. Meanwhile no checkpoint is deleted.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use thalweg_checkpoint::{CheckpointId, PartFile};

use super::{SharedStore, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::savepoint::export;

/// What was asked for and not yet taken up; none while no job runs.
#[derive(Default)]
pub(super) struct SavepointRequests(Mutex<Option<Vec<Request>>>);

/// A savepoint that someone waits for.
pub(super) struct Request {
    dir: PathBuf,
    /// True if it is to be of the checkpoint that ends the job.
    pub(super) is_last: bool,
    reply: Sender<Result<PathBuf>>,
}

/// Someone's claim to a savepoint.
#[derive(Debug)]
pub struct SavepointTicket(Receiver<Result<PathBuf>>);

impl SavepointTicket {
    /// Waits for the savepoint, and returns where it is.
    ///
    /// # Errors
    /// `Config` if the job takes no checkpoints or there is a savepoint of that name,
    /// `Unavailable` if it cannot be written or the job ends before.
    pub fn wait(self) -> Result<PathBuf> {
        self.0.recv().unwrap_or_else(|_| {
            let text = "the job ended or failed before the savepoint was complete: ask again";
            Err(Error::unavailable(text))
        })
    }
}

impl SavepointRequests {
    /// A job runs, or does not any more: requests are kept for it, or refused.
    pub(super) fn set_running(&self, is_running: bool) {
        *self.lock() = is_running.then(Vec::new);
    }

    pub(super) fn add(&self, dir: &Path, is_last: bool) -> SavepointTicket {
        let (reply, outcome) = bounded(1);
        if let Some(requests) = &mut *self.lock() {
            requests.push(Request { dir: dir.to_owned(), is_last, reply });
        }
        SavepointTicket(outcome)
    }

    pub(super) fn take(&self) -> Vec<Request> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Request>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for the checkpoint that ends the job.
const LAST: CheckpointId = CheckpointId(u64::MAX);

/// The savepoints of a run.
#[derive(Default)]
pub(super) struct Savepoints {
    /// Those that wait for a checkpoint of at least that number.
    waiting: Vec<(CheckpointId, Request)>,
    /// Those whose checkpoint is published.
    published: Vec<(CheckpointId, Request)>,
    writing: Option<JoinHandle<()>>,
}

impl Savepoints {
    /// Someone waits for a savepoint of the first checkpoint from `from` on; or, if none is given,
    /// of the last one.
    pub(super) fn wait_for(&mut self, from: Option<CheckpointId>, request: Request) {
        self.waiting.push((from.unwrap_or(LAST), request));
    }

    /// Whether someone waits for a checkpoint that is to be begun.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|(from, _)| *from < LAST)
    }

    /// Those who waited for a checkpoint wait for the first one from `from` on: the attempt that
    /// was to take theirs has failed.
    pub(super) fn wait_anew(&mut self, from: CheckpointId) {
        for (of, _) in self.waiting.iter_mut().filter(|(of, _)| *of < LAST) {
            *of = from;
        }
    }

    /// A checkpoint is published: it is the one that some waited for.
    pub(super) fn handle_published(&mut self, id: CheckpointId) {
        let due = self.waiting.extract_if(.., |(from, _)| *from <= id);
        self.published.extend(due.map(|(_, request)| (id, request)));
    }

    /// True if there are checkpoints that must not be deleted.
    pub(super) fn needs_checkpoints(&self) -> bool {
        !self.published.is_empty() || self.is_writing()
    }

    fn is_writing(&self) -> bool {
        self.writing.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Begins to write what can be written: the output of all that is published is committed.
    #[expect(clippy::disallowed_methods, reason = "a thread of the thread driver")]
    pub(super) fn poll(&mut self, store: &SharedStore) -> Result<()> {
        if self.is_writing() || self.published.is_empty() {
            return Ok(());
        }
        self.join();
        let requests = std::mem::take(&mut self.published);
        let store = store.clone();
        let write = move || {
            for (id, request) in requests {
                request.answer(write(id, &store, &request.dir));
            }
        };
        let thread = std::thread::Builder::new().name("savepoint".to_owned()).spawn(write);
        self.writing = Some(
            thread
                .map_err(|error| Error::unavailable("cannot start a thread").with_source(error))?,
        );
        Ok(())
    }

    /// Writes what is still waited for, from the last checkpoint of the run.
    pub(super) fn finish(&mut self, last: Option<CheckpointId>, store: Option<&SharedStore>) {
        self.join();
        let published = self.published.drain(..).map(|(id, request)| (Some(id), request));
        let waiting = self.waiting.drain(..).map(|(_, request)| (last, request));
        for (id, request) in published.chain(waiting) {
            request.answer(match (id, store) {
                (Some(id), Some(store)) => write(id, store, &request.dir),
                _ => Err(Error::unavailable("the job ended without a checkpoint")),
            });
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.writing.take()
            && thread.join().is_err()
        {
            tracing::error!("writing a savepoint panicked, see the message above");
        }
    }
}

impl Drop for Savepoints {
    /// A job that failed does not leave a thread behind that uses its store.
    fn drop(&mut self) {
        self.join();
    }
}

impl Request {
    /// The request cannot be met.
    pub(super) fn refuse(self) {
        self.answer(Err(Error::new(
            ErrorKind::Config,
            "the job has no checkpoint directory, so there is no savepoint of it",
        )));
    }

    fn answer(&self, outcome: Result<PathBuf>) {
        if let Err(error) = &outcome {
            tracing::warn!(%error, "no savepoint was written");
        }
        // Whoever does not wait any more does not want to know.
        let _ = self.reply.send(outcome);
    }
}

/// The store is locked for one part at a time: checkpoints go on meanwhile.
fn write(id: CheckpointId, store: &SharedStore, dir: &Path) -> Result<PathBuf> {
    let manifest = lock(store).load(id)?;
    let read = &mut |part: &PartFile| Ok(lock(store).local_part(part)?);
    let path = export(&manifest, true, read, dir)?;
    tracing::info!(checkpoint = id.0, path = %path.display(), "savepoint written");
    Ok(path)
}
