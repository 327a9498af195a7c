//! What the orders job makes of its inputs and gives out.

use serde::{Deserialize, Serialize};
use thalweg::{Change, ChangeOp, Keyed, WindowResult};

use crate::records::{Order, Price, Return};

/// A product as it is on sale.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    category: String,
    price_cents: i64,
}

impl Listed {
    /// None if the product is withdrawn.
    pub(crate) fn of(price: Price) -> Option<Listed> {
        let Price { category, price_cents, .. } = price;
        price_cents.map(|price_cents| Listed { category, price_cents })
    }
}

/// An order with the price that held at its time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Sale {
    /// The number of the order.
    pub order: u64,
    /// Of what kind the product is.
    pub category: String,
    /// The price of all units.
    pub amount_cents: i64,
    /// When it was ordered.
    pub time_ms: i64,
}

impl Sale {
    /// The order at that price.
    pub(crate) fn of(order: &Order, listed: &Listed) -> Sale {
        Sale {
            order: order.order,
            category: listed.category.clone(),
            amount_cents: order.units * listed.price_cents,
            time_ms: order.time_ms,
        }
    }
}

/// What one category has earned in one hour, by the time of payment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Revenue {
    /// The category.
    pub category: String,
    /// The first millisecond of the hour.
    pub start_ms: i64,
    /// How many orders were paid.
    pub orders: u64,
    /// All of them together.
    pub amount_cents: i64,
}

impl From<WindowResult<String, (u64, i128)>> for Revenue {
    fn from(result: WindowResult<String, (u64, i128)>) -> Self {
        let WindowResult { key, window, value: (orders, amount_cents) } = result;
        Revenue {
            category: key,
            start_ms: window.start.millis(),
            orders,
            amount_cents: whole(amount_cents),
        }
    }
}

/// A sum as it is written.
fn whole(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(i64::MAX)
}

/// What comes back of an order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// Why.
    pub reason: String,
    /// How many units.
    pub units: i64,
}

impl Claim {
    /// None if the return is withdrawn.
    pub(crate) fn of(claim: Return) -> Option<Claim> {
        let Return { reason, units, .. } = claim;
        units.map(|units| Claim { reason, units })
    }
}

/// How a row of the table of returns changes: all rows that came less those that went are the
/// table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct ReturnsChange {
    /// What is done to the row.
    pub change: ChangeOp,
    /// Why units come back: the key of the table.
    pub reason: String,
    /// Of how many orders.
    pub orders: i64,
    /// How many units.
    pub units: i64,
}

impl From<Change<Keyed<String, (i64, i128)>>> for ReturnsChange {
    fn from(change: Change<Keyed<String, (i64, i128)>>) -> Self {
        let op = change.op();
        let Keyed { key, value: (orders, units) } = change.into_row();
        ReturnsChange { change: op, reason: key, orders, units: whole(units) }
    }
}

/// A price that came when orders at its time had their prices.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct LatePrice {
    /// The product.
    pub product: u32,
    /// Its price; none if it was withdrawn.
    pub price_cents: Option<i64>,
}

impl From<Keyed<u32, Option<Listed>>> for LatePrice {
    fn from(late: Keyed<u32, Option<Listed>>) -> Self {
        let price_cents = late.value.map(|listed| listed.price_cents);
        LatePrice { product: late.key, price_cents }
    }
}
