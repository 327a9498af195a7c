//! What is kept of one key's window, and where its timers stand.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use thalweg_engine::state::{Namespace, SlicedTable, codec};
use thalweg_engine::{EventTime, Key, Result};

use crate::window::Window;
use crate::window::trigger::Timer;

/// One key's window.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Entry<C, S, U> {
    pub(super) window: Window,
    pub(super) contents: C,
    /// The trigger's state.
    pub(super) trigger: S,
    /// The function's state.
    pub(super) state: U,
    /// Records since the last purge.
    pub(super) records: u64,
    /// Records since the last pane.
    pub(super) fresh: u64,
    pub(super) panes: u64,
    /// The greatest time of a record.
    pub(super) latest: EventTime,
    pub(super) timers: Vec<Timer>,
    /// The rows of the updates that stand; more than one if windows have merged since.
    pub(super) shown: Vec<Shown>,
}

/// A row that the updates have shown last.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shown {
    pub(super) window: Window,
    pub(super) value: Vec<u8>,
}

impl<C, S: Default, U: Default> Entry<C, S, U> {
    pub(super) fn new(window: Window, contents: C) -> Self {
        Entry {
            window,
            contents,
            trigger: S::default(),
            state: U::default(),
            records: 0,
            fresh: 0,
            panes: 0,
            latest: EventTime::MIN,
            timers: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// Takes in a later window that it has merged with, but for what the trigger keeps.
    pub(super) fn absorb(&mut self, other: &mut Self) {
        self.records += other.records;
        self.fresh += other.fresh;
        self.panes = self.panes.max(other.panes);
        self.latest = self.latest.max(other.latest);
        self.shown.append(&mut other.shown);
    }
}

/// What comes first of what is due at one time, for one key and window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Step {
    /// A timer of the trigger.
    Timer,
    /// The window is final.
    Final,
}

/// Something to be done for a key at a time.
pub(super) struct Ready<K> {
    pub(super) time: i64,
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) window: Window,
    pub(super) step: Step,
}

/// A change of where timers stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stand {
    pub(super) window: Window,
    pub(super) at: Standing,
    pub(super) is_set: bool,
}

/// What stands at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// A timer of the trigger.
    Trigger(Timer),
    /// The end of a window that merges.
    Final(i64),
}

/// Timers by time and key; the value is the windows of the key that have one.
pub(super) type Timers<K> = SlicedTable<K, Vec<Window>>;

/// Sets or takes back the timer of a key and window.
pub(super) fn stand<K: Key>(
    timers: &mut Timers<K>,
    namespace: Namespace,
    (hash, key): (u64, &K),
    window: Window,
    is_set: bool,
) -> Result<()> {
    if is_set {
        return Ok(timers.slice(namespace).update(hash, key, Vec::new, |windows| {
            if !windows.contains(&window) {
                windows.push(window);
            }
        })?);
    }
    let Some(slice) = timers.get_slice(namespace) else { return Ok(()) };
    if slice.get(hash, key)?.is_none() {
        return Ok(());
    }
    let is_last = slice.update(hash, key, Vec::new, |windows| {
        windows.retain(|stands| *stands != window);
        windows.is_empty()
    })?;
    if is_last {
        slice.remove(hash, key)?;
    }
    Ok(())
}

/// Adds what stands in a slice of timers to `ready`; a slice without timers is dropped.
pub(super) fn collect<K: Key>(
    timers: &mut Timers<K>,
    namespace: Namespace,
    step: Step,
    ready: &mut Vec<Ready<K>>,
) -> Result<()> {
    let Some(slice) = timers.get_slice(namespace) else { return Ok(()) };
    if slice.is_empty() {
        return Ok(timers.drop_slice(namespace)?);
    }
    let time = namespace.0;
    slice.for_each(|key, hash, windows| {
        for &window in windows {
            ready.push(Ready { time, hash, key: key.clone(), window, step });
        }
    })?;
    Ok(())
}

/// Brings what is due at one time into the order of (encoded key, window, step), each once.
pub(super) fn in_order<K: Key>(ready: Vec<Ready<K>>) -> Result<VecDeque<Ready<K>>> {
    let mut sorted = Vec::with_capacity(ready.len());
    for ready in ready {
        let mut encoded = Vec::new();
        codec::encode_key(&ready.key, &mut encoded)?;
        sorted.push((encoded, ready));
    }
    let order = |ready: &Ready<K>| (ready.window, ready.step);
    sorted.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| order(x).cmp(&order(y))));
    sorted.dedup_by(|(a, x), (b, y)| a == b && order(x) == order(y));
    Ok(sorted.into_iter().map(|(_, ready)| ready).collect())
}
