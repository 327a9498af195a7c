//! `to_changes`: the latest value of each key, as a table that changes.

use std::marker::PhantomData;
use std::panic::Location;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{
    Batch, Context, Data, EachTable, Key, Marks, OpenContext, Operator, Outputs, Result,
    SnapshotContext,
};

use super::Change;
use crate::keyed_table::KeyedTable;
use crate::stream::{Keyed, KeyedStream, Stream};

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// The latest record of each key as a table: the first is inserted, each one after it updates
    /// the one before (*upserts*; keep-last deduplication). *Latest* is by arrival, or by event
    /// time behind [`in_event_order`](KeyedStream::in_event_order).
    ///
    /// # Cost
    /// State is a record per key, without end.
    #[track_caller]
    pub fn to_changes(&self, name: impl Into<String>) -> Stream<Change<Keyed<K, T>>> {
        self.upserts(name.into(), Location::caller(), Some)
    }

    fn upserts<V: Data>(
        &self,
        name: String,
        location: &'static Location<'static>,
        value_of: fn(T) -> Option<V>,
    ) -> Stream<Change<Keyed<K, V>>> {
        let mut spec = OperatorSpec::stateful(name, "to_changes", location);
        spec.level = self.level_of_order();
        self.stream.job.operator(&self.stream, spec, move || Upserts::new(value_of))
    }
}

impl<K: Key, V: Data> KeyedStream<K, Option<V>> {
    /// As [`to_changes`](KeyedStream::to_changes), where `None` deletes what the key has.
    ///
    /// # Cost
    /// State is a record per key that was not deleted.
    #[track_caller]
    pub fn to_changes_with_deletes(&self, name: impl Into<String>) -> Stream<Change<Keyed<K, V>>> {
        self.upserts(name.into(), Location::caller(), |value| value)
    }
}

pub(super) struct Upserts<K, T, V> {
    value_of: fn(T) -> Option<V>,
    state: KeyedTable<K, V>,
    records: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, V: Data> Upserts<K, T, V> {
    pub(super) fn new(value_of: fn(T) -> Option<V>) -> Self {
        Upserts { value_of, state: KeyedTable::new(), records: PhantomData }
    }
}

impl<K: Key, T: Data, V: Data> Operator for Upserts<K, T, V> {
    type In = Keyed<K, T>;
    type Out = Change<Keyed<K, V>>;
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.state.open(context)
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, Change<Keyed<K, V>>, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let value_of = self.value_of;
        let table = self.state.table()?;
        let mut marks = Marks::of(&input.behind);
        let mut taken = 0;
        let mut values = std::mem::take(&mut input.values).into_iter();
        for Keyed { key, value } in values.by_ref() {
            let (hash, mark) = (input.hashes[taken], marks.at(taken));
            let row = |value| Keyed { key: key.clone(), value };
            let first = out.main.values.len();
            let given = &mut out.main.values;
            match value_of(value) {
                None => given.extend(table.remove(hash, &key)?.map(|old| Change::Delete(row(old)))),
                Some(new) => {
                    let mut is_new = false;
                    let after = row(new.clone());
                    let init = || {
                        is_new = true;
                        new.clone()
                    };
                    let old = table
                        .update(hash, &key, init, |old| std::mem::replace(old, new.clone()))?;
                    if is_new {
                        given.push(Change::Insert(after));
                    } else {
                        given.push(Change::UpdateBefore(row(old)));
                        given.push(Change::UpdateAfter(after));
                    }
                }
            }
            out.main.fill_columns(first, input, taken, mark);
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        input.drain_columns(taken);
        input.values = values.collect();
        Ok(table.relieve()?)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        self.state.snapshot(context)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        self.state.each_table(f)
    }
}
