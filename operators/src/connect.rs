//! `connect`: two keyed streams that one operator takes together.

use thalweg_engine::{Data, Key};

use crate::stream::KeyedStream;

/// Two streams with keys of one type: records of equal keys meet in one subtask.
pub struct ConnectedStreams<K, A, B> {
    pub(crate) left: KeyedStream<K, A>,
    pub(crate) right: KeyedStream<K, B>,
}

impl<K: Key, A: Data> KeyedStream<K, A> {
    /// Connects this stream, the left one, with `right`.
    pub fn connect<B: Data>(&self, right: &KeyedStream<K, B>) -> ConnectedStreams<K, A, B> {
        ConnectedStreams {
            left: KeyedStream { stream: self.stream.clone() },
            right: KeyedStream { stream: right.stream.clone() },
        }
    }
}
