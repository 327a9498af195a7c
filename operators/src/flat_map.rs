//! `flat_map`: one record in, any number out.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{Batch, Context, Element, Marks, Operator, Outputs, Result};

use crate::stream::Stream;

impl<T: Element> Stream<T> {
    /// Turns each record into any number of others, which take over its time.
    #[track_caller]
    pub fn flat_map<U: Element, I: IntoIterator<Item = U> + 'static>(
        &self,
        f: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> Stream<U> {
        let f = Arc::new(f);
        let spec = OperatorSpec::stateless("flat_map", Location::caller());
        self.job.operator(self, spec, move || FlatMap { f: f.clone(), types: PhantomData })
    }
}

struct FlatMap<F, T, U, I> {
    f: Arc<F>,
    types: PhantomData<fn(T) -> (U, I)>,
}

impl<T: Element, U: Element, I: IntoIterator<Item = U> + 'static, F> Operator
    for FlatMap<F, T, U, I>
where
    F: Fn(T) -> I + Send + Sync + 'static,
{
    type In = T;
    type Out = U;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, U, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let mut marks = Marks::of(&input.behind);
        let mut taken = 0;
        let mut values = std::mem::take(&mut input.values).into_iter();
        for value in values.by_ref() {
            let mark = marks.at(taken);
            let before = out.main.values.len();
            out.main.values.extend((self.f)(value));
            out.main.fill_columns(before, input, taken, mark);
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        input.drain_columns(taken);
        input.values = values.collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;
    use std::sync::Arc;

    use thalweg_engine::EventTime;
    use thalweg_engine::testing::{Input, verify_operator};

    use super::FlatMap;

    #[test]
    fn a_full_output_neither_loses_nor_repeats_records() {
        let times = |n: u32| {
            let mark = n.is_multiple_of(3).then(|| EventTime::from_millis(50));
            Input::Record(n, EventTime::from_millis(i64::from(n)), mark)
        };
        let script: Vec<_> = (0..20).map(times).collect();
        let repeat = |n: u32| (0..n % 4).map(move |i| n * 10 + i);
        let make = || FlatMap { f: Arc::new(repeat), types: PhantomData };
        let given = verify_operator(make, None, &script).expect("all modes agree");
        let mut expected: Vec<String> = (0..20_u32)
            .flat_map(|n| {
                let mark = if n % 3 == 0 { " behind 50" } else { "" };
                (0..n % 4).map(move |i| format!("{} at {n}{mark}", n * 10 + i))
            })
            .collect();
        expected.sort_unstable();
        assert_eq!(given.main, expected);
    }
}
