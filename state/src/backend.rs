//! `BackendConfig`: where the state of an operator is kept.

#[cfg(feature = "rocksdb")]
use std::path::PathBuf;

#[cfg(feature = "rocksdb")]
use crate::rocks::RocksShared;

/// Where the state of one operator in one subtask is kept.
#[derive(Clone, Debug, Default)]
pub enum BackendConfig {
    /// In memory, without bound.
    #[default]
    Memory,
    /// In memory up to a bound, beyond it in RocksDB.
    #[cfg(feature = "rocksdb")]
    RocksDb {
        /// A directory for this operator in this subtask alone: what an earlier run left in it is
        /// deleted.
        directory: PathBuf,
        /// What the operator's tables, and their changes on the way to runs, may take, in bytes.
        memory_bytes: usize,
        /// RocksDB's own memory, shared by the process.
        shared: RocksShared,
    },
}
