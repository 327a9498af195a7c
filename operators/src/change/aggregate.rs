//! `aggregate_changes` and `aggregate_as_changes`: aggregates as tables that change.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::{Level, OperatorSpec, Partition};
use thalweg_engine::{
    Batch, Context, Data, EachTable, Key, Marks, OpenContext, Operator, Outputs, Result,
    SnapshotContext,
};

use super::Change;
use crate::aggregate::{Aggregate, RetractableAggregate};
use crate::keyed_table::KeyedTable;
use crate::stream::{Keyed, KeyedStream, Stream};

impl<K: Key, T: Data> KeyedStream<K, Change<T>> {
    /// Aggregates the rows of each key's table, and gives out how the result changes: it is
    /// inserted with the first row, updated when it becomes another, and deleted with the last
    /// row. Rows that are taken away are taken back out of the aggregate, so the last result of
    /// a key is exact; a row may even be taken away before it has come.
    ///
    /// # Cost
    /// State is an accumulator per key that has rows.
    #[track_caller]
    pub fn aggregate_changes<A: RetractableAggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> Stream<Change<Keyed<K, A::Out>>> {
        let mut spec = OperatorSpec::stateful(name, "aggregate_changes", Location::caller());
        // Which intermediate results there are depends on the order of arrival.
        spec.level = Level::D2;
        let aggregate = Arc::new(aggregate);
        self.stream.job.operator(&self.stream, spec, move || ChangingAggregate::new(&aggregate))
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// As [`aggregate`](KeyedStream::aggregate), giving out how the result of each key changes.
    #[track_caller]
    pub fn aggregate_as_changes<A: Aggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> Stream<Change<Keyed<K, A::Out>>>
    where
        A::Out: Data + PartialEq,
    {
        let partition = self.stream.partition;
        let mut spec = OperatorSpec::stateful(name, "aggregate_as_changes", Location::caller());
        spec.level = self.level_of_order();
        spec.problems.extend(aggregate.problems());
        let aggregate = Arc::new(InsertOnly(aggregate));
        let records = self.stream.with_partition(Partition::Forward);
        let inserted =
            records.map(|Keyed { key, value }| Keyed { key, value: Change::Insert(value) });
        let inserted = inserted.over_exchange(partition);
        self.stream.job.operator(&inserted, spec, move || ChangingAggregate::new(&aggregate))
    }
}

/// An aggregate of rows that are never taken away.
struct InsertOnly<A>(A);

impl<T, A: Aggregate<T>> RetractableAggregate<T> for InsertOnly<A>
where
    A::Out: Data + PartialEq,
{
    type Accumulator = A::Accumulator;
    type Out = A::Out;

    fn create(&self) -> A::Accumulator {
        self.0.create()
    }

    fn add(&self, accumulator: &mut A::Accumulator, record: &T) {
        self.0.add(accumulator, record);
    }

    fn retract(&self, _accumulator: &mut A::Accumulator, _record: &T) {
        debug_assert!(false, "a row was taken away from a stream of insertions");
    }

    fn is_empty(&self, _accumulator: &A::Accumulator) -> bool {
        false
    }

    fn finish(&self, accumulator: &A::Accumulator) -> A::Out {
        self.0.finish(accumulator)
    }
}

/// The rows of one key.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Group<A> {
    accumulator: A,
    /// Rows added less rows taken away.
    rows: i64,
}

pub(super) struct ChangingAggregate<K, T, A: RetractableAggregate<T>> {
    aggregate: Arc<A>,
    state: KeyedTable<K, Group<A::Accumulator>>,
    records: PhantomData<fn(T)>,
}

impl<K: Key, T: Data, A: RetractableAggregate<T>> ChangingAggregate<K, T, A> {
    pub(super) fn new(aggregate: &Arc<A>) -> Self {
        ChangingAggregate {
            aggregate: aggregate.clone(),
            state: KeyedTable::new(),
            records: PhantomData,
        }
    }
}

impl<K: Key, T: Data, A: RetractableAggregate<T>> Operator for ChangingAggregate<K, T, A> {
    type In = Keyed<K, Change<T>>;
    type Out = Change<Keyed<K, A::Out>>;
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.state.open(context)
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, Change<T>>>,
        out: &mut Outputs<'_, Change<Keyed<K, A::Out>>, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let aggregate = self.aggregate.clone();
        let table = self.state.table()?;
        let create = || Group { accumulator: aggregate.create(), rows: 0 };
        let result = |group: &Group<A::Accumulator>| {
            (group.rows > 0).then(|| aggregate.finish(&group.accumulator))
        };
        let mut marks = Marks::of(&input.behind);
        let mut taken = 0;
        for Keyed { key, value } in &input.values {
            let (hash, mark) = (input.hashes[taken], marks.at(taken));
            let (old, new, is_empty) = table.update(hash, key, create, |group| {
                let old = result(group);
                match value.is_retraction() {
                    true => aggregate.retract(&mut group.accumulator, value.row()),
                    false => aggregate.add(&mut group.accumulator, value.row()),
                }
                group.rows += value.weight();
                let is_empty = group.rows == 0 && aggregate.is_empty(&group.accumulator);
                (old, result(group), is_empty)
            })?;
            if is_empty {
                table.remove(hash, key)?;
            }
            let row = |value| Keyed { key: key.clone(), value };
            let first = out.main.values.len();
            match (old, new) {
                (None, None) => {}
                (None, Some(new)) => out.main.values.push(Change::Insert(row(new))),
                (Some(old), None) => out.main.values.push(Change::Delete(row(old))),
                (Some(old), Some(new)) if old == new => {}
                (Some(old), Some(new)) => {
                    out.main.values.push(Change::UpdateBefore(row(old)));
                    out.main.values.push(Change::UpdateAfter(row(new)));
                }
            }
            out.main.fill_columns(first, input, taken, mark);
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        table.relieve()?;
        input.drain_front(taken);
        Ok(())
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        self.state.snapshot(context)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        self.state.each_table(f)
    }
}
