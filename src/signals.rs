//! Ctrl-C and SIGTERM: the first stops the job in order, the second at once.

use std::io::Write;

use thalweg_engine::runtime::StopSignal;
use thalweg_engine::{Error, Result};

/// The exit status of a process that was interrupted.
const INTERRUPTED: i32 = 130;

/// Gives `stop` and says so at the first signal; ends the process at the second.
pub(crate) fn install(stop: StopSignal, say: impl Fn(&str) + Send + 'static) -> Result<()> {
    let handler = move || {
        if stop.is_requested() {
            // What was committed stays; the next start goes on from the last checkpoint.
            let _ = writeln!(std::io::stderr(), "interrupted");
            std::process::exit(INTERRUPTED);
        }
        stop.stop();
        say("stopping; once more to stop at once");
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Error::unavailable("cannot watch for Ctrl-C").with_source(e))
}
