//! Tests of the key hash: golden values, what is told apart, spread over key groups and slots.

use serde::Serialize;

use super::*;

#[derive(Serialize)]
struct Newtype(u64);

#[derive(Serialize)]
struct Pair {
    left: u32,
    right: &'static str,
}

#[derive(Serialize)]
enum Choice {
    First,
    Second(u8),
    Third { field: u8 },
    Fourth(u8, u8),
}

fn hash<K: Serialize + ?Sized>(key: &K) -> u64 {
    hash_key(key).expect("hashes")
}

/// Snapshots depend on these values: a change needs a new `HASH_VERSION`.
#[test]
fn hashes_never_change() {
    let found = [
        hash(&0_u64),
        hash(&1_u64),
        hash(&u64::MAX),
        hash(&-1_i32),
        hash(&true),
        hash(&'x'),
        hash(&(u128::MAX - 5)),
        hash(""),
        hash("Thalweg"),
        hash(&("a", "bc")),
        hash(&Pair { left: 7, right: "r" }),
        hash(&Some(1_u8)),
        hash(&Option::<u8>::None),
        hash(&vec![1_u16, 2, 3]),
        hash(&Choice::First),
        hash(&Choice::Second(1)),
        hash(&Choice::Third { field: 1 }),
        hash(&Choice::Fourth(1, 2)),
        hash(&1.5_f64),
        hash(&()),
    ];
    assert_eq!(found.map(|hash| format!("{hash:016x}")), GOLDEN);
}

const GOLDEN: [&str; 20] = [
    "ca813bf4c7abf0a9",
    "5ed9c758b9c48de0",
    "d111bbf2944bfa09",
    "d111bbf2944bfa09",
    "5ed9c758b9c48de0",
    "7ad2b3bc2a6104c6",
    "74d2ee37d5a9286f",
    "6116dc3e6e0f4bb1",
    "bb517c458072acfd",
    "78457e2046b57369",
    "3800dde1ff10904a",
    "cc1a96e4cfa80b0b",
    "ca813bf4c7abf0a9",
    "db282dc116a19c50",
    "ca813bf4c7abf0a9",
    "cc1a96e4cfa80b0b",
    "17398dc471a85b58",
    "a1fa8780e4e4106a",
    "3cc6816910e1312f",
    "ca813bf4c7abf0a9",
];

#[test]
fn widths_and_wrappers_do_not_matter() {
    assert_eq!(hash(&7_u8), hash(&7_u64));
    assert_eq!(hash(&-7_i8), hash(&-7_i64));
    assert_eq!(hash(&Newtype(7)), hash(&7_u64));
    assert_eq!(hash(&Pair { left: 7, right: "r" }), hash(&(7_u64, "r")));
    assert_eq!(hash(&"text".to_owned()), hash("text"));
}

#[test]
fn composites_are_told_apart() {
    let all = [
        hash(&("a", "bc")),
        hash(&("ab", "c")),
        hash(&("abc", "")),
        hash(&("", "abc")),
        hash("abc"),
        hash(&(1_u8, 2_u8)),
        hash(&(2_u8, 1_u8)),
        hash(&vec![1_u8, 2]),
        hash(&vec![vec![1_u8], vec![2]]),
        hash(&vec![vec![1_u8, 2], vec![]]),
        hash(&vec![vec![], vec![1_u8, 2]]),
        hash(&Vec::<u8>::new()),
        hash(&(Some(1_u8), Option::<u8>::None)),
        hash(&(Option::<u8>::None, Some(1_u8))),
    ];
    for (i, one) in all.iter().enumerate() {
        for (j, other) in all.iter().enumerate() {
            assert_eq!(one == other, i == j, "{i} {j}");
        }
    }
}

#[test]
fn variants_are_told_apart() {
    let first = hash(&Choice::First);
    let others =
        [hash(&Choice::Second(0)), hash(&Choice::Third { field: 0 }), hash(&Choice::Fourth(0, 0))];
    assert!(others.iter().all(|&other| other != first));
    assert!(others[0] != others[1] && others[1] != others[2] && others[0] != others[2]);
}

/// Pearson's chi-squared statistic of the bits of hashes at `shift`, over its degrees of freedom:
/// near 1 for an even spread.
fn unevenness(hashes: &[u64], shift: u32) -> f64 {
    let mut counts = [0_u32; 128];
    hashes.iter().for_each(|hash| counts[(hash >> shift) as usize & 127] += 1);
    let expected = hashes.len() as f64 / 128.0;
    let sum: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
    sum / 127.0
}

#[test]
fn keys_spread_over_key_groups_and_slots() {
    let strides = [1_u64, 2, 128, 1_000, 4_096, 1 << 32, 1 << 50];
    for stride in strides {
        let hashes: Vec<u64> = (0..20_000_u64).map(|i| hash(&i.wrapping_mul(stride))).collect();
        for shift in [0, 15, 22, 32, 48, 57] {
            let found = unevenness(&hashes, shift);
            assert!(found < 2.0, "stride {stride}, shift {shift}: {found}");
        }
    }
    let texts: Vec<u64> = (0..20_000).map(|i| hash(&format!("user-{i}"))).collect();
    let pairs: Vec<u64> = (0..20_000_u64).map(|i| hash(&(i / 100, i % 100))).collect();
    for shift in [0, 15, 32] {
        assert!(unevenness(&texts, shift) < 2.0);
        assert!(unevenness(&pairs, shift) < 2.0);
    }
}

/// Of the keys of one key group, tables still see an even spread.
#[test]
fn key_groups_do_not_bias_slots() {
    let one_group: Vec<u64> =
        (0..2_000_000_u64).map(|i| hash(&i)).filter(|hash| hash & 127 == 5).collect();
    assert!(unevenness(&one_group, 15) < 2.0);
}

#[test]
fn a_failing_serialize_is_an_error() {
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    assert_eq!(hash_key(&(1, Fails)), Err(CodecError::Encode("no".to_owned())));
}
