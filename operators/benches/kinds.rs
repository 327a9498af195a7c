//! What a record costs in each kind of window, against a running count.
//!
//! `cargo bench -p thalweg-operators --no-default-features --bench kinds [-- RECORDS]`
//!
//! Jobs of one subtask on one thread count records per key: generated numbers, event time, window,
//! a sink that counts. A key has a record every ten seconds of event time or so, out of order
//! within half a second.

use std::time::{Duration, Instant};

use thalweg_connectors::{generator, sink};
use thalweg_engine::Element;
use thalweg_engine::options::JobOptions;
use thalweg_engine::runtime::{StopSignal, run};
use thalweg_operators::{
    Count, CountWindow, GlobalWindow, Job, KeyedStream, RecordAligned, Session, Stream, Tumbling,
    Watermarks,
};

type Numbers = KeyedStream<u64, (u64, u64)>;

/// A number that looks random (splitmix64).
fn mixed(i: u64) -> u64 {
    let z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Nanoseconds and results of a record.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn measure(keys: u64, records: u64, windows: fn(&Numbers) -> sink::Count) -> (f64, f64) {
    let source = generator(Some(records), move |i| {
        let random = mixed(i);
        (random % keys, i * 10_000 / keys + 500 - (random >> 40) % 501)
    });
    let job = Job::new();
    let numbers = job
        .source("numbers", source)
        .event_time(|r| r.1, Watermarks::bounded_out_of_orderness(Duration::from_millis(500)))
        .key_by(|r| r.0);
    let count = windows(&numbers);
    let options = JobOptions { parallelism: Some(1), workers: Some(1), ..JobOptions::default() };
    let config = options.check(1).expect("one subtask on one thread");
    let graph = job.into_graph();
    let begun = Instant::now();
    run(&graph, "kinds", &config, &StopSignal::default(), &mut |_| {}).expect("the job runs");
    let nanos = begun.elapsed().as_nanos() as f64;
    (nanos / records as f64, count.records() as f64 / records as f64)
}

/// Counts what a job gives out.
fn counted<T: Element>(results: &Stream<T>) -> sink::Count {
    let (sink, count) = sink::count();
    results.sink("results", sink);
    count
}

/// A kind of operator in a job that counts its results.
type Measured = fn(&Numbers) -> sink::Count;

fn main() {
    let records = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(5_000_000);
    let kinds: [(&str, Measured); 7] = [
        ("running count", |n| counted(&n.aggregate("count", Count))),
        ("tumbling, 1 min", |n| {
            let windows = n.window(Tumbling::of(Duration::from_mins(1)));
            counted(&windows.aggregate("count", Count).results())
        }),
        ("session, gap 1 min", |n| {
            let windows = n.window(Session::with_gap(Duration::from_mins(1)));
            counted(&windows.aggregate("count", Count).results())
        }),
        ("session, gap 10 s", |n| {
            let windows = n.window(Session::with_gap(Duration::from_secs(10)));
            counted(&windows.aggregate("count", Count).results())
        }),
        ("record-aligned, 10 min", |n| {
            let windows = n.window(RecordAligned::of(Duration::from_mins(10)));
            counted(&windows.aggregate("count", Count).results())
        }),
        ("global", |n| counted(&n.window(GlobalWindow).aggregate("count", Count).results())),
        ("count, 100 every 10", |n| {
            counted(&n.window(CountWindow::sliding(100, 10)).aggregate("count", Count))
        }),
    ];
    println!("| keys | windows | ns a record | results a record |");
    println!("|---|---|---|---|");
    for keys in [100, 10_000, 1_000_000] {
        for (name, windows) in kinds {
            let (a, b) = (measure(keys, records, windows), measure(keys, records, windows));
            println!("| {keys} | {name} | {:.1} | {:.3} |", a.0.min(b.0), a.1);
        }
    }
}
