//! What the sensors' job tells at its end, read from its committed output.

use std::fmt::Write;
use std::path::Path;

use chrono::DateTime;
use thalweg::{Counter, Error, Result, RunOutcome, RunReport};

use crate::alert::{Alert, Kind};
use crate::parts::read;
use crate::reading::{FiveMinutes, GATEWAYS, LateReading, Missed};

/// So many of the longest are shown.
const SHOWN: usize = 3;

/// Reads the output in `out` and tells what came of it.
///
/// # Errors
/// If the output cannot be read, or readings are missing from it.
pub(crate) fn report(out: &Path, report: &RunReport) -> Result<String> {
    if report.outcome == RunOutcome::Stopped {
        return Ok(String::new());
    }
    let measured: Vec<FiveMinutes> = read(&out.join("measured"))?;
    let alerts: Vec<Alert> = read(&out.join("alerts"))?;
    let late: Vec<LateReading> = read(&out.join("late"))?;
    let metrics = &report.progress.metrics;
    let once = metrics.total("once", Counter::Out);
    let mut text = totals(&measured, &late, [metrics.records_read(), once])?;
    hottest(&measured, &mut text);
    longest(&alerts, [Kind::Hot, Kind::Cooled], &mut text);
    // When the input ends so does time, and every sensor is silent.
    longest(&alerts, [Kind::Silent, Kind::Back], &mut text);
    Ok(text)
}

fn totals(
    measured: &[FiveMinutes],
    late: &[LateReading],
    [read, once]: [u64; 2],
) -> Result<String> {
    let missed = |missed| late.iter().filter(|late| late.missed == missed).count() as u64;
    let in_windows: u64 = measured.iter().map(|window| window.count).sum();
    let too_late = missed(Missed::All) + missed(Missed::Window);
    if in_windows + missed(Missed::Window) != once || missed(Missed::All) + once > read {
        return Err(Error::corrupt(format!(
            "{read} readings were read, {once} once, but the output has {in_windows} in windows + \
             {too_late} late: it is not that of this run, or was changed"
        )));
    }
    let repeated = read - once - missed(Missed::All);
    let of_gateway = |gateway| late.iter().filter(|late| late.gateway as usize == gateway).count();
    let of_gateways: Vec<String> = (0..GATEWAYS).map(|g| of_gateway(g).to_string()).collect();
    Ok(format!(
        "{read} readings = {in_windows} in {} windows + {repeated} sent again + {too_late} late: \
         none is missing\nlate by gateway: {}",
        measured.len(),
        of_gateways.join(", ")
    ))
}

fn hottest(measured: &[FiveMinutes], text: &mut String) {
    let mut windows: Vec<&FiveMinutes> = measured.iter().collect();
    let median = |window: &FiveMinutes| window.median.unwrap_or(f64::MIN);
    windows.sort_by(|a, b| {
        let order = median(b).total_cmp(&median(a));
        order.then_with(|| (a.start_ms, a.sensor).cmp(&(b.start_ms, b.sensor)))
    });
    let _ = write!(text, "\n\nThe hottest five minutes (°C):");
    let _ = write!(text, "\n  sensor  from       readings   mean median    95 %    min    max");
    for window in windows.iter().take(SHOWN) {
        let of = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let _ = write!(
            text,
            "\n  {:>6}  {}  {:>8} {:>6.2} {:>6.1}  {:>6.1} {:>6.2} {:>6.2}",
            window.sensor,
            clock(window.start_ms),
            window.count,
            of(window.mean),
            of(window.median),
            of(window.p95),
            of(window.min),
            of(window.max),
        );
    }
}

/// How often something began, how often it ended, and when it took longest.
fn longest(alerts: &[Alert], [began, ended]: [Kind; 2], text: &mut String) {
    let count = |kind| alerts.iter().filter(|alert| alert.kind == kind).count();
    let (count, is_over) = (count(began), count(ended));
    let still = count.saturating_sub(is_over);
    let _ = write!(text, "\n\n{began:?}: {count} times, {still} of them to the end; the longest:");
    let mut ends: Vec<&Alert> = alerts.iter().filter(|alert| alert.kind == ended).collect();
    ends.sort_by_key(|end| (end.since_ms - end.time_ms, end.time_ms, end.sensor));
    for end in ends.iter().take(SHOWN) {
        let seconds = (end.time_ms - end.since_ms) / 1_000;
        let since = clock(end.since_ms);
        let _ = write!(text, "\n  sensor {:>3}  from {since} for {seconds} s", end.sensor);
    }
}

fn clock(time_ms: i64) -> String {
    DateTime::from_timestamp_millis(time_ms)
        .map_or_else(String::new, |time| time.format("%a %H:%M").to_string())
}
