//! How a job is run: `JobOptions` as given, `JobConfig` as checked.

use std::path::PathBuf;
use std::time::Duration;

pub use thalweg_checkpoint::CheckpointMode;
use thalweg_state::KeyGroupCount;

use crate::channel::ChannelBounds;
use crate::error::{Error, Result};
use crate::restart::RestartPolicy;
use crate::time::duration_millis;

/// Where state is kept while the job runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StateBackend {
    /// In memory.
    #[default]
    Memory,
    /// In memory up to the budget, the rest in RocksDB.
    RocksDb,
}

/// What a job starts from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Restore {
    /// The newest checkpoint of the directory, if it has one.
    #[default]
    Latest,
    /// Nothing; refused if the directory is in use.
    Nothing,
    /// The checkpoint of that number, even if newer ones exist. Output that the newer ones have
    /// made visible will be made again.
    Checkpoint(u64),
    /// The savepoint at that path, which becomes the first checkpoint of the directory. If the
    /// directory's checkpoints come from that savepoint, the newest of them.
    Savepoint(PathBuf),
}

/// How a job is run, as given. Fields that are `None` take their defaults.
#[derive(Clone, Debug, Default)]
pub struct JobOptions {
    /// Subtasks of every operator that does not insist on a number. Default: the workers.
    pub parallelism: Option<usize>,
    /// Worker threads. Default: the processor's cores.
    pub workers: Option<usize>,
    /// Where checkpoints go: a directory, or a URL that begins with `file://`, `s3://`, `gs://` or
    /// `az://` (object stores need the feature of that name). Default: none are taken.
    pub checkpoint_dir: Option<PathBuf>,
    /// A directory for scratch files. Default: the checkpoint directory; where there is none, the
    /// system's place for temporary files.
    pub work_dir: Option<PathBuf>,
    /// Time from the start of one checkpoint to the start of the next. Default: 10 s.
    pub checkpoint_interval: Option<Duration>,
    /// After this time a checkpoint is given up. Default: 10 min.
    pub checkpoint_timeout: Option<Duration>,
    /// How often a record may count in state after a restore. Default: once.
    pub checkpoint_mode: CheckpointMode,
    /// When a checkpoint has taken this long, subtasks take their snapshots without waiting for
    /// barriers and write down the records that are on their way to them, so that it ends however
    /// slowly these are worked off (`docs/decisions/0018-unaligned-barriers.md`). Default: never.
    pub unaligned_after: Option<Duration>,
    /// How many checkpoints are kept. Default: 3.
    pub checkpoints_retained: Option<usize>,
    /// What the job starts from.
    pub restore: Restore,
    /// Whether and when the job is started again after a failure, in the same process. Default:
    /// [`RestartPolicy::EXPONENTIAL`] with a checkpoint directory. Without one there is no
    /// restart: it would make all output again.
    pub restart: Option<RestartPolicy>,
    /// A record that makes the same operator fail so often, counting the restarts, ends the job
    /// with an error that names it; 0: never. Default: 3.
    pub poison_after: Option<u32>,
    /// Where state is kept.
    pub state: StateBackend,
    /// Bytes that state may take in memory before it goes to RocksDB: for tables, their changes on
    /// the way to checkpoints, RocksDB's cache and buffers. The process itself takes about 50 MiB
    /// more, however large state becomes. Default: 256 MiB.
    pub memory: Option<u64>,
    /// The number of key groups, fixed for a job's life. Default: 128.
    pub key_groups: Option<u16>,
    /// The bounds of channels.
    pub channels: ChannelBounds,
}

/// How a job is run, checked, without gaps.
#[derive(Clone, Debug)]
pub struct JobConfig {
    pub(crate) parallelism: usize,
    pub(crate) workers: usize,
    pub(crate) checkpoints: Option<CheckpointConfig>,
    pub(crate) restart: RestartPolicy,
    pub(crate) poison_after: u32,
    pub(crate) work_dir: Option<PathBuf>,
    pub(crate) state: StateBackend,
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "RocksDB only"))]
    pub(crate) memory: u64,
    pub(crate) key_groups: KeyGroupCount,
    pub(crate) channels: ChannelBounds,
}

#[derive(Clone, Debug)]
pub(crate) struct CheckpointConfig {
    pub(crate) dir: PathBuf,
    pub(crate) interval_ms: i64,
    pub(crate) timeout_ms: i64,
    pub(crate) mode: CheckpointMode,
    pub(crate) unaligned_after_ms: Option<i64>,
    pub(crate) retained: usize,
    pub(crate) restore: Restore,
}

impl JobOptions {
    /// Checks the options; `cores` is what the machine has.
    ///
    /// # Errors
    /// `Config`, naming the option and its bounds.
    pub fn check(&self, cores: usize) -> Result<JobConfig> {
        let workers = self.workers.unwrap_or(cores.max(1));
        let parallelism = self.parallelism.unwrap_or(workers);
        let key_groups = KeyGroupCount::new(usize::from(self.key_groups.unwrap_or(128)))
            .ok_or_else(|| Error::config("the number of key groups must be 1 to 32768"))?;
        if !(1..=256).contains(&workers) {
            return Err(Error::config(format!("workers must be 1 to 256, not {workers}")));
        }
        if parallelism == 0 || parallelism > usize::from(key_groups.get()) {
            return Err(Error::config(format!(
                "parallelism must be 1 to {} (the number of key groups), not {parallelism}",
                key_groups.get()
            )));
        }
        let channels = self.channels;
        if channels.messages == 0 || channels.records == 0 || channels.drain_ms < 1 {
            return Err(Error::config(
                "a channel must hold a message, a record and a millisecond at least",
            ));
        }
        Ok(JobConfig {
            parallelism,
            workers,
            checkpoints: self.check_checkpoints()?,
            restart: self.check_restart()?,
            poison_after: self.poison_after.unwrap_or(3),
            work_dir: self.work_dir.clone(),
            state: self.check_state()?,
            memory: self.memory.unwrap_or(256 << 20),
            key_groups,
            channels: self.channels,
        })
    }

    fn check_checkpoints(&self) -> Result<Option<CheckpointConfig>> {
        let Some(dir) = self.checkpoint_dir.clone() else {
            if self.checkpoint_interval.is_some() || self.restore != Restore::Latest {
                return Err(Error::config(
                    "a checkpoint interval or a restore needs a checkpoint directory",
                ));
            }
            if self.checkpoint_mode != CheckpointMode::default() || self.unaligned_after.is_some() {
                return Err(Error::config(
                    "a checkpoint mode or unaligned barriers need a checkpoint directory",
                ));
            }
            return Ok(None);
        };
        if self.checkpoint_mode == CheckpointMode::AtLeastOnce && self.unaligned_after.is_some() {
            return Err(Error::config(
                "at least once, no barrier waits for another: leave unaligned barriers out",
            ));
        }
        let interval = self.checkpoint_interval.unwrap_or(Duration::from_secs(10));
        let timeout = self.checkpoint_timeout.unwrap_or(Duration::from_secs(600));
        if interval < Duration::from_millis(10) {
            return Err(Error::config("the checkpoint interval must be 10ms at least"));
        }
        if timeout < Duration::from_millis(100) {
            return Err(Error::config("the checkpoint timeout must be 100ms at least"));
        }
        let retained = self.checkpoints_retained.unwrap_or(3);
        if retained == 0 {
            return Err(Error::config("one checkpoint must be kept at least"));
        }
        Ok(Some(CheckpointConfig {
            dir,
            interval_ms: duration_millis(interval),
            timeout_ms: duration_millis(timeout),
            mode: self.checkpoint_mode,
            unaligned_after_ms: self.unaligned_after.map(duration_millis),
            retained,
            restore: self.restore.clone(),
        }))
    }

    fn check_restart(&self) -> Result<RestartPolicy> {
        let policy = match (self.restart, &self.checkpoint_dir) {
            (Some(policy), Some(_)) => policy,
            (Some(RestartPolicy::None) | None, None) => RestartPolicy::None,
            (None, Some(_)) => RestartPolicy::EXPONENTIAL,
            (Some(_), None) => {
                return Err(Error::config(
                    "a restart policy needs a checkpoint directory: a restart without checkpoints \
                     would make all output again",
                ));
            }
        };
        policy.check()?;
        Ok(policy)
    }

    fn check_state(&self) -> Result<StateBackend> {
        if self.state == StateBackend::RocksDb && !cfg!(feature = "rocksdb") {
            return Err(Error::config(
                "this binary was built without RocksDB: build it with the feature `rocksdb`, or \
                 keep state in memory",
            ));
        }
        Ok(self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_barriers_need_checkpoints_and_alignment() {
        let unaligned =
            JobOptions { unaligned_after: Some(Duration::ZERO), ..JobOptions::default() };
        let problem = |options: &JobOptions| options.check(1).err().map(|e| e.to_string());
        let message = problem(&unaligned).expect("there is no directory");
        assert!(message.contains("need a checkpoint directory"), "{message}");
        let with_dir = JobOptions { checkpoint_dir: Some("x".into()), ..unaligned };
        let config = with_dir.check(1).expect("that is right");
        assert_eq!(config.checkpoints.and_then(|c| c.unaligned_after_ms), Some(0));
        let both = JobOptions { checkpoint_mode: CheckpointMode::AtLeastOnce, ..with_dir };
        let message = problem(&both).expect("there is no alignment to leave out");
        assert!(message.contains("leave unaligned barriers out"), "{message}");
    }
}
