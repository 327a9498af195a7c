//! Checkpoints of a running job: the protocol as pure machines, and the stores that keep them.
//!
//! Nothing in this crate starts a thread or reads a clock: time is an argument (`i64`
//! milliseconds of processing time), and what a machine wants done it says as a [`Command`].
//!
//! Reading order: a [`Barrier`] flows through the job; an [`Aligner`] in every subtask brings the
//! barriers of its channels together; the subtask's [`SubtaskSnapshot`] goes to the
//! [`Coordinator`], which publishes a [`Manifest`] through a [`CheckpointStore`] once every
//! subtask has acknowledged. A checkpoint exists from the instant its manifest is published.
//!
//! Stores, from the top: what the driver calls ([`CheckpointStore`]); what is the same wherever
//! checkpoints lie ([`Repository`]: names, packing, publishing, reference counting, epochs); the
//! places (a directory, an object store, memory) that only know named objects.

mod error;
mod hex;

mod aligner;
mod archive;
mod barrier;
mod coordinator;
mod outstanding;
mod snapshot;

mod manifest;
mod owner;
mod restore;
mod retention;
mod store;

mod objects;
mod repository;

mod local;
mod location;
mod lock;
mod memory;
#[cfg(any(test, feature = "object-store"))]
mod remote;
mod scratch;

#[cfg(test)]
mod random;

pub use aligner::{Aligner, AlignerError, Alignment};
pub use archive::Archive;
pub use barrier::{Barrier, BarrierKind, CheckpointId, CheckpointMode};
pub use coordinator::{Command, Coordinator, CoordinatorConfig, Outcome, PendingManifest};
pub use error::{Error, ErrorKind, Result};
pub use local::savepoint::SavepointWriter;
pub use location::local_directory;
pub use manifest::{FORMAT_VERSION, Manifest, OperatorRecord, TableRecord};
pub use memory::{FaultHook, MemoryStore, StoreFault, StoreOp};
pub use outstanding::Outstanding;
pub use owner::Owner;
pub use repository::{Repository, StoreOptions};
pub use restore::{counters_of, operator_parts, source_splits};
pub use retention::to_delete;
pub use snapshot::{
    InFlightPart, OperatorPart, PartFile, Run, SinkCommittables, SplitState, SubtaskAck, SubtaskId,
    SubtaskRecord, SubtaskSnapshot,
};
pub use store::{CheckpointStore, LocalPart, part_name};
