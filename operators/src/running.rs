//! Running aggregates of a keyed stream: a result for every record.

use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{
    Batch, Context, Data, EachTable, Key, OpenContext, Operator, Outputs, Result, SnapshotContext,
};

use crate::aggregate::{Aggregate, Reduce};
use crate::keyed_table::KeyedTable;
use crate::stream::{Keyed, KeyedStream, Stream};

impl<K: Key, T: Data> KeyedStream<K, T> {
    /// Folds the records of each key and gives out the result so far after every record. The
    /// last result of a key is its final one. State is kept for good: one accumulator per key.
    #[track_caller]
    pub fn aggregate<A: Aggregate<T>>(
        &self,
        name: impl Into<String>,
        aggregate: A,
    ) -> Stream<Keyed<K, A::Out>> {
        let mut spec = OperatorSpec::stateful(name, "aggregate", Location::caller());
        // Which intermediate results there are depends on the order of the records.
        spec.level = self.level_of_order();
        spec.problems.extend(aggregate.problems());
        let note = "keeps a value for every key for good; a window gives it an end";
        spec.note = Some(note.to_owned());
        let aggregate = Arc::new(aggregate);
        self.stream.job.operator(&self.stream, spec, move || RunningAggregate::<K, T, A> {
            aggregate: aggregate.clone(),
            state: KeyedTable::new(),
        })
    }

    /// Combines the records of each key two by two and gives out the result so far.
    #[track_caller]
    pub fn reduce(
        &self,
        name: impl Into<String>,
        combine: impl Fn(&T, &T) -> T + Send + Sync + 'static,
    ) -> Stream<Keyed<K, T>> {
        self.aggregate(name, Reduce::with(combine))
    }
}

struct RunningAggregate<K, T, A: Aggregate<T>> {
    aggregate: Arc<A>,
    state: KeyedTable<K, A::Accumulator>,
}

impl<K: Key, T: Data, A: Aggregate<T>> Operator for RunningAggregate<K, T, A> {
    type In = Keyed<K, T>;
    type Out = Keyed<K, A::Out>;
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.state.open(context)
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, T>>,
        out: &mut Outputs<'_, Keyed<K, A::Out>, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let aggregate = self.aggregate.clone();
        let table = self.state.table()?;
        let values = &input.values;
        out.main.values.reserve(values.len());
        table.update_batch(
            &input.hashes,
            |i| &values[i].key,
            || aggregate.create(),
            |i, accumulator| {
                let Keyed { key, value } = &values[i];
                aggregate.add(accumulator, value);
                let value = aggregate.finish(accumulator);
                out.main.values.push(Keyed { key: key.clone(), value });
            },
        )?;
        table.relieve()?;
        out.main.take_columns(input);
        Ok(())
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
    use std::sync::Arc;

    use thalweg_engine::EventTime;
    use thalweg_engine::state::hash_key;
    use thalweg_engine::testing::{Input, verify_operator};

    use super::{Keyed, KeyedTable, RunningAggregate};
    use crate::aggregate::Count;

    #[test]
    fn every_record_gives_the_count_so_far_in_every_mode() {
        let record =
            |n: u32| Input::Record(Keyed { key: n % 5, value: n }, EventTime::from_millis(0), None);
        let script: Vec<_> = (0..50).map(record).collect();
        let given = verify_operator(
            || RunningAggregate::<u32, u32, Count> {
                aggregate: Arc::new(Count),
                state: KeyedTable::new(),
            },
            Some(&|keyed: &Keyed<u32, u32>| hash_key(&keyed.key).expect("a number has a hash")),
            &script,
        )
        .expect("all modes agree");
        let mut expected: Vec<String> = (0..50)
            .map(|n| format!("Keyed {{ key: {}, value: {} }} at 0", n % 5, n / 5 + 1))
            .collect();
        expected.sort_unstable();
        assert_eq!(given.main, expected);
    }
}
