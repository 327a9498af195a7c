//! What the flights job tells at its end, read from its committed output.

use std::fmt::Write;
use std::path::Path;

use thalweg::{Error, Result, RunOutcome, RunReport};

use crate::chart;
use crate::departure::{Departure, HourlyDelay};
use crate::new_york::local_time;
use crate::parts::read;

/// Hours with fewer departures are not among the worst: one flight would make an hour.
const LEAST_DEPARTURES: u64 = 10;
const WORST_HOURS: usize = 5;

/// Reads the output in `out` and tells what came of it.
///
/// # Errors
/// If the output cannot be read, or departures are missing from it.
pub(crate) fn report(out: &Path, report: &RunReport) -> Result<String> {
    if report.outcome == RunOutcome::Stopped {
        return Ok(String::new());
    }
    let hours: Vec<HourlyDelay> = read(&out.join("hourly"))?;
    let late = read::<Departure>(&out.join("late"))?.len() as u64;
    let mut text = totals(&hours, late, report.progress.metrics.records_read())?;
    let _ = write!(text, "\n\n{}\n\n{}", worst_hours(&hours), hours_of_day(&hours));
    Ok(text)
}

fn totals(hours: &[HourlyDelay], late: u64, read: u64) -> Result<String> {
    let in_windows: u64 = hours.iter().map(|hour| hour.count).sum();
    let sum = format!("{in_windows} in {} airport hours + {late} late", hours.len());
    if in_windows + late != read {
        return Err(Error::corrupt(format!(
            "{read} departures were read, but the output has {sum}: it is not that of this run, \
             or was changed"
        )));
    }
    Ok(format!("{read} departures = {sum}: none is missing"))
}

fn worst_hours(hours: &[HourlyDelay]) -> String {
    let mean = |hour: &HourlyDelay| hour.mean_dep_delay_min.unwrap_or(0.0);
    let mut worst: Vec<_> = hours.iter().filter(|h| h.count >= LEAST_DEPARTURES).collect();
    worst.sort_by(|a, b| {
        let order = mean(b).total_cmp(&mean(a));
        order.then_with(|| (a.window_start_ms, &a.origin).cmp(&(b.window_start_ms, &b.origin)))
    });
    let mut text =
        format!("The worst hours (of {LEAST_DEPARTURES} departures or more, New York time):");
    for hour in worst.iter().take(WORST_HOURS) {
        let date = local_time(hour.window_start_ms)
            .map_or_else(String::new, |time| time.format("%a %Y-%m-%d %H:%M").to_string());
        let _ = write!(
            text,
            "\n  {date}  {}  {:>5.0} min late, the mean of {} departures",
            hour.origin,
            mean(hour),
            hour.count
        );
    }
    text
}

fn hours_of_day(hours: &[HourlyDelay]) -> String {
    let mut of_day = [(0_i64, 0_u64); 24];
    for hour in hours {
        let Some(time) = local_time(hour.window_start_ms) else { continue };
        let (sum, count) = &mut of_day[chrono::Timelike::hour(&time) as usize % 24];
        *sum += hour.sum_dep_delay_min;
        *count += hour.count;
    }
    // The small hours belong to the day before.
    let rows: Vec<(String, f64)> = (4..28)
        .map(|hour| (hour % 24, of_day[hour % 24]))
        .filter(|(_, (_, count))| *count > 0)
        .map(|(hour, (sum, count))| (format!("{hour:02}:00"), sum as f64 / count as f64))
        .collect();
    let columns = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
    let chart = chart::bars(&rows, columns);
    format!("Mean delay by hour of departure (minutes, New York time):\n{chart}")
}
