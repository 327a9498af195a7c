//! Whole jobs as processes: results, crashes, stops, backpressure, bad input.

mod backpressure;
mod bad_input;
mod checkpoints;
mod crashes;
#[path = "../../examples/flights/departure.rs"]
mod departure;
mod operators;
mod process;
mod reference;
mod results;
mod user_code;
mod wordcount;
