//! The operator of `async_map`.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use thalweg_engine::external::External;
use thalweg_engine::state::{
    KeyGroup, KeyGroupCount, KeyGroupRange, OperatorState, Table, TableId, codec, hash_part,
};
use thalweg_engine::{
    Advance, Batch, Context, Counter, Data, EachTable, Element, Error, EventTime, Marks,
    OpenContext, Operator, Outputs, ProcessingTime, Result, SnapshotContext,
};

use super::flight::{Answers, Flight, Phase, Question};
use super::{AsyncMap, Cache};
use crate::group_keys::GroupKeys;
use crate::try_map::Failed;

/// The future of one attempt.
pub(super) type Asking<U> = Pin<Box<dyn Future<Output = std::result::Result<U, String>> + Send>>;

/// Questions in flight by the key of their key group and number. Written at a snapshot only.
const QUESTIONS: TableId = TableId(0);

pub(super) struct AsyncOperator<T, U, F> {
    how: AsyncMap,
    ask: Arc<F>,
    flight: Flight<T, U>,
    cache: AnswerCache<U>,
    watermark: EventTime,
    open: Option<Opened<T, U>>,
}

struct Opened<T, U> {
    name: String,
    state: OperatorState,
    questions: Table<(u32, u64), Question<T>>,
    group_keys: GroupKeys,
    key_groups: (KeyGroupRange, KeyGroupCount),
    external: External,
    answers: Answers<U>,
}

impl<T: Data, U: Element, F: Fn(T) -> Asking<U>> AsyncOperator<T, U, F> {
    pub(super) fn new(how: AsyncMap, ask: Arc<F>) -> Self {
        AsyncOperator {
            how,
            ask,
            flight: Flight::new(),
            cache: AnswerCache::new(how.cache),
            watermark: EventTime::MIN,
            open: None,
        }
    }

    fn opened(&mut self) -> Result<&mut Opened<T, U>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    /// Makes the attempts that are due, takes answers in, gives up what takes too long.
    fn attend(&mut self, now: ProcessingTime) -> Result<()> {
        let opened = self.open.as_ref().ok_or_else(|| Error::bug("the operator was not opened"))?;
        for (number, attempt, answer) in opened.answers.take() {
            let Some(flight) = self.flight.asked(number, attempt) else { continue };
            if let Ok(answer) = &answer {
                self.cache.insert(&flight.question.record, answer, now)?;
            }
            flight.phase = answered(&self.how, attempt, answer, now);
        }
        for flight in self.flight.iter_mut() {
            if let Phase::Asked { until: Some(until) } = flight.phase
                && until <= now
            {
                let timeout = self.how.timeout_ms.unwrap_or_default();
                let error = Err(format!("no answer within {timeout} ms"));
                flight.phase = answered(&self.how, flight.attempt, error, now);
            }
            if let Phase::Delayed { until } = flight.phase
                && until <= now
            {
                flight.attempt += 1;
                let address = opened.answers.address(flight.number, flight.attempt);
                let asking = (self.ask)(flight.question.record.clone());
                opened.external.spawn(async move { address.send(asking.await) });
                let until = self.how.timeout_ms.map(|timeout| now.plus_millis(timeout));
                flight.phase = Phase::Asked { until };
            }
        }
        Ok(())
    }

    /// Gives out answers until the outputs are full, and asks to be called again.
    fn give_out(
        &mut self,
        out: &mut Outputs<'_, U, Failed<T>>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let opened = self.open.as_ref().ok_or_else(|| Error::bug("the operator was not opened"))?;
        let mut dead = 0;
        while !out.is_full() {
            let Some(flight) = self.flight.take_answered(self.how.is_ordered) else { break };
            let Question { record, time, mark, id, .. } = flight.question;
            match flight.phase {
                Phase::Answered(Ok(answer)) => {
                    out.main.push_marked(answer, time, mark);
                    out.main.ids.extend(id);
                }
                Phase::Answered(Err(error)) if self.how.is_lenient => {
                    dead += 1;
                    let operator = opened.name.clone();
                    let known = (time > EventTime::MIN).then_some(time);
                    let failed = Failed { record, error, time: known, operator };
                    out.side.push_marked(failed, time, mark);
                }
                Phase::Answered(Err(error)) => {
                    let attempts = flight.attempt;
                    return Err(Error::user(format!("{error} (attempt {attempts})")));
                }
                Phase::Asked { .. } | Phase::Delayed { .. } => {}
            }
        }
        context.metrics.add(Counter::Dead, dead);
        if out.main.ids.len() != out.main.len() {
            // Some came from where identities are not known: then none is, as in a batch of both.
            out.main.ids.clear();
        }
        if out.is_full() {
            context.wake_at(context.now);
        } else if let Some(at) = self.flight.next_at() {
            context.wake_at(at);
        }
        Ok(())
    }
}

/// Where a question stands after an attempt.
fn answered<U>(
    how: &AsyncMap,
    attempt: u32,
    answer: std::result::Result<U, String>,
    now: ProcessingTime,
) -> Phase<U> {
    match (answer, how.retry.delay_after(attempt)) {
        (Err(_), Some(delay)) => Phase::Delayed { until: now.plus_millis(delay) },
        (answer, _) => Phase::Answered(answer),
    }
}

impl<T, U, F> Operator for AsyncOperator<T, U, F>
where
    T: Data,
    U: Element,
    F: Fn(T) -> Asking<U> + Send + Sync + 'static,
{
    type In = T;
    type Out = U;
    type Side = Failed<T>;

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        let mut state = context.open_state()?;
        let mut questions: Table<(u32, u64), Question<T>> = state.parts(QUESTIONS);
        state.restore(context.restored, &mut |key, value| questions.restore_entry(&key, value))?;
        let mut restored = Vec::new();
        questions.for_each(|(_, number), hash, question| {
            let group = KeyGroup::of(hash, context.key_group_count);
            restored.push((*number, group, question.clone()));
        })?;
        // They get other numbers: no later snapshot must hold them under these.
        questions.clear()?;
        restored.sort_by_key(|(number, group, _)| (*number, *group));
        for (_, group, question) in restored {
            let phase = Phase::Delayed { until: ProcessingTime::default() };
            self.flight.push(group, question, EventTime::MIN, phase);
        }
        self.open = Some(Opened {
            name: context.operator.to_owned(),
            questions,
            state,
            group_keys: GroupKeys::new(context.key_groups, context.key_group_count)?,
            key_groups: (context.key_groups, context.key_group_count),
            external: context.external(),
            answers: Answers::new(context.notifier()),
        });
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, U, Failed<T>>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let room = self.how.capacity.saturating_sub(self.flight.len());
        let count = room.min(input.len());
        let mut marks = Marks::of(&input.behind);
        let (groups, group_count) = self.opened()?.key_groups;
        for (i, record) in input.values.drain(..count).enumerate() {
            // Without keys any group of this subtask will do.
            let spread = groups.start + (i % usize::from(groups.end - groups.start)) as u16;
            let group = input.hashes.get(i).map(|&hash| KeyGroup::of(hash, group_count));
            let group = group.filter(|group| groups.contains(*group));
            let group = group.unwrap_or(KeyGroup::new(spread));
            let phase = match self.cache.get(&record, context.now)? {
                Some(answer) => Phase::Answered(Ok(answer)),
                None => Phase::Delayed { until: context.now },
            };
            let time = input.times.get(i).copied().unwrap_or(EventTime::MIN);
            let (mark, id) = (marks.at(i), input.ids.get(i).copied());
            let question = Question { record, time, mark, id };
            self.flight.push(group, question, self.watermark, phase);
        }
        input.drain_columns(count);
        self.attend(context.now)?;
        self.give_out(out, context)
    }

    fn advance(
        &mut self,
        watermark: EventTime,
        out: &mut Outputs<'_, U, Failed<T>>,
        context: &mut Context<'_>,
    ) -> Result<Advance> {
        self.watermark = self.watermark.max(watermark);
        if watermark < EventTime::MAX {
            return Ok(Advance::Done);
        }
        self.attend(context.now)?;
        self.give_out(out, context)?;
        Ok(match self.flight.len() {
            0 => Advance::Done,
            _ if out.is_full() => Advance::More,
            _ => Advance::Wait,
        })
    }

    fn on_time(
        &mut self,
        out: &mut Outputs<'_, U, Failed<T>>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        self.attend(context.now)?;
        self.give_out(out, context)
    }

    fn forwarded(&self, watermark: EventTime) -> EventTime {
        self.flight.watermark().map_or(watermark, |held| held.min(watermark))
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let opened = self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))?;
        for flight in self.flight.iter() {
            let home = opened.group_keys.of(flight.group);
            let hash = hash_part(home.hash, &flight.number, opened.key_groups.1)?;
            let key = (home.key, flight.number);
            opened.questions.insert(hash, &key, flight.question.clone())?;
        }
        let mut snapshot = opened.state.begin_snapshot();
        opened.questions.snapshot_into(&mut snapshot)?;
        context.put_state(opened.state.finish_snapshot(snapshot));
        Ok(opened.questions.clear()?)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let opened = self.opened()?;
        Ok(f(&mut opened.questions)?)
    }
}

/// Answers by encoded record, the oldest first to go.
struct AnswerCache<U> {
    limits: Option<Cache>,
    answers: BTreeMap<Vec<u8>, (U, ProcessingTime)>,
    by_age: VecDeque<Vec<u8>>,
}

impl<U: Clone> AnswerCache<U> {
    fn new(limits: Option<Cache>) -> Self {
        AnswerCache { limits, answers: BTreeMap::new(), by_age: VecDeque::new() }
    }

    fn get<T: Data>(&self, record: &T, now: ProcessingTime) -> Result<Option<U>> {
        if self.limits.is_none() {
            return Ok(None);
        }
        let answer = self.answers.get(&encoded(record)?);
        Ok(answer.filter(|(_, until)| now < *until).map(|(answer, _)| answer.clone()))
    }

    fn insert<T: Data>(&mut self, record: &T, answer: &U, now: ProcessingTime) -> Result<()> {
        let Some(Cache { capacity, ttl_ms }) = self.limits else { return Ok(()) };
        let record = encoded(record)?;
        let entry = (answer.clone(), now.plus_millis(ttl_ms));
        if self.answers.insert(record.clone(), entry).is_none() {
            self.by_age.push_back(record);
        }
        while self.answers.len() > capacity {
            let Some(oldest) = self.by_age.pop_front() else { break };
            self.answers.remove(&oldest);
        }
        Ok(())
    }
}

fn encoded<T: Data>(record: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    codec::encode(record, &mut bytes)?;
    Ok(bytes)
}
