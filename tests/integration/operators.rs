//! Every stateful operator in a whole job on threads: the same results for every parallelism,
//! backend and memory, with checkpoints, stops and crashes; and every record accounted for.
//!
//! A job reads three splits that are out of order, with late records and equal times. Its rows are
//! compared with those of a calm run, and where the rules allow it with a computation from scratch.

mod changes;
mod clocks;
mod data;
mod functions;
mod harness;
mod joins;
mod ordered;
mod reference;
mod source;
mod windows;
