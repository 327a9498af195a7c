//! Thalweg's engine: graphs, channels, the subtask machine, the traits users implement, and both
//! runtimes (worker threads, simulator).
//!
//! Reading order: [`time`], [`token_bucket`], [`batch`], [`operator`], [`source`], [`sink`],
//! [`graph`], `channel`, `in_flight`, `subtask`, `deploy`, [`upgrade`], [`savepoint`],
//! `state_writer`, [`runtime`], [`sim`], [`testing`].

pub mod time;
pub mod token_bucket;
pub mod batch;
pub mod error;
pub mod metrics;
pub mod operator;
pub mod source;
pub mod sink;
pub mod graph;
mod channel;
mod decider;
pub mod park;
pub mod external;
mod in_flight;
mod subtask;
pub mod restart;
pub mod options;
pub mod progress;
mod poison;
mod deploy;
pub mod upgrade;
pub mod savepoint;
mod state_writer;
pub mod runtime;
pub mod sim;
pub mod testing;
pub mod planted;

pub use batch::{BATCH_RECORDS, Batch, Behind, Marks, RecordId};
pub use channel::ChannelBounds;
pub use error::{Error, ErrorKind, Result};
pub use metrics::Counter;
pub use operator::{
    Advance, Context, EachTable, OpenContext, Operator, OriginWatermark, Outputs, SnapshotContext,
    TimeOrigin,
};
pub use thalweg_checkpoint as checkpoint;
pub use thalweg_checkpoint::CheckpointId;
pub use thalweg_state as state;
pub use thalweg_state::{Data, Element, Key};
pub use time::{EventTime, ProcessingTime};
