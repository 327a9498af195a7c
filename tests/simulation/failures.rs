//! User functions that fail by chance: what is given out is what an undisturbed run gives out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use thalweg::memory::{self, Collected};
use thalweg::prelude::*;
use thalweg::sim::{Random, Simulation};

use crate::data::{Click, clicks};

/// A function some of whose calls fail.
#[derive(Clone)]
struct Flaky {
    calls: Arc<AtomicUsize>,
    failures: Arc<AtomicUsize>,
    failing: Arc<[usize]>,
}

impl Flaky {
    /// Up to `times` of about so many calls fail, wherever the seed wants it.
    fn new(times: usize, records: usize, random: &mut Random) -> Self {
        let failing = (0..times).map(|_| random.below(records.max(1) * 3 / 2)).collect();
        Flaky { calls: Arc::default(), failures: Arc::default(), failing }
    }

    fn call(&self) -> thalweg::Result<()> {
        match self.failing.contains(&self.calls.fetch_add(1, Ordering::Relaxed)) {
            true => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(thalweg::Error::unavailable("by chance"))
            }
            false => Ok(()),
        }
    }
}

/// What running counts of the clicks by `of` are, sorted.
fn counts_of(splits: &[Vec<Click>], of: impl Fn(&Click) -> u32) -> Vec<(u32, u64)> {
    let mut totals: BTreeMap<u32, u64> = BTreeMap::new();
    for click in splits.iter().flatten() {
        *totals.entry(of(click)).or_default() += 1;
    }
    let counts = |(key, total)| (1..=total).map(move |n| (key, n));
    totals.into_iter().flat_map(counts).collect()
}

/// The counts that were given out, sorted.
fn sorted(collected: &Collected<Keyed<u32, u64>>) -> Vec<(u32, u64)> {
    let mut counts: Vec<(u32, u64)> =
        collected.take().iter().map(|keyed| (keyed.key, keyed.value)).collect();
    counts.sort_unstable();
    counts
}

/// Runs a job that counts clicks by user; two calls of its function fail, wherever the seed wants
/// it. Returns how often they did.
fn run_seed(seed: u64) -> usize {
    let random = &mut Random::new(seed);
    let splits = clicks(random, 0);
    let records = splits.iter().map(Vec::len).sum();
    let flaky = Flaky::new(2, records, random);
    let (sink, collected) = memory::sink();
    let build = || {
        let flaky = flaky.clone();
        let job = Job::new();
        job.source("clicks", memory::from_splits(splits.clone()))
            .key_by(|click| click.user)
            .records()
            .try_inspect(move |_| flaky.call(), OnError::Fail)
            .key_by(|click| click.key)
            .aggregate("count", Count)
            .sink("out", sink.clone());
        Ok(job.into_graph())
    };
    let report = Simulation::new(seed).run("failures", build).expect("it comes to its end");
    let expected = counts_of(&splits, |click| click.user);
    assert!(sorted(&collected) == expected, "seed {seed}: not each count once");
    let failures = flaky.failures.load(Ordering::Relaxed);
    assert!(report.restarts as usize >= failures, "seed {seed}: failures are answered");
    failures
}

#[test]
fn a_function_that_fails_by_chance_changes_no_result() {
    let (first, count) = crate::seeds(300);
    let failures: usize = (first..first + count).map(run_seed).sum();
    println!("{failures} failures in {count} runs");
    assert!(failures > 0 || count == 1, "some calls fail");
}

/// Two jobs in one, between which no record passes: one counts clicks by two users, the other by
/// each, and calls of the first one's function fail, wherever the seed wants it. Returns how often
/// that has started the first again and not the second.
fn run_two_regions(seed: u64) -> u64 {
    let random = &mut Random::new(seed);
    let splits = clicks(random, 0);
    let records = splits.iter().map(Vec::len).sum::<usize>();
    let (flaky, others) = (Flaky::new(3, records, random), Arc::new(AtomicUsize::new(0)));
    let (by_key, counted_by_key) = memory::sink();
    let (by_user, counted_by_user) = memory::sink();
    let build = || {
        let (flaky, others) = (flaky.clone(), others.clone());
        let job = Job::new();
        job.source("clicks", memory::from_splits(splits.clone()))
            .key_by(|click| click.user)
            .records()
            .try_inspect(move |_| flaky.call(), OnError::Fail)
            .key_by(|click| click.key / 2)
            .aggregate("count-by-two", Count)
            .sink("two-out", by_key.clone());
        job.source("clicks-again", memory::from_splits(splits.clone()))
            .inspect(move |_| {
                others.fetch_add(1, Ordering::Relaxed);
            })
            .key_by(|click| click.user)
            .aggregate("count-by-user", Count)
            .sink("user-out", by_user.clone());
        Ok(job.into_graph())
    };
    let report = Simulation::new(seed).run("regions", build).expect("it comes to its end");
    let expected = counts_of(&splits, |click| click.user / 2);
    assert!(sorted(&counted_by_key) == expected, "seed {seed}: by two users");
    let expected = counts_of(&splits, |click| click.user);
    assert!(sorted(&counted_by_user) == expected, "seed {seed}: by user");
    if report.restarts == 0 {
        assert_eq!(others.load(Ordering::Relaxed), records, "seed {seed}: it was read again");
    }
    report.regions_restarted
}

#[test]
fn a_region_that_fails_is_started_again_alone() {
    let (first, count) = crate::seeds(300);
    let restarts: u64 = (first..first + count).map(run_two_regions).sum();
    println!("{restarts} restarts of a region in {count} runs");
    assert!(restarts > 0 || count == 1, "some regions fail alone");
}
