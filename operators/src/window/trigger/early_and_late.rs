//! Triggers that fire early, on time and late: [`EarlyAndLate`] and its two short forms.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thalweg_engine::time::duration_millis;
use thalweg_engine::{EventTime, ProcessingTime};

use super::simple::keep_earliest;
use super::{Trigger, TriggerContext, TriggerResult};

/// Fires when the watermark reaches the end of the window, and early and late as it is told.
///
/// Late records that do not make it fire are in the final result and in the last pane all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct EarlyAndLate {
    early_records: Option<u64>,
    early_event_ms: Option<i64>,
    early_processing_ms: Option<i64>,
    late_records: Option<u64>,
}

impl EarlyAndLate {
    /// Fires on time only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Before the end of the window fires every `count` records; 0 counts as 1.
    #[must_use]
    pub fn early_every_records(self, count: u64) -> Self {
        EarlyAndLate { early_records: Some(count.max(1)), ..self }
    }

    /// Before the end of the window fires when the watermark reaches a multiple of `interval` that
    /// is behind a record which was in no pane yet.
    #[must_use]
    pub fn early_every(self, interval: Duration) -> Self {
        EarlyAndLate { early_event_ms: Some(duration_millis(interval).max(1)), ..self }
    }

    /// Before the end of the window fires when processing time reaches a multiple of `interval`,
    /// if a record has come since it last did.
    #[must_use]
    pub fn early_every_processing_time(self, interval: Duration) -> Self {
        EarlyAndLate { early_processing_ms: Some(duration_millis(interval).max(1)), ..self }
    }

    /// Fires for each late record.
    #[must_use]
    pub fn late_every_record(self) -> Self {
        self.late_every_records(1)
    }

    /// Fires every `count` late records; 0 counts as 1.
    #[must_use]
    pub fn late_every_records(self, count: u64) -> Self {
        EarlyAndLate { late_records: Some(count.max(1)), ..self }
    }
}

/// What [`EarlyAndLate`] remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EarlyAndLateState {
    early: u64,
    late: u64,
    event_time: Option<i64>,
    processing_time: Option<i64>,
}

/// The first multiple of `interval` after `time`.
fn next_multiple(time: i64, interval: i64) -> i64 {
    time.saturating_sub(time.rem_euclid(interval)).saturating_add(interval)
}

/// Registers the first multiple of the interval after `time`, unless one stands.
fn register_event<S>(
    context: &mut TriggerContext<'_, S>,
    stands: fn(&mut S) -> &mut Option<i64>,
    time: EventTime,
    interval: i64,
) {
    let after = time.max(context.watermark());
    let at = next_multiple(after.millis(), interval);
    let stands = stands(context.state);
    // A record of an earlier time makes it fire earlier.
    let earlier = stands.is_none_or(|stood| at < stood);
    if !earlier {
        return;
    }
    let before = stands.replace(at);
    if let Some(before) = before.filter(|before| EventTime::from_millis(*before) != context.due()) {
        context.delete_event_time(EventTime::from_millis(before));
    }
    if EventTime::from_millis(at) < context.due() {
        context.register_event_time(EventTime::from_millis(at));
    }
}

/// Registers the first multiple of the interval after now, unless one stands.
fn register_processing<S>(
    context: &mut TriggerContext<'_, S>,
    stands: fn(&mut S) -> &mut Option<i64>,
    interval: i64,
) {
    let at = next_multiple(context.now().millis(), interval);
    let stands = stands(context.state);
    if stands.is_none() {
        *stands = Some(at);
        context.register_processing_time(ProcessingTime::from_millis(at));
    }
}

impl<T> Trigger<T> for EarlyAndLate {
    type State = EarlyAndLateState;

    fn on_record(
        &self,
        _record: &T,
        time: EventTime,
        context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        if context.due() <= context.watermark() {
            context.state.late += 1;
            if self.late_records.is_none_or(|count| context.state.late < count) {
                return TriggerResult::Continue;
            }
            context.state.late = 0;
            return TriggerResult::Fire;
        }
        context.register_event_time(context.due());
        if let Some(interval) = self.early_event_ms {
            register_event(context, |state| &mut state.event_time, time, interval);
        }
        if let Some(interval) = self.early_processing_ms {
            register_processing(context, |state| &mut state.processing_time, interval);
        }
        context.state.early += 1;
        if self.early_records.is_none_or(|count| context.state.early < count) {
            return TriggerResult::Continue;
        }
        context.state.early = 0;
        TriggerResult::Fire
    }

    fn on_event_time(
        &self,
        time: EventTime,
        context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        if time != context.due() {
            context.state.event_time = None;
        }
        context.state.early = 0;
        TriggerResult::Fire
    }

    fn on_processing_time(
        &self,
        _time: ProcessingTime,
        context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        context.state.processing_time = None;
        if context.due() <= context.watermark() {
            return TriggerResult::Continue;
        }
        context.state.early = 0;
        TriggerResult::Fire
    }

    fn on_merge(&self, merged: &[Self::State], context: &mut TriggerContext<'_, Self::State>) {
        *context.state = EarlyAndLateState {
            early: merged.iter().map(|state| state.early).sum(),
            late: merged.iter().map(|state| state.late).sum(),
            event_time: merged.iter().filter_map(|state| state.event_time).min(),
            processing_time: merged.iter().filter_map(|state| state.processing_time).min(),
        };
        if context.due() <= context.watermark() {
            return;
        }
        context.register_event_time(context.due());
        let at = context.state.event_time.map(EventTime::from_millis);
        if let Some(at) = at.filter(|at| *at < context.due()) {
            context.register_event_time(at);
        }
        if let Some(at) = context.state.processing_time {
            context.register_processing_time(ProcessingTime::from_millis(at));
        }
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn is_accumulating(&self) -> bool {
        true
    }
}

/// Fires at multiples of an interval of event time, at the end of the window and for each late
/// record: [`EarlyAndLate`] with `early_every` and `late_every_record`.
#[derive(Clone, Copy, Debug)]
pub struct ContinuousEventTime;

impl ContinuousEventTime {
    /// The trigger that fires at multiples of `interval`.
    pub fn every(interval: Duration) -> EarlyAndLate {
        EarlyAndLate::new().early_every(interval).late_every_record()
    }
}

/// Fires at multiples of an interval of processing time, whatever the watermark says.
#[derive(Clone, Copy, Debug)]
pub struct ContinuousProcessingTime {
    interval_ms: i64,
}

impl ContinuousProcessingTime {
    /// The trigger that fires at multiples of `interval`.
    pub fn every(interval: Duration) -> Self {
        ContinuousProcessingTime { interval_ms: duration_millis(interval).max(1) }
    }
}

impl<T> Trigger<T> for ContinuousProcessingTime {
    /// When it fires, if that has been decided.
    type State = Option<i64>;

    fn on_record(
        &self,
        _record: &T,
        _time: EventTime,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        register_processing(context, |state| state, self.interval_ms);
        TriggerResult::Continue
    }

    fn on_processing_time(
        &self,
        _time: ProcessingTime,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        *context.state = None;
        TriggerResult::Fire
    }

    fn on_merge(&self, merged: &[Option<i64>], context: &mut TriggerContext<'_, Option<i64>>) {
        keep_earliest(merged, context);
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn is_accumulating(&self) -> bool {
        true
    }
}
