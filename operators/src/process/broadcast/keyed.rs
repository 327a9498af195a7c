//! The operator behind `connect_broadcast` on a keyed stream.

use std::marker::PhantomData;
use std::sync::Arc;

use thalweg_engine::state::{OperatorState, hash_key};
use thalweg_engine::{
    Advance, Batch, Context, Data, EachTable, Element, Error, EventTime, Key, Marks, OpenContext,
    Operator, Outputs, ProcessingTime, Result, SnapshotContext,
};

use super::{BroadcastProcessFunction, KeyedOrRule};
use crate::process::context::{Moment, ProcessContext, at};
use crate::process::keyed::{KeyedCalls, TimerCalls};
use crate::process::rules::Rules;
use crate::process::states::Declared;
use crate::stream::{Either, Keyed};

pub(super) struct KeyedBroadcast<K, T, R, D, P>
where
    K: Key,
    D: Element,
    P: BroadcastProcessFunction<K, T, R, D>,
{
    calls: KeyedCalls<K, P::State, P::Out, D>,
    function: Arc<P>,
    rules: Option<Rules<P::RuleKey, P::Rule>>,
    types: PhantomData<fn(T, R)>,
}

/// A function with the rules its timers see.
struct OnTimers<'a, T, R, L, V, P> {
    function: &'a P,
    rules: &'a Rules<L, V>,
    types: PhantomData<fn(T, R)>,
}

impl<K, T, R, D, P> TimerCalls<K, P::State, P::Out, D>
    for OnTimers<'_, T, R, P::RuleKey, P::Rule, P>
where
    K: Key,
    D: Element,
    P: BroadcastProcessFunction<K, T, R, D>,
{
    fn on_timer(
        &self,
        time: EventTime,
        context: &mut ProcessContext<'_, K, P::State, P::Out, D>,
    ) -> Result<()> {
        self.function.on_timer(time, &self.rules.map, context)
    }

    fn on_processing_timer(
        &self,
        time: ProcessingTime,
        context: &mut ProcessContext<'_, K, P::State, P::Out, D>,
    ) -> Result<()> {
        self.function.on_processing_timer(time, &self.rules.map, context)
    }
}

fn not_open() -> Error {
    Error::bug("the operator was not opened")
}

impl<K, T, R, D, P> KeyedBroadcast<K, T, R, D, P>
where
    K: Key,
    D: Element,
    P: BroadcastProcessFunction<K, T, R, D>,
{
    pub(super) fn new(function: Arc<P>, declared: Arc<Declared<K>>) -> Self {
        KeyedBroadcast {
            calls: KeyedCalls::new(declared),
            function,
            rules: None,
            types: PhantomData,
        }
    }
}

impl<K, T, R, D, P> Operator for KeyedBroadcast<K, T, R, D, P>
where
    K: Key,
    T: Data,
    R: Data,
    D: Element,
    P: BroadcastProcessFunction<K, T, R, D>,
{
    type In = KeyedOrRule<K, T, R>;
    type Out = P::Out;
    type Side = D;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        let open = |state: &mut OperatorState| Rules::open(state, context);
        let mut rules = self.calls.open(context, open, Rules::restore_entry)?;
        rules.finish_restore()?;
        self.rules = Some(rules);
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<KeyedOrRule<K, T, R>>,
        out: &mut Outputs<'_, P::Out, D>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let (function, rules) = (&*self.function, self.rules.as_mut().ok_or_else(not_open)?);
        let at = at(self.calls.watermark, context);
        self.calls.has_ids |= !input.ids.is_empty();
        let mut marks = Marks::of(&input.behind);
        let mut taken = 0;
        let mut values = std::mem::take(&mut input.values).into_iter();
        for value in values.by_ref() {
            let moment = Moment::of(input, taken, &mut marks, at);
            match value {
                Either::Left(Keyed { key, value }) => {
                    // A batch that has met rules on its way has no hashes.
                    let hash = input.hashes.get(taken).copied();
                    let hash = hash.map_or_else(|| hash_key(&key), Ok)?;
                    self.calls.call((&key, hash), moment, out, |context| {
                        function.on_record(value, &rules.map, context)
                    })?;
                }
                Either::Right(rule) => {
                    function.on_broadcast(rule, moment.time, rules.change())?;
                }
            }
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        input.drain_columns(taken);
        input.values = values.collect();
        self.calls.finish_batch(context)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, P::Out, D>,
        context: &mut Context<'_>,
    ) -> Result<Advance> {
        let rules = self.rules.as_ref().ok_or_else(not_open)?;
        let timers = OnTimers { function: &*self.function, rules, types: PhantomData };
        self.calls.advance(&timers, watermark, out, context)
    }

    fn on_time(
        &mut self,
        out: &mut Outputs<'_, P::Out, D>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let rules = self.rules.as_ref().ok_or_else(not_open)?;
        let timers = OnTimers { function: &*self.function, rules, types: PhantomData };
        self.calls.on_time(&timers, out, context)
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let rules = self.rules.as_mut().ok_or_else(not_open)?;
        self.calls.snapshot(context, |snapshot| rules.snapshot_into(snapshot))
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        self.calls.each_table(f)?;
        Ok(f(self.rules.as_mut().ok_or_else(not_open)?.state_table())?)
    }
}
