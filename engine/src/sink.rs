//! What a sink is: writers that prepare output, and a committer that makes it visible.
//!
//! Two-phase commit: at a barrier each writer makes its output durable but invisible and returns
//! *committables*. They become part of the checkpoint's manifest. Only when the manifest exists
//! the committer makes them visible; after a crash the committables of the restored manifest are
//! committed again, so committing is idempotent. What later attempts left behind is removed.

use thalweg_checkpoint::CheckpointId;
use thalweg_state::Element;

use crate::batch::Batch;
use crate::error::Result;
use crate::time::ProcessingTime;

/// Where records go.
pub trait Sink: Send + Sync + 'static {
    /// The records.
    type Item: Element;

    /// Opens the writer of one subtask.
    ///
    /// # Errors
    /// `Config` or `Unavailable` if the target cannot be written.
    fn writer(&self, context: &WriterContext) -> Result<Box<dyn SinkWriter<Self::Item>>>;

    /// Opens the committer; there is one per sink and job.
    ///
    /// # Errors
    /// As [`writer`](Sink::writer).
    fn committer(&self) -> Result<Box<dyn Committer>>;

    /// Where it writes, for plans and messages.
    fn describe(&self) -> String;
}

/// Which writer this is.
#[derive(Clone, Debug)]
pub struct WriterContext {
    /// The subtask's index, from 0.
    pub subtask_index: usize,
    /// How many writers the sink has.
    pub parallelism: usize,
    /// The checkpoint the job was restored from, or none. With the subtask index it makes names
    /// unique among attempts.
    pub restored_from: Option<CheckpointId>,
    /// True if nothing is checkpointed: what rolls may be committed at once.
    pub commits_when_rolled: bool,
}

/// One piece of prepared output, in the sink's own encoding.
pub type Committable = Vec<u8>;

/// What a call of [`SinkWriter::write`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteStatus {
    /// All records were taken.
    Done,
    /// The rest of the batch has to wait until that time.
    Wait {
        /// When to call again.
        until: ProcessingTime,
    },
}

/// Writes the records of one subtask.
pub trait SinkWriter<T>: Send {
    /// Takes records from the front of `batch`; what cannot be taken now stays in it.
    ///
    /// # Errors
    /// Whatever makes it impossible to go on.
    fn write(&mut self, batch: &mut Batch<T>, now: ProcessingTime) -> Result<WriteStatus>;

    /// Makes all that was written so far durable, but not visible, and returns it.
    ///
    /// # Errors
    /// As `write`. The checkpoint is then declined and the job fails.
    fn prepare_commit(&mut self, id: CheckpointId) -> Result<Vec<Committable>>;

    /// Output that rolled and may be committed at once; asked only where nothing is checkpointed.
    fn poll_rolled(&mut self) -> Vec<Committable> {
        Vec::new()
    }
}

/// Makes prepared output visible.
pub trait Committer: Send {
    /// Called once before the job starts: `pending` are the committables of the restored
    /// checkpoint whose commit was not acknowledged. They are committed (again), and everything
    /// that was prepared by other attempts is removed. `resumed` is false at a fresh start, where
    /// existing output is an error.
    ///
    /// # Errors
    /// `Config` at a fresh start over existing output, otherwise as `commit`.
    fn recover(&mut self, pending: &[Committable], start: Start) -> Result<()>;

    /// Makes `committables` visible; those that are visible already are passed over.
    ///
    /// # Errors
    /// `Unavailable` to be called again later; anything else fails the job.
    fn commit(&mut self, committables: &[Committable]) -> Result<()>;
}

/// How a job begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// Without a checkpoint.
    Fresh,
    /// From a checkpoint.
    Resumed,
}
