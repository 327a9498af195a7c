//! A worker: a thread that steps its own subtasks and sleeps when none can move.
//!
//! Inputs are drained first, then each source takes one step: measured to be the best order (one
//! source step per round keeps channels short and caches warm).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use thalweg_checkpoint::SubtaskId;

use super::clock::Clock;
use super::coordinate::Report;
use crate::decider::RoundRobin;
use crate::error::{Error, Result};
use crate::park::Parker;
use crate::state_writer::WriteRequest;
use crate::subtask::{Control, Effect, Next, Subtask};
use crate::time::ProcessingTime;

/// Rounds without work before a worker goes to sleep: some 20 to 40 µs, what a sleep and a wake-up
/// cost in processor time.
const SPIN_ROUNDS: u32 = 100;
/// Operator calls and inputs of one step of a subtask that reads channels.
const CHANNEL_BUDGET: u32 = 64;

/// What a worker thread owns.
pub(crate) struct Worker {
    pub(crate) subtasks: Vec<Subtask>,
    pub(crate) control: Receiver<(SubtaskId, Control)>,
    pub(crate) reports: Sender<Report>,
    pub(crate) writer: Sender<WriteRequest>,
    pub(crate) parker: Parker,
    pub(crate) clock: Clock,
    pub(crate) is_cancelled: Arc<AtomicBool>,
    /// The subtask that has failed.
    pub(crate) failed: Option<SubtaskId>,
}

/// What one round over all subtasks came to.
struct Round {
    has_moved: bool,
    wake_at: Option<ProcessingTime>,
    is_done: bool,
}

impl Worker {
    /// Runs until all subtasks are done, one fails, or the run is cancelled. Returns the subtasks.
    pub(crate) fn run(mut self) -> Vec<Subtask> {
        let subtasks: Vec<String> = self.subtasks.iter().map(|s| s.id.to_string()).collect();
        let _span = tracing::debug_span!("worker", subtasks = subtasks.join(" ")).entered();
        // Channel readers first, sources last.
        self.subtasks.sort_by_key(Subtask::is_source);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.rounds())).unwrap_or_else(|_| {
            Err(Error::bug("a worker panicked outside of user code, see the message above"))
        });
        if let Err(error) = outcome {
            // If the coordinator is gone the run has ended already.
            let _ = self.reports.send(Report::Failed(error, self.failed));
        }
        let read = self.subtasks.iter().flat_map(Subtask::records_read).collect();
        let _ = self.reports.send(Report::Read(read));
        self.subtasks
    }

    fn rounds(&mut self) -> Result<()> {
        let mut decider = RoundRobin::default();
        let mut idle_rounds = 0;
        loop {
            if self.is_cancelled.load(Ordering::Relaxed) {
                return Ok(());
            }
            let round = self.round(&mut decider)?;
            if round.is_done {
                return Ok(());
            }
            if round.has_moved {
                idle_rounds = 0;
                continue;
            }
            idle_rounds += 1;
            if idle_rounds < SPIN_ROUNDS {
                std::hint::spin_loop();
                continue;
            }
            self.sleep(&mut decider)?;
            idle_rounds = 0;
        }
    }

    /// Announces the sleep, looks once more, then parks.
    fn sleep(&mut self, decider: &mut RoundRobin) -> Result<()> {
        self.parker.announce();
        let round = self.round(decider)?;
        if round.has_moved || round.is_done || self.is_cancelled.load(Ordering::SeqCst) {
            self.parker.retract();
            return Ok(());
        }
        let now = self.clock.now();
        let timeout = round.wake_at.map(|at| {
            Duration::from_millis(u64::try_from(at.millis() - now.millis()).unwrap_or(0).max(1))
        });
        self.parker.park(timeout);
        Ok(())
    }

    fn round(&mut self, decider: &mut RoundRobin) -> Result<Round> {
        let mut round = Round { has_moved: false, wake_at: None, is_done: true };
        while let Ok((id, control)) = self.control.try_recv() {
            round.has_moved = true;
            if let Some(subtask) = self.subtasks.iter_mut().find(|subtask| subtask.id == id) {
                subtask.handle(control);
            }
        }
        let now = self.clock.now();
        for subtask in &mut self.subtasks {
            let budget = if subtask.is_source() { subtask.one_read() } else { CHANNEL_BUDGET };
            let step = subtask.step(now, decider, budget).inspect_err(|_| {
                self.failed = Some(subtask.id);
            })?;
            round.has_moved |= step.has_moved;
            match step.next {
                Next::Now => round.has_moved = true,
                Next::Wait { wake_at: Some(at) } => {
                    round.wake_at = Some(round.wake_at.map_or(at, |wake_at| wake_at.min(at)));
                }
                Next::Wait { wake_at: None } | Next::Never => {}
            }
            round.is_done &= step.next == Next::Never;
            while let Some(effect) = subtask.poll_effect() {
                let id = subtask.id;
                // A closed channel means that the run is being cancelled.
                match effect {
                    Effect::Capture(capture) => {
                        let _ = self.writer.send(WriteRequest {
                            subtask: id,
                            key_groups: subtask.key_groups,
                            capture,
                        });
                    }
                    Effect::Drained => {
                        let _ = self.reports.send(Report::Drained(id));
                    }
                    Effect::Commit { sink, committables } => {
                        let _ = self.reports.send(Report::Commit { sink, committables });
                    }
                }
            }
        }
        Ok(round)
    }
}
