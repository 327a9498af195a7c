//! Calls to the world outside: futures that operators start and drivers run.
//!
//! # Place
//! An operator takes an [`External`] and a [`Notifier`](crate::park::Notifier) when it is opened.
//! It starts futures that keep their outcome somewhere it can find it, and notify it. Threads run
//! them on a tokio runtime (`runtime/external.rs`); the simulator polls them at moments that its
//! seed chooses (`sim/external.rs`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A call that somebody else carries out.
pub type ExternalCall = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who carries out calls.
pub(crate) trait Executor: Send + Sync {
    /// Takes a call; returns at once.
    fn spawn(&self, call: ExternalCall);
}

/// A handle by which an operator starts calls.
#[derive(Clone)]
pub struct External(Arc<dyn Executor>);

impl External {
    pub(crate) fn new(executor: Arc<dyn Executor>) -> Self {
        External(executor)
    }

    /// Starts a call. It may run on another thread, and is dropped unfinished when the job ends.
    pub fn spawn(&self, call: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(Box::pin(call));
    }
}

impl fmt::Debug for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("External")
    }
}
