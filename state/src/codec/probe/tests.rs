//! A zoo of key types: what is good is accepted, what is bad is refused and named.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::super::{decode_key, encode_key};
use super::check_key;

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
struct Unit;

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
struct User(u64);

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
struct Route {
    from: String,
    to: Option<Arc<str>>,
    users: Vec<User>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Plain,
    Of(User),
    Two(u8, i16),
    Named { route: Route, of: BTreeMap<String, u8> },
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
struct List {
    head: u8,
    tail: Option<Box<List>>,
    others: Vec<List>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
enum Tree {
    Node(Box<Tree>, Box<Tree>),
    Leaf,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
#[serde(tag = "kind")]
enum Tagged {
    A { number: u64 },
    B,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
#[serde(tag = "kind", content = "content")]
enum Adjacent {
    A(u64),
    B,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
struct Flattened {
    id: u64,
    #[serde(flatten)]
    rest: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
enum LateInAnEnum {
    Fine,
    AlsoFine(u8),
    Bad { when: DateTime<Utc>, what: (u8, Untagged) },
}

fn accepts<K: serde::de::DeserializeOwned>() {
    assert_eq!(check_key::<K>(), Ok(()), "{}", std::any::type_name::<K>());
}

fn refuses<K: serde::de::DeserializeOwned>(what: &str) {
    let error = check_key::<K>().expect_err(std::any::type_name::<K>());
    assert!(error.contains(what), "{error}");
}

#[test]
fn keys_that_can_be_encoded_are_accepted() {
    accepts::<()>();
    accepts::<Unit>();
    accepts::<(u8, i128, char, bool)>();
    accepts::<[u16; 3]>();
    accepts::<String>();
    accepts::<Arc<str>>();
    accepts::<Box<[u8]>>();
    accepts::<Option<Option<User>>>();
    accepts::<Route>();
    accepts::<Kind>();
    accepts::<List>();
    accepts::<Tree>();
    accepts::<DateTime<Utc>>();
    accepts::<(NaiveDate, Kind)>();
    accepts::<std::num::NonZeroU32>();
    accepts::<std::net::IpAddr>();
    accepts::<std::time::Duration>();
    accepts::<Result<u8, String>>();
    accepts::<BTreeMap<u8, Kind>>();
}

#[test]
fn keys_that_cannot_be_decoded_are_refused_and_named() {
    refuses::<Untagged>("`Untagged` cannot be a key");
    refuses::<Tagged>("untagged");
    refuses::<Flattened>("flatten");
    refuses::<LateInAnEnum>("`LateInAnEnum`");
    refuses::<Option<Vec<Untagged>>>("without names and types");
    refuses::<(u8, f64)>("floating-point");
    refuses::<BTreeMap<u8, Option<f32>>>("floating-point");
}

/// What the probe says of a type is what the codec does with its values.
#[test]
fn the_codec_agrees() {
    fn round_trips<K>(key: &K) -> bool
    where
        K: Serialize + serde::de::DeserializeOwned + PartialEq,
    {
        let mut bytes = Vec::new();
        let is_encoded = encode_key(key, &mut bytes).is_ok();
        is_encoded && decode_key::<K>(&bytes).is_ok_and(|decoded| decoded == *key)
    }
    let tree = Tree::Node(Box::new(Tree::Leaf), Box::new(Tree::Leaf));
    assert!(round_trips(&tree));
    assert!(round_trips(&Kind::Two(1, -1)));
    assert!(round_trips(&DateTime::<Utc>::UNIX_EPOCH));
    assert_eq!(round_trips(&Adjacent::A(7)), check_key::<Adjacent>().is_ok());
    assert_eq!(round_trips(&Adjacent::B), check_key::<Adjacent>().is_ok());
    assert!(!round_trips(&Untagged::Number(7)));
    assert!(!round_trips(&Tagged::A { number: 7 }));
    let rest = BTreeMap::from([("a".to_owned(), 1)]);
    assert!(!round_trips(&Flattened { id: 7, rest }));
}
