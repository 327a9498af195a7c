//! `Then`: an aggregate whose result goes through a function.

use std::marker::PhantomData;

use thalweg_engine::Element;
use thalweg_engine::graph::Level;

use super::Aggregate;

/// An aggregate whose result goes through a function; see [`Aggregate::then`].
pub struct Then<A, F, T> {
    aggregate: A,
    f: F,
    records: PhantomData<fn(&T)>,
}

impl<A, F, T> Then<A, F, T> {
    pub(super) fn new(aggregate: A, f: F) -> Self {
        Then { aggregate, f, records: PhantomData }
    }
}

impl<T: 'static, A: Aggregate<T>, O: Element, F> Aggregate<T> for Then<A, F, T>
where
    F: Fn(A::Out) -> O + Send + Sync + 'static,
{
    type Accumulator = A::Accumulator;
    type Out = O;

    fn create(&self) -> A::Accumulator {
        self.aggregate.create()
    }

    #[inline]
    fn add(&self, accumulator: &mut A::Accumulator, record: &T) {
        self.aggregate.add(accumulator, record);
    }

    fn merge(&self, accumulator: &mut A::Accumulator, other: &A::Accumulator) {
        self.aggregate.merge(accumulator, other);
    }

    fn finish(&self, accumulator: &A::Accumulator) -> O {
        (self.f)(self.aggregate.finish(accumulator))
    }

    fn level(&self) -> Level {
        self.aggregate.level()
    }

    fn problems(&self) -> Vec<String> {
        self.aggregate.problems()
    }
}
