//! The triggered operator through the verifier, against windows and panes recomputed from scratch.

mod examples;
mod jobs;
mod model;
mod sessions;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Given, Input, verify_in_order};
use thalweg_engine::{Data, EventTime, ProcessingTime};

use super::Lateness;
use super::logic::Logic;
use super::operator::TriggeredOperator;
use crate::stream::Keyed;
use crate::window::assign::Assign;
use crate::window::function::Holding;
use crate::window::pane::Wanted;
use crate::window::trigger::Trigger;
use crate::window::{Window, WindowResult};

type Record = Keyed<u8, u32>;

fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis)
}

fn record(key: u8, value: u32, time: i64) -> Input<Record> {
    Input::Record(Keyed { key, value }, at(time), None)
}

fn behind(key: u8, value: u32, time: i64, watermark: i64) -> Input<Record> {
    Input::Record(Keyed { key, value }, at(time), Some(at(watermark)))
}

fn watermark(time: i64) -> Input<Record> {
    Input::Watermark(at(time))
}

fn clock(time: i64) -> Input<Record> {
    Input::Time(ProcessingTime::from_millis(time))
}

/// Which streams are used: results, panes, updates.
#[derive(Clone, Copy)]
struct Uses(bool, bool, bool);

/// An operator to be verified.
struct Verified<W, H, Tr> {
    assigner: W,
    holding: H,
    trigger: Tr,
    lateness: Lateness,
    lateness_ms: i64,
    uses: Uses,
}

impl<W, H, Tr> Verified<W, H, Tr>
where
    W: Assign<u32>,
    H: Holding<u8, u32>,
    H::Out: Data + std::fmt::Debug,
    Tr: Trigger<u32>,
{
    fn new(assigner: W, holding: H, trigger: Tr) -> Self {
        let lateness = Lateness::AtSplit;
        let uses = Uses(true, true, true);
        Verified { assigner, holding, trigger, lateness, lateness_ms: 0, uses }
    }

    fn lateness_ms(self, lateness_ms: i64) -> Self {
        Verified { lateness_ms, ..self }
    }

    fn uses(self, uses: Uses) -> Self {
        Verified { uses, ..self }
    }

    /// What the operator gives out, the same in every mode.
    fn given(self, script: &[Input<Record>]) -> Given {
        let Uses(results, panes, updates) = self.uses;
        let logic = Arc::new(Logic {
            holding: self.holding,
            trigger: Arc::new(self.trigger),
            wanted: Arc::new(Wanted::of(results, panes, updates)),
            lateness: self.lateness,
            lateness_ms: self.lateness_ms,
            merges: self.assigner.merges(),
            types: PhantomData,
        });
        let assigner = Arc::new(self.assigner);
        let hash = |record: &Record| hash_key(&record.key).expect("a number has a hash");
        let make = || TriggeredOperator::new(assigner.clone(), logic.clone());
        verify_in_order(make, Some(&hash), script).expect("all modes agree")
    }
}

/// A random script of one split: records with the marks of a bounded watermark generator, and
/// watermarks that follow it; ends with the end of time.
fn script(random: &mut Random, bound: i64) -> Vec<Input<Record>> {
    let mut script = Vec::new();
    let mut now = random.between(-50, 50);
    let mut greatest: Option<i64> = None;
    for number in 0..random.below(40) as u32 {
        now += random.between(0, 4);
        let time = now - random.between(0, 2 * bound);
        let watermark = greatest.map(|greatest| greatest - bound - 1);
        let mark = watermark.filter(|watermark| time <= *watermark).map(at);
        let record = Keyed { key: random.below(3) as u8, value: number };
        script.push(Input::Record(record, at(time), mark));
        greatest = greatest.max(Some(time));
        if random.is_chosen(20) {
            script.push(Input::Watermark(at(greatest.unwrap_or(0) - bound - 1)));
        }
    }
    script.push(Input::Watermark(EventTime::MAX));
    script
}

/// The lines that begin with `name(`, without it and the brackets.
fn of_kind(lines: &[String], name: &str) -> Vec<String> {
    let mut found: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            let (value, rest) = line.rsplit_once(" at ")?;
            let value = value.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
            Some(format!("{value} at {rest}"))
        })
        .collect();
    found.sort_unstable();
    found
}

/// The rows that the updates of `side` make.
fn table_of(side: &[String]) -> Vec<String> {
    let mut rows = BTreeMap::<String, i64>::new();
    for line in of_kind(side, "Update") {
        let (kind, row) = line.split_once('(').expect("a change has a row");
        let (row, _) = row.rsplit_once(") at ").expect("a change has a time");
        let count = if kind == "Insert" || kind == "UpdateAfter" { 1 } else { -1 };
        *rows.entry(row.to_owned()).or_default() += count;
    }
    rows.retain(|_, count| *count != 0);
    assert!(rows.values().all(|count| *count == 1), "{rows:?}");
    rows.into_keys().collect()
}

/// The rows of final results, without their times.
fn rows_of(main: &[String]) -> Vec<String> {
    main.iter().filter_map(|line| Some(line.rsplit_once(" at ")?.0.to_owned())).collect()
}

/// The line of a final result.
fn result(key: u8, (start, end): (i64, i64), value: impl std::fmt::Debug) -> String {
    let window = Window { start: at(start), end: at(end) };
    format!("{:?} at {}", WindowResult { key, window, value }, window.max_time())
}
