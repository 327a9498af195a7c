//! The operator behind a temporal join; see the parent module for its invariants.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::state::{Namespace, OperatorState, SlicedTable, Table, TableId};
use thalweg_engine::{
    Advance, Batch, Context, Counter, Data, EachTable, Element, Error, EventTime, Key, Marks,
    OpenContext, Operator, Outputs, RecordId, Result, SnapshotContext,
};

use super::waiting::{Waited, Waiting};
use crate::join::pair::Pairing;
use crate::stream::{Either, Keyed};

const ROWS: TableId = TableId(0);
const VERSIONS: TableId = TableId(1);
/// Keys whose versions may be cleaned up, by the span of time in which a version begins that
/// makes an older one superfluous, or itself, as a deletion.
const CLEAN_UPS: TableId = TableId(2);

/// A version of a key, or its deletion.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Version<V> {
    time: i64,
    id: RecordId,
    value: Option<V>,
}

/// Versions of a key in order of (time, identity), equal ones in order of arrival.
type Versions<V> = Vec<Version<V>>;

pub(super) struct AsOfOperator<K, A, V, F, R> {
    f: Arc<F>,
    lateness_ms: i64,
    bucket_ms: i64,
    /// The operator's watermark, for records of splits that were idle.
    watermark: EventTime,
    /// All rows up to this time have been given out: no row needs older versions. The watermark may
    /// be further while its rows are given out, and after a restore in the middle of that.
    done: i64,
    open: Option<Opened<K, A, V>>,
    results: PhantomData<fn() -> R>,
}

struct Opened<K, A, V> {
    state: OperatorState,
    rows: Waiting<K, A>,
    versions: Table<K, Versions<V>>,
    clean_ups: SlicedTable<K, ()>,
}

impl<K: Key, A: Data, V: Data, F, R> AsOfOperator<K, A, V, F, R> {
    pub(super) fn new(f: Arc<F>, lateness_ms: i64, bucket_ms: i64) -> Self {
        let (watermark, results) = (EventTime::MIN, PhantomData);
        AsOfOperator { f, lateness_ms, bucket_ms, watermark, done: i64::MIN, open: None, results }
    }

    fn opened(&mut self) -> Result<&mut Opened<K, A, V>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    /// All rows up to this time can be given out.
    fn limit(&self) -> i64 {
        self.watermark.shifted(-self.lateness_ms).millis()
    }

    fn add_version(&mut self, hash: u64, key: &K, version: Version<V>) -> Result<()> {
        let (limit, bucket_ms) = (self.done, self.bucket_ms);
        let opened = self.opened()?;
        let (time, is_deletion) = (version.time, version.value.is_none());
        let (has_older, next) = opened.versions.update(hash, key, Vec::new, |versions| {
            clean_up(versions, limit);
            let order = (version.time, version.id);
            let at = versions.partition_point(|other| (other.time, other.id) <= order);
            versions.insert(at, version);
            (at > 0, versions.get(at + 1).map(|next| next.time))
        })?;
        let begins = (has_older || is_deletion).then_some(time);
        for time in begins.into_iter().chain(next) {
            let bucket = time - time.rem_euclid(bucket_ms);
            opened.clean_ups.slice(Namespace(bucket, 0)).insert(hash, key, ())?;
        }
        Ok(())
    }

    /// Removes versions that no row will need. Called when all rows up to the limit are given out.
    fn clean_up(&mut self) -> Result<()> {
        let (limit, bucket_ms) = (self.limit(), self.bucket_ms);
        self.done = limit;
        let opened = self.opened()?;
        let is_due = |n: &Namespace| n.0.saturating_add(bucket_ms - 1) <= limit;
        loop {
            let first = opened.clean_ups.namespaces().next();
            let Some(due) = first.filter(is_due) else { return Ok(()) };
            let mut keys = Vec::new();
            if let Some(slice) = opened.clean_ups.get_slice(due) {
                slice.for_each(|key, hash, ()| keys.push((hash, key.clone())))?;
            }
            opened.clean_ups.drop_slice(due)?;
            for (hash, key) in keys {
                let is_empty = opened.versions.update(hash, &key, Vec::new, |versions| {
                    clean_up(versions, limit);
                    versions.is_empty()
                })?;
                if is_empty {
                    opened.versions.remove(hash, &key)?;
                }
            }
        }
    }
}

#[cfg(test)]
impl<K: Key, A: Data, V: Data, F, R> AsOfOperator<K, A, V, F, R> {
    /// Asserts that no key has a version that no row can need; clean-ups lag by a span.
    pub(super) fn check_versions(&mut self) -> Result<()> {
        let limit = self.limit();
        self.opened()?.versions.for_each(|_, _, versions| {
            let past = versions.iter().filter(|version| version.time <= limit).count();
            let first = versions.first().map(|first| (first.time <= limit, first.value.is_some()));
            assert!(past <= 1, "{past} versions up to {limit} are kept");
            assert!(first.is_some_and(|first| first != (true, false)), "a deletion is kept");
        })?;
        Ok(())
    }
}

/// Removes the versions that only rows up to `limit` need.
fn clean_up<V>(versions: &mut Versions<V>, limit: i64) {
    let past = versions.partition_point(|version| version.time <= limit);
    let last_holds = past > 0 && versions[past - 1].value.is_some();
    versions.drain(..past - usize::from(last_holds));
}

impl<K: Key, A: Data, V: Data, R: Element, F: Pairing<K, A, V, R>> Operator
    for AsOfOperator<K, A, V, F, R>
{
    type In = Keyed<K, Either<A, Option<V>>>;
    type Out = R;
    type Side = Either<A, Keyed<K, Option<V>>>;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        let mut state = context.open_state()?;
        let mut rows = Waiting::new(&mut state, ROWS, self.bucket_ms);
        let (mut versions, mut clean_ups) = (state.table(VERSIONS), state.sliced(CLEAN_UPS));
        state.restore(context.restored, &mut |key, value| match key.table {
            ROWS => rows.restore(&key, value),
            VERSIONS => versions.restore_entry(&key, value),
            _ => clean_ups.restore_entry(&key, value),
        })?;
        self.open = Some(Opened { state, rows, versions, clean_ups });
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, Either<A, Option<V>>>>,
        out: &mut Outputs<'_, R, Either<A, Keyed<K, Option<V>>>>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let (lateness, watermark) = (self.lateness_ms, self.watermark);
        let mut marks = Marks::of(&input.behind);
        for (index, Keyed { key, value }) in input.values.drain(..).enumerate() {
            let (hash, at) = (input.hashes[index], input.times[index]);
            // The watermark of its split, or the operator's, where that has gone on without an
            // idle split.
            let judge = marks.at(index).unwrap_or(EventTime::MIN).max(watermark);
            let time = at.millis();
            if time.saturating_add(lateness) <= judge.millis() {
                let late = match value {
                    Either::Left(row) => Either::Left(row),
                    Either::Right(value) => Either::Right(Keyed { key, value }),
                };
                out.side.push_marked(late, at, Some(judge));
                continue;
            }
            match value {
                Either::Left(row) => {
                    self.opened()?.rows.push(time, Waited { hash, key, row })?;
                }
                Either::Right(value) => {
                    let id = input.ids.get(index).copied().unwrap_or_default();
                    self.add_version(hash, &key, Version { time, id, value })?;
                }
            }
        }
        context.metrics.add(Counter::Late, out.side.len() as u64);
        input.clear();
        let opened = self.opened()?;
        opened.rows.relieve()?;
        opened.versions.relieve()?;
        Ok(opened.clean_ups.relieve()?)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, R, Either<A, Keyed<K, Option<V>>>>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        let (limit, f) = (self.limit(), self.f.clone());
        let opened = self.opened()?;
        while !out.is_full() {
            let Some((time, Waited { hash, key, row })) = opened.rows.pop(limit)? else {
                self.clean_up()?;
                return Ok(Advance::Done);
            };
            let versions = opened.versions.get(hash, &key)?.map_or(&[][..], Vec::as_slice);
            let past = versions.partition_point(|version| version.time <= time);
            let version = versions[..past].last().and_then(|version| version.value.as_ref());
            if let Some(result) = f(&key, Some(&row), version) {
                out.main.push(result, EventTime::from_millis(time));
            }
        }
        Ok(Advance::More)
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        watermark.shifted(-self.lateness_ms)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let opened = self.opened()?;
        let mut snapshot = opened.state.begin_snapshot();
        opened.rows.snapshot_into(&mut snapshot)?;
        opened.versions.snapshot_into(&mut snapshot)?;
        opened.clean_ups.snapshot_into(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        opened.rows.after_snapshot()
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let opened = self.opened()?;
        f(opened.rows.state_table())?;
        f(&mut opened.versions)?;
        Ok(f(&mut opened.clean_ups)?)
    }
}
