//! Brings the barriers of a subtask's input channels together.
//!
//! *Place:* a subtask hands every barrier it reads and every abort it hears to its [`Aligner`],
//! reads nothing from blocked channels, and takes its snapshot when it is told `Aligned`. If it
//! takes its snapshot before that ([`Aligner::cut_early`]) it records what channels deliver until
//! it is told `Recorded`. At least once, nothing is ever blocked.
//!
//! *Invariants*
//! * I1: at most one alignment is under way, and its id is greater than every id that has ended.
//! * I2: a channel is blocked exactly while it has delivered the barrier of the current alignment
//!   and the snapshot is not taken; none is, at least once.
//! * I3: the ids given as `Aligned` or `Recorded` strictly increase.
//! * I4: a channel is recorded exactly while the snapshot of the current alignment is taken and
//!   the channel has not delivered its barrier.
//!
//! *Absent:* counting elements and recording them (the channels' reader does).

use crate::{BarrierKind, CheckpointId, CheckpointMode};

#[cfg(test)]
mod tests;

/// What a barrier or an abort did to the alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// Nothing: the barrier or abort is of a checkpoint that has been given up, or is done.
    Ignored,
    /// The channel is blocked now; barriers of other channels are missing.
    Waiting,
    /// The barrier has arrived on every channel: snapshot, forward the barrier, acknowledge.
    Aligned {
        /// The checkpoint to snapshot for.
        id: CheckpointId,
        /// Its kind.
        kind: BarrierKind,
    },
    /// The barrier has arrived on the last channel that was recorded: acknowledge.
    Recorded {
        /// The checkpoint whose snapshot was taken before.
        id: CheckpointId,
    },
    /// An alignment was given up and its channels flow again. A newer one may have begun with
    /// the same barrier: [`Aligner::is_blocked`] and [`Aligner::current`] tell.
    Released,
}

/// A broken invariant of the channels: the job cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlignerError {
    /// A channel delivered a barrier that does not follow its last one.
    #[error("channel {channel} delivered barrier {id} after barrier {last}")]
    Backwards {
        /// The channel.
        channel: usize,
        /// Its barrier before.
        last: CheckpointId,
        /// The barrier that came.
        id: CheckpointId,
    },
    /// Two barriers of one checkpoint differ in kind.
    #[error("channel {channel} delivered barrier {id} of kind {found}, others of kind {expected}")]
    KindDiffers {
        /// The channel.
        channel: usize,
        /// The checkpoint.
        id: CheckpointId,
        /// The kind that the other channels delivered.
        expected: BarrierKind,
        /// The kind that this channel delivered.
        found: BarrierKind,
    },
    /// The channel does not exist.
    #[error("there is no channel {channel} among {channels}")]
    NoSuchChannel {
        /// The channel.
        channel: usize,
        /// How many there are.
        channels: usize,
    },
}

/// The alignment of one subtask's input channels.
#[derive(Clone, Debug)]
pub struct Aligner {
    /// Last barrier of each channel.
    last: Vec<Option<CheckpointId>>,
    /// The greatest id that was given up or is done.
    ended: Option<CheckpointId>,
    current: Option<Current>,
    blocks: bool,
}

#[derive(Clone, Debug)]
struct Current {
    id: CheckpointId,
    kind: BarrierKind,
    delivered: Vec<bool>,
    missing: usize,
    /// Whether the snapshot is taken.
    is_cut: bool,
}

impl Current {
    fn new(id: CheckpointId, kind: BarrierKind, channels: usize) -> Self {
        Self { id, kind, delivered: vec![false; channels], missing: channels, is_cut: false }
    }
}

impl Aligner {
    /// An aligner of so many channels, none of them blocked. Where records may count more than
    /// once (`CheckpointMode::AtLeastOnce`) none ever will be.
    pub fn new(channels: usize, mode: CheckpointMode) -> Self {
        let blocks = mode == CheckpointMode::ExactlyOnce;
        Self { last: vec![None; channels], ended: None, current: None, blocks }
    }

    /// A barrier was read from a channel.
    ///
    /// # Errors
    ///
    /// The channel's barriers go backwards, repeat themselves or disagree in kind with those of
    /// other channels.
    pub fn handle_barrier(
        &mut self,
        channel: usize,
        id: CheckpointId,
        kind: BarrierKind,
    ) -> Result<Alignment, AlignerError> {
        self.record_barrier(channel, id)?;
        if self.ended >= Some(id) || self.current.as_ref().is_some_and(|c| id < c.id) {
            return Ok(Alignment::Ignored);
        }
        let given_up = self.current.take_if(|current| current.id < id);
        if let Some(older) = &given_up {
            self.ended = self.ended.max(Some(older.id));
        }
        let channels = self.last.len();
        let current = self.current.get_or_insert_with(|| Current::new(id, kind, channels));
        if current.kind != kind {
            let expected = current.kind;
            return Err(AlignerError::KindDiffers { channel, id, expected, found: kind });
        }
        // `record_barrier` refuses a second barrier of one id, so the channel is not counted twice.
        current.delivered[channel] = true;
        current.missing -= 1;
        if current.missing == 0 {
            let is_cut = current.is_cut;
            self.current = None;
            self.ended = Some(id);
            return Ok(match is_cut {
                true => Alignment::Recorded { id },
                false => Alignment::Aligned { id, kind },
            });
        }
        Ok(if given_up.is_some() { Alignment::Released } else { Alignment::Waiting })
    }

    /// The snapshot of this checkpoint is taken now, without waiting for its barriers: from now on
    /// channels that have not delivered them are recorded, and none is blocked. False, and nothing
    /// has changed, if the checkpoint has ended or a newer one is under way.
    pub fn cut_early(&mut self, id: CheckpointId) -> bool {
        let newest = self.current.as_ref().map(|current| current.id);
        if self.ended >= Some(id) || newest > Some(id) {
            return false;
        }
        let older = self.current.take_if(|current| current.id < id);
        self.ended = self.ended.max(older.map(|older| older.id));
        let channels = self.last.len();
        let fresh = || Current::new(id, BarrierKind::Checkpoint, channels);
        self.current.get_or_insert_with(fresh).is_cut = true;
        true
    }

    /// Whether what the channel delivers belongs to the snapshot that was taken.
    pub fn is_recorded(&self, channel: usize) -> bool {
        let recorded = |current: &Current| current.is_cut && !current.delivered[channel];
        self.current.as_ref().is_some_and(recorded)
    }

    /// The checkpoint whose snapshot is taken and for which channels are recorded.
    pub fn recording(&self) -> Option<CheckpointId> {
        self.current.as_ref().filter(|current| current.is_cut).map(|current| current.id)
    }

    /// The coordinator has given up this checkpoint, and with it all older ones.
    ///
    /// Aborts may come late, twice and out of order.
    pub fn handle_abort(&mut self, id: CheckpointId) -> Alignment {
        self.ended = self.ended.max(Some(id));
        match self.current.take_if(|current| current.id <= id) {
            Some(_) => Alignment::Released,
            None => Alignment::Ignored,
        }
    }

    /// Whether nothing may be read from the channel until the alignment ends.
    pub fn is_blocked(&self, channel: usize) -> bool {
        let delivered =
            |current: &Current| current.delivered.get(channel).copied().unwrap_or(false);
        let waits = |current: &Current| !current.is_cut && delivered(current);
        self.blocks && self.current.as_ref().is_some_and(waits)
    }

    /// The checkpoint whose alignment is under way.
    pub fn current(&self) -> Option<CheckpointId> {
        self.current.as_ref().map(|current| current.id)
    }

    fn record_barrier(&mut self, channel: usize, id: CheckpointId) -> Result<(), AlignerError> {
        let channels = self.last.len();
        let last =
            self.last.get_mut(channel).ok_or(AlignerError::NoSuchChannel { channel, channels })?;
        match *last {
            Some(last) if id <= last => Err(AlignerError::Backwards { channel, last, id }),
            _ => {
                *last = Some(id);
                Ok(())
            }
        }
    }
}
