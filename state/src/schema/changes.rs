//! What has changed between two schemas, in words.

use super::{Field, Schema, Shape};

/// The changes from `old` to `new`; none if only names of types differ.
pub(super) fn changes(old: &Schema, new: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(at: &str, old: &Schema, new: &Schema, found: &mut Vec<String>) {
    let inside = |part: &str| if at.is_empty() { part.to_owned() } else { format!("{at}.{part}") };
    match (old, new) {
        (a, b) if a.is_same(b) => {}
        (Schema::Struct { fields: a, .. }, Schema::Struct { fields: b, .. }) => {
            compare_fields(at, a, b, found);
        }
        (Schema::Enum { variants: a, .. }, Schema::Enum { variants: b, .. }) => {
            let before = found.len();
            for variant in b.iter().filter(|v| !a.iter().any(|other| other.0 == v.0)) {
                found.push(format!("added variant {}", inside(&variant.0)));
            }
            for variant in a {
                match b.iter().find(|other| other.0 == variant.0) {
                    None => found.push(format!("removed variant {}", inside(&variant.0))),
                    Some(other) => {
                        compare_shapes(&inside(&variant.0), &variant.1, &other.1, found);
                    }
                }
            }
            if found.len() == before {
                found.push(format!("reordered variants{}", of(at)));
            }
        }
        (Schema::Option(a), Schema::Option(b)) => compare(at, a, b, found),
        (Schema::Seq(a), Schema::Seq(b)) => compare(&inside("[]"), a, b, found),
        (Schema::Map(a, c), Schema::Map(b, d)) => {
            compare(&inside("key"), a, b, found);
            compare(&inside("value"), c, d, found);
        }
        (Schema::Tuple(a), Schema::Tuple(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&inside(&i.to_string()), a, b, found);
            }
        }
        (a, b) => {
            let place = if at.is_empty() { String::new() } else { format!("{at}: ") };
            found.push(format!("{place}{a} became {b}"));
        }
    }
}

fn compare_fields(at: &str, old: &[Field], new: &[Field], found: &mut Vec<String>) {
    let inside = |part: &str| if at.is_empty() { part.to_owned() } else { format!("{at}.{part}") };
    let before = found.len();
    for field in new.iter().filter(|field| !old.iter().any(|other| other.0 == field.0)) {
        found.push(format!("added field {}", inside(&field.0)));
    }
    for field in old {
        match new.iter().find(|other| other.0 == field.0) {
            None => found.push(format!("removed field {}", inside(&field.0))),
            Some(other) => compare(&inside(&field.0), &field.1, &other.1, found),
        }
    }
    if found.len() == before {
        found.push(format!("reordered fields{}", of(at)));
    }
}

fn compare_shapes(at: &str, old: &Shape, new: &Shape, found: &mut Vec<String>) {
    match (old, new) {
        (Shape::Newtype(a), Shape::Newtype(b)) => compare(at, a, b, found),
        (Shape::Struct(a), Shape::Struct(b)) => {
            if old != new {
                compare_fields(at, a, b, found);
            }
        }
        (Shape::Tuple(a), Shape::Tuple(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{at}.{i}"), a, b, found);
            }
        }
        (a, b) if a == b => {}
        _ => found.push(format!("variant {at} holds something else")),
    }
}

fn of(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!(" of {at}") }
}
