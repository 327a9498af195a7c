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
mod sink;
mod union;

mod async_map;

pub mod event_time;
mod key_by;

pub mod aggregate;
pub mod change;
pub mod connect;
pub mod join;
pub mod pattern;
pub mod process;
mod running;
pub mod window;

pub use aggregate::{
    Aggregate, ApproxDistinct, Collect, Count, CountDistinct, FloatMean, FloatSum, Max, MaxBy,
    Mean, Min, MinBy, Quantiles, Reduce, Sketch, Sum, TopN,
};
pub use async_map::{AsyncMap, AsyncStream, Retry};
pub use change::Change;
pub use connect::ConnectedStreams;
pub use event_time::{IntoEventTime, Watermarks};
pub use job::Job;
pub use join::JoinOutput;
pub use pattern::{Earlier, Pattern, PatternMatch, PatternOutput, Skip};
pub use process::{ProcessContext, ProcessFunction};
pub use stream::{Either, Keyed, KeyedStream, SourceStream, Stream, WindowedStream};
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
