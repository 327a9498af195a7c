//! `Watch`: a card in two places at once, and bursts of payments, by keyed state and timers.

use serde::{Deserialize, Serialize};
use thalweg::Result;
use thalweg::prelude::*;

use crate::alert::{Alert, Rule};
use crate::payment::{City, Payment};

/// Nobody travels faster, in kilometres an hour.
const SPEED_MAX: f64 = 1_000.0;
/// A burst lasts as long from its first payment, and has at least as many.
pub(crate) const BURST_MS: i64 = 60_000;
pub(crate) const BURST_PAYMENTS: u64 = 6;
/// After a day one can be anywhere.
const FORGET_MS: i64 = 24 * 3_600_000;

/// True if nobody can be in both cities with `ms` milliseconds between.
pub(crate) fn is_impossible(from: City, to: City, ms: i64) -> bool {
    from.distance_km(to) > SPEED_MAX * ms as f64 / 3_600_000.0
}

/// What is known of a card.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Card {
    last: Option<Payment>,
    /// What may become a burst.
    burst: Option<Alert>,
}

impl Card {
    /// Ends the burst if it is over at `time_ms`; the alert, if there were enough payments.
    fn end_burst(&mut self, time_ms: i64) -> Option<Alert> {
        let ended = self.burst.take_if(|burst| burst.start_ms + BURST_MS <= time_ms)?;
        (ended.payments >= BURST_PAYMENTS).then_some(ended)
    }

    /// The alert if the card cannot have come from where it was last.
    fn travel(&self, payment: &Payment) -> Option<Alert> {
        let last = self.last.as_ref()?;
        if !is_impossible(last.city, payment.city, payment.time_ms - last.time_ms) {
            return None;
        }
        let mut alert = Alert::of(Rule::Travel, last);
        alert.add(payment);
        Some(alert)
    }
}

/// Looks at the payments of a card, which come in order of their times.
pub(crate) struct Watch;

type Context<'a> = ProcessContext<'a, u32, Card, Alert>;

impl ProcessFunction<u32, Payment> for Watch {
    type State = Card;
    type Out = Alert;

    fn on_record(&self, payment: Payment, context: &mut Context<'_>) -> Result<()> {
        // The payments up to a watermark come before the timers up to it: a burst may be over
        // although its timer has not been called.
        let burst = context.state.end_burst(payment.time_ms);
        let travel = context.state.travel(&payment);
        burst.into_iter().chain(travel).for_each(|alert| context.emit(alert));

        context.state.last = Some(payment);
        match &mut context.state.burst {
            Some(burst) => burst.add(&payment),
            none => {
                *none = Some(Alert::of(Rule::Burst, &payment));
                context.register_timer(EventTime::from_millis(payment.time_ms + BURST_MS));
            }
        }
        context.register_timer(EventTime::from_millis(payment.time_ms + FORGET_MS));
        Ok(())
    }

    fn on_timer(&self, time: EventTime, context: &mut Context<'_>) -> Result<()> {
        let burst = context.state.end_burst(time.millis());
        burst.into_iter().for_each(|alert| context.emit(alert));
        let last_ms = context.state.last.map_or(i64::MIN, |last| last.time_ms);
        if last_ms <= time.millis() - FORGET_MS {
            context.clear_state();
        }
        Ok(())
    }
}
