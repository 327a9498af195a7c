//! The combiner: folds records of one key and slice into one before the exchange.
//!
//! A small table in front of the gate, one entry per slot of a key's hash: a record joins the entry
//! of its key and slice, or takes the slot over and sends what was in it on. So it needs a fixed
//! amount of memory, finds hot keys by itself, and with many keys comes to one entry per record;
//! then it steps aside for a while.
//!
//! # Invariants
//! * I1: only records that every window of their slice accepts are combined: those that are not
//!   behind their split's watermark, in slices of which no window is late at the combiner's own.
//!   The operator behind it has no greater watermark, for where splits can be idle a plan has no
//!   combiner. All others go on as they are, and are judged there.
//! * I2: a slice's entries leave before the watermark that makes the first of its windows final.
//! * I3: nothing is held back across a barrier: entries belong to no key group of this subtask.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::{
    Advance, Batch, Context, Data, EventTime, Key, OpenContext, Operator, Outputs, Result,
};

use super::assigner::{Slice, Slices, WindowAssigner};
use crate::aggregate::Aggregate;
use crate::stream::Keyed;

/// Entries at the most; a power of two.
const SLOTS: usize = 2_048;
/// After this many records it is judged whether combining pays.
const TRIAL_RECORDS: u32 = 32_768;
/// For this many records the combiner steps aside if it does not.
const PASSING_RECORDS: u32 = 1 << 20;
/// Combining pays if at least one in four records disappears.
const PAYS_BELOW: f64 = 0.75;

/// What reaches a window operator from a combiner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Part<T, A> {
    /// A record as it came.
    Record(T),
    /// Several of one slice.
    Combined(A),
}

pub(super) struct Combiner<K, T, A: Aggregate<T>, W> {
    slices: Slices,
    aggregate: Arc<A>,
    lateness_ms: i64,
    watermark: EventTime,
    slots: Vec<Option<Slot<K, A::Accumulator>>>,
    /// The least first end among the entries; `MAX` without entries.
    next_end: i64,
    /// How far the slots have been given out.
    given_out: usize,
    trial: Trial,
    types: PhantomData<fn(T) -> W>,
}

struct Slot<K, V> {
    hash: u64,
    slice: i64,
    key: K,
    /// That of its first record: any time in the slice would do.
    time: EventTime,
    accumulator: V,
}

/// Whether combining pays, by counts alone.
#[derive(Default)]
struct Trial {
    taken: u32,
    given: u32,
    /// Records for which the combiner still steps aside.
    passing: u32,
}

impl<K: Key, T: Data, A: Aggregate<T>, W: WindowAssigner> Combiner<K, T, A, W> {
    pub(super) fn new(assigner: &W, aggregate: Arc<A>, lateness_ms: i64) -> Self {
        Combiner {
            slices: Slices::new(assigner),
            aggregate,
            lateness_ms,
            watermark: EventTime::MIN,
            slots: Vec::new(),
            next_end: i64::MAX,
            given_out: 0,
            trial: Trial::default(),
            types: PhantomData,
        }
    }

    fn is_late(&self, end: i64) -> bool {
        (end - 1).saturating_add(self.lateness_ms) <= self.watermark.millis()
    }

    /// True if all windows over the slice accept its records (I1).
    fn accepts_all(&self, slice: &Slice) -> bool {
        slice.first_end <= slice.last_end && !self.is_late(slice.first_end)
    }

    /// Adds a record to the entry of its key and slice; another's entry leaves.
    fn combine(
        &mut self,
        (hash, time): (u64, EventTime),
        slice: i64,
        Keyed { key, value }: Keyed<K, T>,
        out: &mut Batch<Keyed<K, Part<T, A::Accumulator>>>,
    ) {
        let index = (hash ^ (slice as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) as usize % SLOTS;
        let slot = &mut self.slots[index];
        if let Some(entry) = slot
            && entry.hash == hash
            && entry.slice == slice
            && entry.key == key
        {
            self.aggregate.add(&mut entry.accumulator, &value);
            return;
        }
        let mut accumulator = self.aggregate.create();
        self.aggregate.add(&mut accumulator, &value);
        if let Some(entry) = slot.replace(Slot { hash, slice, key, time, accumulator }) {
            self.trial.given += 1;
            give(entry, out);
        }
    }

    /// Gives out all entries until the output is full; true if all were given out.
    fn give_out(&mut self, out: &mut Outputs<'_, Keyed<K, Part<T, A::Accumulator>>, ()>) -> bool {
        while let Some(slot) = self.slots.get_mut(self.given_out) {
            if out.is_full() {
                return false;
            }
            self.given_out += 1;
            if let Some(entry) = slot.take() {
                self.trial.given += 1;
                give(entry, out.main);
            }
        }
        (self.given_out, self.next_end) = (0, i64::MAX);
        true
    }

    /// Judges whether combining pays. Results do not depend on it.
    fn judge(&mut self) {
        let Trial { taken, given, .. } = self.trial;
        if taken >= TRIAL_RECORDS {
            let pays = f64::from(given) < PAYS_BELOW * f64::from(taken);
            self.trial =
                Trial { passing: if pays { 0 } else { PASSING_RECORDS }, ..Trial::default() };
        }
    }
}

fn give<K, T, V>(entry: Slot<K, V>, out: &mut Batch<Keyed<K, Part<T, V>>>) {
    out.push(Keyed { key: entry.key, value: Part::Combined(entry.accumulator) }, entry.time);
    out.hashes.push(entry.hash);
}

impl<K: Key, T: Data, A: Aggregate<T>, W: WindowAssigner> Operator for Combiner<K, T, A, W> {
    type In = Keyed<K, T>;
    type Out = Keyed<K, Part<T, A::Accumulator>>;
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        self.slots.resize_with(SLOTS, || None);
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, Keyed<K, Part<T, A::Accumulator>>, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let count = input.len() as u32;
        // Giving out begins again: slots it has passed are filled.
        self.given_out = 0;
        let is_passing = self.trial.passing > 0;
        self.trial.passing = self.trial.passing.saturating_sub(count);
        let mut values = std::mem::take(&mut input.values);
        let mut marks = input.marks();
        let mut slice: Option<Slice> = None;
        let mut is_combined = false;
        for (i, keyed) in values.drain(..).enumerate() {
            let (hash, time, mark) = (input.hashes[i], input.times[i], marks.at(i));
            let millis = time.millis();
            if slice.is_none_or(|slice| millis < slice.start || millis >= slice.end) {
                let found = self.slices.at(millis);
                is_combined = !is_passing && self.accepts_all(&found);
                if is_combined {
                    self.next_end = self.next_end.min(found.first_end);
                }
                slice = Some(found);
            }
            match slice {
                Some(slice) if is_combined && mark.is_none() => {
                    self.trial.taken += 1;
                    self.combine((hash, time), slice.start, keyed, out.main);
                }
                _ => {
                    let Keyed { key, value } = keyed;
                    out.main.push_marked(Keyed { key, value: Part::Record(value) }, time, mark);
                    out.main.hashes.push(hash);
                }
            }
        }
        input.values = values;
        input.clear();
        self.judge();
        Ok(())
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, Keyed<K, Part<T, A::Accumulator>>, ()>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        if self.is_late(self.next_end) && !self.give_out(out) {
            return Ok(Advance::More);
        }
        Ok(Advance::Done)
    }

    fn before_barrier(
        &mut self,
        out: &mut Outputs<'_, Keyed<K, Part<T, A::Accumulator>>, ()>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        let is_done = self.next_end == i64::MAX || self.give_out(out);
        Ok(if is_done { Advance::Done } else { Advance::More })
    }
}
