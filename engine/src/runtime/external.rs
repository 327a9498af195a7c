//! Calls to the world outside on a tokio runtime with a thread of its own, started by the first.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use crate::external::{Executor, ExternalCall};

/// Runs calls on tokio.
#[derive(Default)]
pub(crate) struct TokioExecutor(OnceLock<Runtime>);

impl Executor for TokioExecutor {
    fn spawn(&self, call: ExternalCall) {
        let runtime = self.0.get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("thalweg-async")
                .enable_all()
                .build()
                .expect("a thread can be started, as the workers were")
        });
        runtime.spawn(call);
    }
}

impl Drop for TokioExecutor {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Calls that nobody waits for any more are dropped where they stand.
            runtime.shutdown_background();
        }
    }
}
