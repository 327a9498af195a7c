//! The orders job under the simulator against a plain loop, and the count of its records.

use std::collections::BTreeMap;

use thalweg::memory::{self, Collected, MemorySink};
use thalweg::sim::SimReport;
use thalweg::test::{SimPlan, simulate_plan};
use thalweg::{ChangeOp, Counter, Data, Job, Stream};

use crate::generate;
use crate::records::{Order, Payment, Price, Return};
use crate::rows::{LatePrice, ReturnsChange, Revenue, Sale};
use crate::{Inputs, orders};

const SEEDS: u64 = 40;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// The bound of out-of-orderness of all inputs.
const BOUND_MS: i64 = 2 * MINUTE_MS;
/// The job's orders are one of so many of these.
const ORDERS: u64 = 20_000;
const ONE_OF: u64 = 20;

/// The records of all inputs, by split.
struct Records {
    orders: Vec<Vec<Order>>,
    prices: Vec<Vec<Price>>,
    payments: Vec<Vec<Payment>>,
    returns: Vec<Vec<Return>>,
}

impl Records {
    /// Other orders for every seed, with all that belongs to them.
    fn of(seed: u64) -> Records {
        let splits = 1 + seed as usize % 3;
        let is_used = |order: u64| order % ONE_OF == seed % ONE_OF;
        let is_returned = |order: u64| order / 25 % 2 == seed % 2;
        let orders = (0..ORDERS).filter(|i| is_used(*i)).map(generate::order);
        let prices = (0..generate::prices(ORDERS)).filter(|i| !(i + seed).is_multiple_of(7));
        let payments = (0..generate::payments(ORDERS)).filter_map(|i| generate::payment(i, ORDERS));
        let returns = (0..generate::returns(ORDERS)).filter_map(|i| generate::returned(i, ORDERS));
        Records {
            orders: dealt(splits, orders),
            prices: dealt(splits, prices.map(generate::price)),
            payments: dealt(splits, payments.filter(|payment| is_used(payment.order))),
            returns: dealt(splits, returns.filter(|claim| is_returned(claim.order))),
        }
    }
}

/// The records, dealt out to splits in turn.
fn dealt<T>(splits: usize, records: impl Iterator<Item = T>) -> Vec<Vec<T>> {
    let mut all: Vec<Vec<T>> = (0..splits).map(|_| Vec::new()).collect();
    records.enumerate().for_each(|(i, record)| all[i % splits].push(record));
    all
}

fn count<T>(splits: &[Vec<T>]) -> u64 {
    splits.iter().map(|split| split.len() as u64).sum()
}

/// Names every output of the job once.
macro_rules! outputs {
    ($($name:ident: $of:ty,)*) => {
        /// The sinks of one simulated run; they outlive its crashes.
        struct World { $($name: (MemorySink<$of>, Collected<$of>),)* }

        impl World {
            fn new() -> Self {
                World { $($name: memory::sink(),)* }
            }

            fn sink(&self, outputs: &crate::Outputs) {
                $(outputs.$name.sink(concat!(stringify!($name), "-out"), self.$name.0.clone());)*
            }

            fn given(&self) -> Given {
                Given { $($name: self.$name.1.snapshot(),)* }.sorted()
            }
        }

        /// All output of the job.
        #[derive(Debug, Default, PartialEq, Eq)]
        struct Given { $($name: Vec<$of>,)* }

        impl Given {
            fn sorted(mut self) -> Self {
                $(self.$name.sort();)*
                self
            }
        }
    };
}

outputs! {
    revenue: Revenue,
    unpaid: Sale,
    stray: Payment,
    not_on_sale: Order,
    returns: ReturnsChange,
    late_orders: Order,
    late_prices: LatePrice,
    late_payments: Payment,
    late_returns: Return,
}

impl Given {
    /// With the table of returns in the place of its changes, which may come in another order.
    fn with_final_table(mut self) -> Self {
        let mut rows = BTreeMap::<ReturnsChange, i64>::new();
        for mut row in std::mem::take(&mut self.returns) {
            let is_new = matches!(row.change, ChangeOp::Insert | ChangeOp::UpdateAfter);
            row.change = ChangeOp::Insert;
            *rows.entry(row).or_default() += if is_new { 1 } else { -1 };
        }
        rows.retain(|_, times| *times != 0);
        assert!(rows.values().all(|times| *times == 1), "not a table: {rows:?}");
        self.returns = rows.into_keys().collect();
        self
    }

    /// How many orders were paid.
    fn paid(&self) -> u64 {
        self.revenue.iter().map(|row| row.orders).sum()
    }
}

fn source<T: Data + Sync>(job: &Job, name: &str, splits: &[Vec<T>]) -> Stream<T> {
    (*job.source(name, memory::from_splits(splits.to_vec()))).clone()
}

fn run(seed: u64, plan: SimPlan) -> (Given, SimReport) {
    let records = Records::of(seed);
    let world = World::new();
    let build = |job: &Job| {
        let inputs = Inputs {
            orders: source(job, "orders", &records.orders),
            prices: source(job, "prices", &records.prices),
            payments: source(job, "payments", &records.payments),
            returns: source(job, "returns", &records.returns),
        };
        world.sink(&orders(&inputs));
        Ok(())
    };
    let report = simulate_plan("orders", build, plan).expect("the job ends");
    (world.given().with_final_table(), report)
}

/// The records that are in time, and the others, by the watermark of their own split.
fn judged<T: Data>(splits: &[Vec<T>], time_of: impl Fn(&T) -> i64) -> (Vec<T>, Vec<T>) {
    let (mut in_time, mut late) = (Vec::new(), Vec::new());
    for split in splits {
        let mut newest: Option<i64> = None;
        for record in split {
            let time = time_of(record);
            let is_late = newest.is_some_and(|newest| time < newest - BOUND_MS);
            newest = newest.max(Some(time));
            if is_late { &mut late } else { &mut in_time }.push(record.clone());
        }
    }
    (in_time, late)
}

/// What must come out, by looping over all orders, prices and payments.
fn expected(records: &Records) -> Given {
    let (orders, late_orders) = judged(&records.orders, |order| order.time_ms);
    let (prices, late_prices) = judged(&records.prices, |price| price.time_ms);
    let (mut payments, late_payments) = judged(&records.payments, |payment| payment.time_ms);
    let (mut returns, late_returns) = judged(&records.returns, |claim| claim.time_ms);
    let (mut not_on_sale, mut unpaid) = (Vec::new(), Vec::new());
    let mut revenue = BTreeMap::<(String, i64), (u64, i64)>::new();
    for order in orders {
        let known =
            prices.iter().filter(|p| p.product == order.product && p.time_ms <= order.time_ms);
        let latest = known.max_by_key(|price| price.time_ms);
        let Some((price, cents)) = latest.and_then(|p| Some((p, p.price_cents?))) else {
            not_on_sale.push(order);
            continue;
        };
        let (category, amount_cents) = (price.category.clone(), cents * order.units);
        let in_time = order.time_ms - MINUTE_MS..=order.time_ms + 30 * MINUTE_MS;
        let is_its = |p: &Payment| p.order == order.order && in_time.contains(&p.time_ms);
        let Some(place) = payments.iter().position(is_its) else {
            let Order { order, time_ms, .. } = order;
            unpaid.push(Sale { order, category, amount_cents, time_ms });
            continue;
        };
        let start_ms = order.time_ms.max(payments.swap_remove(place).time_ms) / HOUR_MS * HOUR_MS;
        let earned = revenue.entry((category, start_ms)).or_default();
        *earned = (earned.0 + 1, earned.1 + amount_cents);
    }
    let revenue = revenue.into_iter().map(|((category, start_ms), (orders, amount_cents))| {
        Revenue { category, start_ms, orders, amount_cents }
    });
    let late_price = |p: Price| LatePrice { product: p.product, price_cents: p.price_cents };
    returns.sort_by_key(|claim| claim.time_ms);
    Given {
        revenue: revenue.collect(),
        unpaid,
        stray: payments,
        not_on_sale,
        returns: returns_table(&returns),
        late_orders,
        late_prices: late_prices.into_iter().map(late_price).collect(),
        late_payments,
        late_returns,
    }
    .sorted()
}

/// The table that the returns come to, which are in order of time.
fn returns_table(returns: &[Return]) -> Vec<ReturnsChange> {
    let last: BTreeMap<u64, &Return> = returns.iter().map(|claim| (claim.order, claim)).collect();
    let mut rows = BTreeMap::<&str, (i64, i64)>::new();
    for claim in last.values() {
        if let Some(units) = claim.units {
            let row = rows.entry(&claim.reason).or_default();
            *row = (row.0 + 1, row.1 + units);
        }
    }
    let row = |(reason, (orders, units)): (&str, (i64, i64))| ReturnsChange {
        change: ChangeOp::Insert,
        reason: reason.to_owned(),
        orders,
        units,
    };
    rows.into_iter().map(row).collect()
}

/// That every record is somewhere: in results, in state, or late.
fn check_conservation(records: &Records, given: &Given, report: &SimReport) {
    let total = |operator, counter| report.metrics.total(operator, counter);
    let (orders, prices) = (count(&records.orders), count(&records.prices));
    let (payments, returns) = (count(&records.payments), count(&records.returns));
    assert_eq!(report.metrics.records_read(), orders + prices + payments + returns);
    let length = |rows: usize| rows as u64;
    let (unpaid, stray) = (length(given.unpaid.len()), length(given.stray.len()));
    let not_on_sale = length(given.not_on_sale.len());
    let (late_orders, late_prices) =
        (length(given.late_orders.len()), length(given.late_prices.len()));
    let (late_payments, late_returns) =
        (length(given.late_payments.len()), length(given.late_returns.len()));

    assert_eq!(orders, given.paid() + unpaid + not_on_sale + late_orders);
    assert_eq!(total("priced", Counter::In), orders + prices);
    assert_eq!(total("priced", Counter::Late), late_orders + late_prices);
    assert_eq!(total("priced", Counter::Out), orders - late_orders);

    let sales = given.paid() + unpaid;
    assert_eq!(payments, given.paid() + stray + late_payments);
    assert_eq!(total("settled", Counter::In), sales + payments);
    assert_eq!(total("settled", Counter::Late), late_payments);
    assert_eq!(total("settled", Counter::Out), given.paid() + unpaid + stray);
    assert_eq!(total("revenue", Counter::Out), length(given.revenue.len()));

    assert_eq!(total("returns-in-order", Counter::In), returns);
    assert_eq!(total("returns-in-order", Counter::Late), late_returns);
    assert_eq!(total("claims", Counter::In), returns - late_returns);

    let late = late_orders + late_prices + late_payments + late_returns;
    assert_eq!(report.metrics.total_of_all(Counter::Late), late);
    for nothing in [Counter::Gap, Counter::Skipped, Counter::Dead] {
        assert_eq!(report.metrics.total_of_all(nothing), 0, "{}", nothing.name());
    }
    let state = |operator| report.final_state_bytes.get(operator).copied().unwrap_or(0);
    for operator in ["settled", "revenue", "returns-in-order"] {
        assert_eq!(state(operator), 0, "{operator}");
    }
    assert!(state("priced") > 0 && state("claims") > 0, "the tables are state");
}

#[test]
fn the_job_agrees_with_a_plain_loop_whatever_happens() {
    let (mut restarts, mut seen) = (0, [0; 7]);
    for seed in 0..SEEDS {
        let plan = SimPlan::from_seed(seed);
        // A checkpoint of so many operators takes more messages and time.
        let plan = SimPlan {
            steps_max: 10 * plan.steps_max,
            timeout_ms: 20 * plan.timeout_ms,
            lost_percent: plan.lost_percent / 10,
            ..plan
        };
        let (given, report) = run(seed, plan);
        let records = Records::of(seed);
        assert_eq!(given, expected(&records), "seed {seed}");
        check_conservation(&records, &given, &report);
        restarts += report.restarts;
        let now = [
            given.unpaid.len(),
            given.stray.len(),
            given.not_on_sale.len(),
            given.late_orders.len(),
            given.late_prices.len(),
            given.late_payments.len(),
            given.late_returns.len(),
        ];
        seen.iter_mut().zip(now).for_each(|(seen, now)| *seen += now);
    }
    println!("{SEEDS} seeds: {restarts} restarts, {seen:?} rows beside the revenue");
    assert!(restarts > 10, "the runs were too calm to show anything");
    assert!(seen.iter().all(|rows| *rows > 10), "an output was all but empty: {seen:?}");
}

#[test]
fn the_job_does_not_depend_on_parallelism() {
    let records = Records::of(5);
    for parallelism in 1..=4 {
        let (given, report) = run(5, SimPlan::calm(5, parallelism));
        assert_eq!(given, expected(&records), "parallelism {parallelism}");
        check_conservation(&records, &given, &report);
    }
}
