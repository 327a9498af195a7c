//! `WithLate`: a stream together with the records that came too late for it.

use std::ops::Deref;

use crate::stream::Stream;

/// Results, a stream of type `S`, and beside them the records that came too late, of type `L`.
///
/// Late records that are not used are counted all the same.
pub struct WithLate<S, L> {
    results: S,
    late: Stream<L>,
}

impl<S, L> WithLate<S, L> {
    pub(crate) fn new(results: S, late: Stream<L>) -> Self {
        WithLate { results, late }
    }

    /// The results.
    pub fn results(&self) -> &S {
        &self.results
    }

    /// The records that came too late.
    pub fn late(&self) -> Stream<L> {
        self.late.clone()
    }
}

impl<S, L> Deref for WithLate<S, L> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.results
    }
}
