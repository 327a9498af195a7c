//! Runs all queries of the NEXMark job at parallelism 1 and 2 and prints a table.
//!
//! `cargo bench --bench nexmark` measures what `cargo run --release --example nexmark` runs: it
//! builds the example and asks it with `--bench`. Environment: `NEXMARK_EVENTS`, `NEXMARK_RUNS`.

use std::process::{Command, ExitCode};

use serde::Deserialize;

const QUERIES: [&str; 13] =
    ["q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q11", "q18", "q19", "wc", "state"];
const PARALLELISMS: [&str; 2] = ["1", "2"];

/// The columns of a line of the job that the table shows.
#[derive(Deserialize)]
struct Run {
    events: u64,
    seconds: f64,
    reference_seconds: f64,
}

fn main() -> ExitCode {
    println!("| query | parallelism | million events/s | loop by hand | share |");
    println!("|---|---|---|---|---|");
    for query in QUERIES {
        for parallelism in PARALLELISMS {
            match measure(query, parallelism) {
                Ok(row) => println!("| {query} | {parallelism} | {row} |"),
                Err(error) => {
                    eprintln!("error: {query} at parallelism {parallelism}: {error}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}

/// The best of several runs: of the engine, and of the loop written by hand.
fn measure(query: &str, parallelism: &str) -> Result<String, String> {
    let events = setting("NEXMARK_EVENTS", "500000");
    let runs = setting("NEXMARK_RUNS", "7");
    let job = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--example", "nexmark", "--", "--query", query])
        .args([
            "--parallelism",
            parallelism,
            "--splits",
            parallelism,
            "--events",
            &events,
            "--bench",
            &runs,
        ])
        .args(["--rate", "10000", "--out-of-order-group", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !job.status.success() {
        return Err(String::from_utf8_lossy(&job.stderr).into_owned());
    }
    let runs: Result<Vec<Run>, _> =
        String::from_utf8_lossy(&job.stdout).lines().map(serde_json::from_str).collect();
    let runs = runs.map_err(|error| format!("the job printed something else: {error}"))?;
    let best = |seconds: fn(&Run) -> f64| runs.iter().map(seconds).fold(f64::MAX, f64::min);
    let (engine, by_hand) = (best(|run| run.seconds), best(|run| run.reference_seconds));
    let millions = runs.first().map_or(0.0, |run| run.events as f64 / 1e6);
    let (speed, by_hand_speed) = (millions / engine, millions / by_hand);
    Ok(format!("{speed:.1} | {by_hand_speed:.1} | {:.2}", by_hand / engine))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark has no options of a job")]
fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}
