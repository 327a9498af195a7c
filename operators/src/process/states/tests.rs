//! Named states of all kinds through the verifier, against a naive model; declarations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thalweg_engine::sim::Random;
use thalweg_engine::testing::Input;
use thalweg_engine::{EventTime, Result};

use super::ttl::{Domain, Renewal, SLICES};
use super::*;
use crate::aggregate::Count;
use crate::process::tests::{at, verify};
use crate::process::{ProcessContext, ProcessFunction};
use crate::stream::Keyed;

mod expiring;

/// What a record has done to the state of its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Operation {
    Set(i64),
    AddToValue(i64),
    TakeValue,
    Push(i64, u32),
    KeepMultiples(i64),
    Replace(u32),
    TakeList,
    Insert(String, i64),
    AddTo(String, i64),
    Remove(String),
    KeepAbove(i64),
    ClearMap,
    Reduce(i64),
    ClearReduced,
    Aggregate,
    ClearAggregated,
    /// Tells everything.
    Tell,
}

fn operation(random: &mut Random) -> Operation {
    let number = random.between(-9, 9);
    let name = format!("map key {}", random.below(7));
    match random.below(26) {
        0 => Operation::Set(number),
        1 => Operation::AddToValue(number),
        2 => Operation::TakeValue,
        3..7 => Operation::Push(number, random.below(70) as u32),
        7 => Operation::KeepMultiples(random.between(1, 3)),
        8 => Operation::Replace(random.below(140) as u32),
        9 => Operation::TakeList,
        10..13 => Operation::Insert(name, number),
        13..15 => Operation::AddTo(name, number),
        15..18 => Operation::Remove(name),
        18 => Operation::KeepAbove(number),
        19 if random.is_chosen(30) => Operation::ClearMap,
        20 => Operation::Reduce(number),
        21 => Operation::ClearReduced,
        22 => Operation::Aggregate,
        23 => Operation::ClearAggregated,
        _ => Operation::Tell,
    }
}

struct Operated {
    value: ValueState<i64>,
    list: ListState<i64>,
    map: MapState<String, i64>,
    greatest: ReducingState<i64>,
    count: AggregatingState<i64, Count>,
}

impl Operated {
    fn declare(states: &mut StateDeclarations<u8>) -> Self {
        Operated {
            value: states.value("value"),
            list: states.list("list"),
            map: states.map("map"),
            greatest: states.reducing("greatest", |a: &i64, b| *a.max(b)),
            count: states.aggregating("count", Count),
        }
    }
}

type Text = String;

impl Operated {
    fn fold(
        &self,
        operation: Operation,
        context: &mut ProcessContext<'_, u8, (), Text>,
    ) -> Result<()> {
        match operation {
            Operation::Reduce(n) => context.reducing(&self.greatest).add(n),
            Operation::ClearReduced => context.reducing(&self.greatest).clear(),
            Operation::Aggregate => context.aggregating(&self.count).add(&0),
            _ => context.aggregating(&self.count).clear(),
        }
    }
}

impl ProcessFunction<u8, Operation> for Operated {
    type State = ();
    type Out = Text;

    fn on_record(
        &self,
        operation: Operation,
        context: &mut ProcessContext<'_, u8, (), Text>,
    ) -> Result<()> {
        let told = match operation {
            Operation::Set(n) => context.value(&self.value).set(n).map(|()| String::new())?,
            Operation::AddToValue(n) => {
                let sum = context.value(&self.value).update(
                    || 100,
                    |value| {
                        *value += n;
                        *value
                    },
                )?;
                format!("{sum}")
            }
            Operation::TakeValue => format!("{:?}", context.value(&self.value).take()?),
            Operation::Push(n, times) => {
                let mut list = context.list(&self.list);
                list.extend((0..times).map(|i| n + i64::from(i)))?;
                format!("{} {}", list.len()?, list.is_empty()?)
            }
            Operation::KeepMultiples(n) => {
                context.list(&self.list).retain(|value| value % n == 0)?;
                String::new()
            }
            Operation::Replace(length) => {
                context.list(&self.list).replace(0..i64::from(length))?;
                String::new()
            }
            Operation::TakeList => format!("{:?}", context.list(&self.list).take()?),
            Operation::Insert(name, n) => {
                context.map(&self.map).insert(&name, n)?;
                format!("{:?}", context.map(&self.map).get(&name)?)
            }
            Operation::AddTo(name, n) => {
                let add = |value: &mut i64| {
                    *value += n;
                    *value
                };
                format!("{}", context.map(&self.map).update(&name, || 7, add)?)
            }
            Operation::Remove(name) => {
                let mut map = context.map(&self.map);
                let was_there = map.contains(&name)?;
                format!("{was_there} {:?} {}", map.remove(&name)?, map.len()?)
            }
            Operation::KeepAbove(n) => {
                context.map(&self.map).retain(|_, value| *value > n)?;
                String::new()
            }
            Operation::ClearMap => context.map(&self.map).clear().map(|()| String::new())?,
            Operation::Reduce(_)
            | Operation::ClearReduced
            | Operation::Aggregate
            | Operation::ClearAggregated => {
                self.fold(operation, context).map(|()| String::new())?
            }
            Operation::Tell => {
                let mut entries = Vec::new();
                context.map(&self.map).for_each(|name, n| entries.push((name.clone(), *n)))?;
                let value = context.value(&self.value).get()?.copied();
                let greatest = context.reducing(&self.greatest).get()?.copied();
                let count = context.aggregating(&self.count).get()?;
                let list = context.list(&self.list).to_vec()?;
                format!("{value:?} {list:?} {entries:?} {greatest:?} {count:?}")
            }
        };
        context.emit(told);
        Ok(())
    }
}

/// The state of one key from scratch.
#[derive(Default)]
struct Model {
    value: Option<i64>,
    list: Vec<i64>,
    /// In order of insertion.
    map: Vec<(String, i64)>,
    greatest: Option<i64>,
    count: Option<u64>,
}

impl Model {
    fn entry(&mut self, name: String) -> Option<&mut i64> {
        self.map.iter_mut().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    fn operate(&mut self, operation: Operation) -> String {
        match operation {
            Operation::Set(n) => self.value = Some(n),
            Operation::AddToValue(n) => {
                let sum = self.value.unwrap_or(100) + n;
                self.value = Some(sum);
                return format!("{sum}");
            }
            Operation::TakeValue => return format!("{:?}", self.value.take()),
            Operation::Push(n, times) => {
                self.list.extend((0..times).map(|i| n + i64::from(i)));
                return format!("{} {}", self.list.len(), self.list.is_empty());
            }
            Operation::KeepMultiples(n) => self.list.retain(|value| value % n == 0),
            Operation::Replace(length) => self.list = (0..i64::from(length)).collect(),
            Operation::TakeList => return format!("{:?}", std::mem::take(&mut self.list)),
            Operation::Insert(name, n) => {
                match self.entry(name.clone()) {
                    Some(value) => *value = n,
                    None => self.map.push((name, n)),
                }
                return format!("{:?}", Some(n));
            }
            Operation::AddTo(name, n) => {
                if self.entry(name.clone()).is_none() {
                    self.map.push((name.clone(), 7));
                }
                let value = self.entry(name).expect("it was added");
                *value += n;
                return format!("{value}");
            }
            Operation::Remove(name) => {
                let value = self.entry(name.clone()).copied();
                self.map.retain(|(other, _)| *other != name);
                return format!("{} {value:?} {}", value.is_some(), self.map.len());
            }
            Operation::KeepAbove(n) => self.map.retain(|(_, value)| *value > n),
            Operation::ClearMap => self.map.clear(),
            Operation::Reduce(n) => self.greatest = self.greatest.max(Some(n)),
            Operation::ClearReduced => self.greatest = None,
            Operation::Aggregate => self.count = Some(self.count.unwrap_or(0) + 1),
            Operation::ClearAggregated => self.count = None,
            Operation::Tell => {
                let Model { value, list, map, greatest, count } = self;
                return format!("{value:?} {list:?} {map:?} {greatest:?} {count:?}");
            }
        }
        String::new()
    }
}

#[test]
fn all_kinds_of_state_are_those_of_the_model() {
    let mut longest = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (mut script, mut expected) = (Vec::new(), Vec::new());
        let mut models = BTreeMap::<u8, Model>::new();
        for number in 0..120 {
            let key = random.below(3) as u8;
            let operation = operation(&mut random);
            let model = models.entry(key).or_default();
            expected.push(format!("{:?} at {number}", model.operate(operation.clone())));
            longest = longest.max(model.list.len());
            script.push(Input::Record(Keyed { key, value: operation }, at(number), None));
        }
        expected.sort_unstable();
        let given = verify(Operated::declare, &script);
        let given = given.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(given.main, expected, "seed {seed}");
    }
    assert!(longest > 3 * 64, "some list has several chunks: {longest}");
}

/// Uses a handle that was declared for another function.
struct Stranger(ValueState<i64>);

impl ProcessFunction<u8, i64> for Stranger {
    type State = ();
    type Out = ();

    fn on_record(&self, record: i64, context: &mut ProcessContext<'_, u8, (), ()>) -> Result<()> {
        context.value(&self.0).set(record)
    }
}

#[test]
fn a_handle_of_another_function_is_refused() {
    let mut elsewhere = StateDeclarations::<u8>::new();
    let value = elsewhere.value("elsewhere");
    let script = [Input::Record(Keyed { key: 0, value: 1 }, EventTime::MIN, None)];
    let error = verify(|_| Stranger(value), &script).expect_err("it is refused");
    assert!(error.to_string().contains("another one has declared"), "{error}");
}

#[test]
fn names_are_the_identity_of_states_and_order_is_not() {
    let tables = StateTables::of("history");
    assert_eq!(tables, StateTables::of("history"));
    assert_ne!(tables, StateTables::of("counts"));
    assert!(tables.all().all(|table| table.0 >= FIRST_NAMED));
    // The format of checkpoints: these numbers never change.
    assert_eq!(tables.plain, [TableId(52644), TableId(60611)]);
    assert_eq!(tables.expiring, [TableId(20183), TableId(12696), TableId(59741)]);
}

#[test]
fn a_name_that_is_declared_twice_is_a_problem() {
    let mut states = StateDeclarations::<u8>::new();
    states.value::<u8>("one");
    states.list::<u8>("two");
    states.map::<u8, u8>("one");
    let (declared, problems) = states.finish();
    assert_eq!(problems, ["the state `one` is declared twice"]);
    assert_eq!(declared.states.len(), 2);
}

#[test]
fn names_with_the_same_number_are_a_problem() {
    let first = StateTables::of("name-0").plain[0];
    let mut names = (1..).map(|n| format!("name-{n}"));
    let other = names.find(|name| StateTables::of(name).all().any(|table| table == first));
    let mut states = StateDeclarations::<u8>::new();
    states.value::<u8>("name-0");
    states.value::<u8>(other.expect("there is one"));
    let (_, problems) = states.finish();
    assert!(problems[0].contains("have the same number"), "{problems:?}");
}
