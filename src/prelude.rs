//! What most jobs use, for `use thalweg::prelude::*`.

#[cfg(feature = "files")]
pub use thalweg_connectors::files;
pub use thalweg_connectors::{generator, memory, sink, stdin};
pub use thalweg_engine::options::JobOptions;
pub use thalweg_engine::time::{days, hours, millis, minutes, seconds};
pub use thalweg_engine::{Data, Element, EventTime, Key};
pub use thalweg_operators::{
    Aggregate, ApproxDistinct, AsyncMap, Change, Count, CountWindow, Dedup, Either, FloatSum,
    GlobalWindow, Job, Keyed, KeyedStream, Max, MaxBy, Mean, Min, MinBy, OnError, Pattern,
    ProcessContext, ProcessFunction, Quantiles, RecordAligned, Reduce, Session, Skip, Sliding,
    Stream, Sum, TopN, Tumbling, Watermarks, Window, WindowResult,
};
