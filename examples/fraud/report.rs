//! What the fraud job tells at its end, read from its committed output.

use std::fmt::Write;
use std::path::Path;

use chrono::DateTime;
use thalweg::{Counter, Error, Result, RunOutcome, RunReport};

use crate::alert::{Alert, Rule};
use crate::parts::read;
use crate::payment::Payment;

/// So many alerts of each rule are shown.
const SHOWN: usize = 2;

/// Reads the output in `out` and tells what came of it.
///
/// # Errors
/// If the output cannot be read, or payments are missing from it.
pub(crate) fn report(out: &Path, report: &RunReport) -> Result<String> {
    if report.outcome == RunOutcome::Stopped {
        return Ok(String::new());
    }
    let metrics = &report.progress.metrics;
    let (read_in, looked_at) = (metrics.records_read(), metrics.total("in-order", Counter::Out));
    let late = read::<Payment>(&out.join("late"))?.len() as u64;
    if looked_at + late != read_in {
        return Err(Error::corrupt(format!(
            "{read_in} payments were read, {looked_at} looked at, and the output has {late} late \
             ones: it is not that of this run, or was changed"
        )));
    }
    let mut text =
        format!("{read_in} payments = {looked_at} looked at + {late} late: none is missing\n");
    let (mut alerts, given_up): (Vec<Alert>, Vec<Alert>) =
        (read(&out.join("alerts"))?, read(&out.join("given-up"))?);
    alerts.sort();
    for (rule, looks_for) in Rule::ALL {
        let found: Vec<&Alert> = alerts.iter().filter(|alert| alert.rule == rule).collect();
        let begun = given_up.iter().filter(|begun| begun.rule == rule).count();
        let _ = write!(text, "\n{rule:?}: {looks_for}\n  {} alerts", found.len());
        if begun > 0 {
            let _ = write!(text, ", {begun} beginnings without an end");
        }
        found.iter().take(SHOWN).for_each(|alert| show(alert, &mut text));
    }
    Ok(text)
}

fn show(alert: &Alert, text: &mut String) {
    let start = DateTime::from_timestamp_millis(alert.start_ms)
        .map_or_else(String::new, |time| time.format("%a %H:%M:%S").to_string());
    let places = match alert.from == alert.to {
        true => format!("{:?}", alert.from),
        false => format!("{:?} to {:?}", alert.from, alert.to),
    };
    let _ = write!(
        text,
        "\n  card {:>5}  {start}  {} payments in {} s, {}.{:02}, {places}",
        alert.card,
        alert.payments,
        (alert.end_ms - alert.start_ms) / 1_000,
        alert.cents / 100,
        alert.cents % 100,
    );
}
