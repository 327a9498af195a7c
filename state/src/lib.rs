//! Thalweg's state: keys and key groups, state tables over memory and RocksDB, snapshots.
//!
//! State of every backend is logically one sorted map per operator, from a
//! [`StateKey`] (key group, table, namespace, encoded key) to an encoded value. A [`Table`] holds
//! the hot part of that map as a typed hash table; what does not fit the memory budget is kept in
//! RocksDB. A snapshot is that map at one instant, and restores at any parallelism; it is kept as
//! *runs*, each of which holds what changed between two snapshots.
//!
//! Reading order: [`data`], [`key_group`], [`hash`], [`codec`], [`state_key`], [`table`],
//! [`sliced`], [`backend`], [`state`], [`changes`], [`portable`], [`restore`], [`schema`].

pub mod codec;
pub mod data;
pub mod error;
pub mod hash;
pub mod key_group;

pub mod state_key;

mod base;
mod budget;
#[cfg_attr(
    not(any(test, feature = "rocksdb")),
    expect(dead_code, reason = "only RocksDB takes what is evicted")
)]
mod buffer;
mod index;
mod store;

pub mod sliced;
pub mod table;

pub mod backend;
pub mod changes;
pub mod portable;
pub mod restore;
pub mod runs;
pub mod schema;
pub mod state;

#[cfg(feature = "rocksdb")]
pub mod rocks;

#[cfg(test)]
mod testing;

pub use backend::BackendConfig;
pub use base::RestoredRuns;
pub use changes::{ChangeLog, ChangeStream, GatheredChanges, StreamItem};
pub use codec::CodecError;
pub use data::{Data, Element, Key};
pub use error::{Result, StateError};
pub use hash::{hash_key, hash_part};
pub use key_group::{KeyGroup, KeyGroupCount, KeyGroupRange, subtask_of};
pub use portable::{PortableReader, PortableWriter};
pub use restore::{LimitedRun, RestoreSource, RunMerge};
#[cfg(feature = "rocksdb")]
pub use rocks::RocksShared;
pub use runs::{MergePlan, RunSet};
pub use schema::{Fit, Migration, Recorded, Schema, TableSchema, TableTypes, ValuePlan, ValueType};
pub use sliced::SlicedTable;
pub use state::{OperatorState, Restore, Snapshot, SnapshotPart};
pub use state_key::{Namespace, StateKey, TableId};
pub use table::{StateTable, Table};
