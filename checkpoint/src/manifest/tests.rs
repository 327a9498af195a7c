//! Tests of the manifest's format: it comes back as written, and every damage is refused.

use std::path::Path;

use super::{FORMAT_VERSION, Manifest, sample};
use crate::{Error, ErrorKind};

fn decode(bytes: &[u8]) -> Result<Manifest, Error> {
    Manifest::decode(Path::new("dir/manifest"), bytes)
}

#[test]
fn a_manifest_comes_back() {
    let manifest = sample::manifest();
    let bytes = manifest.encode().expect("the sample is sound");
    assert_eq!(decode(&bytes).expect("just written"), manifest);
    assert!(bytes.starts_with(b"thalweg-manifest 2 "));
}

/// The format is a promise: this line and these names must stay readable.
#[test]
fn the_format_is_stable() {
    let golden = concat!(
        r#"{"job":"j","id":3,"epoch":4,"kind":"final","thalweg_version":"0.1.0","created_ms":5,"#,
        r#""key_group_count":128,"parallelism":1,"finished":true,"operators":[],"#,
        r#""subtasks":[{"subtask":{"task":1,"index":0},"snapshot":{"operators":[{"#,
        r#""operator":"o","runs":[{"file":{"name":"e1-c2-0-p","offset":6,"bytes":2,"crc32":9},"#,
        r#""key_groups":[0,64]}],"key_groups":[0,128],"watermark":-1}],"#,
        r#""splits":[{"source":"s","split":"x","position":"00ff","generator":"","#,
        r#""finished":true}],"counters":[["n",4]]}}],"#,
        r#""committables":[{"sink":"k","committables":["0a",""]}]}"#
    );
    let bytes = format!("thalweg-manifest 2 68fa9063 {}\n{golden}", golden.len());
    let manifest = decode(bytes.as_bytes()).expect("golden bytes are read");
    assert_eq!(manifest.encode().expect("sound"), bytes.as_bytes());
    assert_eq!(manifest.committables[0].committables, [vec![10], vec![]]);
}

#[test]
fn every_changed_byte_is_refused() {
    let bytes = sample::manifest().encode().expect("the sample is sound");
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let error = decode(&damaged).expect_err("one bit differs");
            assert!(error.to_string().contains("dir/manifest"), "{error}");
        }
    }
}

#[test]
fn every_truncation_and_addition_is_refused() {
    let mut bytes = sample::manifest().encode().expect("the sample is sound");
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length]).is_err(), "{length}");
    }
    bytes.push(b'\n');
    assert!(decode(&bytes).is_err());
}

#[test]
fn another_format_says_which_one_is_read() {
    let error = decode(b"thalweg-manifest 3 whatever\n").expect_err("from the future");
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert_eq!(FORMAT_VERSION, 2);
    assert_eq!(error.to_string(), "dir/manifest has manifest format 3, this build reads format 2");
}

#[test]
fn sound_checksums_do_not_make_a_manifest() {
    for json in ["", "{}", "null", "[", "{\"job\":1}"] {
        let mut bytes = super::header(json.as_bytes()).into_bytes();
        bytes.extend_from_slice(json.as_bytes());
        let error = decode(&bytes).expect_err("fields are missing");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{json}");
    }
}

#[test]
fn a_split_read_twice_is_refused() {
    let mut manifest = sample::manifest();
    let again = manifest.subtasks[0].snapshot.splits[0].clone();
    manifest.subtasks[1].snapshot.splits.push(again);
    let error = manifest.encode().expect_err("split c is on two subtasks");
    assert!(error.to_string().contains("\"c\""), "{error}");
}

#[test]
fn a_run_twice_in_a_part_is_refused_and_in_two_parts_is_not() {
    let mut manifest = sample::manifest();
    let run = manifest.subtasks[2].snapshot.operators[0].runs[0].clone();
    manifest.subtasks[3].snapshot.operators[0].runs.push(run.clone());
    manifest.encode().expect("shared after a change of parallelism");
    manifest.subtasks[2].snapshot.operators[0].runs.push(run);
    assert!(manifest.encode().is_err());
}
