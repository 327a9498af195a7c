//! Records in memory: sources over values that are already there, and a sink that tests look into.

mod collect;
mod source;
mod statics;

pub use crate::sink::{Discard, discard};
pub use collect::{Collected, MemorySink, sink};
pub use source::{MemorySource, from_splits, source};
pub use statics::{EnumeratedSource, StaticSource, from_static};

#[cfg(test)]
mod tests;
