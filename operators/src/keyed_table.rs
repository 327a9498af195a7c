//! `KeyedTable`: the state of operators that keep one value per key, and nothing else.

use thalweg_engine::state::{OperatorState, Table, TableId};
use thalweg_engine::{Data, EachTable, Error, Key, OpenContext, Result, SnapshotContext};

/// The only table.
const TABLE: TableId = TableId(0);

/// One value per key.
pub(crate) struct KeyedTable<K, V> {
    open: Option<(OperatorState, Table<K, V>)>,
}

impl<K: Key, V: Data> KeyedTable<K, V> {
    /// A table that is yet to be opened.
    pub(crate) fn new() -> Self {
        KeyedTable { open: None }
    }

    /// Opens the table, restored if the context has snapshots.
    pub(crate) fn open(&mut self, context: &OpenContext<'_>) -> Result<()> {
        let mut state = context.open_state()?;
        let mut table = state.table(TABLE);
        let mut restore = state.begin_restore(context.restored)?;
        restore.leave(&mut table)?;
        restore.run(&mut |key, value| table.restore_entry(&key, value))?;
        self.open = Some((state, table));
        Ok(())
    }

    fn opened(&mut self) -> Result<&mut (OperatorState, Table<K, V>)> {
        self.open.as_mut().ok_or_else(|| Error::bug("the operator was not opened"))
    }

    #[inline]
    pub(crate) fn table(&mut self) -> Result<&mut Table<K, V>> {
        Ok(&mut self.opened()?.1)
    }

    pub(crate) fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let (state, table) = self.opened()?;
        let mut snapshot = state.begin_snapshot();
        table.snapshot_into(&mut snapshot)?;
        context.put_state(state.finish_snapshot(snapshot));
        Ok(())
    }

    pub(crate) fn each_table(&mut self, f: &mut EachTable<'_>) -> Result<()> {
        Ok(f(self.table()?)?)
    }
}
