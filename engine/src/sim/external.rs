//! Calls to the world outside under the simulator: polled on its one thread, at moments that the
//! seed chooses.
//!
//! A call is polled after a delay, and again after another for as long as it is pending. So it must
//! come to an end by being polled: a future that needs a runtime of its own (a socket, a timer of
//! tokio) is to be replaced by a model of it in tests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::random::Random;
use crate::external::{Executor, ExternalCall};
use crate::time::ProcessingTime;

/// The longest that a call takes to be polled, in milliseconds.
const DELAY_MAX_MS: i64 = 60;

/// Calls that are on their way.
#[derive(Default)]
pub(super) struct SimExternal {
    spawned: Arc<Spawned>,
    calls: Vec<(ProcessingTime, ExternalCall)>,
}

/// Calls that operators have started and the simulator has not seen yet.
#[derive(Default)]
pub(crate) struct Spawned(Mutex<Vec<ExternalCall>>);

impl Executor for Spawned {
    fn spawn(&self, call: ExternalCall) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

impl Spawned {
    pub(crate) fn take(&self) -> Vec<ExternalCall> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SimExternal {
    pub(super) fn executor(&self) -> Arc<dyn Executor> {
        self.spawned.clone()
    }

    /// When the next call is polled.
    pub(super) fn next_at(&self) -> Option<ProcessingTime> {
        self.calls.iter().map(|(at, _)| *at).min()
    }

    /// Polls what is due; true if a call has ended.
    pub(super) fn run(&mut self, now: ProcessingTime, random: &mut Random) -> bool {
        for call in self.spawned.take() {
            self.calls.push((now.plus_millis(random.between(0, DELAY_MAX_MS)), call));
        }
        let before = self.calls.len();
        let due: Vec<_> = self.calls.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, mut call) in due {
            if poll(&mut call).is_pending() {
                self.calls.push((now.plus_millis(random.between(1, DELAY_MAX_MS)), call));
            }
        }
        self.calls.len() < before
    }
}

/// Polls a call once. One that panics has ended, as on a runtime.
pub(crate) fn poll(call: &mut ExternalCall) -> Poll<()> {
    let mut context = Context::from_waker(Waker::noop());
    catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut context))).unwrap_or(Poll::Ready(()))
}
