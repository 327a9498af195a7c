//! `rate_limit`: lets no more than so many records through per second.
//!
//! ```
//! use thalweg_connectors::memory;
//! use thalweg_operators::{Job, RateLimit};
//!
//! let job = Job::new();
//! let (sink, _) = memory::sink();
//! job.source("numbers", memory::source(vec![1, 2, 3]))
//!     .rate_limit(RateLimit::per_second(1_000).burst(5_000))
//!     .sink("out", sink);
//! ```

use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use thalweg_engine::graph::OperatorSpec;
use thalweg_engine::token_bucket::TokenBucket;
use thalweg_engine::{Batch, Context, Element, Operator, Outputs, Result};

use crate::stream::Stream;

/// How many records may pass.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    records_per_second: u64,
    burst: Option<u64>,
}

impl RateLimit {
    /// No more than `records` per second, over all subtasks. What was not used is kept for a
    /// tenth of a second.
    pub fn per_second(records: u64) -> Self {
        RateLimit { records_per_second: records, burst: None }
    }

    /// After a pause of any length up to `records` may pass at once. A burst of less than a
    /// hundredth of the rate also lowers the rate, because tokens come every ten milliseconds.
    #[must_use]
    pub fn burst(self, records: u64) -> Self {
        RateLimit { burst: Some(records), ..self }
    }
}

impl From<u64> for RateLimit {
    fn from(records_per_second: u64) -> Self {
        RateLimit::per_second(records_per_second)
    }
}

impl<T: Element> Stream<T> {
    /// Lets no more records through than `limit` says, a number per second or a [`RateLimit`], over
    /// all subtasks. What comes before it is held back by back-pressure; nothing is lost.
    ///
    /// # Cost
    /// A barrier waits for the records of the batch that is being let through: a limit of a few
    /// records per second belongs to the source (`records_per_second`), which reads no more than
    /// may pass.
    #[track_caller]
    pub fn rate_limit(&self, limit: impl Into<RateLimit>) -> Stream<T> {
        let RateLimit { records_per_second, burst } = limit.into();
        let mut spec = OperatorSpec::stateless("rate_limit", Location::caller());
        if records_per_second == 0 || burst == Some(0) {
            spec.problems.push(
                "a limit of 0 records would never let one through: set it to 1 or more".to_owned(),
            );
        }
        let bucket = TokenBucket::new(records_per_second);
        let bucket = Arc::new(match burst {
            Some(burst) => bucket.with_burst(burst),
            None => bucket,
        });
        self.job
            .operator(self, spec, move || Limit { bucket: bucket.clone(), records: PhantomData })
    }
}

struct Limit<T> {
    bucket: Arc<TokenBucket>,
    records: PhantomData<fn(T)>,
}

impl<T: Element> Operator for Limit<T> {
    type In = T;
    type Out = T;
    type Side = ();

    fn process(
        &mut self,
        input: &mut Batch<T>,
        out: &mut Outputs<'_, T, ()>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        match self.bucket.take(input.len() as u64, context.now) {
            Ok(tokens) => input.split_front_into(tokens as usize, out.main),
            Err(until) => context.wake_at(until),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use thalweg_connectors::memory;
    use thalweg_engine::ErrorKind;
    use thalweg_engine::sim::SimPlan;

    use super::RateLimit;
    use crate::job::Job;
    use crate::testing::{simulate, simulate_plan};

    #[test]
    fn nothing_is_lost_or_doubled_behind_a_limit() {
        for seed in 0..20 {
            let (sink, collected) = memory::sink();
            simulate(seed, |job| {
                let splits = memory::from_splits(vec![(0..30).collect(), (30..50_u32).collect()]);
                let slow = job.source("numbers", splits).rate_limit(500);
                slow.map(|n| n * 2).sink("out", sink.clone());
            });
            let mut numbers = collected.take();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..50).map(|n| n * 2).collect::<Vec<u32>>(), "seed {seed}");
        }
    }

    /// The virtual time that a run needs shows that the limit holds.
    #[test]
    fn a_limit_takes_its_time_whatever_the_parallelism() {
        for (parallelism, limit, batches) in [
            (1, RateLimit::per_second(1_000), 20),
            (3, RateLimit::per_second(1_000), 20),
            (1, RateLimit::per_second(1_000).burst(1_000), 20),
        ] {
            let batch_sizes = Arc::new(Mutex::new(Vec::new()));
            let (sink, collected) = memory::sink();
            simulate_plan(SimPlan::calm(5, parallelism), |job| {
                let batch_sizes = batch_sizes.clone();
                let source = job.source("numbers", memory::source((0..200_u32).collect()));
                let numbers = source.rate_limit(limit);
                let sink_of_batches = thalweg_connectors::sink::for_each(move |batch: &[u32]| {
                    batch_sizes.lock().expect("no panic").push(batch.len());
                });
                numbers.sink("batches", sink_of_batches);
                numbers.sink("out", sink.clone());
            });
            assert_eq!(collected.len(), 200);
            let sizes = batch_sizes.lock().expect("no panic");
            // Ten tokens come every ten milliseconds; the first call finds one granule's.
            assert!(sizes.len() >= batches / 2, "{sizes:?}");
            assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_refused_when_the_job_is_built() {
        let job = Job::new();
        let (sink, _) = memory::sink();
        job.source("numbers", memory::source(vec![1])).rate_limit(0).sink("out", sink);
        let error = job.into_graph().validate().expect_err("0 is refused");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("rate_limit.rs"), "{error}");
    }
}
