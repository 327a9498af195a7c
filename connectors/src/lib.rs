//! Thalweg's connectors: sources and sinks for the world outside a job.
//!
//! * [`memory`]: records that are already there, and a sink that tests look into.
//! * [`generator`](mod@generator): records made from their number.
//! * [`sink`]: sinks that call a function, count, or forget.
//! * [`files`]: CSV, JSON lines and plain lines, as they are or compressed; exactly-once parts.
//! * [`stdin`]: the lines of the standard input.
//! * [`rate`]: any of these, slowed down.
//!
//! A connector is a type that implements `Source` or `Sink` of the engine; none of them starts
//! anything or touches the outside before the job runs.

mod strided;

pub mod memory;
pub mod generator;
pub mod sink;
#[cfg(feature = "files")]
pub mod files;
pub mod stdin;
pub mod rate;

#[cfg(test)]
mod testing;

pub use generator::generator;
