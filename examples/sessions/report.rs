//! What the sessions job tells at its end, read from its committed output.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use thalweg::{Error, Result, RunOutcome, RunReport};

use crate::click::Click;
use crate::rows::{Hour, TopPage, Visit};

#[path = "../shared/parts.rs"]
mod parts;

use parts::read;

const HOUR_MS: i64 = 3_600_000;
/// Every so many hours of a day are told.
const EVERY: i64 = 3;

/// Reads the output in `out` and tells what came of it.
///
/// # Errors
/// If the output cannot be read, or clicks or visits are missing from it.
pub(crate) fn report(out: &Path, report: &RunReport) -> Result<String> {
    if report.outcome == RunOutcome::Stopped {
        return Ok(String::new());
    }
    let visits: Vec<Visit> = read(&out.join("visits"))?;
    let mut hours: Vec<Hour> = read(&out.join("hours"))?;
    let mut pages: Vec<TopPage> = read(&out.join("top-pages"))?;
    let late = read::<Click>(&out.join("late"))?.len() as u64;
    let mut text = totals(&visits, &hours, late, report.progress.metrics.records_read())?;
    let bounces = visits.iter().filter(|visit| visit.is_bounce()).count() as u64;
    let _ = write!(
        text,
        "\n{} of the visits ended after one click\n",
        share(bounces, visits.len() as u64)
    );
    hours.sort();
    pages.sort();
    let _ = write!(text, "\nA day (the one of most visits, UTC), and where its visits began:");
    for hour in &day(&hours) {
        let _ = write!(text, "\n  {}", line(hour, &pages));
    }
    Ok(text)
}

fn totals(visits: &[Visit], hours: &[Hour], late: u64, read: u64) -> Result<String> {
    let clicks: u64 = visits.iter().map(|visit| visit.clicks).sum();
    let sum = format!("{clicks} in {} visits + {late} late", visits.len());
    let of_hours: u64 = hours.iter().map(|hour| hour.visits).sum();
    if clicks + late != read || of_hours != visits.len() as u64 {
        return Err(Error::corrupt(format!(
            "{read} clicks were read, but the output has {sum}, and hours of {of_hours} visits: \
             it is not that of this run, or was changed"
        )));
    }
    Ok(format!(
        "{read} clicks = {sum}: none is missing\n\
         {of_hours} visits = those of {} hours: none was late for the windows behind",
        hours.len()
    ))
}

/// Some hours of the day that had the most visits.
fn day(hours: &[Hour]) -> Vec<Hour> {
    let mut days = BTreeMap::<i64, Vec<Hour>>::new();
    for hour in hours {
        days.entry(hour.start_ms.div_euclid(24 * HOUR_MS)).or_default().push(hour.clone());
    }
    let most = days.into_values().max_by_key(|day| day.iter().map(|hour| hour.visits).sum::<u64>());
    let mut day = most.unwrap_or_default();
    day.retain(|hour| hour.start_ms / HOUR_MS % EVERY == 0);
    day
}

fn line(hour: &Hour, pages: &[TopPage]) -> String {
    let start = chrono::DateTime::from_timestamp_millis(hour.start_ms)
        .map_or_else(String::new, |time| time.format("%a %Y-%m-%d %H:%M").to_string());
    let best: Vec<String> = pages
        .iter()
        .filter(|page| page.start_ms == hour.start_ms)
        .map(|page| format!("{} {}", page.page, page.visits))
        .collect();
    let bounced = share(hour.bounces, hour.visits);
    format!("{start}  {:>5} visits, {bounced} bounced  {}", hour.visits, best.join(", "))
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}
