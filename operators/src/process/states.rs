//! Named state of process functions: declarations, handles, and the tables behind them.
//!
//! # Design
//! A function declares its states where it is made, and gets a handle for each:
//! [`process_with`](crate::KeyedStream::process_with) hands [`StateDeclarations`] to a closure that
//! returns the function, so there is no handle without a declaration. A handle is a number; what it
//! stands for is reached through the context, `context.list(&self.history).push(x)?`, which
//! borrows the context and knows the key. A value that was changed and not written back, or two
//! states changed through one another, do not compile.
//!
//! ```compile_fail,E0499
//! # use thalweg_operators::{ListState, ProcessContext, ValueState};
//! fn f(
//!     context: &mut ProcessContext<'_, u8, (), ()>,
//!     (last, history): (&ValueState<u64>, &ListState<u64>),
//! ) -> thalweg_engine::Result<()> {
//!     let last = context.value(last).get()?; // borrows the context…
//!     context.list(history).push(1)?; // …so nothing else can be changed…
//!     drop(last); // …while it is in use: `.copied()` or `.cloned()` ends that.
//!     Ok(())
//! }
//! ```
//!
//! State that a call does not touch costs it nothing. Touching one costs, besides its table, an
//! index, a comparison and a checked cast.
//!
//! # Identity
//! A state's tables are numbered by a hash of its name, never by the order of declaration: states
//! can be added, reordered and, by [`forget`](StateDeclarations::forget), removed between two
//! versions of a job. Two names with one number are a problem reported when the job is built.
//!
//! # Layout
//! A value, and an accumulator, is one entry under its key. A list's last, growing chunk is one
//! entry, and every full chunk another; a map has an entry per map key. What belongs to one key is
//! in its key group, whatever the map key is. So a large list or map is never read, written or
//! encoded as a whole.

mod fold;
mod list;
mod map;
mod value;

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

pub use fold::{Aggregating, AggregatingState, Reducing, ReducingState};
pub use list::{ListEntries, ListState};
pub use map::{MapEntries, MapState};
pub use value::{Value, ValueState};

use thalweg_engine::state::{
    self, KeyGroupCount, OperatorState, Snapshot, StateKey, Table, TableId, hash_key,
};
use thalweg_engine::{Data, EachTable, Error, Key, Result};

use crate::aggregate::Aggregate;

/// Tables below this number belong to the operator itself.
const FIRST_NAMED: u16 = 16;

/// A key whose state is looked at, with its hash.
pub(super) struct Owner<'a, K> {
    pub(super) key: &'a K,
    pub(super) hash: u64,
}

impl<K> Clone for Owner<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Owner<'_, K> {}

/// Which of a function's states a handle stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    index: u16,
    /// Tells a handle of another function's state.
    table: TableId,
}

/// The tables of one state, for keys of type `K`.
pub(super) trait AnyState<K>: Any + Send {
    fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()>;
    fn relieve(&mut self) -> state::Result<()>;
    fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()>;
    /// Calls `f` with every table that `snapshot_into` hands over.
    fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()>;
}

impl<K: Key, V: Data> AnyState<K> for Table<K, V> {
    fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        Table::restore_entry(self, key, value)
    }

    fn relieve(&mut self) -> state::Result<()> {
        Table::relieve(self)
    }

    fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        Table::snapshot_into(self, snapshot)
    }

    fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()> {
        f(self)
    }
}

/// A state's first table (which is its number), its second one if it has two, the number of key
/// groups, and what to make them in.
type Make<K> = Arc<
    dyn Fn(&mut OperatorState, [TableId; 2], KeyGroupCount) -> Box<dyn AnyState<K>> + Send + Sync,
>;

/// What a function has declared.
pub(super) struct Declared<K> {
    states: Vec<([TableId; 2], Make<K>)>,
    forgotten: Vec<TableId>,
}

/// Where a function declares its states.
///
/// Names are the identity of state in checkpoints: a state that is renamed is another one.
pub struct StateDeclarations<K> {
    declared: Declared<K>,
    names: BTreeMap<TableId, String>,
    problems: Vec<String>,
}

/// The tables of the state `name`.
fn tables_of(name: &str) -> [TableId; 2] {
    let number = |of: &(&str, u8)| {
        let hash = hash_key(of).expect("a text and a number have a hash");
        TableId(FIRST_NAMED + (hash % u64::from(u16::MAX - FIRST_NAMED)) as u16)
    };
    [number(&(name, 0)), number(&(name, 1))]
}

impl<K: Key> StateDeclarations<K> {
    pub(super) fn new() -> Self {
        StateDeclarations {
            declared: Declared { states: Vec::new(), forgotten: Vec::new() },
            names: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// What was declared, and what is wrong with it.
    pub(super) fn finish(self) -> (Arc<Declared<K>>, Vec<String>) {
        (Arc::new(self.declared), self.problems)
    }

    /// A value per key.
    pub fn value<V: Data>(&mut self, name: impl Into<String>) -> ValueState<V> {
        ValueState { slot: self.declare_table::<V>(name.into()), values: PhantomData }
    }

    /// A list per key.
    pub fn list<V: Data>(&mut self, name: impl Into<String>) -> ListState<V> {
        let make: Make<K> = Arc::new(|state, tables, count| {
            Box::new(list::Lists::<K, V>::new(state, tables, count))
        });
        ListState { slot: self.declare(name.into(), make), values: PhantomData }
    }

    /// A map per key.
    pub fn map<M: Key, V: Data>(&mut self, name: impl Into<String>) -> MapState<M, V> {
        let make: Make<K> = Arc::new(|state, tables, count| {
            Box::new(map::Maps::<K, M, V>::new(state, tables, count))
        });
        MapState { slot: self.declare(name.into(), make), entries: PhantomData }
    }

    /// A value per key that what is added is combined into, two by two.
    pub fn reducing<V: Data>(
        &mut self,
        name: impl Into<String>,
        combine: impl Fn(&V, &V) -> V + Send + Sync + 'static,
    ) -> ReducingState<V> {
        ReducingState { slot: self.declare_table::<V>(name.into()), combine: Arc::new(combine) }
    }

    /// An accumulator per key.
    pub fn aggregating<T: 'static, A: Aggregate<T>>(
        &mut self,
        name: impl Into<String>,
        aggregate: A,
    ) -> AggregatingState<T, A> {
        AggregatingState {
            slot: self.declare_table::<A::Accumulator>(name.into()),
            aggregate: Arc::new(aggregate),
            records: PhantomData,
        }
    }

    /// Leaves out a state that an earlier version of the job has declared. Without this a
    /// checkpoint that holds it is refused.
    pub fn forget(&mut self, name: impl Into<String>) {
        let name = name.into();
        let tables = self.name(name);
        self.declared.forgotten.extend(tables);
    }

    fn declare_table<V: Data>(&mut self, name: String) -> Slot {
        self.declare(name, Arc::new(|state, [id, _], _| Box::new(state.table::<K, V>(id))))
    }

    fn declare(&mut self, name: String, make: Make<K>) -> Slot {
        let index = self.declared.states.len() as u16;
        let before = self.problems.len();
        let tables = self.name(name);
        if self.problems.len() == before {
            self.declared.states.push((tables, make));
        }
        Slot { index, table: tables[0] }
    }

    /// Takes the tables of a name; what stands against it is a problem.
    fn name(&mut self, name: String) -> [TableId; 2] {
        let tables = tables_of(&name);
        for table in tables {
            match self.names.get(&table) {
                Some(other) if *other == name => {
                    self.problems.push(format!("the state `{name}` is declared twice"));
                    return tables;
                }
                Some(other) => {
                    self.problems.push(format!(
                        "the names of the states `{name}` and `{other}` have the same number: \
                         give one of them another"
                    ));
                    return tables;
                }
                None => {}
            }
        }
        self.names.extend(tables.map(|table| (table, name.clone())));
        tables
    }
}

/// The named states of one operator in one subtask.
pub(super) struct Named<K> {
    states: Vec<([TableId; 2], Box<dyn AnyState<K>>)>,
    forgotten: Vec<TableId>,
}

impl<K: Key> Named<K> {
    pub(super) fn open(
        declared: &Declared<K>,
        state: &mut OperatorState,
        count: KeyGroupCount,
    ) -> Self {
        let states = declared.states.iter();
        let states = states.map(|(tables, make)| (*tables, make(state, *tables, count))).collect();
        Named { states, forgotten: declared.forgotten.clone() }
    }

    /// The state of a slot; none if it is another function's.
    #[inline]
    pub(super) fn at<T: 'static>(&mut self, slot: Slot) -> Option<&mut T> {
        let (tables, state) = self.states.get_mut(usize::from(slot.index))?;
        if tables[0] != slot.table {
            return None;
        }
        let any: &mut dyn Any = &mut **state;
        any.downcast_mut()
    }

    pub(super) fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        let owner = self.states.iter_mut().find(|(tables, _)| tables.contains(&key.table));
        match owner {
            Some((_, state)) => state.restore_entry(key, value),
            None if self.forgotten.contains(&key.table) => Ok(()),
            None => Err(state::StateError::Unsupported(format!(
                "the checkpoint holds a state (table {}) that the function does not declare: \
                 declare it, or say `forget` with its name",
                key.table
            ))),
        }
    }

    pub(super) fn relieve(&mut self) -> state::Result<()> {
        self.states.iter_mut().try_for_each(|(_, state)| state.relieve())
    }

    pub(super) fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        self.states.iter_mut().try_for_each(|(_, state)| state.snapshot_into(snapshot))
    }

    pub(super) fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()> {
        self.states.iter_mut().try_for_each(|(_, state)| state.each_table(f))
    }
}

/// The state that a handle stands for.
#[inline]
fn declared<'b, T>(state: &'b mut Option<&mut T>) -> Result<&'b mut T> {
    state.as_deref_mut().ok_or_else(foreign)
}

#[cold]
fn foreign() -> Error {
    Error::config("a process function uses a handle of a state that another one has declared")
}

#[cfg(test)]
mod tests;
