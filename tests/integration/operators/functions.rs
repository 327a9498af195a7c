//! Functions: all kinds of named state, timers of both domains, two inputs, broadcast rules.

use std::collections::BTreeMap;

use thalweg::prelude::*;
use thalweg::time::ProcessingTime;
use thalweg::{
    AggregatingState, BroadcastProcessFunction, CoProcessFunction, ListState, MapState,
    ReducingState, ValueState,
};

use super::data::{Data, Event, Id, Port, Row, Splits, ordered, sorted};
use super::harness::{Case, Held, Input, all, check};
use super::reference::read;
use super::windows::Identities;

const fn case(name: &'static str, build: fn(&Job, &Input) -> Stream<Row>) -> Case {
    Case { name, build, invariant: all, expected: None, held: Held::InRows, shows_spilling: true }
}

/// The end of time, as far as timers go.
const END: EventTime = EventTime::from_millis(1_000_000);

/// Keeps the same in every kind of state, and tells at the end of time.
struct Everything {
    last: ValueState<Id>,
    history: ListState<Id>,
    by_value: MapState<i64, Vec<Id>>,
    sum: ReducingState<i64>,
    identities: AggregatingState<Event, Identities>,
    waiting: ListState<Id>,
}

type Ctx<'a> = ProcessContext<'a, u32, u64, Row, Row>;

impl ProcessFunction<u32, Event, Row> for Everything {
    type State = u64;
    type Out = Row;

    fn on_record(&self, event: Event, context: &mut Ctx<'_>) -> thalweg::Result<()> {
        *context.state += 1;
        context.value(&self.last).set(event.id)?;
        context.list(&self.history).push(event.id)?;
        context.map(&self.by_value).update(&event.value, Vec::new, |ids| ids.push(event.id))?;
        context.reducing(&self.sum).add(event.value)?;
        context.aggregating(&self.identities).add(&event)?;
        if context.list(&self.waiting).is_empty()? {
            let due = context.processing_time().plus_millis(3);
            context.register_processing_timer(due);
        }
        context.list(&self.waiting).push(event.id)?;
        context.register_timer(END);
        // One that is taken back, and one that only looks.
        context.register_timer(EventTime::from_millis(event.time + 1));
        context.delete_timer(EventTime::from_millis(event.time + 1));
        context.register_timer(EventTime::from_millis(event.time.div_euclid(50) * 50 + 50));
        Ok(())
    }

    fn on_timer(&self, time: EventTime, context: &mut Ctx<'_>) -> thalweg::Result<()> {
        assert!(time == END || time.millis() % 50 == 0, "a timer that was taken back");
        let history = context.list(&self.history).to_vec()?;
        let last = context.value(&self.last).get()?.copied();
        assert_eq!(last, history.last().copied(), "the value and the list do not agree");
        assert_eq!(*context.state, history.len() as u64);
        if time < END {
            return Ok(());
        }
        let mut mapped = Vec::new();
        context.map(&self.by_value).for_each(|_, ids| mapped.extend(ids.iter().copied()))?;
        let identities = context.aggregating(&self.identities).get()?.unwrap_or_default();
        let sum = context.reducing(&self.sum).get()?.copied().unwrap_or_default();
        let history = ordered(history.iter().map(|id| id.number));
        assert_eq!(history, ordered(mapped.iter().map(|id| id.number)), "the map");
        assert_eq!(history, identities, "the accumulator");
        let key = i64::from(*context.key());
        context.emit(Row::result([key, sum], history));
        context.list(&self.history).clear()?;
        context.map(&self.by_value).clear()?;
        context.clear_state();
        Ok(())
    }

    fn on_processing_timer(
        &self,
        _time: ProcessingTime,
        context: &mut Ctx<'_>,
    ) -> thalweg::Result<()> {
        let waiting = context.list(&self.waiting).take()?;
        let ids: Vec<i64> = waiting.iter().map(|id| id.number).collect();
        context.emit_side(Row::result([], ids).of_port(Port::Side));
        Ok(())
    }
}

/// Keys with the sum of the values and all identities.
fn totals(splits: &Splits) -> Vec<Row> {
    let mut keys = BTreeMap::<i64, (i64, Vec<i64>)>::new();
    for read in read(splits) {
        let (sum, ids) = keys.entry(read.key).or_default();
        *sum += read.value;
        ids.push(read.id);
    }
    keys.into_iter().map(|(key, (sum, ids))| Row::result([key, sum], ordered(ids))).collect()
}

fn gathered(data: &Data) -> Row {
    Row::result([], ordered(read(&data.left).iter().map(|r| r.id))).of_port(Port::Side)
}

#[test]
fn named_state_and_timers() {
    check(&Case {
        // What waits together depends on the clock; that each record does once does not.
        invariant: |rows| {
            let side = rows.iter().filter(|row| row.port == Port::Side);
            let ids = ordered(side.flat_map(|row| row.ids.iter().copied()));
            let side = Row::result([], ids).of_port(Port::Side);
            let results = rows.iter().filter(|row| row.port == Port::Result).cloned();
            sorted(results.chain([side]))
        },
        expected: Some(|data| sorted(totals(&data.left).into_iter().chain([gathered(data)]))),
        ..case("everything", |job, input| {
            let output = input.keyed(job).process_with("everything", |states| Everything {
                last: states.value("last"),
                history: states.list("history"),
                by_value: states.map("by-value"),
                sum: states.reducing("sum", |a, b| a + b),
                identities: states.aggregating("identities", Identities),
                waiting: states.list("waiting"),
            });
            output.results().union([&output.side()])
        })
    });
}

/// One key with a list and a map larger than the memory.
#[test]
fn one_large_key() {
    check(&Case {
        invariant: |rows| sorted(rows.iter().filter(|row| row.port == Port::Result).cloned()),
        expected: Some(|data| {
            let mut left = data.left.clone();
            left.iter_mut().flatten().for_each(|event| event.key = 0);
            totals(&left)
        }),
        held: Held::Rest,
        ..case("large", |job, input| {
            let keyed = input.left(job).key_by(|_| 0_u32);
            let output = keyed.process_with("large", |states| Everything {
                last: states.value("last"),
                history: states.list("history"),
                by_value: states.map("by-value"),
                sum: states.reducing("sum", |a, b| a + b),
                identities: states.aggregating("identities", Identities),
                waiting: states.list("waiting"),
            });
            output.results()
        })
    });
}

/// Keeps what comes on both sides, and tells at the end of time.
struct Both {
    left: ListState<Id>,
    right: MapState<i64, Id>,
}

impl CoProcessFunction<u32, Event, Event> for Both {
    type State = ();
    type Out = Row;

    fn on_left(
        &self,
        event: Event,
        context: &mut ProcessContext<'_, u32, (), Row>,
    ) -> thalweg::Result<()> {
        context.register_timer(END);
        context.list(&self.left).push(event.id)
    }

    fn on_right(
        &self,
        event: Event,
        context: &mut ProcessContext<'_, u32, (), Row>,
    ) -> thalweg::Result<()> {
        context.register_timer(END);
        context.map(&self.right).insert(&event.id.number, event.id)
    }

    fn on_timer(
        &self,
        _time: EventTime,
        context: &mut ProcessContext<'_, u32, (), Row>,
    ) -> thalweg::Result<()> {
        let left = context.list(&self.left).take()?;
        let mut ids: Vec<i64> = left.iter().map(|id| id.number).collect();
        context.map(&self.right).for_each(|number, id| {
            assert_eq!(*number, id.number);
            ids.push(*number);
        })?;
        let key = i64::from(*context.key());
        context.emit(Row::result([key], ordered(ids)));
        Ok(())
    }
}

#[test]
fn two_inputs() {
    check(&Case {
        expected: Some(|data| {
            let splits = data.left.iter().chain(&data.right).cloned().collect();
            let keep = |row: Row| Row { at: vec![row.at[0]], ..row };
            sorted(totals(&splits).into_iter().map(keep))
        }),
        ..case("two-inputs", |job, input| {
            let both = input.keyed(job).connect(&input.keyed_right(job));
            let output = both.process_with("two-inputs", |states| Both {
                left: states.list("left"),
                right: states.map("right"),
            });
            output.results()
        })
    });
}

/// Rules in the order in which they came, of which every event has seen the first few.
struct Ruled {
    history: ListState<Id>,
}

impl BroadcastProcessFunction<u32, Event, Event> for Ruled {
    type State = ();
    type Out = Row;
    type RuleKey = ();
    type Rule = Vec<i64>;

    fn on_record(
        &self,
        event: Event,
        _rules: &BTreeMap<(), Vec<i64>>,
        context: &mut ProcessContext<'_, u32, (), Row>,
    ) -> thalweg::Result<()> {
        context.register_timer(END);
        context.list(&self.history).push(event.id)
    }

    fn on_broadcast(
        &self,
        rule: Event,
        _time: EventTime,
        rules: &mut BTreeMap<(), Vec<i64>>,
    ) -> thalweg::Result<()> {
        if rule.id.number % 6 == 0 {
            rules.entry(()).or_default().push(rule.id.number);
        }
        Ok(())
    }

    fn on_timer(
        &self,
        _time: EventTime,
        rules: &BTreeMap<(), Vec<i64>>,
        context: &mut ProcessContext<'_, u32, (), Row>,
    ) -> thalweg::Result<()> {
        let history = context.list(&self.history).take()?;
        let ids = ordered(history.iter().map(|id| id.number));
        let mut at = vec![i64::from(*context.key())];
        at.extend(&rules[&()]);
        context.emit(Row::result(at, ids));
        Ok(())
    }
}

#[test]
fn broadcast_rules() {
    check(&Case {
        // All keys have seen the rules in one order, whatever it was.
        invariant: |rows| {
            let rules = |row: &Row| row.at[1..].to_vec();
            assert!(rows.iter().all(|row| rules(row) == rules(&rows[0])), "different orders");
            sorted(rows.iter().map(|row| {
                let at = [vec![row.at[0]], ordered(rules(row))].concat();
                Row { at, ..row.clone() }
            }))
        },
        expected: Some(|data| {
            let rules =
                ordered(read(&data.right).iter().map(|read| read.id).filter(|id| id % 6 == 0));
            let ruled = |row: Row| Row { at: [vec![row.at[0]], rules.clone()].concat(), ..row };
            sorted(totals(&data.left).into_iter().map(ruled))
        }),
        held: Held::Copies,
        ..case("ruled", |job, input| {
            let rules = input.right(job);
            let output = input
                .keyed(job)
                .connect_broadcast(&rules)
                .process_with("ruled", |states| Ruled { history: states.list("history") });
            output.results()
        })
    });
}
