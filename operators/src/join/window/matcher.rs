//! What a window join makes of the rows of a key in a window: pairs, or what a function says.

use std::marker::PhantomData;

use thalweg_engine::Element;

use crate::join::pair::{Outer, Pairing};
use crate::window::Window;

/// The rows of a key in a window.
pub(super) struct Rows<A, B> {
    pub(super) left: Vec<A>,
    pub(super) right: Vec<B>,
}

/// Makes results of the rows of a key in a window, one after the other.
pub(super) trait Matcher<K, A, B>: Send + Sync + 'static {
    /// A result.
    type Out: Element;
    /// What remains to be given out of a key and window.
    type Rest: Send + 'static;

    /// The sides whose rows have results without rows on the other.
    fn outer(&self) -> Outer;

    /// Begins with a key and window, behind the first `given` results.
    fn begin(&self, key: &K, window: Window, rows: &Rows<A, B>, given: u64) -> Self::Rest;

    /// The next result.
    fn next(&self, key: &K, rows: &Rows<A, B>, rest: &mut Self::Rest) -> Option<Self::Out>;
}

/// All pairs, and the rows of keys that have rows on one side only.
pub(super) struct Pairs<F, R> {
    outer: Outer,
    f: F,
    results: PhantomData<fn() -> R>,
}

impl<F, R> Pairs<F, R> {
    pub(super) fn new(outer: Outer, f: F) -> Self {
        Pairs { outer, f, results: PhantomData }
    }
}

impl<K, A, B, R, F> Matcher<K, A, B> for Pairs<F, R>
where
    A: 'static,
    B: 'static,
    R: Element,
    F: Pairing<K, A, B, R>,
{
    type Out = R;
    /// The number of results given out.
    type Rest = usize;

    fn outer(&self) -> Outer {
        self.outer
    }

    fn begin(&self, _key: &K, _window: Window, _rows: &Rows<A, B>, given: u64) -> usize {
        given as usize
    }

    fn next(&self, key: &K, Rows { left, right }: &Rows<A, B>, given: &mut usize) -> Option<R> {
        let at = *given;
        *given += 1;
        match (left.is_empty(), right.is_empty()) {
            (false, false) => {
                let (a, b) = (left.get(at / right.len())?, &right[at % right.len()]);
                (self.f)(key, Some(a), Some(b))
            }
            (false, true) if self.outer.left => (self.f)(key, Some(left.get(at)?), None),
            (true, false) if self.outer.right => (self.f)(key, None, Some(right.get(at)?)),
            _ => None,
        }
    }
}

/// What a function makes of all rows.
pub(super) struct CoGroup<F, R> {
    f: F,
    results: PhantomData<fn() -> R>,
}

impl<F, R> CoGroup<F, R> {
    pub(super) fn new(f: F) -> Self {
        CoGroup { f, results: PhantomData }
    }
}

impl<K, A, B, R, F> Matcher<K, A, B> for CoGroup<F, R>
where
    R: Element,
    F: Fn(&K, Window, &[A], &[B]) -> Vec<R> + Send + Sync + 'static,
{
    type Out = R;
    type Rest = std::vec::IntoIter<R>;

    fn outer(&self) -> Outer {
        Outer::BOTH
    }

    fn begin(&self, key: &K, window: Window, rows: &Rows<A, B>, given: u64) -> Self::Rest {
        let mut results = (self.f)(key, window, &rows.left, &rows.right);
        results.drain(..results.len().min(given as usize));
        results.into_iter()
    }

    fn next(&self, _key: &K, _rows: &Rows<A, B>, rest: &mut Self::Rest) -> Option<R> {
        rest.next()
    }
}
