//! Values of a schema, made up, with which a type shows what it takes.

use super::trace::TEXTS;
use super::{Content, Dynamic, Field, Schema, Shape};

/// More values than this are not made.
const MOST: usize = 4_096;

/// How many kinds of text there are to make values with.
pub(super) const KINDS: usize = TEXTS.len();

/// Values that between them have every variant, every option with and without a value, and every
/// list with and without an item. None if a part is opaque.
pub(super) fn samples(schema: &Schema, kind: usize) -> Option<Vec<Dynamic<'_>>> {
    let mut values = match schema {
        Schema::Bool => vec![Dynamic::Bool(false)],
        Schema::I8 => vec![Dynamic::Signed(8, 1)],
        Schema::I16 => vec![Dynamic::Signed(16, 1)],
        Schema::I32 => vec![Dynamic::Signed(32, 1)],
        Schema::I64 => vec![Dynamic::Signed(64, 1)],
        Schema::I128 => vec![Dynamic::Signed(128, 1)],
        Schema::U8 => vec![Dynamic::Unsigned(8, 1)],
        Schema::U16 => vec![Dynamic::Unsigned(16, 1)],
        Schema::U32 => vec![Dynamic::Unsigned(32, 1)],
        Schema::U64 => vec![Dynamic::Unsigned(64, 1)],
        Schema::U128 => vec![Dynamic::Unsigned(128, 1)],
        Schema::F32 => vec![Dynamic::F32(1.0)],
        Schema::F64 => vec![Dynamic::F64(1.0)],
        Schema::Char => vec![Dynamic::Char('1')],
        Schema::Str => vec![Dynamic::Str(TEXTS[kind].to_owned())],
        Schema::Bytes => vec![Dynamic::Bytes(vec![0; 16])],
        Schema::Unit => vec![Dynamic::Unit],
        Schema::Option(inner) => {
            let some = |value| Dynamic::Option(Some(Box::new(value)));
            let mut values: Vec<_> = samples(inner, kind)?.into_iter().map(some).collect();
            values.push(Dynamic::Option(None));
            values
        }
        Schema::Seq(inner) => {
            let one = |value| Dynamic::Seq(vec![value]);
            let mut values: Vec<_> = samples(inner, kind)?.into_iter().map(one).collect();
            values.push(Dynamic::Seq(Vec::new()));
            values
        }
        Schema::Map(key, value) => {
            let entries = products(&[key, value], kind)?;
            let mut values: Vec<_> = entries
                .into_iter()
                .filter_map(|mut entry| Some((entry.pop()?, entry.pop()?)))
                .map(|(value, key)| Dynamic::Map(vec![(key, value)]))
                .collect();
            values.push(Dynamic::Map(Vec::new()));
            values
        }
        Schema::Tuple(parts) => {
            let parts: Vec<&Schema> = parts.iter().collect();
            products(&parts, kind)?.into_iter().map(Dynamic::Tuple).collect()
        }
        Schema::Array(length, inner) => {
            let all = |value| Dynamic::Tuple(vec![value; *length]);
            samples(inner, kind)?.into_iter().map(all).collect()
        }
        Schema::Struct { fields, .. } => {
            structs(fields, kind)?.into_iter().map(Dynamic::Struct).collect()
        }
        Schema::Enum { variants, .. } => {
            let mut values = Vec::new();
            for variant in variants {
                let contents = contents(&variant.1, kind)?;
                values.extend(contents.into_iter().map(|c| Dynamic::Enum(&variant.0, c)));
            }
            values
        }
        Schema::Opaque(_) => return None,
    };
    values.truncate(MOST);
    Some(values)
}

fn contents(shape: &Shape, kind: usize) -> Option<Vec<Content<'_>>> {
    Some(match shape {
        Shape::Unit => vec![Content::Unit],
        Shape::Newtype(inner) => {
            let hold = |value| Content::Newtype(Box::new(value));
            samples(inner, kind)?.into_iter().map(hold).collect()
        }
        Shape::Tuple(parts) => {
            let parts: Vec<&Schema> = parts.iter().collect();
            products(&parts, kind)?.into_iter().map(Content::Tuple).collect()
        }
        Shape::Struct(fields) => structs(fields, kind)?.into_iter().map(Content::Struct).collect(),
    })
}

type NamedValues<'s> = Vec<(&'s str, Dynamic<'s>)>;

fn structs(fields: &[Field], kind: usize) -> Option<Vec<NamedValues<'_>>> {
    let schemas: Vec<&Schema> = fields.iter().map(|field| &field.1).collect();
    let with_names = |values: Vec<_>| {
        fields.iter().map(|field| field.0.as_str()).zip(values).collect::<NamedValues<'_>>()
    };
    Some(products(&schemas, kind)?.into_iter().map(with_names).collect())
}

/// Every value of every part, with the first values of the other parts.
fn products<'s>(parts: &[&'s Schema], kind: usize) -> Option<Vec<Vec<Dynamic<'s>>>> {
    let all: Option<Vec<_>> = parts.iter().map(|part| samples(part, kind)).collect();
    let all = all?;
    let first = all.iter().map(|values| values.first().cloned()).collect::<Option<Vec<_>>>();
    // A part without values, an enum without variants: there are none of the whole either.
    let Some(first) = first else { return Some(Vec::new()) };
    let mut products = vec![first.clone()];
    for (i, values) in all.into_iter().enumerate() {
        for value in values.into_iter().skip(1) {
            let mut product = first.clone();
            product[i] = value;
            products.push(product);
        }
    }
    Some(products)
}
