//! The fluent API of jobs: [`Job`], [`Stream`], [`KeyedStream`], [`WindowedStream`], and one file
//! per operator.
//!
//! Each operator's file holds, in this order: documentation, options, the fluent method, the
//! operator, its tests.

pub mod job;
pub mod stream;

mod filter;
mod flat_map;
mod inspect;
mod map;
mod partition;
pub mod rate_limit;
mod sink;
mod split;
pub mod try_map;
mod union;

mod async_map;

pub mod event_time;
mod key_by;

pub mod aggregate;
pub mod change;
pub mod dedup;
mod in_event_order;
pub mod late;
pub mod process;
mod running;
pub mod window;

#[cfg(test)]
mod testing;

pub use aggregate::{Aggregate, Count, Max, Mean, Min, Reduce, RetractableAggregate, Sum};
pub use async_map::{AsyncMap, AsyncStream, Retry};
pub use change::{Change, ChangeLine, ChangeOp};
pub use dedup::Dedup;
pub use event_time::{IntoEventTime, WatermarkGenerator, WatermarkKind, Watermarks};
pub use job::Job;
pub use late::WithLate;
pub use process::{ProcessContext, ProcessFunction};
pub use rate_limit::RateLimit;
pub use stream::{Either, Keyed, KeyedStream, SourceStream, Stream, WindowedStream};
pub use try_map::{Failed, OnError, TryStream};
pub use window::{Sliding, Tumbling, Window, WindowAssigner, WindowOutput, WindowResult};
