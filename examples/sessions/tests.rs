//! The sessions job under the simulator against a plain loop, and the count of its records.

use std::collections::{BTreeMap, BTreeSet};

use thalweg::memory;
use thalweg::sim::SimReport;
use thalweg::test::{SimPlan, simulate_plan};
use thalweg::{Aggregate, ApproxDistinct, Counter, generator};

use crate::click::{Click, click};
use crate::rows::{Hour, TopPage, Visit};
use crate::{BEST, sessions};

const SEEDS: u64 = 40;
const CLICKS: u64 = 1_500;
const HOUR_MS: i64 = 3_600_000;
/// The bound of out-of-orderness.
const BOUND_MS: i64 = 300_000;

/// All output of the job, sorted.
#[derive(Debug, PartialEq, Eq)]
struct Given {
    visits: Vec<Visit>,
    hours: Vec<Hour>,
    top_pages: Vec<TopPage>,
    late: Vec<Click>,
}

impl Given {
    fn sorted(mut self) -> Self {
        self.visits.sort();
        self.hours.sort();
        self.top_pages.sort();
        self.late.sort();
        self
    }
}

/// The number of splits and of the first click of a seed.
fn input(seed: u64) -> (usize, u64) {
    (1 + seed as usize % 4, seed * 7_919)
}

fn run(seed: u64, plan: SimPlan) -> (Given, SimReport) {
    let (splits, first) = input(seed);
    let (visits, visits_given) = memory::sink();
    let (hours, hours_given) = memory::sink();
    let (top_pages, top_pages_given) = memory::sink();
    let (late, late_given) = memory::sink();
    let build = |job: &thalweg::Job| {
        let clicks = generator(Some(CLICKS), move |i| click(first + i)).splits(splits);
        let outputs = sessions(&job.source("clicks", clicks));
        outputs.visits.sink("visits-out", visits.clone());
        outputs.hours.sink("hours-out", hours.clone());
        outputs.top_pages.sink("top-pages-out", top_pages.clone());
        outputs.late.sink("late-out", late.clone());
        Ok(())
    };
    let report = simulate_plan("sessions", build, plan).expect("the job ends");
    let given = Given {
        visits: visits_given.snapshot(),
        hours: hours_given.snapshot(),
        top_pages: top_pages_given.snapshot(),
        late: late_given.snapshot(),
    };
    (given.sorted(), report)
}

/// What must come out, by sorting and looping over all clicks.
fn expected(seed: u64) -> Given {
    let (splits, first) = input(seed);
    let mut newest = vec![None::<i64>; splits];
    let (mut late, mut by_visitor) = (Vec::new(), BTreeMap::<u32, Vec<Click>>::new());
    for i in 0..CLICKS {
        let click = click(first + i);
        let newest = &mut newest[i as usize % splits];
        let watermark = newest.map_or(i64::MIN, |newest| newest - BOUND_MS - 1);
        *newest = (*newest).max(Some(click.time_ms));
        match click.time_ms <= watermark {
            true => late.push(click),
            false => by_visitor.entry(click.visitor).or_default().push(click),
        }
    }
    let mut visits = Vec::new();
    for mut clicks in by_visitor.into_values() {
        clicks.sort_by_key(|click| (click.time_ms, click.id));
        let end_of = |click: &Click| {
            let minutes = if click.kind == crate::click::Kind::Play { 90 } else { 30 };
            click.time_ms + minutes * 60_000
        };
        let mut rest = &clicks[..];
        while let Some(first) = rest.first() {
            let (mut end, mut taken) = (end_of(first), 1);
            while rest.get(taken).is_some_and(|next| next.time_ms <= end) {
                end = end.max(end_of(&rest[taken]));
                taken += 1;
            }
            let (these, others) = rest.split_at(taken);
            visits.push(visit(these, end));
            rest = others;
        }
    }
    let (hours, top_pages) = hours(&visits);
    Given { visits, hours, top_pages, late }.sorted()
}

fn visit(clicks: &[Click], end_ms: i64) -> Visit {
    Visit {
        visitor: clicks[0].visitor,
        first_ms: clicks[0].time_ms,
        last_ms: clicks[clicks.len() - 1].time_ms,
        end_ms,
        clicks: clicks.len() as u64,
        pages: clicks.iter().map(|click| &click.page).collect::<BTreeSet<_>>().len() as u64,
        landing_page: clicks[0].page.clone(),
    }
}

fn hours(visits: &[Visit]) -> (Vec<Hour>, Vec<TopPage>) {
    let mut by_hour = BTreeMap::<i64, BTreeMap<&str, Vec<&Visit>>>::new();
    for visit in visits {
        let start_ms = (visit.end_ms - 1).div_euclid(HOUR_MS) * HOUR_MS;
        let pages = by_hour.entry(start_ms).or_default();
        pages.entry(&visit.landing_page).or_default().push(visit);
    }
    let bounces = |visits: &[&Visit]| visits.iter().filter(|v| v.clicks == 1).count() as u64;
    let (mut hours, mut top_pages) = (Vec::new(), Vec::new());
    for (start_ms, pages) in by_hour {
        let all: Vec<&Visit> = pages.values().flatten().copied().collect();
        hours.push(Hour { start_ms, visits: all.len() as u64, bounces: bounces(&all) });
        let mut pages: Vec<(&str, Vec<&Visit>)> = pages.into_iter().collect();
        pages.sort_by_key(|(page, visits)| (std::cmp::Reverse(visits.len()), *page));
        for (rank, (page, visits)) in (1..).zip(pages.into_iter().take(BEST)) {
            let page = page.to_owned();
            let (n, bounces) = (visits.len() as u64, bounces(&visits));
            let visitors_about = about(&visits);
            top_pages.push(TopPage { start_ms, rank, page, visits: n, bounces, visitors_about });
        }
    }
    (hours, top_pages)
}

/// The estimate of the number of visitors, which is near the number.
fn about(visits: &[&Visit]) -> u64 {
    let visitors = ApproxDistinct::of(|visitor: &u32| *visitor);
    let mut registers = visitors.create();
    visits.iter().for_each(|visit| visitors.add(&mut registers, &visit.visitor));
    let estimate = visitors.finish(&registers);
    let exact = visits.iter().map(|visit| visit.visitor).collect::<BTreeSet<_>>().len() as u64;
    assert!(estimate.abs_diff(exact) <= 1 + exact / 20, "{estimate} is not about {exact}");
    estimate
}

/// That every record is somewhere: in results, in state, or late; and nothing is lost behind.
fn check_conservation(given: &Given, report: &SimReport) {
    let total = |operator, counter| report.metrics.total(operator, counter);
    let in_visits: u64 = given.visits.iter().map(|visit| visit.clicks).sum();
    assert_eq!(report.metrics.records_read(), CLICKS);
    assert_eq!(total("visits", Counter::In), CLICKS);
    assert_eq!(total("visits", Counter::Out), given.visits.len() as u64);
    assert_eq!(total("visits", Counter::Late), given.late.len() as u64);
    assert_eq!(in_visits + total("visits", Counter::Late), CLICKS);
    let in_hours: u64 = given.hours.iter().map(|hour| hour.visits).sum();
    assert_eq!(in_hours, given.visits.len() as u64);
    assert_eq!(report.metrics.total_of_all(Counter::Late), given.late.len() as u64);
    for nothing in [Counter::Gap, Counter::Skipped, Counter::Dead] {
        assert_eq!(report.metrics.total_of_all(nothing), 0, "{}", nothing.name());
    }
    for operator in ["visits", "landing-pages", "hours"] {
        assert_eq!(report.final_state_bytes.get(operator).copied().unwrap_or(0), 0, "{operator}");
    }
}

#[test]
fn the_job_agrees_with_a_plain_loop_whatever_happens() {
    let (mut restarts, mut late, mut long) = (0, 0, 0);
    for seed in 0..SEEDS {
        let plan = SimPlan::from_seed(seed);
        let plan = SimPlan { steps_max: 10 * plan.steps_max, ..plan };
        let (given, report) = run(seed, plan);
        assert_eq!(given, expected(seed), "seed {seed}");
        check_conservation(&given, &report);
        restarts += report.restarts;
        late += given.late.len();
        long += given.visits.iter().filter(|v| v.end_ms > v.last_ms + HOUR_MS).count();
    }
    println!("{SEEDS} seeds: {restarts} restarts, {late} late clicks, {long} ends after a video");
    assert!(restarts > 10 && late > 10 && long > 10, "the runs were too calm to show anything");
}

#[test]
fn the_job_does_not_depend_on_parallelism() {
    for parallelism in 1..=4 {
        let (given, report) = run(3, SimPlan::calm(3, parallelism));
        assert_eq!(given, expected(3), "parallelism {parallelism}");
        check_conservation(&given, &report);
    }
}
