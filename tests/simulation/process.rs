//! Process functions of all kinds in whole jobs: named state, timers of both domains, two inputs,
//! broadcast rules; with crashes and another parallelism after each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thalweg::memory::{self, Collected, MemorySink};
use thalweg::prelude::*;
use thalweg::sim::{Random, SimReport, Simulation};
use thalweg::time::ProcessingTime;
use thalweg::{BroadcastProcessFunction, CoProcessFunction, ListState, MapState};

use crate::data::{Click, clicks};

/// A rule. It matters in which order rules are applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rule {
    id: u64,
    time: i64,
}

/// The rules in the order in which they came, in several entries.
type Rules = BTreeMap<u64, Vec<u64>>;

/// What a click or a user has met: its id or user, what was kept, and the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Met {
    is_total: bool,
    id: u64,
    kept: Vec<u64>,
    rules: Vec<u64>,
}

/// All rules, in the order in which they came.
const ALL: u64 = 1000;

/// Keeps a user's clicks under rules that every subtask knows.
struct Ruled {
    history: ListState<u64>,
    seen: MapState<u64, u64>,
}

type Ctx<'a> = ProcessContext<'a, u32, u64, Met>;

impl BroadcastProcessFunction<u32, Click, Rule> for Ruled {
    type State = u64;
    type Out = Met;
    type RuleKey = u64;
    type Rule = Vec<u64>;

    fn on_record(&self, click: Click, rules: &Rules, context: &mut Ctx<'_>) -> thalweg::Result<()> {
        *context.state += 1;
        context.list(&self.history).push(click.id)?;
        context.map(&self.seen).update(&(click.id % 3), || 0, |count| *count += 1)?;
        context.register_timer(EventTime::from_millis(1_000_000));
        let rules = rules.get(&ALL).cloned().unwrap_or_default();
        context.emit(Met { is_total: false, id: click.id, kept: Vec::new(), rules });
        Ok(())
    }

    fn on_broadcast(&self, rule: Rule, _: EventTime, rules: &mut Rules) -> thalweg::Result<()> {
        rules.entry(ALL).or_default().push(rule.id);
        // What one rule adds the next one takes away.
        rules.remove(&(rule.id % 5));
        rules.insert((rule.id + 1) % 5, vec![rule.id]);
        Ok(())
    }

    fn on_timer(
        &self,
        _time: EventTime,
        rules: &Rules,
        context: &mut Ctx<'_>,
    ) -> thalweg::Result<()> {
        let mut kept = context.list(&self.history).take()?;
        let mut counted = 0;
        context.map(&self.seen).for_each(|_, count| counted += count)?;
        context.map(&self.seen).clear()?;
        assert_eq!((counted, *context.state), (kept.len() as u64, kept.len() as u64));
        kept.sort_unstable();
        let (id, rules) = (u64::from(*context.key()), rules[&ALL].clone());
        context.clear_state();
        context.emit(Met { is_total: true, id, kept, rules });
        Ok(())
    }
}

/// Gathers clicks of two streams and gives them out 15 milliseconds after the first, by the clock.
struct Gather {
    waiting: ListState<u64>,
}

impl CoProcessFunction<u32, Click, Click> for Gather {
    type State = Option<i64>;
    type Out = Vec<u64>;

    fn on_left(
        &self,
        click: Click,
        context: &mut ProcessContext<'_, u32, Option<i64>, Vec<u64>>,
    ) -> thalweg::Result<()> {
        if context.state.is_none() {
            let due = context.processing_time().plus_millis(15);
            *context.state = Some(due.millis());
            context.register_processing_timer(due);
        }
        context.list(&self.waiting).push(click.id)
    }

    fn on_right(
        &self,
        click: Click,
        context: &mut ProcessContext<'_, u32, Option<i64>, Vec<u64>>,
    ) -> thalweg::Result<()> {
        self.on_left(Click { id: 10_000 + click.id, ..click }, context)
    }

    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        context: &mut ProcessContext<'_, u32, Option<i64>, Vec<u64>>,
    ) -> thalweg::Result<()> {
        assert_eq!(context.state.take(), Some(time.millis()));
        let waiting = context.list(&self.waiting).take()?;
        context.emit(waiting);
        Ok(())
    }
}

struct World {
    met: (MemorySink<Met>, Collected<Met>),
    gathered: (MemorySink<Vec<u64>>, Collected<Vec<u64>>),
}

fn build(splits: &[Vec<Click>], rules: &[Vec<Rule>], world: &World) -> Job {
    let job = Job::new();
    let bounded = || Watermarks::bounded_out_of_orderness(millis(5));
    let clicks = job
        .source("clicks", memory::from_splits(splits.to_vec()))
        .event_time(|click: &Click| click.time, bounded());
    let rules = job
        .source("rules", memory::from_splits(rules.to_vec()))
        .event_time(|rule: &Rule| rule.time, bounded());
    let by_user = clicks.key_by(|click| click.user);
    by_user
        .connect_broadcast(&rules)
        .process_with("ruled", |states| Ruled {
            history: states.list("history"),
            seen: states.map("seen"),
        })
        .sink("met", world.met.0.clone());
    by_user
        .connect(&clicks.filter(|click| click.id % 2 == 0).key_by(|click| click.user))
        .process_with("gather", |states| Gather { waiting: states.list("waiting") })
        .sink("gathered", world.gathered.0.clone());
    job
}

fn run_seed(seed: u64) -> Result<SimReport, String> {
    let mut random = Random::new(seed.wrapping_mul(0x0001_0000_01b3));
    let splits = clicks(&mut random, 5);
    let mut id = 0;
    let rules: Vec<Vec<Rule>> = (0..2)
        .map(|_| {
            let rule = |time| {
                id += 1;
                Rule { id, time }
            };
            (0..random.between(1, 40)).map(rule).collect()
        })
        .collect();
    let world = World { met: memory::sink(), gathered: memory::sink() };
    let simulation = Simulation::new(seed);
    let report = simulation
        .run("process", || Ok(build(&splits, &rules, &world).into_graph()))
        .map_err(|e| e.to_string())?;
    let fail = |what: &str| Err(format!("{what} [{}]", simulation.plan()));

    let mut met = world.met.1.snapshot();
    met.sort_by_key(|met| (met.is_total, met.id));
    let order = met.iter().map(|met| &met.rules).max_by_key(|rules| rules.len()).cloned();
    let order = order.unwrap_or_default();
    if met.iter().any(|met| !order.starts_with(&met.rules)) {
        return fail("subtasks have seen rules in different orders");
    }
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !met.is_empty() && sorted != (1..=id).collect::<Vec<_>>() {
        return fail("a rule was lost or came twice");
    }
    let mut of_user = BTreeMap::<u64, Vec<u64>>::new();
    let mut ids = Vec::new();
    for click in splits.iter().flatten() {
        of_user.entry(u64::from(click.user)).or_default().push(click.id);
        ids.push(click.id);
    }
    ids.sort_unstable();
    of_user.values_mut().for_each(|ids| ids.sort_unstable());
    let (totals, records): (Vec<Met>, Vec<Met>) = met.into_iter().partition(|met| met.is_total);
    if records.iter().map(|met| met.id).collect::<Vec<_>>() != ids {
        return fail("a click was lost or came twice");
    }
    if totals.iter().any(|total| total.rules != order) {
        return fail("a user's timer has not seen all rules");
    }
    let totals: BTreeMap<u64, Vec<u64>> = totals.into_iter().map(|t| (t.id, t.kept)).collect();
    if totals != of_user {
        return fail("a list differs from the clicks of its user");
    }
    let mut gathered: Vec<u64> = world.gathered.1.snapshot().into_iter().flatten().collect();
    gathered.sort_unstable();
    let doubled = ids.iter().filter(|id| *id % 2 == 0).map(|id| 10_000 + id);
    if gathered != ids.iter().copied().chain(doubled).collect::<Vec<_>>() {
        return fail("a gathered click was lost or came twice");
    }
    Ok(report)
}

#[test]
fn functions_keep_state_rules_and_timers_over_crashes_and_rescaling() {
    let (first, count) = crate::seeds(1_500);
    let (mut failures, mut restarts, mut rescales) = (Vec::new(), 0, 0);
    for seed in first..first + count {
        match run_seed(seed) {
            Ok(report) => {
                restarts += report.restarts;
                let changes = report.parallelisms.windows(2).filter(|pair| pair[0] != pair[1]);
                rescales += changes.count();
            }
            Err(what) => failures.push(format!("seed {seed}: {what}")),
        }
    }
    assert!(failures.is_empty(), "{} seeds failed:\n{}", failures.len(), failures.join("\n"));
    assert!(
        count == 1 || (restarts > 0 && rescales > 0),
        "{restarts} restarts, {rescales} rescales"
    );
}

/// Two states of one name.
#[test]
fn a_state_declared_twice_is_refused_where_the_job_is_built() {
    let job = Job::new();
    let (sink, _) = memory::sink();
    job.source("clicks", memory::source(Vec::<Click>::new()))
        .key_by(|click| click.user)
        .connect(&job.source("more", memory::source(Vec::<Click>::new())).key_by(|c| c.user))
        .process_with("gather", |states| {
            let _: ListState<u64> = states.list("waiting");
            Gather { waiting: states.list("waiting") }
        })
        .sink("out", sink);
    let error = job.into_graph().validate().expect_err("it is refused");
    assert!(error.to_string().contains("the state `waiting` is declared twice"), "{error}");
    assert!(error.to_string().contains("process.rs"), "{error}");
}
