//! `check_key`: whether a type can be a key, found out before there is a value of it.
//!
//! The type's `Deserialize` is driven by a deserialiser that has no input: it answers whatever it
//! is asked for with a small value of that kind, and refuses what the encoding of keys cannot do.
//! Enums are visited variant by variant, in as many passes as they need (an idea of
//! `serde-reflection`). A type that checks what it reads (a date in a string) ends a pass early
//! without harm; so nothing good is refused, and most of what is bad is found.
//!
//! Maps and sequences pass: whether their order is fixed cannot be seen from here, but the maps and
//! sets of `std` whose order varies have no `Hash`, so they are not in keys.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Deeper than this, optional and repeated parts are left out.
const SHALLOW: usize = 12;
/// Deeper than this a pass ends: the type contains itself.
const DEEP: usize = 64;
/// A pass ends after this many values.
const STEPS: usize = 4_096;
/// An enum, or all enums together, need no more passes than this.
const PASSES: usize = 1_024;

/// What strings are made of: types that parse them get further with one of these.
const TEXTS: [&str; 4] = ["", "1970-01-01T00:00:00Z", "1970-01-01", "1"];

/// Checks that keys of type `K` can be encoded so that they can be decoded again, and that equal
/// keys have equal encodings, as far as the type shows it.
///
/// # Errors
/// Says what the type needs that the encoding of keys does not have: to be asked what comes next
/// (untagged and internally tagged enums, flattened fields, values of any shape), or floating-point
/// numbers, of which equal ones may have different encodings.
///
/// # Cost
/// Some thousand calls at the most, when a job is built.
pub fn check_key<K: DeserializeOwned>() -> Result<(), String> {
    for text in TEXTS {
        let mut visited = Visited::default();
        for _ in 0..PASSES {
            visited.is_unfinished = false;
            let mut pass = Pass { visited: &mut visited, text, depth: 0, steps: 0 };
            match K::deserialize(Probe(&mut pass)) {
                Err(Refusal::Encoding(reason)) => {
                    return Err(format!("`{}` cannot be a key: {reason}", short_name::<K>()));
                }
                Ok(_) | Err(Refusal::ByType) => {}
            }
            if !visited.is_unfinished {
                break;
            }
        }
    }
    Ok(())
}

/// The name of a type without its modules.
fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    match name.contains(['<', '(', '&', '[']) {
        true => name,
        false => name.rsplit("::").next().unwrap_or(name),
    }
}

/// Why a pass ended early.
#[derive(Debug)]
enum Refusal {
    /// The encoding of keys cannot do what the type asks for.
    Encoding(String),
    /// The type did not like a value, or is too deep: that says nothing.
    ByType,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Encoding(reason) => reason,
            Refusal::ByType => "refused by the type",
        })
    }
}

impl std::error::Error for Refusal {}

impl serde::de::Error for Refusal {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Refusal::ByType
    }
}

/// The next variant to visit, by the enum's name and variants.
#[derive(Default)]
struct Visited {
    next: BTreeMap<(&'static str, &'static [&'static str]), u32>,
    /// True if an enum has variants for another pass.
    is_unfinished: bool,
}

/// One pass over the type.
struct Pass<'a> {
    visited: &'a mut Visited,
    text: &'static str,
    depth: usize,
    steps: usize,
}

impl Pass<'_> {
    /// True where optional and repeated parts are left out.
    fn is_deep(&self) -> bool {
        self.depth > SHALLOW || self.steps > STEPS
    }

    /// The variant to visit: one that was not visited yet, or else the first.
    fn choose(&mut self, name: &'static str, variants: &'static [&'static str]) -> u32 {
        let count = variants.len();
        let next = self.visited.next.entry((name, variants)).or_default();
        if *next as usize >= count {
            return 0;
        }
        *next += 1;
        self.visited.is_unfinished |= (*next as usize) < count;
        *next - 1
    }
}

/// A place in the type.
struct Probe<'p, 'a>(&'p mut Pass<'a>);

impl<'p, 'a> Probe<'p, 'a> {
    /// Goes one level down, unless that has been done too often.
    fn down<R>(self, f: impl FnOnce(&mut Pass<'a>) -> Result<R, Refusal>) -> Result<R, Refusal> {
        let pass = self.0;
        pass.steps += 1;
        if pass.depth >= DEEP || pass.steps > 2 * STEPS {
            return Err(Refusal::ByType);
        }
        pass.depth += 1;
        let result = f(pass);
        pass.depth -= 1;
        result
    }
}

/// The refusal of a type that wants to be told what comes next.
fn not_self_describing<T>(what: &str) -> Result<T, Refusal> {
    Err(Refusal::Encoding(format!(
        "{what} cannot be decoded from an encoding without names and types; give the key a plain \
         struct or enum, without `untagged`, `tag`, `flatten` and values of any shape"
    )))
}

fn floating<T>() -> Result<T, Refusal> {
    Err(Refusal::Encoding(
        "it holds a floating-point number, and equal ones (0 and -0) may have different encodings; \
         key by a whole number, as `to_bits()` gives one"
            .to_owned(),
    ))
}

/// Methods that answer with a small value.
macro_rules! answer {
    ($($method:ident => $visit:ident($($value:expr)?);)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
                self.0.steps += 1;
                visitor.$visit($($value)?)
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Probe<'_, '_> {
    type Error = Refusal;

    // Numbers are 1: some types do not have a 0.
    answer! {
        deserialize_bool => visit_bool(false);
        deserialize_char => visit_char('1');
        deserialize_u8 => visit_u8(1);
        deserialize_u16 => visit_u16(1);
        deserialize_u32 => visit_u32(1);
        deserialize_u64 => visit_u64(1);
        deserialize_u128 => visit_u128(1);
        deserialize_i8 => visit_i8(1);
        deserialize_i16 => visit_i16(1);
        deserialize_i32 => visit_i32(1);
        deserialize_i64 => visit_i64(1);
        deserialize_i128 => visit_i128(1);
        deserialize_bytes => visit_bytes(&[]);
        deserialize_byte_buf => visit_byte_buf(Vec::new());
        deserialize_unit => visit_unit();
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refusal> {
        not_self_describing("a part of it")
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refusal> {
        not_self_describing("a part of it that is skipped")
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refusal> {
        not_self_describing("a flattened part of it")
    }

    fn deserialize_f32<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refusal> {
        floating()
    }

    fn deserialize_f64<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refusal> {
        floating()
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_str(self.0.text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_string(self.0.text.to_owned())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0.is_deep() {
            true => visitor.visit_none(),
            false => self.down(|pass| visitor.visit_some(Probe(pass))),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.down(|pass| visitor.visit_newtype_struct(Probe(pass)))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let left = usize::from(!self.0.is_deep());
        self.down(|pass| visitor.visit_seq(Parts { pass, left }))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let left = usize::from(!self.0.is_deep());
        self.down(|pass| visitor.visit_map(Parts { pass, left }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.down(|pass| visitor.visit_seq(Parts { pass, left: length }))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.down(|pass| {
            let variant = pass.choose(name, variants);
            visitor.visit_enum(Variant { pass, variant })
        })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The parts of a tuple, struct, sequence or map.
struct Parts<'p, 'a> {
    pass: &'p mut Pass<'a>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Parts<'_, '_> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refusal> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(Probe(self.pass)).map(Some)
    }
}

impl<'de> MapAccess<'de> for Parts<'_, '_> {
    type Error = Refusal;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refusal> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refusal> {
        seed.deserialize(Probe(self.pass))
    }
}

/// One variant of an enum.
struct Variant<'p, 'a> {
    pass: &'p mut Pass<'a>,
    variant: u32,
}

impl<'de, 'p, 'a> EnumAccess<'de> for Variant<'p, 'a> {
    type Error = Refusal;
    type Variant = Probe<'p, 'a>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Probe<'p, 'a>), Refusal> {
        let number = IntoDeserializer::<serde::de::value::Error>::into_deserializer(self.variant);
        let value = seed.deserialize(number).map_err(Refusal::custom)?;
        Ok((value, Probe(self.pass)))
    }
}

impl<'de> VariantAccess<'de> for Probe<'_, '_> {
    type Error = Refusal;

    fn unit_variant(self) -> Result<(), Refusal> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refusal> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        self.deserialize_tuple(fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests;
