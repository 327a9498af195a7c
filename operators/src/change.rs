//! `Change`: what became of a row of a result that is corrected as records come in.

use serde::{Deserialize, Serialize};

/// A change of a result. A change stream, applied from its beginning, gives the result as it
/// stands: an `UpdateBefore` takes the row away that the `UpdateAfter` behind it replaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Change<T> {
    /// A new row.
    Insert(T),
    /// The row as it was before an update.
    UpdateBefore(T),
    /// The row as it is after an update.
    UpdateAfter(T),
    /// The row is no more.
    Delete(T),
}
