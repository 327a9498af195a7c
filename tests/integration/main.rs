//! Whole jobs as processes: results, crashes, stops, bad input; and what the README shows.

mod backpressure;
mod bad_input;
mod checkpoints;
mod crashes;
#[path = "../../examples/flights/departure.rs"]
mod departure;
mod process;
mod readme;
mod reference;
mod results;
mod wordcount;
