//! The queries of the NEXMark example, killed at random moments and started again: the result of
//! the oracle, byte for byte.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::{Ended, checkpoint_numbers, example, random_moments, wait_until};

const QUERIES: [&str; 13] =
    ["q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q11", "q18", "q19", "wc", "state"];

/// How often each job is killed.
const KILLS: u64 = 4;

/// Events per second at which a job is killed before it ends, and at which it ends soon.
const SLOW: u64 = 8_000;
const FAST: u64 = 1_000_000_000;

/// One query, with a directory for all it writes.
struct Job {
    query: &'static str,
    input: &'static str,
    directory: tempfile::TempDir,
}

impl Job {
    fn new(query: &'static str, input: &'static str) -> Self {
        Job { query, input, directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, out: &str, arguments: &str) -> Command {
        let mut command = Command::new(example("nexmark"));
        command.args(["--query", self.query]).arg("--out").arg(self.path(out));
        command.args(self.input.split_whitespace()).args(arguments.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the job, or goes on with it.
    fn start(&self, events_per_second: u64) -> Child {
        let how = "--parallelism 2 --checkpoint-interval 20ms --events-per-second";
        let mut command = self.command("out.csv", &format!("{how} {events_per_second}"));
        command.arg("--checkpoint-dir").arg(self.path("checkpoints"));
        command.spawn().expect("the job starts")
    }

    fn has_checkpoint(&self) -> bool {
        !checkpoint_numbers(&self.path("checkpoints")).is_empty()
    }

    /// The result of the oracle, in order.
    fn expected(&self) -> Vec<u8> {
        Ended::of(&mut self.command("expected.csv", "--oracle")).expect_success();
        fs::read(self.path("expected.csv")).expect("the oracle's result")
    }
}

/// Kills each of the jobs, in turn and again and again, and lets them end.
#[expect(clippy::disallowed_methods, reason = "lets other processes run for a while")]
fn kill_repeatedly(jobs: &[Job]) {
    let mut moments = random_moments(KILLS * jobs.len() as u64, 0..50).into_iter();
    for round in 0..KILLS {
        let mut running: Vec<(&Job, Child)> =
            jobs.iter().map(|job| (job, job.start(SLOW))).collect();
        if round == 0 {
            wait_until("checkpoints", || jobs.iter().all(Job::has_checkpoint));
        } else {
            // So that none is always the first.
            running.rotate_left(round as usize * jobs.len() / KILLS as usize);
        }
        for (job, mut child) in running {
            std::thread::sleep(Duration::from_millis(moments.next().unwrap_or(0)));
            let ended = child.try_wait().expect("can be asked");
            assert!(ended.is_none(), "{} ended before it was killed: {ended:?}", job.query);
            child.kill().expect("can be killed");
            child.wait().expect("has ended");
        }
    }
}

fn answers_as_the_oracle(input: &'static str) {
    let jobs = QUERIES.map(|query| Job::new(query, input));
    kill_repeatedly(&jobs);
    let running: Vec<Child> = jobs.iter().map(|job| job.start(FAST)).collect();
    for (job, child) in jobs.iter().zip(running) {
        let ended = Ended::from(child.wait_with_output().expect("ends")).expect_success();
        assert!(ended.stderr.contains("resumed from checkpoint"), "{}: {ended:?}", job.query);
        let result = fs::read(job.path("out.csv")).expect("the result");
        // Not `assert_eq`: a difference would print the files.
        assert!(result == job.expected(), "{}, {input}: another result", job.query);
    }
}

#[test]
fn killed_and_started_again_queries_answer_as_the_oracle() {
    answers_as_the_oracle("--events 100000");
}

/// A group spans 100 s of event time: most events are late.
#[test]
fn with_many_late_events_too() {
    answers_as_the_oracle(
        "--events 60000 --rate 100 --out-of-order-group 10000 --out-of-orderness 1s --splits 3",
    );
}
