//! Payments, and how they are made up: mostly honest ones, and now and then a thief's.

use serde::{Deserialize, Serialize};
use thalweg::sim::Random;

/// A payment by card.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Payment {
    /// Its number, in the order of arrival.
    pub id: u64,
    /// The card.
    pub card: u32,
    /// When it was made: the event time.
    pub time_ms: i64,
    /// How much was paid.
    pub cents: u64,
    /// Where.
    pub city: City,
    /// False if it was declined.
    pub is_accepted: bool,
}

/// Where a payment was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum City {
    Berlin,
    Paris,
    Lagos,
    NewYork,
    Lima,
    Tokyo,
    Sydney,
}

impl City {
    /// All cities.
    pub(crate) const ALL: [City; 7] = [
        City::Berlin,
        City::Paris,
        City::Lagos,
        City::NewYork,
        City::Lima,
        City::Tokyo,
        City::Sydney,
    ];

    /// Latitude and longitude, in degrees.
    fn position(self) -> (f64, f64) {
        match self {
            City::Berlin => (52.5, 13.4),
            City::Paris => (48.9, 2.4),
            City::Lagos => (6.5, 3.4),
            City::NewYork => (40.7, -74.0),
            City::Lima => (-12.0, -77.0),
            City::Tokyo => (35.7, 139.7),
            City::Sydney => (-33.9, 151.2),
        }
    }

    /// The distance along a great circle, in kilometres (haversine formula).
    pub(crate) fn distance_km(self, other: City) -> f64 {
        let ((lat, lon), (other_lat, other_lon)) = (self.position(), other.position());
        let half_sine = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let parallels = lat.to_radians().cos() * other_lat.to_radians().cos();
        let chord = half_sine(other_lat - lat) + parallels * half_sine(other_lon - lon);
        2.0 * 6_371.0 * chord.sqrt().asin()
    }
}

const CARDS: usize = 20_000;
/// Saturday 2025-03-01, midnight.
const START_MS: i64 = 1_740_787_200_000;
/// In each block of so many payments a thief makes some.
const BLOCK: u64 = 400;

/// Payment `number`: the same for the same number.
pub(crate) fn payment(number: u64) -> Payment {
    let mut random = random_of(number);
    let time_ms = START_MS + number as i64 * 1_000 - delay_ms(&mut random);
    let payment = honest(number, time_ms, &mut random);
    thiefs(payment).unwrap_or(payment)
}

/// Mixed once more: the sequences of neighbouring numbers must not overlap.
fn random_of(number: u64) -> Random {
    Random::new(Random::new(number).bits())
}

/// How long a payment was on its way. One in 250 comes too late.
fn delay_ms(random: &mut Random) -> i64 {
    match random.below(250) {
        0 => random.between(15_000, 300_000),
        _ => random.between(0, 4_000),
    }
}

/// The home of a card's owner.
fn home_of(card: usize) -> City {
    City::ALL[card % City::ALL.len()]
}

/// Its owner's payment, at home.
fn honest(number: u64, time_ms: i64, random: &mut Random) -> Payment {
    let card = random.below(CARDS);
    let cents = match random.below(100) {
        0..3 => random.between(50, 199),
        3..97 => random.between(200, 20_000),
        _ => random.between(20_000, 200_000),
    };
    Payment {
        id: number,
        card: card as u32,
        time_ms,
        cents: cents as u64,
        city: home_of(card),
        is_accepted: !random.is_chosen(3),
    }
}

/// The thief's payment, if it is the thief's turn. The blocks' thieves take turns at four tricks.
fn thiefs(payment: Payment) -> Option<Payment> {
    let block = payment.id / BLOCK;
    let mut random = random_of(!block);
    let card = random.below(CARDS);
    let first = random.between(0, 300) as u64;
    let at = (payment.id % BLOCK).checked_sub(first)?;
    let (cents, is_accepted, city) = match (block % 4, at) {
        // Tries the card with a small payment, and uses it.
        (0, 0) => (100, true, home_of(card)),
        (0, 20) => (90_000, true, home_of(card)),
        // Guesses the number on the back.
        (1, 0 | 15 | 30) => (30_000, false, home_of(card)),
        (1, 45) => (30_000, true, home_of(card)),
        // The card at home, its copy far away.
        (2, 0) => (3_000, true, home_of(card)),
        (2, 90) => (40_000, true, home_of(card + 3)),
        // As much as possible, as fast as possible.
        (3, 0..40) if at % 5 == 0 => (15_000, true, home_of(card)),
        _ => return None,
    };
    Some(Payment { card: card as u32, cents, is_accepted, city, ..payment })
}
