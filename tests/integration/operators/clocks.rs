//! What depends on clocks and on the world outside: `async_map` on tokio, alignment, windows of
//! processing time, rate limits. Nothing here sleeps; what waits has a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use thalweg::prelude::*;
use thalweg::{
    AsyncMap, Counter, ProcessingSession, ProcessingSliding, ProcessingTumbling, RateLimit, Retry,
};

use super::data::{BOUND, Data, Event, Port, Row, ordered, sorted};
use super::harness::{Case, Held, Input, all, check};
use super::reference::{Slid, read};
use super::windows::Identities;

const fn case(name: &'static str, build: fn(&Job, &Input) -> Stream<Row>) -> Case {
    Case { name, build, invariant: all, expected: None, held: Held::InRows, shows_spilling: false }
}

/// The world outside: some questions fail at first, some are never answered at first, and some
/// fail for good.
#[derive(Clone, Default)]
struct World(Arc<Mutex<BTreeSet<i64>>>);

impl World {
    async fn answer(self, event: Event) -> Result<Event, String> {
        let number = event.id.number;
        let is_first = self.0.lock().expect("nobody panics").insert(number);
        if number % 97 == 0 {
            return Err("there is no answer".to_owned());
        }
        if is_first && number % 11 == 0 {
            return Err("not now".to_owned());
        }
        if is_first && number % 301 == 0 {
            return std::future::pending().await;
        }
        // Answers overtake one another.
        let mut turns = number % 5;
        poll_fn(|context| {
            turns -= 1;
            if turns < 0 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        Ok(event)
    }
}

/// Windows behind `async_map`, its failed records, and what is late for the windows.
fn asked(job: &Job, input: &Input, name: &str, how: AsyncMap) -> Stream<Row> {
    let how = how
        .capacity(64)
        .timeout(millis(25))
        .retry(Retry::exponential(2, millis(1), millis(4)))
        .errors_to_stream();
    let world = World::default();
    let answers = input.left(job).async_map(name, how, move |event| world.clone().answer(event));
    let failed = answers
        .errors()
        .map(|failed| Row::result([failed.record.id.number], []).of_port(Port::Third));
    let windows = answers
        .key_by(|event| event.key)
        .window(Tumbling::of(millis(60)))
        .aggregate(format!("{name}-windows"), Identities);
    // The operator itself finds nothing late.
    let late = windows.late().map(|event| Row::result([], [event.id.number]).of_port(Port::Side));
    let results = windows.results().map(|result| {
        let window = result.window;
        let at = [i64::from(result.key), window.start.millis(), window.end.millis()];
        Row::result(at, result.value)
    });
    results.union([&failed, &late])
}

fn expected_answers(data: &Data) -> Vec<Row> {
    let (failed, answered) =
        read(&data.left).into_iter().partition::<Vec<_>, _>(|r| r.id % 97 == 0);
    let rows = Slid::tumbling(60, 0).rows(&answered).into_iter().map(|row| match row.port {
        Port::Late => row.of_port(Port::Side),
        _ => row,
    });
    let failed = failed.iter().map(|read| Row::result([read.id], []).of_port(Port::Third));
    sorted(rows.chain(failed))
}

#[test]
fn ordered_questions() {
    check(&Case {
        expected: Some(expected_answers),
        ..case("ordered", |job, input| asked(job, input, "ordered", AsyncMap::ordered()))
    });
}

/// Answers come in any order, but none behind a watermark that its record was before.
#[test]
fn unordered_questions() {
    check(&Case {
        expected: Some(expected_answers),
        ..case("unordered", |job, input| {
            asked(job, input, "unordered", AsyncMap::unordered().cache(10, millis(50)))
        })
    });
}

/// One split, one subtask: the answers come in the order of the records.
#[test]
fn answers_keep_their_order() {
    let data = Data::new();
    let (sink, answers) = memory::sink();
    let build = |job: &Job| {
        let world = World::default();
        let how = AsyncMap::ordered().timeout(millis(25)).errors_to_stream();
        let how = how.retry(Retry::fixed(1, millis(1)));
        job.source("events", memory::source(data.left[0].clone()))
            .async_map("asked", how, move |event| world.clone().answer(event))
            .map(|event| event.id.number)
            .sink("answers", sink.clone());
        Ok(())
    };
    let options = JobOptions { parallelism: Some(1), workers: Some(1), ..JobOptions::default() };
    let report = thalweg::execute("ordered", build, &options).expect("it ends");
    let numbers = data.left[0].iter().map(|event| event.id.number);
    let (dead, alive) = numbers.partition::<Vec<i64>, _>(|number| number % 97 == 0);
    assert_eq!(answers.take(), alive);
    assert_eq!(report.progress.metrics.total("asked", Counter::Dead), dead.len() as u64);
}

/// Each identity as often as it is given out by windows of the clock.
fn by_clock(rows: &[Row]) -> Vec<Row> {
    let mut times = BTreeMap::<i64, i64>::new();
    for id in rows.iter().flat_map(|row| &row.ids) {
        *times.entry(*id).or_default() += 1;
    }
    sorted(times.into_iter().map(|(id, n)| Row::result([n], [id])))
}

fn each(data: &Data, times: i64) -> Vec<Row> {
    sorted(read(&data.left).iter().map(|read| Row::result([times], [read.id])))
}

#[test]
fn tumbling_by_the_clock() {
    check(&Case {
        invariant: by_clock,
        expected: Some(|data| each(data, 1)),
        ..case("clock-tumbling", |job, input| {
            let windows = input.keyed(job).processing_window(ProcessingTumbling::of(millis(8)));
            let results = windows.aggregate("clock-tumbling", Identities);
            results.map(|result| Row::result([i64::from(result.key)], result.value))
        })
    });
}

#[test]
fn sliding_by_the_clock() {
    check(&Case {
        invariant: by_clock,
        expected: Some(|data| each(data, 3)),
        ..case("clock-sliding", |job, input| {
            let windows = ProcessingSliding::of(millis(15), millis(5));
            let windows = input.keyed(job).processing_window(windows);
            let results = windows.aggregate("clock-sliding", Identities);
            results.map(|result| Row::result([i64::from(result.key)], result.value))
        })
    });
}

#[test]
fn sessions_by_the_clock() {
    check(&Case {
        invariant: by_clock,
        expected: Some(|data| each(data, 1)),
        ..case("clock-session", |job, input| {
            let windows =
                input.keyed(job).processing_window(ProcessingSession::with_gap(millis(4)));
            let results = windows.aggregate("clock-session", Identities);
            results.map(|result| Row::result([i64::from(result.key)], result.value))
        })
    });
}

/// Splits that wait for one another, within and over subtasks, and never for ever.
#[test]
fn aligned_splits_give_the_same_results() {
    let data = Data::new();
    let expected = Slid::tumbling(60, 0).rows(&read(&data.left));
    for parallelism in [1, 2, 4] {
        let (sink, rows) = memory::sink();
        let build = |job: &Job| {
            let bounded = Watermarks::bounded_out_of_orderness(millis(BOUND as u64));
            let events = job
                .source("events", memory::from_splits(data.left.clone()))
                .event_time(|event| event.time, bounded.with_alignment(millis(5)));
            let windows = events
                .key_by(|event| event.key)
                .window(Tumbling::of(millis(60)))
                .aggregate("windows", Identities);
            let late = windows.late().map(|event| Row::late(event.id.number));
            let results = windows.results().map(|result| {
                let window = result.window;
                let at = [i64::from(result.key), window.start.millis(), window.end.millis()];
                Row::result(at, result.value)
            });
            results.union([&late]).sink("rows", sink.clone());
            Ok(())
        };
        let options = JobOptions {
            parallelism: Some(parallelism),
            workers: Some(2),
            ..JobOptions::default()
        };
        thalweg::execute("aligned", build, &options).expect("it ends");
        assert!(sorted(rows.take()) == expected, "other results at parallelism {parallelism}");
    }
}

#[test]
fn a_rate_limit_lets_all_through_and_no_faster() {
    const RECORDS: u64 = 3_000;
    for parallelism in [1, 2, 4] {
        let (sink, numbers) = memory::sink();
        let build = |job: &Job| {
            job.source("numbers", generator(Some(RECORDS), |number| number as i64).splits(3))
                .rate_limit(RateLimit::per_second(10_000).burst(500))
                .sink("out", sink.clone());
            Ok(())
        };
        let options = JobOptions {
            parallelism: Some(parallelism),
            workers: Some(2),
            ..JobOptions::default()
        };
        let report = thalweg::execute("limited", build, &options).expect("it ends");
        assert_eq!(ordered(numbers.take()), (0..RECORDS as i64).collect::<Vec<i64>>());
        let elapsed = report.progress.elapsed;
        assert!(elapsed >= Duration::from_millis(240), "too fast: {elapsed:?}");
        assert!(elapsed < Duration::from_secs(30), "too slow: {elapsed:?}");
    }
}
