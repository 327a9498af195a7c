//! How late do flights leave New York City, hour by hour? All departures of 2013, in the order in
//! which the flights reported their landing: hours out of order.
//!
//! ```text
//! cargo run --release --example flights
//! cargo run --release --example flights -- --out DIR --checkpoint-dir CK --parallelism 2
//! ```

use std::num::NonZeroU64;
use std::path::PathBuf;

use mimalloc::MiMalloc;
use thalweg::clap::{self, Args};
use thalweg::files::DeadLetter;
use thalweg::prelude::*;
use thalweg::{JobMain, SourceStream};

mod chart;
mod departure;
mod new_york;
#[path = "../shared/parts.rs"]
mod parts;
mod report;

use departure::{Departure, HourlyDelay};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The options of this job, beside those that every job has.
#[derive(Args, Debug)]
struct Options {
    /// Directory for the results, in `hourly` and `late`
    #[arg(long, value_name = "DIR", default_value = "flights-out")]
    out: PathBuf,
    /// Departures as CSV, plain or compressed: a file, or a directory of files
    #[arg(long, value_name = "PATH",
          default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/flights.csv.gz"))]
    input: PathBuf,
    /// Read the files of a directory side by side, each with a watermark of its own
    #[arg(long)]
    splits_by_file: bool,
    /// Read no more than N records a second
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU64>,
}

fn flights(job: &Job, options: &Options) -> thalweg::Result<()> {
    let hourly = departures(job, options)
        .event_time(|d| d.event_time_ms, Watermarks::bounded_out_of_orderness(hours(4)))
        .key_by(|d| d.origin.clone())
        .window(Tumbling::of(hours(1)))
        .aggregate("hourly-delay", (Count, Sum::of(delay), Mean::of(delay)));
    let results = hourly.results().map(HourlyDelay::from);
    results.sink("hourly", files::csv_out(options.out.join("hourly")));
    hourly.late().sink("late", files::csv_out(options.out.join("late")));
    Ok(())
}

fn delay(departure: &Departure) -> i64 {
    departure.dep_delay_min
}

fn departures(job: &Job, options: &Options) -> SourceStream<Departure, DeadLetter> {
    let mut files = files::csv::<Departure>(&options.input);
    if options.splits_by_file {
        files = files.splits_by_file();
    }
    match options.rate {
        Some(rate) => job.source("departures", files.records_per_second(rate.get())),
        None => job.source("departures", files),
    }
}

fn main() -> thalweg::ExitCode {
    JobMain::<Options>::new("flights", flights)
        .about("Hourly departure delays of the airports of New York City")
        .summary(|options, report| report::report(&options.out, report))
        .run()
}
