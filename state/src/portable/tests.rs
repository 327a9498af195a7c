//! Tests of the portable format: round trips, ranges, every damaged byte, every truncation.

use super::*;
use crate::error::StateError;
use crate::key_group::{KeyGroup, KeyGroupCount, KeyGroupRange};
use crate::state_key::{Namespace, StateKey, TableId};
use crate::testing::SplitMix;

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Random sorted entries in some of the 128 key groups.
fn entries(seed: u64, number: u64, value_bytes: u64) -> Entries {
    let mut random = SplitMix(seed);
    let mut entries = Entries::new();
    for i in 0..number {
        let key = StateKey {
            key_group: KeyGroup::new((random.below(30) * 4) as u16),
            table: TableId(random.below(2) as u16),
            namespace: Namespace(random.below(3) as i64 - 1, 0),
            key: &i.to_be_bytes()[random.below(6) as usize..],
        };
        let mut state_key = Vec::new();
        key.encode(&mut state_key);
        let value = (0..random.below(value_bytes + 1)).map(|_| random.next() as u8).collect();
        entries.push((state_key, value));
    }
    entries.sort();
    entries.dedup_by(|a, b| a.0 == b.0);
    entries
}

fn write(entries: &Entries) -> Vec<u8> {
    let mut writer = PortableWriter::new(KeyGroupCount::default());
    for (key, value) in entries {
        writer.push(key, value).expect("in order");
    }
    writer.finish().expect("memory")
}

fn read(reader: &PortableReader, range: KeyGroupRange) -> Result<Entries, StateError> {
    let mut found = Entries::new();
    reader.for_each(range, &mut |key, value| {
        let mut state_key = Vec::new();
        key.encode(&mut state_key);
        found.push((state_key, value.expect("nothing was removed").to_owned()));
        Ok(())
    })?;
    Ok(found)
}

/// Reads all entries, then each by its key.
fn read_all(bytes: &[u8]) -> Result<Entries, StateError> {
    let reader = PortableReader::of_bytes(bytes)?;
    let entries = read(&reader, KeyGroupRange::new(0, u16::MAX))?;
    let mut lookup = Lookup::new(&reader)?;
    for (key, value) in &entries {
        assert_eq!(lookup.get(key)?, Found::Value(value));
    }
    Ok(entries)
}

#[test]
fn what_is_written_is_read() {
    for (number, value_bytes) in [(0, 0), (1, 0), (1, 200_000), (50, 30), (9_000, 100)] {
        let entries = entries(number, number, value_bytes);
        let bytes = write(&entries);
        assert_eq!(read_all(&bytes).expect("reads"), entries);
        let reader = PortableReader::of_bytes(&bytes).expect("opens");
        assert_eq!(reader.entries(), entries.len() as u64);
        assert_eq!(reader.key_group_count(), KeyGroupCount::default());
    }
}

#[test]
fn large_key_groups_have_several_blocks() {
    let key = |i: u32| [&[0; 20][..], &i.to_be_bytes()].concat();
    let entries: Entries = (0..1_000).map(|i| (key(i), vec![i as u8; 300])).collect();
    let bytes = write(&entries);
    assert_eq!(read_all(&bytes).expect("reads"), entries);
    // A block that is left out would be missed even though each block by itself is sound.
    let reader = PortableReader::of_bytes(&bytes).expect("opens");
    assert_eq!(read(&reader, KeyGroupRange::new(0, 1)).expect("reads").len(), 1_000);
}

#[test]
fn blocks_end_anywhere_in_what_is_read_at_once() {
    let key = |i: u32| [&[0; 20][..], &i.to_be_bytes()].concat();
    let random: Vec<u8> = (0..70_000_u32).map(|i| ((i * i) >> 7) as u8).collect();
    // Blocks of one entry: the second ends a few bytes before or behind the first 64 KiB.
    for short in 0..80 {
        let lengths = [40_000, (64 << 10) - 40_000 - short, 9_000, 66_000, 0];
        let entries: Entries =
            (0..).zip(lengths).map(|(i, length)| (key(i), random[..length].to_vec())).collect();
        assert_eq!(read_all(&write(&entries)).expect("reads"), entries);
    }
}

#[test]
fn ranges_give_their_key_groups_only() {
    let entries = entries(5, 2_000, 20);
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("part");
    std::fs::write(&path, write(&entries)).expect("writes");
    for reader in [
        PortableReader::of_bytes(&write(&entries)).expect("opens"),
        PortableReader::of_file(&path).expect("opens"),
    ] {
        for range in [(0, 128), (0, 0), (3, 5), (4, 5), (17, 90), (116, 128), (117, 128)] {
            let range = KeyGroupRange::new(range.0, range.1);
            let group = |key: &[u8]| StateKey::decode(key).expect("decodes").key_group;
            let expected: Entries =
                entries.iter().filter(|(key, _)| range.contains(group(key))).cloned().collect();
            assert_eq!(read(&reader, range).expect("reads"), expected);
        }
    }
}

#[test]
fn single_keys_are_found_and_others_are_not() {
    let entries = entries(5, 4_000, 60);
    let (kept, left_out): (Vec<_>, Vec<_>) =
        entries.into_iter().enumerate().partition(|(i, _)| i % 3 > 0);
    let mut writer = PortableWriter::new(KeyGroupCount::default());
    for (i, (key, value)) in &kept {
        writer.put(key, (i % 7 > 0).then_some(value)).expect("in order");
    }
    let reader = PortableReader::of_bytes(&writer.finish().expect("memory")).expect("opens");
    let found = |i: usize, value: &'static [u8]| match !i.is_multiple_of(7) {
        true => Found::Value(value),
        false => Found::Removed,
    };
    let mut lookup = Lookup::new(&reader).expect("opens");
    let mut random = SplitMix(3);
    for _ in 0..20_000 {
        let (i, (key, value)) = &kept[random.below(kept.len() as u64) as usize];
        assert_eq!(lookup.get(key).expect("reads"), found(*i, value.clone().leak()));
        let (_, (key, _)) = &left_out[random.below(left_out.len() as u64) as usize];
        assert_eq!(lookup.get(key).expect("reads"), Found::Nothing);
    }
    // In order, too, and behind the last.
    for (i, (key, value)) in &kept {
        assert_eq!(lookup.get(key).expect("reads"), found(*i, value.clone().leak()));
    }
    assert_eq!(lookup.get(&[0xff; 40]).expect("reads"), Found::Nothing);
    assert_eq!(lookup.get(&[0; 20]).expect("reads"), Found::Nothing);
}

#[test]
fn a_cursor_seeks() {
    let entries = entries(6, 4_000, 60);
    let reader = PortableReader::of_bytes(&write(&entries)).expect("opens");
    let mut random = SplitMix(4);
    for range in [KeyGroupRange::new(0, 128), KeyGroupRange::new(9, 70)] {
        let of_range =
            |key: &[u8]| range.contains(StateKey::decode(key).expect("decodes").key_group);
        let mut cursor = reader.cursor(range).expect("opens");
        for _ in 0..3_000 {
            let mut key = entries[random.below(entries.len() as u64) as usize].0.clone();
            match random.below(3) {
                0 => key.truncate(20),
                1 => key[1] = key[1].wrapping_add(1),
                _ => {}
            }
            let mut expected = entries.iter().filter(|(k, _)| *k >= key && of_range(k));
            let mut has_entry = cursor.seek(&key).expect("reads");
            for _ in 0..random.below(200) {
                let found = has_entry.then(|| (cursor.key(), cursor.value()));
                let next =
                    expected.next().map(|(key, value)| (key.as_slice(), Some(value.as_slice())));
                assert_eq!(found, next);
                if !has_entry {
                    break;
                }
                has_entry = cursor.advance().expect("reads");
            }
        }
    }
}

#[test]
fn the_spaces_are_counted() {
    let entries = entries(7, 900, 60);
    let reader = PortableReader::of_bytes(&write(&entries)).expect("opens");
    let mut expected = std::collections::BTreeMap::new();
    for (key, _) in &entries {
        let key = StateKey::decode(key).expect("decodes");
        *expected.entry((key.table, key.namespace)).or_insert(0) += 1;
    }
    let found = reader.spaces().iter().map(|s| ((s.table, s.namespace), s.entries));
    assert!(found.eq(expected));
}

#[test]
fn every_damaged_byte_is_found() {
    let good = write(&entries(1, 60, 9));
    for at in 0..good.len() {
        for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            let mut bad = good.clone();
            bad[at] ^= change;
            let found = read_all(&bad);
            assert!(matches!(found, Err(StateError::Corrupt { .. })), "{at} ^ {change}: {found:?}");
        }
    }
}

#[test]
fn every_truncation_and_extension_is_found() {
    let good = write(&entries(1, 60, 9));
    for length in 0..good.len() {
        let found = read_all(&good[..length]);
        assert!(matches!(found, Err(StateError::Corrupt { .. })), "{length}");
    }
    let more = [&good[..], &[0]].concat();
    assert!(matches!(read_all(&more), Err(StateError::Corrupt { .. })));
}

/// Bytes that nobody wrote, with a footer that is sound in itself.
#[test]
fn random_bytes_never_panic() {
    let good = write(&entries(2, 60, 9));
    let mut random = SplitMix(3);
    for _ in 0..20_000 {
        let mut bad = good.clone();
        for _ in 0..1 + random.below(8) {
            let at = random.below(bad.len() as u64) as usize;
            bad[at] = random.next() as u8;
        }
        if bad != good {
            assert!(read_all(&bad).is_err());
        }
    }
}

#[test]
fn a_missing_block_is_found_by_the_footer() {
    let key = |i: u32| [&[0; 20][..], &i.to_be_bytes()].concat();
    let all: Entries = (0..1_000).map(|i| (key(i), vec![i as u8; 300])).collect();
    let (whole, part) = (write(&all), write(&all[..900].to_vec()));
    // The blocks of the smaller file under the footer of the larger one.
    let footer_start = |bytes: &[u8]| {
        let at = bytes.len() - 8;
        at - u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
    };
    let forged = [&part[..footer_start(&part)], &whole[footer_start(&whole)..]].concat();
    assert!(matches!(read_all(&forged), Err(StateError::Corrupt { .. })));
}

#[test]
fn damage_names_the_file_and_the_offset() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("part");
    let mut bytes = write(&entries(1, 60, 9));
    bytes[40] ^= 1;
    std::fs::write(&path, &bytes).expect("writes");
    let reader = PortableReader::of_file(&path).expect("header and footer are sound");
    match read(&reader, KeyGroupRange::new(0, 128)) {
        Err(StateError::Corrupt { file, offset, .. }) => {
            assert_eq!((file.as_deref(), offset), (Some(path.as_path()), 26));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    let mut writer = PortableWriter::new(KeyGroupCount::default());
    writer.push(&[1; 24], b"").expect("in order");
    assert!(writer.push(&[1; 24], b"").is_err());
    assert!(writer.push(&[1; 23], b"").is_err());
    assert!(writer.push(&[1; 3], b"").is_err());
    writer.push(&[1; 25], b"").expect("in order");
}

#[test]
fn the_format_does_not_change() {
    let bytes = write(&entries(1, 60, 9));
    assert_eq!((bytes.len(), crc32fast::hash(&bytes)), (2911, 2_242_881_854));
}

#[test]
fn removed_keys_and_drops_are_read_again_and_their_damage_is_found() {
    let entries = entries(3, 40, 5);
    let dropped =
        |table, namespace| Dropped { key_groups: (3, 90), table: TableId(table), namespace };
    let mut writer = PortableWriter::new(KeyGroupCount::default());
    for (i, (key, value)) in entries.iter().enumerate() {
        writer.put(key, (i % 3 > 0).then_some(value)).expect("in order");
    }
    writer.drop_below(dropped(9, None));
    writer.drop_below(dropped(2, Some(Namespace(-5, i64::MAX))));
    let good = writer.finish().expect("memory");
    let reader = PortableReader::of_bytes(&good).expect("opens");
    assert_eq!(reader.drops(), [dropped(2, Some(Namespace(-5, i64::MAX))), dropped(9, None)]);
    let mut at = 0;
    let all = KeyGroupRange::new(0, u16::MAX);
    reader
        .for_each(all, &mut |_, value| {
            assert_eq!(value, (at % 3 > 0).then_some(entries[at].1.as_slice()));
            at += 1;
            Ok(())
        })
        .expect("reads");
    assert_eq!(at, entries.len());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let found = PortableReader::of_bytes(&bad).and_then(|reader| {
            reader.for_each(all, &mut |_, _| Ok(()))?;
            let mut lookup = Lookup::new(&reader)?;
            entries.iter().try_for_each(|(key, _)| lookup.get(key).map(drop))
        });
        assert!(matches!(found, Err(StateError::Corrupt { .. })), "{at}: {found:?}");
    }
}

#[test]
fn files_hold_the_same_bytes_as_memory() {
    let entries = entries(8, 9_000, 400);
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("run");
    let mut writer = PortableWriter::to_file(KeyGroupCount::default(), &path).expect("is new");
    for (key, value) in &entries {
        writer.push(key, value).expect("in order");
    }
    let length = writer.length();
    writer.finish().expect("writes");
    let bytes = std::fs::read(&path).expect("reads");
    assert!(bytes == write(&entries) && bytes.len() as u64 > length);
    // A part of a larger file.
    std::fs::write(&path, [&[7; 100], &bytes[..], &[9; 50]].concat()).expect("writes");
    let reader = PortableReader::of_file_part(&path, 100, bytes.len() as u64).expect("opens");
    assert_eq!(read(&reader, KeyGroupRange::new(0, u16::MAX)).expect("reads"), entries);
}
