//! Whole jobs under the simulator, with faults, against references.
//!
//! * `windowed.rs`: windows, windows behind windows, a process function; random seeds.
//! * `joins.rs`: all joins, windows behind joins, a join behind windows; random seeds.
//! * `process.rs`: process functions of all kinds, broadcast rules.
//! * `failures.rs`: user functions that fail by chance; random seeds.
//! * `unaligned.rs`: slow operators and barriers that do not wait; at-least-once mode.
//! * `planted.rs`: known mistakes that the suite must find (feature `planted-bugs`).
//! * `regressions.rs`: seeds that have failed once, and why.
//!
//! One seed: `THALWEG_SEED=7 cargo test --release --test simulation ten_thousand`. More of them:
//! `THALWEG_SEEDS=1000000 cargo test --release --test simulation ten_thousand -- --nocapture`.

mod data;
mod failures;
mod joins;
#[cfg(feature = "planted-bugs")]
mod planted;
mod process;
mod reference;
mod regressions;
mod unaligned;
mod windowed;

/// The first seed and the number of seeds to run: `default` from 0, or what the environment says.
#[expect(clippy::disallowed_methods, reason = "tests are configured by the environment")]
fn seeds(default: u64) -> (u64, u64) {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    match number("THALWEG_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("THALWEG_SEEDS").unwrap_or(default)),
    }
}
