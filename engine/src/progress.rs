//! What can be seen of a job while it runs and when it has ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{Counter, OperatorMetrics};
use crate::time::EventTime;

/// All counters of a job, by operator.
#[derive(Clone, Default)]
pub struct JobMetrics {
    operators: Vec<OperatorEntry>,
    /// Counts of earlier runs, from the restored checkpoint, by `operator/counter`.
    restored: BTreeMap<String, u64>,
    /// Counts at the start of this run, if it has been started again since.
    begun: Option<BTreeMap<String, u64>>,
    expected_records: Option<u64>,
}

#[derive(Clone)]
struct OperatorEntry {
    name: String,
    is_source: bool,
    is_time_origin: bool,
    subtasks: Vec<Arc<OperatorMetrics>>,
}

impl JobMetrics {
    pub(crate) fn new(restored: BTreeMap<String, u64>, expected_records: Option<u64>) -> Self {
        JobMetrics { operators: Vec::new(), restored, begun: None, expected_records }
    }

    pub(crate) fn register(
        &mut self,
        name: &str,
        is_source: bool,
        is_time_origin: bool,
    ) -> Arc<OperatorMetrics> {
        let metrics = Arc::new(OperatorMetrics::default());
        if !self.operators.iter().any(|entry| entry.name == name) {
            // The counts of earlier runs go on in the first subtask, so that they are part of the
            // next checkpoint too.
            for counter in Counter::ALL {
                metrics.add(counter, self.restored(name, counter));
            }
        }
        match self.operators.iter_mut().find(|entry| entry.name == name) {
            Some(entry) => entry.subtasks.push(metrics.clone()),
            None => self.operators.push(OperatorEntry {
                name: name.to_owned(),
                is_source,
                is_time_origin,
                subtasks: vec![metrics.clone()],
            }),
        }
        metrics
    }

    /// Takes over what is counted by operators that were deployed anew.
    pub(crate) fn replace(&mut self, anew: JobMetrics) {
        let is_anew = |key: &String| {
            let operator = key.rsplit_once('/').map(|(operator, _)| operator);
            anew.operators.iter().any(|entry| Some(entry.name.as_str()) == operator)
        };
        self.restored.retain(|key, _| !is_anew(key));
        self.restored.extend(
            anew.restored
                .iter()
                .filter(|(key, _)| is_anew(key))
                .map(|(key, count)| (key.clone(), *count)),
        );
        for entry in anew.operators {
            match self.operators.iter_mut().find(|old| old.name == entry.name) {
                Some(old) => *old = entry,
                None => self.operators.push(entry),
            }
        }
    }

    /// The counts that the run began with, where a restart within it has begun with others.
    pub(crate) fn set_begun(&mut self, begun: BTreeMap<String, u64>) {
        self.begun = Some(begun);
    }

    /// A counter of one operator in this run. What a restart undid is not counted.
    pub fn in_this_run(&self, operator: &str, counter: Counter) -> u64 {
        let begun = count(self.begun.as_ref().unwrap_or(&self.restored), operator, counter);
        self.total(operator, counter).saturating_sub(begun)
    }

    fn restored(&self, operator: &str, counter: Counter) -> u64 {
        count(&self.restored, operator, counter)
    }

    /// A counter of one operator, with the runs before the restored checkpoint.
    pub fn total(&self, operator: &str, counter: Counter) -> u64 {
        if !self.operators.iter().any(|entry| entry.name == operator) {
            // The run had finished before: there are no subtasks.
            return self.restored(operator, counter);
        }
        self.operators
            .iter()
            .filter(|entry| entry.name == operator)
            .flat_map(|entry| &entry.subtasks)
            .map(|metrics| metrics.value(counter))
            .sum()
    }

    /// A counter summed over all operators, with the runs before the restored checkpoint.
    pub fn total_of_all(&self, counter: Counter) -> u64 {
        self.operators.iter().map(|entry| self.total(&entry.name, counter)).sum()
    }

    /// The names of all operators, in order of declaration.
    pub fn operators(&self) -> impl Iterator<Item = &str> {
        self.operators.iter().map(|entry| entry.name.as_str())
    }

    /// Records read from all sources, with earlier runs.
    pub fn records_read(&self) -> u64 {
        self.sources().map(|entry| self.total(&entry.name, Counter::In)).sum()
    }

    /// Records read from all sources in this run.
    pub fn records_read_in_this_run(&self) -> u64 {
        self.sources().map(|entry| self.in_this_run(&entry.name, Counter::In)).sum()
    }

    /// How many records the sources hold, if they all know.
    pub fn expected_records(&self) -> Option<u64> {
        self.expected_records
    }

    /// The newest event time of all records.
    pub fn event_time(&self) -> Option<EventTime> {
        self.time_origins().map(|metrics| metrics.event_time()).max()
    }

    /// The least watermark of the subtasks that assign event times and have not ended.
    pub fn watermark(&self) -> Option<EventTime> {
        self.time_origins().map(|metrics| metrics.watermark()).min()
    }

    fn time_origins(&self) -> impl Iterator<Item = &Arc<OperatorMetrics>> {
        let origins = self.operators.iter().filter(|entry| entry.is_time_origin);
        origins.flat_map(|entry| &entry.subtasks)
    }

    fn sources(&self) -> impl Iterator<Item = &OperatorEntry> {
        self.operators.iter().filter(|entry| entry.is_source)
    }
}

fn count(counts: &BTreeMap<String, u64>, operator: &str, counter: Counter) -> u64 {
    let key = format!("{operator}/{}", counter.name());
    counts.get(&key).copied().unwrap_or(0)
}

/// What a running job looks like.
#[derive(Clone)]
pub struct Progress {
    /// The counters.
    pub metrics: JobMetrics,
    /// Time since the start of this run.
    pub elapsed: Duration,
    /// Checkpoints completed in this run, restarts included.
    pub checkpoints: u64,
    /// The number and duration of the newest checkpoint of this run.
    pub last_checkpoint: Option<(u64, Duration)>,
    /// How often the job was started again in this run, after failures.
    pub restarts: u32,
    /// True while the job waits to be started again.
    pub is_restarting: bool,
    /// True once the job has been asked to stop.
    pub is_stopping: bool,
}

impl Progress {
    /// A run that begins.
    pub(crate) fn new(metrics: JobMetrics) -> Self {
        Progress {
            metrics,
            elapsed: Duration::ZERO,
            checkpoints: 0,
            last_checkpoint: None,
            restarts: 0,
            is_restarting: false,
            is_stopping: false,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunOutcome {
    /// The input ended, everything is committed.
    Finished,
    /// The job was asked to stop; it can be resumed if it has a checkpoint directory.
    Stopped,
    /// The directory holds the last checkpoint of a finished run: nothing was done.
    AlreadyFinished,
}

/// What a run did.
#[derive(Clone)]
pub struct RunReport {
    /// How it ended.
    pub outcome: RunOutcome,
    /// The checkpoint it was restored from.
    pub restored_from: Option<u64>,
    /// Its last state.
    pub progress: Progress,
    /// The number of the last checkpoint that was published.
    pub last_checkpoint: Option<u64>,
}
