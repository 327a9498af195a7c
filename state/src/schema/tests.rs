//! Types of all shapes are traced, and values of old types become values of new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::samples::{KINDS, samples};
use super::{Dynamic, Field, Fit, Migration, Recorded, Schema, TableSchema, TableTypes, schema_of};
use crate::backend::BackendConfig;
use crate::codec;
use crate::data::Data;
use crate::error::{Result, StateError};
use crate::hash::hash_key;
use crate::key_group::{KeyGroupCount, KeyGroupRange};
use crate::restore::RestoreSource;
use crate::state::OperatorState;
use crate::state_key::TableId;
use crate::table::{StateTable, Table};
use crate::testing::Writer;

/// Made-up values of `T` are encoded and read without `T`: they are what was made up.
fn round_trip<T: Data + Debug>() -> Schema {
    let schema = schema_of::<T>();
    assert!(schema.is_transparent(), "{schema:?}");
    let mut taken = 0;
    for kind in 0..KINDS {
        for sample in samples(&schema, kind).expect("is transparent") {
            let Ok(value) = T::deserialize(sample.clone()) else { continue };
            let mut bytes = Vec::new();
            codec::encode(&value, &mut bytes).expect("encodes");
            assert_eq!(Dynamic::decode(&schema, &bytes).expect("decodes"), sample, "{value:?}");
            taken += 1;
        }
    }
    assert!(taken > 0, "no value of {schema:?} was taken");
    schema
}

fn recorded<Old: Data>() -> TableSchema {
    TableSchema { key: schema_of::<u64>(), value: schema_of::<Old>() }
}

/// An old value as restored by a table of new ones.
fn change_with<Old: Data, New: Data>(old: &Old, migrations: &[Migration]) -> Result<New> {
    let recorded = recorded::<Old>();
    let types = TableTypes::of::<u64, New>();
    let mut bytes = Vec::new();
    codec::encode(old, &mut bytes)?;
    let bytes = match types.plan(&recorded, migrations) {
        None => bytes,
        Some(plan) => plan.change(TableId(3), &bytes)?,
    };
    Ok(codec::decode(&bytes)?)
}

/// An old value becomes `new`, and that this is so is foreseen.
fn becomes<Old: Data, New: Data + Debug + PartialEq>(old: Old, new: New) -> Fit {
    assert_eq!(change_with::<Old, New>(&old, &[]).expect("becomes the new type"), new);
    let fit = TableTypes::of::<u64, New>().fit(&recorded::<Old>(), &[]);
    assert!(!matches!(fit, Fit::Refused { .. }), "{fit:?}");
    fit
}

/// An old value does not become a new one, for this reason, and that is foreseen.
fn refused<Old: Data, New: Data + Debug>(old: Old, reason: &str) {
    let error = change_with::<Old, New>(&old, &[]).expect_err("is refused");
    assert!(matches!(error, StateError::Incompatible(_)), "{error:?}");
    assert!(error.to_string().contains(reason), "{error}");
    assert!(error.to_string().starts_with("table 3: "), "{error}");
    let Fit::Refused { reason: foreseen } =
        TableTypes::of::<u64, New>().fit(&recorded::<Old>(), &[])
    else {
        panic!("not foreseen: {error}");
    };
    assert!(foreseen.contains(reason), "{foreseen}");
}

macro_rules! types {
    ($($(#[$attribute:meta])* $kind:ident $name:ident $body:tt $(;)?)*) => {
        $(
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            $(#[$attribute])*
            $kind $name $body
        )*
    };
}

types! {
    struct Point { x: i64, y: f64 }
    enum Event { Start, Move(Point), Resize(u32, u32), Label { text: String, bold: bool } }
    struct Everything {
        a: (bool, i8, i16, i32, i64, i128),
        b: (u8, u16, u32, u64, u128),
        c: (f32, f64, char, String, ()),
        event: Event,
        maybe: Option<Option<u8>>,
        list: Vec<Event>,
        map: BTreeMap<String, Vec<Point>>,
        array: [u16; 5],
        set: BTreeSet<(u8, u8)>
    }
    struct Wrapper { inner: Box<Point>, shared: Arc<Point>, number: NonZeroU32 }
    enum Expression { Number(i64), Sum(Box<Expression>, Box<Expression>), Of(Vec<Expression>) }
    struct Tree { value: u8, children: Vec<Tree>, left: Option<Box<Tree>>, last: String }
    struct Times {
        at: chrono::DateTime<chrono::Utc>,
        day: chrono::NaiveDate,
        span: Duration,
        from: IpAddr,
        last: u8
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Newtype(Point);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pair<T>(T, T);

#[test]
fn types_of_all_shapes_are_seen_as_they_are_encoded() {
    assert_eq!(
        round_trip::<Point>(),
        Schema::Struct {
            name: "Point".into(),
            fields: vec![Field("x".into(), Schema::I64), Field("y".into(), Schema::F64)],
        }
    );
    round_trip::<Event>();
    round_trip::<Everything>();
    round_trip::<Wrapper>();
    round_trip::<Pair<Pair<Event>>>();
    round_trip::<(u64, Vec<Option<Event>>)>();
    round_trip::<Result<u8, String>>();
    round_trip::<(chrono::DateTime<chrono::Utc>, Duration, IpAddr)>();
    round_trip::<chrono::NaiveDate>();
    // Two texts that are parsed in different ways: its parts are seen all the same.
    assert!(schema_of::<Times>().is_transparent());
    assert_eq!(round_trip::<[u8; 32]>(), Schema::Array(32, Box::new(Schema::U8)));
    assert!(round_trip::<Newtype>().is_same(&schema_of::<Point>()), "newtypes are what they hold");
}

#[test]
fn what_contains_itself_is_opaque_there_and_only_there() {
    let Schema::Enum { variants, .. } = schema_of::<Expression>() else { panic!("is an enum") };
    assert_eq!(variants.len(), 3);
    let Schema::Struct { fields, .. } = schema_of::<Tree>() else { panic!("is a struct") };
    let tree = Schema::Opaque("Tree".into());
    assert_eq!(fields[1].1, Schema::Seq(Box::new(tree.clone())));
    assert_eq!(fields[2].1, Schema::Option(Box::new(tree)));
    assert_eq!(fields[3], Field("last".into(), Schema::Str));
}

#[test]
fn names_are_those_written_not_their_aliases() {
    types! {
        struct Renamed {
            #[serde(alias = "amount", alias = "zz")] total: u64,
            #[serde(alias = "a")] b: u8
        }
        enum Moved {
            #[serde(alias = "Alpha")] Omega,
            #[serde(alias = "Z")] Beta(u8),
            Gamma { #[serde(alias = "x")] y: u8 }
        }
        struct Both { renamed: Vec<Renamed>, moved: Moved }
    }
    let Schema::Struct { fields, .. } = round_trip::<Renamed>() else { panic!("is a struct") };
    assert_eq!([&*fields[0].0, &*fields[1].0], ["total", "b"]);
    let Schema::Enum { variants, .. } = round_trip::<Moved>() else { panic!("is an enum") };
    let names: Vec<&str> = variants.iter().map(|variant| variant.0.as_str()).collect();
    assert_eq!(names, ["Omega", "Beta", "Gamma"]);
    round_trip::<Both>();
}

/// Manifests hold this text: it must not change.
#[test]
fn schemas_are_written_as_ever() {
    types! {
        enum Small { A, B(u8), C(u8, u8), D { e: Option<String> } }
        struct Golden { id: u64, small: Small, map: BTreeMap<String, Vec<f64>>, bytes: [u8; 4] }
    }
    let text = serde_json::to_string(&schema_of::<Golden>()).expect("is written");
    assert_eq!(
        text,
        concat!(
            r#"{"struct":{"name":"Golden","fields":[["id","u64"],["small",{"enum":{"name":"#,
            r#""Small","variants":[["A","unit"],["B",{"newtype":"u8"}],"#,
            r#"["C",{"tuple":["u8","u8"]}],["D",{"struct":[["e",{"option":"str"}]]}]]}}],"#,
            r#"["map",{"map":["str",{"seq":"f64"}]}],["bytes",{"array":[4,"u8"]}]]}}"#
        )
    );
    let read: Schema = serde_json::from_str(&text).expect("is read");
    assert_eq!(read, schema_of::<Golden>());
}

#[test]
fn what_changes_nothing_is_the_same() {
    types! {
        struct Before { x: i64, y: f64 }
    }
    let fit = becomes(Before { x: 1, y: 2.5 }, Point { x: 1, y: 2.5 });
    assert_eq!(fit, Fit::Same);
    assert_eq!(becomes(Newtype(Point { x: 1, y: 0.5 }), Point { x: 1, y: 0.5 }), Fit::Same);
}

#[test]
fn fields_come_go_and_move() {
    types! {
        struct Before { a: u8, b: String, gone: Vec<u8> }
        struct After { b: String, #[serde(default)] new: u64, maybe: Option<u8>, a: u8 }
        struct Renamed { #[serde(alias = "a")] first: u8, #[serde(alias = "b")] second: String }
    }
    let before = Before { a: 7, b: "b".into(), gone: vec![1] };
    let fit = becomes(before.clone(), After { b: "b".into(), new: 0, maybe: None, a: 7 });
    let changes = ["added field new", "added field maybe", "removed field gone"].map(str::to_owned);
    assert_eq!(fit, Fit::Migrates { changes: changes.into() });
    becomes(before, Renamed { first: 7, second: "b".into() });
}

#[test]
fn numbers_become_wider_and_values_optional() {
    becomes(-7_i32, -7_i64);
    becomes(7_u8, 7_i16);
    becomes(7_u32, 7_u128);
    becomes(0.5_f32, 0.5_f64);
    becomes(7_u16, 7.0_f32);
    becomes((7_i32, 'x'), (7.0_f64, Some("x".to_owned())));
    becomes(vec![1_u8], vec![Some(1_u64)]);
    becomes([1_u8, 2, 3, 4], vec![1_u8, 2, 3, 4]);
}

#[test]
fn variants_are_found_by_name() {
    types! {
        enum Before { A, B(u8), C { x: u8 }, Old }
        enum After {
            New,
            C { x: u16, #[serde(default)] y: u8 },
            B(u64),
            A,
            #[serde(alias = "Old")] Other
        }
        enum Less { A, B(u8) }
    }
    becomes(Before::A, After::A);
    becomes(Before::B(3), After::B(3));
    becomes(vec![Before::C { x: 3 }], vec![After::C { x: 3, y: 0 }]);
    becomes(Before::Old, After::Other);
    refused::<_, Less>(Before::C { x: 3 }, "the variant `C` is gone");
}

#[test]
fn what_would_lose_or_invent_something_is_refused_with_the_place() {
    types! {
        struct Before { a: u64, inner: (u8, Inner) }
        struct Inner { x: Option<u8> }
        struct Narrow { a: u32, inner: (u8, Inner) }
        struct Added { a: u64, inner: (u8, Inner), b: u8 }
        #[serde(deny_unknown_fields)]
        struct Strict { a: u64 }
        struct Deep { a: u64, inner: (u8, Must) }
        struct Must { x: u8 }
    }
    let before = || Before { a: 1, inner: (1, Inner { x: Some(1) }) };
    refused::<_, Narrow>(before(), "at `a`: a u64 cannot become a u32");
    refused::<_, Added>(before(), "the field `b` is new: give it `#[serde(default)]`");
    refused::<_, Strict>(before(), "the field `inner` is gone");
    refused::<_, Deep>(before(), "at `inner.1.x`: an Option cannot become a u8");
    refused::<_, (u8, u8, u8)>((1_u8, 2_u8), "a tuple of 2 parts cannot become a tuple of 3 parts");
    refused::<_, u64>(-1_i32, "an i32 cannot become a u64");
    refused::<_, String>(
        Tree { value: 1, children: vec![], left: None, last: String::new() },
        "Tree",
    );
}

#[test]
fn functions_change_whole_values_and_parts_of_them() {
    types! {
        struct Before { cents: i64 }
        struct After { euros: f64 }
        struct Stored { seen: u32, state: Vec<Before> }
        struct StoredNow { seen: u32, state: Vec<After> }
    }
    let function = Migration::new(|old: Before| After { euros: old.cents as f64 / 100.0 });
    let functions = [function];
    let whole: After = change_with(&Before { cents: 250 }, &functions).expect("a function");
    assert_eq!(whole, After { euros: 2.5 });
    let stored = Stored { seen: 7, state: vec![Before { cents: 50 }, Before { cents: -100 }] };
    let now: StoredNow = change_with(&stored, &functions).expect("a function for parts");
    assert_eq!(now.state, [After { euros: 0.5 }, After { euros: -1.0 }]);
    // What a function makes of a type that contains itself, whose old form is still there.
    let flat = [Migration::new(|old: Tree| u64::from(old.value))];
    let tree = Tree { value: 9, children: vec![], left: None, last: String::new() };
    assert_eq!(change_with::<_, u64>(&tree, &flat).expect("a function"), 9);
    // A number is changed as a whole value, not within others: it may be anything there.
    let text = [Migration::new(|old: u32| old.to_string())];
    assert_eq!(change_with::<_, String>(&5_u32, &text).expect("a function"), "5");
    assert!(change_with::<_, (String, u8)>(&(5_u32, 1_u8), &text).is_err());
    let fit = TableTypes::of::<u64, StoredNow>().fit(&recorded::<Stored>(), &functions);
    assert!(matches!(fit, Fit::Migrates { .. }), "{fit:?}");
}

#[test]
fn keys_may_change_their_names_and_nothing_else() {
    types! {
        struct Before { a: u64 }
        #[derive(Eq, Hash)]
        struct Renamed { b: u64 }
        #[derive(Eq, Hash)]
        struct Other { a: u32 }
    }
    let recorded = TableSchema { key: schema_of::<Before>(), value: schema_of::<u64>() };
    assert_eq!(TableTypes::of::<Renamed, u64>().fit(&recorded, &[]), Fit::Same);
    let fit = TableTypes::of::<Other, u64>().fit(&recorded, &[]);
    let Fit::Refused { reason } = fit else { panic!("{fit:?}") };
    assert!(reason.contains("the type of a key is fixed"), "{reason}");
}

types! {
    struct Before { a: u8, gone: String }
    struct After { #[serde(default)] new: u16, a: u32 }
}

const CHANGED: TableId = TableId(1);
const SAME: TableId = TableId(2);

/// An operator with a table of `V` and one of numbers.
struct Opened<V> {
    state: OperatorState,
    changed: Table<u64, V>,
    same: Table<u64, u64>,
    writer: Writer,
}

impl<V: Data> Opened<V> {
    fn new(count: KeyGroupCount) -> Self {
        let range = KeyGroupRange::all(count);
        let mut state = OperatorState::open(BackendConfig::Memory, range, count).expect("opens");
        let (changed, same) = (state.table(CHANGED), state.table(SAME));
        Opened { state, changed, same, writer: Writer::default() }
    }

    fn restored(count: KeyGroupCount, source: RestoreSource) -> Self {
        let mut opened = Self::new(count);
        let Opened { state, changed, same, writer } = &mut opened;
        *writer = Writer::restored(std::slice::from_ref(&source), KeyGroupRange::all(count));
        let restored = state.restore(&[source], &mut |key, value| match key.table {
            CHANGED => changed.restore_entry(&key, value),
            _ => same.restore_entry(&key, value),
        });
        restored.expect("values become the present type");
        opened
    }

    /// A snapshot, with the schemas of the tables.
    fn snapshot(&mut self, count: KeyGroupCount) -> RestoreSource {
        let mut snapshot = self.state.begin_snapshot();
        self.changed.snapshot_into(&mut snapshot).expect("is frozen");
        self.same.snapshot_into(&mut snapshot).expect("is frozen");
        let part = self.state.finish_snapshot(snapshot);
        let mut budget = usize::MAX;
        self.changed.sweep(&mut budget).expect("is written");
        self.same.sweep(&mut budget).expect("is written");
        self.writer.take(&self.state, count);
        let schemas = [(CHANGED, self.changed.types().schema()), (SAME, recorded::<u64>())];
        let recorded = Recorded { tables: schemas.into(), migrations: Vec::new() };
        self.writer.snapshot(part).recorded(Arc::new(recorded))
    }
}

#[test]
fn tables_restore_what_was_written_under_another_schema_and_are_written_anew() {
    let count = KeyGroupCount::new(8).expect("is a number");
    let mut before = Opened::<Before>::new(count);
    for key in 0..100_u64 {
        let hash = hash_key(&key).expect("has a hash");
        let value = Before { a: key as u8, gone: "x".into() };
        before.changed.insert(hash, &key, value).expect("is in memory");
        before.same.insert(hash, &key, key).expect("is in memory");
    }
    // From the second time on there is nothing to be changed: all is of the new type.
    let mut source = before.snapshot(count);
    for _ in 0..3 {
        let mut after = Opened::<After>::restored(count, source);
        assert_eq!((after.changed.len(), after.same.len()), (100, 100));
        for key in 0..100_u64 {
            let hash = hash_key(&key).expect("has a hash");
            let found = after.changed.get(hash, &key).expect("is in memory").expect("is there");
            assert_eq!(*found, After { new: 0, a: key as u32 });
        }
        source = after.snapshot(count);
    }
}
