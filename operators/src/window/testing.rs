//! What the tests of windows share: random splits, their interleavings, and windows recomputed
//! from scratch.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thalweg_engine::EventTime;
use thalweg_engine::sim::Random;
use thalweg_engine::testing::Input;

use super::{Window, WindowResult};
use crate::aggregate::Aggregate;
use crate::stream::Keyed;

/// A record with an identity and a session gap of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) id: u32,
    pub(super) key: u32,
    pub(super) time: i64,
    pub(super) gap: i64,
}

pub(super) type Result = WindowResult<u32, Vec<u32>>;

/// The identities of all records, sorted: shows what was lost or counted twice.
pub(super) struct Identities;

impl Aggregate<Event> for Identities {
    type Accumulator = Vec<u32>;
    type Out = Vec<u32>;

    fn create(&self) -> Vec<u32> {
        Vec::new()
    }

    fn add(&self, accumulator: &mut Vec<u32>, event: &Event) {
        accumulator.push(event.id);
    }

    fn merge(&self, accumulator: &mut Vec<u32>, other: &Vec<u32>) {
        accumulator.extend(other);
    }

    fn finish(&self, accumulator: &Vec<u32>) -> Vec<u32> {
        let mut ids = accumulator.clone();
        ids.sort_unstable();
        ids
    }
}

/// Random splits: times rise, some run behind by up to twice `bound`, many are equal.
pub(super) fn random_splits(random: &mut Random, bound: i64, events: usize) -> Vec<Vec<Event>> {
    let mut id = 0;
    let keys = random.between(1, 6) as usize;
    let steps = [1, 3, 20][random.below(3)];
    let splits = random.between(1, 3);
    let mut split = |random: &mut Random| {
        let mut now = random.between(-60, 40);
        let mut events = (0..random.below(events + 1)).map(|_| {
            now += random.between(0, steps);
            id += 1;
            let is_single = random.is_chosen(5);
            let key = if is_single { 1_000 + id } else { random.below(keys) as u32 };
            let behind = if random.is_chosen(40) { random.between(0, 2 * bound) } else { 0 };
            Event { id, key, time: now - behind, gap: random.between(1, 12) }
        });
        events.by_ref().collect()
    };
    (0..splits).map(|_| split(random)).collect()
}

/// Each record of a split with the watermark of the split before it, if it is behind that.
fn marked(split: &[Event], bound: i64) -> Vec<(Event, Option<i64>)> {
    let mut greatest: Option<i64> = None;
    let mark = |&event: &Event| {
        let watermark = greatest.map(|greatest| greatest - bound - 1);
        greatest = greatest.max(Some(event.time));
        (event, watermark.filter(|&watermark| event.time <= watermark))
    };
    split.iter().map(mark).collect()
}

/// The records of all splits in a random interleaving, with some of the watermarks that are the
/// least of the splits' at that point; ends with the end of time.
pub(super) fn interleaved(
    random: &mut Random,
    splits: &[Vec<Event>],
    bound: i64,
) -> Vec<Input<Keyed<u32, Event>>> {
    let splits: Vec<_> = splits.iter().map(|split| marked(split, bound)).collect();
    let mut read = vec![0; splits.len()];
    let watermark_percent = [5, 30, 100][random.below(3)];
    let mut script = Vec::new();
    let mut last = i64::MIN;
    loop {
        let rest: Vec<usize> = (0..splits.len()).filter(|&s| read[s] < splits[s].len()).collect();
        if rest.is_empty() {
            script.push(Input::Watermark(EventTime::MAX));
            return script;
        }
        let split = rest[random.below(rest.len())];
        let (event, mark) = splits[split][read[split]];
        read[split] += 1;
        let record = Keyed { key: event.key, value: event };
        let mark = mark.map(EventTime::from_millis);
        script.push(Input::Record(record, EventTime::from_millis(event.time), mark));
        if random.is_chosen(watermark_percent) {
            let of_split = |(s, split): (usize, &Vec<(Event, Option<i64>)>)| {
                let greatest = split[..read[s]].iter().map(|(event, _)| event.time).max();
                let is_finished = read[s] == split.len();
                if is_finished {
                    i64::MAX
                } else {
                    greatest.map_or(i64::MIN, |greatest| greatest - bound - 1)
                }
            };
            let watermark = splits.iter().enumerate().map(of_split).min().unwrap_or(i64::MIN);
            if watermark > last {
                last = watermark;
                script.push(Input::Watermark(EventTime::from_millis(watermark)));
            }
        }
    }
}

/// The records that are on time, and the late ones with their marks.
pub(super) fn judged(
    splits: &[Vec<Event>],
    bound: i64,
    lateness: i64,
) -> (Vec<Event>, Vec<(Event, i64)>) {
    let (mut on_time, mut late) = (Vec::new(), Vec::new());
    for (event, mark) in splits.iter().flat_map(|split| marked(split, bound)) {
        match mark.filter(|mark| event.time + lateness <= *mark) {
            Some(mark) => late.push((event, mark)),
            None => on_time.push(event),
        }
    }
    (on_time, late)
}

fn result(key: u32, start: i64, end: i64, mut value: Vec<u32>) -> Result {
    let (start, end) = (EventTime::from_millis(start), EventTime::from_millis(end));
    value.sort_unstable();
    WindowResult { key, window: Window { start, end }, value }
}

/// Sessions by the definition: windows that overlap or touch are joined until none do.
pub(super) fn sessions(events: &[Event], gap_of: impl Fn(&Event) -> i64) -> Vec<Result> {
    let mut sessions: Vec<(u32, i64, i64, Vec<u32>)> = events
        .iter()
        .map(|event| (event.key, event.time, event.time + gap_of(event), vec![event.id]))
        .collect();
    loop {
        let pairs = (0..sessions.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let touching = pairs.into_iter().find(|&(a, b)| {
            let (a, b) = (&sessions[a], &sessions[b]);
            a.0 == b.0 && a.1 <= b.2 && b.1 <= a.2
        });
        let Some((a, b)) = touching else { break };
        let other = sessions.swap_remove(a);
        let session = &mut sessions[b];
        *session = (session.0, session.1.min(other.1), session.2.max(other.2), session.3.clone());
        session.3.extend(other.3);
    }
    sessions.into_iter().map(|(key, start, end, ids)| result(key, start, end, ids)).collect()
}

/// Record-aligned windows by the definition.
pub(super) fn record_aligned(events: &[Event], span: i64) -> Vec<Result> {
    let places: BTreeSet<(u32, i64)> = events.iter().map(|event| (event.key, event.time)).collect();
    let window = |(key, time): (u32, i64)| {
        let is_in =
            |event: &&Event| event.key == key && time - span <= event.time && event.time <= time;
        let ids = events.iter().filter(is_in).map(|event| event.id).collect();
        result(key, time - span, time + 1, ids)
    };
    places.into_iter().map(window).collect()
}

/// Global windows by the definition, with the times of the results.
pub(super) fn global(events: &[Event]) -> Vec<(Result, i64)> {
    let mut keys: BTreeMap<u32, (i64, Vec<u32>)> = BTreeMap::new();
    for event in events {
        let whole = keys.entry(event.key).or_insert((i64::MIN, Vec::new()));
        whole.0 = whole.0.max(event.time);
        whole.1.push(event.id);
    }
    let whole = |(key, (time, ids))| (result(key, i64::MIN, i64::MAX, ids), time);
    keys.into_iter().map(whole).collect()
}

/// Results as the verifier writes them.
pub(super) fn lines(results: impl IntoIterator<Item = (Result, i64)>) -> Vec<String> {
    let line = |(result, time): (Result, i64)| format!("{result:?} at {time}");
    let mut lines: Vec<String> = results.into_iter().map(line).collect();
    lines.sort_unstable();
    lines
}

/// Results of the last instant of their windows, as the verifier writes them.
pub(super) fn window_lines(results: Vec<Result>) -> Vec<String> {
    lines(results.into_iter().map(|r| (r.clone(), r.window.max_time().millis())))
}

/// Late records as the verifier writes them.
pub(super) fn late_lines(late: &[(Event, i64)]) -> Vec<String> {
    let line = |(event, mark): &(Event, i64)| format!("{event:?} at {} behind {mark}", event.time);
    let mut lines: Vec<String> = late.iter().map(line).collect();
    lines.sort_unstable();
    lines
}
