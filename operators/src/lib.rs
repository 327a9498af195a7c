//! The fluent API of jobs: [`Job`], [`Stream`], [`KeyedStream`], [`WindowedStream`], and one file
//! per operator.
//!
//! # What there is
//!
//! The names are Flink's where Flink has one. The last column is the level of an operator's
//! results: D4, they are the same for every schedule, parallelism, crash and restart; D2, they may
//! depend on the order in which records arrive.
//!
//! | to | call | level |
//! |---|---|---|
//! | turn records into others | `map`, `filter_map`, `flat_map`, `filter`, `inspect` | D4 |
//! | the same, with functions that fail | `try_map`, `try_flat_map`, … with [`OnError`] | D4 |
//! | ask the world about each record | `async_map` with [`AsyncMap`] | D4 ordered, D2 unordered |
//! | bring streams together, take them apart | `union`, `split`, `side_output` | D4 |
//! | send records elsewhere | `key_by`, `rebalance`, `broadcast`, `global` | D4 |
//! | hold records up | `rate_limit` with [`RateLimit`] | D4 |
//! | give records their time | `event_time` with [`Watermarks`] | D4, D2 with idleness |
//! | bring records into their order | `in_event_order` | D4 |
//! | drop repeated records | `dedup` with [`Dedup`] | D2, D4 behind `in_event_order` |
//! | fold all records of a key | `aggregate`, `reduce` | D2 |
//! | fold by windows of time | `window`: [`Tumbling`], [`Sliding`], [`Session`] | as aggregate |
//! | fold the time before each record, or all | [`RecordAligned`], [`GlobalWindow`] | the same |
//! | fold by numbers of records | `window` with [`CountWindow`] | D2 |
//! | fold by what the clock says | `processing_window` | D2 |
//! | see a window's records at once | `window(…).process` | D4 |
//! | see results early, late, again | `window(…).trigger(…)`: `.updates()`, `.panes()` | D2 |
//! | leave elements out of a window | `window(…).evictor(…)` | D2 |
//! | fold a stream without keys | `window_all` | as aggregate |
//! | join rows of one window | `join(…).window(…)` | D4 |
//! | join rows of about one time | `interval_join(…).between(…)` | D4 |
//! | join with a table as it was | `join_table(…).as_of()` | D4 |
//! | join with a table as it is | `join_table(…).latest()` | D2 |
//! | join for good | `connect(…).inner_join` | D4 |
//! | do what a function does with state and timers | `process` with [`ProcessFunction`] | D2 |
//! | the same for two streams | `connect(…).process` with [`CoProcessFunction`] | D2 |
//! | the same beside rules | `connect_broadcast(…).process` | D2 |
//! | find patterns | `pattern` with [`Pattern`] | D4 |
//! | correct results | [`Change`]: `to_changes`, `aggregate_changes` | D2, final table D4 |
//!
//! Every operator that judges lateness gives its late records out as a stream, and counts them.
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
pub mod connect;
pub mod join;
pub mod pattern;
pub mod dedup;
mod in_event_order;
pub mod late;
pub mod process;
mod running;
pub mod window;

mod group_keys;
mod keyed_table;
#[cfg(test)]
mod testing;

pub use aggregate::{
    Aggregate, ApproxDistinct, Collect, Count, CountDistinct, FloatMean, FloatSum, Max, MaxBy,
    Mean, Min, MinBy, Quantiles, Reduce, RetractableAggregate, Sketch, Sum, TopN,
};
pub use async_map::{AsyncMap, AsyncStream, Retry};
pub use change::{Change, ChangeLine, ChangeOp};
pub use connect::{CoProcessFunction, ConnectedStreams};
pub use dedup::Dedup;
pub use event_time::{IntoEventTime, WatermarkGenerator, WatermarkKind, Watermarks};
pub use job::Job;
pub use join::JoinOutput;
pub use late::WithLate;
pub use pattern::{Earlier, Pattern, PatternMatch, PatternOutput, Skip};
pub use process::broadcast::{BroadcastFunction, BroadcastProcessFunction};
pub use process::records::RecordFunction;
pub use process::states::{
    AggregatingState, ExpiringStates, ListState, MapState, ReducingState, Ttl, ValueState,
};
pub use process::{
    ProcessContext, ProcessFunction, ProcessStream, RecordContext, StateDeclarations,
};
pub use rate_limit::RateLimit;
pub use stream::{Either, Keyed, KeyedStream, SourceStream, Stream, WindowedStream};
pub use try_map::{Failed, OnError, TryStream};
pub use window::trigger::{
    ContinuousEventTime, ContinuousProcessingTime, CountTrigger, EarlyAndLate, EventTimeTrigger,
    Never, ProcessingTimeTrigger, Purging, Trigger, TriggerContext, TriggerResult,
};
pub use window::{
    Assign, CountEvictor, DeltaEvictor, Evictor, Lateness, Pane, PaneInfo, PaneOutput, PaneTiming,
    Stamped, TimeEvictor, TriggeredWindow, WindowContents, WindowFunction,
};
pub use window::{
    CountResult, CountWindow, GlobalWindow, RecordAligned, Session, Sliding, Tumbling, Window,
    WindowAssigner, WindowOutput, WindowResult, Windows,
};
pub use window::{
    ProcessingAssigner, ProcessingResult, ProcessingSession, ProcessingSliding, ProcessingTumbling,
    ProcessingWindow, ProcessingWindowedStream,
};
