//! What the tests of joins have in common: random splits on two sides, their interleavings, and a
//! look at what leaves an operator.

use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::Input;
use thalweg_engine::{
    Advance, Batch, Context, EachTable, EventTime, OpenContext, Operator, Outputs, Result,
    SnapshotContext,
};

use crate::stream::{Either, Keyed};

/// A row of either side is its number.
pub(super) type Record = Keyed<u8, Either<u32, u32>>;

/// A record with the watermark of its split just before it.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) record: Record,
    pub(super) time: i64,
    pub(super) watermark: i64,
}

impl Read {
    pub(super) fn is_left(&self) -> bool {
        matches!(self.record.value, Either::Left(_))
    }

    pub(super) fn number(&self) -> u32 {
        match self.record.value {
            Either::Left(number) | Either::Right(number) => number,
        }
    }

    /// As a late record is written by the verifier.
    pub(super) fn as_late(&self) -> String {
        format!("{:?} at {} behind {}", self.record.value, self.time, self.watermark)
    }
}

/// The records of some splits, each of one side, with the bound of their watermarks.
#[derive(Clone, Debug)]
pub(super) struct Splits {
    bound: i64,
    splits: Vec<Vec<Read>>,
}

pub(super) fn at(millis: i64) -> EventTime {
    EventTime::from_millis(millis)
}

pub(super) fn hash(record: &Record) -> u64 {
    hash_key(&record.key).expect("a number has a hash")
}

impl Splits {
    /// One to three splits a side, out of order, some records far behind, many at equal times.
    pub(super) fn random(random: &mut Random) -> Self {
        let (bound, keys) = (random.between(0, 8), random.between(1, 4) as usize);
        let mut number = 0;
        let mut splits = Vec::new();
        for is_left in [true, false] {
            for _ in 0..random.between(1, 3) {
                let mut now = random.between(-40, 20);
                let mut greatest = None;
                let mut split = Vec::new();
                for _ in 0..random.below(14) {
                    now += random.between(0, 6);
                    let behind = if random.is_chosen(15) { 4 * bound + 9 } else { bound };
                    let time = now - random.between(0, behind);
                    let watermark = greatest.map_or(i64::MIN, |greatest: i64| greatest - bound - 1);
                    greatest = greatest.max(Some(time));
                    let value = if is_left { Either::Left(number) } else { Either::Right(number) };
                    // One key may come once only.
                    let key = if random.is_chosen(3) { 99 } else { random.below(keys) as u8 };
                    split.push(Read { record: Keyed { key, value }, time, watermark });
                    number += 1;
                }
                splits.push(split);
            }
        }
        Splits { bound, splits }
    }

    /// All records, in no particular order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Read> + '_ {
        self.splits.iter().flatten()
    }

    /// A script in which the splits are read in a random order, and the operator's watermark
    /// follows the least of theirs at random distances; at the end it is the end of time.
    pub(super) fn script(&self, random: &mut Random) -> Vec<Input<Record>> {
        let mut script = Vec::new();
        let mut read = vec![0; self.splits.len()];
        let mut last = i64::MIN;
        let eagerness = [5, 40, 100][random.below(3)];
        loop {
            let open = (0..read.len()).filter(|&i| read[i] < self.splits[i].len());
            let open: Vec<usize> = open.collect();
            if open.is_empty() {
                script.push(Input::Watermark(EventTime::MAX));
                return script;
            }
            let split = open[random.below(open.len())];
            let Read { record, time, watermark } = &self.splits[split][read[split]];
            let mark = (time <= watermark).then(|| at(*watermark));
            script.push(Input::Record(*record, at(*time), mark));
            read[split] += 1;
            let merged = (0..read.len()).map(|i| self.watermark(i, read[i])).min();
            let merged = merged.unwrap_or(i64::MIN);
            if merged > last && merged < i64::MAX && random.is_chosen(eagerness) {
                last = merged;
                script.push(Input::Watermark(at(merged)));
            }
        }
    }

    /// The watermark of a split of which `read` records have been read.
    fn watermark(&self, split: usize, read: usize) -> i64 {
        let records = &self.splits[split];
        if read == records.len() {
            return i64::MAX;
        }
        let greatest = records[..read].iter().map(|read| read.time).max();
        greatest.map_or(i64::MIN, |greatest| greatest - self.bound - 1)
    }
}

/// An operator none of whose results may be behind the watermark it has forwarded; and what is to
/// be checked of it whenever a watermark has been dealt with.
pub(super) struct Watched<O> {
    operator: O,
    check: fn(&mut O) -> Result<()>,
    forwarded: EventTime,
}

impl<O: Operator> Watched<O> {
    pub(super) fn new(operator: O, check: fn(&mut O) -> Result<()>) -> Self {
        Watched { operator, check, forwarded: EventTime::MIN }
    }

    fn look_at(&self, out: &Outputs<'_, O::Out, O::Side>) {
        for &time in &out.main.times {
            let forwarded = self.forwarded;
            assert!(time > forwarded, "a result at {time} follows the watermark {forwarded}");
        }
    }
}

impl<O: Operator> Operator for Watched<O> {
    type In = O::In;
    type Out = O::Out;
    type Side = O::Side;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.operator.open(context)
    }

    fn process(
        &mut self,
        input: &mut Batch<O::In>,
        out: &mut Outputs<'_, O::Out, O::Side>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        self.operator.process(input, out, context)?;
        self.look_at(out);
        Ok(())
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, O::Out, O::Side>,
        context: &mut Context<'_>,
    ) -> Result<Advance> {
        let advance = self.operator.advance(watermark, out, context)?;
        self.look_at(out);
        if advance == Advance::Done {
            self.forwarded = self.operator.forwarded(watermark);
            (self.check)(&mut self.operator)?;
        }
        Ok(advance)
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        self.operator.forwarded(watermark)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        self.operator.snapshot(context)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        self.operator.each_table(f)
    }
}
