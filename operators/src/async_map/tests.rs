//! `async_map` through the verifier, and as whole jobs on both drivers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use thalweg_connectors::memory;
use thalweg_engine::sim::Simulation;
use thalweg_engine::testing::{Input, verify_operator};
use thalweg_engine::time::millis;
use thalweg_engine::{Counter, EventTime, ProcessingTime};

use super::operator::{Asking, AsyncOperator};
use super::{AsyncMap, Retry};
use crate::aggregate::Count;
use crate::event_time::Watermarks;
use crate::job::Job;
use crate::window::Tumbling;

/// Is pending a few times: a model of a slow answer.
struct Slow(u32);

impl Future for Slow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn script() -> Vec<Input<u64>> {
    let mut script = Vec::new();
    for n in 0..60_u64 {
        let time = EventTime::from_millis(n as i64);
        let mark = n.is_multiple_of(7).then(|| EventTime::from_millis(n as i64 + 3));
        script.push(Input::Record(n, time, mark));
        if n % 10 == 9 {
            script.push(Input::Watermark(EventTime::from_millis(n as i64 - 5)));
            script.push(Input::Time(ProcessingTime::from_millis(n as i64 * 10)));
        }
    }
    script.push(Input::Watermark(EventTime::MAX));
    script
}

#[test]
fn every_record_has_its_answer_in_every_mode() {
    for how in [AsyncMap::ordered(), AsyncMap::unordered(), AsyncMap::ordered().capacity(2)] {
        let ask = Arc::new(|n: u64| -> Asking<u64> {
            Box::pin(async move {
                Slow(n as u32 % 4).await;
                Ok(n * 100)
            })
        });
        let make = || AsyncOperator::<u64, u64, _>::new(how, ask.clone());
        let given = verify_operator(make, None, &script()).expect("all modes agree");
        let mut expected: Vec<String> = (0..60_u64)
            .map(|n| {
                let mark = if n % 7 == 0 { format!(" behind {}", n + 3) } else { String::new() };
                format!("{} at {n}{mark}", n * 100)
            })
            .collect();
        expected.sort_unstable();
        assert_eq!(given.main, expected, "{how:?}");
    }
}

#[test]
fn what_fails_is_repeated_and_then_given_up() {
    let ask = Arc::new(|n: u64| -> Asking<u64> {
        Box::pin(async move {
            if n.is_multiple_of(3) { Err("it is divisible".to_owned()) } else { Ok(n) }
        })
    });
    let how = AsyncMap::unordered().retry(Retry::fixed(2, millis(0))).errors_to_stream();
    let make = || AsyncOperator::<u64, u64, _>::new(how, ask.clone());
    let given = verify_operator(make, None, &script()).expect("all modes agree");
    assert_eq!((given.main.len(), given.side.len()), (40, 20));
    assert!(given.side[0].contains("it is divisible"), "{}", given.side[0]);
}

/// The job whose runs the tests below compare: answers, counted per window behind them.
fn simulate(seed: u64, how: AsyncMap, asked: &Arc<AtomicU64>) -> (Vec<u64>, u64, u64) {
    let (answers, answered) = memory::sink();
    let (windows, counted) = memory::sink();
    let build = || {
        let (job, asked) = (Job::new(), asked.clone());
        let splits: Vec<Vec<u64>> = (0..3).map(|s| (0..100).map(|i| i * 3 + s).collect()).collect();
        let results = job
            .source("numbers", memory::from_splits(splits))
            .event_time(|n| *n as i64, Watermarks::bounded_out_of_orderness(millis(5)))
            .async_map("answers", how, move |n: u64| {
                let attempt = asked.fetch_add(1, Ordering::Relaxed);
                async move {
                    Slow((n % 5) as u32).await;
                    if (n + attempt).is_multiple_of(4) { Err("not now") } else { Ok(n) }
                }
            });
        let counts =
            results.key_by(|_| 0_u8).window(Tumbling::of(millis(50))).aggregate("counts", Count);
        counts.results().map(|r| r.value).sink("windows", windows.clone());
        counts.late().map(|_| ()).sink("late", memory::sink().0);
        results.sink("out", answers.clone());
        Ok(job.into_graph())
    };
    let report = Simulation::new(seed).run("async", build).expect("it ends");
    let late = report.metrics.total_of_all(Counter::Late);
    let mut answers = answered.take();
    answers.sort_unstable();
    (answers, counted.take().into_iter().sum(), late)
}

#[test]
fn one_answer_per_record_through_crashes_and_none_is_late() {
    let asked = Arc::new(AtomicU64::new(0));
    for seed in 0..200 {
        let retry = Retry::exponential(50, millis(1), millis(20));
        let how = match seed % 3 {
            0 => AsyncMap::ordered().retry(retry),
            1 => AsyncMap::unordered().retry(retry).capacity(3),
            _ => AsyncMap::unordered().retry(retry).timeout(millis(500)),
        };
        let (answers, counted, late) = simulate(seed, how, &asked);
        assert_eq!(answers, (0..300).collect::<Vec<u64>>(), "seed {seed}");
        assert_eq!((counted, late), (300, 0), "seed {seed}");
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 200 * 300 * 5 / 4, "attempts fail and are repeated: {asked}");
}

#[test]
fn wrong_options_are_refused_when_the_job_is_built() {
    for how in [AsyncMap::ordered().capacity(0), AsyncMap::ordered().cache(0, millis(5))] {
        let job = Job::new();
        job.source("numbers", memory::source(vec![1_u64]))
            .async_map("answers", how, |n| async move { Ok::<_, String>(n) })
            .sink("out", memory::sink().0);
        let error = job.into_graph().validate().expect_err("it makes no sense").to_string();
        assert!(error.contains("answers") && error.contains("tests.rs"), "{error}");
    }
}

/// Records whose identity is known and others, as they come out of windows, are in flight together.
#[test]
fn records_with_and_without_identities_are_in_flight_together() {
    for seed in 0..50 {
        let (sink, collected) = memory::sink();
        crate::testing::simulate(seed, |job| {
            let numbers = job
                .source("numbers", memory::source((0..60_u64).collect()))
                .event_time(|n| *n as i64, Watermarks::monotonic());
            let windows = numbers.key_by(|_| 0_u8).window(Tumbling::of(millis(10)));
            let counts = windows.aggregate("counts", Count).results().map(|r| r.value + 1_000);
            let asking = AsyncMap::unordered().capacity(5);
            let answers =
                numbers.union([&counts]).async_map("answers", asking, |n: u64| async move {
                    Slow((n % 3) as u32).await;
                    Ok::<_, String>(n)
                });
            let ordered = answers.filter(|n| *n != 7).in_event_order("in-order");
            ordered.results().sink("out", sink.clone());
        });
        let mut numbers = collected.take();
        numbers.sort_unstable();
        let expected = (0..60).filter(|n| *n != 7).chain([1_010; 6]);
        assert_eq!(numbers, expected.collect::<Vec<u64>>(), "seed {seed}");
    }
}
