//! Value state: one value per key.

use std::marker::PhantomData;

use thalweg_engine::state::Table;
use thalweg_engine::{Data, Key, Result};

use super::{Owner, Slot, declared, foreign};

/// A handle of a value per key.
#[derive(Debug)]
pub struct ValueState<V> {
    pub(in crate::process) slot: Slot,
    pub(super) values: PhantomData<fn() -> V>,
}

/// The value of one key.
pub struct Value<'a, K, V> {
    pub(in crate::process) table: Option<&'a mut Table<K, V>>,
    pub(in crate::process) owner: Owner<'a, K>,
}

impl<'a, K: Key, V: Data> Value<'a, K, V> {
    /// The value, if it was set.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn get(self) -> Result<Option<&'a V>> {
        let table = self.table.ok_or_else(foreign)?;
        Ok(table.get(self.owner.hash, self.owner.key)?)
    }

    /// Sets the value.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn set(&mut self, value: V) -> Result<()> {
        Ok(declared(&mut self.table)?.insert(self.owner.hash, self.owner.key, value)?)
    }

    /// Changes the value, which is made by `init` if there is none.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn update<R>(
        &mut self,
        init: impl FnOnce() -> V,
        f: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        Ok(declared(&mut self.table)?.update(self.owner.hash, self.owner.key, init, f)?)
    }

    /// Removes the value and returns it.
    ///
    /// # Errors
    /// If state cannot be read or written.
    pub fn take(&mut self) -> Result<Option<V>> {
        Ok(declared(&mut self.table)?.remove(self.owner.hash, self.owner.key)?)
    }

    /// Removes the value.
    ///
    /// # Errors
    /// If state cannot be read or written.
    pub fn clear(&mut self) -> Result<()> {
        self.take().map(drop)
    }
}
