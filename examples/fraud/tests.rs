//! The job against plain loops over all payments, under the simulator and on threads.

use std::collections::BTreeMap;

use thalweg::memory::{self, Collected, MemorySink};
use thalweg::prelude::*;
use thalweg::sim::{Random, SimPlan, Simulation};
use thalweg::test::simulate;
use thalweg::{Counter, JobMetrics};

use crate::alert::{Alert, Rule};
use crate::payment::{City, Payment, payment};
use crate::watch::{BURST_MS, BURST_PAYMENTS, is_impossible};

/// How far the payments of a split may be behind its newest.
const BOUND_MS: i64 = 10_000;

/// What the job is to give out; sorted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    alerts: Vec<Alert>,
    given_up: Vec<Alert>,
    /// The numbers of late payments.
    late: Vec<u64>,
}

/// All answers from scratch.
fn oracle(splits: &[Vec<Payment>]) -> Expected {
    let mut expected = Expected::default();
    let mut by_card = BTreeMap::<u32, Vec<Payment>>::new();
    for split in splits {
        let mut newest_ms = i64::MIN / 2;
        for payment in split {
            // The watermark is a millisecond behind what may still come.
            if payment.time_ms < newest_ms - BOUND_MS {
                expected.late.push(payment.id);
            } else {
                by_card.entry(payment.card).or_default().push(*payment);
            }
            newest_ms = newest_ms.max(payment.time_ms);
        }
    }
    for payments in by_card.values_mut() {
        payments.sort_by_key(|payment| payment.time_ms);
        trials(payments, &mut expected);
        guesses(payments, &mut expected);
        travels(payments, &mut expected);
        bursts(payments, &mut expected);
    }
    expected.alerts.sort();
    expected.given_up.sort();
    expected.late.sort_unstable();
    expected
}

fn alert(rule: Rule, payments: &[Payment]) -> Alert {
    let (first, last) = (payments[0], payments[payments.len() - 1]);
    Alert {
        rule,
        card: first.card,
        start_ms: first.time_ms,
        end_ms: last.time_ms,
        payments: payments.len() as u64,
        cents: payments.iter().map(|payment| payment.cents).sum(),
        from: first.city,
        to: last.city,
    }
}

fn trials(payments: &[Payment], expected: &mut Expected) {
    for (i, small) in payments.iter().enumerate() {
        if !small.is_accepted || small.cents >= 200 {
            continue;
        }
        let large = payments[i..].iter().find(|p| p.is_accepted && p.cents > 50_000);
        match large.filter(|large| large.time_ms < small.time_ms + 60_000) {
            Some(large) => expected.alerts.push(alert(Rule::Trial, &[*small, *large])),
            None => expected.given_up.push(alert(Rule::Trial, &[*small])),
        }
    }
}

fn guesses(payments: &[Payment], expected: &mut Expected) {
    for (i, first) in payments.iter().enumerate() {
        let in_time = |p: &&Payment| p.time_ms < first.time_ms + 300_000;
        let in_time = &payments[i..][..payments[i..].iter().take_while(in_time).count()];
        let declined = in_time.iter().take(3).take_while(|p| !p.is_accepted).count();
        match in_time.get(declined) {
            _ if declined == 0 => {}
            Some(next) if declined == 3 && next.is_accepted => {
                expected.alerts.push(alert(Rule::Guess, &in_time[..4]));
            }
            Some(_) => {}
            None => expected.given_up.push(alert(Rule::Guess, &in_time[..declined])),
        }
    }
}

fn travels(payments: &[Payment], expected: &mut Expected) {
    for pair in payments.windows(2) {
        if is_impossible(pair[0].city, pair[1].city, pair[1].time_ms - pair[0].time_ms) {
            expected.alerts.push(alert(Rule::Travel, pair));
        }
    }
}

fn bursts(mut payments: &[Payment], expected: &mut Expected) {
    while let Some(first) = payments.first() {
        let end = payments.partition_point(|p| p.time_ms < first.time_ms + BURST_MS);
        if end as u64 >= BURST_PAYMENTS {
            expected.alerts.push(alert(Rule::Burst, &payments[..end]));
        }
        payments = &payments[end..];
    }
}

/// Where a run's results go.
struct World {
    alerts: (MemorySink<Alert>, Collected<Alert>),
    given_up: (MemorySink<Alert>, Collected<Alert>),
    late: (MemorySink<Payment>, Collected<Payment>),
}

impl World {
    fn new() -> Self {
        World { alerts: memory::sink(), given_up: memory::sink(), late: memory::sink() }
    }

    fn build(&self, payments: &Stream<Payment>) {
        let found = crate::detect(payments);
        found.alerts.sink("alerts", self.alerts.0.clone());
        found.given_up.sink("given-up", self.given_up.0.clone());
        found.late.sink("late", self.late.0.clone());
    }

    /// What the run gave out; sorted.
    fn given(&self) -> Expected {
        let mut given = Expected {
            alerts: self.alerts.1.snapshot(),
            given_up: self.given_up.1.snapshot(),
            late: self.late.1.snapshot().iter().map(|payment| payment.id).collect(),
        };
        given.alerts.sort();
        given.given_up.sort();
        given.late.sort_unstable();
        given
    }
}

/// That every payment read is late or was looked at by every detector, once.
fn check_conservation(metrics: &JobMetrics, expected: &Expected, count: u64) {
    let late = expected.late.len() as u64;
    assert_eq!(metrics.records_read(), count);
    assert_eq!(metrics.total("in-order", Counter::In), count);
    assert_eq!(metrics.total_of_all(Counter::Late), late);
    assert_eq!(metrics.total("in-order", Counter::Out), count - late);
    for detector in ["trial", "guess", "watch"] {
        assert_eq!(metrics.total(detector, Counter::In), count - late, "{detector}");
    }
    for nothing in [Counter::Gap, Counter::Skipped, Counter::Dead] {
        assert_eq!(metrics.total_of_all(nothing), 0, "{nothing:?}");
    }
    let given = ["trial", "guess", "watch"].map(|name| metrics.total(name, Counter::Out));
    assert_eq!(given.iter().sum::<u64>(), expected.alerts.len() as u64);
}

/// Payments of few cards, many of which look like fraud. No two splits have the same time.
fn suspicious(random: &mut Random) -> Vec<Vec<Payment>> {
    let (splits, cards) = (random.between(1, 3), random.between(1, 4));
    let mut id = 0;
    let mut split = |split: i64| {
        let mut time = 0;
        let count = random.between(0, 150);
        let mut one = |_| {
            id += 1;
            time += 1_000 * random.between(0, 8) + 100_000 * i64::from(random.is_chosen(2));
            let late = 1_000 * random.between(0, 40) * i64::from(random.is_chosen(25));
            Payment {
                id,
                card: random.between(1, cards) as u32,
                time_ms: (time - late) * splits + split,
                cents: [100, 199, 200, 50_000, 50_001][random.below(5)],
                city: City::ALL[random.below(40).min(6)],
                is_accepted: random.is_chosen(60),
            }
        };
        (0..count).map(&mut one).collect()
    };
    (0..splits).map(&mut split).collect()
}

#[test]
fn detectors_agree_with_plain_loops_over_crashes_and_rescaling() {
    let (mut restarts, mut rescales) = (0, 0);
    let mut of_rule = BTreeMap::<Rule, usize>::new();
    for seed in 0..150 {
        let splits = suspicious(&mut Random::new(seed));
        let world = World::new();
        let report = simulate(
            "fraud",
            |job| {
                world.build(&job.source("payments", memory::from_splits(splits.clone())));
                Ok(())
            },
            seed,
        );
        let report = report.expect("the job runs");
        let expected = oracle(&splits);
        assert_eq!(world.given(), expected, "seed {seed}");
        check_conservation(&report.metrics, &expected, splits.concat().len() as u64);
        let kept: Vec<_> =
            report.final_state_bytes.iter().filter(|(_, bytes)| **bytes > 0).collect();
        assert!(kept.is_empty(), "seed {seed}: at the end there is state in {kept:?}");
        restarts += report.restarts;
        rescales += report.parallelisms.windows(2).filter(|pair| pair[0] != pair[1]).count();
        expected.alerts.iter().for_each(|alert| *of_rule.entry(alert.rule).or_default() += 1);
    }
    assert!(restarts > 50 && rescales > 20, "{restarts} restarts, {rescales} rescales");
    for (rule, _) in Rule::ALL {
        assert!(of_rule.get(&rule).is_some_and(|alerts| *alerts > 50), "{of_rule:?}");
    }
}

#[test]
fn payments_that_are_made_up_give_what_plain_loops_find() {
    let count = 20_000;
    let split = |first| (first..count).step_by(2).map(payment).collect::<Vec<_>>();
    let expected = oracle(&[split(0), split(1)]);
    for (rule, _) in Rule::ALL {
        assert!(expected.alerts.iter().any(|alert| alert.rule == rule), "no {rule:?}");
    }
    for parallelism in 1..4 {
        let world = World::new();
        let build = || {
            let job = Job::new();
            let payments = generator(Some(count), payment).splits(2);
            world.build(&job.source("payments", payments));
            Ok(job.into_graph())
        };
        let simulation = Simulation::with_plan(SimPlan::calm(7, parallelism));
        let report = simulation.run("fraud", build).expect("the job runs");
        assert_eq!(world.given(), expected, "parallelism {parallelism}");
        check_conservation(&report.metrics, &expected, count);
    }
}
