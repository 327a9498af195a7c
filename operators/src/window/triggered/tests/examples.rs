//! Triggers by hand, one situation each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;
use crate::aggregate::{Count, Sum};
use crate::window::function::WindowFunction;
use crate::window::function::{Always, Closure, FoldElements, Folded, Listed, WindowContents};
use crate::window::trigger::{
    ContinuousProcessingTime, CountTrigger, EarlyAndLate, EventTimeTrigger, Never,
    ProcessingTimeTrigger, Purging, TriggerContext, TriggerResult,
};
use crate::window::{CountEvictor, Evictor, TimeEvictor};
use crate::window::{GlobalWindow, Tumbling};

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn ten() -> Tumbling {
    Tumbling::of(millis(10))
}

/// The values and infos of panes.
fn shown(given: &Given) -> Vec<String> {
    let fields = |line: &String| {
        let value = line.split_once("value: ")?.1;
        let (value, info) = value.split_once(", info: PaneInfo { index: ")?;
        let (index, info) = info.split_once(", timing: ")?;
        let (timing, info) = info.split_once(", is_final: ")?;
        let is_final = if info.starts_with("true") { " final" } else { "" };
        Some(format!("{index}: {value} {timing}{is_final}"))
    };
    let mut shown: Vec<String> = of_kind(&given.side, "Pane").iter().filter_map(fields).collect();
    shown.sort_unstable();
    shown
}

fn sum() -> Sum<fn(&u32) -> i64, u32> {
    Sum::of(|value: &u32| i64::from(*value))
}

#[test]
fn count_windows_are_a_purging_count_without_an_end() {
    let mut script: Vec<_> = (1..=7).map(|n| record(1, n, i64::from(n))).collect();
    script.extend([watermark(50), Input::Watermark(EventTime::MAX)]);
    let trigger = Purging::of(CountTrigger::of(3));
    let given = Verified::new(GlobalWindow, Folded(sum()), trigger).given(&script);
    // The last pane holds the record that no full window has.
    assert_eq!(shown(&given), ["0: 6 Early", "1: 15 Early", "2: 7 OnTime final"]);
    assert_eq!(given.main.len(), 1);
    let changes = of_kind(&given.side, "Update");
    assert!(changes.iter().all(|change| change.starts_with("Insert")), "{changes:?}");
}

#[test]
fn sliding_count_windows_are_a_count_with_an_evictor() {
    let mut script: Vec<_> = (1..=6).map(|n| record(1, n, i64::from(n))).collect();
    script.push(Input::Watermark(EventTime::MAX));
    let evictor: Option<Arc<dyn Evictor<u32>>> = Some(Arc::new(CountEvictor::of(3)));
    let holding = Listed { function: FoldElements(sum()), evictor };
    let given = Verified::new(GlobalWindow, holding, CountTrigger::of(2)).given(&script);
    assert_eq!(shown(&given), ["0: 3 Early", "1: 9 Early", "2: 15 Early"]);
}

#[test]
fn panes_come_early_on_time_and_late() {
    let script = [
        record(1, 1, 0),
        record(1, 2, 1),
        watermark(5),
        record(1, 4, 7),
        watermark(9),
        behind(1, 8, 3, 9),
        behind(1, 16, 4, 9),
        watermark(20),
    ];
    let trigger = EarlyAndLate::new().early_every_records(2).late_every_record();
    let verified = Verified::new(ten(), Folded(sum()), trigger).lateness_ms(5);
    let given = verified.given(&script);
    assert_eq!(shown(&given), ["0: 3 Early", "1: 7 OnTime", "2: 15 Late", "3: 31 Late"]);
    assert_eq!(given.main, [result(1, (0, 10), 31)]);
    assert_eq!(table_of(&given.side), rows_of(&given.main));
    // Discarding, each record is in one pane.
    let verified = Verified::new(ten(), Folded(sum()), Purging::of(trigger)).lateness_ms(5);
    let given = verified.given(&script);
    assert_eq!(shown(&given), ["0: 3 Early", "1: 4 OnTime", "2: 8 Late", "3: 16 Late"]);
    assert!(given.main.is_empty(), "nothing is left: {:?}", given.main);
    // Without late panes the last one has what came late.
    let trigger = EarlyAndLate::new();
    let verified = Verified::new(ten(), Folded(sum()), trigger).lateness_ms(5);
    assert_eq!(shown(&verified.given(&script)), ["0: 7 OnTime", "1: 31 Late final"]);
}

#[test]
fn a_pane_that_changes_nothing_gives_no_update() {
    let script = [record(1, 1, 0), record(1, 0, 1), record(1, 0, 2), watermark(9), watermark(30)];
    let verified = Verified::new(ten(), Folded(sum()), CountTrigger::of(1));
    let given = verified.given(&script);
    assert_eq!(of_kind(&given.side, "Pane").len(), 3);
    assert_eq!(of_kind(&given.side, "Update").len(), 1);
}

#[test]
fn event_time_intervals_fire_where_a_record_waits() {
    let script = [
        record(1, 1, 1),
        watermark(2),
        watermark(3),
        // Nothing new at 6.
        watermark(6),
        record(1, 2, 7),
        watermark(8),
        Input::Watermark(EventTime::MAX),
    ];
    let trigger = EarlyAndLate::new().early_every(millis(3));
    let given = Verified::new(ten(), Folded(sum()), trigger).given(&script);
    assert_eq!(shown(&given), ["0: 1 Early", "1: 3 OnTime final"]);
    let script = [record(1, 1, 1), record(1, 2, 7), watermark(7), record(1, 4, 8), watermark(30)];
    let given = Verified::new(ten(), Folded(sum()), trigger).given(&script);
    assert_eq!(shown(&given), ["0: 3 Early", "1: 7 OnTime final"]);
}

#[test]
fn processing_time_fires_when_the_clock_says_so() {
    let script = [
        clock(1),
        record(1, 1, 0),
        record(2, 10, 0),
        clock(4),
        clock(5),
        record(1, 2, 1),
        clock(9),
        clock(23),
        record(1, 4, 2),
        Input::Watermark(EventTime::MAX),
    ];
    let trigger = ContinuousProcessingTime::every(millis(5));
    let given = Verified::new(ten(), Folded(sum()), trigger).given(&script);
    let expected = ["0: 1 Early", "0: 10 Early", "1: 3 Early", "2: 7 OnTime final"];
    assert_eq!(shown(&given), expected);
    let trigger = EarlyAndLate::new().early_every_processing_time(millis(5));
    let given = Verified::new(ten(), Folded(sum()), trigger).given(&script);
    // Key 2 is on time too, with nothing new.
    let expected =
        ["0: 1 Early", "0: 10 Early", "1: 10 OnTime final", "1: 3 Early", "2: 7 OnTime final"];
    assert_eq!(shown(&given), expected);
    let trigger = ProcessingTimeTrigger::after(millis(3));
    let given = Verified::new(ten(), Folded(sum()), trigger).given(&script);
    assert_eq!(shown(&given), ["0: 1 Early", "0: 10 Early", "1: 3 Early", "2: 7 OnTime final"]);
}

#[test]
fn what_is_evicted_is_gone() {
    let script = [
        record(1, 1, 0),
        record(1, 2, 4),
        record(1, 4, 5),
        record(1, 8, 9),
        Input::Watermark(EventTime::MAX),
    ];
    let values = |contents: &WindowContents<'_, u8, u32>| -> Vec<u32> {
        contents.values().copied().collect()
    };
    let evictor: Option<Arc<dyn Evictor<u32>>> = Some(Arc::new(TimeEvictor::of(millis(4))));
    let holding = Listed { function: Always(Closure(values)), evictor };
    let given = Verified::new(ten(), holding, CountTrigger::of(2)).given(&script);
    // 9 - 4 = 5 goes, as in Flink.
    assert_eq!(shown(&given), ["0: [2] Early", "1: [8] Early"]);
    assert_eq!(given.main, [result(1, (0, 10), [8])]);
    // Nobody has to look at the panes for that.
    let evictor: Option<Arc<dyn Evictor<u32>>> = Some(Arc::new(CountEvictor::of(1)));
    let holding = Listed { function: Always(Calls), evictor };
    let verified = Verified::new(ten(), holding, CountTrigger::of(2));
    let given = verified.uses(Uses(true, false, false)).given(&script);
    assert_eq!(given.main, [result(1, (0, 10), (3, 1))]);
    let evictor: Option<Arc<dyn Evictor<u32>>> = Some(Arc::new(CountEvictor::of(1).after()));
    let holding = Listed { function: Always(Closure(values)), evictor };
    let given = Verified::new(ten(), holding, CountTrigger::of(2)).given(&script);
    assert_eq!(shown(&given), ["0: [1, 2] Early", "1: [2, 4, 8] Early"]);
}

/// Gives out how often it was called for a window, and how many elements it has.
struct Calls;

impl WindowFunction<u8, u32> for Calls {
    type State = u64;
    type Out = (u64, usize);

    fn process(
        &self,
        contents: &WindowContents<'_, u8, u32>,
        state: &mut u64,
    ) -> thalweg_engine::Result<(u64, usize)> {
        *state += 1;
        Ok((*state, contents.elements().len()))
    }
}

#[test]
fn functions_have_state_per_key_and_window() {
    let script = [
        record(1, 1, 0),
        record(2, 1, 0),
        record(1, 1, 12),
        record(1, 1, 1),
        Input::Watermark(EventTime::MAX),
    ];
    let holding = Listed { function: Always(Calls), evictor: None };
    let given = Verified::new(ten(), holding, CountTrigger::of(1)).given(&script);
    let first = ["0: (1, 1) Early", "0: (1, 1) Early", "0: (1, 1) Early", "1: (2, 2) Early"];
    assert_eq!(shown(&given), first);
    // The final result is one more call.
    let main =
        [result(1, (0, 10), (3, 2)), result(1, (10, 20), (2, 1)), result(2, (0, 10), (2, 1))];
    assert_eq!(given.main, main);
}

/// Has timers on both clocks, some past, some taken back, and more whenever it is called.
struct Restless;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Unrest {
    calls: u64,
}

impl Trigger<u32> for Restless {
    type State = Unrest;

    fn on_record(
        &self,
        record: &u32,
        time: EventTime,
        context: &mut TriggerContext<'_, Unrest>,
    ) -> TriggerResult {
        context.register_event_time(time.shifted(-3));
        context.register_event_time(time.shifted(3));
        context.register_event_time(time.shifted(4));
        context.delete_event_time(time.shifted(4));
        context.register_event_time(context.due().shifted(1));
        context.register_processing_time(context.now().plus_millis(i64::from(*record % 5)));
        TriggerResult::Continue
    }

    fn on_event_time(
        &self,
        time: EventTime,
        context: &mut TriggerContext<'_, Unrest>,
    ) -> TriggerResult {
        context.state.calls += 1;
        if context.state.calls < 6 {
            context.register_event_time(time);
            context.register_event_time(time.shifted(-1));
            context.register_event_time(time.shifted(1));
            context.register_event_time(context.due());
        }
        match context.state.calls % 4 {
            0 => TriggerResult::Purge,
            1 => TriggerResult::FireAndPurge,
            2 => TriggerResult::Fire,
            _ => TriggerResult::Continue,
        }
    }

    fn on_processing_time(
        &self,
        time: ProcessingTime,
        context: &mut TriggerContext<'_, Unrest>,
    ) -> TriggerResult {
        context.delete_processing_time(time.plus_millis(1));
        context.register_event_time(context.watermark().shifted(2));
        TriggerResult::Fire
    }
}

#[test]
fn triggers_of_users_are_called_alike_in_every_mode() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut script = script(&mut random, 6);
        let mut now = 0;
        for place in (0..script.len()).rev().step_by(5) {
            now += 1;
            script.insert(place, clock(100 - now * 3));
        }
        let verified = Verified::new(ten(), Folded(sum()), Restless).lateness_ms(4);
        let given = verified.given(&script);
        let records = script.iter().filter(|input| matches!(input, Input::Record(..))).count();
        assert!(records < 10 || !of_kind(&given.side, "Pane").is_empty(), "seed {seed}");
    }
}

/// At the end of the window asks for a time that is past, twice, and for one of the clock.
struct Afterthoughts;

impl Trigger<u32> for Afterthoughts {
    type State = u64;

    fn on_record(
        &self,
        _record: &u32,
        _time: EventTime,
        context: &mut TriggerContext<'_, u64>,
    ) -> TriggerResult {
        context.register_event_time(context.due());
        TriggerResult::Continue
    }

    fn on_event_time(
        &self,
        _time: EventTime,
        context: &mut TriggerContext<'_, u64>,
    ) -> TriggerResult {
        *context.state += 1;
        if *context.state < 3 {
            context.register_event_time(context.due().shifted(-1));
        }
        context.register_processing_time(context.now().plus_millis(5));
        TriggerResult::Fire
    }

    fn on_processing_time(
        &self,
        _time: ProcessingTime,
        _context: &mut TriggerContext<'_, u64>,
    ) -> TriggerResult {
        TriggerResult::Fire
    }
}

#[test]
fn timers_that_are_past_are_called_before_the_window_is_dropped() {
    let script = [record(1, 1, 0), record(2, 10, 0), watermark(20)];
    let given = Verified::new(ten(), Folded(sum()), Afterthoughts).given(&script);
    let expected = [
        "0: 1 OnTime final",
        "0: 10 OnTime final",
        "1: 1 Early final",
        "1: 10 Early final",
        "2: 1 Early final",
        "2: 10 Early final",
    ];
    assert_eq!(shown(&given), expected);
    // The clock of a window that is open is heard, although only a watermark has set it.
    let script = [record(1, 1, 0), watermark(10), clock(5), clock(6), watermark(30)];
    let verified = Verified::new(ten(), Folded(sum()), Afterthoughts).lateness_ms(10);
    let expected = ["0: 1 OnTime", "1: 1 Early", "2: 1 Early", "3: 1 Late"];
    assert_eq!(shown(&verified.given(&script)), expected);
}

#[test]
fn nothing_is_kept_of_windows_that_are_final() {
    let script = [record(1, 1, 0), clock(50), watermark(30), clock(1000), record(1, 2, 40)];
    let trigger = ContinuousProcessingTime::every(millis(500));
    let given = Verified::new(ten(), Folded(Count), trigger).given(&script);
    assert_eq!(shown(&given), ["0: 1 OnTime final"]);
    let given = Verified::new(ten(), Folded(Count), Never).given(&script);
    assert_eq!(shown(&given), ["0: 1 OnTime final"]);
    let given = Verified::new(ten(), Folded(Count), EventTimeTrigger).given(&script);
    assert_eq!(shown(&given), ["0: 1 OnTime final"]);
}
