//! Tests of runs over one another: merging some of them changes nothing that all say together.

use std::collections::BTreeMap;

use super::*;
use crate::changes::{ChangeLog, ChangeStream, GatheredChanges, LogLimits};
use crate::error::Result;
use crate::key_group::KeyGroup;
use crate::state_key::Namespace;
use crate::testing::SplitMix;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn count() -> KeyGroupCount {
    KeyGroupCount::new(8).expect("in range")
}

fn all() -> KeyGroupRange {
    KeyGroupRange::all(count())
}

/// Runs of random changes, and what they say together.
fn random_runs(random: &mut SplitMix, number: usize) -> (Vec<LimitedRun>, Contents) {
    let mut contents = Contents::new();
    let mut runs = Vec::new();
    while runs.len() < number {
        let mut writer = PortableWriter::new(count());
        let mut changes = BTreeMap::new();
        for _ in 0..random.below(30) {
            let mut key = Vec::new();
            let number = random.below(40);
            let state_key = StateKey {
                key_group: KeyGroup::new((number % 8) as u16),
                table: TableId((number % 2) as u16),
                namespace: Namespace(random.below(3) as i64, 0),
                key: &[number as u8],
            };
            state_key.encode(&mut key);
            let value = (random.below(3) > 0).then(|| vec![random.next() as u8; 3]);
            changes.insert(key, value);
        }
        if random.below(4) == 0 {
            let key_groups = if random.below(2) == 0 { (0, 8) } else { (2, 5) };
            let namespace = (random.below(3) > 0).then(|| Namespace(random.below(3) as i64, 0));
            let dropped = Dropped { key_groups, table: TableId(random.below(2) as u16), namespace };
            writer.drop_below(dropped);
            contents.retain(|key, _| !dropped.covers(&StateKey::decode(key).expect("is one")));
        }
        for (key, value) in changes {
            writer.put(&key, value.as_deref()).expect("in order");
            match value {
                Some(value) => drop(contents.insert(key, value)),
                None => drop(contents.remove(&key)),
            }
        }
        let bytes = writer.finish().expect("memory");
        runs.push((PortableReader::of_bytes(&bytes).expect("opens"), all()));
    }
    (runs, contents)
}

fn read(runs: &[LimitedRun]) -> Contents {
    let mut found = Contents::new();
    RestoreSource::new(runs.to_vec())
        .for_each(all(), |key, value| {
            let mut state_key = Vec::new();
            key.encode(&mut state_key);
            assert!(found.insert(state_key, value.to_owned()).is_none());
            Ok(())
        })
        .expect("reads");
    found
}

#[test]
fn merging_some_runs_changes_nothing() {
    for seed in 0..300 {
        let random = &mut SplitMix(seed);
        let (mut runs, expected) = random_runs(random, 6);
        assert_eq!(read(&runs), expected);
        while runs.len() > 1 {
            let start = random.below(runs.len() as u64 - 1) as usize;
            let end = start + 2 + random.below((runs.len() - start - 1) as u64) as usize;
            let writer = PortableWriter::new(count());
            let mut merge = RunMerge::new(&runs[start..end], start == 0, writer).expect("opens");
            while !merge.step(1 + random.below(200)).expect("reads") {}
            let merged = merge.finish().expect("memory");
            let merged = merged.map(|bytes| PortableReader::of_bytes(&bytes).expect("opens"));
            // What lies over nothing holds nothing that is gone.
            if let (0, Some(run)) = (start, &merged) {
                assert!(run.drops().is_empty());
                run.for_each(all(), &mut |_, value| {
                    assert!(value.is_some());
                    Ok(())
                })
                .expect("reads");
            }
            runs.splice(start..end, merged.map(|run| (run, all())));
            assert_eq!(read(&runs), expected, "seed {seed}, {start}..{end}");
        }
    }
}

#[test]
fn tables_are_left_out_and_ranges_kept_to() {
    for seed in 0..100 {
        let random = &mut SplitMix(seed);
        let (runs, contents) = random_runs(random, 4);
        let range = KeyGroupRange::new(random.below(4) as u16, 4 + random.below(5) as u16);
        let left_out = BTreeSet::from([TableId(random.below(3) as u16)]);
        let mut found = Vec::new();
        RestoreSource::new(runs)
            .for_each_but(&left_out, range, |key, value| {
                let mut state_key = Vec::new();
                key.encode(&mut state_key);
                found.push((state_key, value.to_owned()));
                Ok(())
            })
            .expect("reads");
        let expected = contents.into_iter().filter(|(key, _)| {
            let key = StateKey::decode(key).expect("is one");
            range.contains(key.key_group) && !left_out.contains(&key.table)
        });
        assert!(found.into_iter().eq(expected), "seed {seed}");
    }
}

/// Of a key the last change counts.
#[test]
fn a_log_is_read_as_it_was_written() -> Result<()> {
    let mut log = ChangeLog::default();
    let space = (TableId(1), Namespace(0, 0));
    for (key, value) in [(b"b", Some(1_u8)), (b"a", Some(2)), (b"b", Some(3)), (b"a", None)] {
        let put_key = |out: &mut Vec<u8>| {
            out.extend_from_slice(key);
            Ok(())
        };
        let put_value = value.map(|value| {
            move |out: &mut Vec<u8>| {
                out.push(value);
                Ok(())
            }
        });
        log.push(space, KeyGroup::new(3), put_key, put_value)?;
    }
    let mut gathered = GatheredChanges::default();
    let stream = ChangeStream::new(LogLimits::UNBOUNDED);
    gathered.add(log, &stream);
    let run = gathered.into_run(count(), &stream)?.expect("has changes");
    let mut found = Vec::new();
    PortableReader::of_bytes(&run)?.for_each(all(), &mut |key, value| {
        found.push((key.key.to_owned(), value.map(<[u8]>::to_owned)));
        Ok(())
    })?;
    assert_eq!(found, [(b"a".to_vec(), None), (b"b".to_vec(), Some(vec![3]))]);
    Ok(())
}
