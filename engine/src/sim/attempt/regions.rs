//! Regions of a simulated job that fail and are deployed anew (`deploy/crew.rs`).

use super::{Attempt, Mailbox, deploy, newest, times};
use crate::deploy::in_flight;
use crate::error::{Error, Result};
use crate::sim::World;

/// A region is missing for up to so many steps.
const MISSING_STEPS: usize = 300;

impl Attempt<'_> {
    /// A subtask has failed: its region is given up, and deployed anew some steps later. False if
    /// nothing goes on meanwhile.
    pub(super) fn lose_region(&mut self, world: &mut World) -> bool {
        let Some(failed) = self.failed.take().filter(|_| !world.store.is_crashed()) else {
            return false;
        };
        let is_first = self.restores_at.is_none();
        let goes_on = (!is_first || self.crew.leave(&self.coordinator))
            && self.crew.lose(failed, (self.graph, &self.execution));
        if is_first {
            self.restores_at = Some(self.steps + world.random.below(MISSING_STEPS) as u64);
        }
        // What was on its way to or from the coordinator is lost, as are its orders.
        (self.control, self.reports) = (Mailbox::new(), Mailbox::new());
        self.commands.clear();
        self.writes.clear();
        self.begin_steps(world);
        goes_on
    }

    /// Deploys the regions that are missing.
    pub(super) fn restore_regions(&mut self, world: &mut World) -> Result<()> {
        let restored = newest(self.graph, &world.store)?;
        let plan = in_flight::plan(self.graph, self.parallelism, restored.as_ref())?;
        if !plan.has_tasks_of(&self.execution) {
            return Err(Error::unavailable("the plan has changed: all is to be deployed anew"));
        }
        let (of, missing) = ((self.graph, &self.execution), &self.crew.desk.missing);
        let (deployment, committers) =
            deploy((self.plan, of), missing, restored.as_ref(), world, &self.external)?;
        self.crew.complete(deployment, committers);
        self.before.0 += self.coordinator.completed();
        self.before.1 += self.coordinator.aborted();
        self.coordinator = self.crew.coordinator(times(self.plan), world.now.millis());
        self.restores_at = None;
        self.regions_restarted += 1;
        self.begin_steps(world);
        Ok(())
    }

    /// The subtasks are others than before.
    fn begin_steps(&mut self, world: &mut World) {
        let count = self.crew.hands.subtasks.len();
        self.wake_at = vec![None; count];
        self.priorities = (0..count).map(|_| world.random.below(1000) as i64).collect();
        (self.current, self.idle_steps) = (0, 0);
    }

    /// Does one thing that can happen while a region is missing.
    pub(super) fn act_without(&mut self, world: &mut World) -> Result<()> {
        if world.random.is_chosen(25) {
            world.now = world.now.plus_millis(world.random.between(0, 3));
        }
        self.external.run(world.now, &mut world.random);
        match world.random.below(8) {
            0 => {
                // What fails is written another time.
                let _ = self.write_runs(world);
                Ok(())
            }
            _ => self.step(world).map(drop),
        }
    }
}
