//! Event time that is missing, on one side only, or assigned too late.

use thalweg::prelude::*;
use thalweg::{AsyncMap, Dedup, Pattern};

use super::{Case, case, check, end, keyed, numbers, timed, untimed};

fn missing() -> Vec<Case> {
    vec![
        case!("sums", "works in event time", |job| {
            let windows = untimed(job, "numbers").window(Tumbling::of(millis(5)));
            end(&windows.aggregate("sums", Sum::of(|n: &u64| *n as i64)).results());
        }),
        case!("last", "works in event time", |job| {
            let windows = untimed(job, "numbers").window(Sliding::of(millis(5), millis(1)));
            end(&windows.reduce("last", |_, n| *n).results());
        }),
        case!("visits", "works in event time", |job| {
            let windows = untimed(job, "numbers").window(Session::with_gap(millis(5)));
            end(&windows.aggregate("visits", Count).results());
        }),
        case!("recent", "works in event time", |job| {
            let windows = untimed(job, "numbers").window(RecordAligned::of(millis(5)));
            end(&windows.aggregate("recent", Count).results());
        }),
        case!("lists", "works in event time", |job| {
            let windows = untimed(job, "numbers").window(Tumbling::of(millis(5)));
            end(&windows.process("lists", |_| 1_u64).results());
        }),
        case!("first", "works in event time", |job| {
            let dedup = Dedup::by_event_time(millis(5));
            end(&untimed(job, "numbers").dedup("first", dedup).results().records());
        }),
        case!("in-order", "works in event time", |job| {
            end(&untimed(job, "numbers").in_event_order("in-order").results().records());
        }),
        case!("all-in-order", "works in event time", |job| {
            end(numbers(job, "numbers").in_event_order("all-in-order").results());
        }),
        case!("pattern", "works in event time", |job| {
            let pattern = Pattern::begin("a", |_: &u64| true);
            end(&untimed(job, "numbers").pattern("pattern", pattern).matches());
        }),
    ]
}

fn joined() -> Vec<Case> {
    vec![
        case!("pairs", "works in event time", |job| {
            let joined = untimed(job, "left").join(&untimed(job, "right"));
            let pairs = joined.window(Tumbling::of(millis(5))).inner("pairs", |_, a, b| a + b);
            end(&pairs.results());
        }),
        case!("pairs", "works in event time", |job| {
            let joined = keyed(job, "left").join(&untimed(job, "right"));
            let pairs = joined.window(Tumbling::of(millis(5))).inner("pairs", |_, a, b| a + b);
            end(&pairs.results());
        }),
        case!("near", "works in event time", |job| {
            let joined = untimed(job, "left").interval_join(&keyed(job, "right"));
            end(&joined.between_millis(-1, 1).inner("near", |_, a, b| a + b).results());
        }),
        case!("versions", "works in event time", |job| {
            let table = untimed(job, "right").records().map(|row| Some(row.value));
            let joined = keyed(job, "left").join_table(&table.key_by(|row| row.unwrap_or(0)));
            end(&joined.as_of().inner("versions", |_, a, b| a + b).results());
        }),
        case!("all-pairs", "with and without an event time", |job| {
            let joined = keyed(job, "left").connect(&untimed(job, "right"));
            end(&joined.inner_join("all-pairs", |_, a, b| a + b));
        }),
        case!("union-3", "with and without an event time", |job| {
            end(&timed(job, "left").union([&numbers(job, "right")]));
        }),
    ]
}

fn too_late() -> Vec<Case> {
    vec![
        case!("event_time-2", "after an exchange", |job| {
            let numbers = numbers(job, "numbers").rebalance();
            end(&numbers.event_time(|n| *n, Watermarks::monotonic()));
        }),
        case!("event_time-3", "which keeps records", |job| {
            let numbers = numbers(job, "numbers").key_by(|n| *n).aggregate("counts", Count);
            end(&numbers.event_time(|n| n.value, Watermarks::monotonic()));
        }),
        case!("event_time-3", "after a union", |job| {
            let numbers = numbers(job, "left").union([&numbers(job, "right")]);
            end(&numbers.event_time(|n| *n, Watermarks::monotonic()));
        }),
        case!("event_time-2", "after another", |job| {
            let numbers = timed(job, "numbers");
            end(&numbers.event_time(|n| *n, Watermarks::monotonic()));
        }),
        // Answers come while another split is read, and after their own has ended.
        case!("event_time-2", "which keeps records", |job| {
            let asking = AsyncMap::ordered();
            let numbers = numbers(job, "numbers")
                .async_map("answers", asking, |n| async move { Ok::<_, String>(n) });
            end(&numbers.event_time(|n| *n, Watermarks::monotonic()));
        }),
        case!("event_time-1", "idle", |job| {
            let watermarks = Watermarks::monotonic().with_idleness(millis(0));
            end(&numbers(job, "numbers").event_time(|n| *n, watermarks));
        }),
    ]
}

#[test]
fn event_time_that_is_missing_or_late() {
    let cases: Vec<Case> = [missing(), joined(), too_late()].into_iter().flatten().collect();
    check(&cases, "refused/event_time.rs", line!());
}
