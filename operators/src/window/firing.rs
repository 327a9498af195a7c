//! What is being given out: the results of windows that are final, in order, piece by piece.

use std::collections::VecDeque;

use thalweg_engine::state::codec;
use thalweg_engine::{Key, Result};

/// Accumulators of final windows that have not been given out yet, ordered by window, then by
/// encoded key.
pub(super) struct Firing<K, A> {
    queue: VecDeque<Fired<K, A>>,
}

/// The accumulator of one key in one final window.
pub(super) struct Fired<K, A> {
    /// The end of the window.
    pub(super) end: i64,
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) accumulator: A,
}

impl<K: Key, A> Firing<K, A> {
    pub(super) fn new() -> Self {
        Firing { queue: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queues the contents of a window, sorted by encoded key, behind what is queued already.
    pub(super) fn push_window(&mut self, mut window: Vec<Fired<K, A>>) -> Result<()> {
        let mut arena = Vec::new();
        let mut order = Vec::with_capacity(window.len());
        for (index, fired) in window.iter().enumerate() {
            let start = arena.len();
            codec::encode_key(&fired.key, &mut arena)?;
            order.push((prefix(&arena[start..]), start, arena.len(), index));
        }
        order.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| arena[a.1..a.2].cmp(&arena[b.1..b.2]))
        });
        let mut slots: Vec<Option<Fired<K, A>>> = window.drain(..).map(Some).collect();
        let in_order = order.iter().filter_map(|&(.., index)| slots[index].take());
        self.queue.extend(in_order);
        Ok(())
    }

    /// Queues the contents of a window that are sorted by encoded key.
    pub(super) fn extend(&mut self, window: impl IntoIterator<Item = Fired<K, A>>) {
        self.queue.extend(window);
    }

    /// Adds what a snapshot held, in any order; call `sort_restored` when all is added.
    pub(super) fn push_restored(&mut self, fired: Fired<K, A>) {
        self.queue.push_back(fired);
    }

    /// Brings restored entries into the order in which they are given out.
    pub(super) fn sort_restored(&mut self) -> Result<()> {
        let mut windows: Vec<Fired<K, A>> = self.queue.drain(..).collect();
        windows.sort_by_key(|fired| fired.end);
        while !windows.is_empty() {
            let end = windows[0].end;
            let rest = windows.split_off(windows.partition_point(|fired| fired.end == end));
            self.push_window(std::mem::replace(&mut windows, rest))?;
        }
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<Fired<K, A>> {
        self.queue.pop_front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Fired<K, A>> {
        self.queue.iter()
    }
}

/// The first eight bytes as a number that sorts like them.
pub(super) fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = bytes.len().min(8);
    first[..length].copy_from_slice(&bytes[..length]);
    u64::from_be_bytes(first)
}
