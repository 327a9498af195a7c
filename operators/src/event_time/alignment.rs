//! Alignment: fast splits wait for slow ones, in one subtask and over all subtasks of a source.
//!
//! Each subtask publishes the least watermark of its active splits; the least of these is how far
//! the source has come. A split that is ahead of it by more than the drift is not read.
//!
//! Only the order of reading depends on it, no result.
//!
//! # Invariants
//! * I1: the slowest active split of all is never held: what is held goes on when it does.
//! * I2: splits that have finished or are idle do not count; a subtask without others publishes
//!   `MAX`.
//! * I3: a subtask first says that it holds a split and then looks at the others once more; a
//!   subtask that moves on first says so and then looks for those that hold. One of the two sees
//!   the other, so nobody is left waiting.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thalweg_engine::EventTime;
use thalweg_engine::park::Notifier;

/// The subtasks of one operator; made once, with the operator's factory.
#[derive(Default)]
pub(super) struct Alignment {
    subtasks: Mutex<Vec<Arc<Subtask>>>,
}

/// What the others see of a subtask.
struct Subtask {
    /// The least watermark of its active splits.
    watermark: AtomicI64,
    is_holding: AtomicBool,
    notifier: Notifier,
}

/// A subtask's place in the alignment.
pub(super) struct Member {
    alignment: Arc<Alignment>,
    /// All subtasks, this one included; empty until they are first asked for, because others are
    /// opened later.
    all: Vec<Arc<Subtask>>,
    me: Arc<Subtask>,
    drift_ms: i64,
}

impl Alignment {
    /// Takes the place of subtask `index` of `count`. All are opened before any is stepped, so
    /// what an earlier attempt left is replaced.
    pub(super) fn join(
        self: &Arc<Self>,
        index: usize,
        count: usize,
        drift_ms: i64,
        notifier: Notifier,
    ) -> Member {
        let me = Arc::new(Subtask {
            watermark: AtomicI64::new(i64::MIN),
            is_holding: AtomicBool::new(false),
            notifier,
        });
        let mut subtasks = self.lock();
        subtasks.truncate(count);
        match subtasks.get_mut(index) {
            Some(place) => *place = me.clone(),
            None => subtasks.push(me.clone()),
        }
        Member { alignment: self.clone(), all: Vec::new(), me, drift_ms }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Subtask>>> {
        self.subtasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Says how far the slowest active split of this subtask has come.
    pub(super) fn publish(&mut self, watermark: EventTime) {
        let watermark = watermark.millis();
        if self.me.watermark.swap(watermark, Ordering::SeqCst) == watermark {
            return;
        }
        self.me.is_holding.store(false, Ordering::SeqCst);
        self.look_around();
        for other in &self.all {
            if !Arc::ptr_eq(other, &self.me) && other.is_holding.swap(false, Ordering::SeqCst) {
                other.notifier.notify();
            }
        }
    }

    /// True if a split with this watermark is too far ahead.
    pub(super) fn is_ahead(&mut self, watermark: EventTime) -> bool {
        self.look_around();
        if watermark.millis() <= self.limit() {
            return false;
        }
        self.me.is_holding.store(true, Ordering::SeqCst);
        watermark.millis() > self.limit()
    }

    /// The greatest watermark of a split that may be read.
    fn limit(&self) -> i64 {
        let least = self.all.iter().map(|subtask| subtask.watermark.load(Ordering::SeqCst)).min();
        least.unwrap_or(i64::MIN).saturating_add(self.drift_ms)
    }

    fn look_around(&mut self) {
        if self.all.is_empty() {
            self.all.clone_from(&self.alignment.lock());
        }
    }
}
