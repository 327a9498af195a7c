//! Thalweg, a stream-processing engine: a job is a Rust program, and its binary is what you deploy.
//!
//! A job reads records from sources, transforms them, groups them by key and window with state
//! that survives crashes, and writes to sinks exactly once. Event time decides what belongs
//! together, not the time of arrival.
//!
//! ```
//! use thalweg::prelude::*;
//!
//! fn clicks_per_hour(job: &Job) -> thalweg::Result<()> {
//!     let clicks = job
//!         .source("clicks", memory::source(vec![("home".to_owned(), 0_i64)]))
//!         .event_time(|click| click.1, Watermarks::bounded_out_of_orderness(minutes(5)));
//!     let hourly = clicks
//!         .key_by(|click| click.0.clone())
//!         .window(Tumbling::of(hours(1)))
//!         .aggregate("clicks-per-hour", Count);
//!     hourly.results().sink("counts", sink::discard());
//!     hourly.late().sink("late", sink::discard());
//!     Ok(())
//! }
//!
//! let report = thalweg::execute("clicks", clicks_per_hour, &JobOptions::default())?;
//! assert_eq!(report.progress.metrics.records_read(), 1);
//! # Ok::<(), thalweg::Error>(())
//! ```
//!
//! * A job binary calls [`run`], or [`JobMain`] if it has options of its own; both give it a
//!   command line, a progress bar and signals. A service calls [`execute`].
//! * [`tutorial`] goes from the first job to state, checkpoints and tests.
//! * [`prelude`] has what most jobs use; [`mod@test`] runs them under the simulator.
//!
//! # Features
//! * `rocksdb` (default): state beyond the memory budget goes to RocksDB. Its C++ is compiled once.
//! * `files` (default): sources and sinks over files.
//! * `cli` (default): [`run`] and [`JobMain`].

pub mod tutorial;
pub mod prelude;
pub mod test;

mod execute;
#[cfg(feature = "cli")]
pub mod command_line;
#[cfg(feature = "cli")]
mod control;
#[cfg(feature = "cli")]
mod job_main;
#[cfg(feature = "cli")]
mod progress_bar;
#[cfg(feature = "cli")]
mod saved;
#[cfg(feature = "cli")]
mod signals;
#[cfg(feature = "cli")]
mod summary;

#[cfg(feature = "cli")]
pub use clap;
pub use execute::{execute, execute_until, plan};
#[cfg(feature = "cli")]
pub use job_main::{JobMain, run};
pub use std::process::ExitCode;

pub use thalweg_connectors as connectors;
#[cfg(feature = "files")]
pub use thalweg_connectors::files;
pub use thalweg_connectors::{generator, memory, rate, sink, stdin};
pub use thalweg_engine as engine;
pub use thalweg_engine::graph::{Level, PlanFormat};
pub use thalweg_engine::metrics::Counter;
pub use thalweg_engine::options::{CheckpointMode, JobOptions, Restore, StateBackend};
#[cfg(feature = "planted-bugs")]
pub use thalweg_engine::planted;
pub use thalweg_engine::progress::{JobMetrics, Progress, RunOutcome, RunReport};
pub use thalweg_engine::restart::RestartPolicy;
pub use thalweg_engine::runtime::{SavepointTicket, StopSignal};
pub use thalweg_engine::sim;
pub use thalweg_engine::{
    Data, Element, Error, ErrorKind, EventTime, Key, ProcessingTime, Result, time,
};
pub use thalweg_operators::*;
