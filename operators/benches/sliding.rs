//! What a record costs in a sliding window, by size / slide, against a tumbling one.
//!
//! `cargo bench -p thalweg-operators --no-default-features --bench sliding [-- MOST-SLIDES]`
//!
//! Jobs of one subtask on one thread count records per key: generated numbers, event time, window,
//! a sink that counts. The slide is a second of event time and holds 10,000 records. A window
//! fills before the clock starts; it then runs for as long as a window is and 100 slides at least,
//! so that whatever is done once per window is in the figures. Ends of input are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thalweg_connectors::{generator, sink};
use thalweg_engine::options::JobOptions;
use thalweg_engine::runtime::{StopSignal, run};
use thalweg_operators::{Count, Job, Sliding, Watermarks};

/// Records in a slide.
const RATE: u64 = 10_000;

const SLIDE: Duration = Duration::from_secs(1);

/// How far a record may be behind another, where they are out of order.
const DISORDER_MS: u64 = 500;

#[derive(Clone, Copy)]
struct Case {
    keys: u64,
    disorder_ms: u64,
    /// The slides in a window; none for a window that never ends.
    slides: Option<u64>,
}

struct Cost {
    ns_per_record: f64,
    results_per_record: f64,
}

/// A number that looks random (splitmix64).
fn mixed(i: u64) -> u64 {
    let z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn measure(case: Case) -> Cost {
    let filled = case.slides.unwrap_or(1) * RATE;
    let end = filled + case.slides.unwrap_or(0).max(100) * RATE;
    let (sink, count) = sink::count();
    // The clock and the results at the first measured record, then their growth until the last.
    let begun = Instant::now();
    let (nanos, results) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (nanos_seen, results_seen) = (nanos.clone(), results.clone());
    let source = generator(Some(end + 1), move |i| {
        if i == filled || i == end {
            let (now, given) = (begun.elapsed().as_nanos() as u64, count.records());
            nanos_seen.store(now - nanos_seen.load(Ordering::Relaxed), Ordering::Relaxed);
            results_seen.store(given - results_seen.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let random = mixed(i);
        let late_ms = (random >> 40) % (case.disorder_ms + 1);
        (random % case.keys, i * 1_000 / RATE + DISORDER_MS - late_ms)
    });
    let size = case.slides.map_or(Duration::from_hours(1_000_000), |n| SLIDE * n as u32);
    let slide = case.slides.map_or(size, |_| SLIDE);
    let job = Job::new();
    job.source("numbers", source)
        .event_time(|r| r.1, Watermarks::bounded_out_of_orderness(Duration::from_millis(500)))
        .key_by(|r| r.0)
        .window(Sliding::of(size, slide))
        .aggregate("count", Count)
        .results()
        .sink("results", sink);
    let options = JobOptions { parallelism: Some(1), workers: Some(1), ..JobOptions::default() };
    let config = options.check(1).expect("one subtask on one thread");
    run(&job.into_graph(), "sliding", &config, &StopSignal::default(), &mut |_| {})
        .expect("the job runs");
    let records = (end - filled) as f64;
    Cost {
        ns_per_record: nanos.load(Ordering::Relaxed) as f64 / records,
        results_per_record: results.load(Ordering::Relaxed) as f64 / records,
    }
}

/// The better of two runs.
fn best(case: Case) -> Cost {
    let (a, b) = (measure(case), measure(case));
    if a.ns_per_record <= b.ns_per_record { a } else { b }
}

fn main() {
    let most = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(3_600);
    println!("| keys | order | size / slide | ns a record | of tumbling | results a record |");
    println!("|---|---|---|---|---|---|");
    for keys in [100, 10_000] {
        for (disorder_ms, order) in [(0, "in order"), (DISORDER_MS, "within 0.5 s")] {
            let case = Case { keys, disorder_ms, slides: None };
            let never = best(case).ns_per_record;
            println!("| {keys} | {order} | never fires | {never:.1} | | |");
            let mut tumbling = None;
            for slides in [1, 10, 60, 600, 3_600].into_iter().filter(|slides| *slides <= most) {
                let cost = best(Case { slides: Some(slides), ..case });
                let ns = cost.ns_per_record;
                let tumbling = *tumbling.get_or_insert(ns);
                let (ratio, results) = (ns / tumbling, cost.results_per_record);
                println!("| {keys} | {order} | {slides} | {ns:.1} | {ratio:.2} | {results:.2} |");
            }
        }
    }
}
