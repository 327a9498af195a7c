//! From the first job to state, checkpoints and tests; all code here is compiled and run.
//!
//! # A first job
//!
//! A job is a function that declares it: sources, operators, sinks. Nothing runs while it is
//! called; what it declares is checked as a whole before anything does.
//!
//! ```
//! use thalweg::prelude::*;
//!
//! fn squares(job: &Job) -> thalweg::Result<()> {
//!     job.source("numbers", generator(Some(1_000), |i| i))
//!         .filter(|n| n % 2 == 0)
//!         .map(|n| n * n)
//!         .sink("squares", sink::discard());
//!     Ok(())
//! }
//!
//! let report = thalweg::execute("squares", squares, &JobOptions::default())?;
//! assert_eq!(report.progress.metrics.total("squares", thalweg::Counter::In), 500);
//! # Ok::<(), thalweg::Error>(())
//! ```
//!
//! [`execute`](crate::execute()) is for tests and services. A binary calls [`run`](fn@crate::run)
//! or [`JobMain`](crate::JobMain) instead and gets a command line: `squares --parallelism 4`,
//! `squares plan`.
//!
//! A [`Stream`](crate::Stream) is a handle; used twice, it gives its records to both:
//!
//! ```
//! use thalweg::prelude::*;
//!
//! let (even, odd) = (memory::sink(), memory::sink());
//! let job = |job: &Job| {
//!     let numbers = job.source("numbers", generator(Some(10), |i| i));
//!     numbers.filter(|n| n % 2 == 0).sink("even", even.0.clone());
//!     numbers.filter(|n| n % 2 == 1).sink("odd", odd.0.clone());
//!     Ok(())
//! };
//! thalweg::execute("parity", job, &JobOptions::default())?;
//! assert_eq!(even.1.take(), [0, 2, 4, 6, 8]);
//! assert_eq!(odd.1.take(), [1, 3, 5, 7, 9]);
//! # Ok::<(), thalweg::Error>(())
//! ```
//!
//! # Event time
//!
//! Windows are about when things happened, not when they were read. `event_time` says where a
//! record's time is and how far out of order records may be. From this come *watermarks*: "no
//! record on time is older than this". A window is given out, once, when the watermark has passed
//! its end.
//!
//! ```
//! use thalweg::prelude::*;
//!
//! #[derive(Clone, serde::Serialize, serde::Deserialize)]
//! struct Reading {
//!     sensor: u32,
//!     time_ms: i64,
//!     degrees: i64,
//! }
//!
//! let reading = |minute: i64, degrees| Reading { sensor: 7, time_ms: minute * 60_000, degrees };
//! // Minute 3 comes after minute 8: within the bound. Minute 1 comes after minute 30: late.
//! let readings = vec![reading(8, 20), reading(3, 30), reading(30, 10), reading(1, 99)];
//! let (hottest, late) = (memory::sink(), memory::sink());
//! let job = |job: &Job| {
//!     let windows = job
//!         .source("readings", memory::source(readings.clone()))
//!         .event_time(|r| r.time_ms, Watermarks::bounded_out_of_orderness(minutes(5)))
//!         .key_by(|r| r.sensor)
//!         .window(Tumbling::of(minutes(10)))
//!         .aggregate("hottest", Max::of(|r: &Reading| r.degrees));
//!     let results = windows.results().map(|r| (r.window.start.millis(), r.value));
//!     results.sink("out", hottest.0.clone());
//!     windows.late().map(|r| r.degrees).sink("late", late.0.clone());
//!     Ok(())
//! };
//! thalweg::execute("hottest", job, &JobOptions::default())?;
//! assert_eq!(hottest.1.take(), [(0, Some(30)), (1_800_000, Some(10))]);
//! assert_eq!(late.1.take(), [99]);
//! # Ok::<(), thalweg::Error>(())
//! ```
//!
//! Whether a record is late is decided once, where it is read, by the watermark of its own split:
//! not by what other records have arrived meanwhile. So the same records are late at every
//! parallelism and after every crash, and `plan` shows level D4 for such a job: the same results
//! for every schedule. Late records are counted even if nobody asks for them.
//!
//! # Two streams, and patterns
//!
//! A join takes two streams that have keys of one type. Which rows meet is a matter of their times:
//! in the same window ([`join`](crate::KeyedStream::join)), not too far apart
//! ([`interval_join`](crate::KeyedStream::interval_join)), or a row and the version of a table that
//! held at its time ([`join_table`](crate::KeyedStream::join_table)). Late rows of each side are a
//! stream of their own, and results are never late for what stands behind.
//!
//! ```
//! use thalweg::prelude::*;
//!
//! // (customer, minute)
//! let orders = vec![("ann", 0), ("bob", 5), ("ann", 50)];
//! let payments = vec![("ann", 10), ("bob", 90)];
//! let (sink, unpaid) = memory::sink();
//! let job = |job: &Job| {
//!     let by_customer = |name: &str, rows: &Vec<(&str, i64)>| {
//!         let rows = rows.iter().map(|(who, minute)| (who.to_string(), *minute)).collect();
//!         job.source(name, memory::source(rows))
//!             .event_time(|row| row.1 * 60_000, Watermarks::bounded_out_of_orderness(minutes(5)))
//!             .key_by(|row: &(String, i64)| row.0.clone())
//!     };
//!     let orders = by_customer("orders", &orders);
//!     let joined = orders
//!         .interval_join(&by_customer("payments", &payments))
//!         .between(minutes(0), minutes(30))
//!         .left("paid", |_, order, payment| (order.clone(), payment.is_some()));
//!     let unpaid = joined.results().filter_map(|(order, is_paid)| (!is_paid).then_some(order));
//!     unpaid.sink("unpaid", sink.clone());
//!     Ok(())
//! };
//! thalweg::execute("orders", job, &JobOptions::default())?;
//! let mut unpaid = unpaid.take();
//! unpaid.sort();
//! assert_eq!(unpaid, [("ann".to_owned(), 50), ("bob".to_owned(), 5)]);
//! # Ok::<(), thalweg::Error>(())
//! ```
//!
//! A [`Pattern`](crate::Pattern) looks for events of one key that follow each other, in event time:
//!
//! ```
//! use thalweg::prelude::*;
//!
//! // (card, amount, second)
//! let payments: Vec<(u32, u32, i64)> = vec![(7, 1, 0), (8, 700, 3), (7, 900, 20), (7, 800, 200)];
//! let (sink, alerts) = memory::sink();
//! let job = |job: &Job| {
//!     let tried_then_used = Pattern::begin("tried", |p: &(u32, u32, i64)| p.1 < 5)
//!         .followed_by("used", |p| p.1 > 500)
//!         .within(seconds(60));
//!     job.source("payments", memory::source(payments.clone()))
//!         .event_time(|p| p.2 * 1_000, Watermarks::monotonic())
//!         .key_by(|p| p.0)
//!         .pattern("fraud", tried_then_used)
//!         .select(|found| (found.key, found.events("used")[0].1))
//!         .sink("alerts", sink.clone());
//!     Ok(())
//! };
//! thalweg::execute("fraud", job, &JobOptions::default())?;
//! assert_eq!(alerts.take(), [(7, 900)]);
//! # Ok::<(), thalweg::Error>(())
//! ```
//!
//! [The operators](thalweg_operators) are all in one table, with what their results may depend on.
//!
//! # State and checkpoints
//!
//! Behind `key_by`, all records of a key are seen by one subtask, in order. Aggregates keep one
//! accumulator per key (and window); a [`ProcessFunction`](crate::ProcessFunction) keeps what it
//! likes, and has timers.
//!
//! ```
//! use thalweg::prelude::*;
//!
//! /// Says when a user comes for the third time.
//! struct ThirdVisit;
//!
//! impl ProcessFunction<String, String> for ThirdVisit {
//!     type State = u32;
//!     type Out = String;
//!
//!     fn on_record(
//!         &self,
//!         user: String,
//!         context: &mut ProcessContext<'_, String, u32, String>,
//!     ) -> thalweg::Result<()> {
//!         *context.state += 1;
//!         if *context.state == 3 {
//!             context.emit(user);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let visits: Vec<String> = ["ann", "bob", "ann", "ann", "bob"].map(String::from).into();
//! let (sink, loyal) = memory::sink();
//! let job = |job: &Job| {
//!     let visits = job.source("visits", memory::source(visits.clone()));
//!     visits.key_by(String::clone).process("third-visit", ThirdVisit).sink("out", sink.clone());
//!     Ok(())
//! };
//! let directory = tempfile::tempdir().expect("a temporary directory");
//! let options = JobOptions {
//!     checkpoint_dir: Some(directory.path().join("checkpoints")),
//!     ..JobOptions::default()
//! };
//! thalweg::execute("visits", job, &options)?;
//! assert_eq!(loyal.take(), ["ann"]);
//!
//! // The job has finished: to start it again does nothing.
//! let report = thalweg::execute("visits", job, &options)?;
//! assert_eq!(report.outcome, thalweg::RunOutcome::AlreadyFinished);
//! assert!(loyal.is_empty());
//! # Ok::<(), thalweg::Error>(())
//! ```
//!
//! With a checkpoint directory the job can be killed at any time and started again with the same
//! command: sources continue where the newest checkpoint was taken, state is as it was, and
//! transactional sinks ([`files`](crate::files), [`memory`](crate::memory)) show every result
//! once. The *name* of an operator is the identity of its state: keep it, and the rest of the job
//! may change. The parallelism may change too.
//!
//! A failure, too, is answered with a start from the newest checkpoint, in the same process:
//! after a second, then after longer and longer pauses up to a minute (`--restart` has other
//! [policies](crate::RestartPolicy), and `none`). Not retried are errors that would come again: a
//! wrong job, damaged data, and what your function marks as [`fatal`](crate::Error::fatal). If a
//! record makes an operator fail three times (`--poison-after`), the job ends with an error that
//! names it: such records are what [`try_map`](crate::Stream::try_map) has a dead-letter stream
//! for. A function that asks another service, and fails because that is away, says so by
//! [`Error::unavailable`](crate::Error::unavailable); then the record is not blamed.
//!
//! State is in memory unless it is told otherwise: `--state rocksdb --memory 512MiB` keeps the
//! rest on disk.
//!
//! # Testing
//!
//! A test runs the same function with other sources and sinks. [`test::simulate`] does it under a
//! deterministic simulator that reorders, delays, crashes and rescales by seed: what holds for a
//! few hundred seeds is not an accident of one schedule.
//!
//! ```
//! use thalweg::prelude::*;
//! use thalweg::test::simulate;
//!
//! let words: Vec<String> = "a b a c a b".split(' ').map(String::from).collect();
//! for seed in 0..50 {
//!     let (sink, counts) = memory::sink();
//!     let job = |job: &Job| {
//!         let words = job.source("words", memory::source(words.clone()));
//!         words.key_by(String::clone).aggregate("count", Count).sink("out", sink.clone());
//!         Ok(())
//!     };
//!     simulate("wordcount", job, seed)?;
//!     let mut counts: Vec<_> = counts.take().into_iter().map(|c| (c.key, c.value)).collect();
//!     counts.sort();
//!     let expected = [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("c", 1)];
//!     assert_eq!(counts, expected.map(|(word, n)| (word.to_owned(), n)), "seed {seed}");
//! }
//! # Ok::<(), thalweg::Error>(())
//! ```
//!
//! A failure names its seed; `simulate` with that seed fails again, at the same step.
//!
//! [`test::simulate`]: crate::test::simulate
