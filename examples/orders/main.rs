//! What was sold, at which price, and was it paid? Orders take the price that held at their time,
//! meet their payments within half an hour, and become the revenue of each category and hour;
//! returns, which are revised and withdrawn, become a table that is corrected as they are.
//!
//! ```text
//! cargo run --release --example orders
//! cargo run --release --example orders -- --out DIR --checkpoint-dir CK --parallelism 2
//! ```

use std::num::NonZeroU64;
use std::path::PathBuf;

use mimalloc::MiMalloc;
use thalweg::JobMain;
use thalweg::clap::{self, Args};
use thalweg::prelude::*;

mod generate;
mod records;
mod report;
mod rows;
#[cfg(test)]
mod tests;

use records::{Order, Payment, Price, Return};
use rows::{Claim, LatePrice, Listed, ReturnsChange, Revenue, Sale};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Each input comes in so many splits, each with a watermark of its own.
const SPLITS: usize = 2;

/// The options of this job, beside those that every job has.
#[derive(Args, Debug)]
struct Options {
    /// Directory for the results, one directory within it for each
    #[arg(long, value_name = "DIR", default_value = "orders-out")]
    out: PathBuf,
    /// Generate N orders, one every two seconds, and all that belongs to them
    #[arg(long, value_name = "N", default_value_t = 150_000)]
    records: u64,
    /// Generate no more than N orders a second, and the rest as fast
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU64>,
}

/// What the job takes in.
struct Inputs {
    orders: Stream<Order>,
    prices: Stream<Price>,
    payments: Stream<Payment>,
    returns: Stream<Return>,
}

/// What the job gives out.
struct Outputs {
    revenue: Stream<Revenue>,
    /// Sales without a payment in time.
    unpaid: Stream<Sale>,
    /// Payments without a sale in time.
    stray: Stream<Payment>,
    /// Orders of what was not on sale at their time.
    not_on_sale: Stream<Order>,
    /// How the table of returns changes. The table is the same for every run; the rows that it had
    /// on the way depend on which return came first.
    returns: Stream<ReturnsChange>,
    late_orders: Stream<Order>,
    late_prices: Stream<LatePrice>,
    late_payments: Stream<Payment>,
    late_returns: Stream<Return>,
}

fn orders(inputs: &Inputs) -> Outputs {
    let in_time = || Watermarks::bounded_out_of_orderness(minutes(2));
    let orders = inputs.orders.event_time(|o| o.time_ms, in_time()).key_by(|o| o.product);
    let prices = inputs.prices.event_time(|p| p.time_ms, in_time()).key_by(|p| p.product);
    let payments = inputs.payments.event_time(|p| p.time_ms, in_time()).key_by(|p| p.order);

    // The price that held at the order's time; none if the product was withdrawn then.
    let priced = orders.join_table(&prices.map_values(Listed::of)).as_of().left(
        "priced",
        |_, order, listed| match listed {
            Some(listed) => Either::Left(Sale::of(order, listed)),
            None => Either::Right(order.clone()),
        },
    );
    let (sales, not_on_sale) = priced.results().side_output(|priced| priced);

    let settled = sales
        .key_by(|sale| sale.order)
        .interval_join(&payments)
        .between(minutes(1), minutes(30))
        .full("settled", |_, sale, payment| (sale.cloned(), payment.cloned()));
    let outcomes = settled.results();
    let revenue = outcomes
        .filter_map(|(sale, payment)| payment.and(sale))
        .key_by(|sale| sale.category.clone())
        .window(Tumbling::of(hours(1)))
        .aggregate("revenue", (Count, Sum::of(|sale: &Sale| sale.amount_cents)));

    let (returns, late_returns) = returns_table(&inputs.returns);
    Outputs {
        revenue: revenue.results().map(Revenue::from),
        unpaid: outcomes.filter_map(|(sale, payment)| sale.filter(|_| payment.is_none())),
        stray: outcomes.filter_map(|(sale, payment)| payment.filter(|_| sale.is_none())),
        not_on_sale,
        returns,
        late_orders: priced.late_left(),
        late_prices: priced.late_right().map(LatePrice::from),
        late_payments: settled.late_right(),
        late_returns,
    }
}

/// The last word on each return, by reason: what is revised moves from row to row.
fn returns_table(returns: &Stream<Return>) -> (Stream<ReturnsChange>, Stream<Return>) {
    let returns = returns
        .event_time(|r| r.time_ms, Watermarks::bounded_out_of_orderness(minutes(2)))
        .key_by(|r| r.order)
        .in_event_order("returns-in-order");
    let table = returns
        .map_values(Claim::of)
        .to_changes_with_deletes("claims")
        .key_changes_by(|claim| claim.value.reason.clone())
        .aggregate_changes(
            "returned",
            (Count, Sum::of(|claim: &Keyed<u64, Claim>| claim.value.units)),
        );
    (table.map(ReturnsChange::from), returns.late())
}

/// A generated input: `count` records for all orders, at their share of the rate.
fn input<T: Element>(
    job: &Job,
    options: &Options,
    name: &str,
    count: u64,
    record: impl Fn(u64) -> T + Send + Sync + 'static,
) -> Stream<T> {
    let records = generator(Some(count), record).splits(SPLITS);
    match options.rate {
        Some(rate) => {
            let share = u128::from(rate.get()) * u128::from(count);
            let share = share.div_ceil(u128::from(options.records.max(1))).max(1);
            let rate = u64::try_from(share).unwrap_or(u64::MAX);
            (*job.source(name, records.records_per_second(rate))).clone()
        }
        None => (*job.source(name, records)).clone(),
    }
}

fn build(job: &Job, options: &Options) -> thalweg::Result<()> {
    let n = options.records;
    // Not every order is paid, and few are returned.
    let payment = move |i| generate::payment(i, n);
    let payments = input(job, options, "payments", generate::payments(n), payment);
    let returned = move |i| generate::returned(i, n);
    let returns = input(job, options, "returns", generate::returns(n), returned);
    let given = orders(&Inputs {
        orders: input(job, options, "orders", n, generate::order),
        prices: input(job, options, "prices", generate::prices(n), generate::price),
        payments: payments.filter_map(|payment| payment),
        returns: returns.filter_map(|returned| returned),
    });
    let out = |name: &str| options.out.join(name);
    given.revenue.sink("revenue-out", files::csv_out(out("revenue")));
    given.unpaid.sink("unpaid-out", files::csv_out(out("unpaid")));
    given.stray.sink("stray-out", files::csv_out(out("stray-payments")));
    given.not_on_sale.sink("not-on-sale-out", files::csv_out(out("not-on-sale")));
    given.returns.sink("returns-out", files::csv_out(out("returns")));
    given.late_orders.sink("late-orders-out", files::csv_out(out("late-orders")));
    given.late_prices.sink("late-prices-out", files::csv_out(out("late-prices")));
    given.late_payments.sink("late-payments-out", files::csv_out(out("late-payments")));
    given.late_returns.sink("late-returns-out", files::csv_out(out("late-returns")));
    Ok(())
}

fn main() -> thalweg::ExitCode {
    JobMain::<Options>::new("orders", build)
        .about("Orders with their prices and payments, and returns, from generated streams")
        .summary(|options, report| report::report(&options.out, report))
        .run()
}
