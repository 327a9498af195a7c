//! Panes: what a window gives out before it is final, and the streams of a triggered window.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::state::codec;
use thalweg_engine::{Batch, Context, Data, Element, Key, Operator, Outputs, Result};

use super::{Window, WindowResult};
use crate::change::Change;
use crate::stream::Stream;

/// When a pane was given out, seen from the operator's watermark.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum PaneTiming {
    /// Before the watermark reached the end of the window.
    Early,
    /// Because it did.
    OnTime,
    /// After it had.
    Late,
}

/// Which pane of a window it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PaneInfo {
    /// The number of panes that the key and window gave out before, of those merged into it the
    /// greatest one.
    pub index: u64,
    /// Early, on time or late.
    pub timing: PaneTiming,
    /// True if no record could be added to the window any more when it was given out.
    pub is_final: bool,
}

/// What a key's window held when its trigger fired, or when it was final with records that were in
/// no pane before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pane<K, R> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
    /// The result of what the window held.
    pub value: R,
    /// Which pane it is.
    pub info: PaneInfo,
}

/// What a window with a trigger, an evictor or a function gives out. What is not asked for is not
/// computed.
///
/// A window *accumulates*, unless its trigger purges: each pane holds all records so far, and the
/// last pane is the final result. Where the trigger purges (`Purging::of`), a pane holds what came
/// since the last purge, so that each record is in one pane: sums over panes are sums over records,
/// and [`results`](Self::results) has only what came after the last purge.
pub struct PaneOutput<K, T, R> {
    pub(super) results: Stream<WindowResult<K, R>>,
    pub(super) wanted: Arc<Wanted<R>>,
    pub(super) records: PhantomData<fn() -> T>,
}

impl<K: Key, T: Data, R: Element> PaneOutput<K, T, R> {
    /// Each window's result, once, when it is final: when the watermark has passed its last instant
    /// by the allowed lateness.
    pub fn results(&self) -> Stream<WindowResult<K, R>> {
        self.wanted.results.store(true, Ordering::Relaxed);
        self.results.clone()
    }

    /// Every pane, as the trigger fires. Depends on the order of arrival: level D2.
    ///
    /// Panes have the time of the window's last instant. A window without an end gives them the
    /// time of its latest record, or, if that is behind the watermark, the first time after it.
    #[track_caller]
    pub fn panes(&self) -> Stream<Pane<K, R>> {
        self.wanted.panes.store(true, Ordering::Relaxed);
        self.project("panes", Level::D2, |side| match side {
            WindowSide::Pane(pane) => Some(pane),
            _ => None,
        })
    }

    /// The panes as changes of a table with a row per key and window: an `Insert` for the first
    /// pane of a window, then an `UpdateBefore` with the row as it was and an `UpdateAfter`; a pane
    /// that changes nothing gives nothing. When sessions merge, the rows of all but one of them
    /// become a `Delete` with the next pane. After a purge the next pane is an `Insert` again, and
    /// nothing is taken back. Depends on the order of arrival: level D2.
    ///
    /// # Cost
    /// Keeps the encoded row of each open window.
    #[track_caller]
    pub fn updates(&self) -> Stream<Change<WindowResult<K, R>>>
    where
        R: Data,
    {
        // Set again, it is the same.
        let _ = self.wanted.updates.set(RowCodec { encode: encode::<R>, decode: decode::<R> });
        self.project("updates", Level::D2, |side| match side {
            WindowSide::Update(change) => Some(change),
            _ => None,
        })
    }

    /// The records that no window accepts. They are counted whether this is used or not.
    #[track_caller]
    pub fn late(&self) -> Stream<T> {
        self.project("late", Level::D4, |side| match side {
            WindowSide::Late(record) => Some(record),
            _ => None,
        })
    }

    #[track_caller]
    fn project<U: Element>(
        &self,
        what: &'static str,
        level: Level,
        of: fn(WindowSide<K, T, R>) -> Option<U>,
    ) -> Stream<U> {
        let mut spec = OperatorSpec::stateless(what, Location::caller());
        spec.level = level;
        self.results.job.operator(&self.results.side(), spec, move || Project { of })
    }
}

fn encode<R: Data>(value: &R) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes)?;
    Ok(bytes)
}

fn decode<R: Data>(bytes: &[u8]) -> Result<R> {
    Ok(codec::decode(bytes)?)
}

/// Which streams of an operator are used. Set while the job is built, read when it is deployed.
pub(super) struct Wanted<R> {
    results: AtomicBool,
    panes: AtomicBool,
    updates: OnceLock<RowCodec<R>>,
}

impl<R> Default for Wanted<R> {
    fn default() -> Self {
        Wanted {
            results: AtomicBool::new(false),
            panes: AtomicBool::new(false),
            updates: OnceLock::new(),
        }
    }
}

impl<R> Wanted<R> {
    pub(super) fn wants_results(&self) -> bool {
        self.results.load(Ordering::Relaxed)
    }

    pub(super) fn wants_panes(&self) -> bool {
        self.panes.load(Ordering::Relaxed)
    }

    pub(super) fn updates(&self) -> Option<&RowCodec<R>> {
        self.updates.get()
    }

    /// What a job does that uses these streams.
    #[cfg(test)]
    pub(super) fn of(results: bool, panes: bool, updates: bool) -> Self
    where
        R: Data,
    {
        let wanted = Self::default();
        wanted.results.store(results, Ordering::Relaxed);
        wanted.panes.store(panes, Ordering::Relaxed);
        if updates {
            let _ = wanted.updates.set(RowCodec { encode: encode::<R>, decode: decode::<R> });
        }
        wanted
    }
}

/// How the rows shown last are kept: results need not be storable unless updates are asked for.
pub(super) struct RowCodec<R> {
    pub(super) encode: fn(&R) -> Result<Vec<u8>>,
    pub(super) decode: fn(&[u8]) -> Result<R>,
}

/// The side output of the operator.
#[derive(Clone, Debug)]
pub(super) enum WindowSide<K, T, R> {
    Late(T),
    Pane(Pane<K, R>),
    Update(Change<WindowResult<K, R>>),
}

/// Picks one of the streams of a side output.
struct Project<S, U> {
    of: fn(S) -> Option<U>,
}

impl<S: Element, U: Element> Operator for Project<S, U> {
    type In = S;
    type Out = U;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<S>,
        out: &mut Outputs<'_, U, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        input.filter_map_into(out.main, self.of);
        Ok(())
    }
}
