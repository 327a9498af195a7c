//! Events in three splits, and rows: what every job of these tests makes of them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde::{Deserialize, Deserializer, Serialize};
use thalweg::sim::Random;

/// How far records may be behind the newest of their split, in milliseconds.
pub(crate) const BOUND: i64 = 120;

/// Records of each of the three splits.
const LENGTHS: [i64; 3] = [900, 600, 300];

/// Keys of the events.
const KEYS: usize = 240;

/// How often an identity was decoded, by run.
static DECODED: [AtomicU64; 4_096] = [const { AtomicU64::new(0) }; 4_096];

/// The identity of an event. It knows in which run it is: that it was decoded without a checkpoint
/// shows that it was in RocksDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Id {
    run: u16,
    pub(crate) number: i64,
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (run, number) = <(u16, i64)>::deserialize(deserializer)?;
        if let Some(count) = DECODED.get(usize::from(run)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Id { run, number })
    }
}

/// How many identities of a run were decoded.
pub(crate) fn decoded(run: u16) -> u64 {
    DECODED[usize::from(run)].load(Ordering::Relaxed)
}

/// A record of these tests' jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: Id,
    pub(crate) key: u32,
    pub(crate) time: i64,
    /// From 0 to 9.
    pub(crate) value: i64,
}

/// Events by split.
pub(crate) type Splits = Vec<Vec<Event>>;

/// The events of both sides of a job; most have only a left one.
#[derive(Clone)]
pub(crate) struct Data {
    pub(crate) left: Splits,
    pub(crate) right: Splits,
    pub(crate) run: u16,
}

impl Data {
    /// The data of all tests: of equal times, out of order, one in ten far behind.
    pub(crate) fn new() -> Self {
        let mut random = Random::new(0x6f70_6572);
        let mut side = |mut number: i64| {
            let mut split = |length: i64| {
                let mut now = -100;
                let mut event = |_| {
                    now += random.between(0, 2);
                    number += 1;
                    let behind = match random.is_chosen(10) {
                        true => random.between(BOUND, 4 * BOUND),
                        false => random.between(0, BOUND),
                    };
                    Event {
                        id: Id { run: 0, number },
                        key: random.below(KEYS) as u32,
                        time: now - behind,
                        value: random.between(0, 9),
                    }
                };
                (0..length).map(&mut event).collect()
            };
            LENGTHS.map(&mut split).into()
        };
        Data { left: side(0), right: side(100_000), run: 0 }
    }

    /// The same for a run of its own.
    pub(crate) fn of_next_run(&self) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let run = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(run < DECODED.len(), "there are more runs than counters");
        let mut data = Data { run: run as u16, ..self.clone() };
        let events = data.left.iter_mut().chain(&mut data.right).flatten();
        events.for_each(|event| event.id.run = run as u16);
        data
    }
}

/// Which of an operator's outputs a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Port {
    Result,
    Side,
    Third,
    Late,
}

/// What every job gives out: numbers that say where, and the identities of events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) port: Port,
    pub(crate) at: Vec<i64>,
    pub(crate) ids: Vec<i64>,
}

impl Row {
    pub(crate) fn result(at: impl Into<Vec<i64>>, ids: impl Into<Vec<i64>>) -> Self {
        Row { port: Port::Result, at: at.into(), ids: ids.into() }
    }

    pub(crate) fn late(id: i64) -> Self {
        Row { port: Port::Late, at: Vec::new(), ids: vec![id] }
    }

    pub(crate) fn of_port(self, port: Port) -> Self {
        Row { port, ..self }
    }
}

/// Rows in order.
pub(crate) fn sorted(rows: impl IntoIterator<Item = Row>) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.into_iter().collect();
    rows.sort_unstable();
    rows
}

/// Numbers in order.
pub(crate) fn ordered(ids: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut ids: Vec<i64> = ids.into_iter().collect();
    ids.sort_unstable();
    ids
}
