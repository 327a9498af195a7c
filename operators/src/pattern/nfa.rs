//! The automaton of a pattern, and its runs over the events of one key in event-time order.
//!
//! After Agrawal, Diao, Gyllstrom, Immerman: *Efficient Pattern Matching over Event Streams*
//! (SASE+, SIGMOD 2008), with the semantics of Flink CEP. A run is a partial match: a chain of
//! events in the [`SharedBuffer`], and the set of *targets* that it waits for: the stages whose
//! event may come next. (SASE+ and Flink split a run in two where it may stay in a loop or leave
//! it; a set of targets keeps each partial match once.) An event
//! 1. ends the run, if it satisfies a negation that stands behind the run's stage;
//! 2. makes a new, longer run for each target whose condition it satisfies, up to the first greedy
//!    one;
//! 3. is passed over by the old run, which loses the targets that do not allow this: strict ones,
//!    relaxed ones whose condition it satisfied, those behind a greedy one that took it, and the
//!    loop itself if it satisfies its `until`. A run without targets ends.
//!
//! # Invariants
//! * I1: runs are in order of their first event. So the first one times out first, and tells
//!   whether a match has to wait for one that started before it.
//! * I2: no two runs are chains of the same events at the same stages.

use std::cell::Cell;
use std::cmp::Reverse;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::Data;

use super::buffer::{Earlier, NodeId, SharedBuffer};
use super::builder::{Condition, Contiguity, Pattern, SkipTo, StageKind};

/// The greatest number of stages, without negations: a set of them and of the end is a word.
pub(super) const MAX_STEPS: usize = 63;

/// A set of steps; the bit behind the last step stands for the end of the pattern.
type StepSet = u64;

/// A pattern, made ready.
pub(super) struct Automaton<T> {
    names: Vec<Arc<str>>,
    steps: Vec<Step<T>>,
    /// What the pattern may begin with.
    start: StepSet,
    /// The end as a target, for a pattern that ends with a negation; empty otherwise.
    end: StepSet,
    pub(super) within_ms: Option<i64>,
    skip: SkipRule,
}

struct Step<T> {
    condition: Condition<T>,
    /// Whether the condition depends on the event alone.
    is_simple: bool,
    until: Option<Condition<T>>,
    least: u32,
    most: Option<u32>,
    is_greedy: bool,
    /// To the step before, and within.
    contiguity: [Contiguity; 2],
    /// What may come behind it.
    following: StepSet,
    /// Whether a match may end with it.
    may_end: bool,
    /// Negations directly behind it.
    not_next: Vec<Condition<T>>,
    not_followed_by: Vec<Condition<T>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SkipRule {
    None,
    Next,
    PastLast,
    First(usize),
    Last(usize),
}

/// A partial match.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Run {
    node: NodeId,
    /// The first event.
    start: u64,
    start_time: i64,
    /// The step of its last event, and how many that has.
    step: u8,
    count: u32,
    targets: StepSet,
    /// Whether no event has been passed over since the last one taken.
    is_fresh: bool,
}

/// A match that waits for partial matches which started before it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Held {
    node: NodeId,
    start: u64,
}

/// The matching of one key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Matching<T> {
    buffer: SharedBuffer<T>,
    runs: Vec<Run>,
    held: Vec<Held>,
    next_sequence: u64,
}

impl<T> Default for Matching<T> {
    fn default() -> Self {
        let buffer = SharedBuffer::default();
        Matching { buffer, runs: Vec::new(), held: Vec::new(), next_sequence: 0 }
    }
}

impl<T> Matching<T> {
    /// True if it is as new.
    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.held.is_empty()
    }

    /// True if matches wait for others.
    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// When the first event of the oldest run came.
    pub(super) fn oldest_start(&self) -> Option<i64> {
        self.runs.first().map(|run| run.start_time)
    }

    /// The number of runs, of stored events and of nodes.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let (events, nodes) = self.buffer.len();
        (self.runs.len(), events, nodes)
    }
}

/// A match, or a partial one that was cut off.
#[derive(Debug)]
pub(super) struct Found<T> {
    pub(super) is_timed_out: bool,
    pub(super) stages: Vec<(Arc<str>, Vec<T>)>,
    pub(super) start: i64,
    pub(super) end: i64,
    /// When it was decided.
    pub(super) at: i64,
}

/// The event being taken.
#[derive(Clone, Copy)]
struct NewEvent {
    place: u32,
    sequence: u64,
    time: i64,
}

/// What an event does to a run.
#[derive(Clone, Copy, Default)]
struct Decision {
    takes: StepSet,
    targets: StepSet,
    completes: bool,
}

/// An automaton with its working memory.
pub(super) struct Matcher<T> {
    automaton: Automaton<T>,
    decisions: Vec<Decision>,
    runs: Vec<Run>,
    completed: Vec<Held>,
    /// What was found, to be taken away by the caller.
    pub(super) found: Vec<Found<T>>,
}

/// The tests of one event; what depends on it alone is asked once.
struct Asked<'a, T> {
    automaton: &'a Automaton<T>,
    buffer: &'a SharedBuffer<T>,
    event: &'a T,
    tested: Cell<StepSet>,
    held: Cell<StepSet>,
}

impl<T> Asked<'_, T> {
    fn holds(&self, step: usize, node: Option<NodeId>) -> bool {
        let Step { condition, is_simple, .. } = &self.automaton.steps[step];
        if !is_simple {
            return self.satisfies(condition, node);
        }
        let bit = 1 << step;
        if self.tested.get() & bit == 0 {
            self.tested.set(self.tested.get() | bit);
            if self.satisfies(condition, node) {
                self.held.set(self.held.get() | bit);
            }
        }
        self.held.get() & bit != 0
    }

    fn satisfies(&self, condition: &Condition<T>, node: Option<NodeId>) -> bool {
        let names = &self.automaton.names;
        condition.holds(self.event, &Earlier { buffer: self.buffer, node, names })
    }
}

impl<T: 'static> Automaton<T> {
    /// The automaton of a pattern that has no problems.
    pub(super) fn new(pattern: &Pattern<T>) -> Self {
        let mut names = Vec::new();
        let mut steps: Vec<Step<T>> = Vec::new();
        let mut optional = Vec::new();
        for stage in &pattern.stages {
            let condition = stage.condition.clone();
            match (stage.kind, steps.last_mut()) {
                (StageKind::NotNext, Some(step)) => step.not_next.push(condition),
                (StageKind::NotFollowedBy, Some(step)) => step.not_followed_by.push(condition),
                (StageKind::Step(contiguity), _) => {
                    let (least, most) = stage.times.unwrap_or((1, Some(1)));
                    names.push(stage.name.clone());
                    optional.push(stage.is_optional);
                    steps.push(Step {
                        is_simple: condition.is_simple(),
                        condition,
                        until: stage.until.clone(),
                        least,
                        most,
                        is_greedy: stage.is_greedy,
                        contiguity: [contiguity, stage.inner.unwrap_or(Contiguity::Relaxed)],
                        following: 0,
                        may_end: false,
                        not_next: Vec::new(),
                        not_followed_by: Vec::new(),
                    });
                }
                // A pattern begins with a step.
                (_, None) => {}
            }
        }
        // The steps from `first` to the first one that must occur.
        let reach = |first: usize| {
            let skipped = optional[first..].iter().take_while(|&&optional| optional).count();
            let last = (first + skipped).min(steps.len() - 1);
            ((first..=last).fold(0, |set, step| set | 1 << step), first + skipped >= steps.len())
        };
        let ends_negative =
            steps.last().is_some_and(|s| !s.not_next.is_empty() || !s.not_followed_by.is_empty());
        let start = reach(0).0;
        let end = if ends_negative { 1 << steps.len() } else { 0 };
        let reached: Vec<_> = (1..=steps.len()).map(reach).collect();
        for (step, (following, may_end)) in steps.iter_mut().zip(reached) {
            step.following = if may_end { following | end } else { following };
            step.may_end = may_end && !ends_negative;
        }
        let position = |name: &String| names.iter().position(|n| **n == **name).unwrap_or(0);
        let skip = match &pattern.skip.0 {
            SkipTo::None => SkipRule::None,
            SkipTo::Next => SkipRule::Next,
            SkipTo::PastLast => SkipRule::PastLast,
            SkipTo::First(name) => SkipRule::First(position(name)),
            SkipTo::Last(name) => SkipRule::Last(position(name)),
        };
        Automaton { names, steps, start, end, within_ms: pattern.within_ms, skip }
    }

    /// When a run that began at `start` is cut off.
    pub(super) fn deadline(&self, start: i64) -> Option<i64> {
        Some(start.saturating_add(self.within_ms?))
    }

    /// What an event does to a run.
    fn decide(&self, run: &Run, asked: &Asked<'_, T>) -> Decision {
        let node = Some(run.node);
        let current = usize::from(run.step);
        let Step { not_next, not_followed_by, .. } = &self.steps[current];
        let satisfies = |condition: &Condition<T>| asked.satisfies(condition, node);
        if not_followed_by.iter().any(satisfies) || (run.is_fresh && not_next.iter().any(satisfies))
        {
            return Decision::default();
        }
        let mut decision = Decision { targets: run.targets, ..Decision::default() };
        if run.targets & self.end != 0 && not_followed_by.is_empty() {
            // Only the event directly behind could have spoilt it.
            decision.completes = true;
            decision.targets &= !self.end;
        }
        let mut rest = decision.targets & !self.end;
        while rest != 0 {
            let index = rest.trailing_zeros() as usize;
            let bit: StepSet = 1 << index;
            rest &= !bit;
            let step = &self.steps[index];
            let is_inside = index == current;
            let is_over = step.until.as_ref().is_some_and(satisfies);
            if is_over && is_inside {
                decision.targets &= !bit;
                continue;
            }
            let holds = asked.holds(index, node);
            let stays = match step.contiguity[usize::from(is_inside)] {
                Contiguity::Strict => false,
                Contiguity::Relaxed => !holds,
                Contiguity::Any => true,
            };
            if !stays {
                decision.targets &= !bit;
            }
            if holds && !is_over {
                decision.takes |= bit;
                if step.is_greedy {
                    // Nothing behind it gets this event, nor any later one of this run.
                    decision.targets &= bit | (bit - 1);
                    rest = 0;
                }
            }
        }
        decision
    }

    /// What an event begins.
    fn begins(&self, asked: &Asked<'_, T>) -> StepSet {
        let (mut takes, mut rest) = (0, self.start);
        while rest != 0 {
            let index = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let step = &self.steps[index];
            let is_over = step.until.as_ref().is_some_and(|until| asked.satisfies(until, None));
            if !is_over && asked.holds(index, None) {
                takes |= 1 << index;
                if step.is_greedy {
                    break;
                }
            }
        }
        takes
    }

    /// What a run waits for when its last step has `count` events, and whether it is a match.
    fn targets(&self, step: usize, count: u32) -> (StepSet, bool) {
        let Step { least, most, following, may_end, .. } = self.steps[step];
        let again = if most.is_none_or(|most| count < most) { 1 << step } else { 0 };
        if count < least { (again, false) } else { (again | following, may_end) }
    }

    /// The count behind `count`; beyond the least number of a loop it makes no difference.
    fn count_up(&self, step: usize, count: u32) -> u32 {
        let Step { least, most, .. } = self.steps[step];
        (count + 1).min(most.unwrap_or(least))
    }
}

impl<T: Data> Matcher<T> {
    pub(super) fn new(automaton: Automaton<T>) -> Self {
        let (decisions, runs) = (Vec::new(), Vec::new());
        Matcher { automaton, decisions, runs, completed: Vec::new(), found: Vec::new() }
    }

    pub(super) fn automaton(&self) -> &Automaton<T> {
        &self.automaton
    }

    /// Takes the next event of a key. All that is due before `time` must have expired.
    ///
    /// # Cost
    /// Per run a test of each target, and per match a copy of its events. Nothing is allocated for
    /// an event that begins nothing and continues nothing.
    pub(super) fn feed(&mut self, matching: &mut Matching<T>, time: i64, value: T) {
        let automaton = &self.automaton;
        let asked = Asked {
            automaton,
            buffer: &matching.buffer,
            event: &value,
            tested: Cell::new(0),
            held: Cell::new(0),
        };
        let begins = automaton.begins(&asked);
        if begins == 0 && matching.runs.is_empty() {
            return;
        }
        self.decisions.clear();
        self.decisions.extend(matching.runs.iter().map(|run| automaton.decide(run, &asked)));
        let takes = self.decisions.iter().fold(begins, |set, decision| set | decision.takes);
        let mut event = NewEvent { place: 0, sequence: matching.next_sequence, time };
        if takes != 0 {
            event.place = matching.buffer.store(event.sequence, time, value);
            matching.next_sequence += 1;
        }
        let Matching { buffer, runs, .. } = matching;
        for (index, run) in runs.iter().enumerate() {
            let Decision { takes, targets, completes } = self.decisions[index];
            self.extend(buffer, Some(run), takes, event);
            if completes {
                buffer.retain(run.node);
                self.completed.push(Held { node: run.node, start: run.start });
            }
            match targets {
                0 => buffer.release(run.node),
                _ => self.runs.push(Run { targets, is_fresh: false, ..*run }),
            }
        }
        self.extend(buffer, None, begins, event);
        runs.clear();
        runs.append(&mut self.runs);
        self.settle(matching, time);
    }

    /// Makes the runs that are longer than `run` by an event, one for each step that takes it.
    fn extend(
        &mut self,
        buffer: &mut SharedBuffer<T>,
        run: Option<&Run>,
        mut takes: StepSet,
        event: NewEvent,
    ) {
        while takes != 0 {
            let step = takes.trailing_zeros() as usize;
            takes &= takes - 1;
            let count = match run {
                Some(run) if usize::from(run.step) == step => run.count,
                _ => 0,
            };
            let count = self.automaton.count_up(step, count);
            let (targets, is_match) = self.automaton.targets(step, count);
            let node = buffer.link(event.place, step, run.map(|run| run.node));
            let new = (event.sequence, event.time);
            let (start, start_time) = run.map_or(new, |run| (run.start, run.start_time));
            if is_match {
                buffer.retain(node);
                self.completed.push(Held { node, start });
            }
            let step = step as u8;
            match targets {
                0 => buffer.release(node),
                _ => self.runs.push(Run {
                    node,
                    start,
                    start_time,
                    step,
                    count,
                    targets,
                    is_fresh: true,
                }),
            }
        }
    }

    /// Cuts off the runs that are due at `time`, the greatest time so far.
    pub(super) fn expire(&mut self, matching: &mut Matching<T>, time: i64) {
        let Matcher { automaton, completed, .. } = self;
        let is_due = |run: &Run| automaton.deadline(run.start_time).is_some_and(|at| at <= time);
        let due = matching.runs.iter().take_while(|run| is_due(run)).count();
        for run in matching.runs.drain(..due) {
            let step = &automaton.steps[usize::from(run.step)];
            if run.targets & automaton.end != 0 && !step.not_followed_by.is_empty() {
                // No event of the negation that ends the pattern has come.
                completed.push(Held { node: run.node, start: run.start });
                continue;
            }
            let was_match = step.may_end || (step.following & !run.targets & automaton.end) != 0;
            if run.count < step.least || !was_match {
                self.found.push(extract(automaton, &matching.buffer, run.node, time, true));
            }
            matching.buffer.release(run.node);
        }
        self.settle(matching, time);
    }

    /// Ends all runs: no event will come.
    pub(super) fn end(&mut self, matching: &mut Matching<T>, time: i64) {
        for run in matching.runs.drain(..) {
            matching.buffer.release(run.node);
        }
        self.settle(matching, time);
    }

    /// Gives out what was completed, as far as the skip rule allows it.
    fn settle(&mut self, matching: &mut Matching<T>, time: i64) {
        let Matcher { automaton, completed, found, .. } = self;
        if automaton.skip == SkipRule::None {
            for Held { node, .. } in completed.drain(..) {
                found.push(extract(automaton, &matching.buffer, node, time, false));
                matching.buffer.release(node);
            }
            return;
        }
        let Matching { buffer, runs, held, .. } = matching;
        if !completed.is_empty() {
            completed.sort_by_cached_key(|held| {
                let links = buffer.chain(Some(held.node)).map(|link| (link.sequence, link.step));
                let mut links: Vec<_> = links.collect();
                links.reverse();
                (Reverse(links.len()), links)
            });
            held.append(completed);
            held.sort_by_key(|held| held.start);
        }
        while let Some(&Held { node, start }) = held.first() {
            if runs.first().is_some_and(|run| run.start < start) {
                return;
            }
            held.remove(0);
            found.push(extract(automaton, buffer, node, time, false));
            let first_left = first_left(automaton.skip, buffer, node, start);
            buffer.release(node);
            let cut = runs.partition_point(|run| run.start < first_left);
            runs.drain(..cut).for_each(|run| buffer.release(run.node));
            let cut = held.partition_point(|held| held.start < first_left);
            held.drain(..cut).for_each(|held| buffer.release(held.node));
        }
    }
}

/// The match that ends at `node` rules out those that start before this event.
fn first_left<T>(skip: SkipRule, buffer: &SharedBuffer<T>, node: NodeId, start: u64) -> u64 {
    let mut latest_first = buffer.chain(Some(node));
    let event = match skip {
        SkipRule::None => None,
        SkipRule::Next => return start + 1,
        SkipRule::PastLast => return latest_first.next().map_or(0, |link| link.sequence + 1),
        SkipRule::First(step) => latest_first.filter(|link| link.step == step).last(),
        SkipRule::Last(step) => latest_first.find(|link| link.step == step),
    };
    event.map_or(0, |link| link.sequence)
}

/// Copies the events of a chain, by stage.
fn extract<T: Clone>(
    automaton: &Automaton<T>,
    buffer: &SharedBuffer<T>,
    node: NodeId,
    at: i64,
    is_timed_out: bool,
) -> Found<T> {
    let mut stages: Vec<(Arc<str>, Vec<T>)> = Vec::new();
    let (mut start, mut end, mut last_step) = (at, None, None);
    for link in buffer.chain(Some(node)) {
        end = end.or(Some(link.time));
        start = link.time;
        if last_step != Some(link.step) {
            stages.push((automaton.names[link.step].clone(), Vec::new()));
            last_step = Some(link.step);
        }
        if let Some((_, events)) = stages.last_mut() {
            events.push(link.value.clone());
        }
    }
    stages.reverse();
    stages.iter_mut().for_each(|(_, events)| events.reverse());
    Found { is_timed_out, stages, start, end: end.unwrap_or(at), at }
}
