//! The threads of an attempt: workers and the checkpoint writer, from their start to their end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use thalweg_checkpoint::SubtaskId;

use super::clock::Clock;
use super::coordinate::Report;
use super::worker::Worker;
use super::writer::CheckpointWriter;
use super::{SharedStore, worker_of};
use crate::deploy::Hands;
use crate::error::{Error, Result};
use crate::park::{Parker, Waker};
use crate::poison::SplitRead;
use crate::state_writer::StateWriter;
use crate::subtask::{Control, Subtask};

/// The threads of an attempt.
pub(crate) struct Threads {
    handles: Vec<JoinHandle<Vec<Subtask>>>,
    writer: Option<JoinHandle<Option<StateWriter>>>,
    /// Per worker: its mailbox and its waker.
    workers: Vec<(Sender<(SubtaskId, Control)>, Waker)>,
    pub(crate) reports: Receiver<Report>,
    is_cancelled: Arc<AtomicBool>,
    /// The newest checkpoint that was given up.
    aborted: Arc<AtomicU64>,
}

impl Threads {
    /// Starts a worker for each parker, and the checkpoint writer.
    pub(crate) fn spawn(
        subtasks: Vec<Subtask>,
        writer: StateWriter,
        parkers: &[Parker],
        (store, clock): (Option<&SharedStore>, Clock),
    ) -> Result<Self> {
        let (report, reports) = unbounded();
        let (requests_in, requests) = unbounded();
        let mut threads = Threads {
            handles: Vec::new(),
            writer: None,
            workers: Vec::new(),
            reports,
            is_cancelled: Arc::default(),
            aborted: Arc::default(),
        };
        let reports = report.clone();
        let writer = CheckpointWriter {
            requests,
            reports: report.clone(),
            writer,
            store: store.cloned(),
            aborted: threads.aborted.clone(),
        };
        let write = move || {
            let write = || writer.run();
            let written = catch_unwind(AssertUnwindSafe(write)).ok();
            if written.is_none() {
                let error = Error::bug("the checkpoint writer panicked, see the message above");
                let _ = reports.send(Report::Failed(error, None));
            }
            written
        };
        threads.writer = Some(threads.start("checkpoint-writer".to_owned(), write)?);
        let mut of_workers: Vec<Vec<_>> = parkers.iter().map(|_| Vec::new()).collect();
        for subtask in subtasks {
            let SubtaskId { task, index } = subtask.id;
            of_workers[worker_of(task as usize, index as usize, parkers.len())].push(subtask);
        }
        for (index, (subtasks, parker)) in of_workers.into_iter().zip(parkers).enumerate() {
            let (control, mailbox) = unbounded();
            threads.workers.push((control, parker.waker()));
            let worker = Worker {
                subtasks,
                control: mailbox,
                reports: report.clone(),
                writer: requests_in.clone(),
                parker: parker.clone(),
                clock,
                is_cancelled: threads.is_cancelled.clone(),
                failed: None,
            };
            let handle = threads.start(format!("worker-{index}"), move || worker.run())?;
            threads.handles.push(handle);
        }
        Ok(threads)
    }

    #[expect(clippy::disallowed_methods, reason = "the threads of the thread driver")]
    fn start<T: Send + 'static>(
        &self,
        name: String,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        std::thread::Builder::new().name(name).spawn(body).map_err(|e| {
            self.cancel();
            Error::unavailable("cannot start a thread").with_source(e)
        })
    }

    /// Tells a subtask something.
    pub(crate) fn tell(&self, subtask: SubtaskId, control: Control) {
        let worker = worker_of(subtask.task as usize, subtask.index as usize, self.workers.len());
        let (mailbox, waker) = &self.workers[worker];
        // A worker that has gone has reported why.
        let _ = mailbox.send((subtask, control));
        waker.wake();
    }

    /// Captures of this checkpoint and all before it need not be made durable.
    pub(crate) fn abort(&self, upto: u64) {
        self.aborted.store(upto, Ordering::Relaxed);
    }

    /// Makes all workers return at once.
    pub(crate) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        for (_, waker) in &self.workers {
            waker.wake();
        }
    }

    /// Waits for all threads. Returns what they owned, unless one has panicked, and who has failed
    /// besides those that were heard of; adds to `read` how far the splits were read.
    pub(crate) fn join(
        self,
        read: &mut Vec<SplitRead>,
    ) -> (Option<Hands>, Vec<(Error, Option<SubtaskId>)>) {
        let Threads { handles, writer, workers, reports, .. } = self;
        drop(workers);
        // A panic has been reported by the thread itself.
        let subtasks: Option<Vec<_>> =
            handles.into_iter().map(|handle| handle.join().ok()).collect();
        let writer = writer.and_then(|handle| handle.join().ok().flatten());
        let hands = subtasks.zip(writer).map(|(subtasks, writer)| {
            let subtasks = subtasks.into_iter().flatten().collect();
            Hands { subtasks, writer }
        });
        let mut failed = Vec::new();
        for report in reports.try_iter() {
            match report {
                Report::Read(of_worker) => read.extend(of_worker),
                Report::Failed(error, subtask) => failed.push((error, subtask)),
                // About a checkpoint that is given up, or told to the next coordinator.
                Report::Ack(_) | Report::Drained(_) | Report::Commit { .. } => {}
            }
        }
        (hands, failed)
    }
}
