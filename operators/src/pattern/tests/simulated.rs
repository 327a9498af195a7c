//! Whole jobs under the simulator: random splits with equal times, schedules, crashes and
//! parallelisms; every run gives the matches of the events in the order of (time, split, offset).

use thalweg_connectors::memory;
use thalweg_engine::sim::{Random, Simulation};
use thalweg_engine::time::millis;

use super::super::Pattern;
use super::Driver;
use super::oracle::{Event, draw_tame_case, pattern};
use crate::{Count, Job, Tumbling, Watermarks, WindowResult};

const BOUND: i64 = 6;

/// The key of an event is part of its number.
fn key(event: &Event) -> u32 {
    event.number / 1_000
}

/// A match: key, events by stage, and the time at which it was decided.
type Match = (u32, Vec<(String, Vec<Event>)>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    matches: Vec<Match>,
    timed_out: Vec<Match>,
    late: Vec<Event>,
    /// Matches per key and window of the time at which they were decided.
    windows: Vec<(u32, i64, u64)>,
}

impl Answer {
    fn sorted(mut self) -> Self {
        self.matches.sort_unstable();
        self.timed_out.sort_unstable();
        self.late.sort_unstable();
        self.windows.sort_unstable();
        self
    }
}

fn draw_splits(random: &mut Random) -> Vec<Vec<Event>> {
    let keys = 3 + random.below(4);
    let mut number = 0;
    let mut split = |length: usize| {
        let mut now = random.between(-30, 10);
        let mut records = Vec::new();
        for _ in 0..length {
            now += random.between(0, 3);
            let behind = if random.is_chosen(8) { BOUND + 20 } else { BOUND };
            let time = now - random.between(0, behind);
            let letters = (1 << random.below(4)) | (1 << random.below(4));
            let key = random.below(keys) as u32;
            records.push(Event { letters, number: 1_000 * key + number, time });
            number += 1;
        }
        records
    };
    vec![split(40), split(30), split(8)]
}

/// The answer, if the splits are ordered as in `order`.
fn expected(pattern: &Pattern<Event>, splits: &[Vec<Event>], order: [usize; 3]) -> Answer {
    let mut answer = Answer::default();
    let mut on_time: Vec<(u32, i64, usize, usize, Event)> = Vec::new();
    for (number, records) in splits.iter().enumerate() {
        let mut watermark = i64::MIN;
        for (offset, event) in records.iter().enumerate() {
            if event.time + pattern.allowed_lateness_ms <= watermark {
                answer.late.push(event.clone());
            } else {
                on_time.push((key(event), event.time, order[number], offset, event.clone()));
            }
            watermark = watermark.max(event.time - BOUND - 1);
        }
    }
    on_time.sort_unstable();
    let mut windows = std::collections::BTreeMap::new();
    for events in on_time.chunk_by(|a, b| a.0 == b.0) {
        let key = events[0].0;
        let mut driver = Driver::new(pattern);
        events.iter().for_each(|(_, time, _, _, event)| driver.feed(*time, event.clone()));
        for found in driver.finish() {
            let stages = found.stages.into_iter().map(|(name, events)| (name.to_string(), events));
            let found_match = (key, stages.collect());
            if found.is_timed_out {
                answer.timed_out.push(found_match);
            } else {
                answer.matches.push(found_match);
                let at = found.at.min(thalweg_engine::EventTime::RECORD_LIMIT_MS);
                *windows.entry((key, at.div_euclid(7) * 7)).or_insert(0) += 1;
            }
        }
    }
    answer.windows = windows.into_iter().map(|((key, start), count)| (key, start, count)).collect();
    answer.sorted()
}

/// Runs the job; matches of a match's window may not be late there.
fn run(pattern: &Pattern<Event>, splits: &[Vec<Event>], seed: u64, bounded: bool) -> Answer {
    let (matches, timed_out, late) = (memory::sink(), memory::sink(), memory::sink());
    let (windows, late_matches) = (memory::sink(), memory::sink());
    let build = || {
        let job = Job::new();
        let found = job
            .source("events", memory::from_splits(splits.to_vec()))
            .event_time(|e| e.time, Watermarks::bounded_out_of_orderness(millis(BOUND as u64)))
            .key_by(key)
            .pattern("found", pattern.clone());
        let stages = |stages: &mut dyn Iterator<Item = (&str, &[Event])>| {
            stages.map(|(name, events)| (name.to_owned(), events.to_vec())).collect::<Vec<_>>()
        };
        found.select(move |m| (m.key, stages(&mut m.stages()))).sink("matches", matches.0.clone());
        found
            .timed_out()
            .map(move |m| (m.key, stages(&mut m.stages())))
            .sink("timed-out", timed_out.0.clone());
        found.late().sink("late", late.0.clone());
        let behind = found
            .matches()
            .key_by(|m| m.key)
            .window(Tumbling::of(millis(7)))
            .aggregate("behind", Count);
        behind.results().sink("windows", windows.0.clone());
        behind.late().map(|_| ()).sink("late-matches", late_matches.0.clone());
        Ok(job.into_graph())
    };
    let report = Simulation::new(seed).run("pattern", build).expect("it ends");
    assert_eq!(late_matches.1.len(), 0, "a match was late");
    if bounded {
        let bytes = report.final_state_bytes.get("found").copied().unwrap_or(0);
        assert_eq!(bytes, 0, "state is left at the end");
    }
    let window = |r: &WindowResult<u32, u64>| (r.key, r.window.start.millis(), r.value);
    Answer {
        matches: matches.1.snapshot(),
        timed_out: timed_out.1.snapshot(),
        late: late.1.snapshot(),
        windows: windows.1.snapshot().iter().map(window).collect(),
    }
    .sorted()
}

#[test]
fn matches_do_not_depend_on_the_schedule() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut possible = orders.to_vec();
    let mut random = Random::new(4_711);
    let (mut total, mut ordered) = (0, 0);
    for seed in 0..400 {
        let case = draw_tame_case(&mut random);
        let lateness = if random.is_chosen(50) { 0 } else { random.between(1, 12) as u64 };
        let pattern = pattern(&case).allowed_lateness(millis(lateness));
        let splits = draw_splits(&mut random);
        let given = run(&pattern, &splits, seed, case.within.is_some());
        let fits = |order: &[usize; 3]| given == expected(&pattern, &splits, *order);
        // How the splits are ordered is the engine's choice, but always the same.
        let before = possible.len();
        possible.retain(fits);
        assert!(!possible.is_empty(), "seed {seed}: {case:?} gave {given:#?}");
        ordered += usize::from(possible.len() < before);
        total += given.matches.len();
    }
    println!("{total} matches, {ordered} times the order of splits mattered");
    assert!(total > 3_000 && ordered > 0);
}
