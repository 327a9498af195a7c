//! User code that fails: the error names the operator, and the job ends in order.

use thalweg::ErrorKind;
use thalweg::prelude::*;

fn options() -> JobOptions {
    JobOptions { parallelism: Some(2), workers: Some(2), ..JobOptions::default() }
}

/// Folds nothing, and panics at one record.
struct Picky;

impl Aggregate<u64> for Picky {
    type Accumulator = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, _accumulator: &mut u64, record: &u64) {
        assert_ne!(*record, 777, "no sevens, please");
    }

    fn merge(&self, _accumulator: &mut u64, _other: &u64) {}

    fn finish(&self, accumulator: &u64) -> u64 {
        *accumulator
    }
}

#[test]
fn a_panic_is_named_after_its_operator() {
    let build = |job: &Job| {
        job.source("numbers", generator(Some(100_000), |number| number))
            .key_by(|number| number % 10)
            .aggregate("picky", Picky)
            .sink("out", sink::discard());
        Ok(())
    };
    let error = thalweg::execute("panics", build, &options()).err().expect("it fails");
    assert_eq!(error.kind(), ErrorKind::User);
    assert_eq!(error.operator(), Some("picky"));
    let text = error.to_string();
    assert!(text.contains("panicked") && text.contains("no sevens, please"), "{text}");
}

#[test]
fn a_job_that_cannot_work_is_refused_with_its_line() {
    let twice = |job: &Job| {
        let numbers = job.source("numbers", generator(Some(1), |number| number));
        numbers.sink("numbers", sink::discard());
        Ok(())
    };
    let dangling = |job: &Job| {
        job.source("numbers", generator(Some(1), |number| number)).map(|number| number + 1);
        Ok(())
    };
    let timeless = |job: &Job| {
        let numbers = job.source("numbers", generator(Some(1), |number| number));
        let counts = numbers.key_by(|number| *number).window(Tumbling::of(hours(1)));
        counts.aggregate("hourly", Count).results().sink("out", sink::discard());
        Ok(())
    };
    let too_late = |job: &Job| {
        let numbers = job.source("numbers", generator(Some(1), |number| number));
        let keyed = numbers.key_by(|number| *number).records();
        let timed = keyed.event_time(|keyed| keyed.value, Watermarks::monotonic());
        timed.sink("out", sink::discard());
        Ok(())
    };
    let refuse = |build: &dyn Fn(&Job) -> thalweg::Result<()>, words: &[&str]| {
        let error = thalweg::execute("refused", build, &options()).err().expect("it is refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = error.to_string();
        for word in words.iter().chain(&["tests/integration/user_code.rs:"]) {
            assert!(text.contains(word), "{word} is missing: {text}");
        }
    };
    refuse(&twice, &["two operators have the name `numbers`"]);
    refuse(&dangling, &["map-1", "leads nowhere"]);
    refuse(&timeless, &["`hourly`", "`numbers`", "event_time"]);
    refuse(&too_late, &["event time", "exchange"]);
}
