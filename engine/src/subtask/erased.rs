//! The one place where record types are forgotten and recovered.
//!
//! A chain is a list of operators of unrelated record types. Each is wrapped in an
//! [`OperatorCell`] that owns a typed input batch and typed output batches, and shows the chain
//! untyped methods. A batch moves from an output to the next input by a swap behind one downcast:
//! one virtual call per batch, no allocation, and the emptied batch goes back the other way.

use std::any::Any;

use thalweg_state::Element;

use crate::batch::Batch;
use crate::channel::AnyBatch;
use crate::error::Result;
use crate::operator::{
    Advance, Context, EachTable, OpenContext, Operator, Outputs, SnapshotContext, TimeOrigin,
};
use crate::poison::{RecordAt, show};
use crate::time::EventTime;

/// The number of output ports an operator has: main and side.
pub(crate) const PORTS: usize = 2;

/// Something that gives out batches: an operator or a source.
pub(crate) trait ErasedOutputs: Send {
    /// How many records wait on the port.
    fn output_len(&self, port: usize) -> usize;
    /// Moves what waits on the port into `target`, which is an empty `Batch` of the port's type.
    fn move_output(&mut self, port: usize, target: &mut dyn Any);
    /// Copies what waits on the port into `target`.
    fn copy_output(&mut self, port: usize, target: &mut dyn Any);
    /// Forgets what waits on the port.
    fn clear_output(&mut self, port: usize);
}

/// An operator without its types.
pub(crate) trait ErasedOperator: ErasedOutputs {
    /// The input batch, as `Batch<In>`.
    fn input(&mut self) -> &mut dyn Any;
    /// How many records wait to be processed.
    fn input_len(&self) -> usize;
    /// Sees to it that the next call of `process` is given one record, and says which.
    fn isolate(&mut self) -> Option<RecordAt>;
    /// Ends what `isolate` has begun: `process` is given all records again.
    fn rejoin(&mut self);
    /// Exchanges the (empty) input with a batch from a channel.
    fn swap_input(&mut self, batch: &mut AnyBatch);
    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()>;
    fn process(&mut self, context: &mut Context<'_>) -> Result<()>;
    fn advance(&mut self, watermark: EventTime, context: &mut Context<'_>) -> Result<Advance>;
    fn on_time(&mut self, context: &mut Context<'_>) -> Result<()>;
    fn before_barrier(&mut self, context: &mut Context<'_>) -> Result<Advance>;
    fn forwarded(&self, watermark: EventTime) -> EventTime;
    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()>;
    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()>;
    fn as_time_origin(&mut self) -> Option<&mut dyn TimeOrigin>;
}

/// Typed outputs of an operator or source.
pub(crate) struct OutputCell<T, S> {
    pub(crate) main: Batch<T>,
    pub(crate) side: Batch<S>,
}

impl<T, S> Default for OutputCell<T, S> {
    fn default() -> Self {
        OutputCell { main: Batch::default(), side: Batch::default() }
    }
}

impl<T, S> OutputCell<T, S> {
    fn outputs(&mut self, context: &Context<'_>) -> Outputs<'_, T, S> {
        let capacity = context.batch_records;
        Outputs { main: &mut self.main, side: &mut self.side, capacity }
    }
}

/// The batch behind `any`.
fn typed<T: 'static>(any: &mut dyn Any) -> &mut Batch<T> {
    any.downcast_mut().expect("the graph connects ports only to inputs of their type")
}

impl<T: Element, S: Element> ErasedOutputs for OutputCell<T, S> {
    fn output_len(&self, port: usize) -> usize {
        if port == 0 { self.main.len() } else { self.side.len() }
    }

    fn move_output(&mut self, port: usize, target: &mut dyn Any) {
        if port == 0 {
            std::mem::swap(&mut self.main, typed(target));
        } else {
            std::mem::swap(&mut self.side, typed(target));
        }
    }

    fn copy_output(&mut self, port: usize, target: &mut dyn Any) {
        if port == 0 {
            typed::<T>(target).clone_from(&self.main);
        } else {
            typed::<S>(target).clone_from(&self.side);
        }
    }

    fn clear_output(&mut self, port: usize) {
        if port == 0 { self.main.clear() } else { self.side.clear() }
    }
}

/// An operator with its input and outputs.
pub(crate) struct OperatorCell<O: Operator> {
    operator: O,
    input: Batch<O::In>,
    /// What waits behind a record that was isolated. Nothing, unless the operator is suspected.
    behind: Batch<O::In>,
    out: OutputCell<O::Out, O::Side>,
}

impl<O: Operator> OperatorCell<O> {
    pub(crate) fn new(operator: O) -> Self {
        let (input, behind) = (Batch::default(), Batch::default());
        OperatorCell { operator, input, behind, out: OutputCell::default() }
    }
}

impl<O: Operator> ErasedOutputs for OperatorCell<O> {
    fn output_len(&self, port: usize) -> usize {
        self.out.output_len(port)
    }

    fn move_output(&mut self, port: usize, target: &mut dyn Any) {
        self.out.move_output(port, target);
    }

    fn copy_output(&mut self, port: usize, target: &mut dyn Any) {
        self.out.copy_output(port, target);
    }

    fn clear_output(&mut self, port: usize) {
        self.out.clear_output(port);
    }
}

impl<O: Operator> ErasedOperator for OperatorCell<O> {
    fn input(&mut self) -> &mut dyn Any {
        &mut self.input
    }

    fn input_len(&self) -> usize {
        self.input.len() + self.behind.len()
    }

    fn isolate(&mut self) -> Option<RecordAt> {
        if self.input.len() > 1 {
            // It comes as a batch only where nothing was waiting.
            std::mem::swap(&mut self.input, &mut self.behind);
        }
        if self.input.is_empty() {
            self.behind.split_front_into(1, &mut self.input);
        }
        let record = self.input.values.first()?;
        Some(RecordAt {
            id: self.input.ids.first().copied(),
            time: self.input.times.first().copied(),
            place: None,
            shown: show(record),
            watermark: None,
        })
    }

    fn rejoin(&mut self) {
        self.input.append(&mut self.behind);
    }

    fn swap_input(&mut self, batch: &mut AnyBatch) {
        std::mem::swap(&mut self.input, typed(&mut **batch));
    }

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.operator.open(context)
    }

    fn process(&mut self, context: &mut Context<'_>) -> Result<()> {
        let mut out = self.out.outputs(context);
        self.operator.process(&mut self.input, &mut out, context)
    }

    fn advance(&mut self, watermark: EventTime, context: &mut Context<'_>) -> Result<Advance> {
        let mut out = self.out.outputs(context);
        self.operator.advance(watermark, &mut out, context)
    }

    fn on_time(&mut self, context: &mut Context<'_>) -> Result<()> {
        let mut out = self.out.outputs(context);
        self.operator.on_time(&mut out, context)
    }

    fn before_barrier(&mut self, context: &mut Context<'_>) -> Result<Advance> {
        let mut out = self.out.outputs(context);
        self.operator.before_barrier(&mut out, context)
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        self.operator.forwarded(watermark)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        self.operator.snapshot(context)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        self.operator.each_table(f)
    }

    fn as_time_origin(&mut self) -> Option<&mut dyn TimeOrigin> {
        self.operator.as_time_origin()
    }
}
