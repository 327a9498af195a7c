//! `schema_of`: the schema of a type, found by driving its `Deserialize` without input.
//!
//! A tree of what the type has asked for so far grows over some passes (an idea of
//! `serde-reflection`, without its registry by name: two types may have one name, and one generic
//! type many forms). In each pass the deserialiser answers with small values; enums are given the
//! first variant that is not fully known, optional and repeated parts are left out once they are.
//! A type that refuses a value ends a pass; the next pass offers that place another one.
//!
//! *Absent:* types that contain themselves are opaque where they recur. A type that refuses all
//! that it is offered, so that what follows it is not seen, makes the whole opaque.

use std::any::type_name;
use std::fmt;

use serde::Serialize;
use serde::de::value::Error as PlainError;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};

use super::Schema;
use super::names::NameLists;
use super::tree::{Kind, Named, Node, Parts, VariantKind, Variants};

/// A type needs no more passes than this, or is opaque.
const PASSES: usize = 512;
/// Passes that bring nothing new before the search is given up.
const IDLE_PASSES: usize = 8;
/// How many values a place offers.
const ATTEMPTS: usize = 8;
/// Deeper than this a pass ends.
const DEEP: usize = 64;

/// What strings are made of, for types that parse them.
pub(super) const TEXTS: [&str; ATTEMPTS] = [
    "",
    "1970-01-01T00:00:00Z",
    "1970-01-01",
    "1970-01-01T00:00:00",
    "00:00:00",
    "1",
    "127.0.0.1",
    "00000000-0000-0000-0000-000000000000",
];

/// How many bytes byte strings have, for types that take so many.
const BYTE_LENGTHS: [usize; ATTEMPTS] = [0, 16, 4, 8, 32, 12, 20, 64];

/// The schema of a type.
///
/// # Cost
/// Some thousand calls at the most: it is for the start of a job.
pub fn schema_of<T: DeserializeOwned + Serialize>() -> Schema {
    let mut root = Node::default();
    let mut names = NameLists::default();
    let mut idle = 0;
    for _ in 0..PASSES {
        let mut pass = Pass { idle, ..Pass::default() };
        let made = T::deserialize(Place { node: &mut root, pass: &mut pass });
        if let Ok(value) = &made {
            names.add(value);
        }
        let is_named = root.resolve(&names);
        if root.is_complete() && is_named {
            break;
        }
        idle = if pass.has_learnt { 0 } else { idle + 1 };
        if idle > IDLE_PASSES {
            break;
        }
    }
    root.schema().unwrap_or_else(|| Schema::Opaque(short_name(type_name::<T>())))
}

/// The name of a type without its modules.
fn short_name(name: &str) -> String {
    let is_plain = !name.contains(['<', '(', '&', '[']);
    let short = if is_plain { name.rsplit("::").next().unwrap_or(name) } else { name };
    short.to_owned()
}

/// One pass over the type.
#[derive(Default)]
struct Pass {
    /// Passes without something new before this one.
    idle: usize,
    has_learnt: bool,
    /// The types that the place is in.
    open: Vec<&'static str>,
    /// Within a type that contains itself: values are made, nothing is learnt.
    is_filling: bool,
    depth: usize,
}

/// The type refused a value, or asked for what the encoding does not have.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused by the type")
    }
}

impl std::error::Error for Refused {}

impl serde::de::Error for Refused {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Refused
    }
}

/// Where the type reads.
struct Place<'n, 'p> {
    node: &'n mut Node,
    pass: &'p mut Pass,
}

impl<'n, 'p> Place<'n, 'p> {
    /// The place as what `make` makes of it if nothing is known of it yet.
    fn learn(&mut self, make: impl FnOnce() -> Kind) {
        if matches!(self.node.kind, Kind::Unknown) {
            self.node.kind = make();
            self.pass.has_learnt = true;
        }
    }

    /// Offers a value of the `attempt`-th kind; if it is refused the next pass offers another.
    fn leaf<R>(
        mut self,
        schema: Schema,
        offer: impl FnOnce(usize) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        self.learn(|| Kind::Leaf(schema));
        let made = offer((self.node.attempt + self.pass.idle) % ATTEMPTS);
        if made.is_err() && self.node.attempt + 1 < ATTEMPTS {
            self.node.attempt += 1;
            self.pass.has_learnt = true;
        }
        made
    }

    /// True if an optional or repeated part is to be left out.
    fn is_left_out(&self, inner_is_complete: bool) -> bool {
        (inner_is_complete || self.pass.is_filling) && self.pass.idle.is_multiple_of(2)
    }

    /// Enters the type `name`, or a made-up value of it if it is open already.
    fn enter<R>(
        self,
        name: &'static str,
        f: impl FnOnce(Place<'_, '_>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        let Place { node, pass } = self;
        if pass.depth > DEEP {
            return Err(Refused);
        }
        pass.depth += 1;
        let made = if !pass.is_filling && pass.open.contains(&name) {
            if matches!(node.kind, Kind::Unknown) {
                node.kind = Kind::Recursion(short_name(name));
                pass.has_learnt = true;
            }
            pass.is_filling = true;
            let mut scratch = Node { attempt: node.attempt, ..Node::default() };
            let made = f(Place { node: &mut scratch, pass });
            pass.is_filling = false;
            if made.is_err() && node.attempt + 1 < ATTEMPTS {
                node.attempt += 1;
                pass.has_learnt = true;
            }
            made
        } else {
            pass.open.push(name);
            let made = f(Place { node, pass });
            pass.open.pop();
            made
        };
        pass.depth -= 1;
        made
    }
}

/// Offers small numbers: 1 first, as some types do not have a 0.
macro_rules! numbers {
    ($($method:ident => $visit:ident, $schema:ident, $type:ty;)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
                let numbers: [$type; 4] = [1 as $type, 0 as $type, 2 as $type, 100 as $type];
                self.leaf(Schema::$schema, |attempt| visitor.$visit(numbers[attempt % 4]))
            }
        )*
    };
}

impl<'de> Deserializer<'de> for Place<'_, '_> {
    type Error = Refused;

    numbers! {
        deserialize_u8 => visit_u8, U8, u8;
        deserialize_u16 => visit_u16, U16, u16;
        deserialize_u32 => visit_u32, U32, u32;
        deserialize_u64 => visit_u64, U64, u64;
        deserialize_u128 => visit_u128, U128, u128;
        deserialize_i8 => visit_i8, I8, i8;
        deserialize_i16 => visit_i16, I16, i16;
        deserialize_i32 => visit_i32, I32, i32;
        deserialize_i64 => visit_i64, I64, i64;
        deserialize_i128 => visit_i128, I128, i128;
        deserialize_f32 => visit_f32, F32, f32;
        deserialize_f64 => visit_f64, F64, f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refused> {
        Err(Refused)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refused> {
        Err(Refused)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refused> {
        Err(Refused)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf(Schema::Bool, |attempt| visitor.visit_bool(attempt % 2 == 1))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf(Schema::Char, |attempt| visitor.visit_char(if attempt == 0 { '1' } else { 'A' }))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf(Schema::Str, |attempt| visitor.visit_str(TEXTS[attempt]))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf(Schema::Str, |attempt| visitor.visit_string(TEXTS[attempt].to_owned()))
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf(Schema::Bytes, |attempt| visitor.visit_bytes(&[0; 64][..BYTE_LENGTHS[attempt]]))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf(Schema::Bytes, |attempt| visitor.visit_byte_buf(vec![0; BYTE_LENGTHS[attempt]]))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf(Schema::Unit, |_| visitor.visit_unit())
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.learn(|| Kind::Option(Box::default()));
        let is_filling = self.pass.is_filling;
        let Kind::Option(inner) = &mut self.node.kind else { return Err(Refused) };
        if inner.is_complete() || is_filling {
            return visitor.visit_none();
        }
        visitor.visit_some(Place { node: inner, pass: self.pass })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.enter(type_name::<V::Value>(), |place| visitor.visit_newtype_struct(place))
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.learn(|| Kind::Seq(Box::default()));
        let Kind::Seq(inner) = &mut self.node.kind else { return Err(Refused) };
        let is_complete = inner.is_complete();
        let is_left_out = self.is_left_out(is_complete);
        let Kind::Seq(inner) = &mut self.node.kind else { return Err(Refused) };
        let one = if is_left_out { None } else { Some(&mut **inner) };
        visitor.visit_seq(One { key: None, node: one, pass: self.pass })
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.learn(|| Kind::Map(Box::default()));
        let Kind::Map(parts) = &mut self.node.kind else { return Err(Refused) };
        let is_complete = parts.iter_mut().all(Node::is_complete);
        let is_left_out = self.is_left_out(is_complete);
        let Kind::Map(parts) = &mut self.node.kind else { return Err(Refused) };
        let [key, value] = &mut **parts;
        let (key, value) = if is_left_out { (None, None) } else { (Some(key), Some(value)) };
        visitor.visit_map(One { key, node: value, pass: self.pass })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        mut self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.learn(|| Kind::Tuple(Parts::default()));
        let Kind::Tuple(parts) = &mut self.node.kind else { return Err(Refused) };
        visit_parts(parts, length, self.pass, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.enter(type_name::<V::Value>(), |place| place.deserialize_tuple(length, visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.enter(type_name::<V::Value>(), |mut place| {
            let parts = Parts::default();
            place.learn(|| Kind::Struct(name, Named { names: fields.to_vec(), parts }));
            let Kind::Struct(_, named) = &mut place.node.kind else { return Err(Refused) };
            visit_parts(&mut named.parts, fields.len(), place.pass, visitor)
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.enter(type_name::<V::Value>(), |mut place| {
            place.learn(|| {
                let contents = names.iter().map(|_| None).collect();
                Kind::Enum(name, Variants { names: names.to_vec(), contents })
            });
            let (attempt, idle) = (place.node.attempt, place.pass.idle);
            let Kind::Enum(_, variants) = &mut place.node.kind else { return Err(Refused) };
            let number = variants.choose(place.pass.is_filling, attempt + idle);
            visitor.visit_enum(Variation { variants, number, pass: place.pass })
        })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl Variants {
    /// The first variant that is not fully known; otherwise one that ends soon.
    fn choose(&mut self, is_filling: bool, attempt: usize) -> usize {
        let is_unknown =
            |kind: &mut Option<VariantKind>| kind.as_mut().is_none_or(|kind| !kind.is_complete());
        let unknown = self.contents.iter_mut().position(is_unknown).filter(|_| !is_filling);
        let count = self.contents.len().max(1);
        let is_unit = |kind: &Option<VariantKind>| matches!(kind, Some(VariantKind::Unit));
        unknown
            .or_else(|| self.contents.iter().position(is_unit).filter(|_| attempt == 0))
            .unwrap_or(attempt % count)
    }
}

/// Hands out parts on demand, `length` at the most.
fn visit_parts<'de, V: Visitor<'de>>(
    parts: &mut Parts,
    length: usize,
    pass: &mut Pass,
    visitor: V,
) -> Result<V::Value, Refused> {
    let made = visitor.visit_seq(Each { parts, length, next: 0, pass });
    // A visitor that checks what it has read refuses after its last part.
    let is_closed = made.is_ok() || parts.nodes.len() == length;
    if is_closed && !parts.is_closed {
        parts.is_closed = true;
        pass.has_learnt = true;
    }
    made
}

/// The parts of a tuple or struct.
struct Each<'n, 'p> {
    parts: &'n mut Parts,
    length: usize,
    next: usize,
    pass: &'p mut Pass,
}

impl<'de> SeqAccess<'de> for Each<'_, '_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let i = self.next;
        if i == self.length {
            return Ok(None);
        }
        self.next += 1;
        if self.parts.nodes.len() == i {
            self.parts.nodes.push(Node::default());
            self.pass.has_learnt = true;
        }
        seed.deserialize(Place { node: &mut self.parts.nodes[i], pass: self.pass }).map(Some)
    }
}

/// At most one element of a sequence or map.
struct One<'n, 'p> {
    key: Option<&'n mut Node>,
    node: Option<&'n mut Node>,
    pass: &'p mut Pass,
}

impl<'de> SeqAccess<'de> for One<'_, '_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let Some(node) = self.node.take() else { return Ok(None) };
        seed.deserialize(Place { node, pass: self.pass }).map(Some)
    }
}

impl<'de> MapAccess<'de> for One<'_, '_> {
    type Error = Refused;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let Some(node) = self.key.take() else { return Ok(None) };
        seed.deserialize(Place { node, pass: self.pass }).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        let node = self.node.take().ok_or(Refused)?;
        seed.deserialize(Place { node, pass: self.pass })
    }
}

/// One variant of an enum.
struct Variation<'n, 'p> {
    variants: &'n mut Variants,
    number: usize,
    pass: &'p mut Pass,
}

impl<'de, 'n, 'p> EnumAccess<'de> for Variation<'n, 'p> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Refused> {
        let number = IntoDeserializer::<PlainError>::into_deserializer(self.number as u32);
        match seed.deserialize(number) {
            Ok(value) => Ok((value, self)),
            Err(_) => {
                // There are only so many: the other names are aliases.
                self.variants.contents.truncate(self.number.max(1));
                self.pass.has_learnt = true;
                Err(Refused)
            }
        }
    }
}

impl Variation<'_, '_> {
    fn learn(&mut self, make: impl FnOnce() -> VariantKind) {
        let content = &mut self.variants.contents[self.number];
        if content.is_none() {
            *content = Some(make());
            self.pass.has_learnt = true;
        }
    }
}

impl<'de> VariantAccess<'de> for Variation<'_, '_> {
    type Error = Refused;

    fn unit_variant(mut self) -> Result<(), Refused> {
        self.learn(|| VariantKind::Unit);
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        mut self,
        seed: T,
    ) -> Result<T::Value, Refused> {
        self.learn(|| VariantKind::Newtype(Node::default()));
        let Some(VariantKind::Newtype(node)) = &mut self.variants.contents[self.number] else {
            return Err(Refused);
        };
        seed.deserialize(Place { node, pass: self.pass })
    }

    fn tuple_variant<V: Visitor<'de>>(
        mut self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.learn(|| VariantKind::Tuple(Parts::default()));
        let Some(VariantKind::Tuple(parts)) = &mut self.variants.contents[self.number] else {
            return Err(Refused);
        };
        visit_parts(parts, length, self.pass, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let parts = Parts::default();
        self.learn(|| VariantKind::Struct(Named { names: fields.to_vec(), parts }));
        let Some(VariantKind::Struct(named)) = &mut self.variants.contents[self.number] else {
            return Err(Refused);
        };
        visit_parts(&mut named.parts, fields.len(), self.pass, visitor)
    }
}
