//! `Pattern`: the builder, and what can be wrong with a pattern.

use std::sync::Arc;
use std::time::Duration;

use thalweg_engine::time::duration_millis;

use super::buffer::Earlier;
use super::nfa::MAX_STEPS;

/// How a stage's event lies to the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Contiguity {
    /// Directly behind it.
    Strict,
    /// The first one that satisfies the condition.
    Relaxed,
    /// Any one that satisfies the condition.
    Any,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StageKind {
    Step(Contiguity),
    NotNext,
    NotFollowedBy,
}

/// Where matching goes on when a match has been found: which other matches it rules out.
///
/// A match that started before others is looked at first: with all but [`Skip::none`] a match is
/// held back as long as a partial match with an earlier first event is alive. Of matches with the
/// same first event the one completed first is looked at first, of these the longest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Skip(pub(super) SkipTo);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum SkipTo {
    #[default]
    None,
    Next,
    PastLast,
    First(String),
    Last(String),
}

impl Skip {
    /// Every match is given out.
    pub fn none() -> Self {
        Skip(SkipTo::None)
    }

    /// At most one match per first event.
    pub fn to_next() -> Self {
        Skip(SkipTo::Next)
    }

    /// No match starts with an event up to the last one of the match found.
    pub fn past_last_event() -> Self {
        Skip(SkipTo::PastLast)
    }

    /// No match starts before the first event of stage `name` in the match found. If that has no
    /// event of this stage, nothing is ruled out.
    pub fn to_first(name: impl Into<String>) -> Self {
        Skip(SkipTo::First(name.into()))
    }

    /// No match starts before the last event of stage `name` in the match found. If that has no
    /// event of this stage, nothing is ruled out.
    pub fn to_last(name: impl Into<String>) -> Self {
        Skip(SkipTo::Last(name.into()))
    }
}

type IterativeTest<T> = dyn Fn(&T, &Earlier<'_, T>) -> bool + Send + Sync;

/// A condition on an event, or on an event and those taken before it.
pub(super) enum Test<T> {
    Simple(Arc<dyn Fn(&T) -> bool + Send + Sync>),
    Iterative(Arc<IterativeTest<T>>),
}

impl<T> Clone for Test<T> {
    fn clone(&self) -> Self {
        match self {
            Test::Simple(test) => Test::Simple(test.clone()),
            Test::Iterative(test) => Test::Iterative(test.clone()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    And,
    Or,
}

/// Tests joined from left to right, without precedence.
pub(super) struct Condition<T> {
    first: Test<T>,
    more: Vec<(Join, Test<T>)>,
}

impl<T> Clone for Condition<T> {
    fn clone(&self) -> Self {
        let more = self.more.iter().map(|(join, test)| (*join, test.clone())).collect();
        Condition { first: self.first.clone(), more }
    }
}

impl<T> Condition<T> {
    fn of(first: Test<T>) -> Self {
        Condition { first, more: Vec::new() }
    }

    /// True if it depends on the event alone.
    pub(super) fn is_simple(&self) -> bool {
        let tests = self.more.iter().map(|(_, test)| test);
        tests.chain([&self.first]).all(|test| matches!(test, Test::Simple(_)))
    }

    pub(super) fn holds(&self, event: &T, earlier: &Earlier<'_, T>) -> bool {
        let check = |test: &Test<T>| match test {
            Test::Simple(test) => test(event),
            Test::Iterative(test) => test(event, earlier),
        };
        let mut holds = check(&self.first);
        for (join, test) in &self.more {
            // What the next test cannot change any more is not asked for.
            if holds == (*join == Join::And) {
                holds = check(test);
            }
        }
        holds
    }
}

pub(super) struct Stage<T> {
    pub(super) name: Arc<str>,
    pub(super) kind: StageKind,
    pub(super) condition: Condition<T>,
    pub(super) until: Option<Condition<T>>,
    /// How many events it takes; without a greatest number it is a loop.
    pub(super) times: Option<(u32, Option<u32>)>,
    /// The contiguity of its events among themselves.
    pub(super) inner: Option<Contiguity>,
    pub(super) is_optional: bool,
    pub(super) is_greedy: bool,
}

impl<T> Clone for Stage<T> {
    fn clone(&self) -> Self {
        Stage {
            name: self.name.clone(),
            kind: self.kind,
            condition: self.condition.clone(),
            until: self.until.clone(),
            times: self.times,
            inner: self.inner,
            is_optional: self.is_optional,
            is_greedy: self.is_greedy,
        }
    }
}

/// A sequence of stages to look for among the events of a key.
///
/// Begun with [`Pattern::begin`]; stages are added with `next`, `followed_by`, `followed_by_any`,
/// `not_next` and `not_followed_by`; conditions and quantifiers are those of the stage added last.
/// A wrong combination is reported when the job is built, with the line that used the pattern.
pub struct Pattern<T> {
    pub(super) stages: Vec<Stage<T>>,
    pub(super) within_ms: Option<i64>,
    pub(super) skip: Skip,
    pub(super) allowed_lateness_ms: i64,
    problems: Vec<String>,
}

impl<T> Clone for Pattern<T> {
    fn clone(&self) -> Self {
        Pattern {
            stages: self.stages.clone(),
            within_ms: self.within_ms,
            skip: self.skip.clone(),
            allowed_lateness_ms: self.allowed_lateness_ms,
            problems: self.problems.clone(),
        }
    }
}

impl<T: 'static> Pattern<T> {
    /// A pattern whose matches begin with any event that satisfies `condition`.
    pub fn begin(
        name: impl Into<String>,
        condition: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        let empty = Pattern {
            stages: Vec::new(),
            within_ms: None,
            skip: Skip::none(),
            allowed_lateness_ms: 0,
            problems: Vec::new(),
        };
        empty.stage(name, StageKind::Step(Contiguity::Any), condition)
    }

    fn stage(
        mut self,
        name: impl Into<String>,
        kind: StageKind,
        condition: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.stages.push(Stage {
            name: name.into().into(),
            kind,
            condition: Condition::of(Test::Simple(Arc::new(condition))),
            until: None,
            times: None,
            inner: None,
            is_optional: false,
            is_greedy: false,
        });
        self
    }

    /// The event directly behind the one before (strict contiguity).
    #[must_use]
    pub fn next(
        self,
        name: impl Into<String>,
        condition: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.stage(name, StageKind::Step(Contiguity::Strict), condition)
    }

    /// The next event that satisfies the condition; others between are passed over (relaxed
    /// contiguity).
    #[must_use]
    pub fn followed_by(
        self,
        name: impl Into<String>,
        condition: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.stage(name, StageKind::Step(Contiguity::Relaxed), condition)
    }

    /// Any later event that satisfies the condition: a match for each (non-deterministic relaxed
    /// contiguity).
    #[must_use]
    pub fn followed_by_any(
        self,
        name: impl Into<String>,
        condition: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.stage(name, StageKind::Step(Contiguity::Any), condition)
    }

    /// The event directly behind the one before must not satisfy the condition. At the end of a
    /// pattern the next event decides, and without one there is no match.
    #[must_use]
    pub fn not_next(
        self,
        name: impl Into<String>,
        condition: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.stage(name, StageKind::NotNext, condition)
    }

    /// No event that satisfies the condition may come before the next stage's, nor be that one.
    /// Behind a stage that takes several events it ends the match at any point within the stage.
    /// At the end of a pattern it needs [`within`](Pattern::within): the match is given out when
    /// that time has passed.
    #[must_use]
    pub fn not_followed_by(
        self,
        name: impl Into<String>,
        condition: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.stage(name, StageKind::NotFollowedBy, condition)
    }

    fn last(&mut self) -> &mut Stage<T> {
        self.stages.last_mut().expect("`begin` has made a stage")
    }

    fn join(mut self, join: Join, test: Test<T>) -> Self {
        self.last().condition.more.push((join, test));
        self
    }

    /// The stage's events must satisfy this, too. Conditions are joined in the order given.
    #[must_use]
    pub fn and_where(self, condition: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.join(Join::And, Test::Simple(Arc::new(condition)))
    }

    /// The stage's events must satisfy this, too, which also sees the events that the partial
    /// match has taken so far.
    ///
    /// # Cost
    /// It is asked once per partial match, simple conditions once per event.
    #[must_use]
    pub fn where_with(
        self,
        condition: impl Fn(&T, &Earlier<'_, T>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.join(Join::And, Test::Iterative(Arc::new(condition)))
    }

    /// Or satisfy this instead of what was given so far.
    #[must_use]
    pub fn or_where(self, condition: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.join(Join::Or, Test::Simple(Arc::new(condition)))
    }

    fn quantify(mut self, least: u32, most: Option<u32>) -> Self {
        let name = self.last().name.clone();
        let times = &mut self.last().times;
        if times.replace((least.max(1), most)).is_some() {
            self.problems.push(format!("stage `{name}` has two quantifiers"));
        }
        if most.is_some_and(|most| most == 0 || most < least) || (least == 0 && most.is_none()) {
            let most = most.map_or_else(|| "any number".to_owned(), |most| most.to_string());
            self.problems.push(format!("stage `{name}` asks for {least} to {most} events"));
        }
        self
    }

    /// The stage takes `n` events.
    #[must_use]
    pub fn times(self, n: u32) -> Self {
        self.quantify(n, Some(n))
    }

    /// The stage takes `least` to `most` events; 0 for `least` makes it optional.
    #[must_use]
    pub fn times_range(self, least: u32, most: u32) -> Self {
        let pattern = self.quantify(least, Some(most));
        if least == 0 { pattern.optional() } else { pattern }
    }

    /// The stage takes `least` events or more.
    #[must_use]
    pub fn times_or_more(self, least: u32) -> Self {
        self.quantify(least, None)
    }

    /// The stage takes one event or more.
    #[must_use]
    pub fn one_or_more(self) -> Self {
        self.quantify(1, None)
    }

    /// The stage may be left out.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.last().is_optional = true;
        self
    }

    /// An event that the stage can take is never left to the stages behind it. Needs a quantifier.
    #[must_use]
    pub fn greedy(mut self) -> Self {
        self.last().is_greedy = true;
        self
    }

    fn inner(mut self, contiguity: Contiguity) -> Self {
        let name = self.last().name.clone();
        if self.last().inner.replace(contiguity).is_some_and(|other| other != contiguity) {
            let problem = format!("stage `{name}` is both consecutive and allows combinations");
            self.problems.push(problem);
        }
        self
    }

    /// The stage's events are directly behind each other (by default others may lie between).
    #[must_use]
    pub fn consecutive(self) -> Self {
        self.inner(Contiguity::Strict)
    }

    /// The stage's events may leave out others that would do, too.
    #[must_use]
    pub fn allow_combinations(self) -> Self {
        self.inner(Contiguity::Any)
    }

    /// The loop takes no event that satisfies the condition, and none after it.
    #[must_use]
    pub fn until(mut self, condition: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        let name = self.last().name.clone();
        let until = Condition::of(Test::Simple(Arc::new(condition)));
        if self.last().until.replace(until).is_some() {
            self.problems.push(format!("stage `{name}` has two `until`"));
        }
        self
    }

    /// A match's events are less than `duration` later than its first one. Of several, the least
    /// applies. Partial matches that this ends go to
    /// [`timed_out`](super::PatternOutput::timed_out).
    #[must_use]
    pub fn within(mut self, duration: Duration) -> Self {
        let within_ms = duration_millis(duration);
        self.within_ms = Some(self.within_ms.map_or(within_ms, |other| other.min(within_ms)));
        self
    }

    /// Which matches a match rules out; by default none.
    #[must_use]
    pub fn after_match(mut self, skip: Skip) -> Self {
        self.skip = skip;
        self
    }

    /// Events are waited for this much longer, and matches given out that much later.
    #[must_use]
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness_ms = duration_millis(lateness);
        self
    }

    /// What is wrong with the pattern.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        for (index, stage) in self.stages.iter().enumerate() {
            let before = &self.stages[..index];
            problems.extend(stage.problems());
            if before.iter().any(|other| other.name == stage.name) {
                problems.push(format!("two stages have the name `{}`", stage.name));
            }
            let is_after_optional = before.last().is_some_and(|stage| stage.is_optional);
            if !stage.is_step() && is_after_optional {
                problems
                    .push(format!("the negation `{}` stands behind an optional stage", stage.name));
            }
            let has_mandatory_behind =
                self.stages[index + 1..].iter().any(|stage| stage.is_step() && !stage.is_optional);
            if stage.is_greedy && !has_mandatory_behind {
                problems.push(format!(
                    "stage `{}` is greedy, but no stage that must occur stands behind it",
                    stage.name
                ));
            }
        }
        if self.steps().all(|stage| stage.is_optional) {
            problems.push("every stage is optional".to_owned());
        }
        if self.steps().count() > MAX_STEPS {
            problems.push(format!("a pattern has up to {MAX_STEPS} stages"));
        }
        let mut trailing = self.stages.iter().rev().take_while(|stage| !stage.is_step());
        if self.within_ms.is_none()
            && let Some(last) = trailing.find(|stage| stage.kind == StageKind::NotFollowedBy)
        {
            problems.push(format!(
                "the pattern ends with the negation `{}`: it needs `within` to know when to stop \
                 waiting",
                last.name
            ));
        }
        if self.within_ms == Some(0) {
            problems.push("no match is within 0 ms".to_owned());
        }
        if let SkipTo::First(name) | SkipTo::Last(name) = &self.skip.0
            && !self.steps().any(|stage| *stage.name == **name)
        {
            problems.push(format!("it skips to `{name}`, but no stage has this name"));
        }
        problems
    }

    fn steps(&self) -> impl Iterator<Item = &Stage<T>> {
        self.stages.iter().filter(|stage| stage.is_step())
    }
}

impl<T> Stage<T> {
    fn is_step(&self) -> bool {
        matches!(self.kind, StageKind::Step(_))
    }

    fn problems(&self) -> Vec<String> {
        let Stage { name, .. } = self;
        let mut problems = Vec::new();
        let mut add = |is_wrong: bool, what: String| {
            if is_wrong {
                problems.push(what);
            }
        };
        add(name.is_empty(), "a stage has no name".to_owned());
        let is_quantified = self.times.is_some() || self.is_optional || self.is_greedy;
        let is_qualified = is_quantified || self.inner.is_some() || self.until.is_some();
        if !self.is_step() {
            add(is_qualified, format!("the negation `{name}` has a quantifier"));
            return problems;
        }
        let is_repeated = self.times.is_some();
        let is_loop = self.times.is_some_and(|(_, most)| most.is_none());
        add(
            self.is_greedy && !is_repeated,
            format!("stage `{name}` is greedy, but takes one event"),
        );
        add(
            self.is_greedy && self.inner == Some(Contiguity::Any),
            format!("stage `{name}` is greedy and allows combinations"),
        );
        add(
            self.inner.is_some() && !is_repeated,
            format!("stage `{name}` takes one event: nothing can be between its events"),
        );
        add(
            self.until.is_some() && !is_loop,
            format!("stage `{name}` has `until`, but is no loop"),
        );
        problems
    }
}
