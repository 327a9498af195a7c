//! Alerts: what is found, and by which rule.

use serde::{Deserialize, Serialize};
use thalweg::PatternMatch;

use crate::payment::{City, Payment};

/// A rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Rule {
    /// A small payment, then a large one.
    Trial,
    /// Several declined, then one accepted.
    Guess,
    /// Two places, farther apart than one can travel.
    Travel,
    /// Many payments in a short time.
    Burst,
}

impl Rule {
    /// All rules, and what each looks for.
    pub(crate) const ALL: [(Rule, &str); 4] = [
        (Rule::Trial, "a payment below 2.00, then one above 500.00 within a minute"),
        (Rule::Guess, "three declined and the next accepted within 5 minutes"),
        (Rule::Travel, "two places, faster than 1,000 km/h"),
        (Rule::Burst, "6 payments or more within a minute"),
    ];
}

/// Payments of a card that fit a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Alert {
    /// The rule.
    pub rule: Rule,
    /// The card.
    pub card: u32,
    /// The time of the first payment.
    pub start_ms: i64,
    /// The time of the last payment.
    pub end_ms: i64,
    /// How many there are.
    pub payments: u64,
    /// What was paid, or tried to be, in all.
    pub cents: u64,
    /// Where the first payment was made.
    pub from: City,
    /// Where the last payment was made.
    pub to: City,
}

impl Alert {
    /// A single payment.
    pub(crate) fn of(rule: Rule, payment: &Payment) -> Self {
        Alert {
            rule,
            card: payment.card,
            start_ms: payment.time_ms,
            end_ms: payment.time_ms,
            payments: 1,
            cents: payment.cents,
            from: payment.city,
            to: payment.city,
        }
    }

    /// One payment more.
    pub(crate) fn add(&mut self, payment: &Payment) {
        self.end_ms = payment.time_ms;
        self.payments += 1;
        self.cents += payment.cents;
        self.to = payment.city;
    }

    /// The payments of a match, or of one that was begun.
    pub(crate) fn of_match(rule: Rule, found: &PatternMatch<u32, Payment>) -> Self {
        let mut payments = found.stages().flat_map(|(_, payments)| payments);
        let first = payments.next().expect("a match has a first event");
        let mut alert = Alert::of(rule, first);
        payments.for_each(|payment| alert.add(payment));
        alert
    }
}
