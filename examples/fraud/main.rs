//! Fraud among card payments: cards that are tried out, numbers that are guessed, a card in two
//! places at once, bursts of payments.
//!
//! Payments come out of order. They are put in order once; behind that every detector's alerts are
//! the same however the job runs, and late payments are told apart in one place.
//!
//! ```text
//! cargo run --release --example fraud
//! cargo run --release --example fraud -- --out DIR --checkpoint-dir CK --parallelism 2
//! ```

use std::num::NonZeroU64;
use std::path::PathBuf;

use mimalloc::MiMalloc;
use thalweg::clap::{self, Args};
use thalweg::prelude::*;
use thalweg::{JobMain, Pattern, SourceStream};

mod alert;
#[path = "../shared/parts.rs"]
mod parts;
mod payment;
mod report;
#[cfg(test)]
mod tests;
mod watch;

use alert::{Alert, Rule};
use payment::Payment;
use watch::Watch;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The options of this job, beside those that every job has.
#[derive(Args, Debug)]
struct Options {
    /// Directory for the results, in `alerts`, `given-up` and `late`
    #[arg(long, value_name = "DIR", default_value = "fraud-out")]
    out: PathBuf,
    /// How many payments to make up: one a second
    #[arg(long, value_name = "N", default_value_t = 400_000)]
    records: u64,
    /// Make up no more than N payments a second
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU64>,
}

/// What the job finds.
struct Found {
    alerts: Stream<Alert>,
    /// Beginnings of patterns that came to nothing in time.
    given_up: Stream<Alert>,
    /// Payments that came too late to be looked at.
    late: Stream<Payment>,
}

fn fraud(job: &Job, options: &Options) -> thalweg::Result<()> {
    let found = detect(&payments(job, options));
    found.alerts.sink("alerts", files::csv_out(options.out.join("alerts")));
    found.given_up.sink("given-up", files::csv_out(options.out.join("given-up")));
    found.late.sink("late", files::csv_out(options.out.join("late")));
    Ok(())
}

fn payments(job: &Job, options: &Options) -> SourceStream<Payment, ()> {
    let payments = generator(Some(options.records), payment::payment).splits(2);
    match options.rate {
        Some(rate) => job.source("payments", payments.records_per_second(rate.get())),
        None => job.source("payments", payments),
    }
}

fn detect(payments: &Stream<Payment>) -> Found {
    let by_card = payments
        .event_time(|p| p.time_ms, Watermarks::bounded_out_of_orderness(seconds(10)))
        .key_by(|p| p.card)
        .in_event_order("in-order");
    let trials = by_card.pattern("trial", trial());
    let guesses = by_card.pattern("guess", guess());
    let watched = by_card.process::<(), _>("watch", Watch);
    let alerts = watched.results().union([
        &trials.select(|found| Alert::of_match(Rule::Trial, &found)),
        &guesses.select(|found| Alert::of_match(Rule::Guess, &found)),
    ]);
    let given_up = trials
        .timed_out()
        .map(|begun| Alert::of_match(Rule::Trial, &begun))
        .union([&guesses.timed_out().map(|begun| Alert::of_match(Rule::Guess, &begun))]);
    Found { alerts, given_up, late: by_card.late() }
}

/// A small payment that tries the card, then a large one.
fn trial() -> Pattern<Payment> {
    Pattern::begin("trial", |p: &Payment| p.is_accepted && p.cents < 200)
        .followed_by("large", |p| p.is_accepted && p.cents > 50_000)
        .within(minutes(1))
}

/// Three payments declined and the next one accepted, with nothing between.
fn guess() -> Pattern<Payment> {
    Pattern::begin("declined", |p: &Payment| !p.is_accepted)
        .times(3)
        .consecutive()
        .next("accepted", |p| p.is_accepted)
        .within(minutes(5))
}

fn main() -> thalweg::ExitCode {
    JobMain::<Options>::new("fraud", fraud)
        .about("Alerts of fraud among card payments that are made up")
        .summary(|options, report| report::report(&options.out, report))
        .run()
}
