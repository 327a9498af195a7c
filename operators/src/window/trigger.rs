//! `Trigger`: when a window gives out what it holds so far, and when it forgets it.
//!
//! Triggers decide on *panes*, which [`PaneOutput::panes`](crate::PaneOutput::panes) and
//! [`PaneOutput::updates`](crate::PaneOutput::updates) give out. The final result of a window does
//! not depend on its trigger, unless that purges.
//!
//! The interface and the rules of the triggers are those of Flink's `Trigger` and of the triggers
//! that come with it, with one difference: a trigger that fires at intervals waits for a record
//! before it fires again, and a watermark that passes several of its times makes it fire once.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use thalweg_engine::EventTime;
//! use thalweg_operators::{Trigger, TriggerContext, TriggerResult};
//!
//! /// Fires when a reading is above a limit.
//! struct Above(f64);
//!
//! impl Trigger<f64> for Above {
//!     type State = ();
//!
//!     fn on_record(
//!         &self,
//!         reading: &f64,
//!         _time: EventTime,
//!         _context: &mut TriggerContext<'_, ()>,
//!     ) -> TriggerResult {
//!         if *reading > self.0 { TriggerResult::Fire } else { TriggerResult::Continue }
//!     }
//!
//!     fn is_accumulating(&self) -> bool {
//!         true
//!     }
//! }
//! ```

mod early_and_late;
mod simple;

use serde::{Deserialize, Serialize};
use thalweg_engine::{Data, EventTime, ProcessingTime};

pub use early_and_late::{ContinuousEventTime, ContinuousProcessingTime, EarlyAndLate};
pub use simple::{CountTrigger, EventTimeTrigger, Never, ProcessingTimeTrigger, Purging};

use super::Window;

/// What a trigger wants to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// A pane is given out; the window keeps what it holds.
    Fire,
    /// The window forgets what it holds, and gives nothing out. Its trigger's state and timers
    /// stay.
    Purge,
    /// A pane is given out, then the window forgets what it holds.
    FireAndPurge,
}

impl TriggerResult {
    /// True if a pane is to be given out.
    pub fn fires(self) -> bool {
        matches!(self, TriggerResult::Fire | TriggerResult::FireAndPurge)
    }

    /// True if the window is to forget what it holds.
    pub fn purges(self) -> bool {
        matches!(self, TriggerResult::Purge | TriggerResult::FireAndPurge)
    }
}

/// Decides when windows give out panes. One trigger serves all keys and windows; what it has to
/// remember is in [`State`](Trigger::State), one per key and window.
pub trait Trigger<T>: Send + Sync + 'static {
    /// What it remembers for a key and window.
    type State: Data + Default;

    /// A record has been added to the window.
    fn on_record(
        &self,
        record: &T,
        time: EventTime,
        context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult;

    /// The watermark has reached a time that was registered.
    fn on_event_time(
        &self,
        time: EventTime,
        context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        let _ = (time, context);
        TriggerResult::Continue
    }

    /// Processing time has reached a time that was registered.
    fn on_processing_time(
        &self,
        time: ProcessingTime,
        context: &mut TriggerContext<'_, Self::State>,
    ) -> TriggerResult {
        let _ = (time, context);
        TriggerResult::Continue
    }

    /// Windows with the states `merged` have become one, whose state is new. The timers of the
    /// merged windows are gone: those that are still needed are registered again here.
    fn on_merge(&self, merged: &[Self::State], context: &mut TriggerContext<'_, Self::State>) {
        let _ = (merged, context);
    }

    /// The window is final; its state and timers are dropped after this call.
    fn clear(&self, context: &mut TriggerContext<'_, Self::State>) {
        let _ = context;
    }

    /// True if `on_merge` is written: only then the trigger can be used with windows that merge.
    fn can_merge(&self) -> bool {
        false
    }

    /// True if it never purges. Then it does not change the final result of a window, and is not
    /// asked at all where only final results are.
    fn is_accumulating(&self) -> bool {
        false
    }
}

/// What a trigger sees and can do.
pub struct TriggerContext<'a, S> {
    /// The state of the key and window.
    pub state: &'a mut S,
    pub(super) window: Window,
    pub(super) due: EventTime,
    pub(super) watermark: EventTime,
    pub(super) now: ProcessingTime,
    pub(super) changes: &'a mut Vec<TimerChange>,
}

impl<S> TriggerContext<'_, S> {
    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// The watermark at which the window is on time: its last instant; for a session its end,
    /// because a record at the end would still extend it.
    pub fn due(&self) -> EventTime {
        self.due
    }

    /// The operator's watermark.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// Processing time.
    pub fn now(&self) -> ProcessingTime {
        self.now
    }

    /// Asks for a call of `on_event_time` when the watermark has reached `time`, which may be past;
    /// once per key, window and time. At the end of the input all timers are called, and what they
    /// ask for then is not.
    pub fn register_event_time(&mut self, time: EventTime) {
        self.changes.push(TimerChange { timer: Timer::Event(time.millis()), is_set: true });
    }

    /// Takes an event-time timer back.
    pub fn delete_event_time(&mut self, time: EventTime) {
        self.changes.push(TimerChange { timer: Timer::Event(time.millis()), is_set: false });
    }

    /// Asks for a call of `on_processing_time` when processing time has reached `time`.
    pub fn register_processing_time(&mut self, time: ProcessingTime) {
        self.changes.push(TimerChange { timer: Timer::Processing(time.millis()), is_set: true });
    }

    /// Takes a processing-time timer back.
    pub fn delete_processing_time(&mut self, time: ProcessingTime) {
        self.changes.push(TimerChange { timer: Timer::Processing(time.millis()), is_set: false });
    }
}

/// A timer of a key and window, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) enum Timer {
    Event(i64),
    Processing(i64),
}

/// What a trigger has asked for during a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimerChange {
    pub(super) timer: Timer,
    pub(super) is_set: bool,
}
