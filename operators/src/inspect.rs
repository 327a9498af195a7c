//! `inspect`: looks at records as they pass.

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::{Batch, Context, Element, Operator, Outputs, Result};

use crate::stream::Stream;

impl<T: Element> Stream<T> {
    /// Calls `look` with each record and passes it on. After a restart records may be looked at
    /// again.
    #[track_caller]
    pub fn inspect(&self, look: impl Fn(&T) + Send + Sync + 'static) -> Stream<T> {
        let look = Arc::new(look);
        let spec = OperatorSpec::stateless("inspect", Location::caller());
        self.job.operator(self, spec, move || Inspect { look: look.clone(), records: PhantomData })
    }
}

struct Inspect<F, T> {
    look: Arc<F>,
    records: PhantomData<fn(T)>,
}

impl<T: Element, F: Fn(&T) + Send + Sync + 'static> Operator for Inspect<F, T> {
    type In = T;
    type Out = T;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, T, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        input.values.iter().for_each(&*self.look);
        std::mem::swap(input, out.main);
        Ok(())
    }
}
