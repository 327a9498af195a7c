//! `Watch`: tells of sensors that are too hot, and of those that have fallen silent, by keyed state
//! and timers.

use serde::{Deserialize, Serialize};
use thalweg::Result;
use thalweg::prelude::*;

use crate::reading::Reading;

/// From here on it is too hot…
pub(crate) const HOT: f64 = 80.0;
/// …until it is below this. Values that waver around one limit would give an alert each time.
pub(crate) const COOL: f64 = 75.0;
/// A sensor without a reading for so long is silent.
pub(crate) const SILENT_MS: i64 = 60_000;

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// It is too hot.
    Hot,
    /// It is no longer too hot.
    Cooled,
    /// No reading has come for a minute of event time. At the end of the input time ends, and all
    /// sensors are silent.
    Silent,
    /// A reading has come again.
    Back,
}

/// Something to tell of a sensor.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Alert {
    /// The sensor.
    pub sensor: u32,
    /// When it happened.
    pub time_ms: i64,
    /// What.
    pub kind: Kind,
    /// When what has ended began: the heat, or the silence. Otherwise the time of the last reading.
    pub since_ms: i64,
    /// The last reading.
    pub celsius: f64,
}

/// What is known of a sensor.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Sensor {
    last: Option<Reading>,
    hot_since_ms: Option<i64>,
    is_silent: bool,
}

impl Sensor {
    /// Notices silence at `now_ms`.
    fn fall_silent(&mut self, now_ms: i64) -> Option<Alert> {
        let last = self.last.filter(|last| last.time_ms + SILENT_MS <= now_ms)?;
        if std::mem::replace(&mut self.is_silent, true) {
            return None;
        }
        let since_ms = last.time_ms;
        Some(alert(last, Kind::Silent, since_ms + SILENT_MS, since_ms))
    }

    /// Ends silence.
    fn come_back(&mut self, reading: Reading) -> Option<Alert> {
        let last = self.last.replace(reading)?;
        let was_silent = std::mem::take(&mut self.is_silent);
        was_silent.then(|| alert(reading, Kind::Back, reading.time_ms, last.time_ms))
    }

    /// Too hot above one limit, cool again below a lower one.
    fn feel(&mut self, reading: Reading) -> Option<Alert> {
        let time_ms = reading.time_ms;
        match self.hot_since_ms {
            None if reading.celsius >= HOT => {
                self.hot_since_ms = Some(time_ms);
                Some(alert(reading, Kind::Hot, time_ms, time_ms))
            }
            Some(since_ms) if reading.celsius < COOL => {
                self.hot_since_ms = None;
                Some(alert(reading, Kind::Cooled, time_ms, since_ms))
            }
            _ => None,
        }
    }
}

fn alert(reading: Reading, kind: Kind, time_ms: i64, since_ms: i64) -> Alert {
    Alert { sensor: reading.sensor, time_ms, kind, since_ms, celsius: reading.celsius }
}

/// Looks at the readings of a sensor, which come in order of their times.
pub(crate) struct Watch;

type Context<'a> = ProcessContext<'a, u32, Sensor, Alert>;

impl ProcessFunction<u32, Reading> for Watch {
    type State = Sensor;
    type Out = Alert;

    fn on_record(&self, reading: Reading, context: &mut Context<'_>) -> Result<()> {
        let sensor = &mut *context.state;
        let before = sensor.last;
        // The readings up to a watermark come before the timers up to it: there may have been
        // silence although its timer has not been called.
        let silent = sensor.fall_silent(reading.time_ms);
        let (back, felt) = (sensor.come_back(reading), sensor.feel(reading));
        silent.into_iter().chain(back).chain(felt).for_each(|alert| context.emit(alert));

        if let Some(before) = before {
            context.delete_timer(EventTime::from_millis(before.time_ms + SILENT_MS));
        }
        context.register_timer(EventTime::from_millis(reading.time_ms + SILENT_MS));
        Ok(())
    }

    fn on_timer(&self, time: EventTime, context: &mut Context<'_>) -> Result<()> {
        let silent = context.state.fall_silent(time.millis());
        silent.into_iter().for_each(|alert| context.emit(alert));
        Ok(())
    }
}
