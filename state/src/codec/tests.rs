//! Tests of the codec: round trips, order of keys, limits, damage.

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
enum Shape {
    Dot,
    Line { from: i64, to: i64 },
    Text(String, Option<Vec<u8>>),
}

fn shapes() -> Vec<Shape> {
    vec![
        Shape::Dot,
        Shape::Line { from: i64::MIN, to: -1 },
        Shape::Text("Thalweg".to_owned(), None),
        Shape::Text(String::new(), Some(vec![0, 255])),
    ]
}

#[test]
fn values_and_keys_round_trip() {
    let mut bytes = Vec::new();
    encode(&shapes(), &mut bytes).expect("encodes");
    assert_eq!(decode::<Vec<Shape>>(&bytes), Ok(shapes()));
    bytes.clear();
    encode_key(&shapes(), &mut bytes).expect("encodes");
    assert_eq!(decode_key::<Vec<Shape>>(&bytes), Ok(shapes()));
}

#[test]
fn encodings_do_not_change() {
    let mut bytes = Vec::new();
    encode(&(300_u32, "ab"), &mut bytes).expect("encodes");
    assert_eq!(bytes, [251, 44, 1, 2, b'a', b'b']);
    bytes.clear();
    encode_key(&(300_u32, "ab"), &mut bytes).expect("encodes");
    assert_eq!(bytes, [0, 0, 1, 44, 0, 0, 0, 0, 0, 0, 0, 2, b'a', b'b']);
}

#[test]
fn unsigned_keys_sort_as_numbers() {
    let mut last = Vec::new();
    for key in [0_u64, 1, 255, 256, 65_535, 1 << 40, u64::MAX] {
        let mut bytes = Vec::new();
        encode_key(&key, &mut bytes).expect("encodes");
        assert!(last < bytes, "{key}");
        last = bytes;
    }
}

#[test]
fn trailing_and_missing_bytes_are_errors() {
    let mut bytes = Vec::new();
    encode(&shapes(), &mut bytes).expect("encodes");
    for length in 0..bytes.len() {
        assert!(decode::<Vec<Shape>>(&bytes[..length]).is_err(), "{length}");
    }
    bytes.push(0);
    assert_eq!(decode::<Vec<Shape>>(&bytes), Err(CodecError::TrailingBytes { left: 1 }));
}

#[test]
fn lengths_beyond_the_limit_are_refused() {
    let mut bytes = vec![7];
    let long = vec![1_u8; MAX_ENCODED_BYTES];
    assert!(matches!(encode(&long, &mut bytes), Err(CodecError::TooLong { .. })));
    assert_eq!(bytes, [7], "nothing is left behind");
    // A string that claims 2^60 bytes.
    let mut claim = vec![253];
    claim.extend_from_slice(&(1_u64 << 60).to_le_bytes());
    assert!(decode::<String>(&claim).is_err());
}

#[test]
fn a_failing_serialize_leaves_nothing_behind() {
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let mut bytes = vec![7];
    assert!(matches!(encode(&(1_u64, Fails), &mut bytes), Err(CodecError::Encode(_))));
    assert_eq!(bytes, [7]);
}

#[test]
fn every_damage_to_a_frame_is_found() {
    let good = frame(FrameKind::PORTABLE_HEADER, b"payload");
    assert_eq!(unframe(&good), Ok(b"payload".as_slice()));
    assert!(unframe_kind(FrameKind::PORTABLE_FOOTER, &good).is_err());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(unframe(&bad).is_err(), "byte {at}, bit {bit}");
        }
        assert!(unframe(&good[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_later_version_is_named() {
    let mut later = frame(FrameKind::PORTABLE_HEADER, b"payload");
    later[5] = 9;
    assert_eq!(unframe(&later), Err(CodecError::UnknownFrame { codec: 1, version: 9 }));
}
