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
pub mod connect;
pub mod join;
pub mod pattern;
pub mod dedup;
mod in_event_order;
pub mod late;
pub mod process;
mod running;
pub mod window;

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
pub use process::states::{AggregatingState, ListState, MapState, ReducingState, ValueState};
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
