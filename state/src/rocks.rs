//! The RocksDB backend: one database per operator and subtask, used as scratch behind its tables.
//!
//! # Place
//! [`OperatorState`](crate::OperatorState) opens a database in the directory it is given.
//!
//! # Invariants
//! * I1 There is no write-ahead log, and nothing is durable: snapshots are made of changes
//!   ([`changes`](crate::changes)), not of the database.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    DEFAULT_COLUMN_FAMILY_NAME, DataBlockIndexType, ErrorKind, InfoLogger, IteratorMode, LogLevel,
    LruCacheOptions, Options, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions,
};

use crate::buffer::EntryBuffer;
use crate::error::{Result, StateError};
use crate::key_group::KeyGroup;
use crate::state_key::{PREFIX_BYTES, prefix};
use crate::store::{Space, SpillStore, Visit, VisitPlace};

/// Bloom filters spend this many bits on each key: one miss in a hundred reads a block.
const BLOOM_BITS: f64 = 10.0;

/// Length of a file: its filter fits a shard of a small cache.
const FILE_BYTES: u64 = 8 << 20;

/// Share of a buffer of writes that its own Bloom filter takes: what is missing is mostly in files.
const BUFFER_FILTER_RATIO: f64 = 0.05;

/// The cache has two to the power of this many shards. An entry that is larger than a shard is
/// never cached, and few threads use it.
const CACHE_SHARD_BITS: i32 = 2;

/// A database gathers at least and at most so much before it writes a file, in bytes.
const LEAST_WRITE_BUFFER: usize = 64 << 10;
const MOST_WRITE_BUFFER: usize = 64 << 20;

/// The key group's bytes in a state key.
const GROUP_BYTES: usize = 2;

/// Threads for flushes and compactions, of the whole process.
const BACKGROUND_JOBS: i32 = 2;

/// RocksDB's memory, shared by all databases of a process: a block cache, and within it the
/// buffers of writes that are not yet in files.
#[derive(Clone)]
pub struct RocksShared {
    cache: Cache,
    write_buffers: WriteBufferManager,
    /// The most that one database gathers before it writes a file, in bytes.
    write_buffer_bytes: usize,
}

impl RocksShared {
    /// Shared memory of this many bytes, for about so many databases.
    pub fn new(memory_bytes: usize, databases: usize) -> Self {
        let mut lru = LruCacheOptions::default();
        lru.set_capacity(memory_bytes);
        lru.set_num_shard_bits(CACHE_SHARD_BITS);
        let cache = Cache::new_lru_cache_opts(&lru);
        let for_writes = memory_bytes / 2;
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            for_writes,
            false,
            cache.clone(),
        );
        // Not all write as much as they may. An empty buffer takes a fifth of its length, for its
        // filter and a first block: together these must leave room, or each write makes a file.
        let fair = for_writes / databases.max(1);
        let write_buffer_bytes = (2 * fair).clamp(LEAST_WRITE_BUFFER, MOST_WRITE_BUFFER);
        RocksShared { cache, write_buffers, write_buffer_bytes }
    }

    /// How much of it is in use, in bytes.
    pub fn used_bytes(&self) -> usize {
        self.cache.get_usage()
    }
}

impl fmt::Debug for RocksShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksShared").field("used_bytes", &self.used_bytes()).finish()
    }
}

/// A database behind the tables of one operator.
pub(crate) struct RocksStore {
    db: DB,
    writes: WriteOptions,
}

impl RocksStore {
    /// Opens an empty database in `directory`, deleting what an earlier one left there.
    pub(crate) fn open(directory: PathBuf, shared: &RocksShared) -> Result<Self> {
        let io = |error| StateError::io(&directory, error);
        if fs::exists(&directory).map_err(io)? {
            fs::remove_dir_all(&directory).map_err(io)?;
        }
        fs::create_dir_all(&directory).map_err(io)?;
        let mut options = options()?;
        options.create_if_missing(true);
        options.set_error_if_exists(true);
        options.set_write_buffer_manager(&shared.write_buffers);
        options.set_write_buffer_size(shared.write_buffer_bytes);
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&shared.cache);
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_bloom_filter(BLOOM_BITS, false);
        tables.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        options.set_block_based_table_factory(&tables);
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(BUFFER_FILTER_RATIO);
        options.set_target_file_size_base(FILE_BYTES);
        // A column that is not named here cannot be named later.
        let column = ColumnFamilyDescriptor::new(DEFAULT_COLUMN_FAMILY_NAME, options.clone());
        let db = DB::open_cf_descriptors(&options, directory.join("db"), [column]);
        let db = db.map_err(failed)?;
        let mut writes = WriteOptions::default();
        writes.disable_wal(true);
        tracing::debug!(directory = %directory.display(), "opened a database for state");
        Ok(RocksStore { db, writes })
    }
}

impl SpillStore for RocksStore {
    fn read(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        value.clear();
        let mut name = Vec::with_capacity(key.len());
        put_name(key, &mut name);
        let found = self.db.get_pinned(&name).map_err(failed)?;
        if let Some(found) = &found {
            value.extend_from_slice(found);
        }
        Ok(found.is_some())
    }

    fn read_sorted(&self, keys: &[&[u8]], f: &mut VisitPlace<'_>) -> Result<()> {
        let Some(column) = self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME) else {
            return Err(StateError::RocksDb("the database has no default column".to_owned()));
        };
        let mut names = Vec::with_capacity(keys.iter().map(|key| key.len()).sum());
        keys.iter().for_each(|key| put_name(key, &mut names));
        let mut rest = names.as_slice();
        let mut next = |key: &&[u8]| rest.split_off(..key.len()).unwrap_or_default();
        let names: Vec<&[u8]> = keys.iter().map(&mut next).collect();
        // They are of one space, in which names sort as keys do.
        let is_sorted = true;
        let found = self.db.batched_multi_get_cf(&column, &names, is_sorted);
        for (place, value) in found.into_iter().enumerate() {
            if let Some(value) = value.map_err(failed)? {
                f(place, &value)?;
            }
        }
        Ok(())
    }

    fn write(&self, entries: &mut EntryBuffer) -> Result<()> {
        let (mut batch, mut name) = (WriteBatch::default(), Vec::new());
        for entry in entries.sorted() {
            name.clear();
            put_name(entry.state_key, &mut name);
            batch.put(&name, entry.value);
        }
        self.db.write_opt(batch, &self.writes).map_err(failed)
    }

    fn remove(&self, keys: &[Vec<u8>]) -> Result<()> {
        let (mut batch, mut name) = (WriteBatch::default(), Vec::new());
        for key in keys {
            name.clear();
            put_name(key, &mut name);
            batch.delete(&name);
        }
        self.db.write_opt(batch, &self.writes).map_err(failed)
    }

    fn remove_space(&self, space: Space) -> Result<()> {
        let (start, end) = names_of(space);
        let mut batch = WriteBatch::default();
        batch.delete_range(start, end);
        self.db.write_opt(batch, &self.writes).map_err(failed)
    }

    fn scan(&self, space: Space, f: &mut Visit<'_>) -> Result<()> {
        let (start, end) = names_of(space);
        let mut reads = ReadOptions::default();
        reads.set_iterate_range(start..end);
        reads.fill_cache(false);
        let mut key = Vec::new();
        for entry in self.db.iterator_opt(IteratorMode::Start, reads) {
            let (name, value) = entry.map_err(failed)?;
            let (space, rest) = name.split_at(PREFIX_BYTES - GROUP_BYTES);
            let (group, encoded) = rest.split_at(GROUP_BYTES);
            key.clear();
            [group, space, encoded].iter().for_each(|part| key.extend_from_slice(part));
            f(&key, &value)?;
        }
        Ok(())
    }
}

/// Appends the name of a state key in a database: what lies in one table and namespace is
/// together, whatever its key group, so that slices are read and removed at once. Hence the key
/// group, of which state keys have it in front, stands behind these.
fn put_name(key: &[u8], name: &mut Vec<u8>) {
    let (group, rest) = key.split_at(GROUP_BYTES);
    let (space, encoded) = rest.split_at(PREFIX_BYTES - GROUP_BYTES);
    [space, group, encoded].iter().for_each(|part| name.extend_from_slice(part));
}

/// The names from which and up to which a space lies.
fn names_of((table, namespace, groups): Space) -> (Vec<u8>, Vec<u8>) {
    let name = |group: u16| {
        let mut name = Vec::with_capacity(PREFIX_BYTES);
        put_name(&prefix(KeyGroup::new(group), table, namespace), &mut name);
        name
    };
    (name(groups.start), name(groups.end))
}

/// What all databases have in common.
fn options() -> Result<Options> {
    // A database is scratch: what is not in a checkpoint need not reach a file when it is closed.
    // (The option has no method of its own.)
    let mut options = Options::default()
        .get_options_from_string("avoid_flush_during_shutdown=true")
        .map_err(failed)?;
    // Most of what is evicted is small entries that come back: decompressing a block for each costs
    // more than reading twice as much from the file system's cache.
    options.set_compression_type(DBCompressionType::None);
    options.set_paranoid_checks(true);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    // RocksDB's log goes with ours: no directory that is read gets a log file.
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, message| {
        match level {
            LogLevel::Warn => tracing::warn!(target: "rocksdb", "{message}"),
            LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{message}"),
            _ => tracing::debug!(target: "rocksdb", "{message}"),
        }
    }));
    Ok(options)
}

fn failed(error: rocksdb::Error) -> StateError {
    match error.kind() {
        ErrorKind::Corruption => StateError::corrupt(0, error.to_string()),
        _ => StateError::RocksDb(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
