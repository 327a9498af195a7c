//! The bounds on what flows through a job: `Element`, `Data` and `Key`, with blanket impls.
//!
//! Nobody implements these traits: a type has them by having what they ask for.

use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Anything that can be in a stream.
pub trait Element: Clone + Send + 'static {}

impl<T: Clone + Send + 'static> Element for T {}

/// An element that can cross an exchange or enter state.
pub trait Data: Element + Serialize + DeserializeOwned {}

impl<T: Element + Serialize + DeserializeOwned> Data for T {}

/// Data that records can be keyed by.
///
/// Equal keys must have equal encodings: a key holds no map or set whose iteration order varies.
pub trait Key: Data + Eq + Hash {}

impl<T: Data + Eq + Hash> Key for T {}
