//! `rebalance`, `broadcast`, `global`: to which subtasks records go.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_operators::Job;
//!
//! let job = Job::new();
//! let (sink, _) = memory::sink();
//! // One split is read by one subtask; the work on its records is shared by all, and the result
//! // is written by one.
//! job.source("numbers", memory::source(vec![1_u64, 2, 3]))
//!     .rebalance()
//!     .map(|n| (0..n).sum::<u64>())
//!     .global()
//!     .sink("sums", sink);
//! ```

use std::panic::Location;

use thalweg_engine::Data;
use thalweg_engine::graph::{Level, OperatorSpec, Partition};

use crate::stream::Stream;
use crate::union::Union;

impl<T: Data> Stream<T> {
    /// Deals the records out to all subtasks in turn, a batch at a time. The records of a split
    /// are then no longer in order.
    #[track_caller]
    pub fn rebalance(&self) -> Stream<T> {
        let spec = OperatorSpec::stateless("rebalance", Location::caller());
        self.exchanged(Partition::Rebalance, spec)
    }

    /// Gives every record to every subtask. What comes of that depends on how many there are:
    /// level D2.
    #[track_caller]
    pub fn broadcast(&self) -> Stream<T> {
        let mut spec = OperatorSpec::stateless("broadcast", Location::caller());
        spec.level = Level::D2;
        self.exchanged(Partition::Broadcast, spec)
    }

    /// Gives all records to one subtask. What follows has parallelism 1, up to the next exchange.
    #[track_caller]
    pub fn global(&self) -> Stream<T> {
        let mut spec = OperatorSpec::stateless("global", Location::caller());
        spec.parallelism = Some(1);
        self.exchanged(Partition::Global, spec)
    }

    /// An operator behind an edge of this kind that passes records on.
    fn exchanged(&self, partition: Partition, spec: OperatorSpec) -> Stream<T> {
        self.job.operator(&self.over_exchange(partition), spec, Union::new)
    }
}

#[cfg(test)]
mod tests {
    use thalweg_connectors::memory;
    use thalweg_engine::sim::SimPlan;

    use crate::testing::{simulate, simulate_plan};

    #[test]
    fn each_record_arrives_once_whatever_the_parallelism() {
        for seed in 0..30 {
            let (sink, collected) = memory::sink();
            simulate(seed, |job| {
                let numbers = memory::from_splits(vec![(0..50).collect(), (50..80_u32).collect()]);
                job.source("numbers", numbers)
                    .rebalance()
                    .map(|n| n + 1)
                    .global()
                    .map(|n| n - 1)
                    .key_by(|n| n % 3)
                    .records()
                    .map(|keyed| keyed.value)
                    .sink("out", sink.clone());
            });
            let mut numbers = collected.take();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..80).collect::<Vec<u32>>(), "seed {seed}");
        }
    }

    #[test]
    fn a_broadcast_gives_each_subtask_all() {
        for parallelism in 1..4 {
            let (sink, collected) = memory::sink();
            simulate_plan(SimPlan::calm(1, parallelism), |job| {
                let numbers = job.source("numbers", memory::source(vec![1, 2, 3]));
                numbers.broadcast().sink("out", sink.clone());
            });
            let mut numbers = collected.take();
            numbers.sort_unstable();
            let expected: Vec<i32> = (1..4).flat_map(|n| vec![n; parallelism]).collect();
            assert_eq!(numbers, expected);
        }
    }
}
