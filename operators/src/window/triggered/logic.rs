//! What a record, a timer and the end do to one key's window: no tables here.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::sync::Arc;

use thalweg_engine::{Data, EventTime, Key, Outputs, ProcessingTime, Result};

use super::Lateness;
use super::entry::{Entry, Shown, Stand, Standing};
use crate::change::Change;
use crate::window::function::{ElementRef, Holding, PaneCall};
use crate::window::pane::{Pane, PaneInfo, PaneTiming, Wanted, WindowSide};
use crate::window::trigger::{Timer, TimerChange, Trigger, TriggerContext, TriggerResult};
use crate::window::{Window, WindowResult};

/// The rules of a windowed operator.
pub(super) struct Logic<K, T, H: Holding<K, T>, Tr> {
    pub(super) holding: H,
    pub(super) trigger: Arc<Tr>,
    pub(super) wanted: Arc<Wanted<H::Out>>,
    pub(super) lateness: Lateness,
    pub(super) lateness_ms: i64,
    pub(super) merges: bool,
    pub(super) types: PhantomData<fn(K, T)>,
}

/// The window of a key, as the rules see it.
pub(super) type EntryOf<K, T, H, Tr> =
    Entry<<H as Holding<K, T>>::Contents, <Tr as Trigger<T>>::State, <H as Holding<K, T>>::State>;

/// The outputs of a windowed operator.
pub(super) type WindowOutputs<'a, K, T, R> = Outputs<'a, WindowResult<K, R>, WindowSide<K, T, R>>;

/// How far event time has come.
#[derive(Clone, Copy)]
pub(super) struct Reached {
    pub(super) watermark: EventTime,
    /// The last watermark before that of the end of the input.
    passed: EventTime,
}

impl Reached {
    pub(super) fn nothing() -> Self {
        Reached { watermark: EventTime::MIN, passed: EventTime::MIN }
    }

    pub(super) fn reach(&mut self, watermark: EventTime) {
        self.watermark = self.watermark.max(watermark);
        if watermark < EventTime::MAX {
            self.passed = self.passed.max(watermark);
        }
    }
}

/// What surrounds a call: the times, the outputs, and what is to be done about timers.
pub(super) struct Call<'a, 'b, K, T, R> {
    pub(super) reached: Reached,
    pub(super) now: ProcessingTime,
    pub(super) out: &'a mut WindowOutputs<'b, K, T, R>,
    pub(super) asked: &'a mut Vec<TimerChange>,
    pub(super) stands: &'a mut Vec<Stand>,
}

impl<K: Key, T: Data, H: Holding<K, T>, Tr: Trigger<T>> Logic<K, T, H, Tr> {
    /// The watermark at which the window is on time. A record at the end of a session extends it.
    pub(super) fn due(&self, window: Window) -> EventTime {
        match self.grace_ms() {
            0 => window.max_time(),
            _ => window.end,
        }
    }

    /// The watermark at which the window is final.
    pub(super) fn final_at(&self, window: Window) -> EventTime {
        self.due(window).shifted(self.lateness_ms)
    }

    /// How much longer than to its last instant a window can be extended.
    fn grace_ms(&self) -> i64 {
        i64::from(self.merges && self.lateness == Lateness::AtSplit)
    }

    /// The watermark that no result to come is behind.
    pub(super) fn forwarded(&self, watermark: EventTime) -> EventTime {
        watermark.shifted(self.lateness_ms.saturating_add(self.grace_ms()).saturating_neg())
    }

    /// True if the trigger is asked: if somebody wants panes, or it changes the final result.
    fn asks_trigger(&self) -> bool {
        self.shows_panes() || !self.trigger.is_accumulating() || self.holding.evicts()
    }

    fn shows_panes(&self) -> bool {
        self.wanted.wants_panes() || self.wanted.updates().is_some()
    }

    /// Adds a record to its window.
    pub(super) fn add(
        &self,
        entry: &mut EntryOf<K, T, H, Tr>,
        key: &K,
        element: &ElementRef<'_, T>,
        call: &mut Call<'_, '_, K, T, H::Out>,
    ) -> Result<()> {
        self.holding.add(&mut entry.contents, element);
        entry.records += 1;
        entry.fresh += 1;
        entry.latest = entry.latest.max(element.time);
        if !self.asks_trigger() {
            return Ok(());
        }
        let result = self.ask(entry, call, |trigger, context| {
            trigger.on_record(element.value, element.time, context)
        });
        self.act(result, entry, key, None, call)
    }

    /// Calls the trigger for a timer, if it still stands.
    pub(super) fn on_timer(
        &self,
        entry: &mut EntryOf<K, T, H, Tr>,
        key: &K,
        timer: Timer,
        call: &mut Call<'_, '_, K, T, H::Out>,
    ) -> Result<()> {
        let Some(position) = entry.timers.iter().position(|stands| *stands == timer) else {
            return Ok(());
        };
        entry.timers.swap_remove(position);
        let result = self.ask(entry, call, |trigger, context| match timer {
            Timer::Event(time) => trigger.on_event_time(EventTime::from_millis(time), context),
            Timer::Processing(time) => {
                trigger.on_processing_time(ProcessingTime::from_millis(time), context)
            }
        });
        self.act(result, entry, key, Some(timer), call)
    }

    /// Gives out what a final window holds. Its entry is dropped by the caller.
    pub(super) fn close(
        &self,
        mut entry: EntryOf<K, T, H, Tr>,
        key: &K,
        call: &mut Call<'_, '_, K, T, H::Out>,
    ) -> Result<()> {
        let is_shown = self.shows_panes() && entry.fresh > 0;
        if entry.records > 0 && (is_shown || self.wanted.wants_results()) {
            let (due, final_at) = (self.due(entry.window), self.final_at(entry.window));
            let timing = if due == final_at { PaneTiming::OnTime } else { PaneTiming::Late };
            let info = PaneInfo { index: entry.panes, timing, is_final: true };
            // The operator's watermark depends on scheduling.
            let value = self.result(&mut entry, key, info, (final_at, call.now))?;
            if let Some(value) = value.clone().filter(|_| self.wanted.wants_results()) {
                let window = entry.window;
                let time = result_time(&entry, call.reached.passed);
                call.out.main.push(WindowResult { key: key.clone(), window, value }, time);
            }
            if is_shown {
                self.show(&mut entry, key, info, value, call)?;
            }
        }
        if self.asks_trigger() {
            self.ask(&mut entry, call, |trigger, context| trigger.clear(context));
        }
        let window = entry.window;
        let timers = entry.timers.iter();
        let stand = |at: &Timer| Stand { window, at: Standing::Trigger(*at), is_set: false };
        call.stands.extend(timers.map(stand));
        Ok(())
    }

    /// The place in `cell` of the window that a new window `own` becomes part of: its own, or one
    /// merged of those it touches. None if that window is final, by the operator's watermark.
    pub(super) fn place(
        &self,
        cell: &mut Vec<EntryOf<K, T, H, Tr>>,
        own: Window,
        call: &mut Call<'_, '_, K, T, H::Out>,
    ) -> Option<usize> {
        let touches = |window: Window| window.start <= own.end && window.end >= own.start;
        let touched = cell.iter().map(|entry| entry.window).filter(|window| touches(*window));
        let merged =
            touched.fold(own, |a, b| Window { start: a.start.min(b.start), end: a.end.max(b.end) });
        let final_at = self.final_at(merged);
        if self.lateness == Lateness::AtOperator && final_at <= call.reached.watermark {
            return None;
        }
        if let Some(place) = cell.iter().position(|entry| entry.window == merged) {
            return Some(place);
        }
        let mut parts: Vec<_> = cell.extract_if(.., |entry| touches(entry.window)).collect();
        parts.sort_unstable_by_key(|entry| entry.window);
        let entry = self.merge(parts, merged, call);
        let at = Standing::Final(final_at.millis());
        call.stands.push(Stand { window: merged, at, is_set: true });
        cell.push(entry);
        Some(cell.len() - 1)
    }

    /// Makes one window of several, or a new one of none.
    fn merge(
        &self,
        parts: Vec<EntryOf<K, T, H, Tr>>,
        merged: Window,
        call: &mut Call<'_, '_, K, T, H::Out>,
    ) -> EntryOf<K, T, H, Tr> {
        let mut states = Vec::with_capacity(parts.len());
        let mut whole: Option<EntryOf<K, T, H, Tr>> = None;
        for mut part in parts {
            let window = part.window;
            let final_at = Standing::Final(self.final_at(window).millis());
            call.stands.push(Stand { window, at: final_at, is_set: false });
            let timers = part.timers.drain(..);
            let stand = |at| Stand { window, at: Standing::Trigger(at), is_set: false };
            call.stands.extend(timers.map(stand));
            states.push(std::mem::take(&mut part.trigger));
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => {
                    whole.absorb(&mut part);
                    self.holding.merge(&mut whole.contents, part.contents);
                }
            }
        }
        let Some(mut whole) = whole else { return Entry::new(merged, self.holding.create()) };
        whole.window = merged;
        if self.asks_trigger() {
            self.ask(&mut whole, call, |trigger, context| trigger.on_merge(&states, context));
        }
        whole
    }

    /// Calls the trigger and notes what it asks for.
    fn ask<X>(
        &self,
        entry: &mut EntryOf<K, T, H, Tr>,
        call: &mut Call<'_, '_, K, T, H::Out>,
        f: impl FnOnce(&Tr, &mut TriggerContext<'_, Tr::State>) -> X,
    ) -> X {
        let window = entry.window;
        let mut context = TriggerContext {
            state: &mut entry.trigger,
            window,
            due: self.due(window),
            watermark: call.reached.watermark,
            now: call.now,
            changes: call.asked,
        };
        let answer = f(&self.trigger, &mut context);
        for TimerChange { timer, is_set } in call.asked.drain(..) {
            // A timer that asks for the next one at the end of time would never end.
            let is_endless =
                call.reached.watermark == EventTime::MAX && matches!(timer, Timer::Event(_));
            match entry.timers.iter().position(|stands| *stands == timer) {
                None if is_set && !is_endless => entry.timers.push(timer),
                Some(position) if !is_set => {
                    entry.timers.swap_remove(position);
                }
                _ => continue,
            }
            call.stands.push(Stand { window, at: Standing::Trigger(timer), is_set });
        }
        answer
    }

    /// Does what the trigger wants; `timer` is what it was called for, if it was a timer.
    fn act(
        &self,
        result: TriggerResult,
        entry: &mut EntryOf<K, T, H, Tr>,
        key: &K,
        timer: Option<Timer>,
        call: &mut Call<'_, '_, K, T, H::Out>,
    ) -> Result<()> {
        let is_seen = self.shows_panes() || self.holding.evicts();
        if result.fires() && entry.records > 0 && is_seen {
            let due = self.due(entry.window);
            // A timer fires at its own time, how far ever the watermark has jumped.
            let reached = match timer {
                Some(Timer::Event(time)) => EventTime::from_millis(time),
                _ => call.reached.watermark,
            };
            let timing = match reached.cmp(&due) {
                Ordering::Less => PaneTiming::Early,
                Ordering::Equal if matches!(timer, Some(Timer::Event(_))) => PaneTiming::OnTime,
                _ => PaneTiming::Late,
            };
            let is_final = self.final_at(entry.window) <= call.reached.watermark;
            let info = PaneInfo { index: entry.panes, timing, is_final };
            let value = self.result(entry, key, info, (call.reached.watermark, call.now))?;
            self.show(entry, key, info, value, call)?;
        }
        if result.purges() {
            entry.contents = self.holding.create();
            (entry.records, entry.fresh) = (0, 0);
            entry.shown.clear();
        }
        Ok(())
    }

    fn result(
        &self,
        entry: &mut EntryOf<K, T, H, Tr>,
        key: &K,
        pane: PaneInfo,
        (watermark, now): (EventTime, ProcessingTime),
    ) -> Result<Option<H::Out>> {
        let call = PaneCall { key, window: entry.window, pane, watermark, now };
        self.holding.result(&mut entry.contents, &mut entry.state, &call)
    }

    /// Gives out a pane, and what it changes in the table of updates.
    fn show(
        &self,
        entry: &mut EntryOf<K, T, H, Tr>,
        key: &K,
        info: PaneInfo,
        value: Option<H::Out>,
        call: &mut Call<'_, '_, K, T, H::Out>,
    ) -> Result<()> {
        entry.fresh = 0;
        let (window, time) = (entry.window, result_time(entry, call.reached.passed));
        if let Some(codec) = self.wanted.updates() {
            let after = match &value {
                Some(value) => Some(Shown { window, value: (codec.encode)(value)? }),
                None => None,
            };
            let row = |window, value| WindowResult { key: key.clone(), window, value };
            let side = &mut call.out.side;
            let mut before = std::mem::take(&mut entry.shown);
            let is_same = before.len() == 1 && before.first() == after.as_ref();
            // One row is updated; others are no more.
            let replaced = after.as_ref().and_then(|_| (!is_same).then(|| before.pop()).flatten());
            if !is_same {
                for Shown { window, value } in &before {
                    let change = Change::Delete(row(*window, (codec.decode)(value)?));
                    side.push(WindowSide::Update(change), time);
                }
            }
            if let (Some(value), false) = (value.clone(), is_same) {
                let change = match replaced {
                    None => Change::Insert(row(window, value)),
                    Some(old) => {
                        let old = row(old.window, (codec.decode)(&old.value)?);
                        side.push(WindowSide::Update(Change::UpdateBefore(old)), time);
                        Change::UpdateAfter(row(window, value))
                    }
                };
                side.push(WindowSide::Update(change), time);
            }
            entry.shown.extend(after);
        }
        if let Some(value) = value {
            entry.panes += 1;
            if self.wanted.wants_panes() {
                let pane = Pane { key: key.clone(), window, value, info };
                call.out.side.push(WindowSide::Pane(pane), time);
            }
        }
        Ok(())
    }
}

/// The time of a result. Without an end a window has no last instant: then it is the time of its
/// latest record, but not behind the watermark, so that it is not late further down.
fn result_time<C, S, U>(entry: &Entry<C, S, U>, passed: EventTime) -> EventTime {
    match entry.window.end {
        EventTime::MAX => entry.latest.max(passed.shifted(1)),
        _ => entry.window.max_time(),
    }
}
