//! `split` and `side_output`: one stream becomes two, in one pass.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_operators::{Either, Job};
//!
//! let job = Job::new();
//! let (numbers_out, _) = memory::sink();
//! let (words_out, _) = memory::sink();
//! let (numbers, words) = job
//!     .source("lines", memory::source(vec!["7".to_owned(), "seven".to_owned()]))
//!     .side_output(|line: String| match line.parse::<i64>() {
//!         Ok(number) => Either::Left(number),
//!         Err(_) => Either::Right(line),
//!     });
//! numbers.sink("numbers", numbers_out);
//! words.sink("words", words_out);
//! ```

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{Batch, Context, Element, Marks, Operator, Outputs, Result};

use crate::stream::{Either, Stream};

impl<T: Element> Stream<T> {
    /// The records for which `is_first` is true, and the others. The first stream has to be used;
    /// of the second, what is not used is dropped.
    #[track_caller]
    pub fn split(
        &self,
        is_first: impl Fn(&T) -> bool + Send + Sync + 'static,
    ) -> (Stream<T>, Stream<T>) {
        let route = move |record: T| match is_first(&record) {
            true => Either::Left(record),
            false => Either::Right(record),
        };
        self.routed("split", Location::caller(), route)
    }

    /// Turns each record into one of the first or one of the second stream: a main output, and a
    /// side output of another type. The first stream has to be used; of the second, what is not
    /// used is dropped.
    #[track_caller]
    pub fn side_output<M: Element, S: Element>(
        &self,
        route: impl Fn(T) -> Either<M, S> + Send + Sync + 'static,
    ) -> (Stream<M>, Stream<S>) {
        self.routed("side_output", Location::caller(), route)
    }

    fn routed<M: Element, S: Element>(
        &self,
        what: &'static str,
        location: &'static Location<'static>,
        route: impl Fn(T) -> Either<M, S> + Send + Sync + 'static,
    ) -> (Stream<M>, Stream<S>) {
        let route = Arc::new(route);
        let spec = OperatorSpec::stateless(what, location);
        let main = self
            .job
            .operator(self, spec, move || Route { route: route.clone(), types: PhantomData });
        let side = main.side();
        (main, side)
    }
}

struct Route<F, T, M, S> {
    route: Arc<F>,
    types: PhantomData<fn(T) -> (M, S)>,
}

impl<T: Element, M: Element, S: Element, F> Operator for Route<F, T, M, S>
where
    F: Fn(T) -> Either<M, S> + Send + Sync + 'static,
{
    type In = T;
    type Out = M;
    type Side = S;

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, M, S>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let mut values = std::mem::take(&mut input.values);
        let mut marks = Marks::of(&input.behind);
        for (i, value) in values.drain(..).enumerate() {
            let mark = marks.at(i);
            match (self.route)(value) {
                Either::Left(value) => out.main.push_from(value, input, i, mark),
                Either::Right(value) => out.side.push_from(value, input, i, mark),
            }
        }
        // The memory goes back to where batches are filled.
        input.values = values;
        input.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;
    use std::sync::Arc;

    use thalweg_engine::EventTime;
    use thalweg_engine::testing::{Input, verify_operator};

    use super::{Either, Route};

    #[test]
    fn every_record_goes_one_way_with_its_time_and_mark() {
        let at = EventTime::from_millis;
        let script: Vec<_> =
            (0..40_i64).map(|n| Input::Record(n, at(n / 2), (n % 5 == 0).then(|| at(n)))).collect();
        let route = |n: i64| match n % 3 {
            0 => Either::Left(n),
            _ => Either::Right(format!("no {n}")),
        };
        let make = || Route { route: Arc::new(route), types: PhantomData };
        let given = verify_operator(make, None, &script).expect("all modes agree");
        let line = |n: i64| {
            let mark = if n % 5 == 0 { format!(" behind {n}") } else { String::new() };
            format!("at {}{mark}", n / 2)
        };
        let mut main: Vec<_> = (0..40).step_by(3).map(|n| format!("{n} {}", line(n))).collect();
        main.sort_unstable();
        let others = (0..40).filter(|n| n % 3 != 0);
        let mut side: Vec<_> = others.map(|n| format!("\"no {n}\" {}", line(n))).collect();
        side.sort_unstable();
        assert_eq!((given.main, given.side), (main, side));
    }
}
