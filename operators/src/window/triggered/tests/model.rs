//! Random scripts over tumbling and sliding windows, against a model and the sliced operator.

use std::time::Duration;

use super::*;
use crate::aggregate::Count;
use crate::window::function::{Always, Closure, Folded, Listed, WindowContents};
use crate::window::operator::{Records, WindowOperator};
use crate::window::pane::{Pane, PaneInfo, PaneTiming};
use crate::window::trigger::{CountTrigger, EarlyAndLate, EventTimeTrigger, Never, Purging};
use crate::window::{CountEvictor, Sliding};

struct Case {
    random: Random,
    script: Vec<Input<Record>>,
    size: i64,
    slide: i64,
    lateness: i64,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (size, slide) = (random.between(1, 30), random.between(1, 30));
        let lateness = random.between(0, 1) * random.between(1, 20);
        let script = script(&mut random, 6);
        Case { random, script, size, slide, lateness }
    }

    fn assigner(&self) -> Sliding {
        let millis = |n: i64| Duration::from_millis(n as u64);
        Sliding::of(millis(self.size), millis(self.slide))
    }

    fn given<Tr: Trigger<u32>>(&self, trigger: Tr, uses: Uses) -> Given {
        let verified = Verified::new(self.assigner(), Folded(Count), trigger);
        verified.lateness_ms(self.lateness).uses(uses).given(&self.script)
    }

    fn sliced(&self) -> Given {
        let assigner = Arc::new(self.assigner());
        let hash = |record: &Record| hash_key(&record.key).expect("a number has a hash");
        let make = || {
            let aggregate = Arc::new(Count);
            WindowOperator::<u8, u32, Count, _, Records>::new(&*assigner, aggregate, self.lateness)
        };
        verify_in_order(make, Some(&hash), &self.script).expect("all modes agree")
    }

    /// The starts of the windows that accept a record, and whether it is in any at all.
    fn accepting(&self, time: i64, watermark: i64) -> (Vec<i64>, bool) {
        let starts = (-200..400).map(|n| n * self.slide);
        let starts: Vec<i64> = starts.filter(|s| *s <= time && time < s + self.size).collect();
        let open = |start: &&i64| *start + self.size - 1 + self.lateness > watermark;
        (starts.iter().filter(open).copied().collect(), !starts.is_empty())
    }
}

#[test]
fn final_results_are_those_of_sliced_windows_whatever_the_trigger() {
    for seed in 0..40 {
        let case = Case::new(seed);
        let sliced = case.sliced();
        let count = 1 + seed % 4;
        let early = EarlyAndLate::new().early_every_records(count).late_every_record();
        for given in [
            case.given(EventTimeTrigger, Uses(true, false, false)),
            case.given(EventTimeTrigger, Uses(true, true, true)),
            case.given(Never, Uses(true, true, true)),
            case.given(early, Uses(true, true, true)),
            case.given(CountTrigger::of(count), Uses(true, true, true)),
        ] {
            assert_eq!(given.main, sliced.main, "results of seed {seed}");
            let late: Vec<String> = of_kind(&given.side, "Late");
            assert_eq!(late, sliced.side, "late records of seed {seed}");
        }
        let given = case.given(EventTimeTrigger, Uses(true, false, false));
        assert_eq!(given.side.len(), sliced.side.len(), "nobody asked for panes");
        assert!(case.given(Never, Uses(false, true, false)).main.is_empty());
    }
}

#[test]
fn updates_make_the_table_of_final_results() {
    for seed in 0..40 {
        let mut case = Case::new(seed);
        let interval = millis(case.random.between(1, 9));
        let early = EarlyAndLate::new().early_every(interval).late_every_records(2);
        for given in [
            case.given(EventTimeTrigger, Uses(true, false, true)),
            case.given(early, Uses(true, true, true)),
            case.given(CountTrigger::of(3), Uses(true, true, true)),
            case.given(Never, Uses(true, true, true)),
        ] {
            assert_eq!(table_of(&given.side), rows_of(&given.main), "seed {seed}");
        }
    }
}

fn millis(n: i64) -> Duration {
    Duration::from_millis(n as u64)
}

/// A trigger as the model has it.
#[derive(Clone, Copy, Default, Debug)]
struct Rules {
    early_records: Option<u64>,
    early_every: Option<i64>,
    late_records: Option<u64>,
    /// False if the end of the window is nothing special.
    fires_on_time: bool,
    purges: bool,
}

#[derive(Default)]
struct Naive {
    count: u64,
    fresh: u64,
    panes: u64,
    early: u64,
    late: u64,
    /// The times of records since the last pane that are to be shown at a multiple.
    waiting: Vec<i64>,
}

/// The panes that must be given out, as the verifier writes them.
fn panes(case: &Case, rules: Rules) -> Vec<String> {
    let mut windows = BTreeMap::<(u8, i64), Naive>::new();
    let mut given = Vec::new();
    let mut now = i64::MIN;
    for input in &case.script {
        match input {
            Input::Record(record, time, mark) => {
                let mark = mark.map_or(i64::MIN, EventTime::millis).max(now);
                for start in case.accepting(time.millis(), mark).0 {
                    let naive = windows.entry((record.key, start)).or_default();
                    naive.count += 1;
                    naive.fresh += 1;
                    let fires = if start + case.size - 1 <= now {
                        naive.late += 1;
                        rules.late_records.is_some_and(|count| naive.late.is_multiple_of(count))
                    } else {
                        naive.early += 1;
                        naive.waiting.push(time.millis().max(now));
                        rules.early_records.is_some_and(|count| naive.early.is_multiple_of(count))
                    };
                    if fires {
                        let is_late = start + case.size - 1 <= now;
                        let timing = if is_late { PaneTiming::Late } else { PaneTiming::Early };
                        given.extend(pane(case, rules, (record.key, start), naive, timing, now));
                    }
                }
            }
            Input::Watermark(watermark) => {
                advance(case, rules, (now, watermark.millis()), &mut windows, &mut given);
                now = watermark.millis();
            }
            Input::Time(_) => {}
        }
    }
    given.sort_unstable();
    given
}

fn advance(
    case: &Case,
    rules: Rules,
    (before, now): (i64, i64),
    windows: &mut BTreeMap<(u8, i64), Naive>,
    given: &mut Vec<String>,
) {
    for (&at, naive) in windows.iter_mut() {
        let due = at.1 + case.size - 1;
        if let Some(interval) = rules.early_every
            && before < due
        {
            // The multiple behind the earliest record that waits, if it is reached early.
            let multiple = |time: &i64| (time.div_euclid(interval) + 1) * interval;
            let next = naive.waiting.iter().map(multiple).min();
            if next.is_some_and(|next| next <= now && next < due) {
                given.extend(pane(case, rules, at, naive, PaneTiming::Early, now));
                naive.waiting.clear();
                naive.early = 0;
            }
        }
        if rules.fires_on_time && before < due && due <= now {
            given.extend(pane(case, rules, at, naive, PaneTiming::OnTime, now));
        }
    }
    windows.retain(|&at, naive| {
        let due = at.1 + case.size - 1;
        let is_final = due + case.lateness <= now;
        if is_final && naive.fresh > 0 {
            let timing = if case.lateness == 0 { PaneTiming::OnTime } else { PaneTiming::Late };
            given.extend(pane(case, rules, at, naive, timing, now));
        }
        !is_final
    });
}

fn pane(
    case: &Case,
    rules: Rules,
    (key, start): (u8, i64),
    naive: &mut Naive,
    timing: PaneTiming,
    now: i64,
) -> Option<String> {
    let end = start + case.size;
    let is_final = end - 1 + case.lateness <= now;
    let value = naive.count;
    if value == 0 {
        return None;
    }
    let info = PaneInfo { index: naive.panes, timing, is_final };
    naive.panes += 1;
    naive.fresh = 0;
    if rules.purges {
        naive.count = 0;
    }
    let window = Window { start: at(start), end: at(end) };
    Some(format!("{:?} at {}", Pane { key, window, value, info }, end - 1))
}

#[test]
fn panes_are_those_of_the_model() {
    for seed in 0..40 {
        let mut case = Case::new(seed);
        let count = 1 + seed % 4;
        let interval = case.random.between(1, 9);
        let uses = Uses(true, true, false);
        let rules = Rules { fires_on_time: true, late_records: Some(1), ..Rules::default() };
        let given = case.given(EventTimeTrigger, uses);
        assert_eq!(of_kind(&given.side, "Pane"), panes(&case, rules), "on time, seed {seed}");

        let given = case.given(Purging::of(EventTimeTrigger), uses);
        let purging = Rules { purges: true, ..rules };
        assert_eq!(of_kind(&given.side, "Pane"), panes(&case, purging), "purging, seed {seed}");

        let rules = Rules { early_records: Some(count), late_records: Some(2), ..rules };
        let trigger = EarlyAndLate::new().early_every_records(count).late_every_records(2);
        // A pane on time begins the count of records anew, but nothing is early after it.
        let given = case.given(trigger, uses);
        assert_eq!(of_kind(&given.side, "Pane"), panes(&case, rules), "early, seed {seed}");

        let rules = Rules { early_every: Some(interval), early_records: None, ..rules };
        let trigger = EarlyAndLate::new().early_every(millis(interval)).late_every_records(2);
        let given = case.given(trigger, uses);
        assert_eq!(of_kind(&given.side, "Pane"), panes(&case, rules), "continuous, seed {seed}");
    }
}

#[test]
fn functions_see_all_elements_in_order_of_time_and_identity() {
    for seed in 0..30 {
        let case = Case::new(seed);
        let list = |contents: &WindowContents<'_, u8, u32>| {
            let elements = contents.elements().iter();
            elements.map(|element| (element.time.millis(), element.value)).collect::<Vec<_>>()
        };
        let holding = Listed { function: Always(Closure(list)), evictor: None };
        let verified = Verified::new(case.assigner(), holding, EventTimeTrigger);
        let verified = verified.lateness_ms(case.lateness).uses(Uses(true, false, false));
        let given = verified.given(&case.script);
        let mut windows = BTreeMap::<(u8, i64), Vec<(i64, u32)>>::new();
        for input in &case.script {
            let Input::Record(record, time, mark) = input else { continue };
            let mark = mark.map_or(i64::MIN, EventTime::millis);
            for start in case.accepting(time.millis(), mark).0 {
                let element = (time.millis(), record.value);
                windows.entry((record.key, start)).or_default().push(element);
            }
        }
        let line = |((key, start), mut elements): ((u8, i64), Vec<(i64, u32)>)| {
            elements.sort_unstable();
            result(key, (start, start + case.size), elements)
        };
        let mut expected: Vec<String> = windows.into_iter().map(line).collect();
        expected.sort_unstable();
        assert_eq!(given.main, expected, "seed {seed}");
    }
}

#[test]
fn evictors_see_the_order_of_arrival() {
    for seed in 0..30 {
        let case = Case::new(seed);
        let values = |contents: &WindowContents<'_, u8, u32>| {
            let mut values: Vec<u32> = contents.values().copied().collect();
            values.sort_unstable();
            values
        };
        let evictor: Option<Arc<dyn crate::window::Evictor<u32>>> =
            Some(Arc::new(CountEvictor::of(2)));
        let holding = Listed { function: Always(Closure(values)), evictor };
        let verified = Verified::new(case.assigner(), holding, Never);
        let given = verified.lateness_ms(case.lateness).given(&case.script);
        let mut windows = BTreeMap::<(u8, i64), Vec<u32>>::new();
        for input in &case.script {
            let Input::Record(record, time, mark) = input else { continue };
            let mark = mark.map_or(i64::MIN, EventTime::millis);
            for start in case.accepting(time.millis(), mark).0 {
                windows.entry((record.key, start)).or_default().push(record.value);
            }
        }
        let line = |((key, start), mut values): ((u8, i64), Vec<u32>)| {
            // Values are numbered in the order of arrival.
            values.drain(..values.len().saturating_sub(2));
            result(key, (start, start + case.size), values)
        };
        let mut expected: Vec<String> = windows.into_iter().map(line).collect();
        expected.sort_unstable();
        assert_eq!(given.main, expected, "seed {seed}");
    }
}

#[test]
fn lateness_at_the_operator_is_judged_by_its_watermark() {
    for seed in 0..40 {
        let case = Case::new(seed);
        let verified = Verified::new(case.assigner(), Folded(Count), EventTimeTrigger);
        let verified = Verified { lateness: Lateness::AtOperator, ..verified };
        let given = verified.lateness_ms(case.lateness).given(&case.script);
        let (mut windows, mut late, mut now) = (BTreeMap::<(u8, i64), u64>::new(), 0, i64::MIN);
        for input in &case.script {
            match input {
                Input::Record(record, time, _) => {
                    let (accepting, is_in_any) = case.accepting(time.millis(), now);
                    late += usize::from(is_in_any && accepting.is_empty());
                    for start in accepting {
                        *windows.entry((record.key, start)).or_default() += 1;
                    }
                }
                Input::Watermark(watermark) => now = watermark.millis(),
                Input::Time(_) => {}
            }
        }
        let line = |((key, start), count)| result(key, (start, start + case.size), count);
        let mut expected: Vec<String> = windows.into_iter().map(line).collect();
        expected.sort_unstable();
        assert_eq!(given.main, expected, "seed {seed}");
        assert_eq!(of_kind(&given.side, "Late").len(), late, "seed {seed}");
    }
}
