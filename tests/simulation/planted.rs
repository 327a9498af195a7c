//! The measure of the suite: every planted bug must be found by the windowed job's seeds.
//!
//! `cargo test --release --features planted-bugs --test simulation planted -- --nocapture`

use std::panic::catch_unwind;

use thalweg::planted::{PlantedBug, arm};

use crate::windowed::run_seed;

/// Seeds that are tried before a bug counts as not found.
const PATIENCE: u64 = 10_000;

#[test]
fn planted_bugs_are_found() {
    let mut missed = Vec::new();
    for bug in PlantedBug::ALL {
        let found = (0..PATIENCE).find_map(|seed| {
            arm(Some(bug));
            let outcome = catch_unwind(|| run_seed(seed));
            arm(None);
            match outcome {
                Ok(Ok(_)) => None,
                Ok(Err(message)) => Some((seed, message)),
                Err(_) => Some((seed, "a panic".to_owned())),
            }
        });
        match found {
            Some((seed, message)) => println!(
                "{bug:?}: found by seed {seed}: {}",
                message.split(" [").next().unwrap_or_default()
            ),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found within {PATIENCE} seeds: {missed:?}");
}
