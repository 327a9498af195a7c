//! What comes in: orders, prices, payments, returns. All times are event times.

use serde::{Deserialize, Serialize};

/// So many units of a product were ordered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The number of the order.
    pub order: u64,
    /// What.
    pub product: u32,
    /// How many.
    pub units: i64,
    /// When.
    pub time_ms: i64,
}

/// From its time on a product has this price, or is not on sale.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Price {
    /// The product.
    pub product: u32,
    /// Its category.
    pub category: String,
    /// Its price; none if it is withdrawn.
    pub price_cents: Option<i64>,
    /// From when on.
    pub time_ms: i64,
}

/// An order was paid.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Payment {
    /// The number of the order.
    pub order: u64,
    /// How.
    pub method: String,
    /// When.
    pub time_ms: i64,
}

/// Units of an order come back. A later return of the same order takes the place of this one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Return {
    /// The number of the order.
    pub order: u64,
    /// Why.
    pub reason: String,
    /// How many; none if the return is withdrawn.
    pub units: Option<i64>,
    /// When.
    pub time_ms: i64,
}
