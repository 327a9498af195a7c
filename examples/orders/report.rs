//! What the orders job tells at its end, read from its committed output.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use thalweg::{ChangeOp, Counter, Error, Result, RunOutcome, RunReport};

use crate::records::{Order, Payment, Return};
use crate::rows::{LatePrice, ReturnsChange, Revenue, Sale};

#[path = "../shared/parts.rs"]
mod parts;

use parts::read;

/// Reads the output in `out` and tells what came of it.
///
/// # Errors
/// If the output cannot be read, or orders or payments are missing from it.
pub(crate) fn report(out: &Path, report: &RunReport) -> Result<String> {
    if report.outcome == RunOutcome::Stopped {
        return Ok(String::new());
    }
    let revenue: Vec<Revenue> = read(&out.join("revenue"))?;
    let unpaid: Vec<Sale> = read(&out.join("unpaid"))?;
    let mut text = totals(out, report, &revenue, unpaid.len() as u64)?;
    let _ = write!(text, "\n\n{}", categories(&revenue, &unpaid));
    let changes: Vec<ReturnsChange> = read(&out.join("returns"))?;
    let _ = write!(text, "\n\nUnits that come back, revised returns counted once:");
    for (reason, orders, units) in table(&changes) {
        let _ = write!(text, "\n  {reason:<20} {units:>6} of {orders:>5} orders");
    }
    Ok(text)
}

/// The orders and payments that were read, and where they are now.
fn totals(out: &Path, report: &RunReport, revenue: &[Revenue], unpaid: u64) -> Result<String> {
    let counted = |operator| report.progress.metrics.total(operator, Counter::In);
    let paid: u64 = revenue.iter().map(|row| row.orders).sum();
    let not_on_sale = read::<Order>(&out.join("not-on-sale"))?.len() as u64;
    let stray = read::<Payment>(&out.join("stray-payments"))?.len() as u64;
    let late_orders = read::<Order>(&out.join("late-orders"))?.len() as u64;
    let late_prices = read::<LatePrice>(&out.join("late-prices"))?.len() as u64;
    let late_payments = read::<Payment>(&out.join("late-payments"))?.len() as u64;
    let late_returns = read::<Return>(&out.join("late-returns"))?.len() as u64;
    let orders = counted("orders");
    let prices = counted("priced").saturating_sub(orders);
    // What came to the join, less the sales.
    let payments = counted("settled").saturating_sub(paid + unpaid);
    let text = format!(
        "{orders} orders = {paid} paid + {unpaid} unpaid + {not_on_sale} not on sale + \
         {late_orders} late: none is missing\n\
         {payments} payments = {paid} of orders + {stray} of no order in time + {late_payments} \
         late: none is missing\n\
         {prices} prices, {late_prices} of them late; {} returns and revisions, {late_returns} of \
         them late",
        counted("returns-in-order")
    );
    if orders != paid + unpaid + not_on_sale + late_orders
        || payments != paid + stray + late_payments
    {
        return Err(Error::corrupt(format!(
            "the output is not that of this run, or was changed; it has\n{text}"
        )));
    }
    Ok(text)
}

fn categories(revenue: &[Revenue], unpaid: &[Sale]) -> String {
    let mut by_category = BTreeMap::<&str, (Vec<&Revenue>, i64)>::new();
    for row in revenue {
        by_category.entry(&row.category).or_default().0.push(row);
    }
    for sale in unpaid {
        by_category.entry(&sale.category).or_default().1 += sale.amount_cents;
    }
    let mut text =
        "Category   paid orders          revenue           unpaid  best hour (UTC)".to_owned();
    for (category, (rows, unpaid)) in by_category {
        let orders: u64 = rows.iter().map(|row| row.orders).sum();
        let earned = money(rows.iter().map(|row| row.amount_cents).sum());
        let best = rows.iter().max_by_key(|row| (row.amount_cents, row.start_ms));
        let best = best.map_or_else(String::new, |row| {
            let start = chrono::DateTime::from_timestamp_millis(row.start_ms);
            let start = start.map_or_else(String::new, |s| s.format("%a %H:%M").to_string());
            format!("{start}, {}", money(row.amount_cents))
        });
        let unpaid = money(unpaid);
        let _ = write!(text, "\n  {category:<8} {orders:>11} {earned:>16} {unpaid:>16}  {best}");
    }
    text
}

/// The rows of the table of returns: those that came less those that went, in whatever order.
fn table(changes: &[ReturnsChange]) -> Vec<(&str, i64, i64)> {
    let mut rows = BTreeMap::<(&str, i64, i64), i64>::new();
    for ReturnsChange { change, reason, orders, units } in changes {
        let is_new = matches!(change, ChangeOp::Insert | ChangeOp::UpdateAfter);
        *rows.entry((reason, *orders, *units)).or_default() += if is_new { 1 } else { -1 };
    }
    rows.into_iter().filter(|(_, count)| *count != 0).map(|(row, _)| row).collect()
}

/// Cents, as they are written.
fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let digits = (cents.unsigned_abs() / 100).to_string();
    let mut whole = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            whole.push(',');
        }
        whole.push(digit);
    }
    format!("{sign}{whole}.{:02}", cents.unsigned_abs() % 100)
}
