//! Readings, how they are made up, and what is made of them.

use serde::{Deserialize, Serialize};
use thalweg::sim::Random;
use thalweg::{Sketch, WindowResult};

/// What a sensor has measured.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// The gateway that has delivered it.
    pub gateway: u32,
    /// The sensor.
    pub sensor: u32,
    /// The number of the reading among the sensor's.
    pub seq: u64,
    /// When it was measured: the event time.
    pub time_ms: i64,
    /// The temperature.
    pub celsius: f64,
}

/// What a late reading is missing from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Missed {
    /// It was too late for everything.
    All,
    /// It was too late for its five minutes. This and the next come about only where gateways may
    /// be idle: the operators do not hear of that at the same moment.
    Window,
    /// It was too late to be put in order for alerts.
    Alerts,
}

/// A reading that came too late.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LateReading {
    /// For what.
    pub missed: Missed,
    /// The gateway that has delivered it.
    pub gateway: u32,
    /// The sensor.
    pub sensor: u32,
    /// The number of the reading among the sensor's.
    pub seq: u64,
    /// When it was measured.
    pub time_ms: i64,
}

impl LateReading {
    pub(crate) fn new(missed: Missed, reading: Reading) -> Self {
        let Reading { gateway, sensor, seq, time_ms, .. } = reading;
        LateReading { missed, gateway, sensor, seq, time_ms }
    }
}

/// What a sensor has measured in five minutes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct FiveMinutes {
    /// The sensor.
    pub sensor: u32,
    /// The first millisecond.
    pub start_ms: i64,
    /// How many readings there are.
    pub count: u64,
    /// Their mean, exactly.
    pub mean: Option<f64>,
    /// Their median, within 1 %.
    pub median: Option<f64>,
    /// What 95 % of them are below, within 1 %.
    pub p95: Option<f64>,
    /// The least.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
}

impl From<WindowResult<u32, (Option<f64>, Sketch)>> for FiveMinutes {
    fn from(result: WindowResult<u32, (Option<f64>, Sketch)>) -> Self {
        let WindowResult { key, window, value: (mean, sketch) } = result;
        FiveMinutes {
            sensor: key,
            start_ms: window.start.millis(),
            count: sketch.count(),
            mean,
            median: sketch.quantile(0.5),
            p95: sketch.quantile(0.95),
            min: sketch.min(),
            max: sketch.max(),
        }
    }
}

/// The gateways, each of which is a split.
pub(crate) const GATEWAYS: usize = 4;
const SENSORS_EACH: u64 = 25;
/// Saturday 2025-03-01, midnight.
const START_MS: i64 = 1_740_787_200_000;
/// Each sensor measures at this interval.
const INTERVAL_MS: i64 = 10_000;
/// A sensor may be silent once, and be hot once, in as many of its rounds.
const SHIFT: u64 = 240;

/// Reading `number`: the same for the same number.
pub(crate) fn reading(number: u64) -> Reading {
    let (gateway, turn) = (number % GATEWAYS as u64, number / GATEWAYS as u64);
    let (sensor, seq) = (gateway * SENSORS_EACH + turn % SENSORS_EACH, turn / SENSORS_EACH);
    let mut random = random_of([number, 0]);
    let is_repeated = random.is_chosen(2) || is_silent(sensor, seq);
    if is_repeated && turn > 0 {
        // The gateway has nothing new, or has heard nothing: it sends again what it sent last.
        return reading(number - GATEWAYS as u64);
    }
    let turn_ms = seq as i64 * INTERVAL_MS + (turn % SENSORS_EACH) as i64 * 400;
    // The farther a gateway is, the older is what it delivers.
    let way_ms = gateway as i64 * 40_000 + delay_ms(&mut random);
    Reading {
        gateway: gateway as u32,
        sensor: sensor as u32,
        seq,
        time_ms: START_MS + turn_ms - way_ms,
        celsius: celsius(sensor, seq, random.between(-150, 150)),
    }
}

/// Mixed once more: the sequences of neighbouring numbers must not overlap.
fn random_of([number, other]: [u64; 2]) -> Random {
    Random::new(Random::new(number).bits() ^ Random::new(!other).bits())
}

/// How long a reading was on its way to its gateway. One in 300 comes too late.
fn delay_ms(random: &mut Random) -> i64 {
    match random.below(300) {
        0 => random.between(9_000, 120_000),
        _ => random.between(0, 3_000),
    }
}

/// One shift in 20 a sensor falls silent for some minutes.
fn is_silent(sensor: u64, seq: u64) -> bool {
    let mut random = random_of([sensor, 2 * (seq / SHIFT)]);
    let (first, rounds) = (random.between(0, 180) as u64, random.between(10, 50) as u64);
    random.below(20) == 0 && (first..first + rounds).contains(&(seq % SHIFT))
}

/// Warmer and colder by the hour, with noise in hundredths of a degree; one shift in 15 too hot.
fn celsius(sensor: u64, seq: u64, noise: i64) -> f64 {
    let of_hour = ((seq + 37 * sensor) % 360) as i64;
    let by_hour = 4_000 + (of_hour - 180).abs() * 10;
    let mut random = random_of([sensor, 2 * (seq / SHIFT) + 1]);
    let hottest = random.between(60, 180);
    let from_hottest = ((seq % SHIFT) as i64 - hottest).abs();
    let heat = if random.below(15) == 0 { (60 - from_hottest).max(0) * 80 } else { 0 };
    (by_hour + heat + noise) as f64 / 100.0
}
