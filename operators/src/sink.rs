//! `sink`: where a stream ends.

use std::panic::Location;

use thalweg_engine::Element;
use thalweg_engine::sink::Sink;

use crate::stream::Stream;

impl<T: Element> Stream<T> {
    /// Writes the records to `sink`; the name is the identity of its output in checkpoints.
    #[track_caller]
    pub fn sink<S: Sink<Item = T>>(&self, name: impl Into<String>, sink: S) {
        self.job.sink(self, name.into(), Location::caller(), sink);
    }
}
