//! Broadcast state through the verifier, keyed and not, against a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Input, verify_beside_broadcast};

use super::*;
use crate::process::tests::{at, clock};

/// A change of the rules: sets one, removes one, or appends to one.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Change {
    Set(u8, i64),
    Remove(u8),
    Append(u8, i64),
}

type Rules = BTreeMap<u8, Vec<i64>>;

fn change(rules: &mut Rules, change: Change, time: i64) {
    match change {
        Change::Set(rule, n) => drop(rules.insert(rule, vec![n])),
        Change::Remove(rule) => drop(rules.remove(&rule)),
        Change::Append(rule, n) => rules.entry(rule).or_default().extend([n, time]),
    }
}

/// Tells with each record and timer the rules it has met, and how many calls its key had.
struct Told;

type Out = (u8, u64, String);

impl BroadcastProcessFunction<u8, i64, Change> for Told {
    type State = u64;
    type Out = Out;
    type RuleKey = u8;
    type Rule = Vec<i64>;

    fn on_record(
        &self,
        record: i64,
        rules: &Rules,
        context: &mut ProcessContext<'_, u8, u64, Out>,
    ) -> Result<()> {
        *context.state += 1;
        let told = (*context.key(), *context.state, format!("{record}: {rules:?}"));
        context.emit(told);
        if record % 3 == 0 {
            context.register_timer(at(context.time().millis() + 2));
        } else if record % 3 == 1 {
            let time = context.processing_time().plus_millis(3);
            context.register_processing_timer(time);
        }
        Ok(())
    }

    fn on_broadcast(&self, rule: Change, time: EventTime, rules: &mut Rules) -> Result<()> {
        change(rules, rule, time.millis());
        Ok(())
    }

    fn on_timer(
        &self,
        time: EventTime,
        rules: &Rules,
        context: &mut ProcessContext<'_, u8, u64, Out>,
    ) -> Result<()> {
        *context.state += 1;
        let told = (*context.key(), *context.state, format!("event {time}: {rules:?}"));
        context.emit(told);
        Ok(())
    }

    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        rules: &Rules,
        context: &mut ProcessContext<'_, u8, u64, Out>,
    ) -> Result<()> {
        *context.state += 1;
        let what = format!("processing {}: {rules:?}", time.millis());
        let told = (*context.key(), *context.state, what);
        context.emit(told);
        Ok(())
    }
}

impl BroadcastFunction<i64, Change, usize> for Told {
    type Out = String;
    type RuleKey = u8;
    type Rule = Vec<i64>;

    fn on_record(
        &self,
        record: i64,
        rules: &Rules,
        context: &mut RecordContext<'_, String, usize>,
    ) -> Result<()> {
        context.emit(format!("{record}: {rules:?}"));
        context.emit_side(rules.len());
        Ok(())
    }

    fn on_broadcast(&self, rule: Change, time: EventTime, rules: &mut Rules) -> Result<()> {
        change(rules, rule, time.millis());
        Ok(())
    }
}

enum Step {
    Record(u8, i64, i64),
    Rule(Change, i64),
    Watermark(i64),
    Time(i64),
}

fn steps(random: &mut Random) -> Vec<Step> {
    let (mut watermark, mut now) = (0, 0);
    let step = |number| match random.below(10) {
        0 => {
            watermark += random.between(0, 4);
            Step::Watermark(watermark)
        }
        1 => {
            now += random.between(0, 4);
            Step::Time(now)
        }
        2..5 => {
            let rule = random.below(5) as u8;
            let change = match random.below(4) {
                0 => Change::Set(rule, number),
                1 => Change::Remove(rule),
                _ => Change::Append(rule, number),
            };
            Step::Rule(change, watermark + random.between(-2, 5))
        }
        _ => Step::Record(random.below(4) as u8, number, watermark + random.between(-2, 5)),
    };
    (0..40).map(step).collect()
}

/// What must be told, with timers searched whole.
fn expected(steps: &[Step]) -> Vec<String> {
    let (mut rules, mut counts) = (Rules::new(), BTreeMap::<u8, u64>::new());
    let (mut event, mut processing) = (BTreeMap::new(), BTreeMap::new());
    let (mut told, mut now, mut last_watermark) = (Vec::new(), 0, None);
    let mut tell = |key: u8, what: String, time: i64| {
        let count = counts.entry(key).or_default();
        *count += 1;
        told.push(format!("({key}, {count}, {what:?}) at {time}"));
    };
    let end = [Step::Watermark(i64::MAX), Step::Time(i64::MAX)];
    for step in steps.iter().chain(&end) {
        match step {
            Step::Rule(rule, time) => change(&mut rules, rule.clone(), *time),
            Step::Record(key, record, time) => {
                tell(*key, format!("{record}: {rules:?}"), *time);
                match record % 3 {
                    0 => drop(event.insert((time + 2, *key), ())),
                    1 => drop(processing.insert((now + 3, *key), *time)),
                    _ => {}
                }
            }
            Step::Watermark(watermark) => {
                while let Some((&(time, key), ())) = event.first_key_value()
                    && time <= *watermark
                {
                    event.remove(&(time, key));
                    tell(key, format!("event {time}: {rules:?}"), time);
                }
                if *watermark < i64::MAX {
                    last_watermark = Some(*watermark);
                }
            }
            Step::Time(time) => {
                now = *time;
                while let Some((&(time, key), &asked)) = processing.first_key_value()
                    && time <= now
                {
                    processing.remove(&(time, key));
                    let at = last_watermark.map_or(asked, |last: i64| asked.max(last + 1));
                    tell(key, format!("processing {time}: {rules:?}"), at);
                }
            }
        }
    }
    told.sort_unstable();
    told
}

#[test]
fn every_instance_has_the_rules_and_keeps_them_when_rescaled() {
    for seed in 0..80 {
        let steps = steps(&mut Random::new(seed));
        let input = |step: &Step| match step {
            Step::Record(key, record, time) => {
                let keyed = Keyed { key: *key, value: *record };
                Input::Record(Either::Left(keyed), at(*time), None)
            }
            Step::Rule(change, time) => {
                Input::Record(Either::Right(change.clone()), at(*time), None)
            }
            Step::Watermark(watermark) => Input::Watermark(at(*watermark)),
            Step::Time(now) => Input::Time(clock(*now)),
        };
        let mut script: Vec<Input<KeyedOrRule<u8, i64, Change>>> =
            steps.iter().map(input).collect();
        script.push(Input::Watermark(EventTime::MAX));
        let (declared, _) = StateDeclarations::new().finish();
        let function = Arc::new(Told);
        let given = verify_beside_broadcast(
            || {
                let (function, declared) = (function.clone(), declared.clone());
                keyed::KeyedBroadcast::<u8, i64, Change, (), Told>::new(function, declared)
            },
            Some(&|record: &KeyedOrRule<u8, i64, Change>| match record {
                Either::Left(keyed) => hash_key(&keyed.key).expect("a number has a hash"),
                Either::Right(_) => 0,
            }),
            &|record| matches!(record, Either::Right(_)),
            &script,
        )
        .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(given.main, expected(&steps), "seed {seed}");
    }
}

#[test]
fn records_without_keys_meet_the_rules_that_have_come() {
    for seed in 0..40 {
        let steps = steps(&mut Random::new(seed));
        let (mut script, mut rules) = (Vec::new(), Rules::new());
        let (mut main, mut side) = (Vec::new(), Vec::new());
        for step in &steps {
            match step {
                Step::Record(_, record, time) => {
                    script.push(Input::Record(Either::Left(*record), at(*time), None));
                    main.push(format!("{:?} at {time}", format!("{record}: {rules:?}")));
                    side.push(format!("{} at {time}", rules.len()));
                }
                Step::Rule(rule, time) => {
                    script.push(Input::Record(Either::Right(rule.clone()), at(*time), None));
                    change(&mut rules, rule.clone(), *time);
                }
                _ => {}
            }
        }
        main.sort_unstable();
        side.sort_unstable();
        let function = Arc::new(Told);
        let given = verify_beside_broadcast(
            || records::Broadcast::<i64, Change, usize, Told>::new(function.clone()),
            Some(&|record: &Either<i64, Change>| match record {
                Either::Left(record) => hash_key(record).expect("a number has a hash"),
                Either::Right(_) => 0,
            }),
            &|record| matches!(record, Either::Right(_)),
            &script,
        )
        .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!((given.main, given.side), (main, side), "seed {seed}");
    }
}
