//! What is being given out: the results of windows that are final, in order, piece by piece.

use std::collections::VecDeque;

use thalweg_engine::state::codec;
use thalweg_engine::{Key, Result};

/// Accumulators of final windows that have not been given out yet, ordered by window, then by
/// encoded key.
pub(crate) struct Firing<K, A> {
    queue: VecDeque<Fired<K, A>>,
}

/// The accumulator of one key in one final window.
pub(crate) struct Fired<K, A> {
    /// The end of the window.
    pub(crate) end: i64,
    pub(crate) key: K,
    pub(crate) hash: u64,
    pub(crate) accumulator: A,
}

impl<K: Key, A> Firing<K, A> {
    pub(crate) fn new() -> Self {
        Firing { queue: VecDeque::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues the contents of a window, sorted by encoded key, behind what is queued already.
    pub(crate) fn push_window(&mut self, window: Vec<Fired<K, A>>) -> Result<()> {
        self.queue.extend(sorted_by_key(window, |fired| &fired.key)?);
        Ok(())
    }

    /// Queues the contents of a window that are sorted by encoded key.
    pub(super) fn extend(&mut self, window: impl IntoIterator<Item = Fired<K, A>>) {
        self.queue.extend(window);
    }

    pub(crate) fn pop(&mut self) -> Option<Fired<K, A>> {
        self.queue.pop_front()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Fired<K, A>> {
        self.queue.iter()
    }
}

/// Sorts by encoded key.
pub(super) fn sorted_by_key<K: Key, T>(
    items: Vec<T>,
    key_of: impl Fn(&T) -> &K,
) -> Result<impl Iterator<Item = T>> {
    let mut arena = Vec::new();
    let mut order = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let start = arena.len();
        codec::encode_key(key_of(item), &mut arena)?;
        order.push((prefix(&arena[start..]), start, arena.len(), index));
    }
    order
        .sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| arena[a.1..a.2].cmp(&arena[b.1..b.2])));
    let mut slots: Vec<Option<T>> = items.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(move |(.., index)| slots[index].take()))
}

/// The first eight bytes as a number that sorts like them.
pub(super) fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = bytes.len().min(8);
    first[..length].copy_from_slice(&bytes[..length]);
    u64::from_be_bytes(first)
}
