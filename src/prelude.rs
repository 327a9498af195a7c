//! What most jobs use, for `use thalweg::prelude::*`.

#[cfg(feature = "files")]
pub use thalweg_connectors::files;
pub use thalweg_connectors::{generator, memory, sink, stdin};
pub use thalweg_engine::options::JobOptions;
pub use thalweg_engine::time::{days, hours, millis, minutes, seconds};
pub use thalweg_engine::{Data, Element, EventTime, Key};
pub use thalweg_operators::{
    Aggregate, Count, CountWindow, GlobalWindow, Job, Keyed, KeyedStream, Max, Mean, Min,
    ProcessContext, ProcessFunction, RecordAligned, Reduce, Session, Sliding, Stream, Sum,
    Tumbling, Watermarks, Window, WindowResult,
};
