//! The regular join: rows of equal keys, whenever they come, for good.
//!
//! It never judges lateness: a result has the later of the two rows' times, and the greater of
//! their late marks if it is behind that. So the set of results does not depend on the order in
//! which rows come.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::state::{OperatorState, TableId};
use thalweg_engine::{
    Batch, Context, Data, EachTable, Element, Error, EventTime, Key, Marks, OpenContext, Operator,
    Outputs, Result, SnapshotContext,
};

use super::rows::{Place, RowLists, Visit};
use crate::connect::ConnectedStreams;
use crate::stream::{Either, Keyed, Stream};

impl<K: Key, A: Data, B: Data> ConnectedStreams<K, A, B> {
    /// Gives out each pair of rows with equal keys, as soon as both are there.
    ///
    /// # Cost
    /// All rows of both sides are kept for good: state grows with the input. A row costs one
    /// look-up for each 256 rows of its key on the other side, which are all visited; a checkpoint
    /// or an eviction writes at most the last 256 rows of a key again.
    #[track_caller]
    pub fn inner_join<R: Element>(
        &self,
        name: impl Into<String>,
        f: impl Fn(&K, &A, &B) -> R + Send + Sync + 'static,
    ) -> Stream<R> {
        let mut spec = OperatorSpec::stateful(name, "join", Location::caller());
        let note =
            "keeps every row of both sides for good; joins with an interval or a window do not";
        spec.note = Some(note.to_owned());
        let (left, right) = (self.left.tagged_left::<B>(), self.right.tagged_right::<A>());
        let f = Arc::new(f);
        let make = move || RegularJoin::new(f.clone());
        left.job.operator2(&left, &right, spec, make)
    }
}

const LEFT: TableId = TableId(0);
const RIGHT: TableId = TableId(1);

/// A row with what its results need to know of it.
#[derive(Clone, Serialize, Deserialize)]
struct Row<T> {
    time: EventTime,
    mark: Option<EventTime>,
    value: T,
}

struct Opened<K, A, B> {
    state: OperatorState,
    left: RowLists<K, Row<A>>,
    right: RowLists<K, Row<B>>,
}

struct RegularJoin<K, A, B, F, R> {
    f: Arc<F>,
    /// How many partners of the first record of the input have been joined.
    joined: usize,
    open: Option<Opened<K, A, B>>,
    results: PhantomData<fn() -> R>,
}

impl<K, A, B, F, R> RegularJoin<K, A, B, F, R> {
    fn new(f: Arc<F>) -> Self {
        RegularJoin { f, joined: 0, open: None, results: PhantomData }
    }

    fn opened(&mut self) -> Result<&mut Opened<K, A, B>> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }
}

/// Gives out the result of a row with the times and marks `of` it and of its partner.
fn push<T, R>(
    out: &mut Outputs<'_, R, ()>,
    (time, mark): (EventTime, Option<EventTime>),
    partner: &Row<T>,
    result: impl FnOnce(&T) -> R,
) -> Visit {
    if out.is_full() {
        return Visit::Stop;
    }
    let time = time.max(partner.time);
    let mark = mark.max(partner.mark).filter(|mark| time <= *mark);
    out.main.push_marked(result(&partner.value), time, mark);
    Visit::Next
}

impl<K: Key, A: Data, B: Data, R: Element, F> Operator for RegularJoin<K, A, B, F, R>
where
    F: Fn(&K, &A, &B) -> R + Send + Sync + 'static,
{
    type In = Keyed<K, Either<A, B>>;
    type Out = R;
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        let mut state = context.open_state()?;
        let mut left = RowLists::new(&mut state, LEFT);
        let mut right = RowLists::new(&mut state, RIGHT);
        let mut restore = state.begin_restore(context.restored)?;
        left.leave(&mut restore)?;
        right.leave(&mut restore)?;
        restore.run(&mut |key, value| match key.table {
            LEFT => left.restore_entry(&key, value),
            _ => right.restore_entry(&key, value),
        })?;
        self.open = Some(Opened { state, left, right });
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<Keyed<K, Either<A, B>>>,
        out: &mut Outputs<'_, R, ()>,
        _context: &mut Context<'_>,
    ) -> Result<()> {
        let mut values = VecDeque::from(std::mem::take(&mut input.values));
        let mut marks = Marks::of(&input.behind);
        let (mut taken, mut joined) = (0, self.joined);
        let f = self.f.clone();
        let Opened { left, right, .. } = self.opened()?;
        while let Some(Keyed { key, value }) = values.front() {
            let hash = input.hashes[taken];
            let time = input.times.get(taken).copied().unwrap_or(EventTime::MIN);
            let of = (time, marks.at(taken));
            let (place, at) = (Place::default(), (hash, key));
            let rest = match value {
                Either::Left(a) => {
                    right.visit(place, at, joined, |b| push(out, of, b, |b| f(key, a, b)))?
                }
                Either::Right(b) => {
                    left.visit(place, at, joined, |a| push(out, of, a, |a| f(key, a, b)))?
                }
            };
            joined = rest.unwrap_or(0);
            if rest.is_some() {
                break;
            }
            let (time, mark) = of;
            match values.pop_front() {
                Some(Keyed { key, value: Either::Left(value) }) => {
                    left.push(place, hash, &key, Row { time, mark, value })?;
                }
                Some(Keyed { key, value: Either::Right(value) }) => {
                    right.push(place, hash, &key, Row { time, mark, value })?;
                }
                None => {}
            }
            taken += 1;
            if out.is_full() {
                break;
            }
        }
        left.relieve()?;
        right.relieve()?;
        self.joined = joined;
        input.values = values.into();
        input.drain_columns(taken);
        Ok(())
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let open = self.opened()?;
        let mut snapshot = open.state.begin_snapshot();
        open.left.snapshot_into(&mut snapshot)?;
        open.right.snapshot_into(&mut snapshot)?;
        context.put_state(open.state.finish_snapshot(snapshot));
        Ok(())
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        let open = self.opened()?;
        f(open.left.state_table())?;
        Ok(f(open.right.state_table())?)
    }
}

#[cfg(test)]
mod tests;
