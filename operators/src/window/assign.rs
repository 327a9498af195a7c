//! `Assign`: the windows of a record, one by one, for windows that are not sliced.

use thalweg_engine::EventTime;

use super::{GlobalWindow, Session, Window, WindowAssigner};

/// Into which windows a record goes: those of every [`WindowAssigner`], [`Session`],
/// [`GlobalWindow`], or others that a user writes.
pub trait Assign<T>: Send + Sync + 'static {
    /// Adds the windows of a record to `windows`, in ascending order. Windows that merge are one
    /// per record. A window that ends at [`EventTime::MAX`] has no end.
    fn assign(&self, record: &T, time: EventTime, windows: &mut Vec<Window>);

    /// True if windows of a key that overlap or touch become one: sessions.
    fn merges(&self) -> bool {
        false
    }

    /// False if records without an event time can be assigned.
    fn needs_event_time(&self) -> bool {
        true
    }

    /// What is wrong with how it was made.
    fn problem(&self) -> Option<String> {
        None
    }

    /// What it is called in plans.
    fn name(&self) -> &'static str;
}

impl<T, W: WindowAssigner> Assign<T> for W {
    fn assign(&self, _record: &T, time: EventTime, windows: &mut Vec<Window>) {
        let (time, size, slide) = (time.millis(), self.size_ms(), self.slide_ms());
        let last = time - (time - self.offset_ms()).rem_euclid(slide);
        let first = windows.len();
        let mut start = last;
        while start > time - size {
            windows.push(Window {
                start: EventTime::from_millis(start),
                end: EventTime::from_millis(start + size),
            });
            start -= slide;
        }
        windows[first..].reverse();
    }

    fn problem(&self) -> Option<String> {
        WindowAssigner::problem(self)
    }

    fn name(&self) -> &'static str {
        WindowAssigner::name(self)
    }
}

impl<T: 'static> Assign<T> for Session<T> {
    fn assign(&self, record: &T, time: EventTime, windows: &mut Vec<Window>) {
        windows.push(Window { start: time, end: time.shifted(self.gap_of(record)) });
    }

    fn merges(&self) -> bool {
        true
    }

    fn problem(&self) -> Option<String> {
        Session::problem(self)
    }

    fn name(&self) -> &'static str {
        "session window"
    }
}

impl<T> Assign<T> for GlobalWindow {
    fn assign(&self, _record: &T, _time: EventTime, windows: &mut Vec<Window>) {
        windows.push(Window { start: EventTime::MIN, end: EventTime::MAX });
    }

    fn needs_event_time(&self) -> bool {
        false
    }

    fn name(&self) -> &'static str {
        "global window"
    }
}
