//! `NameLists`: the names under which types serialise themselves.
//!
//! What a `Deserialize` names includes aliases; which names those are shows when a value that was
//! made is serialised.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use crate::codec::CodecError;

type Result = std::result::Result<(), CodecError>;

/// Fields by struct (or variant), and variants by enum and number.
#[derive(Default)]
pub(super) struct NameLists {
    fields: BTreeMap<&'static str, BTreeSet<Vec<&'static str>>>,
    variants: BTreeMap<(&'static str, u32), BTreeSet<&'static str>>,
}

impl NameLists {
    /// Notes the names in a value.
    pub(super) fn add<T: Serialize>(&mut self, value: &T) {
        // What cannot be serialised has shown what it has shown.
        let _ = value.serialize(Collector(self));
    }

    /// The `count` names among `names` that are not aliases, for the struct `of`.
    pub(super) fn fields(
        &self,
        of: &str,
        names: &[&'static str],
        count: usize,
    ) -> Option<Vec<&'static str>> {
        let fits = |list: &&Vec<&'static str>| {
            list.len() == count && list.iter().all(|name| names.contains(name))
        };
        self.fields.get(of)?.iter().find(fits).cloned()
    }

    /// The `count` names among `names` that are not aliases, for the enum `of`.
    pub(super) fn variants(
        &self,
        of: &'static str,
        names: &[&'static str],
        count: usize,
    ) -> Option<Vec<&'static str>> {
        let name = |number: usize| {
            let found = self.variants.get(&(of, u32::try_from(number).ok()?))?;
            found.iter().copied().find(|name| names.contains(name))
        };
        (0..count).map(name).collect()
    }

    fn collector(&mut self, of: &'static str) -> Fields<'_> {
        Fields { lists: self, of, names: Vec::new() }
    }
}

/// Walks through a value.
struct Collector<'a>(&'a mut NameLists);

/// Walks through the fields of a struct.
struct Fields<'a> {
    lists: &'a mut NameLists,
    of: &'static str,
    names: Vec<&'static str>,
}

impl Fields<'_> {
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result {
        self.names.push(name);
        value.serialize(Collector(self.lists))
    }

    fn finish(self) -> Result {
        self.lists.fields.entry(self.of).or_default().insert(self.names);
        Ok(())
    }
}

/// Methods for values that hold no names.
macro_rules! nothing {
    ($($method:ident($($type:ty)?);)*) => {
        $(fn $method(self, $(_: $type)?) -> Result { Ok(()) })*
    };
}

impl<'a> Serializer for Collector<'a> {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    nothing! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, of: &'static str, number: u32, name: &'static str) -> Result {
        self.0.variants.entry((of, number)).or_default().insert(name);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        of: &'static str,
        number: u32,
        name: &'static str,
        value: &T,
    ) -> Result {
        self.0.variants.entry((of, number)).or_default().insert(name);
        value.serialize(self)
    }

    fn serialize_seq(self, _length: Option<usize>) -> std::result::Result<Self, CodecError> {
        Ok(self)
    }

    fn serialize_tuple(self, _length: usize) -> std::result::Result<Self, CodecError> {
        Ok(self)
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> std::result::Result<Self, CodecError> {
        Ok(self)
    }

    fn serialize_tuple_variant(
        self,
        of: &'static str,
        number: u32,
        name: &'static str,
        _length: usize,
    ) -> std::result::Result<Self, CodecError> {
        self.0.variants.entry((of, number)).or_default().insert(name);
        Ok(self)
    }

    fn serialize_map(self, _length: Option<usize>) -> std::result::Result<Self, CodecError> {
        Ok(self)
    }

    fn serialize_struct(
        self,
        name: &'static str,
        _length: usize,
    ) -> std::result::Result<Fields<'a>, CodecError> {
        Ok(self.0.collector(name))
    }

    fn serialize_struct_variant(
        self,
        of: &'static str,
        number: u32,
        name: &'static str,
        _length: usize,
    ) -> std::result::Result<Fields<'a>, CodecError> {
        self.0.variants.entry((of, number)).or_default().insert(name);
        Ok(self.0.collector(name))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The traits whose methods take one part after the other.
macro_rules! parts {
    ($($trait:ident::$method:ident),*) => {
        $(
            impl $trait for Collector<'_> {
                type Ok = ();
                type Error = CodecError;

                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
                    value.serialize(Collector(self.0))
                }

                fn end(self) -> Result {
                    Ok(())
                }
            }
        )*
    };
}

parts! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
}

impl SerializeMap for Collector<'_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result {
        key.serialize(Collector(self.0))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        value.serialize(Collector(self.0))
    }

    fn end(self) -> Result {
        Ok(())
    }
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result {
        self.field(name, value)
    }

    fn end(self) -> Result {
        self.finish()
    }
}

impl SerializeStructVariant for Fields<'_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result {
        self.field(name, value)
    }

    fn end(self) -> Result {
        self.finish()
    }
}
