//! `Dynamic`: a value of any schema, decoded without its type.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};

use super::{Field, Schema, Shape};
use crate::codec::{self, CodecError};

/// A value of any schema; names are those of the schema.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of serde's data model say it")]
pub enum Dynamic<'s> {
    Bool(bool),
    /// A signed number of so many bits.
    Signed(u8, i128),
    /// An unsigned number of so many bits.
    Unsigned(u8, u128),
    F32(f32),
    F64(f64),
    Char(char),
    Str(String),
    Bytes(Vec<u8>),
    Unit,
    Option(Option<Box<Dynamic<'s>>>),
    Seq(Vec<Dynamic<'s>>),
    Map(Vec<(Dynamic<'s>, Dynamic<'s>)>),
    /// A tuple or array.
    Tuple(Vec<Dynamic<'s>>),
    /// The fields in their order.
    Struct(Vec<(&'s str, Dynamic<'s>)>),
    /// A variant and what it holds.
    Enum(&'s str, Content<'s>),
}

/// What a variant holds.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of serde's data model say it")]
pub enum Content<'s> {
    Unit,
    Newtype(Box<Dynamic<'s>>),
    Tuple(Vec<Dynamic<'s>>),
    Struct(Vec<(&'s str, Dynamic<'s>)>),
}

impl<'s> Dynamic<'s> {
    /// The value that `bytes` encode.
    ///
    /// # Errors
    /// If they are no encoded value of the schema, or a part of it is opaque.
    pub fn decode(schema: &'s Schema, bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_seed(schema, bytes)
    }

    /// The key that `bytes` encode.
    ///
    /// # Errors
    /// As for [`decode`](Dynamic::decode).
    pub fn decode_key(schema: &'s Schema, bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_key_seed(schema, bytes)
    }

    /// What it is, for messages.
    pub(super) fn describe(&self) -> String {
        let text = match self {
            Dynamic::Bool(_) => "a bool",
            Dynamic::Signed(bits, _) => return format!("an i{bits}"),
            Dynamic::Unsigned(bits, _) => return format!("a u{bits}"),
            Dynamic::F32(_) => "an f32",
            Dynamic::F64(_) => "an f64",
            Dynamic::Char(_) => "a char",
            Dynamic::Str(_) => "a string",
            Dynamic::Bytes(_) => "bytes",
            Dynamic::Unit => "a unit",
            Dynamic::Option(_) => "an Option",
            Dynamic::Seq(_) => "a list",
            Dynamic::Map(_) => "a map",
            Dynamic::Tuple(parts) => return format!("a tuple of {} parts", parts.len()),
            Dynamic::Struct(_) => "a struct",
            Dynamic::Enum(..) => "an enum",
        };
        text.to_owned()
    }
}

/// Decodes a value of the schema from an encoding that does not describe itself.
impl<'de, 's> DeserializeSeed<'de> for &'s Schema {
    type Value = Dynamic<'s>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Dynamic<'s>, D::Error> {
        let signed = |bits, number: i128| Dynamic::Signed(bits, number);
        let unsigned = |bits, number: u128| Dynamic::Unsigned(bits, number);
        Ok(match self {
            Schema::Bool => Dynamic::Bool(bool::deserialize(from)?),
            Schema::I8 => signed(8, i8::deserialize(from)?.into()),
            Schema::I16 => signed(16, i16::deserialize(from)?.into()),
            Schema::I32 => signed(32, i32::deserialize(from)?.into()),
            Schema::I64 => signed(64, i64::deserialize(from)?.into()),
            Schema::I128 => signed(128, i128::deserialize(from)?),
            Schema::U8 => unsigned(8, u8::deserialize(from)?.into()),
            Schema::U16 => unsigned(16, u16::deserialize(from)?.into()),
            Schema::U32 => unsigned(32, u32::deserialize(from)?.into()),
            Schema::U64 => unsigned(64, u64::deserialize(from)?.into()),
            Schema::U128 => unsigned(128, u128::deserialize(from)?),
            Schema::F32 => Dynamic::F32(f32::deserialize(from)?),
            Schema::F64 => Dynamic::F64(f64::deserialize(from)?),
            Schema::Char => Dynamic::Char(char::deserialize(from)?),
            Schema::Str => Dynamic::Str(String::deserialize(from)?),
            Schema::Bytes => return from.deserialize_byte_buf(ByteVisitor),
            Schema::Unit => {
                <()>::deserialize(from)?;
                Dynamic::Unit
            }
            Schema::Option(inner) => return from.deserialize_option(OptionVisitor(inner)),
            Schema::Seq(inner) => return from.deserialize_seq(SeqVisitor(inner)),
            Schema::Map(key, value) => return from.deserialize_map(MapVisitor(key, value)),
            Schema::Tuple(parts) => Dynamic::Tuple(tuple(from, &parts.iter().collect::<Vec<_>>())?),
            Schema::Array(length, inner) => Dynamic::Tuple(tuple(from, &vec![&**inner; *length])?),
            Schema::Struct { fields, .. } => Dynamic::Struct(named(from, fields)?),
            Schema::Enum { .. } => return from.deserialize_enum("", &[], EnumVisitor(self)),
            Schema::Opaque(name) => {
                return Err(D::Error::custom(format!("`{name}` cannot be read without its type")));
            }
        })
    }
}

/// Parts without a length in front.
fn tuple<'de, 's, D: Deserializer<'de>>(
    from: D,
    parts: &[&'s Schema],
) -> Result<Vec<Dynamic<'s>>, D::Error> {
    from.deserialize_tuple(parts.len(), TupleVisitor(parts))
}

fn named<'de, 's, D: Deserializer<'de>>(
    from: D,
    fields: &'s [Field],
) -> Result<Vec<(&'s str, Dynamic<'s>)>, D::Error> {
    let schemas: Vec<&Schema> = fields.iter().map(|field| &field.1).collect();
    Ok(with_names(fields, tuple(from, &schemas)?))
}

fn with_names<'s>(fields: &'s [Field], values: Vec<Dynamic<'s>>) -> Vec<(&'s str, Dynamic<'s>)> {
    fields.iter().map(|field| field.0.as_str()).zip(values).collect()
}

struct ByteVisitor;

impl<'de> Visitor<'de> for ByteVisitor {
    type Value = Dynamic<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Dynamic::Bytes(bytes.to_owned()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        Ok(Dynamic::Bytes(bytes))
    }
}

struct OptionVisitor<'s>(&'s Schema);

impl<'de, 's> Visitor<'de> for OptionVisitor<'s> {
    type Value = Dynamic<'s>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an option")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Dynamic::Option(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        Ok(Dynamic::Option(Some(Box::new(self.0.deserialize(from)?))))
    }
}

struct SeqVisitor<'s>(&'s Schema);

impl<'de, 's> Visitor<'de> for SeqVisitor<'s> {
    type Value = Dynamic<'s>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element_seed(self.0)? {
            items.push(item);
        }
        Ok(Dynamic::Seq(items))
    }
}

struct MapVisitor<'s>(&'s Schema, &'s Schema);

impl<'de, 's> Visitor<'de> for MapVisitor<'s> {
    type Value = Dynamic<'s>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = from.next_entry_seed(self.0, self.1)? {
            entries.push(entry);
        }
        Ok(Dynamic::Map(entries))
    }
}

struct TupleVisitor<'a, 's>(&'a [&'s Schema]);

impl<'de, 's> Visitor<'de> for TupleVisitor<'_, 's> {
    type Value = Vec<Dynamic<'s>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parts", self.0.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut parts = Vec::with_capacity(self.0.len());
        for schema in self.0 {
            let part = from.next_element_seed(*schema)?;
            parts.push(part.ok_or_else(|| A::Error::invalid_length(parts.len(), &self))?);
        }
        Ok(parts)
    }
}

struct EnumVisitor<'s>(&'s Schema);

impl<'de, 's> Visitor<'de> for EnumVisitor<'s> {
    type Value = Dynamic<'s>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an enum")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<Self::Value, A::Error> {
        let Schema::Enum { name, variants } = self.0 else {
            return Err(A::Error::custom("the schema is no enum"));
        };
        let (number, content) = from.variant::<u32>()?;
        let variant = usize::try_from(number).ok().and_then(|number| variants.get(number));
        let variant = variant.ok_or_else(|| {
            A::Error::custom(format!("`{name}` has no variant of number {number}"))
        })?;
        let content = match &variant.1 {
            Shape::Unit => {
                content.unit_variant()?;
                Content::Unit
            }
            Shape::Newtype(inner) => {
                Content::Newtype(Box::new(content.newtype_variant_seed(inner)?))
            }
            Shape::Tuple(parts) => {
                let parts: Vec<&Schema> = parts.iter().collect();
                Content::Tuple(content.tuple_variant(parts.len(), TupleVisitor(&parts))?)
            }
            Shape::Struct(fields) => {
                let parts: Vec<&Schema> = fields.iter().map(|field| &field.1).collect();
                let values = content.tuple_variant(parts.len(), TupleVisitor(&parts))?;
                Content::Struct(with_names(fields, values))
            }
        };
        Ok(Dynamic::Enum(&variant.0, content))
    }
}

/// For people and for formats that describe themselves: structs are maps, a variant is its name or
/// a map from its name, a map whose keys are no plain values is a list of pairs.
impl Serialize for Dynamic<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Dynamic::Bool(value) => to.serialize_bool(*value),
            Dynamic::Signed(_, value) => match i64::try_from(*value) {
                Ok(value) => to.serialize_i64(value),
                Err(_) => to.serialize_i128(*value),
            },
            Dynamic::Unsigned(_, value) => match u64::try_from(*value) {
                Ok(value) => to.serialize_u64(value),
                Err(_) => to.serialize_u128(*value),
            },
            Dynamic::F32(value) => to.serialize_f32(*value),
            Dynamic::F64(value) => to.serialize_f64(*value),
            Dynamic::Char(value) => to.serialize_char(*value),
            Dynamic::Str(value) => to.serialize_str(value),
            Dynamic::Bytes(bytes) => to.serialize_bytes(bytes),
            Dynamic::Unit | Dynamic::Option(None) => to.serialize_none(),
            Dynamic::Option(Some(inner)) => inner.serialize(to),
            Dynamic::Seq(items) | Dynamic::Tuple(items) => serialize_list(to, items),
            Dynamic::Map(entries) if entries.iter().all(|(key, _)| key.is_plain()) => {
                let mut map = to.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Dynamic::Map(entries) => serialize_list(to, entries),
            Dynamic::Struct(fields) => serialize_fields(to, fields),
            Dynamic::Enum(name, Content::Unit) => to.serialize_str(name),
            Dynamic::Enum(name, content) => {
                let mut map = to.serialize_map(Some(1))?;
                map.serialize_entry(name, content)?;
                map.end()
            }
        }
    }
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Content::Unit => to.serialize_none(),
            Content::Newtype(inner) => inner.serialize(to),
            Content::Tuple(items) => serialize_list(to, items),
            Content::Struct(fields) => serialize_fields(to, fields),
        }
    }
}

impl Dynamic<'_> {
    /// True if it can be the key of a map in JSON.
    fn is_plain(&self) -> bool {
        use Dynamic::{Char, Signed, Str, Unsigned};
        matches!(self, Signed(..) | Unsigned(..) | Char(_) | Str(_))
            || matches!(self, Dynamic::Enum(_, Content::Unit))
    }
}

fn serialize_list<S: Serializer, T: Serialize>(to: S, items: &[T]) -> Result<S::Ok, S::Error> {
    let mut list = to.serialize_seq(Some(items.len()))?;
    for item in items {
        list.serialize_element(item)?;
    }
    list.end()
}

fn serialize_fields<S: Serializer>(
    to: S,
    fields: &[(&str, Dynamic<'_>)],
) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(fields.len()))?;
    for (name, value) in fields {
        map.serialize_entry(name, value)?;
    }
    map.end()
}
