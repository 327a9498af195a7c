//! What the flights job must come to, computed by a plain loop that shares nothing with the engine.

use std::collections::BTreeMap;
use std::io::Read;

use crate::departure::{Departure, HourlyDelay};
use crate::process::data;

const HOUR_MS: i64 = 3_600_000;
const BOUND_MS: i64 = 4 * HOUR_MS;

/// All rows of the data set as text, without the header line.
pub(crate) fn rows() -> (String, Vec<String>) {
    let file = std::fs::File::open(data()).expect("the data set");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("gzip");
    let mut lines = text.lines().map(str::to_owned);
    (lines.next().expect("a header"), lines.collect())
}

/// The results and late records of departures that are one split, in order.
///
/// The watermark after a record is the greatest time seen less the bound less 1; a record is late
/// if its hour ended at or before the watermark as it stood before the record.
pub(crate) fn expected(departures: &[Departure]) -> (Vec<HourlyDelay>, Vec<Departure>) {
    let mut hours: BTreeMap<(String, i64), (u64, i64)> = BTreeMap::new();
    let mut late = Vec::new();
    let mut greatest: Option<i64> = None;
    for departure in departures {
        let time = departure.event_time_ms;
        let start = time.div_euclid(HOUR_MS) * HOUR_MS;
        let watermark = greatest.map(|greatest| greatest - BOUND_MS - 1);
        if watermark.is_some_and(|watermark| start + HOUR_MS - 1 <= watermark) {
            late.push(departure.clone());
        } else {
            let (count, sum) = hours.entry((departure.origin.clone(), start)).or_default();
            *count += 1;
            *sum += departure.dep_delay_min;
        }
        greatest = greatest.max(Some(time));
    }
    let hours = hours.into_iter().map(|((origin, start), (count, sum))| HourlyDelay {
        origin,
        window_start_ms: start,
        window_end_ms: start + HOUR_MS,
        count,
        sum_dep_delay_min: sum,
        mean_dep_delay_min: Some(sum as f64 / count as f64),
    });
    (hours.collect(), late)
}

/// The departures of rows as [`rows`] gives them.
pub(crate) fn parse(header: &str, rows: &[String]) -> Vec<Departure> {
    let text = format!("{header}\n{}\n", rows.join("\n"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(|row| row.expect("a whole row")).collect()
}
