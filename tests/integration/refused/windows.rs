//! Windows, joins, patterns and triggers that make no sense.

use thalweg::prelude::*;
use thalweg::{
    Pattern, ProcessingSession, ProcessingSliding, ProcessingTumbling, Trigger, TriggerContext,
    TriggerResult,
};

use super::{Case, case, check, end, keyed, untimed};

fn aligned() -> Vec<Case> {
    vec![
        case!("counts", "size", |job| {
            let windows = keyed(job, "numbers").window(Tumbling::of(millis(0)));
            end(&windows.aggregate("counts", Count).results());
        }),
        case!("counts", "slide", |job| {
            let windows = keyed(job, "numbers").window(Sliding::of(millis(5), millis(0)));
            end(&windows.aggregate("counts", Count).results());
        }),
        case!("counts", ".with_gaps()", |job| {
            let windows = keyed(job, "numbers").window(Sliding::of(millis(5), millis(6)));
            end(&windows.aggregate("counts", Count).results());
        }),
        case!("counts", "offset", |job| {
            let windows = Tumbling::of(millis(5)).offset_millis(5);
            end(&keyed(job, "numbers").window(windows).aggregate("counts", Count).results());
        }),
        case!("counts", "offset", |job| {
            let windows = Sliding::of(millis(5), millis(1)).offset_millis(-5);
            end(&keyed(job, "numbers").window(windows).reduce("counts", |_, n| *n).results());
        }),
        case!("lists", "size", |job| {
            let windows = keyed(job, "numbers").window(Tumbling::of(millis(0)));
            end(&windows.process("lists", |_| 1_u64).results());
        }),
        case!("visits", "gap", |job| {
            let windows = keyed(job, "numbers").window(Session::with_gap(millis(0)));
            end(&windows.aggregate("visits", Count).results());
        }),
        case!("counts", "1 at least", |job| {
            let windows = keyed(job, "numbers").window(CountWindow::tumbling(0));
            end(&windows.aggregate("counts", Count));
        }),
        case!("counts", "1 at least", |job| {
            let windows = keyed(job, "numbers").window(CountWindow::sliding(3, 0));
            end(&windows.reduce("counts", |_, n| *n));
        }),
        case!("counts", ".with_gaps()", |job| {
            let windows = keyed(job, "numbers").window(CountWindow::sliding(3, 4));
            end(&windows.aggregate("counts", Count));
        }),
    ]
}

fn of_processing_time() -> Vec<Case> {
    vec![
        case!("counts", "millisecond", |job| {
            let windows = untimed(job, "numbers");
            let windows = windows.processing_window(ProcessingTumbling::of(millis(0)));
            end(&windows.aggregate("counts", Count));
        }),
        case!("counts", "millisecond", |job| {
            let windows = ProcessingSliding::of(millis(5), millis(0));
            let windows = untimed(job, "numbers").processing_window(windows);
            end(&windows.reduce("counts", |_, n| *n));
        }),
        case!("visits", "millisecond", |job| {
            let windows = untimed(job, "numbers");
            let windows = windows.processing_window(ProcessingSession::with_gap(millis(0)));
            end(&windows.aggregate("visits", Count));
        }),
    ]
}

fn joins() -> Vec<Case> {
    vec![
        case!("pairs", "size", |job| {
            let joined = keyed(job, "left").join(&keyed(job, "right"));
            let pairs = joined.window(Tumbling::of(millis(0))).inner("pairs", |_, a, b| a + b);
            end(&pairs.results());
        }),
        case!("pairs", ".with_gaps()", |job| {
            let joined = keyed(job, "left").join(&keyed(job, "right"));
            let windows = joined.window(Sliding::of(millis(5), millis(6)));
            end(&windows.left("pairs", |_, a, _| *a).results());
        }),
        case!("pairs", "offset", |job| {
            let joined = keyed(job, "left").join(&keyed(job, "right"));
            let windows = joined.window(Tumbling::of(millis(5)).offset_millis(7));
            end(&windows.co_group("pairs", |_, _, a, _| a.to_vec()).results());
        }),
        case!("near", "interval", |job| {
            let joined = keyed(job, "left").interval_join(&keyed(job, "right"));
            end(&joined.between_millis(2, 1).inner("near", |_, a, b| a + b).results());
        }),
        case!("near", "interval", |job| {
            let joined = keyed(job, "left").interval_join(&keyed(job, "right"));
            let joined = joined.between_millis(1, 1).lower_bound_exclusive();
            end(&joined.full("near", |_, a, _| a.copied().unwrap_or(0)).results());
        }),
    ]
}

/// A trigger that does not say what becomes of it when windows merge.
struct Once;

impl Trigger<u64> for Once {
    type State = ();

    fn on_record(
        &self,
        _record: &u64,
        _time: EventTime,
        _context: &mut TriggerContext<'_, ()>,
    ) -> TriggerResult {
        TriggerResult::Fire
    }
}

fn triggers_and_patterns() -> Vec<Case> {
    vec![
        case!("visits", "trigger", |job| {
            let windows = keyed(job, "numbers").window(Session::with_gap(millis(5)));
            end(&windows.trigger(Once).aggregate("visits", Count).results());
        }),
        case!("pattern", "asks for 0 to 0 events", |job| {
            let pattern = Pattern::begin("a", |_: &u64| true).times(0);
            end(&keyed(job, "numbers").pattern("pattern", pattern).matches());
        }),
        case!("pattern", "two stages have the name `a`", |job| {
            let pattern = Pattern::begin("a", |_: &u64| true).next("a", |_| true);
            end(&keyed(job, "numbers").pattern("pattern", pattern).matches());
        }),
        case!("pattern", "within 0 ms", |job| {
            let pattern = Pattern::begin("a", |_: &u64| true).within(millis(0));
            end(&keyed(job, "numbers").pattern("pattern", pattern).matches());
        }),
    ]
}

#[test]
fn windows_joins_and_patterns_that_make_no_sense() {
    let cases = [aligned(), of_processing_time(), joins(), triggers_and_patterns()];
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    check(&cases, "refused/windows.rs", line!());
}
