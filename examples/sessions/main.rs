//! How do visitors use a site? Clicks become visits, visits become the landing pages of each hour,
//! and these become the hour's best with its bounce rate: windows of windows of windows.
//!
//! ```text
//! cargo run --release --example sessions
//! cargo run --release --example sessions -- --out DIR --checkpoint-dir CK --parallelism 2
//! ```

use std::num::NonZeroU64;
use std::path::PathBuf;

use mimalloc::MiMalloc;
use thalweg::clap::{self, Args};
use thalweg::prelude::*;
use thalweg::{CountDistinct, JobMain};

mod click;
mod report;
mod rows;
#[cfg(test)]
mod tests;

use click::Click;
use rows::{Hour, LandingPage, TopPage, Visit};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The clicks come from so many servers, each with a watermark of its own.
const SPLITS: usize = 4;
/// Landing pages that are told of each hour.
const BEST: usize = 3;

/// The options of this job, beside those that every job has.
#[derive(Args, Debug)]
struct Options {
    /// Directory for the results, in `visits`, `hours`, `top-pages` and `late`
    #[arg(long, value_name = "DIR", default_value = "sessions-out")]
    out: PathBuf,
    /// Generate N clicks, of which a day has 40,000
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    records: u64,
    /// Generate no more than N clicks a second
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU64>,
}

/// What the job gives out.
struct Outputs {
    visits: Stream<Visit>,
    hours: Stream<Hour>,
    top_pages: Stream<TopPage>,
    late: Stream<Click>,
}

fn sessions(clicks: &Stream<Click>) -> Outputs {
    let visits = clicks
        .event_time(|c| c.time_ms, Watermarks::bounded_out_of_orderness(minutes(5)))
        .key_by(|c| c.visitor)
        .window(Session::with_gap_by(Click::longest_silence))
        .aggregate(
            "visits",
            (
                Count,
                CountDistinct::of(|c: &Click| c.page.clone()),
                MinBy::of(|c: &Click| (c.time_ms, c.id)),
                Max::of(|c: &Click| c.time_ms),
            ),
        );
    let late = visits.late();
    let visits = visits.results().map(Visit::from);
    let pages = visits
        .key_by(|visit| visit.landing_page.clone())
        .window(Tumbling::of(hours(1)))
        .aggregate(
            "landing-pages",
            (
                Count,
                Sum::of(|visit: &Visit| i64::from(visit.is_bounce())),
                ApproxDistinct::of(|visit: &Visit| visit.visitor),
            ),
        )
        .results()
        .map(LandingPage::from);
    let best = TopN::by(BEST, |page: &LandingPage| page.visits)
        .then_by(|page| std::cmp::Reverse(page.page.clone()));
    let all = (Sum::of(LandingPage::visits), Sum::of(LandingPage::bounces), best);
    let hourly = pages.window_all(Tumbling::of(hours(1))).aggregate("hours", all).results();
    Outputs {
        visits,
        hours: hourly.map(|hour| Hour::from(&hour)),
        top_pages: hourly.flat_map(TopPage::of_hour),
        late,
    }
}

fn build(job: &Job, options: &Options) -> thalweg::Result<()> {
    let clicks = generator(Some(options.records), click::click).splits(SPLITS);
    let clicks = match options.rate {
        Some(rate) => job.source("clicks", clicks.records_per_second(rate.get())),
        None => job.source("clicks", clicks),
    };
    let given = sessions(&clicks);
    given.visits.sink("visits-out", files::csv_out(options.out.join("visits")));
    given.hours.sink("hours-out", files::csv_out(options.out.join("hours")));
    given.top_pages.sink("top-pages-out", files::csv_out(options.out.join("top-pages")));
    given.late.sink("late-out", files::csv_out(options.out.join("late")));
    Ok(())
}

fn main() -> thalweg::ExitCode {
    JobMain::<Options>::new("sessions", build)
        .about("Visits of a site, and the landing pages of each hour, from generated clicks")
        .summary(|options, report| report::report(&options.out, report))
        .run()
}
