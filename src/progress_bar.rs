//! The progress bar of a job on a terminal; nothing where there is none.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use thalweg_engine::EventTime;
use thalweg_engine::progress::Progress;
use tracing_subscriber::fmt::MakeWriter;

use crate::summary::grouped;

/// The rate shown is that of the last second or so.
const RATE_SPAN: Duration = Duration::from_secs(1);

/// Draws a job's progress to the standard error.
#[derive(Clone)]
pub(crate) struct JobProgressBar {
    bar: ProgressBar,
    has_style_with_total: bool,
    /// Records read by the end of recent ticks.
    history: VecDeque<(Duration, u64)>,
}

impl JobProgressBar {
    /// A bar if the standard error is a terminal and `is_wanted`; otherwise one that is not seen.
    pub(crate) fn new(is_wanted: bool) -> Self {
        let is_shown = is_wanted && io::stderr().is_terminal();
        let target = match is_shown {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style("{spinner} {wide_msg}"));
        JobProgressBar { bar, has_style_with_total: false, history: VecDeque::new() }
    }

    /// Shows where the job stands.
    pub(crate) fn show(&mut self, progress: &Progress) {
        if self.bar.is_hidden() {
            return;
        }
        let records = progress.metrics.records_read();
        if let Some(total) = progress.metrics.expected_records() {
            if !self.has_style_with_total {
                self.bar.set_style(style("{bar:12} {percent:>3}% {wide_msg}"));
                self.has_style_with_total = true;
            }
            self.bar.set_length(total.max(1));
            self.bar.set_position(records.min(total));
        }
        let rate = self.rate(progress);
        self.bar.set_message(message(progress, records, rate));
        self.bar.tick();
    }

    /// Prints a line above the bar.
    pub(crate) fn say(&self, line: &str) {
        self.bar.suspend(|| {
            // Nothing can be done about a standard error that is closed.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn rate(&mut self, progress: &Progress) -> u64 {
        let now = (progress.elapsed, progress.metrics.records_read_in_this_run());
        if self.history.back().is_some_and(|(_, before)| *before > now.1) {
            // The job was started again from a checkpoint.
            self.history.clear();
        }
        self.history.push_back(now);
        while self.history.get(1).is_some_and(|(at, _)| now.0 - *at >= RATE_SPAN) {
            self.history.pop_front();
        }
        let (since, before) = match self.history.len() {
            1 => (Duration::ZERO, 0),
            _ => self.history.front().copied().unwrap_or_default(),
        };
        let seconds = (now.0 - since).as_secs_f64();
        if seconds > 0.0 { ((now.1 - before) as f64 / seconds) as u64 } else { 0 }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn message(progress: &Progress, records: u64, rate: u64) -> String {
    let mut text = format!("{} records  {}/s", grouped(records), grouped(rate));
    if progress.is_stopping {
        text.insert_str(0, "stopping  ");
    } else if progress.is_restarting {
        text.insert_str(0, "restarting  ");
    }
    if let Some(date) = progress.metrics.event_time().and_then(date) {
        let _ = write!(text, "  event time {date}");
    }
    if let Some(date) = progress.metrics.watermark().and_then(date) {
        let _ = write!(text, "  watermark {date}");
    }
    if let Some((id, took)) = progress.last_checkpoint {
        let _ = write!(text, "  checkpoint {id} ({} ms)", took.as_millis());
    }
    text
}

/// `time` as a date in UTC; none for the ends of time.
fn date(time: EventTime) -> Option<String> {
    let date = chrono::DateTime::from_timestamp_millis(time.millis())?;
    time.is_valid_for_record().then(|| date.format("%Y-%m-%d %H:%M").to_string())
}

/// Log lines are written above the bar.
impl<'a> MakeWriter<'a> for JobProgressBar {
    type Writer = AboveBar;

    fn make_writer(&'a self) -> AboveBar {
        AboveBar(self.bar.clone())
    }
}

/// Writes to the standard error while the bar is away.
pub(crate) struct AboveBar(ProgressBar);

impl Write for AboveBar {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
