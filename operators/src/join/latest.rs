//! Joining a stream with a table's latest versions, as they are when a row comes.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::{
    Batch, Context, Data, EachTable, Element, EventTime, Key, Marks, OpenContext, Operator,
    Outputs, Result, SnapshotContext,
};

use super::as_of::AsOfJoin;
use super::pair::{self, Pairing};
use crate::connect::ConnectedStreams;
use crate::keyed_table::KeyedTable;
use crate::stream::{Either, Keyed, Stream};

/// A stream to be joined with a table; which version comes next.
pub struct TableJoin<K, A, V> {
    pub(super) streams: ConnectedStreams<K, A, Option<V>>,
}

impl<K: Key, A: Data, V: Data> TableJoin<K, A, V> {
    /// The version that is the latest when the row comes. Which one that is depends on scheduling:
    /// level D2.
    pub fn latest(self) -> LatestJoin<K, A, V> {
        LatestJoin { streams: self.streams }
    }

    /// The version that was the latest at the row's time.
    pub fn as_of(self) -> AsOfJoin<K, A, V> {
        AsOfJoin::new(self.streams)
    }
}

/// A stream to be joined with the latest versions of a table.
pub struct LatestJoin<K, A, V> {
    streams: ConnectedStreams<K, A, Option<V>>,
}

impl<K: Key, A: Data, V: Data> LatestJoin<K, A, V> {
    /// Gives out the rows whose key has a version. State: a version per key.
    #[track_caller]
    pub fn inner<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, &A, &V) -> R + Send + Sync + 'static,
    ) -> Stream<R> {
        self.build(name.into(), pair::inner(f))
    }

    /// Gives out all rows, with a version if their key has one. State: a version per key.
    #[track_caller]
    pub fn left<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, &A, Option<&V>) -> R + Send + Sync + 'static,
    ) -> Stream<R> {
        self.build(name.into(), pair::left(f))
    }

    #[track_caller]
    fn build<R: Element>(&self, name: String, f: impl Pairing<K, A, V, R>) -> Stream<R> {
        let mut spec = OperatorSpec::stateful(name, "table join", Location::caller());
        spec.level = Level::D2;
        let ConnectedStreams { left, right } = &self.streams;
        let (left, right) = (left.tagged_left::<Option<V>>(), right.tagged_right::<A>());
        let f = Arc::new(f);
        let make = move || Latest {
            f: f.clone(),
            state: KeyedTable::new(),
            types: PhantomData::<fn(K, A, V) -> R>,
        };
        left.job.operator2(&left, &right, spec, make)
    }
}

struct Latest<K, A, V, F, R> {
    f: Arc<F>,
    state: KeyedTable<K, V>,
    types: PhantomData<fn(K, A, V) -> R>,
}

impl<K: Key, A: Data, V: Data, R: Element, F> Operator for Latest<K, A, V, F, R>
where
    F: Pairing<K, A, V, R>,
{
    type In = Keyed<K, Either<A, Option<V>>>;
    type Out = R;
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.state.open(context)
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, Either<A, Option<V>>>>,
        out: &mut Outputs<'_, R, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let mut marks = Marks::of(&input.behind);
        let f = self.f.clone();
        let versions = self.state.table()?;
        for (index, Keyed { key, value }) in input.values.drain(..).enumerate() {
            let (hash, mark) = (input.hashes[index], marks.at(index));
            match value {
                Either::Left(row) => {
                    let time = input.times.get(index).copied().unwrap_or(EventTime::MIN);
                    if let Some(result) = f(&key, Some(&row), versions.get(hash, &key)?) {
                        out.main.push_marked(result, time, mark);
                        out.main.ids.extend(input.ids.get(index));
                    }
                }
                Either::Right(Some(version)) => versions.insert(hash, &key, version)?,
                Either::Right(None) => drop(versions.remove(hash, &key)?),
            }
        }
        input.clear();
        Ok(versions.relieve()?)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        self.state.snapshot(context)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        self.state.each_table(f)
    }
}

#[cfg(test)]
mod tests {
    use thalweg_engine::state::hash_key;
    use thalweg_engine::testing::{Input, verify_operator};

    use super::*;

    type Record = Keyed<u8, Either<u32, Option<char>>>;

    #[test]
    fn a_row_sees_what_the_table_is_when_it_comes() {
        let at = EventTime::from_millis;
        let row =
            |key, n, time| Input::Record(Keyed { key, value: Either::Left(n) }, at(time), None);
        let version =
            |key, v, time| Input::Record(Keyed { key, value: Either::Right(v) }, at(time), None);
        let behind = Keyed { key: 1, value: Either::Left(4) };
        let script: Vec<Input<Record>> = vec![
            row(1, 1, 10),
            version(1, Some('a'), 20),
            version(2, Some('x'), 20),
            row(1, 2, -5),
            row(2, 3, 5),
            version(1, Some('b'), 3),
            Input::Record(behind, at(1), Some(at(8))),
            version(1, None, 30),
            row(1, 5, 31),
            version(3, None, 32),
            row(3, 6, 33),
        ];
        let run = |is_outer: bool| {
            let f = move |_: &u8, a: Option<&u32>, v: Option<&char>| {
                (is_outer || v.is_some()).then(|| (a.copied(), v.copied()))
            };
            let f = Arc::new(f);
            let make = || Latest { f: f.clone(), state: KeyedTable::new(), types: PhantomData };
            let hash = |record: &Record| hash_key(&record.key).expect("a number has a hash");
            verify_operator(make, Some(&hash), &script).expect("all modes agree").main
        };
        let with = ["(Some(2), Some('a')) at -5", "(Some(3), Some('x')) at 5"];
        let behind = "(Some(4), Some('b')) at 1 behind 8";
        let without = ["(Some(1), None) at 10", "(Some(5), None) at 31", "(Some(6), None) at 33"];
        let mut all = [&with[..], &[behind][..], &without[..]].concat();
        all.sort_unstable();
        assert_eq!(run(true), all);
        let mut inner = [&with[..], &[behind][..]].concat();
        inner.sort_unstable();
        assert_eq!(run(false), inner);
    }
}
