//! Whole jobs, as processes and on threads: results, crashes, stops, backpressure, bad input.

mod backpressure;
mod bad_input;
mod checkpoints;
mod crashes;
#[path = "../../examples/flights/departure.rs"]
mod departure;
mod nexmark;
mod levels;
mod operators;
mod process;
mod recovery;
mod reference;
mod refused;
mod regions;
mod results;
mod savepoints;
mod unaligned;
mod upgrades;
mod user_code;
mod wordcount;
