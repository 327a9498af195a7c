//! What a seed stands for: the options of one simulated run.

use std::fmt;

use thalweg_checkpoint::CheckpointMode;

use super::random::Random;
use crate::batch::BATCH_RECORDS;
use crate::channel::ChannelBounds;

/// How the next subtask is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Any, with equal chances.
    Uniform,
    /// The same as before, most of the time.
    Sticky,
    /// The one of highest priority that can move; priorities change now and then.
    Priority,
}

/// The options of one simulated run.
///
/// Faults are armed for a whole run or not at all, so that runs differ in kind and not only in
/// degree (*swarm testing*, Groce et al., ISSTA 2012).
#[derive(Clone, Debug)]
pub struct SimPlan {
    /// The seed of all decisions.
    pub seed: u64,
    /// Parallelism of the first attempt, the second, and so on; the last one stays.
    pub parallelisms: Vec<usize>,
    /// Crashes at the most; when they are used up all faults are off and the job must end.
    pub crashes: u32,
    /// How often the job is asked to stop, and started again.
    pub stops: u32,
    /// Chance of a crash, and of being asked to stop, per scheduler step, in a million.
    pub crash_per_million: u32,
    /// Records of a batch.
    pub batch_records: usize,
    /// Greatest bounds of channels; each channel draws its own.
    pub channels: ChannelBounds,
    /// Operator calls and inputs of one step at the most.
    pub budget: u32,
    /// How the next subtask is chosen.
    pub style: Style,
    /// Time between checkpoints, in virtual milliseconds; none: only the last one.
    pub interval_ms: Option<i64>,
    /// After this virtual time a checkpoint is given up.
    pub timeout_ms: i64,
    /// How often a record may count in state after a restore.
    pub mode: CheckpointMode,
    /// When a checkpoint has taken this long, in virtual milliseconds, subtasks take their
    /// snapshots without waiting for barriers; none: never.
    pub unaligned_after_ms: Option<i64>,
    /// Whether restored tables stay in the checkpoint's runs for a while.
    pub leaves_state: bool,
    /// Percent of control messages and acknowledgements that get lost.
    pub lost_percent: u32,
    /// Percent of control messages and acknowledgements that arrive twice.
    pub doubled_percent: u32,
    /// Longest delay of a message, in virtual milliseconds.
    pub delay_ms: i64,
    /// Percent of storage calls that fail.
    pub storage_percent: u32,
    /// Percent of commits that fail, before or after they took effect.
    pub commit_percent: u32,
    /// Steps after which the job is taken to hang.
    pub steps_max: u64,
}

impl SimPlan {
    /// The plan of a seed, with faults of all kinds.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed_5eed_5eed_5eed);
        let mut percent = |armed: u32, most: i64| match random.is_chosen(armed) {
            true => random.between(1, most) as u32,
            false => 0,
        };
        let (lost_percent, doubled_percent) = (percent(40, 20), percent(40, 20));
        let (storage_percent, commit_percent) = (percent(30, 10), percent(30, 40));
        let style = match random.below(3) {
            0 => Style::Uniform,
            1 => Style::Sticky,
            _ => Style::Priority,
        };
        // Drawn apart: the rest of a seed's plan is what it was without it.
        let mut apart = Random::new(seed ^ 0x0f1a_0f1a_0f1a_0f1a);
        let unaligned_after_ms = apart.is_chosen(50).then(|| apart.between(0, 12));
        let leaves_state = apart.is_chosen(50);
        let messages = random.between(1, 6) as usize;
        let records = random.between(1, 40) as usize;
        SimPlan {
            seed,
            parallelisms: (0..4).map(|_| random.between(1, 4) as usize).collect(),
            crashes: random.below(4) as u32,
            stops: random.below(8).saturating_sub(5) as u32,
            crash_per_million: random.between(200, 8000) as u32,
            batch_records: random.between(1, 24) as usize,
            channels: ChannelBounds { messages, records, drain_ms: random.between(1, 50) },
            budget: random.between(1, 12) as u32,
            style,
            interval_ms: Some(random.between(3, 60)),
            timeout_ms: random.between(400, 4000),
            mode: CheckpointMode::ExactlyOnce,
            unaligned_after_ms,
            leaves_state,
            lost_percent,
            doubled_percent,
            delay_ms: random.between(0, 20),
            storage_percent,
            commit_percent,
            steps_max: 400_000,
        }
    }

    /// A plan without faults, with batches and channels of ordinary size.
    pub fn calm(seed: u64, parallelism: usize) -> Self {
        SimPlan {
            parallelisms: vec![parallelism],
            crashes: 0,
            stops: 0,
            batch_records: BATCH_RECORDS,
            channels: ChannelBounds::default(),
            budget: 64,
            interval_ms: None,
            timeout_ms: 1_000_000,
            unaligned_after_ms: None,
            lost_percent: 0,
            doubled_percent: 0,
            storage_percent: 0,
            commit_percent: 0,
            steps_max: 20_000_000,
            ..Self::from_seed(seed)
        }
    }

    pub(super) fn parallelism(&self, attempt: usize) -> usize {
        self.parallelisms.get(attempt).or(self.parallelisms.last()).copied().unwrap_or(1)
    }
}

impl fmt::Display for SimPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: parallelism {:?}, crashes {}, stops {} ({} in a million steps), batch {}, \
             channels {}x{}, budget {}, {:?}, interval {:?} ms, timeout {} ms, {:?}, unaligned \
             after {:?} ms, tables stay in runs: {}, lost {} %, \
             doubled {} %, delay {} ms, storage faults {} %, commit faults {} %",
            self.seed,
            self.parallelisms,
            self.crashes,
            self.stops,
            self.crash_per_million,
            self.batch_records,
            self.channels.messages,
            self.channels.records,
            self.budget,
            self.style,
            self.interval_ms,
            self.timeout_ms,
            self.mode,
            self.unaligned_after_ms,
            self.leaves_state,
            self.lost_percent,
            self.doubled_percent,
            self.delay_ms,
            self.storage_percent,
            self.commit_percent
        )
    }
}
