//! `process_records`: a function without a key or state that sees times and has a side output.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_engine::Result;
//! use thalweg_operators::{Job, RecordContext, RecordFunction};
//!
//! /// Parses numbers, and puts aside what is none.
//! struct Parse;
//!
//! impl RecordFunction<String, String> for Parse {
//!     type Out = i64;
//!
//!     fn on_record(
//!         &self,
//!         line: String,
//!         context: &mut RecordContext<'_, i64, String>,
//!     ) -> Result<()> {
//!         match line.parse() {
//!             Ok(number) => context.emit(number),
//!             Err(_) => context.emit_side(line),
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let job = Job::new();
//! let ((numbers, _), (others, _)) = (memory::sink(), memory::sink());
//! let parsed = job
//!     .source("lines", memory::source(vec!["1".to_owned(), "x".to_owned()]))
//!     .process_records(Parse);
//! parsed.sink("numbers", numbers);
//! parsed.side().sink("others", others);
//! ```

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::{Level, OperatorSpec};
use thalweg_engine::{Advance, OpenContext};
use thalweg_engine::{Batch, Context, Element, EventTime, Marks, Operator, Outputs, Result};

use super::ProcessStream;
use super::context::{Moment, RecordContext, at};
use crate::stream::Stream;

/// What a `process_records` operator does with each record. `D` is what goes to the side output.
pub trait RecordFunction<T, D: Element = ()>: Send + Sync + 'static {
    /// What is given out.
    type Out: Element;

    /// Whether it wants to know which record a record is: sources attach identities then.
    const NEEDS_RECORD_IDS: bool = false;

    /// A record has come.
    ///
    /// # Errors
    /// Fails the job.
    fn on_record(&self, record: T, context: &mut RecordContext<'_, Self::Out, D>) -> Result<()>;
}

impl<T: Element> Stream<T> {
    /// Calls a function for each record, which sees times and gives out to two outputs. Where it
    /// looks at watermarks or the clock its results depend on scheduling: level D2.
    #[track_caller]
    pub fn process_records<D: Element, P: RecordFunction<T, D>>(
        &self,
        function: P,
    ) -> ProcessStream<P::Out, D> {
        let mut spec = OperatorSpec::stateless("process_records", Location::caller());
        spec.level = Level::D2;
        spec.needs_record_ids = P::NEEDS_RECORD_IDS;
        let function = Arc::new(function);
        let factory = move || ProcessRecords::<T, D, P> {
            function: function.clone(),
            watermark: EventTime::MIN,
            types: PhantomData,
        };
        ProcessStream::new(self.job.operator(self, spec, factory))
    }
}

struct ProcessRecords<T, D, P> {
    function: Arc<P>,
    watermark: EventTime,
    types: PhantomData<fn(T) -> D>,
}

impl<T: Element, D: Element, P: RecordFunction<T, D>> Operator for ProcessRecords<T, D, P> {
    type In = T;
    type Out = P::Out;
    type Side = D;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, P::Out, D>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let at = at(self.watermark, context);
        let mut marks = Marks::of(&input.behind);
        let mut taken = 0;
        let mut values = std::mem::take(&mut input.values).into_iter();
        for value in values.by_ref() {
            let moment = Moment::of(input, taken, &mut marks, at);
            self.function.on_record(value, &mut RecordContext::new(moment, out))?;
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        input.drain_columns(taken);
        input.values = values.collect();
        Ok(())
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        _out: &mut Outputs<'_, P::Out, D>,
        _context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        Ok(Advance::Done)
    }
}
