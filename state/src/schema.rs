//! `Schema`: what the encoding of a type looks like, with the names of its fields and variants.
//!
//! Encoded state does not describe itself, so the schema of every table is kept beside it. What was
//! written under one schema is read under another as if it named its fields: decoded by the old
//! schema into a [`Dynamic`] value, from which the present type deserialises itself.
//!
//! Reading order: `trace` gets the schema of a type, `dynamic` holds values of any schema,
//! `adopt` makes a present type of one, `samples` finds out beforehand whether that works, and
//! `migrate` brings it together for tables.
//!
//! # What changes nothing, and what migrates
//! Names of types are for people; newtypes are what they hold. So a renamed type is the same.
//! Values migrate by themselves where the present type's `Deserialize` accepts the old value with
//! its names: fields that were removed, reordered, renamed with `#[serde(alias)]`, or added with
//! `#[serde(default)]` or as `Option`; variants that were added, moved, or renamed with an alias;
//! numbers that became wider; `T` that became `Option<T>`; arrays that became lists. The rest
//! needs a function ([`Migration`]). Keys cannot change: their hash says where they are.

use std::fmt;

use serde::{Deserialize, Serialize};

mod adopt;
mod changes;
mod dynamic;
mod migrate;
mod names;
mod samples;
mod trace;
mod tree;

#[cfg(test)]
mod tests;

pub use adopt::Mismatch;
pub use dynamic::{Content, Dynamic};
pub(crate) use migrate::Plan;
pub use migrate::{Fit, Migration, Recorded, TableSchema, TableTypes, ValuePlan, ValueType};
pub use trace::schema_of;

/// What the encoding of a type looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of serde's data model say it")]
pub enum Schema {
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Str,
    Bytes,
    Unit,
    Option(Box<Schema>),
    Seq(Box<Schema>),
    Map(Box<Schema>, Box<Schema>),
    Tuple(Vec<Schema>),
    /// A tuple of so many equal parts.
    Array(usize, Box<Schema>),
    Struct {
        name: String,
        fields: Vec<Field>,
    },
    Enum {
        name: String,
        variants: Vec<Variant>,
    },
    /// A type that contains itself, or whose `Deserialize` does not show what it reads; by name.
    Opaque(String),
}

/// A field, by its name in serde.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field(pub String, pub Schema);

/// A variant, by its name in serde.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant(pub String, pub Shape);

/// What a variant holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of serde's data model say it")]
pub enum Shape {
    Unit,
    Newtype(Schema),
    Tuple(Vec<Schema>),
    Struct(Vec<Field>),
}

/// Which names count when schemas are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Those of fields and variants.
    Count,
    /// None: only the bytes do.
    AreIgnored,
}

impl Schema {
    /// True if values under one schema are values under the other: all but the names of types is
    /// the same. Opaque types are the same if they have the same name.
    pub fn is_same(&self, other: &Schema) -> bool {
        self.agrees(other, Names::Count)
    }

    /// True if both have the same encoding, whatever names fields and variants have.
    pub fn has_encoding_of(&self, other: &Schema) -> bool {
        self.agrees(other, Names::AreIgnored)
    }

    /// True if no part of it is opaque.
    pub fn is_transparent(&self) -> bool {
        match self {
            Schema::Opaque(_) => false,
            Schema::Option(inner) | Schema::Seq(inner) | Schema::Array(_, inner) => {
                inner.is_transparent()
            }
            Schema::Map(key, value) => key.is_transparent() && value.is_transparent(),
            Schema::Tuple(parts) => parts.iter().all(Schema::is_transparent),
            Schema::Struct { fields, .. } => fields.iter().all(|field| field.1.is_transparent()),
            Schema::Enum { variants, .. } => variants.iter().all(|variant| match &variant.1 {
                Shape::Unit => true,
                Shape::Newtype(inner) => inner.is_transparent(),
                Shape::Tuple(parts) => parts.iter().all(Schema::is_transparent),
                Shape::Struct(fields) => fields.iter().all(|field| field.1.is_transparent()),
            }),
            _ => true,
        }
    }

    fn agrees(&self, other: &Schema, names: Names) -> bool {
        match (self, other) {
            (Schema::Option(a), Schema::Option(b)) | (Schema::Seq(a), Schema::Seq(b)) => {
                a.agrees(b, names)
            }
            (Schema::Map(a, c), Schema::Map(b, d)) => a.agrees(b, names) && c.agrees(d, names),
            (Schema::Array(a, c), Schema::Array(b, d)) => a == b && c.agrees(d, names),
            (Schema::Tuple(a), Schema::Tuple(b)) => parts_agree(a, b, names),
            (Schema::Struct { fields: a, .. }, Schema::Struct { fields: b, .. }) => {
                fields_agree(a, b, names)
            }
            (Schema::Enum { variants: a, .. }, Schema::Enum { variants: b, .. }) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|(a, b)| {
                        (names == Names::AreIgnored || a.0 == b.0) && a.1.agrees(&b.1, names)
                    })
            }
            (Schema::Opaque(a), Schema::Opaque(b)) => a == b,
            _ => self == other,
        }
    }
}

impl Shape {
    fn agrees(&self, other: &Shape, names: Names) -> bool {
        match (self, other) {
            (Shape::Unit, Shape::Unit) => true,
            (Shape::Newtype(a), Shape::Newtype(b)) => a.agrees(b, names),
            (Shape::Tuple(a), Shape::Tuple(b)) => parts_agree(a, b, names),
            (Shape::Struct(a), Shape::Struct(b)) => fields_agree(a, b, names),
            _ => false,
        }
    }
}

fn parts_agree(a: &[Schema], b: &[Schema], names: Names) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.agrees(b, names))
}

fn fields_agree(a: &[Field], b: &[Field], names: Names) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|(a, b)| (names == Names::AreIgnored || a.0 == b.0) && a.1.agrees(&b.1, names))
}

/// As a type would be written, without the fields of what has a name.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schema::Option(inner) => write!(f, "Option<{inner}>"),
            Schema::Seq(inner) => write!(f, "[{inner}]"),
            Schema::Map(key, value) => write!(f, "{{{key}: {value}}}"),
            Schema::Array(length, inner) => write!(f, "[{inner}; {length}]"),
            Schema::Tuple(parts) => {
                f.write_str("(")?;
                for (i, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            Schema::Struct { name, .. } | Schema::Enum { name, .. } | Schema::Opaque(name) => {
                f.write_str(name)
            }
            plain => f.write_str(&format!("{plain:?}").to_lowercase()),
        }
    }
}
