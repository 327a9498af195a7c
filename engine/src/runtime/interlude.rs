//! The time before the regions of a job that have failed are deployed anew: the others work on.
//!
//! There is no checkpoint meanwhile, since one is of the whole job: output is prepared and not
//! committed, and a stop gives up what was done since the newest checkpoint.

use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use thalweg_checkpoint::SubtaskId;

use super::attempts::{History, Waited};
use super::clock::Clock;
use super::coordinate::{Failure, Report, TICK};
use super::threads::Threads;
use super::{Observer, SharedStore, StopSignal};
use crate::deploy::{Crew, Hands};
use crate::error::Error;
use crate::graph::{ExecutionPlan, JobGraph};
use crate::park::Parker;

/// See the module's documentation.
pub(crate) struct Interlude<'a> {
    pub(crate) of: (&'a JobGraph, &'a ExecutionPlan),
    pub(crate) store: Option<&'a SharedStore>,
    pub(crate) clock: Clock,
    pub(crate) stop: &'a StopSignal,
    pub(crate) history: &'a mut History,
    /// When it ends.
    pub(crate) until: Duration,
}

/// Why it has ended.
enum End {
    Over,
    Stopped,
    Failed(Error, Option<SubtaskId>),
}

impl Interlude<'_> {
    pub(crate) fn run(self, survivors: Crew, parkers: &[Parker], observer: Observer<'_>) -> Waited {
        let Crew { hands, desk } = survivors;
        self.history.progress.metrics = desk.metrics.clone();
        let Hands { subtasks, writer } = hands;
        let threads = match Threads::spawn(subtasks, writer, parkers, (self.store, self.clock)) {
            Ok(threads) => threads,
            Err(error) => return Waited::Failed(Failure { error, survivors: None }),
        };
        let end = self.watch(&threads, observer);
        threads.cancel();
        self.history.read.clear();
        let (hands, failed) = threads.join(&mut self.history.read);
        let (is_stopped, failed) = match end {
            End::Over => (false, failed),
            End::Stopped => (true, failed),
            End::Failed(error, subtask) => {
                (false, std::iter::once((error, subtask)).chain(failed).collect())
            }
        };
        let subtasks = failed.iter().map(|(_, subtask)| *subtask);
        let survivors = hands.and_then(|hands| Crew { hands, desk }.without(subtasks, self.of));
        match failed.into_iter().next() {
            _ if is_stopped => Waited::Stopped,
            Some((error, _)) => Waited::Failed(Failure { error, survivors }),
            None => Waited::Over(survivors),
        }
    }

    fn watch(&self, threads: &Threads, observer: Observer<'_>) -> End {
        loop {
            let now = self.clock.elapsed();
            if self.stop.is_requested() {
                return End::Stopped;
            }
            if now >= self.until {
                return End::Over;
            }
            match threads.reports.recv_timeout(TICK.min(self.until - now)) {
                Ok(Report::Failed(error, failed)) => return End::Failed(error, failed),
                // Told to the next coordinator, or about a checkpoint that was given up.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let mut progress = self.history.progress.clone();
                    progress.elapsed = self.clock.elapsed();
                    observer(&progress);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return End::Failed(Error::bug("all workers have gone"), None);
                }
            }
        }
    }
}
