//! Makes a present type of a [`Dynamic`] value: a deserialiser that describes itself.
//!
//! It follows names: what has gone is skipped, what is new comes from `#[serde(default)]`, aliases
//! work. What changes the meaning of a value is refused by its kind, whatever the value is: a
//! narrower number, a tuple of another length, an `Option` that has to be there.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use super::{Content, Dynamic};

/// Why a value does not become one of the present type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The fields that lead to the place, the last first.
    path: Vec<String>,
    detail: String,
    /// True if another value of the same schema might be taken.
    pub(super) is_of_value: bool,
}

impl Mismatch {
    fn of_kind(detail: impl Into<String>) -> Self {
        Mismatch { path: Vec::new(), detail: detail.into(), is_of_value: false }
    }

    fn wrong(found: &Dynamic<'_>, expected: &str) -> Self {
        Self::of_kind(format!("{} cannot become {expected}", found.describe()))
    }

    fn at(mut self, place: impl Into<String>) -> Self {
        self.path.push(place.into());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            let path: Vec<&str> = self.path.iter().rev().map(String::as_str).collect();
            write!(f, "at `{}`: ", path.join("."))?;
        }
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Mismatch {}

impl serde::de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Mismatch { is_of_value: true, ..Mismatch::of_kind(message.to_string()) }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Mismatch::of_kind(format!("{found} cannot become {expected}"))
    }

    fn invalid_length(length: usize, expected: &dyn serde::de::Expected) -> Self {
        Mismatch::of_kind(format!("{length} parts cannot become {expected}"))
    }

    fn unknown_variant(variant: &str, _expected: &'static [&'static str]) -> Self {
        Mismatch::of_kind(format!(
            "the variant `{variant}` is gone: bring it back, or name the one that stands for it by \
             `#[serde(alias = \"{variant}\")]`"
        ))
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        Mismatch::of_kind(format!(
            "the field `{field}` is gone, and the type has `#[serde(deny_unknown_fields)]`"
        ))
    }

    fn missing_field(field: &'static str) -> Self {
        Mismatch::of_kind(format!(
            "the field `{field}` is new: give it `#[serde(default)]`, or `#[serde(alias = \"…\")]` \
             if it had another name"
        ))
    }
}

/// Methods that take numbers which always fit.
macro_rules! integers {
    ($($method:ident => $visit:ident, $type:ty, $name:literal;)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
                let bits = <$type>::BITS;
                // An unsigned number fits into a signed one that has a bit more.
                let room = if <$type>::MIN == 0 { bits } else { bits - 1 };
                match self {
                    Dynamic::Signed(from, value)
                        if <$type>::MIN != 0 && u32::from(from) <= bits =>
                    {
                        visitor.$visit(value as $type)
                    }
                    Dynamic::Unsigned(from, value) if u32::from(from) <= room => {
                        visitor.$visit(value as $type)
                    }
                    other => Err(Mismatch::wrong(&other, $name)),
                }
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Dynamic<'_> {
    type Error = Mismatch;

    integers! {
        deserialize_i8 => visit_i8, i8, "an i8";
        deserialize_i16 => visit_i16, i16, "an i16";
        deserialize_i32 => visit_i32, i32, "an i32";
        deserialize_i64 => visit_i64, i64, "an i64";
        deserialize_i128 => visit_i128, i128, "an i128";
        deserialize_u8 => visit_u8, u8, "a u8";
        deserialize_u16 => visit_u16, u16, "a u16";
        deserialize_u32 => visit_u32, u32, "a u32";
        deserialize_u64 => visit_u64, u64, "a u64";
        deserialize_u128 => visit_u128, u128, "a u128";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::F32(value) => visitor.visit_f32(value),
            Dynamic::Signed(8 | 16, value) => visitor.visit_f32(value as f32),
            Dynamic::Unsigned(8 | 16, value) => visitor.visit_f32(value as f32),
            other => Err(Mismatch::wrong(&other, "an f32")),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::F64(value) => visitor.visit_f64(value),
            Dynamic::F32(value) => visitor.visit_f64(value.into()),
            Dynamic::Signed(8 | 16 | 32, value) => visitor.visit_f64(value as f64),
            Dynamic::Unsigned(8 | 16 | 32, value) => visitor.visit_f64(value as f64),
            other => Err(Mismatch::wrong(&other, "an f64")),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Bool(value) => visitor.visit_bool(value),
            other => Err(Mismatch::wrong(&other, "a bool")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Char(value) => visitor.visit_char(value),
            other => Err(Mismatch::wrong(&other, "a char")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Str(value) => visitor.visit_string(value),
            Dynamic::Char(value) => visitor.visit_string(value.to_string()),
            other => Err(Mismatch::wrong(&other, "a string")),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            other => Err(Mismatch::wrong(&other, "bytes")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Option(None) => visitor.visit_none(),
            Dynamic::Option(Some(inner)) => visitor.visit_some(*inner),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Unit => visitor.visit_unit(),
            other => Err(Mismatch::wrong(&other, "a unit")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Seq(items) | Dynamic::Tuple(items) => visit_all(items, visitor),
            other => Err(Mismatch::wrong(&other, "a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Tuple(items) if items.len() == length => visit_all(items, visitor),
            other => Err(Mismatch::wrong(&other, &format!("a tuple of {length} parts"))),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Map(entries) => {
                visitor.visit_map(Entries { rest: entries.into_iter(), value: None })
            }
            other => Err(Mismatch::wrong(&other, "a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Struct(fields) => visit_fields(fields, visitor),
            Dynamic::Unit => visit_fields(Vec::new(), visitor),
            other => Err(Mismatch::wrong(&other, &format!("the struct `{name}`"))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Enum(variant, content) => {
                visitor.visit_enum(Chosen { name: variant, content }).map_err(|e| e.at(variant))
            }
            other => Err(Mismatch::wrong(&other, &format!("the enum `{name}`"))),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self {
            Dynamic::Bool(value) => visitor.visit_bool(value),
            Dynamic::Signed(128, value) => visitor.visit_i128(value),
            Dynamic::Signed(_, value) => visitor.visit_i64(value as i64),
            Dynamic::Unsigned(128, value) => visitor.visit_u128(value),
            Dynamic::Unsigned(_, value) => visitor.visit_u64(value as u64),
            Dynamic::F32(value) => visitor.visit_f32(value),
            Dynamic::F64(value) => visitor.visit_f64(value),
            Dynamic::Char(value) => visitor.visit_char(value),
            Dynamic::Str(value) => visitor.visit_string(value),
            Dynamic::Bytes(bytes) => visitor.visit_byte_buf(bytes),
            Dynamic::Unit => visitor.visit_unit(),
            Dynamic::Option(_) => self.deserialize_option(visitor),
            Dynamic::Seq(items) | Dynamic::Tuple(items) => visit_all(items, visitor),
            Dynamic::Map(_) => self.deserialize_map(visitor),
            Dynamic::Struct(fields) => visit_fields(fields, visitor),
            Dynamic::Enum(name, content) => visitor.visit_enum(Chosen { name, content }),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    /// As in the encoding of values: types choose their form by it.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Hands over all items; none may be left.
fn visit_all<'de, V: Visitor<'de>>(
    items: Vec<Dynamic<'_>>,
    visitor: V,
) -> Result<V::Value, Mismatch> {
    let length = items.len();
    let mut items = Items { rest: items.into_iter(), next: 0 };
    let made = visitor.visit_seq(&mut items)?;
    match items.rest.len() {
        0 => Ok(made),
        left => Err(Mismatch::of_kind(format!(
            "{length} parts cannot become {}: the rest would be lost",
            length - left
        ))),
    }
}

struct Items<'s> {
    rest: std::vec::IntoIter<Dynamic<'s>>,
    next: usize,
}

impl<'de> SeqAccess<'de> for &mut Items<'_> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let Some(item) = self.rest.next() else { return Ok(None) };
        let place = self.next;
        self.next += 1;
        seed.deserialize(item).map(Some).map_err(|error| error.at(place.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Entries<'s> {
    rest: std::vec::IntoIter<(Dynamic<'s>, Dynamic<'s>)>,
    value: Option<Dynamic<'s>>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Mismatch;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key).map(Some).map_err(|error| error.at("key"))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mismatch> {
        let value = self.value.take().ok_or_else(|| Mismatch::custom("a value without a key"))?;
        seed.deserialize(value).map_err(|error| error.at("value"))
    }
}

fn visit_fields<'de, V: Visitor<'de>>(
    fields: Vec<(&str, Dynamic<'_>)>,
    visitor: V,
) -> Result<V::Value, Mismatch> {
    visitor.visit_map(Fields { rest: fields.into_iter(), value: None })
}

struct Fields<'s> {
    rest: std::vec::IntoIter<(&'s str, Dynamic<'s>)>,
    value: Option<(&'s str, Dynamic<'s>)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Mismatch;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Mismatch> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some((name, value));
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mismatch> {
        let field = self.value.take();
        let (name, value) = field.ok_or_else(|| Mismatch::custom("a value without a name"))?;
        seed.deserialize(value).map_err(|error| error.at(name))
    }
}

/// A variant, by name.
struct Chosen<'s> {
    name: &'s str,
    content: Content<'s>,
}

impl<'de, 's> EnumAccess<'de> for Chosen<'s> {
    type Error = Mismatch;
    type Variant = Content<'s>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Content<'s>), Mismatch> {
        Ok((seed.deserialize(self.name.into_deserializer())?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = Mismatch;

    fn unit_variant(self) -> Result<(), Mismatch> {
        match self {
            Content::Unit => Ok(()),
            _ => Err(Mismatch::of_kind("what the variant held would be lost")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Mismatch> {
        match self {
            Content::Newtype(inner) => seed.deserialize(*inner),
            _ => Err(Mismatch::of_kind("the variant did not hold one value")),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Content::Tuple(parts) if parts.len() == length => visit_all(parts, visitor),
            _ => Err(Mismatch::of_kind(format!("the variant did not hold {length} values"))),
        }
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self {
            Content::Struct(fields) => visit_fields(fields, visitor),
            Content::Unit => visit_fields(Vec::new(), visitor),
            _ => Err(Mismatch::of_kind("the variant did not hold named fields")),
        }
    }
}
