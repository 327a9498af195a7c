//! The subtask: one parallel instance of a task, a passive machine that a driver steps.
//!
//! # Driver contract
//! 1. Build it with its channels, then call `step` whenever it may be able to do something: after
//!    it moved, after one of its channels changed, when its wake-up time has come, after `handle`.
//! 2. After each step take all effects with `poll_effect` and carry them out.
//! 3. Messages of the coordinator are given to `handle`; they may be late, repeated or missing.
//!
//! A subtask never blocks, never reads a clock, never draws randomness, never starts a thread.
//!
//! # Phases
//! ```text
//! Running --all splits ended, MAX given out--> Drained
//! Running | Drained --barrier of kind Stop--> Stopped
//! any --Shutdown--> Done
//! ```
//! In each of them a cut may be prepared for: operators give out what must not become state.

mod chain;
mod effect;
mod erased;
mod input;
mod output;
mod sink_operator;
mod snapshot;
mod source_head;
mod step;

pub(crate) use chain::{Chain, ChainGate, ChainNode, Outlet, Outlets, guard};
pub(crate) use effect::{Capture, Control, Effect};
pub(crate) use erased::{ErasedOperator, OperatorCell};
pub(crate) use input::InputGate;
pub(crate) use output::{ErasedGate, Gate};
pub(crate) use sink_operator::ErasedSink;
pub(crate) use snapshot::RECORDS_READ;
pub(crate) use source_head::{ErasedSource, SourceCell};
pub(crate) use step::{Head, Next, Restored, SourceInput, Subtask};

#[cfg(test)]
mod tests;
