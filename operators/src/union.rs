//! `union`: records of several streams as one.

use std::marker::PhantomData;
use std::panic::Location;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{Batch, Context, Element, Operator, Outputs, Result};

use crate::stream::Stream;

impl<T: Element> Stream<T> {
    /// The records of this stream and of `others`. Its watermark is the least of theirs.
    #[track_caller]
    pub fn union<'a>(&self, others: impl IntoIterator<Item = &'a Stream<T>>) -> Stream<T>
    where
        T: 'a,
    {
        let spec = OperatorSpec::stateless("union", Location::caller());
        let union = self.job.operator(self, spec, Union::new);
        for other in others {
            self.job.connect(other, union.node);
        }
        union
    }
}

/// Passes records on without their key hashes.
pub(crate) struct Union<T> {
    records: PhantomData<fn(T)>,
}

impl<T> Union<T> {
    pub(crate) fn new() -> Self {
        Union { records: PhantomData }
    }
}

impl<T: Element> Operator for Union<T> {
    type In = T;
    type Out = T;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, T, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        // Streams that were keyed differently, or not at all, are not keyed together.
        input.hashes.clear();
        std::mem::swap(input, out.main);
        Ok(())
    }
}
