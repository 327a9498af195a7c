//! Parking and waking of workers: a waker is a cheap handle that ends one worker's sleep.
//!
//! # Protocol
//! (1) A worker that finds nothing to do announces its sleep, (2) looks once more at everything,
//! (3) parks. A waker first makes its work visible (it pushed or popped), then (4) takes the
//! announcement back and, if there was one, unparks. The fences in (1) and (4) order the
//! announcement before the second look and the work before the check: either the worker sees the
//! work or the waker sees the announcement. Without a sleeper a wake-up costs one load.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// Wakes one worker. The default value wakes nobody: the simulator needs no waking.
#[derive(Clone, Default)]
pub struct Waker(Option<Arc<Shared>>);

#[derive(Default)]
struct Shared {
    asleep: AtomicBool,
    /// Who sleeps: the thread that announced it last.
    thread: Mutex<Option<Thread>>,
}

impl Waker {
    /// Ends the worker's sleep, or keeps it from falling asleep.
    #[inline]
    pub fn wake(&self) {
        let Some(shared) = &self.0 else { return };
        fence(Ordering::SeqCst);
        if shared.asleep.load(Ordering::Relaxed) && shared.asleep.swap(false, Ordering::SeqCst) {
            let thread = shared.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.iter().for_each(Thread::unpark);
        }
    }
}

/// Tells an operator that something has happened outside: its `on_time` is called soon.
#[derive(Clone)]
pub struct Notifier {
    pub(crate) flag: Arc<AtomicBool>,
    pub(crate) waker: Waker,
}

impl Notifier {
    /// Causes a call of [`Operator::on_time`](crate::Operator::on_time), from any thread.
    pub fn notify(&self) {
        self.flag.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// One worker's place to sleep. Workers of later attempts take the places of earlier ones, whose
/// wakers may still be in use.
#[derive(Clone)]
pub(crate) struct Parker(Arc<Shared>);

impl Parker {
    pub(crate) fn new() -> Self {
        Parker(Arc::default())
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(Some(self.0.clone()))
    }

    /// Step 1: announces that the calling thread is about to sleep.
    pub(crate) fn announce(&self) {
        let mut thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_none_or(|thread| thread.id() != std::thread::current().id()) {
            *thread = Some(std::thread::current());
        }
        drop(thread);
        self.0.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back: step 2 found work.
    pub(crate) fn retract(&self) {
        self.0.asleep.store(false, Ordering::SeqCst);
    }

    /// Step 3: sleeps until woken, or until `timeout` has passed.
    pub(crate) fn park(&self, timeout: Option<Duration>) {
        if self.0.asleep.load(Ordering::SeqCst) {
            match timeout {
                Some(timeout) => std::thread::park_timeout(timeout),
                None => std::thread::park(),
            }
        }
        self.retract();
    }
}
