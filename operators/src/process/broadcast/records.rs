//! The operator behind `connect_broadcast` on a stream without keys.

use std::marker::PhantomData;
use std::sync::Arc;

use thalweg_engine::state::OperatorState;
use thalweg_engine::{
    Advance, Batch, Context, Data, EachTable, Element, Error, EventTime, Marks, OpenContext,
    Operator, Outputs, Result, SnapshotContext,
};

use super::BroadcastFunction;
use crate::process::context::{Moment, RecordContext, at};
use crate::process::rules::Rules;
use crate::stream::Either;

pub(super) struct Broadcast<T, R, D: Element, P: BroadcastFunction<T, R, D>> {
    function: Arc<P>,
    watermark: EventTime,
    open: Option<Opened<P::RuleKey, P::Rule>>,
    types: PhantomData<fn(T, R) -> D>,
}

/// State, which is nothing but rules.
type Opened<L, V> = (OperatorState, Rules<L, V>);

impl<T, R, D: Element, P: BroadcastFunction<T, R, D>> Broadcast<T, R, D, P> {
    pub(super) fn new(function: Arc<P>) -> Self {
        Broadcast { function, watermark: EventTime::MIN, open: None, types: PhantomData }
    }
}

impl<T, R, D, P> Operator for Broadcast<T, R, D, P>
where
    T: Data,
    R: Data,
    D: Element,
    P: BroadcastFunction<T, R, D>,
{
    type In = Either<T, R>;
    type Out = P::Out;
    type Side = D;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.watermark = context.restored_watermark;
        let mut state = context.open_state()?;
        let mut rules = Rules::open(&mut state, context)?;
        state.restore(context.restored, &mut |key, value| rules.restore_entry(&key, value))?;
        rules.finish_restore()?;
        self.open = Some((state, rules));
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<Either<T, R>>,
        out: &mut Outputs<'_, P::Out, D>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let Some((_, rules)) = &mut self.open else {
            return Err(Error::bug("the operator was not opened"));
        };
        let at = at(self.watermark, context);
        let mut marks = Marks::of(&input.behind);
        let mut taken = 0;
        let mut values = std::mem::take(&mut input.values).into_iter();
        for value in values.by_ref() {
            let moment = Moment::of(input, taken, &mut marks, at);
            match value {
                Either::Left(record) => {
                    let mut context = RecordContext::new(moment, out);
                    self.function.on_record(record, &rules.map, &mut context)?;
                }
                Either::Right(rule) => {
                    self.function.on_broadcast(rule, moment.time, rules.change())?;
                }
            }
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

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let Some((state, rules)) = &mut self.open else {
            return Err(Error::bug("the operator was not opened"));
        };
        let mut snapshot = state.begin_snapshot();
        rules.snapshot_into(&mut snapshot)?;
        context.put_state(state.finish_snapshot(snapshot));
        Ok(())
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let Some((_, rules)) = &mut self.open else {
            return Err(Error::bug("the operator was not opened"));
        };
        Ok(f(rules.state_table())?)
    }
}
