//! Tests of damage: whatever happens to an object of a published checkpoint, it is found and named,
//! and no older checkpoint is given instead.

use super::{ID, Place, everywhere, large, manifest, names, open, publish, write};
use crate::{CheckpointStore, Error, ErrorKind, LocalPart, PartFile};

use super::super::manifest_key;

/// What can happen to the bytes of an object: one bit, a block of zeros, an end that is missing,
/// something behind the end.
fn damages(sound: &[u8]) -> Vec<Vec<u8>> {
    let length = sound.len();
    let mut all = Vec::new();
    let ends = (0..length.min(20)).chain(length.saturating_sub(20)..length);
    let step = length.div_ceil(32).max(1);
    for at in ends.chain((0..length).step_by(step)) {
        let mut flipped = sound.to_vec();
        flipped[at] ^= 1 << (at % 8);
        all.push(flipped);
        all.push(sound[..at].to_vec());
    }
    for start in (0..length).step_by(step.max(512)) {
        let mut torn = sound.to_vec();
        let end = length.min(start + 512);
        torn[start..end].fill(0);
        all.push(torn);
    }
    all.push([sound, b"\n"].concat());
    all.push([sound, sound].concat());
    all.retain(|damaged| damaged != sound);
    all
}

fn expect_damaged(error: &Error, key: &str) {
    assert!(matches!(error, Error::Damaged { id, .. } if *id == ID), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(key), "{error}");
}

#[test]
fn every_damage_of_a_part_is_found() {
    everywhere(|place| {
        let mut store = open(place);
        let (small, big) = (write(&mut store, 7, b"contents"), write(&mut store, 7, &large(0)));
        store.publish(&manifest(7, &[&small, &big])).expect("publishes");
        for part in [&small, &big] {
            let key = format!("files/{}", part.name);
            let sound = place().read(&key).expect("reads").expect("exists");
            for damaged in damages(&sound) {
                let is_grown = damaged.starts_with(&sound);
                place().put(&key, &damaged).expect("writes");
                let store = open(place);
                let (read, local) = (store.read_part(part), store.local_part(part));
                // What is behind the end of a part is no part of it.
                if is_grown {
                    assert!(read.expect("all there") == sound);
                } else {
                    expect_damaged(&read.expect_err("damaged"), &key);
                    match local {
                        // A file's contents are checked by those who read them.
                        Ok(LocalPart::File(_)) => assert_eq!(damaged.len(), sound.len()),
                        Ok(LocalPart::Bytes(_)) => panic!("damage is not found"),
                        Err(error) => expect_damaged(&error, &key),
                    }
                }
            }
            place().delete(&key).expect("deletes");
            let error = open(place).read_part(part).expect_err("missing");
            expect_damaged(&error, &key);
            assert!(error.to_string().contains("is missing"), "{error}");
            expect_damaged(&open(place).local_part(part).expect_err("missing"), &key);
            place().put(&key, &sound).expect("writes");
        }
        let store = open(place);
        assert_eq!(store.read_part(&small).expect("mended"), b"contents");
        assert!(store.read_part(&big).expect("mended") == large(0));
    });
}

#[test]
fn every_damage_of_the_newest_manifest_stops_the_job_and_deletes_nothing() {
    everywhere(|place| {
        let mut store = open(place);
        publish(&mut store, 6);
        publish(&mut store, 7);
        let late = write(&mut store, 8, &large(0));
        let all = names(place);
        let key = manifest_key(ID);
        let sound = place().read(&key).expect("reads").expect("exists");
        for damaged in damages(&sound) {
            place().put(&key, &damaged).expect("writes");
            let mut store = open(place);
            let error = store.latest().expect_err("damaged");
            match &error {
                Error::Incompatible { path, .. } => assert!(path.ends_with(&key), "{error}"),
                error => expect_damaged(error, &key),
            }
            // The one before it can be asked for by name.
            let older = store.load(crate::CheckpointId(6)).expect("sound");
            assert_eq!(older.id.0, 6);
            store.retain(2).expect("deletes nothing");
            assert_eq!(names(place), all);
        }
        assert!(all.contains(&late.name));
        place().put(&key, &sound).expect("writes");
        assert_eq!(open(place).latest().expect("sound").map(|found| found.id), Some(ID));
    });
}

#[test]
fn a_manifest_of_another_number_is_damage() {
    everywhere(|place| {
        publish(&mut open(place), 7);
        let bytes = place().read(&manifest_key(ID)).expect("reads").expect("exists");
        move_manifest(place, &bytes);
        let error = open(place).latest().expect_err("moved");
        assert!(error.to_string().contains("manifest of checkpoint 7"), "{error}");
    });
}

fn move_manifest(place: Place<'_>, bytes: &[u8]) {
    place().delete(&manifest_key(ID)).expect("deletes");
    place().create(&manifest_key(crate::CheckpointId(9)), bytes).expect("writes");
}

#[test]
fn a_part_that_no_store_wrote_is_not_read() {
    everywhere(|place| {
        let store = open(place);
        for name in ["../LOCK", "..", "a/b", ""] {
            let part = PartFile { name: name.to_owned(), offset: 0, bytes: 0, crc32: 0 };
            assert!(store.read_part(&part).is_err(), "{name}");
            assert!(store.local_part(&part).is_err(), "{name}");
        }
    });
}
