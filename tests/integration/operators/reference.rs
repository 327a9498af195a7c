//! Computations from scratch, slow and obvious: what operators must give out.

use std::collections::BTreeMap;

use thalweg::engine::state::hash_key;

use super::data::{BOUND, Data, Row, Splits, ordered, sorted};

/// An event as a source read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) id: i64,
    pub(crate) key: i64,
    pub(crate) time: i64,
    pub(crate) value: i64,
    /// The watermark of its split just before it.
    pub(crate) watermark: i64,
    /// Its place among events of equal time.
    pub(crate) order: (u64, usize),
}

impl Read {
    /// True if it is behind the watermark of its split by more than `lateness`.
    pub(crate) fn is_late(&self, lateness: i64) -> bool {
        self.time + lateness <= self.watermark
    }
}

/// All events of the left side.
pub(crate) fn read(splits: &Splits) -> Vec<Read> {
    read_from("left", splits)
}

/// All events of a source.
pub(crate) fn read_from(source: &str, splits: &Splits) -> Vec<Read> {
    let mut all = Vec::new();
    for (number, split) in splits.iter().enumerate() {
        let name = hash_key(&(source, number.to_string())).expect("a name has a hash");
        let mut greatest: Option<i64> = None;
        for (offset, event) in split.iter().enumerate() {
            all.push(Read {
                id: event.id.number,
                key: i64::from(event.key),
                time: event.time,
                value: event.value,
                watermark: greatest.map_or(i64::MIN, |greatest| greatest - BOUND - 1),
                order: (name, offset),
            });
            greatest = greatest.max(Some(event.time));
        }
    }
    all
}

/// The events of the left side that are late, as rows, and the others in event-time order by key.
pub(crate) fn in_order(data: &Data, lateness: i64) -> (Vec<Row>, BTreeMap<i64, Vec<Read>>) {
    let (late, on_time): (Vec<Read>, Vec<Read>) =
        read(&data.left).into_iter().partition(|read| read.is_late(lateness));
    let mut keys = BTreeMap::<i64, Vec<Read>>::new();
    on_time.into_iter().for_each(|read| keys.entry(read.key).or_default().push(read));
    keys.values_mut().for_each(|reads| reads.sort_by_key(|read| (read.time, read.order)));
    (late.iter().map(|read| Row::late(read.id)).collect(), keys)
}

/// Windows of a size and slide.
#[derive(Clone, Copy)]
pub(crate) struct Slid {
    pub(crate) size: i64,
    pub(crate) slide: i64,
    pub(crate) offset: i64,
    pub(crate) lateness: i64,
}

/// What becomes of an event.
pub(crate) enum Fate {
    /// The windows that accept it, as (start, end).
    In(Vec<(i64, i64)>),
    Late,
    Gap,
}

impl Slid {
    pub(crate) const fn tumbling(size: i64, lateness: i64) -> Self {
        Slid { size, slide: size, offset: 0, lateness }
    }

    pub(crate) fn fate(self, read: &Read) -> Fate {
        let last = (read.time - self.offset).div_euclid(self.slide) + 1;
        let starts =
            (last - 2 - self.size / self.slide..=last).map(|n| self.offset + n * self.slide);
        let holds = |&start: &i64| start <= read.time && read.time < start + self.size;
        let windows: Vec<_> =
            starts.filter(holds).map(|start| (start, start + self.size)).collect();
        if windows.is_empty() {
            return Fate::Gap;
        }
        let is_open = |window: &(i64, i64)| window.1 - 1 + self.lateness > read.watermark;
        let open: Vec<_> = windows.into_iter().filter(is_open).collect();
        if open.is_empty() { Fate::Late } else { Fate::In(open) }
    }

    /// Rows with key, start and end, and the identities of each window; and the late ones.
    pub(crate) fn rows(self, reads: &[Read]) -> Vec<Row> {
        let mut windows = BTreeMap::<[i64; 3], Vec<i64>>::new();
        let mut rows = Vec::new();
        for read in reads {
            match self.fate(read) {
                Fate::Gap => {}
                Fate::Late => rows.push(Row::late(read.id)),
                Fate::In(open) => open.into_iter().for_each(|(start, end)| {
                    windows.entry([read.key, start, end]).or_default().push(read.id);
                }),
            }
        }
        rows.extend(windows.into_iter().map(|(at, ids)| Row::result(at, ordered(ids))));
        sorted(rows)
    }
}

/// Sessions with key, start and end.
pub(crate) fn sessions(data: &Data, gap: i64, lateness: i64) -> Vec<Row> {
    let (mut rows, keys) = in_order(data, lateness);
    for (key, reads) in keys {
        for session in reads.chunk_by(|a, b| b.time <= a.time + gap) {
            let (first, last) = (session[0].time, session[session.len() - 1].time);
            let ids = ordered(session.iter().map(|read| read.id));
            rows.push(Row::result([key, first, last + gap], ids));
        }
    }
    sorted(rows)
}
