//! How present types take what was written under recorded schemas: `ValueType` does it for values,
//! `TableTypes` for tables.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::adopt::Mismatch;
use super::changes::changes;
use super::samples::{KINDS, samples};
use super::{Content, Dynamic, Field, Schema, Shape, schema_of};
use crate::codec;
use crate::data::{Data, Key};
use crate::error::{Result, StateError};
use crate::state_key::TableId;

/// The schemas of a table's keys and values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Of the keys; in a table of parts, of key and part.
    pub key: Schema,
    /// Of the values.
    pub value: Schema,
}

/// A type of values, as functions without type parameters.
#[derive(Clone, Copy)]
pub struct ValueType {
    schema: fn() -> Schema,
    /// A value of another schema, encoded as the present type.
    adopt: fn(Dynamic<'_>) -> Result<Vec<u8>, Mismatch>,
}

/// The types of a table, as functions without type parameters.
#[derive(Clone, Copy)]
pub struct TableTypes {
    key: fn() -> Schema,
    value: ValueType,
}

/// Whether a type takes what was written under a recorded schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// As it is.
    Same,
    /// Values change by themselves, or by functions that the job has.
    Migrates {
        /// What has changed, in words.
        changes: Vec<String>,
    },
    /// Not without a function, or not at all.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// A user's function from an old type to a present one.
#[derive(Clone)]
pub struct Migration {
    old: Schema,
    new: Schema,
    of_bytes: Arc<OfBytes>,
    of_dynamic: Arc<OfDynamic>,
}

/// From an encoded old value to an encoded new one.
type OfBytes = dyn Fn(&[u8]) -> Result<Vec<u8>> + Send + Sync;

/// From an old value within another to an encoded new one.
type OfDynamic = dyn Fn(Dynamic<'_>) -> Result<Vec<u8>, Mismatch> + Send + Sync;

/// What a snapshot's tables were written under, and how to go on from there.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The schemas by table. Tables that are not here are taken as they are.
    pub tables: BTreeMap<TableId, TableSchema>,
    /// The functions that the job has for the operator.
    pub migrations: Vec<Migration>,
}

/// How to change values that were written under another schema.
pub struct ValuePlan<'a> {
    of: ValueType,
    recorded: &'a Schema,
    present: Schema,
    migrations: &'a [Migration],
}

/// What to do with the values of one table.
pub(crate) enum Plan<'a> {
    /// They cannot be taken.
    Refuse(String),
    Change(ValuePlan<'a>),
}

impl Migration {
    /// A function that makes a `New` of each `Old`: of values that are one, and of each struct and
    /// enum within values that is one. The types are told by their schemas, so `Old` may have any
    /// name.
    pub fn new<Old: Data, New: Data>(f: impl Fn(Old) -> New + Send + Sync + 'static) -> Self {
        let f = Arc::new(f);
        let g = f.clone();
        let encode = |new: &New| {
            let mut bytes = Vec::new();
            codec::encode(new, &mut bytes).map(|()| bytes)
        };
        Migration {
            old: schema_of::<Old>(),
            new: schema_of::<New>(),
            of_bytes: Arc::new(move |bytes| Ok(encode(&f(codec::decode(bytes)?))?)),
            of_dynamic: Arc::new(move |value| {
                encode(&g(Old::deserialize(value)?)).map_err(serde::de::Error::custom)
            }),
        }
    }

    /// True if the function has something to do with values of this schema.
    pub fn applies_to(&self, schema: &Schema) -> bool {
        self.old.is_same(schema) || self.is_within(schema)
    }

    fn is_within(&self, schema: &Schema) -> bool {
        let fields = |fields: &[Field]| fields.iter().any(|field| self.matches_within(&field.1));
        let parts = |parts: &[Schema]| parts.iter().any(|part| self.matches_within(part));
        match schema {
            Schema::Option(inner) | Schema::Seq(inner) | Schema::Array(_, inner) => {
                self.matches_within(inner)
            }
            Schema::Map(key, value) => self.matches_within(key) || self.matches_within(value),
            Schema::Tuple(all) => parts(all),
            Schema::Struct { fields: all, .. } => fields(all),
            Schema::Enum { variants, .. } => variants.iter().any(|variant| match &variant.1 {
                Shape::Unit => false,
                Shape::Newtype(inner) => self.matches_within(inner),
                Shape::Tuple(all) => parts(all),
                Shape::Struct(all) => fields(all),
            }),
            _ => false,
        }
    }

    fn matches_within(&self, schema: &Schema) -> bool {
        self.matches(schema) || self.is_within(schema)
    }

    /// Within values only structs and enums are told apart: a number may be anything.
    fn matches(&self, schema: &Schema) -> bool {
        matches!(schema, Schema::Struct { .. } | Schema::Enum { .. }) && self.old.is_same(schema)
    }
}

impl fmt::Debug for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Migration({} to {})", self.old, self.new)
    }
}

impl fmt::Debug for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValueType")
    }
}

impl fmt::Debug for TableTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TableTypes")
    }
}

impl ValueType {
    /// The type `V`.
    pub fn of<V: Data>() -> Self {
        ValueType {
            schema: schema_of::<V>,
            adopt: |value| {
                let value = V::deserialize(value)?;
                let mut bytes = Vec::new();
                codec::encode(&value, &mut bytes).map_err(serde::de::Error::custom)?;
                Ok(bytes)
            },
        }
    }

    /// Its schema.
    ///
    /// # Cost
    /// That of [`schema_of`].
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    /// Whether it takes values that were written under `recorded`, found out with made-up ones.
    pub fn fit(&self, recorded: &Schema, migrations: &[Migration]) -> Fit {
        let present = self.schema();
        if recorded.is_same(&present) {
            return Fit::Same;
        }
        let changes = changes(recorded, &present);
        if migrations.iter().any(|migration| migration.applies_to(recorded)) {
            // The function is not called with made-up values: it may refuse them.
            return Fit::Migrates { changes };
        }
        match self.try_samples(recorded) {
            Ok(()) => Fit::Migrates { changes },
            Err(reason) => Fit::Refused { reason },
        }
    }

    fn try_samples(&self, recorded: &Schema) -> Result<(), String> {
        let mut of_value = None;
        for kind in 0..KINDS {
            let Some(values) = samples(recorded, kind) else { return Err(opaque(recorded)) };
            let mut taken = true;
            for value in values {
                match (self.adopt)(value) {
                    Ok(_) => {}
                    Err(mismatch) if mismatch.is_of_value => {
                        of_value = Some(mismatch);
                        taken = false;
                    }
                    Err(mismatch) => return Err(mismatch.to_string()),
                }
            }
            if taken {
                return Ok(());
            }
        }
        // A type that refuses all that was made up may take what there really is.
        tracing::debug!(refusal = ?of_value, "made-up values do not show whether state fits");
        Ok(())
    }

    /// How values are changed; none if they are taken as they are.
    pub fn plan<'a>(
        self,
        recorded: &'a Schema,
        migrations: &'a [Migration],
    ) -> Option<ValuePlan<'a>> {
        let present = self.schema();
        let is_same = recorded.is_same(&present);
        (!is_same).then_some(ValuePlan { of: self, recorded, present, migrations })
    }
}

impl ValuePlan<'_> {
    /// A value, as the present type encodes it.
    ///
    /// # Errors
    /// `Incompatible` if the present type does not take it, saying what to do; `Codec` if it is not
    /// of the recorded schema.
    pub fn change(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let recorded = self.recorded;
        let whole = self.migrations.iter().find(|migration| migration.old.is_same(recorded));
        if let Some(migration) = whole {
            let bytes = (migration.of_bytes)(bytes)?;
            if migration.new.is_same(&self.present) {
                return Ok(bytes);
            }
            return self.adopt(Dynamic::decode(&migration.new, &bytes)?);
        }
        if !recorded.is_transparent() {
            return Err(StateError::Incompatible(opaque(recorded)));
        }
        let value = Dynamic::decode(recorded, bytes)?;
        let value = match self.migrations {
            [] => value,
            migrations => {
                rewrite(recorded, value, migrations).map_err(|mismatch| incompatible(&mismatch))?
            }
        };
        self.adopt(value)
    }

    fn adopt(&self, value: Dynamic<'_>) -> Result<Vec<u8>> {
        (self.of.adopt)(value).map_err(|mismatch| incompatible(&mismatch))
    }
}

impl TableTypes {
    /// The types of a table.
    pub(crate) fn of<K: Key, V: Data>() -> Self {
        TableTypes { key: schema_of::<K>, value: ValueType::of::<V>() }
    }

    /// The schemas of keys and values.
    ///
    /// # Cost
    /// That of [`schema_of`]: it is for the start of a job.
    pub fn schema(&self) -> TableSchema {
        TableSchema { key: (self.key)(), value: self.value.schema() }
    }

    /// Whether the table takes what was written under `recorded`. See [`ValueType::fit`].
    pub fn fit(&self, recorded: &TableSchema, migrations: &[Migration]) -> Fit {
        match self.refusal(recorded) {
            Some(reason) => Fit::Refused { reason },
            None => self.value.fit(&recorded.value, migrations),
        }
    }

    /// Why no entry can be taken, if that is so.
    fn refusal(&self, recorded: &TableSchema) -> Option<String> {
        let present = (self.key)();
        let fits = recorded.key.has_encoding_of(&present);
        (!fits).then(|| key_reason(&recorded.key, &present))
    }

    /// What to do with values; none if they are taken as they are.
    pub(crate) fn plan<'a>(
        self,
        recorded: &'a TableSchema,
        migrations: &'a [Migration],
    ) -> Option<Plan<'a>> {
        match self.refusal(recorded) {
            Some(reason) => Some(Plan::Refuse(reason)),
            None => self.value.plan(&recorded.value, migrations).map(Plan::Change),
        }
    }
}

impl Plan<'_> {
    /// The value, as the present type encodes it.
    pub(crate) fn change(&self, table: TableId, bytes: &[u8]) -> Result<Vec<u8>> {
        let of_table = |reason| StateError::Incompatible(format!("table {table}: {reason}"));
        match self {
            Plan::Refuse(reason) => Err(of_table(reason.clone())),
            Plan::Change(plan) => plan.change(bytes).map_err(|error| match error {
                StateError::Incompatible(reason) => of_table(reason),
                error => error,
            }),
        }
    }
}

fn incompatible(mismatch: &Mismatch) -> StateError {
    StateError::Incompatible(format!(
        "{mismatch}; or give the job a function from the old type to the new one by `Job::migrate`"
    ))
}

fn key_reason(recorded: &Schema, present: &Schema) -> String {
    format!(
        "keys were {recorded} and are {present}: the type of a key is fixed for the life of its \
         state, as its hash says where the state is; give the operator another name to begin \
         without state"
    )
}

fn opaque(recorded: &Schema) -> String {
    format!(
        "the recorded type {recorded} holds a part that cannot be read without its type: give the \
         job a function from the old type to the new one by `Job::migrate`"
    )
}

/// Replaces the parts of a value that a function is for.
fn rewrite<'s>(
    schema: &'s Schema,
    value: Dynamic<'s>,
    with: &'s [Migration],
) -> Result<Dynamic<'s>, Mismatch> {
    if let Some(migration) = with.iter().find(|migration| migration.matches(schema)) {
        let bytes = (migration.of_dynamic)(value)?;
        return Dynamic::decode(&migration.new, &bytes).map_err(serde::de::Error::custom);
    }
    let all = |schema: &'s Schema, values: Vec<Dynamic<'s>>| {
        values.into_iter().map(|value| rewrite(schema, value, with)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match (schema, value) {
        (Schema::Option(inner), Dynamic::Option(Some(value))) => {
            Dynamic::Option(Some(Box::new(rewrite(inner, *value, with)?)))
        }
        (Schema::Seq(inner), Dynamic::Seq(values)) => Dynamic::Seq(all(inner, values)?),
        (Schema::Array(_, inner), Dynamic::Tuple(values)) => Dynamic::Tuple(all(inner, values)?),
        (Schema::Map(keys, values), Dynamic::Map(entries)) => {
            let entry =
                |(key, value)| Ok((rewrite(keys, key, with)?, rewrite(values, value, with)?));
            Dynamic::Map(entries.into_iter().map(entry).collect::<Result<_, Mismatch>>()?)
        }
        (Schema::Tuple(parts), Dynamic::Tuple(values)) => {
            Dynamic::Tuple(rewrite_parts(parts, values, with)?)
        }
        (Schema::Struct { fields, .. }, Dynamic::Struct(values)) => {
            Dynamic::Struct(rewrite_fields(fields, values, with)?)
        }
        (Schema::Enum { variants, .. }, Dynamic::Enum(name, content)) => {
            let shape = variants.iter().find(|variant| variant.0 == name).map(|v| &v.1);
            Dynamic::Enum(name, rewrite_content(shape, content, with)?)
        }
        (_, value) => value,
    })
}

fn rewrite_content<'s>(
    shape: Option<&'s Shape>,
    content: Content<'s>,
    with: &'s [Migration],
) -> Result<Content<'s>, Mismatch> {
    Ok(match (shape, content) {
        (Some(Shape::Newtype(inner)), Content::Newtype(value)) => {
            Content::Newtype(Box::new(rewrite(inner, *value, with)?))
        }
        (Some(Shape::Tuple(parts)), Content::Tuple(values)) => {
            Content::Tuple(rewrite_parts(parts, values, with)?)
        }
        (Some(Shape::Struct(fields)), Content::Struct(values)) => {
            Content::Struct(rewrite_fields(fields, values, with)?)
        }
        (_, content) => content,
    })
}

fn rewrite_parts<'s>(
    parts: &'s [Schema],
    values: Vec<Dynamic<'s>>,
    with: &'s [Migration],
) -> Result<Vec<Dynamic<'s>>, Mismatch> {
    parts.iter().zip(values).map(|(part, value)| rewrite(part, value, with)).collect()
}

fn rewrite_fields<'s>(
    fields: &'s [Field],
    values: Vec<(&'s str, Dynamic<'s>)>,
    with: &'s [Migration],
) -> Result<Vec<(&'s str, Dynamic<'s>)>, Mismatch> {
    let field = |(field, (name, value)): (&'s Field, (&'s str, Dynamic<'s>))| {
        Ok((name, rewrite(&field.1, value, with)?))
    };
    fields.iter().zip(values).map(field).collect()
}
