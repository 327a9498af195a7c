//! Graphs: what the user declared, what is wrong with it, what fuses, and how it is shown.
//!
//! [`JobGraph`] is the logical graph that the fluent API builds; [`ExecutionPlan`] cuts it into
//! tasks. Both are pure data: nothing runs here.

mod chain;
mod logical;
mod render;
mod validate;

pub use chain::{ExecutionPlan, Target, Task, TaskInput};
pub(crate) use logical::Make;
pub use logical::{
    JobGraph, Level, NodeId, NodeInfo, NodeKind, OperatorSpec, Partition, Port, SourceSpec,
};
pub use render::PlanFormat;
