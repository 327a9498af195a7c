//! Count windows through the verifier, against windows cut from the list of each key's records.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use thalweg_engine::EventTime;
use thalweg_engine::sim::Random;
use thalweg_engine::state::hash_key;
use thalweg_engine::testing::{Input, verify_operator};

use super::{CountOperator, CountResult, CountWindow};
use crate::aggregate::Reduce;
use crate::keyed_table::KeyedTable;
use crate::stream::Keyed;

type Record = Keyed<u8, Vec<u32>>;

fn script(random: &mut Random) -> Vec<Input<Record>> {
    let keys = random.between(1, 4) as usize;
    let mut script = Vec::new();
    for number in 0..random.below(60) as u32 {
        let time = random.between(-20, 20);
        let mark = random.between(-40, 20);
        let mark = (time <= mark).then(|| EventTime::from_millis(mark));
        let record = Keyed { key: random.below(keys) as u8, value: vec![number] };
        script.push(Input::Record(record, EventTime::from_millis(time), mark));
    }
    script.push(Input::Watermark(EventTime::MAX));
    script
}

fn expected(script: &[Input<Record>], size: usize, slide: usize) -> Vec<String> {
    let mut keys: BTreeMap<u8, Vec<(u32, EventTime)>> = BTreeMap::new();
    let mut lines = Vec::new();
    for input in script {
        let Input::Record(Keyed { key, value }, time, mark) = input else { continue };
        let records = keys.entry(*key).or_default();
        records.push((value[0], *time));
        if !records.len().is_multiple_of(slide) {
            continue;
        }
        let first = records.len().saturating_sub(size);
        let window = &records[first..];
        let value: Vec<u32> = window.iter().map(|record| record.0).collect();
        let time = window.iter().map(|record| record.1).max().expect("it has records");
        let (first, count) = (first as u64, window.len() as u64);
        let result = CountResult { key: *key, first, count, value };
        let mark = mark.filter(|mark| time <= *mark);
        let mark = mark.map(|mark| format!(" behind {mark}")).unwrap_or_default();
        lines.push(format!("{result:?} at {time}{mark}"));
    }
    lines.sort_unstable();
    lines
}

#[test]
fn count_windows_are_right_in_every_mode() {
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let size = random.between(1, 12);
        let slide = if random.is_chosen(30) { size } else { random.between(1, 12) };
        let joined = |a: &Vec<u32>, b: &Vec<u32>| [a.as_slice(), b.as_slice()].concat();
        let window = CountWindow::sliding(size as u64, slide as u64);
        let script = script(&mut random);
        let given = verify_operator(
            || CountOperator::<u8, Vec<u32>, _> {
                window,
                aggregate: Arc::new(Reduce::with(joined)),
                state: KeyedTable::new(),
                records: PhantomData,
            },
            Some(&|record: &Record| hash_key(&record.key).expect("a number has a hash")),
            &script,
        )
        .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let expected = expected(&script, size as usize, slide as usize);
        assert_eq!(given.main, expected, "seed {seed}: {size} every {slide}");
    }
}

#[test]
fn wrong_counts_have_a_problem() {
    for window in [
        CountWindow::tumbling(0),
        CountWindow::sliding(0, 3),
        CountWindow::sliding(3, 0),
        CountWindow::sliding(3, 4),
    ] {
        assert!(window.problem().is_some(), "{window:?}");
    }
    assert_eq!(CountWindow::sliding(3, 4).with_gaps().problem(), None);
    assert_eq!(CountWindow::tumbling(u64::MAX).problem(), None);
}
