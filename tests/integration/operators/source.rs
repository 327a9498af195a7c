//! A source with points at which reading waits: for a checkpoint, a stop or a crash.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use thalweg::StopSignal;
use thalweg::engine::source::{ReadInto, ReadStatus, ReaderContext, Source, Split, SplitReader};
use thalweg::memory::MemorySource;
use thalweg::{Error, Result};

use super::data::Event;
use crate::process::checkpoint_numbers;

/// Records of one read, so that splits are read in turns.
const MOST_RECORDS: usize = 16;

/// What happens at a point.
#[derive(Clone)]
pub(crate) enum Then {
    /// Reading goes on when a checkpoint has been taken since.
    Checkpoint,
    /// The job is stopped.
    Stop(StopSignal),
    /// The job fails when a checkpoint has been taken since.
    Crash,
}

/// The points of one run, by the number of records read in it from all sources.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Points>>);

#[derive(Default)]
struct Points {
    checkpoints: PathBuf,
    read: u64,
    left: VecDeque<(u64, Then)>,
    /// The newest checkpoint when the first of `left` was reached.
    newest: Option<Option<u64>>,
}

impl Gate {
    pub(crate) fn new(checkpoints: PathBuf, points: Vec<(u64, Then)>) -> Self {
        let points = Points { checkpoints, left: points.into(), ..Points::default() };
        Gate(Arc::new(Mutex::new(points)))
    }

    fn points(&self) -> MutexGuard<'_, Points> {
        self.0.lock().expect("readers do not panic")
    }
}

impl Points {
    /// How many records may be read now.
    fn allowed(&mut self, max: usize) -> Result<usize> {
        loop {
            let Some((at, then)) = self.left.front().cloned() else { return Ok(max) };
            if self.read < at {
                return Ok(max.min((at - self.read) as usize));
            }
            if let Then::Stop(stop) = then {
                stop.stop();
                return Ok(0);
            }
            let newest = checkpoint_numbers(&self.checkpoints).last().copied();
            let before = *self.newest.get_or_insert(newest);
            if newest <= before {
                return Ok(0);
            }
            if let Then::Crash = then {
                return Err(Error::user("a crash that was planned"));
            }
            self.left.pop_front();
            self.newest = None;
        }
    }
}

/// A source with a gate.
pub(crate) struct Gated {
    pub(crate) source: MemorySource<Event>,
    pub(crate) gate: Gate,
}

impl Source for Gated {
    type Item = Event;
    type Dead = ();

    fn splits(&self) -> Result<Vec<Split>> {
        self.source.splits()
    }

    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<Event, ()>>> {
        let reader = self.source.reader(split, position, context)?;
        Ok(Box::new(GatedReader { reader, gate: self.gate.clone() }))
    }

    fn describe(&self) -> String {
        self.source.describe()
    }
}

struct GatedReader {
    reader: Box<dyn SplitReader<Event, ()>>,
    gate: Gate,
}

impl SplitReader<Event, ()> for GatedReader {
    fn read(&mut self, out: &mut ReadInto<'_, Event, ()>, max: usize) -> Result<ReadStatus> {
        let mut points = self.gate.points();
        let allowed = points.allowed(max.min(MOST_RECORDS))?;
        if allowed == 0 {
            return Ok(ReadStatus::Pending { until: Some(out.now.plus_millis(1)) });
        }
        let before = out.records.len();
        let status = self.reader.read(out, allowed)?;
        points.read += (out.records.len() - before) as u64;
        Ok(status)
    }

    fn position(&self) -> Vec<u8> {
        self.reader.position()
    }
}
