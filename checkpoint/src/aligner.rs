//! Brings the barriers of a subtask's input channels together (exactly-once alignment).
//!
//! *Place:* a subtask hands every barrier it reads and every abort it hears to its [`Aligner`],
//! reads nothing from blocked channels, and takes its snapshot when it is told `Aligned`.
//!
//! *Invariants*
//! * I1: at most one alignment is under way, and its id is greater than every id that has ended.
//! * I2: a channel is blocked exactly while it has delivered the barrier of the current alignment.
//! * I3: the ids given as `Aligned` strictly increase.
//!
//! *Absent:* counting elements (the channel's reader does), unaligned checkpoints.

use crate::{BarrierKind, CheckpointId};

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
}

#[derive(Clone, Debug)]
struct Current {
    id: CheckpointId,
    kind: BarrierKind,
    delivered: Vec<bool>,
    missing: usize,
}

impl Aligner {
    /// An aligner of so many channels, none of them blocked.
    pub fn new(channels: usize) -> Self {
        Self { last: vec![None; channels], ended: None, current: None }
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
        let current = self.current.get_or_insert_with(|| Current {
            id,
            kind,
            delivered: vec![false; channels],
            missing: channels,
        });
        if current.kind != kind {
            let expected = current.kind;
            return Err(AlignerError::KindDiffers { channel, id, expected, found: kind });
        }
        // `record_barrier` refuses a second barrier of one id, so the channel is not counted twice.
        current.delivered[channel] = true;
        current.missing -= 1;
        if current.missing == 0 {
            self.current = None;
            self.ended = Some(id);
            return Ok(Alignment::Aligned { id, kind });
        }
        Ok(if given_up.is_some() { Alignment::Released } else { Alignment::Waiting })
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
        self.current
            .as_ref()
            .is_some_and(|current| current.delivered.get(channel).copied().unwrap_or(false))
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
