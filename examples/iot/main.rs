//! Sensors behind gateways: what each measured in five minutes, which are too hot, which have
//! fallen silent.
//!
//! Each gateway is a split with a watermark of its own; the farther ones deliver later. Readings
//! that are sent again count once, and those that come too late are put aside.
//!
//! ```text
//! cargo run --release --example iot
//! cargo run --release --example iot -- --out DIR --checkpoint-dir CK --parallelism 2
//! cargo run --release --example iot -- --outage 1s --idle-after 200ms
//! ```
//!
//! The last line cuts a gateway off at the start. Without `--idle-after` all wait for it, and the
//! result is the same; with it they do not, and what it delivers afterwards is late.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use mimalloc::MiMalloc;
use thalweg::clap::{self, Args};
use thalweg::command_line::duration;
use thalweg::prelude::*;
use thalweg::{Dedup, FloatMean, JobMain, Quantiles, SourceStream, rate};

mod alert;
mod outage;
#[path = "../shared/parts.rs"]
mod parts;
mod reading;
mod report;
#[cfg(test)]
mod tests;

use alert::{Alert, Watch};
use outage::Outage;
use reading::{FiveMinutes, LateReading, Missed, Reading};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The options of this job, beside those that every job has.
#[derive(Args, Debug)]
struct Options {
    /// Directory for the results, in `measured`, `alerts` and `late`
    #[arg(long, value_name = "DIR", default_value = "iot-out")]
    out: PathBuf,
    /// How many readings to make up
    #[arg(long, value_name = "N", default_value_t = 400_000)]
    records: u64,
    /// Make up no more than N readings a second
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU64>,
    /// Cut the last gateway off for so long from the start
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    outage: Duration,
    /// Do not wait for a gateway that has delivered nothing for so long
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle_after: Option<Duration>,
}

/// What the job finds.
struct Found {
    measured: Stream<FiveMinutes>,
    alerts: Stream<Alert>,
    late: Stream<LateReading>,
}

fn iot(job: &Job, options: &Options) -> thalweg::Result<()> {
    let found = watch(&readings(job, options), options.idle_after);
    found.measured.sink("measured", files::csv_out(options.out.join("measured")));
    found.alerts.sink("alerts", files::csv_out(options.out.join("alerts")));
    found.late.sink("late", files::csv_out(options.out.join("late")));
    Ok(())
}

fn readings(job: &Job, options: &Options) -> SourceStream<Reading, ()> {
    let readings = generator(Some(options.records), reading::reading).splits(reading::GATEWAYS);
    let readings = Outage::new(readings, options.outage);
    match options.rate {
        Some(limit) => job.source("readings", rate::limit_source(readings, limit.get())),
        None => job.source("readings", readings),
    }
}

fn watch(readings: &Stream<Reading>, idle_after: Option<Duration>) -> Found {
    // No gateway runs more than an hour ahead of the slowest: what has to be kept is bounded.
    let mut watermarks = Watermarks::bounded_out_of_orderness(seconds(5)).with_alignment(hours(1));
    if let Some(timeout) = idle_after {
        watermarks = watermarks.with_idleness(timeout);
    }
    let once = readings
        .event_time(|r| r.time_ms, watermarks)
        .key_by(|r| (r.sensor, r.seq))
        .dedup("once", Dedup::by_event_time(minutes(1)));
    let by_sensor = once.records().map(|keyed| keyed.value).key_by(|r| r.sensor);

    let measured = by_sensor
        .window(Tumbling::of(minutes(5)))
        .aggregate("five-minutes", (FloatMean::of(celsius), Quantiles::of(celsius)));
    let in_order = by_sensor.in_event_order("in-order");
    let alerts = in_order.process::<(), _>("watch", Watch);

    let missed_all = once.late().map(|reading| LateReading::new(Missed::All, reading));
    let late = missed_all.union([
        &measured.late().map(|reading| LateReading::new(Missed::Window, reading)),
        &in_order.late().map(|reading| LateReading::new(Missed::Alerts, reading)),
    ]);
    Found { measured: measured.results().map(FiveMinutes::from), alerts: alerts.results(), late }
}

fn celsius(reading: &Reading) -> f64 {
    reading.celsius
}

fn main() -> thalweg::ExitCode {
    JobMain::<Options>::new("iot", iot)
        .about("Five-minute measures and alerts of sensors that are made up")
        .summary(|options, report| report::report(&options.out, report))
        .run()
}
