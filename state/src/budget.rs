//! `Budget`: how many bytes the tables of one operator may hold in memory, and how many they do.
//!
//! Sizes are the tables' own estimates, reported when they are asked to relieve the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory budget of one operator in one subtask. All its users are on one thread.
#[derive(Debug)]
pub(crate) struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    shares: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Budget { limit_bytes, used_bytes: AtomicUsize::new(0), shares: AtomicUsize::new(0) }
    }

    /// Whether the tables hold more than they may.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used_bytes.load(Ordering::Relaxed) > self.limit_bytes
    }
}

/// One table's part of a budget.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    reported_bytes: usize,
}

impl Share {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        budget.shares.fetch_add(1, Ordering::Relaxed);
        Share { budget, reported_bytes: 0 }
    }

    /// What all tables together may hold.
    pub(crate) fn limit_bytes(&self) -> usize {
        self.budget.limit_bytes
    }

    /// Whether there is hardly any room left.
    pub(crate) fn is_nearly_full(&self) -> bool {
        let limit = self.budget.limit_bytes;
        self.budget.used_bytes.load(Ordering::Relaxed) >= limit - limit / 8
    }

    /// Reports the table's size.
    pub(crate) fn report(&mut self, bytes: usize) {
        self.budget.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used_bytes.fetch_sub(self.reported_bytes, Ordering::Relaxed);
        self.reported_bytes = bytes;
    }

    /// How many bytes this table is to give up; 0 if the budget is kept, or if others hold more.
    ///
    /// It is asked of the tables of at least average size, so that small ones stay; a little more
    /// than what exceeds the budget, so that not every batch evicts, and not much more, so that no
    /// batch waits for long.
    pub(crate) fn excess(&self) -> usize {
        let budget = &self.budget;
        let used = budget.used_bytes.load(Ordering::Relaxed);
        let shares = budget.shares.load(Ordering::Relaxed).max(1);
        if used > budget.limit_bytes && self.reported_bytes.saturating_mul(shares) >= used {
            (used - budget.limit_bytes + budget.limit_bytes / 256).min(self.reported_bytes)
        } else {
            0
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.report(0);
        self.budget.shares.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_of_at_least_average_size_give_up_memory() {
        let budget = Arc::new(Budget::new(100));
        let (mut small, mut large) = (Share::new(budget.clone()), Share::new(budget.clone()));
        small.report(10);
        large.report(90);
        assert!(!budget.is_exceeded());
        assert_eq!((small.excess(), large.excess()), (0, 0));
        large.report(110);
        assert!(budget.is_exceeded());
        assert_eq!((small.excess(), large.excess()), (0, 20));
        drop(large);
        assert!(!budget.is_exceeded());
        small.report(101);
        assert_eq!(small.excess(), 1);
    }
}
