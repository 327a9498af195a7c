//! Triggers with one rule: at the end of the window, by count, by processing time, never; purging.

use thalweg_engine::{Data, EventTime, ProcessingTime};

use super::{Trigger, TriggerContext, TriggerResult};

/// Fires when the watermark reaches the end of the window, and for each record that is late within
/// the allowed lateness. What windows have unless they are given another trigger.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventTimeTrigger;

impl<T> Trigger<T> for EventTimeTrigger {
    type State = ();

    fn on_record(
        &self,
        _record: &T,
        _time: EventTime,
        context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        if context.due() <= context.watermark() {
            return TriggerResult::Fire;
        }
        context.register_event_time(context.due());
        TriggerResult::Continue
    }

    fn on_event_time(
        &self,
        time: EventTime,
        context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        if time == context.due() { TriggerResult::Fire } else { TriggerResult::Continue }
    }

    fn on_merge(&self, _merged: &[()], context: &mut TriggerContext<'_, ()>) {
        // Otherwise the record that merged the windows fires.
        if context.due() > context.watermark() {
            context.register_event_time(context.due());
        }
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn is_accumulating(&self) -> bool {
        true
    }
}

/// Never fires: a window gives out one pane, when it is final.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl<T> Trigger<T> for Never {
    type State = ();

    fn on_record(
        &self,
        _record: &T,
        _time: EventTime,
        _context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        TriggerResult::Continue
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn is_accumulating(&self) -> bool {
        true
    }
}

/// Fires when a window has got `count` records since it last fired.
#[derive(Clone, Copy, Debug)]
pub struct CountTrigger {
    count: u64,
}

impl CountTrigger {
    /// Fires every `count` records; 0 counts as 1.
    pub fn of(count: u64) -> Self {
        CountTrigger { count: count.max(1) }
    }
}

impl<T> Trigger<T> for CountTrigger {
    type State = u64;

    fn on_record(
        &self,
        _record: &T,
        _time: EventTime,
        context: &mut TriggerContext<'_, u64>,
    ) -> TriggerResult {
        *context.state += 1;
        if *context.state < self.count {
            return TriggerResult::Continue;
        }
        *context.state = 0;
        TriggerResult::Fire
    }

    fn on_merge(&self, merged: &[u64], context: &mut TriggerContext<'_, u64>) {
        *context.state = merged.iter().sum();
    }

    fn can_merge(&self) -> bool {
        true
    }

    fn is_accumulating(&self) -> bool {
        true
    }
}

/// Fires when processing time has gone on by `delay` since the first record, or the first since it
/// last fired.
#[derive(Clone, Copy, Debug)]
pub struct ProcessingTimeTrigger {
    delay_ms: i64,
}

impl ProcessingTimeTrigger {
    /// Fires `delay` after a record.
    pub fn after(delay: std::time::Duration) -> Self {
        ProcessingTimeTrigger { delay_ms: thalweg_engine::time::duration_millis(delay) }
    }
}

impl<T> Trigger<T> for ProcessingTimeTrigger {
    /// When it fires, if that has been decided.
    type State = Option<i64>;

    fn on_record(
        &self,
        _record: &T,
        _time: EventTime,
        context: &mut TriggerContext<'_, Option<i64>>,
    ) -> TriggerResult {
        if context.state.is_none() {
            let at = context.now().plus_millis(self.delay_ms);
            *context.state = Some(at.millis());
            context.register_processing_time(at);
        }
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

/// Of windows that merge, the earliest processing time stands.
pub(super) fn keep_earliest(merged: &[Option<i64>], context: &mut TriggerContext<'_, Option<i64>>) {
    *context.state = merged.iter().flatten().min().copied();
    if let Some(at) = *context.state {
        context.register_processing_time(ProcessingTime::from_millis(at));
    }
}

/// Another trigger that also purges whenever it fires: each pane holds what came since the one
/// before.
#[derive(Clone, Copy, Debug)]
pub struct Purging<Tr> {
    trigger: Tr,
}

impl<Tr> Purging<Tr> {
    /// Purges whenever `trigger` fires.
    pub fn of(trigger: Tr) -> Self {
        Purging { trigger }
    }
}

fn purging(result: TriggerResult) -> TriggerResult {
    if result.fires() { TriggerResult::FireAndPurge } else { result }
}

impl<T, S: Data + Default, Tr: Trigger<T, State = S>> Trigger<T> for Purging<Tr> {
    type State = S;

    fn on_record(
        &self,
        record: &T,
        time: EventTime,
        context: &mut TriggerContext<'_, S>,
    ) -> TriggerResult {
        purging(self.trigger.on_record(record, time, context))
    }

    fn on_event_time(&self, time: EventTime, context: &mut TriggerContext<'_, S>) -> TriggerResult {
        purging(self.trigger.on_event_time(time, context))
    }

    fn on_processing_time(
        &self,
        time: ProcessingTime,
        context: &mut TriggerContext<'_, S>,
    ) -> TriggerResult {
        purging(self.trigger.on_processing_time(time, context))
    }

    fn on_merge(&self, merged: &[S], context: &mut TriggerContext<'_, S>) {
        self.trigger.on_merge(merged, context);
    }

    fn clear(&self, context: &mut TriggerContext<'_, S>) {
        self.trigger.clear(context);
    }

    fn can_merge(&self) -> bool {
        self.trigger.can_merge()
    }
}
