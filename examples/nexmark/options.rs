//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use thalweg::engine::options::{JobOptions, StateBackend};

use crate::query::Query;

/// Runs one NEXMark query.
#[derive(Clone, Debug, Parser)]
#[command(name = "nexmark")]
pub(crate) struct Options {
    /// The query.
    #[arg(long)]
    pub(crate) query: Query,
    /// Events from this NXM1 file instead of generated ones.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["events", "rate", "out_of_order_group"])]
    pub(crate) input: Option<PathBuf>,
    /// The number of events to generate.
    #[arg(long, default_value = "100000", value_name = "N")]
    pub(crate) events: usize,
    /// Generated events per second of event time.
    #[arg(long, default_value = "1000", value_name = "R")]
    pub(crate) rate: NonZeroUsize,
    /// Permute every G generated events among themselves.
    #[arg(long, default_value = "1000", value_name = "G")]
    pub(crate) out_of_order_group: NonZeroUsize,
    /// The event at position i goes to split i mod S.
    #[arg(long, default_value = "1", value_name = "S")]
    pub(crate) splits: NonZeroUsize,
    /// Subtasks of every operator.
    #[arg(long, default_value = "1", value_name = "P")]
    pub(crate) parallelism: NonZeroUsize,
    /// How far behind the greatest time an event may be: 50ms, 4s, 5m, 1h.
    #[arg(long, default_value = "4s", value_name = "D", value_parser = duration)]
    pub(crate) out_of_orderness: Duration,
    /// Read no more events than this per second, over all splits.
    #[arg(long, value_name = "N")]
    pub(crate) events_per_second: Option<u64>,
    /// Where state is kept.
    #[arg(long, default_value = "memory", value_name = "BACKEND")]
    pub(crate) state: State,
    /// Bytes that state may take in memory before it goes to RocksDB.
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory: Option<u64>,
    /// Take checkpoints into this directory, and resume from the newest one.
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint_dir: Option<PathBuf>,
    /// Time from one checkpoint to the next: 50ms, 4s, 5m, 1h.
    #[arg(long, value_name = "D", value_parser = duration, requires = "checkpoint_dir")]
    pub(crate) checkpoint_interval: Option<Duration>,
    /// Write the result as canonical CSV; while the job runs it is in the directory FILE.parts.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Hold all events in memory, run the query RUNS times, and print a line of JSON for each run.
    #[arg(long, value_name = "RUNS", conflicts_with_all = ["out", "oracle", "checkpoint_dir"])]
    pub(crate) bench: Option<NonZeroUsize>,
    /// Clone each event behind the source and pass it owned, instead of by reference.
    #[arg(long)]
    pub(crate) bench_owned: bool,
    /// Answer with the sequential oracle instead of the engine.
    #[arg(long)]
    pub(crate) oracle: bool,
    /// What runs the job.
    #[arg(long, default_value = "threads")]
    pub(crate) driver: Driver,
    /// The seed of the simulator's schedule.
    #[arg(long, default_value = "0")]
    pub(crate) seed: u64,
}

/// Where state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    /// In memory.
    Memory,
    /// In memory up to a budget, beyond it in RocksDB.
    Rocksdb,
}

/// What runs the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Driver {
    /// Worker threads.
    Threads,
    /// The simulator: one thread, scheduled by `--seed`.
    Sim,
}

impl State {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Memory => "memory",
            State::Rocksdb => "rocksdb",
        }
    }
}

impl Options {
    /// The options of the engine.
    pub(crate) fn job_options(&self) -> JobOptions {
        JobOptions {
            parallelism: Some(self.parallelism.get()),
            checkpoint_dir: self.checkpoint_dir.clone(),
            checkpoint_interval: self.checkpoint_interval,
            state: match self.state {
                State::Memory => StateBackend::Memory,
                State::Rocksdb => StateBackend::RocksDb,
            },
            memory: self.memory,
            ..JobOptions::default()
        }
    }

    /// The bound of the out-of-orderness, in milliseconds.
    pub(crate) fn bound_ms(&self) -> u64 {
        u64::try_from(self.out_of_orderness.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A duration such as `50ms`, `4s`, `5m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a duration is a number and one of ms, s, m, h".to_owned()),
    };
    let number: i64 = number.parse().map_err(|error| format!("{error}"))?;
    let millis = number.checked_mul(scale).ok_or_else(|| "the duration is too long".to_owned())?;
    Ok(Duration::from_millis(millis.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::{Options, duration};
    use clap::CommandFactory as _;
    use std::time::Duration;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        let millis = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(millis("4s"), Ok(4_000));
        assert_eq!(millis("5m"), Ok(300_000));
        assert_eq!(millis("1h"), Ok(3_600_000));
        for wrong in
            ["", "4", "s", "-4s", "4 s", "4d", "9999999999999999h", "99999999999999999999s"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
