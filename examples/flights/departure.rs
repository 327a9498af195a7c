//! The records of the flights job: departures as they come in, delays as they go out.

use serde::{Deserialize, Serialize};
use thalweg::WindowResult;

/// A flight that left New York City and has landed; one row of `examples/data/flights.csv.gz`.
/// It is written as it was read, byte for byte.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Departure {
    /// The number of the row.
    pub seq: u64,
    /// When it should have left, in milliseconds since the epoch.
    pub sched_dep_ms: i64,
    /// When it left: the event time.
    pub event_time_ms: i64,
    /// When it reached its gate; rows come in this order.
    pub arrival_ms: Option<i64>,
    /// The airline, two letters or digits.
    pub carrier: String,
    /// The flight number.
    pub flight: u32,
    /// The aircraft's registration; empty if unknown.
    pub tailnum: String,
    /// The airport it left: EWR, JFK or LGA.
    pub origin: String,
    /// The airport it went to.
    pub dest: String,
    /// The distance, in miles.
    pub distance_mi: u32,
    /// How late it left, in minutes; negative if early.
    pub dep_delay_min: i64,
    /// How late it arrived, in minutes.
    pub arr_delay_min: Option<i64>,
    /// Minutes in the air.
    pub air_time_min: Option<i64>,
}

/// The departures of one airport in one hour.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct HourlyDelay {
    /// The airport.
    pub origin: String,
    /// The first millisecond of the hour.
    pub window_start_ms: i64,
    /// The first millisecond behind it.
    pub window_end_ms: i64,
    /// How many left.
    pub count: u64,
    /// Their delays, added up, in minutes.
    pub sum_dep_delay_min: i64,
    /// Their mean delay, in minutes.
    pub mean_dep_delay_min: Option<f64>,
}

impl From<WindowResult<String, (u64, i128, Option<f64>)>> for HourlyDelay {
    fn from(result: WindowResult<String, (u64, i128, Option<f64>)>) -> Self {
        let WindowResult { key, window, value: (count, sum, mean) } = result;
        HourlyDelay {
            origin: key,
            window_start_ms: window.start.millis(),
            window_end_ms: window.end.millis(),
            count,
            sum_dep_delay_min: i64::try_from(sum).unwrap_or(i64::MAX),
            mean_dep_delay_min: mean,
        }
    }
}
