//! `TwoStacks`: what lies in a span that moves on, combined without combining the whole span anew.
//!
//! The two-stacks queue, as described by Tangwongsan, Hirzel and Schneider, *Low-Latency
//! Sliding-Window Aggregation in Worst-Case Constant Time* (DEBS 2017), section 2: new elements go
//! on a back stack, whose whole is known; old ones are taken from a front stack, where each element
//! has the combination of itself and all behind it; a front stack that has run out is built from
//! the back stack. Combining needs to be associative, not commutative or invertible.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Elements at rising positions, and the combination of them all.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct TwoStacks<V> {
    /// Each with the elements behind it in this stack; the oldest is last.
    front: Vec<(i64, V)>,
    /// The elements as they came.
    back: VecDeque<(i64, V)>,
    /// All of `back`.
    back_whole: Option<V>,
}

impl<V: Clone> TwoStacks<V> {
    pub(super) fn new() -> Self {
        TwoStacks { front: Vec::new(), back: VecDeque::new(), back_whole: None }
    }

    /// Appends an element; positions rise.
    pub(super) fn push(&mut self, position: i64, value: V, merge: impl Fn(&mut V, &V)) {
        match &mut self.back_whole {
            Some(whole) => merge(whole, &value),
            None => self.back_whole = Some(value.clone()),
        }
        self.back.push_back((position, value));
    }

    /// Drops the elements at positions before `limit`.
    ///
    /// # Cost
    /// One merge per element over its life; all elements of the span at once when the front stack
    /// has run out.
    pub(super) fn drop_before(&mut self, limit: i64, merge: impl Fn(&mut V, &V)) {
        while self.front.pop_if(|(position, _)| *position < limit).is_some() {}
        let is_old = |element: &(i64, V)| element.0 < limit;
        if !self.front.is_empty() || !self.back.front().is_some_and(is_old) {
            return;
        }
        let old = self.back.partition_point(is_old);
        for (position, mut value) in self.back.drain(old..).rev() {
            if let Some((_, behind)) = self.front.last() {
                merge(&mut value, behind);
            }
            self.front.push((position, value));
        }
        self.back.clear();
        self.back_whole = None;
    }

    /// All elements, combined in the order of their positions.
    pub(super) fn combined(&self, merge: impl Fn(&mut V, &V)) -> Option<V> {
        match (self.front.last(), &self.back_whole) {
            (Some((_, front)), Some(back)) => {
                let mut whole = front.clone();
                merge(&mut whole, back);
                Some(whole)
            }
            (Some((_, front)), None) => Some(front.clone()),
            (None, back) => back.clone(),
        }
    }

    /// The position of the last element.
    pub(super) fn newest(&self) -> Option<i64> {
        self.back.back().or(self.front.first()).map(|&(position, _)| position)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;

    use thalweg_engine::sim::Random;

    use super::TwoStacks;

    #[test]
    fn the_combination_is_that_of_a_queue_and_costs_few_merges() {
        let merges = Cell::new(0);
        let merge = |a: &mut Vec<u64>, b: &Vec<u64>| {
            merges.set(merges.get() + 1);
            a.extend(b);
        };
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut stacks = TwoStacks::new();
            let mut queue: VecDeque<(i64, u64)> = VecDeque::new();
            let span = random.between(0, 60);
            let mut position = random.between(-50, 50);
            merges.set(0);
            for number in 0..200 {
                position += random.between(1, 3) * random.between(1, 1 + 40 / 4);
                stacks.drop_before(position - span, merge);
                queue.retain(|element| element.0 >= position - span);
                stacks.push(position, vec![number], merge);
                queue.push_back((position, number));
                let expected: Vec<u64> = queue.iter().map(|element| element.1).collect();
                assert_eq!(stacks.combined(merge), Some(expected), "seed {seed}");
                assert_eq!(stacks.newest(), Some(position));
            }
            // One for each element pushed, one for each moved to the front, one for each query.
            assert!(merges.get() <= 3 * 200, "seed {seed}: {} merges", merges.get());
            stacks.drop_before(position + 1, merge);
            assert_eq!((stacks.combined(merge), stacks.newest()), (None, None));
        }
    }
}
