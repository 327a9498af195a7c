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
//!
//! State with a [`Ttl`] has a time beside each value, element or entry, and a queue of what is to
//! expire; other state has neither.

mod expiring_list;
mod expiring_map;
mod fold;
mod list;
mod map;
mod single;
mod ttl;
mod value;

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

pub use fold::{Aggregating, AggregatingState, Reducing, ReducingState};
pub use list::{ListEntries, ListState};
pub use map::{MapEntries, MapState};
pub(super) use ttl::Clocks;
pub use ttl::Ttl;
pub use value::{Value, ValueState};

use thalweg_engine::state::{
    self, KeyGroupCount, OperatorState, Restore, Snapshot, StateKey, Table, TableId, hash_key,
};
use thalweg_engine::{Data, EachTable, Error, Key, ProcessingTime, Result};

use expiring_list::ExpiringLists;
use expiring_map::ExpiringMaps;
use list::{ListAt, Lists};
use map::{MapAt, Maps};
use single::{ExpiringValues, Single};

use crate::aggregate::Aggregate;

/// Parts of expired state that are removed at once.
const CLEAN_UP_BUDGET: usize = 1_024;

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
    expires: bool,
}

/// The tables of one state, for keys of type `K`.
pub(super) trait AnyState<K>: Any + Send {
    fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()>;
    fn relieve(&mut self) -> state::Result<()>;

    /// Leaves tables in the runs they are restored from, if that is worth it.
    fn leave(&mut self, restore: &mut Restore<'_>) -> state::Result<()> {
        let _ = restore;
        Ok(())
    }

    fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()>;
    /// Calls `f` with every table that `snapshot_into` hands over.
    fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()>;

    /// Removes what has expired: about as many parts as the budget says, which is lessened. True if
    /// nothing is left.
    fn clean_up(&mut self, clocks: Clocks, budget: &mut usize) -> Result<bool> {
        let _ = (clocks, budget);
        Ok(true)
    }

    /// When there is something to remove, where that is in processing time.
    fn wake_at(&self) -> Option<ProcessingTime> {
        None
    }
}

impl<K: Key, V: Data> AnyState<K> for Table<K, V> {
    fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        Table::restore_entry(self, key, value)
    }

    fn leave(&mut self, restore: &mut Restore<'_>) -> state::Result<()> {
        restore.leave(self)
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

/// Makes a state's tables, whose numbers it is told, in a job of so many key groups.
type Make<K> = Arc<
    dyn Fn(&mut OperatorState, [TableId; 3], KeyGroupCount) -> Box<dyn AnyState<K>> + Send + Sync,
>;

/// What a function has declared.
pub(super) struct Declared<K> {
    states: Vec<DeclaredState<K>>,
    forgotten: Vec<TableId>,
    /// Whether something expires by event time.
    pub(super) needs_event_time: bool,
}

impl<K> Declared<K> {
    /// Which states do not expire. That is right for those that the function clears.
    pub(super) fn note(&self) -> Option<String> {
        let kept = self.states.iter().filter(|state| !state.expires);
        let names: Vec<String> = kept.map(|state| format!("`{}`", state.name)).collect();
        let names = (!names.is_empty()).then(|| names.join(", "))?;
        Some(format!("keeps {names} until the function clears it; `with_ttl` gives it an end"))
    }
}

struct DeclaredState<K> {
    name: String,
    tables: StateTables,
    expires: bool,
    make: Make<K>,
}

/// Where a function declares its states.
///
/// Names are the identity of state in checkpoints: a state that is renamed is another one.
pub struct StateDeclarations<K> {
    declared: Declared<K>,
    names: BTreeMap<TableId, String>,
    problems: Vec<String>,
}

/// The numbers of a state's tables, whatever it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct StateTables {
    /// Of state that is kept for good; the first is the number of the state.
    plain: [TableId; 2],
    /// Of state that expires.
    expiring: [TableId; 3],
}

impl StateTables {
    /// The tables of the state `name`.
    fn of(name: &str) -> Self {
        let number = |table: u8| {
            let hash = hash_key(&(name, table)).expect("a text and a number have a hash");
            TableId(FIRST_NAMED + (hash % u64::from(u16::MAX - FIRST_NAMED)) as u16)
        };
        StateTables { plain: [0, 1].map(number), expiring: [2, 3, 4].map(number) }
    }

    fn all(&self) -> impl Iterator<Item = TableId> {
        self.plain.into_iter().chain(self.expiring)
    }

    /// Those of state that expires, or does not.
    fn contains(&self, expires: bool, table: TableId) -> bool {
        match expires {
            true => self.expiring.contains(&table),
            false => self.plain.contains(&table),
        }
    }
}

impl<K: Key> StateDeclarations<K> {
    pub(super) fn new() -> Self {
        let declared =
            Declared { states: Vec::new(), forgotten: Vec::new(), needs_event_time: false };
        StateDeclarations { declared, names: BTreeMap::new(), problems: Vec::new() }
    }

    /// What was declared, and what is wrong with it.
    pub(super) fn finish(self) -> (Arc<Declared<K>>, Vec<String>) {
        (Arc::new(self.declared), self.problems)
    }

    /// What is declared on what this returns expires. State that is there already does not begin
    /// to expire by a new version of the job, nor cease to: a state that is to change in this takes
    /// another name.
    pub fn with_ttl(&mut self, ttl: Ttl) -> ExpiringStates<'_, K> {
        ExpiringStates { declarations: self, ttl: Some(ttl) }
    }

    fn for_good(&mut self) -> ExpiringStates<'_, K> {
        ExpiringStates { declarations: self, ttl: None }
    }

    /// A value per key.
    pub fn value<V: Data>(&mut self, name: impl Into<String>) -> ValueState<V> {
        self.for_good().value(name)
    }

    /// A list per key.
    pub fn list<V: Data>(&mut self, name: impl Into<String>) -> ListState<V> {
        self.for_good().list(name)
    }

    /// A map per key.
    pub fn map<M: Key, V: Data>(&mut self, name: impl Into<String>) -> MapState<M, V> {
        self.for_good().map(name)
    }

    /// A value per key that what is added is combined into, two by two.
    pub fn reducing<V: Data>(
        &mut self,
        name: impl Into<String>,
        combine: impl Fn(&V, &V) -> V + Send + Sync + 'static,
    ) -> ReducingState<V> {
        self.for_good().reducing(name, combine)
    }

    /// An accumulator per key.
    pub fn aggregating<T: 'static, A: Aggregate<T>>(
        &mut self,
        name: impl Into<String>,
        aggregate: A,
    ) -> AggregatingState<T, A> {
        self.for_good().aggregating(name, aggregate)
    }

    /// Leaves out a state that an earlier version of the job has declared. Without this a
    /// checkpoint that holds it is refused.
    pub fn forget(&mut self, name: impl Into<String>) {
        let name = name.into();
        let tables = self.name(name);
        self.declared.forgotten.extend(tables.all());
    }

    fn declare(&mut self, name: String, ttl: Option<Ttl>, make: Make<K>) -> Slot {
        let index = self.declared.states.len() as u16;
        let before = self.problems.len();
        let (tables, expires) = (self.name(name.clone()), ttl.is_some());
        if let Some(problem) = ttl.as_ref().and_then(Ttl::problem) {
            self.problems.push(format!("the state `{name}` {problem}"));
        }
        if self.problems.len() == before {
            self.declared.needs_event_time |= ttl.is_some_and(|ttl| ttl.is_by_event_time());
            self.declared.states.push(DeclaredState { name, tables, expires, make });
        }
        Slot { index, table: tables.plain[0], expires }
    }

    /// Takes the tables of a name; what stands against it is a problem.
    fn name(&mut self, name: String) -> StateTables {
        let tables = StateTables::of(&name);
        for table in tables.all() {
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
        self.names.extend(tables.all().map(|table| (table, name.clone())));
        tables
    }
}

/// Where states are declared that expire; see [`StateDeclarations::with_ttl`].
pub struct ExpiringStates<'a, K> {
    declarations: &'a mut StateDeclarations<K>,
    /// None if what is declared is kept for good.
    ttl: Option<Ttl>,
}

impl<K: Key> ExpiringStates<'_, K> {
    /// A value per key.
    pub fn value<V: Data>(&mut self, name: impl Into<String>) -> ValueState<V> {
        ValueState { slot: self.declare_single::<V>(name.into()), values: PhantomData }
    }

    /// A list per key, each of whose elements expires on its own.
    pub fn list<V: Data>(&mut self, name: impl Into<String>) -> ListState<V> {
        let (name, ttl) = (name.into(), self.ttl);
        if ttl.is_some_and(|ttl| ttl.is_renewed_by_reads()) {
            let problem = format!("the elements of the list `{name}` cannot be renewed by reads");
            self.declarations.problems.push(problem);
        }
        let make: Make<K> = Arc::new(move |state, tables, count| match ttl {
            Some(ttl) => Box::new(ExpiringLists::<K, V>::new(state, tables, count, ttl)),
            None => Box::new(Lists::<K, V>::new(state, [tables[0], tables[1]], count)),
        });
        ListState { slot: self.declarations.declare(name, ttl, make), values: PhantomData }
    }

    /// A map per key, each of whose entries expires on its own.
    pub fn map<M: Key, V: Data>(&mut self, name: impl Into<String>) -> MapState<M, V> {
        let ttl = self.ttl;
        let make: Make<K> = Arc::new(move |state, tables, count| match ttl {
            Some(ttl) => Box::new(ExpiringMaps::<K, M, V>::new(state, tables, count, ttl)),
            None => Box::new(Maps::<K, M, V>::new(state, [tables[0], tables[1]], count)),
        });
        MapState { slot: self.declarations.declare(name.into(), ttl, make), entries: PhantomData }
    }

    /// A value per key that what is added is combined into, two by two.
    pub fn reducing<V: Data>(
        &mut self,
        name: impl Into<String>,
        combine: impl Fn(&V, &V) -> V + Send + Sync + 'static,
    ) -> ReducingState<V> {
        ReducingState { slot: self.declare_single::<V>(name.into()), combine: Arc::new(combine) }
    }

    /// An accumulator per key.
    pub fn aggregating<T: 'static, A: Aggregate<T>>(
        &mut self,
        name: impl Into<String>,
        aggregate: A,
    ) -> AggregatingState<T, A> {
        AggregatingState {
            slot: self.declare_single::<A::Accumulator>(name.into()),
            aggregate: Arc::new(aggregate),
            records: PhantomData,
        }
    }

    fn declare_single<V: Data>(&mut self, name: String) -> Slot {
        let ttl = self.ttl;
        let make: Make<K> = Arc::new(move |state, tables, _| match ttl {
            Some(ttl) => Box::new(ExpiringValues::<K, V>::new(state, &tables, ttl)),
            None => Box::new(state.table::<K, V>(tables[0])),
        });
        self.declarations.declare(name, ttl, make)
    }
}

/// The named states of one operator in one subtask.
pub(super) struct Named<K> {
    states: Vec<OpenState<K>>,
    forgotten: Vec<TableId>,
}

struct OpenState<K> {
    name: String,
    tables: StateTables,
    expires: bool,
    state: Box<dyn AnyState<K>>,
}

impl<K: Key> Named<K> {
    pub(super) fn open(
        declared: &Declared<K>,
        state: &mut OperatorState,
        count: KeyGroupCount,
    ) -> Self {
        let open = |declared: &DeclaredState<K>| {
            let DeclaredState { name, tables, expires, make } = declared;
            let [first, second] = tables.plain;
            let numbers = if *expires { tables.expiring } else { [first, second, second] };
            let state = make(state, numbers, count);
            OpenState { name: name.clone(), tables: *tables, expires: *expires, state }
        };
        let states = declared.states.iter().map(open).collect();
        Named { states, forgotten: declared.forgotten.clone() }
    }

    /// The state of a slot; none if it is another function's.
    #[inline]
    pub(super) fn at<T: 'static>(&mut self, slot: Slot) -> Option<&mut T> {
        let open = self.states.get_mut(usize::from(slot.index))?;
        if open.tables.plain[0] != slot.table {
            return None;
        }
        let any: &mut dyn Any = &mut *open.state;
        any.downcast_mut()
    }

    pub(super) fn single<V: Data>(&mut self, slot: Slot, clocks: Clocks) -> Single<'_, K, V> {
        match slot.expires {
            true => self.at(slot).map_or(Single::Foreign, |at| Single::Expiring(at, clocks)),
            false => self.at(slot).map_or(Single::Foreign, Single::Plain),
        }
    }

    pub(super) fn list<V: Data>(&mut self, slot: Slot, clocks: Clocks) -> ListAt<'_, K, V> {
        match slot.expires {
            true => self.at(slot).map_or(ListAt::Foreign, |at| ListAt::Expiring(at, clocks)),
            false => self.at(slot).map_or(ListAt::Foreign, ListAt::Plain),
        }
    }

    pub(super) fn map<M: Key, V: Data>(
        &mut self,
        slot: Slot,
        clocks: Clocks,
    ) -> MapAt<'_, K, M, V> {
        match slot.expires {
            true => self.at(slot).map_or(MapAt::Foreign, |at| MapAt::Expiring(at, clocks)),
            false => self.at(slot).map_or(MapAt::Foreign, MapAt::Plain),
        }
    }

    pub(super) fn restore_entry(&mut self, key: &StateKey<'_>, value: &[u8]) -> state::Result<()> {
        let table = key.table;
        let owner = self.states.iter_mut().find(|open| open.tables.contains(open.expires, table));
        if let Some(open) = owner {
            return open.state.restore_entry(key, value);
        }
        if self.forgotten.contains(&table) {
            return Ok(());
        }
        let changed = self.states.iter().find(|open| open.tables.contains(!open.expires, table));
        Err(state::StateError::Unsupported(match changed {
            Some(OpenState { name, expires, .. }) => format!(
                "the checkpoint holds the state `{name}` with{} a time to live: give the state of \
                 this version another name, and say `forget` with this one",
                if *expires { "out" } else { "" }
            ),
            None => format!(
                "the checkpoint holds a state (table {table}) that the function does not declare: \
                 declare it, or say `forget` with its name"
            ),
        }))
    }

    pub(super) fn leave(&mut self, restore: &mut Restore<'_>) -> state::Result<()> {
        self.states.iter_mut().try_for_each(|open| open.state.leave(restore))
    }

    /// Removes what has expired: true if all is removed.
    pub(super) fn clean_up(&mut self, clocks: Clocks) -> Result<bool> {
        let mut budget = CLEAN_UP_BUDGET;
        for open in &mut self.states {
            if !open.state.clean_up(clocks, &mut budget)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// When there is something to remove, where that is in processing time.
    pub(super) fn wake_at(&self) -> Option<ProcessingTime> {
        self.states.iter().filter_map(|open| open.state.wake_at()).min()
    }

    pub(super) fn relieve(&mut self) -> state::Result<()> {
        self.states.iter_mut().try_for_each(|open| open.state.relieve())
    }

    pub(super) fn snapshot_into(&mut self, snapshot: &mut Snapshot) -> state::Result<()> {
        self.states.iter_mut().try_for_each(|open| open.state.snapshot_into(snapshot))
    }

    pub(super) fn each_table(&mut self, f: &mut EachTable<'_>) -> state::Result<()> {
        self.states.iter_mut().try_for_each(|open| open.state.each_table(f))
    }
}

#[cold]
fn foreign() -> Error {
    Error::config("a process function uses a handle of a state that another one has declared")
}

#[cfg(test)]
mod tests;
