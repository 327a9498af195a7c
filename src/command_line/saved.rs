//! The options of the commands about savepoints and checkpoints, and about a running job.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, ValueEnum};

/// What was asked for that needs none of the job's own options.
#[derive(Debug)]
pub(crate) enum SavedRequest {
    Savepoint(SavepointOptions),
    Stop(StopOptions),
    Status(DirectoryOptions),
    Inspect(InspectOptions),
}

/// Which job, or which checkpoints.
#[derive(Args, Clone, Debug)]
pub(crate) struct DirectoryOptions {
    /// The job's directory for checkpoints
    #[arg(long, env = "THALWEG_CHECKPOINT_DIR", value_name = "DIR")]
    pub(crate) checkpoint_dir: PathBuf,
    /// Where the job listens, if it was told where to
    #[arg(long, env = "THALWEG_CONTROL", value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SavepointOptions {
    #[command(flatten)]
    pub(crate) of: DirectoryOptions,
    /// Directory in which the savepoint is made, as `savepoint-JOB-N`
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct StopOptions {
    #[command(flatten)]
    pub(crate) of: DirectoryOptions,
    /// Directory in which a savepoint of the stopped job is made, as `savepoint-JOB-N`
    #[arg(long, value_name = "DIR")]
    pub(crate) with_savepoint: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct CheckOptions {
    /// A savepoint, or checkpoints, of which the newest is checked: a directory or a URL
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// The checkpoint of that number
    #[arg(long, value_name = "N")]
    pub(crate) checkpoint: Option<u64>,
    /// Key groups of the job [default: 128]
    #[arg(long, env = "THALWEG_KEY_GROUPS", value_name = "N")]
    pub(crate) key_groups: Option<u16>,
    /// For people or for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = CheckFormat::Text)]
    pub(crate) format: CheckFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    Text,
    Json,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct InspectOptions {
    /// A savepoint, or checkpoints, of which the newest is shown: a directory or a URL
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// The checkpoint of that number
    #[arg(long, value_name = "N")]
    pub(crate) checkpoint: Option<u64>,
    /// The entries of this operator, as lines of JSON
    #[arg(long, value_name = "NAME")]
    pub(crate) operator: Option<String>,
    /// Of the entries those of this key, given as JSON
    #[arg(long, value_name = "JSON", requires = "operator")]
    pub(crate) key: Option<String>,
    /// All entries; without it the first hundred of each table
    #[arg(long, requires = "operator", conflicts_with = "key")]
    pub(crate) all: bool,
    /// For people, or lines of JSON for programs
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = InspectFormat::Text)]
    pub(crate) format: InspectFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectFormat {
    Text,
    Jsonl,
}

/// The commands, but for `check`, which has the options of the job too.
pub(crate) fn commands() -> [Command; 4] {
    [
        SavepointOptions::augment_args(Command::new("savepoint"))
            .about("Makes a savepoint: of the running job, or of its newest checkpoint"),
        StopOptions::augment_args(Command::new("stop"))
            .about("Stops the running job in order, and waits for its end"),
        DirectoryOptions::augment_args(Command::new("status"))
            .about("Says how far the running job is"),
        InspectOptions::augment_args(Command::new("inspect"))
            .about("Shows what is in a savepoint or checkpoint"),
    ]
}

/// Reads what one of [`commands`] has matched.
pub(crate) fn request(name: &str, matches: &ArgMatches) -> Result<SavedRequest, clap::Error> {
    Ok(match name {
        "savepoint" => SavedRequest::Savepoint(SavepointOptions::from_arg_matches(matches)?),
        "stop" => SavedRequest::Stop(StopOptions::from_arg_matches(matches)?),
        "status" => SavedRequest::Status(DirectoryOptions::from_arg_matches(matches)?),
        _ => SavedRequest::Inspect(InspectOptions::from_arg_matches(matches)?),
    })
}
