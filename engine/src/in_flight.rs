//! Records on their way: how a snapshot that is taken early holds them, and how they come back.
//!
//! Under backpressure a barrier waits behind records that wait for a slow operator, at every hop.
//! A snapshot that is taken *early* does not wait: records between two subtasks become part of it.
//!
//! # Place
//! `subtask/step.rs` decides when, `subtask/input.rs` records, `subtask/snapshot.rs` hands over,
//! `deploy/in_flight.rs` restores. Here is how records are written down.
//!
//! # Protocol
//! (1) A checkpoint that has taken longer than it may is *hurried*: the coordinator tells every
//! subtask that has not answered, past all channels. Only checkpoints after which the job goes on
//! are; a stop and the end align.
//! (2) A subtask that is told takes its cut as soon as no record is inside its chain, without
//! waiting for barriers. Records that are inside leave: for that, gates take what they have no room
//! for (what one batch turns into, at the most). What the head's operator has left of its batch to
//! wait for a time is recorded instead.
//! (3) At the cut `before_barrier` comes first, then the barrier leaves behind everything that was
//! given out, in every lane. It overtakes nothing: the receiver does not wait for it.
//! (4) The subtask takes from its channels, into a buffer, all that comes before their barriers,
//! and records a copy. It goes on working on the buffer at its own pace.
//! (5) With the last of the barriers the recording is complete, and the snapshot is handed over.
//!
//! This is the algorithm of Chandy and Lamport (*Distributed Snapshots*, ACM TOCS 1985), in which
//! each process may record its state of its own accord and the marker ends the channel's record.
//!
//! # Invariants
//! * I1: each record that a subtask gave out before its cut is in exactly one of: the receiver's
//!   state (taken before the receiver's cut), its recording (taken after it, before the barrier).
//!   What is given out after the cut is behind the barrier and in none of them: an aligned receiver
//!   does not read on, an early one has ended its recording.
//! * I2: what is in the buffer of a channel that is recorded has been recorded. Hence such a
//!   channel is read through its buffer alone.
//! * I3: recorded are batches with all their columns. Watermarks and idleness are not: as after an
//!   aligned checkpoint, senders say again what they know. No channel is read before the last
//!   restored record has passed the chain, so no watermark overtakes one.
//! * I4: restored records that were not taken yet are part of the next snapshot. Only a stop waits
//!   for them: what it leaves can be resumed by a job with other edges.
//! * I5: a recording ends with its checkpoint: an abort or a newer barrier gives it up. Barriers of
//!   older checkpoints that are found while recording are told to the aligner and ignored; a newer
//!   one stays in its place, and nothing behind it is taken.
//! * I6: a subtask takes no early cut if one of its edges is a broadcast (its receivers may have
//!   come differently far, and after rescaling there is no telling which copies are missing), or
//!   if the records of one cannot be written down (a union of streams without an exchange). It
//!   aligns as usual; the subtasks around it need not know.
//!
//! # Restoring
//! Records of a hash edge go to the subtasks that own their key groups now; those of other edges,
//! together, to subtask `i` modulo the new parallelism, where `i` is the one that recorded them.
//! Their hashes are those that they were sent by; values of an earlier type change as state does.
//! Within a chain those of operators further down are taken first. Where several subtasks become
//! one, they had come differently far in time: operators are opened with the least of their
//! watermarks, and advanced to the greatest when the last restored record has passed
//! (`ChainNode::floor`). No other record of a split that the checkpoint knows is behind that one:
//! its sender had sent it before its own cut.

use std::any::Any;
use std::sync::Arc;

use thalweg_state::{
    CodecError, Data, KeyGroup, KeyGroupCount, KeyGroupRange, ValuePlan, ValueType, codec,
};

use crate::batch::{Batch, Behind, RecordId};
use crate::channel::AnyBatch;
use crate::error::{Error, Result};
use crate::planted::planted;
use crate::time::EventTime;

/// An edge of the graph whose records can be written down.
pub(crate) struct Edge {
    /// The operator that gives them out, and its port.
    pub(crate) from: String,
    pub(crate) port: u8,
    /// The operator they are for.
    pub(crate) to: String,
    pub(crate) codec: WireCodec,
}

/// Records of an edge, encoded, in the order in which they came.
pub(crate) struct InFlight {
    pub(crate) edge: Arc<Edge>,
    pub(crate) bytes: Vec<u8>,
}

/// The key groups whose records are asked for.
pub(crate) type Owned = (KeyGroupRange, KeyGroupCount);

type Decode = fn(&[u8], Option<Owned>, Option<&ValuePlan<'_>>) -> Result<Vec<AnyBatch>>;

/// How batches of one record type are written down and read.
#[derive(Clone, Copy)]
pub(crate) struct WireCodec {
    encode: fn(&dyn Any, &mut Vec<u8>) -> Result<()>,
    decode: Decode,
    record: ValueType,
}

impl WireCodec {
    /// The codec of a record type.
    pub(crate) fn of<T: Data>() -> Self {
        WireCodec { encode: encode::<T>, decode: decode::<T>, record: ValueType::of::<T>() }
    }

    /// The record type.
    pub(crate) fn record(&self) -> ValueType {
        self.record
    }

    /// Appends a batch of the codec's type.
    pub(crate) fn encode(&self, batch: &dyn Any, out: &mut Vec<u8>) -> Result<()> {
        (self.encode)(batch, out)
    }

    /// The batches that were appended one after another, without records of other key groups;
    /// records of an earlier type change as the plan says.
    pub(crate) fn decode(
        &self,
        bytes: &[u8],
        owned: Option<Owned>,
        plan: Option<&ValuePlan<'_>>,
    ) -> Result<Vec<AnyBatch>> {
        (self.decode)(bytes, owned, plan)
    }
}

/// All columns but the values: how many records, times, hashes, marks, identities.
type Columns = (u32, Vec<EventTime>, Vec<u64>, Vec<(u32, EventTime)>, Vec<RecordId>);

/// Format: per batch the columns and then each value, each behind its length (4 bytes, little
/// endian). A value is as long as the codec allows, whatever is in the batch beside it.
fn encode<T: Data>(batch: &dyn Any, out: &mut Vec<u8>) -> Result<()> {
    let batch: &Batch<T> = batch
        .downcast_ref()
        .ok_or_else(|| Error::bug("records on their way are of another type than their edge"))?;
    let marks: Vec<_> = match planted!(InFlightLosesMarks) {
        true => Vec::new(),
        false => batch.behind.iter().map(|mark| (mark.index, mark.watermark)).collect(),
    };
    let count = batch.len() as u32;
    let columns = (count, &batch.times, &batch.hashes, &marks, &batch.ids);
    append(out, |out| codec::encode(&columns, out))?;
    for value in &batch.values {
        append(out, |out| codec::encode(value, out))?;
    }
    Ok(())
}

fn append(
    out: &mut Vec<u8>,
    encode: impl FnOnce(&mut Vec<u8>) -> std::result::Result<(), CodecError>,
) -> Result<()> {
    let start = out.len() + 4;
    out.extend_from_slice(&[0; 4]);
    encode(out)?;
    let length = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

fn decode<T: Data>(
    mut bytes: &[u8],
    owned: Option<Owned>,
    plan: Option<&ValuePlan<'_>>,
) -> Result<Vec<AnyBatch>> {
    let value = |bytes: &[u8]| -> Result<T> {
        Ok(match plan {
            Some(plan) => codec::decode(&plan.change(bytes)?)?,
            None => codec::decode(bytes)?,
        })
    };
    let mut batches: Vec<AnyBatch> = Vec::new();
    while !bytes.is_empty() {
        let (count, times, hashes, marks, ids): Columns = codec::decode(next(&mut bytes)?)?;
        let values = (0..count).map(|_| value(next(&mut bytes)?));
        let values = values.collect::<Result<Vec<T>>>()?;
        let behind = marks.into_iter().map(|(index, watermark)| Behind { index, watermark });
        let mut batch = Batch { values, times, hashes, behind: behind.collect(), ids };
        check(&batch)?;
        if let Some(owned) = owned {
            retain_owned(&mut batch, owned)?;
        }
        if !batch.is_empty() {
            batches.push(Box::new(batch));
        }
    }
    Ok(batches)
}

/// The next piece behind its length.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let piece = bytes.split_first_chunk::<4>().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        rest.split_at_checked(length)
    });
    let (piece, rest) =
        piece.ok_or_else(|| Error::corrupt("records on their way are cut short"))?;
    *bytes = rest;
    Ok(piece)
}

/// The invariants of a batch, for one that was read.
fn check<T>(batch: &Batch<T>) -> Result<()> {
    let fits = |len: usize| len == 0 || len == batch.len();
    let are_sorted = batch.behind.is_sorted_by(|a, b| a.index < b.index);
    let is_within = batch.behind.last().is_none_or(|last| (last.index as usize) < batch.len());
    let is_whole = fits(batch.times.len()) && fits(batch.hashes.len()) && fits(batch.ids.len());
    match is_whole && are_sorted && is_within {
        true => Ok(()),
        false => Err(Error::corrupt("records on their way have columns of different lengths")),
    }
}

fn retain_owned<T>(batch: &mut Batch<T>, (range, count): Owned) -> Result<()> {
    if batch.hashes.len() != batch.len() {
        return Err(Error::corrupt("records on their way to a key's subtask have no hashes"));
    }
    let is_mine = |&hash: &u64| range.contains(KeyGroup::of(hash, count));
    let mut mine = batch.hashes.iter().map(is_mine).collect::<Vec<_>>().into_iter();
    batch.retain(|_| mine.next().unwrap_or(false));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch<String> {
        let mut batch = Batch::default();
        for i in 0..20_u64 {
            let mark = (i % 3 == 0).then(|| EventTime::from_millis(100 + i as i64));
            batch.push_marked(i.to_string(), EventTime::from_millis(i as i64), mark);
            batch.hashes.push(i);
            batch.ids.push(RecordId { split: 1, offset: i });
        }
        batch
    }

    fn read(batches: Vec<AnyBatch>) -> Vec<Batch<String>> {
        batches.into_iter().map(|batch| *batch.downcast().expect("strings")).collect()
    }

    #[test]
    fn all_columns_come_back_and_each_record_to_one_owner() {
        let (codec, mut bytes) = (WireCodec::of::<String>(), Vec::new());
        codec.encode(&batch(), &mut bytes).expect("encodes");
        let plain = Batch { values: vec!["x".to_owned()], ..Batch::default() };
        codec.encode(&plain, &mut bytes).expect("encodes");
        let all = read(codec.decode(&bytes, None, None).expect("decodes"));
        assert_eq!(all.len(), 2);
        assert_eq!(format!("{:?}", all[0]), format!("{:?}", batch()));
        assert_eq!(format!("{:?}", all[1]), format!("{plain:?}"));
        bytes.clear();
        codec.encode(&batch(), &mut bytes).expect("encodes");
        let count = KeyGroupCount::default();
        let mut seen = 0;
        for index in 0..3 {
            let range = KeyGroupRange::of_subtask(index, 3, count);
            for part in read(codec.decode(&bytes, Some((range, count)), None).expect("decodes")) {
                for (i, value) in part.values.iter().enumerate() {
                    let number: u64 = value.parse().expect("a number");
                    assert_eq!((part.hashes[i], part.ids[i].offset), (number, number));
                    assert!(range.contains(KeyGroup::of(number, count)));
                    seen += 1;
                }
                let marked = part.behind.iter().map(|m| (m.index, m.watermark.millis() - 100));
                let expected = part.values.iter().enumerate().filter_map(|(i, value)| {
                    let number: i64 = value.parse().expect("a number");
                    (number % 3 == 0).then_some((i as u32, number))
                });
                assert!(marked.eq(expected));
            }
        }
        assert_eq!(seen, 20);
    }

    #[test]
    fn bytes_that_are_cut_short_are_refused() {
        let (codec, mut bytes) = (WireCodec::of::<String>(), Vec::new());
        codec.encode(&batch(), &mut bytes).expect("encodes");
        for len in 1..bytes.len() {
            assert!(codec.decode(&bytes[..len], None, None).is_err(), "{len}");
        }
    }
}
