//! Names, keys, aggregates and options that make no sense, and graphs that lead nowhere.

use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use thalweg::prelude::*;
use thalweg::{ApproxDistinct, AsyncMap, Dedup, Quantiles, RateLimit, TopN};

use super::{Case, case, check, end, keyed, numbers, timed, untimed};

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Exact(f64);

impl Eq for Exact {}

impl Hash for Exact {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

fn names_and_keys() -> Vec<Case> {
    vec![
        case!("counts", "two operators have the name", |job| {
            let numbers = untimed(job, "numbers");
            end(&numbers.aggregate("counts", Count));
            numbers.aggregate("counts", Count).sink("other", sink::discard());
        }),
        case!("numbers", "two operators have the name", |job| {
            untimed(job, "numbers").records().sink("numbers", sink::discard());
        }),
        case!("the counts", "letters, digits", |job| {
            end(&untimed(job, "numbers").aggregate("the counts", Count));
        }),
        case!("", "letters, digits", |job| {
            end(&untimed(job, "numbers").aggregate("", Count));
        }),
        case!("key_by-1", "cannot be a key", |job| {
            let number = |n: &u64| match n {
                0 => Untagged::Text(String::new()),
                n => Untagged::Number(*n),
            };
            end(&numbers(job, "numbers").key_by(number).records());
        }),
        case!("key_by-1", "cannot be a key", |job| {
            end(&numbers(job, "numbers").key_by(|n| Exact(*n as f64)).records());
        }),
        case!("key_by-1", "cannot be a key", |job| {
            end(&numbers(job, "numbers").key_by(|n| (1_u8, Some(Exact(*n as f64)))).records());
        }),
    ]
}

fn aggregates() -> Vec<Case> {
    vec![
        case!("distinct", "precision", |job| {
            let distinct = ApproxDistinct::of(|n: &u64| *n).precision(3);
            end(&untimed(job, "numbers").aggregate("distinct", distinct));
        }),
        case!("distinct", "precision", |job| {
            let distinct = ApproxDistinct::of(|n: &u64| *n).precision(19);
            let windows = keyed(job, "numbers").window(Tumbling::of(millis(5)));
            end(&windows.aggregate("distinct", (Count, distinct)).results());
        }),
        case!("delays", "relative error", |job| {
            let delays = Quantiles::of(|n: &u64| *n as f64).relative_error(0.0);
            let windows = keyed(job, "numbers").window(Session::with_gap(millis(5)));
            end(&windows.aggregate("delays", delays).results());
        }),
        case!("delays", "relative error", |job| {
            let delays = Quantiles::of(|n: &u64| *n as f64).relative_error(f64::NAN);
            let windows = keyed(job, "numbers").window(CountWindow::tumbling(5));
            end(&windows.aggregate("delays", delays));
        }),
        case!("top", "at least 1", |job| {
            let top = TopN::by(0, |n: &u64| *n);
            end(&keyed(job, "numbers").window(GlobalWindow).aggregate("top", top).results());
        }),
        case!("top", "at least 1", |job| {
            let top = TopN::by(0, |n: &u64| *n);
            end(&untimed(job, "numbers").aggregate_as_changes("top", top));
        }),
    ]
}

fn options() -> Vec<Case> {
    vec![
        case!("first", "millisecond", |job| {
            let dedup = Dedup::by_event_time(millis(0));
            end(&keyed(job, "numbers").dedup("first", dedup).results().records());
        }),
        case!("first", "millisecond", |job| {
            let dedup = Dedup::by_processing_time(millis(0));
            end(&keyed(job, "numbers").dedup("first", dedup).results().records());
        }),
        case!("answers", "capacity", |job| {
            let asking = AsyncMap::ordered().capacity(0);
            let ask = |n: u64| async move { Ok::<_, String>(n) };
            end(&numbers(job, "numbers").async_map("answers", asking, ask));
        }),
        case!("answers", "time-out", |job| {
            let asking = AsyncMap::ordered().timeout(millis(0));
            let ask = |n: u64| async move { Ok::<_, String>(n) };
            end(&numbers(job, "numbers").async_map("answers", asking, ask));
        }),
        case!("answers", "cache", |job| {
            let asking = AsyncMap::unordered().cache(5, millis(0));
            let ask = |n: u64| async move { Ok::<_, String>(n) };
            end(&numbers(job, "numbers").async_map("answers", asking, ask));
        }),
        case!("rate_limit-1", "limit of 0", |job| {
            end(&numbers(job, "numbers").rate_limit(0));
        }),
        case!("rate_limit-1", "limit of 0", |job| {
            end(&numbers(job, "numbers").rate_limit(RateLimit::per_second(5).burst(0)));
        }),
    ]
}

fn graphs() -> Vec<Case> {
    vec![
        case!("map-2", "leads nowhere", |job| {
            let _ = timed(job, "numbers").map(|n| n + 1);
        }),
        case!("counts", "leads nowhere", |job| {
            let windows = keyed(job, "numbers").window(Tumbling::of(millis(5)));
            let counts = windows.aggregate("counts", Count);
            end(&counts.late());
        }),
        case!("lists", "leads nowhere", |job| {
            let windows = keyed(job, "numbers").window(Tumbling::of(millis(5)));
            let _ = windows.process("lists", |_| 1_u64);
        }),
    ]
}

#[test]
fn names_keys_and_options_that_make_no_sense() {
    let cases = [names_and_keys(), aggregates(), options(), graphs()];
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    check(&cases, "refused/options.rs", line!());
}
