//! The matcher against an oracle that tries every sequence of events and stages and asks, by the
//! definition of each stage, whether it is a match. It keeps no runs, no targets and no buffer.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use thalweg_engine::sim::Random;
use thalweg_engine::time::millis;

use super::super::{Pattern, Skip};
use super::Driver;

/// An event: the letters it counts as, and a number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) letters: u8,
    pub(super) number: u32,
    pub(super) time: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gap {
    Next,
    FollowedBy,
    FollowedByAny,
}

#[derive(Clone, Debug)]
struct Stage {
    letter: u8,
    gap: Gap,
    least: u32,
    most: Option<u32>,
    is_repeated: bool,
    inner: Option<Gap>,
    is_optional: bool,
    is_greedy: bool,
    until: Option<u8>,
    /// Its number must be greater than that of the last event of the first stage.
    is_rising: bool,
    /// Negations behind it: letter, and whether it is `not_next`.
    negations: Vec<(u8, bool)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SkipKind {
    None,
    Next,
    PastLast,
    First(usize),
    Last(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    stages: Vec<Stage>,
    pub(super) within: Option<i64>,
    skip: SkipKind,
}

/// Pairs of an event's index and a stage's.
type Chain = Vec<(usize, usize)>;

fn draw_stage(random: &mut Random, is_first: bool) -> Stage {
    let gaps = [Gap::Next, Gap::FollowedBy, Gap::FollowedByAny];
    let mut pick = |n: usize| random.below(n);
    let (least, most, is_repeated) = match pick(6) {
        0 => (1, None, true),
        1 => (2, Some(2), true),
        2 => (1, Some(2), true),
        3 => (2, None, true),
        _ => (1, Some(1), false),
    };
    let inner = if is_repeated && pick(2) == 0 { Some(gaps[pick(3)]) } else { None };
    Stage {
        letter: 1 << pick(3),
        gap: if is_first { Gap::FollowedByAny } else { gaps[pick(3)] },
        least,
        most,
        is_repeated,
        inner,
        is_optional: pick(4) == 0,
        is_greedy: is_repeated && inner != Some(Gap::FollowedByAny) && pick(3) == 0,
        until: (most.is_none() && pick(3) == 0).then(|| 1 << pick(3)),
        is_rising: !is_first && pick(4) == 0,
        negations: (0..pick(6).saturating_sub(3)).map(|_| (1 << pick(3), pick(2) == 0)).collect(),
    }
}

/// A case whose pattern has no problem.
pub(super) fn draw_case(random: &mut Random) -> Case {
    loop {
        let case = draw_any_case(random);
        if pattern(&case).problems().is_empty() {
            return case;
        }
    }
}

/// A case whose partial matches do not double with every event, or not for long.
pub(super) fn draw_tame_case(random: &mut Random) -> Case {
    loop {
        let case = draw_case(random);
        let doubles = |stage: &Stage| stage.inner == Some(Gap::FollowedByAny);
        let any = |stage: &Stage| doubles(stage) || stage.gap == Gap::FollowedByAny;
        if case.within.is_some() || !(doubles(&case.stages[0]) || case.stages[1..].iter().any(any))
        {
            return case;
        }
    }
}

fn draw_any_case(random: &mut Random) -> Case {
    let count = 1 + random.below(4);
    let stages: Vec<Stage> = (0..count).map(|n| draw_stage(random, n == 0)).collect();
    let within = (random.below(3) > 0).then(|| 1 + random.below(8) as i64);
    let stage = random.below(count);
    let skip = match random.below(8) {
        0 => SkipKind::Next,
        1 => SkipKind::PastLast,
        2 => SkipKind::First(stage),
        3 => SkipKind::Last(stage),
        _ => SkipKind::None,
    };
    Case { stages, within, skip }
}

pub(super) fn pattern(case: &Case) -> Pattern<Event> {
    let has = |letter: u8| move |event: &Event| event.letters & letter != 0;
    let mut pattern: Option<Pattern<Event>> = None;
    for (n, stage) in case.stages.iter().enumerate() {
        let name = n.to_string();
        let mut next = match (pattern, stage.gap) {
            (None, _) => Pattern::begin(name, has(stage.letter)),
            (Some(pattern), Gap::Next) => pattern.next(name, has(stage.letter)),
            (Some(pattern), Gap::FollowedBy) => pattern.followed_by(name, has(stage.letter)),
            (Some(pattern), Gap::FollowedByAny) => pattern.followed_by_any(name, has(stage.letter)),
        };
        if stage.is_rising {
            next = next.where_with(|event, earlier| {
                earlier.last("0").is_none_or(|first| first.number < event.number)
            });
        }
        next = match (stage.is_repeated, stage.most) {
            (false, _) => next,
            (true, Some(most)) => next.times_range(stage.least, most),
            (true, None) => next.times_or_more(stage.least),
        };
        next = match stage.inner {
            Some(Gap::Next) => next.consecutive(),
            Some(Gap::FollowedByAny) => next.allow_combinations(),
            _ => next,
        };
        next = if stage.is_optional { next.optional() } else { next };
        next = if stage.is_greedy { next.greedy() } else { next };
        next = if let Some(until) = stage.until { next.until(has(until)) } else { next };
        for (m, &(letter, is_next)) in stage.negations.iter().enumerate() {
            let name = format!("{n} not {m}");
            next = if is_next {
                next.not_next(name, has(letter))
            } else {
                next.not_followed_by(name, has(letter))
            };
        }
        pattern = Some(next);
    }
    let pattern = pattern.expect("there is a stage").after_match(match case.skip {
        SkipKind::None => Skip::none(),
        SkipKind::Next => Skip::to_next(),
        SkipKind::PastLast => Skip::past_last_event(),
        SkipKind::First(n) => Skip::to_first(n.to_string()),
        SkipKind::Last(n) => Skip::to_last(n.to_string()),
    });
    match case.within {
        Some(within) => pattern.within(millis(within as u64)),
        None => pattern,
    }
}

/// What the oracle found: matches and partial matches, each with the time of the decision.
#[derive(Default)]
struct Answer {
    matches: Vec<(Chain, i64)>,
    timed_out: Vec<(Chain, i64)>,
}

struct Oracle<'a> {
    case: &'a Case,
    events: &'a [Event],
}

impl Oracle<'_> {
    fn condition(&self, chain: &Chain, stage: usize, event: usize) -> bool {
        let (wanted, event) = (&self.case.stages[stage], &self.events[event]);
        let first = chain.iter().rev().find(|(_, s)| *s == 0).map(|(e, _)| &self.events[*e]);
        let rises = first.is_none_or(|first| first.number < event.number);
        event.letters & wanted.letter != 0 && (!wanted.is_rising || rises)
    }

    fn is_until(&self, stage: usize, event: usize) -> bool {
        let until = self.case.stages[stage].until;
        until.is_some_and(|until| self.events[event].letters & until != 0)
    }

    fn count(chain: &Chain, stage: usize) -> u32 {
        chain.iter().filter(|(_, s)| *s == stage).count() as u32
    }

    /// Whether stage `next` may come behind the chain, as far as numbers go.
    fn is_in_turn(&self, chain: &Chain, next: usize) -> bool {
        let stages = &self.case.stages;
        let Some(&(_, last)) = chain.last() else {
            return stages[..next].iter().all(|stage| stage.is_optional);
        };
        let count = Self::count(chain, last);
        if next == last {
            return stages[last].most.is_none_or(|most| count < most);
        }
        next > last
            && count >= stages[last].least
            && stages[last + 1..next].iter().all(|stage| stage.is_optional)
    }

    /// Whether the chain may wait for stage `next` while `event` goes by.
    fn passes_over(&self, chain: &Chain, next: usize, event: usize) -> bool {
        let is_inside = chain.last().is_some_and(|&(_, last)| last == next);
        let stage = &self.case.stages[next];
        let gap = if is_inside { stage.inner.unwrap_or(Gap::FollowedBy) } else { stage.gap };
        if is_inside && self.is_until(next, event) {
            return false;
        }
        match gap {
            Gap::Next => false,
            Gap::FollowedBy => !self.condition(chain, next, event),
            Gap::FollowedByAny => true,
        }
    }

    fn takes(&self, chain: &Chain, next: usize, event: usize) -> bool {
        self.is_in_turn(chain, next)
            && self.condition(chain, next, event)
            && !self.is_until(next, event)
    }

    /// Whether `event` goes to a greedy stage in front of stage `next`.
    fn goes_to_greedy(&self, chain: &Chain, next: usize, event: usize) -> bool {
        let (behind, first) = chain.last().map_or((event, 0), |&(e, s)| (e + 1, s));
        (first..next).any(|stage| {
            self.case.stages[stage].is_greedy
                && self.takes(chain, stage, event)
                && (behind..event).all(|between| self.passes_over(chain, stage, between))
        })
    }

    /// Whether the negations behind the chain's last stage allow `event`.
    fn is_allowed(&self, chain: &Chain, event: usize) -> bool {
        let Some(&(last, stage)) = chain.last() else { return true };
        let letters = self.events[event].letters;
        self.case.stages[stage]
            .negations
            .iter()
            .all(|&(letter, is_next)| letters & letter == 0 || (is_next && event != last + 1))
    }

    /// Whether the chain still waits for stage `next` when all events before `until` have come.
    fn waits(&self, chain: &Chain, next: usize, until: usize) -> bool {
        let behind = chain.last().map_or(until, |&(event, _)| event + 1);
        self.is_in_turn(chain, next)
            && (behind..until).all(|event| {
                self.is_allowed(chain, event)
                    && self.passes_over(chain, next, event)
                    && !self.goes_to_greedy(chain, next, event)
            })
    }

    fn extends(&self, chain: &Chain, next: usize, event: usize) -> bool {
        let is_in_time = match (chain.first(), self.case.within) {
            (Some(&(first, _)), Some(within)) => {
                self.events[event].time - self.events[first].time < within
            }
            _ => true,
        };
        is_in_time
            && self.waits(chain, next, event)
            && self.is_allowed(chain, event)
            && self.takes(chain, next, event)
            && !self.goes_to_greedy(chain, next, event)
    }

    /// Judges a chain, and all that begin with it.
    fn explore(&self, chain: &mut Chain, answer: &mut Answer) {
        let Some(&(last, stage)) = chain.last() else {
            return self.explore_longer(chain, 0, 0, answer);
        };
        let (first, _) = chain[0];
        let stages = &self.case.stages;
        let deadline = self.case.within.map(|within| self.events[first].time + within);
        // The events that come in time.
        let is_in_time = |e: &Event| deadline.is_none_or(|deadline| e.time < deadline);
        let until = last + 1 + self.events[last + 1..].iter().take_while(|e| is_in_time(e)).count();
        let is_complete = Self::count(chain, stage) >= stages[stage].least
            && stages[stage + 1..].iter().all(|stage| stage.is_optional);
        let trailing = &stages[stages.len() - 1].negations;
        let ends_unseen = trailing.iter().any(|(_, is_next)| !is_next);
        let mut is_match = false;
        if is_complete && trailing.is_empty() {
            is_match = true;
            answer.matches.push((chain.clone(), self.events[last].time));
        } else if is_complete && ends_unseen {
            let deadline = deadline.expect("such a pattern has `within`");
            if (last + 1..until).all(|event| self.is_allowed(chain, event)) {
                is_match = true;
                answer.matches.push((chain.clone(), deadline));
            }
        } else if is_complete && last + 1 < until && self.is_allowed(chain, last + 1) {
            is_match = true;
            answer.matches.push((chain.clone(), self.events[last + 1].time));
        }
        if let Some(deadline) = deadline
            && !is_match
        {
            let waits_for_end = is_complete && last + 1 == until;
            if waits_for_end || (stage..stages.len()).any(|next| self.waits(chain, next, until)) {
                answer.timed_out.push((chain.clone(), deadline));
            }
        }
        self.explore_longer(chain, last + 1, stage, answer);
    }

    fn explore_longer(&self, chain: &mut Chain, event: usize, stage: usize, answer: &mut Answer) {
        for event in event..self.events.len() {
            for next in stage..self.case.stages.len() {
                if self.extends(chain, next, event) {
                    chain.push((event, next));
                    self.explore(chain, answer);
                    chain.pop();
                }
            }
        }
    }

    /// The matches that the skip rule leaves, looking at the earliest first.
    fn skip(&self, mut matches: Vec<(Chain, i64)>) -> Vec<(Chain, i64)> {
        // Decisions of one time are in order of events: those of a deadline come first.
        let decided = |chain: &Chain, at: i64| {
            let last = chain.last().map_or(0, |&(event, _)| event);
            let trailing = &self.case.stages[self.case.stages.len() - 1].negations;
            match trailing.iter().any(|(_, is_next)| !is_next) {
                true => (at, 0),
                false => (at, last + usize::from(!trailing.is_empty())),
            }
        };
        matches.sort_by_key(|(chain, at)| {
            (chain[0].0, decided(chain, *at), Reverse(chain.len()), chain.clone())
        });
        let mut left = Vec::new();
        let mut first_left = 0;
        for (chain, at) in matches {
            if chain[0].0 < first_left {
                continue;
            }
            let of = |n: usize| chain.iter().filter(move |(_, s)| *s == n).map(|(e, _)| *e);
            let bound = match self.case.skip {
                SkipKind::None => 0,
                SkipKind::Next => chain[0].0 + 1,
                SkipKind::PastLast => chain[chain.len() - 1].0 + 1,
                SkipKind::First(n) => of(n).next().unwrap_or(0),
                SkipKind::Last(n) => of(n).next_back().unwrap_or(0),
            };
            first_left = first_left.max(bound);
            left.push((chain, at));
        }
        left
    }
}

fn draw_events(random: &mut Random) -> Vec<Event> {
    let mut time = -5;
    let events = (0..7).map(|n| {
        time += random.between(0, 3);
        let second = if random.is_chosen(25) { 1 << random.below(3) } else { 0 };
        // Numbers are unique, so that an event can be told from the others.
        let number = 8 * random.below(6) as u32 + n;
        Event { letters: (1 << random.below(4)) | second, number, time }
    });
    events.collect()
}

fn run(case: &Case, events: &[Event]) -> Answer {
    let mut driver = Driver::new(&pattern(case));
    for event in events {
        driver.feed(event.time, event.clone());
    }
    let mut answer = Answer::default();
    for found in driver.finish() {
        let place = |event: &Event| events.iter().position(|e| e.number == event.number);
        let mut chain = Chain::new();
        for (name, taken) in found.stages {
            let stage = name.parse().expect("stages are numbered");
            chain.extend(taken.iter().map(|event| (place(event).expect("it was given"), stage)));
        }
        let found_in = if found.is_timed_out { &mut answer.timed_out } else { &mut answer.matches };
        found_in.push((chain, found.at));
    }
    answer
}

#[test]
fn the_matcher_finds_what_the_definition_says() {
    let mut random = Random::new(20_080_611);
    let (mut matches, mut timed_out, mut skipped) = (0, 0, 0);
    for _ in 0..60_000 {
        let case = draw_case(&mut random);
        let events = draw_events(&mut random);
        let oracle = Oracle { case: &case, events: &events };
        let mut expected = Answer::default();
        oracle.explore(&mut Vec::new(), &mut expected);
        let mut given = run(&case, &events);
        if case.skip != SkipKind::None {
            let all = expected.matches.len();
            expected.matches = oracle.skip(expected.matches);
            skipped += all - expected.matches.len();
            // Which partial matches are left, and when a match is free, is not the oracle's part.
            for answer in [&mut expected, &mut given] {
                answer.timed_out.clear();
                answer.matches.iter_mut().for_each(|(_, at)| *at = 0);
            }
        }
        for answer in [&mut expected, &mut given] {
            answer.matches.sort_unstable();
            answer.timed_out.sort_unstable();
        }
        assert_eq!(given.matches, expected.matches, "{case:#?} over {events:#?}");
        assert_eq!(given.timed_out, expected.timed_out, "{case:#?} over {events:#?}");
        matches += given.matches.len();
        timed_out += given.timed_out.len();
    }
    println!("{matches} matches, {timed_out} timed out, {skipped} skipped");
    assert!(matches > 40_000 && timed_out > 30_000 && skipped > 5_000);
}
