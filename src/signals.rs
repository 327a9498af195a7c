//! Ctrl-C and SIGTERM: the first stops the job in order, the second at once.

use std::io::Write;
use std::sync::Arc;

use thalweg_engine::runtime::StopSignal;
use thalweg_engine::{Error, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit status of a process that was interrupted.
const INTERRUPTED: i32 = 130;

/// Gives `stop` and says so at the first signal; ends the process at the second.
///
/// The signals are watched by a tokio runtime on a thread of its own, which ends with the process.
pub(crate) fn install(stop: StopSignal, say: impl Fn(&str) + Send + Sync + 'static) -> Result<()> {
    let failed = |e| Error::unavailable("cannot watch for Ctrl-C").with_source(e);
    let runtime = Builder::new_current_thread().enable_io().build().map_err(failed)?;
    // From here on a signal no longer ends the process by itself.
    let (interrupt, terminate) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::interrupt()).map_err(failed)?,
            signal(SignalKind::terminate()).map_err(failed)?,
        )
    };
    let say: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(say);
    let watch = move || {
        runtime.spawn(obey(interrupt, stop.clone(), say.clone()));
        runtime.block_on(obey(terminate, stop, say));
    };
    #[expect(clippy::disallowed_methods, reason = "signals arrive outside of the job's threads")]
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
    Ok(())
}

async fn obey(mut signal: Signal, stop: StopSignal, say: Arc<dyn Fn(&str) + Send + Sync>) {
    while signal.recv().await.is_some() {
        if stop.is_requested() {
            // What was committed stays; the next start goes on from the last checkpoint.
            let _ = writeln!(std::io::stderr(), "interrupted");
            std::process::exit(INTERRUPTED);
        }
        stop.stop();
        say("stopping; once more to stop at once");
    }
}
