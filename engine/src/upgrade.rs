//! How a job takes over what another version of it has left: names, schemas, and what is dropped.
//!
//! # Place
//! The job declares [`Upgrades`] in its graph. Before a deployment the driver passes the manifest
//! through `Upgrades::apply`; the deployment gives each operator's snapshots the schemas that
//! they were written under (`recorded_of`), and state changes the values when it restores them.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;

use thalweg_checkpoint::{Manifest, OperatorRecord, TableRecord};
use thalweg_state::schema::Migration;
use thalweg_state::{Data, Recorded, Schema, StateTable, TableId, TableSchema};

use crate::error::{Error, ErrorKind, Result};
use crate::graph::JobGraph;
use crate::subtask::ErasedOperator;

mod compare;

pub use compare::{Comparison, OperatorComparison, Verdict, compare};

/// What a job declares about earlier versions of itself.
#[derive(Clone, Debug, Default)]
pub struct Upgrades {
    renamed: Vec<(String, String, &'static Location<'static>)>,
    dropped: Vec<(String, &'static Location<'static>)>,
    migrations: Vec<(String, Migration, &'static Location<'static>)>,
}

impl Upgrades {
    /// The source, operator or sink `new` was called `old`.
    pub fn renamed(&mut self, old: String, new: String, location: &'static Location<'static>) {
        self.renamed.push((old, new, location));
    }

    /// The state of `name`, which the job has no longer, is not needed any more.
    pub fn dropped(&mut self, name: String, location: &'static Location<'static>) {
        self.dropped.push((name, location));
    }

    /// `f` makes the present type of an old one in the state of `operator`.
    pub fn migrate<Old: Data, New: Data>(
        &mut self,
        operator: String,
        f: impl Fn(Old) -> New + Send + Sync + 'static,
        location: &'static Location<'static>,
    ) {
        self.migrations.push((operator, Migration::new(f), location));
    }

    /// Checks that what is declared is about this graph.
    pub(crate) fn validate(&self, graph: &JobGraph) -> Result<()> {
        let has = |name: &str| graph.nodes().any(|node| graph.info(node).name == name);
        let problem = |what: String, at: &Location<'_>| {
            Err(Error::config(format!("{what} ({}:{})", at.file(), at.line())))
        };
        for (old, new, at) in &self.renamed {
            if !has(new) {
                return problem(format!("`{old}` is renamed to `{new}`, which is not there"), at);
            }
            if has(old) {
                return problem(format!("`{old}` is renamed to `{new}`, and is there still"), at);
            }
        }
        for (name, at) in &self.dropped {
            if has(name) {
                return problem(format!("`{name}` is dropped, and is there still"), at);
            }
        }
        for (name, _, at) in &self.migrations {
            if !has(name) {
                return problem(format!("a migration is for `{name}`, which is not there"), at);
            }
        }
        Ok(())
    }

    /// The functions for the state of an operator.
    pub(crate) fn migrations_of(&self, operator: &str) -> Vec<Migration> {
        let mine = self.migrations.iter().filter(|(name, ..)| name == operator);
        mine.map(|(_, migration, _)| migration.clone()).collect()
    }

    /// What an operator of the old job is called now, if it is called otherwise.
    pub(crate) fn new_name<'a>(&'a self, manifest: &Manifest, old: &str) -> Option<&'a str> {
        let (_, new, _) = self.renamed.iter().find(|(name, ..)| name == old)?;
        // After a restart the manifest has the new name already.
        let is_taken = manifest.operators.iter().any(|record| record.name == *new);
        (!is_taken).then_some(new)
    }

    /// True if the job says that it does not need what `name` has left.
    pub(crate) fn is_dropped(&self, name: &str) -> bool {
        self.dropped.iter().any(|(dropped, _)| dropped == name)
    }

    /// The manifest as this job's own: under the present names, without what is dropped.
    ///
    /// # Errors
    /// `Incompatible` if output of a dropped sink waits for its commit, `Corrupt` if the generators
    /// of a split cannot be read.
    pub(crate) fn apply(&self, manifest: Manifest, is_committed: bool) -> Result<Manifest> {
        if self.renamed.is_empty() && self.dropped.is_empty() {
            return Ok(manifest);
        }
        let names: BTreeMap<String, String> = manifest
            .operators
            .iter()
            .filter_map(|record| {
                let new = self.new_name(&manifest, &record.name)?;
                Some((record.name.clone(), new.to_owned()))
            })
            .collect();
        let rename = |name: &mut String| {
            if let Some(new) = names.get(name) {
                name.clone_from(new);
            }
        };
        let mut manifest = manifest;
        if let Some(waiting) = manifest.committables.iter().find(|c| self.is_dropped(&c.sink))
            && !is_committed
        {
            return Err(Error::new(
                ErrorKind::Incompatible,
                format!(
                    "output of the sink `{}` waits for its commit, so it cannot be dropped: stop \
                     the earlier version of the job in order",
                    waiting.sink
                ),
            ));
        }
        manifest.operators.retain(|record| !self.is_dropped(&record.name));
        manifest.operators.iter_mut().for_each(|record| rename(&mut record.name));
        manifest.committables.retain(|committables| !self.is_dropped(&committables.sink));
        manifest.committables.iter_mut().for_each(|committables| rename(&mut committables.sink));
        for snapshot in manifest.subtasks.iter_mut().map(|record| &mut record.snapshot) {
            snapshot.operators.retain(|part| !self.is_dropped(&part.operator));
            snapshot.operators.iter_mut().for_each(|part| rename(&mut part.operator));
            snapshot.in_flight.retain(|part| !self.is_dropped(&part.to));
            for part in &mut snapshot.in_flight {
                rename(&mut part.from);
                rename(&mut part.to);
            }
            snapshot.splits.retain(|split| !self.is_dropped(&split.source));
            for split in &mut snapshot.splits {
                rename(&mut split.source);
                let mut generators: Vec<(String, Vec<u8>)> =
                    thalweg_state::codec::decode(&split.generator)?;
                generators.iter_mut().for_each(|(name, _)| rename(name));
                split.generator.clear();
                thalweg_state::codec::encode(&generators, &mut split.generator)?;
            }
            for (counter, _) in &mut snapshot.counters {
                if let Some((name, rest)) = counter.split_once('/')
                    && let Some(new) = names.get(name)
                {
                    *counter = format!("{new}/{rest}");
                }
            }
        }
        Ok(manifest)
    }
}

/// Tables by the name of their operator, for manifests.
#[derive(Default)]
pub(crate) struct OperatorTables(BTreeMap<String, Vec<TableRecord>>);

impl OperatorTables {
    /// Notes the tables of an operator; all of its subtasks have the same ones.
    pub(crate) fn add(&mut self, name: &str, operator: &mut dyn ErasedOperator) -> Result<()> {
        if self.0.contains_key(name) {
            return Ok(());
        }
        let mut tables = Vec::new();
        operator.each_table(&mut |table| {
            tables.push(table_record(table));
            Ok(())
        })?;
        self.0.insert(name.to_owned(), tables.into_iter().collect::<Result<_>>()?);
        Ok(())
    }

    /// Completes what manifests say of these operators.
    pub(crate) fn complete(mut self, mut records: Vec<OperatorRecord>) -> Vec<OperatorRecord> {
        for record in &mut records {
            if let Some(tables) = self.0.remove(&record.name) {
                record.tables = tables;
            }
        }
        records
    }
}

/// What a manifest says of a table.
fn table_record(table: &dyn StateTable) -> Result<TableRecord> {
    let TableSchema { key, value } = table.types().schema();
    let (key, value) = (schema_to_json(&key)?, schema_to_json(&value)?);
    Ok(TableRecord { id: table.id().0, key, value })
}

/// A schema as manifests have it.
pub(crate) fn schema_to_json(schema: &Schema) -> Result<serde_json::Value> {
    serde_json::to_value(schema)
        .map_err(|error| Error::bug("a schema has no JSON").with_source(error))
}

/// A schema that a manifest has of `what`.
///
/// # Errors
/// `Incompatible` if it is written in a way that this build does not know.
pub(crate) fn schema_of_json(json: &serde_json::Value, what: &str) -> Result<Schema> {
    serde_json::from_value(json.clone()).map_err(|error| {
        let message = format!("the schemas of `{what}` are of a later version");
        Error::new(ErrorKind::Incompatible, message).with_source(error)
    })
}

/// The schemas of an operator's tables.
///
/// # Errors
/// `Incompatible` if they are written in a way that this build does not know.
pub fn table_schemas(record: &OperatorRecord) -> Result<BTreeMap<TableId, TableSchema>> {
    let read = |json: &serde_json::Value| schema_of_json(json, &record.name);
    let table = |table: &TableRecord| {
        Ok((TableId(table.id), TableSchema { key: read(&table.key)?, value: read(&table.value)? }))
    };
    record.tables.iter().map(table).collect()
}

/// What the snapshots of an operator were written under, and the job's functions for it.
pub(crate) fn recorded_of(
    graph: &JobGraph,
    manifest: &Manifest,
    operator: &str,
) -> Result<Arc<Recorded>> {
    let record = manifest.operators.iter().find(|record| record.name == operator);
    let tables = record.map(table_schemas).transpose()?.unwrap_or_default();
    Ok(Arc::new(Recorded { tables, migrations: graph.upgrades.migrations_of(operator) }))
}
