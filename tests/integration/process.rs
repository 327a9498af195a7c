//! Starts the example jobs as processes, as a user would.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::departure::{Departure, HourlyDelay};

/// The records of the data set that ships with the repository.
pub(crate) const RECORDS: usize = 327_346;

/// The binary of an example, built anew if its sources have changed: cargo builds no binary of an
/// example that has tests of its own.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("tests are in <profile>/deps");
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.contains(name) {
        build_example(name, profile);
        built.insert(name.to_owned());
    }
    profile.join("examples").join(name)
}

fn build_example(name: &str, profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let profile = match profile.file_name().and_then(|directory| directory.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let output = Command::new(cargo)
        .args(["build", "--locked", "--workspace", "--profile", profile, "--example", name])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the example {name} does not build:\n{said}");
}

/// The data that ships with the repository.
pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/flights.csv.gz")
}

/// The flights job, with a directory for all it writes.
pub(crate) struct Flights {
    pub(crate) directory: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Flights {
    /// The job with these arguments besides `--out`.
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Flights { directory, arguments: arguments.iter().map(|a| (*a).to_owned()).collect() }
    }

    /// The job with frequent checkpoints.
    pub(crate) fn with_checkpoints(arguments: &[&str]) -> Self {
        let mut flights = Self::new(arguments);
        let checkpoints = flights.checkpoints().display().to_string();
        let more = ["--checkpoint-dir", &checkpoints, "--checkpoint-interval", "50ms"];
        flights.arguments.extend(more.map(str::to_owned));
        flights
    }

    /// The same job with `--parallelism` or another option as given last.
    pub(crate) fn with_more(mut self, arguments: &[&str]) -> Self {
        if let Some(at) = self.arguments.iter().position(|a| a == arguments[0]) {
            self.arguments.drain(at..at + arguments.len());
        }
        self.arguments.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.directory.path().join("checkpoints")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(example("flights"));
        command.arg("--out").arg(self.out()).args(&self.arguments).stdin(Stdio::null());
        command
    }

    /// Runs the job to its end.
    pub(crate) fn run(&self) -> Ended {
        Ended::of(&mut self.command())
    }

    /// Starts the job and leaves it running.
    pub(crate) fn start(&self) -> Child {
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("the job starts")
    }

    /// The committed results, in order.
    pub(crate) fn hourly(&self) -> Vec<HourlyDelay> {
        let mut hours: Vec<HourlyDelay> = read_parts(&self.out().join("hourly"));
        hours.sort_by(|a, b| (&a.origin, a.window_start_ms).cmp(&(&b.origin, b.window_start_ms)));
        hours
    }

    /// The committed late records, in order.
    pub(crate) fn late(&self) -> Vec<Departure> {
        let mut late: Vec<Departure> = read_parts(&self.out().join("late"));
        late.sort_by_key(|departure| departure.seq);
        late
    }

    /// Fails unless each record is in a window or late, once.
    pub(crate) fn check_conservation(&self) {
        let in_windows: u64 = self.hourly().iter().map(|hour| hour.count).sum();
        assert_eq!(in_windows + self.late().len() as u64, RECORDS as u64);
    }
}

/// The names of the visible parts in `directory`, in order.
pub(crate) fn parts(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the output directory");
    let mut parts: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("part-")))
        .collect();
    parts.sort();
    parts
}

fn read_parts<T: serde::de::DeserializeOwned>(directory: &Path) -> Vec<T> {
    let mut records = Vec::new();
    for part in parts(directory) {
        let mut reader = csv::Reader::from_path(&part).expect("a part can be opened");
        records.extend(reader.deserialize().map(|row| row.expect("a part has only whole rows")));
    }
    records
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(command: &mut Command) -> Self {
        command.output().expect("the process starts").into()
    }

    /// Fails unless the process ended well.
    pub(crate) fn expect_success(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Fails unless the process ended with `code` and said one line, with all of `texts` in it.
    pub(crate) fn expect_error(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for text in texts {
            assert!(self.stderr.contains(text), "`{text}` is not in {self:?}");
        }
        self
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(child: &Child, signal: &str) {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("kill -{signal} {}", child.id()));
    assert!(shell.status().expect("there is a shell").success(), "the signal is sent");
}

/// Waits until `is_so`, at most a minute; another process makes it so.
#[expect(clippy::disallowed_methods, reason = "waits for another process")]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("a minute has gone by without {what}");
}

/// The numbers of the published checkpoints in `directory`, in order.
pub(crate) fn checkpoint_numbers(directory: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(directory.join("checkpoints")) else { return Vec::new() };
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id| directory.join(format!("checkpoints/{id:010}/manifest")).exists())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// So many random numbers of milliseconds; others for each process, and told from what.
pub(crate) fn random_moments(count: u64, range: Range<u64>) -> Vec<u64> {
    let mut seed = std::process::id().into();
    println!("random moments from seed {seed}");
    let next = |_| {
        // SplitMix64 (Steele, Lea, Flood 2014).
        seed = u64::wrapping_add(seed, 0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (z ^ (z >> 31)) % (range.end - range.start)
    };
    (0..count).map(next).collect()
}
