//! The level that `plan` shows of each operator is what the rules say: D4 where results are the
//! same set for every schedule, parallelism, crash and rescale, otherwise D2.

use std::collections::BTreeMap;

use thalweg::prelude::*;
use thalweg::{
    ApproxDistinct, AsyncMap, BroadcastFunction, ContinuousEventTime, CountEvictor, Dedup,
    FloatSum, Lateness, OnError, Pattern, PlanFormat, ProcessingTumbling, Purging, Quantiles,
    RecordContext, RecordFunction,
};

type Numbers = KeyedStream<u64, u64>;

fn end<T: Element>(stream: &Stream<T>, name: &str) {
    stream.sink(format!("{name}.out"), sink::discard());
}

fn last(_: &u64, n: &u64) -> u64 {
    *n
}

async fn same(n: u64) -> Result<u64, String> {
    Ok(n)
}

/// Does nothing, in every way that a function can be called.
struct Idle;

impl ProcessFunction<u64, u64> for Idle {
    type State = u64;
    type Out = u64;

    fn on_record(
        &self,
        _record: u64,
        _context: &mut ProcessContext<'_, u64, u64, u64>,
    ) -> thalweg::Result<()> {
        Ok(())
    }
}

impl RecordFunction<u64> for Idle {
    type Out = u64;

    fn on_record(
        &self,
        _record: u64,
        _context: &mut RecordContext<'_, u64>,
    ) -> thalweg::Result<()> {
        Ok(())
    }
}

impl BroadcastFunction<u64, u64> for Idle {
    type Out = u64;
    type RuleKey = u64;
    type Rule = u64;

    fn on_record(
        &self,
        _record: u64,
        _rules: &BTreeMap<u64, u64>,
        _context: &mut RecordContext<'_, u64>,
    ) -> thalweg::Result<()> {
        Ok(())
    }

    fn on_broadcast(
        &self,
        _rule: u64,
        _time: EventTime,
        _rules: &mut BTreeMap<u64, u64>,
    ) -> thalweg::Result<()> {
        Ok(())
    }
}

fn timed(job: &Job, name: &str) -> Stream<u64> {
    job.source(name, memory::source(vec![1_u64]))
        .event_time(|n| *n, Watermarks::monotonic().with_alignment(seconds(1)))
}

/// Operators on streams without keys. The names of sinks say what stands before them.
fn stateless(job: &Job, timed: &Stream<u64>) -> Vec<(&'static str, &'static str)> {
    let idle = Watermarks::monotonic().with_idleness(seconds(1));
    end(&job.source("silent", memory::source(vec![1_u64])).event_time(|n| *n, idle), "idle");
    end(&timed.map(|n| n + 1), "map");
    end(&timed.filter(|n| *n > 1), "filter");
    end(&timed.flat_map(|n| [n, n]), "flat_map");
    end(&timed.inspect(|_| {}), "inspect");
    end(&timed.try_map(Ok::<_, String>, OnError::Fail).results(), "try_map");
    end(&timed.split(|n| *n > 1).0, "split");
    end(&timed.union([timed]), "union");
    end(&timed.rebalance(), "rebalance");
    end(&timed.global(), "global");
    end(&timed.rate_limit(5), "rate_limit");
    end(&timed.broadcast(), "broadcast");
    end(&timed.process_records(Idle), "process_records");
    end(&timed.async_map("ordered", AsyncMap::ordered(), same), "ordered");
    end(&timed.async_map("unordered", AsyncMap::unordered(), same), "unordered");
    end(timed.in_event_order("all-in-order").results(), "all-in-order");
    end(&timed.connect_broadcast(timed).process("rules", Idle), "rules");
    vec![
        ("map", "D4"),
        ("filter", "D4"),
        ("flat_map", "D4"),
        ("inspect", "D4"),
        ("try_map", "D4"),
        ("split", "D4"),
        ("union", "D4"),
        ("rebalance", "D4"),
        ("global", "D4"),
        ("rate_limit", "D4"),
        ("broadcast", "D2"),
        ("process_records", "D2"),
        ("ordered", "D4"),
        ("unordered", "D2"),
        ("all-in-order", "D4"),
        ("rules", "D2"),
    ]
}

fn windows(keyed: &Numbers) -> Vec<(&'static str, &'static str)> {
    let tumbling = || keyed.window(Tumbling::of(seconds(1)));
    let sum = || Sum::of(|n: &u64| *n as i64);
    end(&tumbling().aggregate("sums", sum()).results(), "sums");
    end(&tumbling().aggregate("floats", FloatSum::of(|n: &u64| *n as f64)).results(), "floats");
    end(&tumbling().aggregate("sketch", ApproxDistinct::of(|n: &u64| *n)).results(), "sketch");
    let quantiles = Quantiles::of(|n: &u64| *n as f64);
    end(&tumbling().aggregate("quantiles", quantiles).results(), "quantiles");
    let pair = (Count, Reduce::with(last));
    end(&tumbling().aggregate("pair", pair).results(), "pair");
    end(&tumbling().reduce("reduced", last).results(), "reduced");
    let greatest = Reduce::commutative(|a: &u64, b: &u64| *a.max(b));
    end(&tumbling().aggregate("greatest", greatest).results(), "greatest");
    end(&tumbling().process("lists", |_| 1_u64).results(), "lists");
    let early = || tumbling().trigger(ContinuousEventTime::every(millis(100)));
    end(&early().aggregate("early", sum()).results(), "early");
    end(&early().aggregate("with-updates", sum()).updates(), "updates");
    end(&early().aggregate("with-panes", sum()).panes(), "panes");
    let purging = Purging::of(ContinuousEventTime::every(millis(100)));
    end(&tumbling().trigger(purging).aggregate("purged", sum()).results(), "purged");
    end(&tumbling().evictor(CountEvictor::of(3)).aggregate("evicted", sum()).results(), "evicted");
    let at_operator = tumbling().lateness(Lateness::AtOperator);
    end(&at_operator.aggregate("at-operator", sum()).results(), "at-operator");
    let sliding = keyed.window(Sliding::of(seconds(5), seconds(1)));
    end(&sliding.aggregate("sliding", sum()).results(), "sliding");
    let sessions = keyed.window(Session::with_gap(seconds(1)));
    end(&sessions.aggregate("sessions", sum()).results(), "sessions");
    end(&sessions.reduce("last-of-session", last).results(), "last-of-session");
    let aligned = keyed.window(RecordAligned::of(seconds(1)));
    end(&aligned.aggregate("aligned", sum()).results(), "aligned");
    end(&keyed.window(GlobalWindow).aggregate("whole", sum()).results(), "whole");
    end(&keyed.window(CountWindow::tumbling(5)).aggregate("fives", sum()), "threes");
    let clock = keyed.processing_window(ProcessingTumbling::of(seconds(1)));
    end(&clock.aggregate("clock", sum()), "clock");
    vec![
        ("sums", "D4"),
        ("floats", "D4"),
        ("sketch", "D4"),
        ("quantiles", "D4"),
        ("pair", "D2"),
        ("reduced", "D2"),
        ("greatest", "D4"),
        ("lists", "D4"),
        ("early", "D4"),
        ("updates", "D2"),
        ("panes", "D2"),
        ("purged", "D2"),
        ("evicted", "D2"),
        ("at-operator", "D2"),
        ("sliding", "D4"),
        ("sessions", "D4"),
        ("last-of-session", "D2"),
        ("aligned", "D4"),
        ("whole", "D4"),
        ("fives", "D2"),
        ("clock", "D2"),
    ]
}

fn by_key(keyed: &Numbers, other: &Numbers) -> Vec<(&'static str, &'static str)> {
    let ordered = keyed.in_event_order("in-order");
    end(&ordered.results().records(), "in-order");
    end(&keyed.aggregate("running", Count), "running");
    end(&ordered.aggregate("running-in-order", Count), "running-in-order");
    end(&keyed.dedup("first", Dedup::forever()).results().records(), "first");
    end(&ordered.dedup("first-in-order", Dedup::forever()).records(), "first-in-order");
    let by_clock = Dedup::by_processing_time(seconds(1));
    end(&ordered.dedup("first-by-clock", by_clock).records(), "first-by-clock");
    end(&keyed.process("function", Idle), "function");
    end(&keyed.pattern("pattern", Pattern::begin("a", |_: &u64| true)).matches(), "pattern");
    end(&keyed.aggregate_as_changes("changes", Count), "changes");
    end(&keyed.connect(other).inner_join("join", |_, a, b| a + b), "join");
    let windows = keyed.join(other).window(Tumbling::of(seconds(1)));
    end(&windows.inner("window-join", |_, a, b| a + b).results(), "window-join");
    let near = keyed.interval_join(other).between_millis(-5, 5);
    end(&near.inner("interval-join", |_, a, b| a + b).results(), "interval-join");
    let table = other.records().map(|row| Some(row.value)).key_by(|row| row.unwrap_or(0));
    let latest = keyed.join_table(&table).latest();
    end(&latest.inner("latest-join", |_, a, b| a + b), "latest-join");
    let as_of = keyed.join_table(&table).as_of();
    end(&as_of.inner("as-of-join", |_, a, b| a + b).results(), "as-of-join");
    vec![
        ("in-order", "D4"),
        ("running", "D2"),
        ("running-in-order", "D4"),
        ("first", "D2"),
        ("first-in-order", "D4"),
        ("first-by-clock", "D2"),
        ("function", "D2"),
        ("pattern", "D4"),
        ("changes", "D2"),
        ("join", "D4"),
        ("window-join", "D4"),
        ("interval-join", "D4"),
        ("latest-join", "D2"),
        ("as-of-join", "D4"),
    ]
}

/// The level of each operator, by what stands in front of it in the plan's lines: its name, or
/// what it is if it has none of its own.
fn levels(plan: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (operator, level) = line.split_once(" [")?;
        let mut words = operator.split_whitespace().skip(1);
        let (name, what) = (words.next()?, words.next());
        let is_numbered = what.is_some_and(|what| {
            let number = name.strip_prefix(what).and_then(|rest| rest.strip_prefix('-'));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        });
        let name = if is_numbered { what.unwrap_or(name) } else { name };
        Some((name.to_owned(), level.get(..2)?.to_owned()))
    };
    plan.lines().filter_map(line).collect()
}

#[test]
fn each_operator_has_the_level_that_the_rules_say() {
    let expected = std::cell::RefCell::new(Vec::new());
    let build = |job: &Job| {
        let (left, right) = (timed(job, "left"), timed(job, "right"));
        let (keyed, other) = (left.key_by(|n| *n), right.key_by(|n| *n));
        let mut all = stateless(job, &left);
        all.extend(windows(&keyed));
        all.extend(by_key(&keyed, &other));
        expected.replace(all);
        Ok(())
    };
    for parallelism in [1, 4] {
        let options = JobOptions { parallelism: Some(parallelism), ..JobOptions::default() };
        let plan = thalweg::plan("levels", build, &options, PlanFormat::Text).expect("a plan");
        let levels = levels(&plan);
        for (name, level) in expected.take() {
            let found = levels.get(name).map(String::as_str);
            assert_eq!(found, Some(level), "{name} at parallelism {parallelism}\n{plan}");
        }
    }
}
