//! Value state: one value per key.

use std::marker::PhantomData;

use thalweg_engine::{Data, Key, Result};

use super::single::Single;
use super::{Owner, Slot};

/// A handle of a value per key.
#[derive(Debug)]
pub struct ValueState<V> {
    pub(in crate::process) slot: Slot,
    pub(super) values: PhantomData<fn() -> V>,
}

/// The value of one key.
pub struct Value<'a, K, V> {
    pub(in crate::process) state: Single<'a, K, V>,
    pub(in crate::process) owner: Owner<'a, K>,
}

impl<'a, K: Key, V: Data> Value<'a, K, V> {
    /// The value, if it was set.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn get(self) -> Result<Option<&'a V>> {
        self.state.get(self.owner)
    }

    /// Sets the value.
    ///
    /// # Errors
    /// If state cannot be read.
    pub fn set(&mut self, value: V) -> Result<()> {
        self.state.insert(self.owner, value)
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
        self.state.update(self.owner, init, f)
    }

    /// Removes the value and returns it.
    ///
    /// # Errors
    /// If state cannot be read or written.
    pub fn take(&mut self) -> Result<Option<V>> {
        self.state.remove(self.owner)
    }

    /// Removes the value.
    ///
    /// # Errors
    /// If state cannot be read or written.
    pub fn clear(&mut self) -> Result<()> {
        self.take().map(drop)
    }
}
