//! What is made of a pair of rows, and of a row without a partner.

/// A function of a key and the rows of a pair, one of which may be lacking. `None` for what the
/// kind of join never asks for.
pub(super) trait Pairing<K, A, B, R>:
    Fn(&K, Option<&A>, Option<&B>) -> Option<R> + Send + Sync + 'static
{
}

impl<K, A, B, R, F> Pairing<K, A, B, R> for F where
    F: Fn(&K, Option<&A>, Option<&B>) -> Option<R> + Send + Sync + 'static
{
}

/// The sides whose rows are given out alone if they have no partner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outer {
    pub(super) left: bool,
    pub(super) right: bool,
}

impl Outer {
    pub(super) const NONE: Outer = Outer { left: false, right: false };
    pub(super) const LEFT: Outer = Outer { left: true, right: false };
    pub(super) const RIGHT: Outer = Outer { left: false, right: true };
    pub(super) const BOTH: Outer = Outer { left: true, right: true };
}

pub(super) fn inner<K, A, B, R>(
    f: impl Fn(&K, &A, &B) -> R + Send + Sync + 'static,
) -> impl Pairing<K, A, B, R> {
    move |key: &K, a: Option<&A>, b: Option<&B>| Some(f(key, a?, b?))
}

pub(super) fn left<K, A, B, R>(
    f: impl Fn(&K, &A, Option<&B>) -> R + Send + Sync + 'static,
) -> impl Pairing<K, A, B, R> {
    move |key: &K, a: Option<&A>, b: Option<&B>| Some(f(key, a?, b))
}

pub(super) fn right<K, A, B, R>(
    f: impl Fn(&K, Option<&A>, &B) -> R + Send + Sync + 'static,
) -> impl Pairing<K, A, B, R> {
    move |key: &K, a: Option<&A>, b: Option<&B>| Some(f(key, a, b?))
}

pub(super) fn full<K, A, B, R>(
    f: impl Fn(&K, Option<&A>, Option<&B>) -> R + Send + Sync + 'static,
) -> impl Pairing<K, A, B, R> {
    move |key: &K, a: Option<&A>, b: Option<&B>| Some(f(key, a, b))
}
