//! Every record comes out once: as results, skipped, or a dead letter.

use std::sync::{Arc, Mutex};

use thalweg_connectors::memory;
use thalweg_engine::sim::{Random, SimPlan};
use thalweg_engine::testing::{Input, verify_operator};
use thalweg_engine::{Counter, ErrorKind};

use super::*;
use crate::testing::{simulate, simulate_plan, try_simulate};

fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis)
}

/// As many copies of a number as its last digit says; fails for multiples of three.
fn copies(n: u32) -> Result<Vec<u32>, String> {
    match n % 3 {
        0 => Err(format!("{n} is no good")),
        _ => Ok(vec![n; (n % 10) as usize]),
    }
}

#[test]
fn dead_letters_and_results_are_the_same_in_every_mode() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut script = Vec::new();
        let (mut main, mut side) = (Vec::new(), Vec::new());
        for _ in 0..40 {
            let (n, time) = (random.below(50) as u32, random.between(-20, 20));
            let mark = random.is_chosen(30).then(|| at(time + 3));
            script.push(Input::Record(n, at(time), mark));
            let end = mark.map(|mark| format!(" behind {mark}")).unwrap_or_default();
            match copies(n) {
                Ok(copies) => main.extend(copies.iter().map(|n| format!("{n} at {time}{end}"))),
                Err(error) => {
                    let (time, operator) = (Some(at(time)), "verified".to_owned());
                    let failed = Failed { record: n, error, time, operator };
                    side.push(format!("{failed:?} at {}{end}", failed.time.unwrap_or_default()));
                }
            }
        }
        let make = || TryFlatMap {
            f: Arc::new(copies),
            retries: 0,
            last: Last::DeadLetter,
            name: String::new(),
            types: PhantomData,
        };
        let given = verify_operator(make, None, &script).expect("all modes agree");
        main.sort_unstable();
        side.sort_unstable();
        assert_eq!((given.main, given.side), (main, side), "seed {seed}");
    }
}

#[test]
fn the_accounting_adds_up() {
    for (seed, on_error) in [(1, OnError::Skip), (2, OnError::DeadLetter)] {
        let (results, failed) = (memory::sink(), memory::sink());
        let report = simulate(seed, |job| {
            let numbers = job.source("numbers", memory::source((0..90_u32).collect()));
            let check = |n: &u32| if n.is_multiple_of(3) { Err("no") } else { Ok(()) };
            let passed = numbers.try_inspect(check, on_error.clone());
            passed.sink("out", results.0.clone());
            passed.errors().sink("failed", failed.0.clone());
        });
        let (skipped, dead) = match on_error {
            OnError::Skip => (30, 0),
            _ => (0, 30),
        };
        assert_eq!((results.1.len(), failed.1.len()), (60, dead));
        let total = |counter| report.metrics.total("try_inspect-1", counter);
        assert_eq!((total(Counter::In), total(Counter::Out)), (90, 60));
        assert_eq!((total(Counter::Skipped), total(Counter::Dead)), (skipped, dead as u64));
    }
}

#[test]
fn a_call_is_repeated_as_often_as_was_said_and_no_more() {
    for (attempts, results) in [(0, 0), (1, 0), (2, 10), (5, 10)] {
        let calls = Arc::new(Mutex::new(vec![0_u32; 10]));
        let (sink, collected) = memory::sink();
        simulate_plan(SimPlan::calm(1, 1), |job| {
            let calls = calls.clone();
            let third = move |n: usize| {
                let calls = &mut calls.lock().expect("no panic")[n];
                *calls += 1;
                if *calls == 3 { Ok(n) } else { Err("not yet") }
            };
            let numbers = job.source("numbers", memory::source((0..10).collect()));
            let on_error = OnError::retry(attempts, OnError::Skip);
            numbers.try_map(third, on_error).sink("out", sink.clone());
        });
        assert_eq!(collected.len(), results);
        let expected = attempts.min(2) + 1;
        assert_eq!(*calls.lock().expect("no panic"), vec![expected; 10]);
    }
}

#[test]
fn without_a_policy_an_error_fails_the_job_and_is_told() {
    let error = try_simulate(SimPlan::calm(1, 1), |job| {
        let (sink, _) = memory::sink();
        let words = job.source("words", memory::source(vec!["x".to_owned()]));
        words.try_map(|word| word.parse::<i64>(), OnError::default()).sink("out", sink);
    })
    .err()
    .expect("the job fails");
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("invalid digit"), "{error}");
}
