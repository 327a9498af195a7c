//! Orders and what belongs to them, each record made from its number. Records are out of order by
//! up to a minute and a half, and one of some hundreds is late.

use thalweg::sim::Random;

use crate::records::{Order, Payment, Price, Return};

/// 2026-03-02 00:00 UTC.
const START_MS: i64 = 1_772_409_600_000;
const MINUTE_MS: i64 = 60_000;
/// The time from one order to the next.
const STEP_MS: i64 = 2_000;
/// The time from one price to the next, of any product.
const PRICE_STEP_MS: i64 = 6 * MINUTE_MS;
const PRODUCTS: u64 = 60;
const CATEGORIES: [&str; 5] = ["books", "games", "garden", "kitchen", "music"];
const METHODS: [&str; 3] = ["card", "transfer", "voucher"];
const REASONS: [&str; 4] = ["broken", "incomplete", "other than expected", "too late"];
/// Payments are of orders so many places before: those of a block in another order.
const BLOCK: u64 = 512;
/// One of so many orders is returned.
const RETURNED: u64 = 25;
/// A return is revised when so many others have come.
const REVISED_AFTER: u64 = 20;

/// The random numbers of record `i` of one kind.
fn random(kind: u64, i: u64) -> Random {
    Random::new(kind << 56 ^ i)
}

/// `due_ms`, less what the record is out of order: more than the job allows for one of `one_of`.
fn disordered(random: &mut Random, due_ms: i64, one_of: usize) -> i64 {
    let early_ms = match random.below(one_of) {
        0 => random.between(20 * MINUTE_MS, 120 * MINUTE_MS),
        _ => random.between(0, 3 * MINUTE_MS / 2),
    };
    due_ms - early_ms
}

/// When record `i` of those that come with every order is due.
fn due_ms(i: u64) -> i64 {
    START_MS + i as i64 * STEP_MS
}

/// The order of a number; some products are ordered more often than others.
pub(crate) fn order(i: u64) -> Order {
    let mut random = random(1, i);
    let products = PRODUCTS as usize;
    let product = random.below(products).min(random.below(products)) as u32;
    let units = random.between(1, 4);
    Order { order: i, product, units, time_ms: disordered(&mut random, due_ms(i), 500) }
}

/// How many prices there are while `orders` orders come.
pub(crate) fn prices(orders: u64) -> u64 {
    PRODUCTS + orders * STEP_MS as u64 / PRICE_STEP_MS as u64
}

/// A price: first one of each product, long before all orders, then one after the other.
pub(crate) fn price(i: u64) -> Price {
    let mut random = random(2, i);
    let product = i % PRODUCTS;
    let price_cents = 100 * (5 + product as i64 * 3) + random.between(0, 499);
    let is_first = i < PRODUCTS;
    let time_ms = match is_first {
        true => START_MS - 240 * MINUTE_MS + i as i64 * 1_000,
        false => {
            let due_ms = START_MS + (i - PRODUCTS) as i64 * PRICE_STEP_MS;
            disordered(&mut random, due_ms, 20)
        }
    };
    let price_cents = (is_first || !random.is_chosen(8)).then_some(price_cents);
    let category = CATEGORIES[product as usize % CATEGORIES.len()].to_owned();
    Price { product: product as u32, category, price_cents, time_ms }
}

/// How many payments there may be of `orders` orders.
pub(crate) fn payments(orders: u64) -> u64 {
    orders.next_multiple_of(BLOCK)
}

/// A payment, if there is one: some orders are never paid.
pub(crate) fn payment(i: u64, orders: u64) -> Option<Payment> {
    let mut random = random(3, i);
    let order = i / BLOCK * BLOCK + (i % BLOCK * 181 + 77) % BLOCK;
    if order >= orders || random.is_chosen(4) {
        return None;
    }
    let method = METHODS[random.below(METHODS.len())].to_owned();
    let time_ms = disordered(&mut random, due_ms(i + BLOCK), 500);
    Some(Payment { order, method, time_ms })
}

/// How many returns and revisions there may be of `orders` orders.
pub(crate) fn returns(orders: u64) -> u64 {
    3 * (orders / RETURNED + 2 * REVISED_AFTER)
}

/// A return, or a revision of one, if there is one: a third are revised, some of them withdrawn.
pub(crate) fn returned(i: u64, orders: u64) -> Option<Return> {
    let mut random = random(4, i);
    let (place, revision) = (i / 3, i % 3);
    let order = place.checked_sub(revision * REVISED_AFTER)? * RETURNED;
    if order >= orders || (revision > 0 && !random.is_chosen(33)) {
        return None;
    }
    let reason = REASONS[random.below(REASONS.len())].to_owned();
    let units = (revision < 2 || random.is_chosen(50)).then(|| random.between(1, 4));
    let due_ms = due_ms(place * RETURNED) + 60 * MINUTE_MS;
    Some(Return { order, reason, units, time_ms: disordered(&mut random, due_ms, 200) })
}
