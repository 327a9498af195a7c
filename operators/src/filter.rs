//! `filter`: keeps the records for which a function is true.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{Batch, Context, Element, Operator, Outputs, Result};

use crate::stream::Stream;

impl<T: Element> Stream<T> {
    /// Keeps the records for which `keep` is true.
    #[track_caller]
    pub fn filter(&self, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> Stream<T> {
        let keep = Arc::new(keep);
        let spec = OperatorSpec::stateless("filter", Location::caller());
        self.job.operator(self, spec, move || Filter { keep: keep.clone(), records: PhantomData })
    }
}

struct Filter<F, T> {
    keep: Arc<F>,
    records: PhantomData<fn(T)>,
}

impl<T: Element, F: Fn(&T) -> bool + Send + Sync + 'static> Operator for Filter<F, T> {
    type In = T;
    type Out = T;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, T, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        input.retain(&*self.keep);
        std::mem::swap(input, out.main);
        Ok(())
    }
}
