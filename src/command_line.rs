//! The command line that every job binary has, and its kinds of values for options of your own.
//!
//! ```text
//! job [run] [OPTIONS]            runs the job
//! job plan [--format FORMAT]     shows its graph
//! job savepoint --to DIR         makes a savepoint; of the running job, if one runs
//! job stop                       stops the running job in order
//! job status                     says how far the running job is
//! job check PATH                 says whether the job can start from a savepoint or checkpoint
//! job inspect PATH               shows what is in one
//! ```

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use thalweg_engine::graph::PlanFormat;
use thalweg_engine::options::{CheckpointMode, JobOptions, Restore, StateBackend};
use thalweg_engine::restart::RestartPolicy;
use tracing_subscriber::filter::LevelFilter;

pub(crate) mod saved;

use saved::SavedRequest;

/// The options of `run`, apart from the job's own.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Running")]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) placement: PlacementOptions,
    /// Directory or URL (s3://, gs://, az://) for checkpoints; without it none are taken. It
    /// belongs to this job alone
    #[arg(long, env = "THALWEG_CHECKPOINT_DIR", value_name = "DIR")]
    checkpoint_dir: Option<PathBuf>,
    /// Directory for scratch files [default: in the checkpoint directory, or the system's place for
    /// temporary files]
    #[arg(long, env = "THALWEG_WORK_DIR", value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Time between checkpoints: 100ms, 4s, 5m [default: 10s]
    #[arg(long, env = "THALWEG_CHECKPOINT_INTERVAL", value_name = "TIME", value_parser = duration)]
    checkpoint_interval: Option<Duration>,
    /// A checkpoint that takes longer is given up [default: 10m]
    #[arg(long, env = "THALWEG_CHECKPOINT_TIMEOUT", value_name = "TIME", value_parser = duration)]
    checkpoint_timeout: Option<Duration>,
    /// How often a record may count in state after a restore: `exactly-once`, or `at-least-once`,
    /// with which no channel ever waits for another's barrier
    #[arg(
        long,
        env = "THALWEG_CHECKPOINT_MODE",
        value_name = "MODE",
        value_parser = checkpoint_mode,
        default_value = "exactly-once"
    )]
    checkpoint_mode: CheckpointMode,
    /// When a checkpoint has taken this long, barriers overtake the records that are on their way:
    /// these become part of the checkpoint [default: never]
    #[arg(long, env = "THALWEG_UNALIGNED_AFTER", value_name = "TIME", value_parser = duration)]
    unaligned_after: Option<Duration>,
    /// How many checkpoints are kept [default: 3]
    #[arg(long, env = "THALWEG_CHECKPOINTS_RETAINED", value_name = "N")]
    checkpoints_retained: Option<usize>,
    /// What to start from: `latest` (if there is one), `none`, a checkpoint's number, or the path
    /// of a savepoint
    #[arg(
        long,
        env = "THALWEG_RESTORE",
        value_name = "WHAT",
        value_parser = restore,
        default_value = "latest"
    )]
    restore: Restore,
    /// What follows a failure: `none`, `exponential` (delays from 1s to 1m), `exponential:1s,1m`,
    /// `fixed:TIMES,DELAY`, `failure-rate:FAILURES,WITHIN,DELAY` [default: exponential if there is
    /// a checkpoint directory]
    #[arg(long, env = "THALWEG_RESTART", value_name = "POLICY", value_parser = restart_policy)]
    restart: Option<RestartPolicy>,
    /// A record that makes the same operator fail so often ends the job; 0: never [default: 3]
    #[arg(long, env = "THALWEG_POISON_AFTER", value_name = "N")]
    poison_after: Option<u32>,
    /// Where state is kept: `memory`, or `rocksdb` for what exceeds --memory
    #[arg(
        long,
        env = "THALWEG_STATE",
        value_name = "WHERE",
        value_parser = state_backend,
        default_value = "memory"
    )]
    state: StateBackend,
    /// Memory for state kept with RocksDB: 512MiB, 4GiB [default: 256MiB]
    #[arg(long, env = "THALWEG_MEMORY", value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    /// Where the job listens for `stop`, `savepoint` and `status`: a socket; by default `control`
    /// in a local checkpoint directory
    #[arg(long, env = "THALWEG_CONTROL", value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Show nothing but errors
    #[arg(long, short, env = "THALWEG_QUIET")]
    pub(crate) quiet: bool,
    /// Log to the standard error: off, error, warn, info, debug, trace
    #[arg(long, env = "THALWEG_LOG", value_name = "LEVEL", value_parser = log_level,
          default_value = "warn")]
    pub(crate) log: LevelFilter,
}

/// The options that decide the plan.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Running")]
pub(crate) struct PlacementOptions {
    /// Subtasks of each operator [default: the workers]
    #[arg(long, short, env = "THALWEG_PARALLELISM", value_name = "N")]
    parallelism: Option<usize>,
    /// Worker threads [default: the processor's cores]
    #[arg(long, env = "THALWEG_WORKERS", value_name = "N")]
    workers: Option<usize>,
    /// Key groups, the most subtasks there can ever be; fixed for a job's life [default: 128]
    #[arg(long, env = "THALWEG_KEY_GROUPS", value_name = "N")]
    key_groups: Option<u16>,
}

impl RunOptions {
    pub(crate) fn job_options(&self) -> JobOptions {
        JobOptions {
            checkpoint_dir: self.checkpoint_dir.clone(),
            work_dir: self.work_dir.clone(),
            checkpoint_interval: self.checkpoint_interval,
            checkpoint_timeout: self.checkpoint_timeout,
            checkpoint_mode: self.checkpoint_mode,
            unaligned_after: self.unaligned_after,
            checkpoints_retained: self.checkpoints_retained,
            restore: self.restore.clone(),
            restart: self.restart,
            poison_after: self.poison_after,
            state: self.state,
            memory: self.memory,
            ..self.placement.job_options()
        }
    }
}

impl PlacementOptions {
    pub(crate) fn job_options(&self) -> JobOptions {
        JobOptions {
            parallelism: self.parallelism,
            workers: self.workers,
            key_groups: self.key_groups,
            ..JobOptions::default()
        }
    }
}

/// What was asked for on the command line of a job with options `A` of its own.
#[derive(Debug)]
pub(crate) enum Request<A> {
    Run(A, Box<RunOptions>),
    Plan(A, PlacementOptions, PlanFormat),
    Check(A, saved::CheckOptions),
    Saved(SavedRequest),
}

#[derive(Args, Debug)]
struct PlanOptions {
    /// text, dot (Graphviz) or mermaid (Markdown)
    #[arg(long, value_name = "FORMAT", value_parser = plan_format, default_value = "text")]
    format: PlanFormat,
    #[command(flatten)]
    placement: PlacementOptions,
}

/// The command line of a job.
pub(crate) fn command<A: Args>(name: &'static str, about: &'static str) -> Command {
    let plan = PlanOptions::augment_args(A::augment_args(Command::new("plan")));
    let run = |command| RunOptions::augment_args(A::augment_args(command));
    // The about text comes last: the options' own documentation would take its place.
    run(Command::new(name))
        .about(about)
        .version(concat!("(thalweg ", env!("CARGO_PKG_VERSION"), ")"))
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
        .subcommand(run(Command::new("run")).about("Runs the job (the default)"))
        .subcommand(plan.about("Shows the graph of the job, and runs nothing"))
        .subcommand(
            saved::CheckOptions::augment_args(A::augment_args(Command::new("check")))
                .about("Says whether the job can start from a savepoint or checkpoint"),
        )
        .subcommands(saved::commands())
}

/// Reads what [`command`] has matched.
pub(crate) fn request<A: Args>(matches: &ArgMatches) -> Result<Request<A>, clap::Error> {
    match matches.subcommand() {
        Some(("plan", matches)) => {
            let PlanOptions { format, placement } = PlanOptions::from_arg_matches(matches)?;
            Ok(Request::Plan(A::from_arg_matches(matches)?, placement, format))
        }
        Some(("check", matches)) => {
            let options = saved::CheckOptions::from_arg_matches(matches)?;
            Ok(Request::Check(A::from_arg_matches(matches)?, options))
        }
        Some(("run", matches)) => run_request(matches),
        Some((name, matches)) => Ok(Request::Saved(saved::request(name, matches)?)),
        None => run_request(matches),
    }
}

fn run_request<A: Args>(matches: &ArgMatches) -> Result<Request<A>, clap::Error> {
    let options = Box::new(RunOptions::from_arg_matches(matches)?);
    Ok(Request::Run(A::from_arg_matches(matches)?, options))
}

/// Splits `text` into a whole number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

/// A span of time: a whole number with `ms`, `s`, `m`, `h` or `d`.
///
/// ```
/// use std::time::Duration;
/// use thalweg::command_line::duration;
///
/// assert_eq!(duration("100ms"), Ok(Duration::from_millis(100)));
/// assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
/// assert!(duration("5").is_err());
/// ```
///
/// # Errors
/// What is expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text).unwrap_or((0, "?"));
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("expected a whole number with a unit, as in 100ms, 4s, 5m, 1h".into()),
    };
    let millis = number.checked_mul(millis).ok_or("longer than all time")?;
    Ok(Duration::from_millis(millis))
}

/// A number of bytes: whole, with `KiB`, `MiB`, `GiB` or nothing behind it.
///
/// ```
/// assert_eq!(thalweg::command_line::bytes("512MiB"), Ok(512 << 20));
/// ```
///
/// # Errors
/// What is expected.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text).unwrap_or((0, "?"));
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("expected a whole number of bytes, as in 1048576, 512MiB, 4GiB".into()),
    };
    number.checked_mul(factor).ok_or_else(|| "more than 16 EiB".into())
}

fn restore(text: &str) -> Result<Restore, String> {
    match text {
        "latest" => Ok(Restore::Latest),
        "none" => Ok(Restore::Nothing),
        "" => Err("expected `latest`, `none`, a checkpoint's number or a savepoint's path".into()),
        other => Ok(match other.parse() {
            Ok(number) => Restore::Checkpoint(number),
            Err(_) => Restore::Savepoint(other.into()),
        }),
    }
}

/// A restart policy: `none`, `fixed:3,10s`, `exponential`, `exponential:500ms,30s` or
/// `failure-rate:3,5m,10s`.
///
/// ```
/// use std::time::Duration;
/// use thalweg::RestartPolicy;
/// use thalweg::command_line::restart_policy;
///
/// let fixed = RestartPolicy::Fixed { attempts: 3, delay: Duration::from_secs(10) };
/// assert_eq!(restart_policy("fixed:3,10s"), Ok(fixed));
/// assert_eq!(restart_policy("exponential"), Ok(RestartPolicy::EXPONENTIAL));
/// assert!(restart_policy("fixed:10s").is_err());
/// ```
///
/// # Errors
/// What is expected.
pub fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
    let arguments: Vec<&str> = match arguments {
        "" => Vec::new(),
        arguments => arguments.split(',').collect(),
    };
    let number = |text: &str| {
        text.trim().parse().map_err(|_| format!("expected a number, as in fixed:3,10s: `{text}`"))
    };
    match (name, &arguments[..]) {
        ("none", []) => Ok(RestartPolicy::None),
        ("exponential", []) => Ok(RestartPolicy::EXPONENTIAL),
        ("exponential", [first, longest]) => Ok(match RestartPolicy::EXPONENTIAL {
            RestartPolicy::Exponential { multiplier, jitter, reset_after, attempts, .. } => {
                let (initial, max) = (duration(first)?, duration(longest)?);
                RestartPolicy::Exponential {
                    initial,
                    max,
                    multiplier,
                    jitter,
                    reset_after,
                    attempts,
                }
            }
            other => other,
        }),
        ("fixed", [attempts, delay]) => {
            Ok(RestartPolicy::Fixed { attempts: number(attempts)?, delay: duration(delay)? })
        }
        ("failure-rate", [failures, per, delay]) => Ok(RestartPolicy::FailureRate {
            failures: number(failures)?,
            per: duration(per)?,
            delay: duration(delay)?,
        }),
        _ => Err("expected `none`, `exponential`, `exponential:1s,1m`, `fixed:3,10s` or \
                  `failure-rate:3,5m,10s`"
            .into()),
    }
}

fn state_backend(text: &str) -> Result<StateBackend, String> {
    match text {
        "memory" => Ok(StateBackend::Memory),
        "rocksdb" => Ok(StateBackend::RocksDb),
        _ => Err("expected `memory` or `rocksdb`".into()),
    }
}

fn checkpoint_mode(text: &str) -> Result<CheckpointMode, String> {
    match text {
        "exactly-once" => Ok(CheckpointMode::ExactlyOnce),
        "at-least-once" => Ok(CheckpointMode::AtLeastOnce),
        _ => Err("expected `exactly-once` or `at-least-once`".into()),
    }
}

fn plan_format(text: &str) -> Result<PlanFormat, String> {
    match text {
        "text" => Ok(PlanFormat::Text),
        "dot" => Ok(PlanFormat::Dot),
        "mermaid" => Ok(PlanFormat::Mermaid),
        _ => Err("expected `text`, `dot` or `mermaid`".into()),
    }
}

fn log_level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| "expected off, error, warn, info, debug or trace".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Args, Debug, PartialEq)]
    struct Own {
        #[arg(long)]
        rate: Option<u64>,
    }

    fn parse(arguments: &[&str]) -> Result<Request<Own>, clap::Error> {
        let matches = command::<Own>("job", "A job").try_get_matches_from(arguments)?;
        request(&matches)
    }

    #[test]
    fn the_command_line_is_consistent() {
        command::<Own>("job", "A job").debug_assert();
        let help = command::<Own>("job", "A job").render_help().to_string();
        assert!(help.starts_with("A job"), "{help}");
    }

    #[test]
    fn run_may_be_left_out_and_both_have_the_options_of_the_job() {
        for arguments in [
            &["job", "--rate", "5", "--parallelism", "3", "--memory", "2MiB"][..],
            &["job", "run", "--memory", "2MiB", "-p", "3", "--rate", "5"],
        ] {
            let Ok(Request::Run(own, options)) = parse(arguments) else {
                panic!("{arguments:?} means to run");
            };
            let options = options.job_options();
            assert_eq!(own, Own { rate: Some(5) });
            assert_eq!((options.parallelism, options.memory), (Some(3), Some(2 << 20)));
            assert_eq!(options.restore, Restore::Latest);
        }
        let arguments = ["job", "plan", "--rate", "5", "--format", "dot", "--parallelism", "3"];
        let Ok(Request::Plan(own, placement, format)) = parse(&arguments) else {
            panic!("{arguments:?} means to plan");
        };
        assert_eq!((own, format), (Own { rate: Some(5) }, PlanFormat::Dot));
        assert_eq!(placement.job_options().parallelism, Some(3));
        assert!(parse(&["job", "plan", "--checkpoint-dir", "x"]).is_err(), "a plan has none");
    }

    #[test]
    fn commands_about_saved_state_have_options_of_their_own() {
        let parsed = parse(&["job", "savepoint", "--checkpoint-dir", "ck", "--to", "sp"]);
        let Ok(Request::Saved(SavedRequest::Savepoint(options))) = parsed else {
            panic!("a savepoint: {parsed:?}");
        };
        assert_eq!((options.of.checkpoint_dir, options.to), ("ck".into(), "sp".into()));
        let Ok(Request::Check(own, options)) = parse(&["job", "check", "sp", "--rate", "5"]) else {
            panic!("a check has the options of the job, which decide its graph");
        };
        assert_eq!((own, options.path), (Own { rate: Some(5) }, "sp".into()));
        for wrong in [
            &["job", "savepoint", "--to", "sp"][..],
            &["job", "inspect"],
            &["job", "inspect", "sp", "--key", "1"],
            &["job", "inspect", "sp", "--operator", "x", "--key", "1", "--all"],
            &["job", "stop", "--checkpoint-dir", "ck", "--rate", "5"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn values_have_units_and_bounds() {
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for text in ["", "s", "-1s", "1.5s", "5 parsecs", "99999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!((bytes("17"), bytes("3KiB")), (Ok(17), Ok(3 << 10)));
        for text in ["", "MiB", "-1", "1MB", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(restore("17"), Ok(Restore::Checkpoint(17)));
        let (per, delay) = (Duration::from_secs(300), Duration::from_millis(5));
        let rate = RestartPolicy::FailureRate { failures: 3, per, delay };
        assert_eq!(restart_policy("failure-rate:3,5m,5ms"), Ok(rate));
        let Ok(RestartPolicy::Exponential { initial, max, .. }) =
            restart_policy("exponential:5ms,5m")
        else {
            panic!("is exponential");
        };
        assert_eq!((initial, max), (delay, per));
        for text in ["", "always", "none:1", "fixed", "fixed:1", "fixed:x,1s", "exponential:1s"] {
            assert!(restart_policy(text).is_err(), "{text}");
        }
        assert_eq!(restore("a/17"), Ok(Restore::Savepoint("a/17".into())));
        assert!(restore("").is_err());
        assert_eq!(checkpoint_mode("at-least-once"), Ok(CheckpointMode::AtLeastOnce));
        assert!(checkpoint_mode("twice").is_err());
    }
}
