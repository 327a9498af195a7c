//! `compare`: whether a job can take over a savepoint or checkpoint, found out without starting it.
//!
//! Every operator is opened on empty state in memory, which shows its tables; and once more on some
//! of the entries that there really are, which shows whether it takes them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use thalweg_checkpoint::{Archive, Manifest, OperatorRecord, source_splits};
use thalweg_state::schema::Fit;
use thalweg_state::{
    BackendConfig, KeyGroupCount, KeyGroupRange, PortableReader, PortableWriter, RestoreSource,
    TableId, TableTypes,
};

use super::{recorded_of, table_schemas};
use crate::deploy::in_flight;
use crate::error::Result;
use crate::external::{Executor, External, ExternalCall};
use crate::graph::{JobGraph, Make, NodeId, NodeInfo, NodeKind};
use crate::operator::OpenContext;
use crate::park::Waker;
use crate::savepoint::open_part;
use crate::subtask::{ErasedOperator, guard};
use crate::time::EventTime;

/// So many entries of an operator are restored to try it.
const TRIED_ENTRIES: usize = 1_000;

/// What a job would make of a savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What stands and falls with the job as a whole: what keeps it from starting.
    pub problems: Vec<String>,
    /// Every operator, source and sink with state, of the job or of the savepoint.
    pub operators: Vec<OperatorComparison>,
}

/// What becomes of the state of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorComparison {
    /// Its name in the job; in the savepoint, if it is not in the job.
    pub name: String,
    /// Its name in the savepoint, if that is another one.
    pub was: Option<String>,
    /// What becomes of its state.
    pub verdict: Verdict,
}

/// What becomes of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken over as it is.
    Same,
    /// It is taken over, and values change by themselves or by the job's functions.
    Migrates {
        /// What has changed, in words.
        changes: Vec<String>,
    },
    /// It cannot be taken over.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// The savepoint does not say of which types it is.
    Unrecorded,
    /// The job gives it up.
    Dropped,
    /// The job does not have the operator and does not say why.
    Missing,
    /// The operator begins without state.
    New,
}

impl Comparison {
    /// True if the job can start from the savepoint.
    pub fn can_start(&self) -> bool {
        let stops =
            |verdict: &Verdict| matches!(verdict, Verdict::Refused { .. } | Verdict::Missing);
        self.problems.is_empty() && !self.operators.iter().any(|found| stops(&found.verdict))
    }
}

/// Compares a job with a savepoint or checkpoint.
///
/// # Errors
/// If the savepoint is damaged, or an operator cannot be opened at all.
///
/// # Cost
/// Some state of each operator is read. Sources look for their splits; nothing is opened or read.
pub fn compare(
    graph: &JobGraph,
    job: &str,
    archive: &Archive,
    key_groups: KeyGroupCount,
) -> Result<Comparison> {
    let saved = archive.manifest();
    let mut problems = Vec::new();
    if saved.job != job {
        problems.push(format!("it is of the job `{}`, not of `{job}`", saved.job));
    }
    if saved.key_group_count != key_groups.get() {
        problems.push(format!(
            "it has {} key groups, the job {}: start with --key-groups {0}",
            saved.key_group_count,
            key_groups.get()
        ));
    }
    let mut operators = Vec::new();
    for record in saved.operators.iter().filter(|record| record.state) {
        let is_there = graph.nodes().any(|node| graph.info(node).name == record.name);
        if graph.upgrades.new_name(saved, &record.name).is_none() && !is_there {
            let is_dropped = graph.upgrades.is_dropped(&record.name);
            let verdict = if is_dropped { Verdict::Dropped } else { Verdict::Missing };
            operators.push(OperatorComparison { name: record.name.clone(), was: None, verdict });
        }
    }
    let manifest = match graph.upgrades.apply(saved.clone(), archive.is_committed()) {
        Ok(manifest) => manifest,
        Err(error) => {
            problems.push(error.to_string());
            saved.clone()
        }
    };
    let parallelism = (manifest.parallelism as usize).max(1);
    if let Err(error) = in_flight::plan(graph, parallelism, Some(&manifest)) {
        problems.push(error.to_string());
    }
    for node in graph.nodes().filter(|node| graph.info(*node).is_stateful) {
        let info = graph.info(node);
        let was = saved.operators.iter().find(|record| {
            graph.upgrades.new_name(saved, &record.name) == Some(info.name.as_str())
        });
        let record = manifest.operators.iter().find(|record| record.name == info.name);
        let verdict = match (record, &graph.graph[node.0].make) {
            (None, _) => Verdict::New,
            (Some(_), Make::Source(source)) => {
                let splits = guard(&info.name, || source.splits());
                let names = splits.map(|all| all.into_iter().map(|split| split.id).collect());
                splits_verdict(&manifest, &info.name, names)
            }
            (Some(_), Make::Sink(_)) => Verdict::Same,
            (Some(record), Make::Operator(_)) => {
                let job = Compared { graph, manifest: &manifest, archive, key_groups };
                job.operator_verdict(node, record)?
            }
        };
        let was = was.map(|record| record.name.clone());
        operators.push(OperatorComparison { name: info.name.clone(), was, verdict });
    }
    Ok(Comparison { problems, operators })
}

fn splits_verdict(manifest: &Manifest, source: &str, found: Result<Vec<String>>) -> Verdict {
    let found = match found {
        Ok(found) => found,
        Err(error) => return Verdict::Refused { reason: error.to_string() },
    };
    let known = source_splits(manifest, source);
    let gone = known.iter().find(|state| !state.finished && !found.contains(&state.split));
    if let Some(gone) = gone {
        let reason = format!("the split `{}` is gone, and was not read to its end", gone.split);
        return Verdict::Refused { reason };
    }
    let new = found.iter().filter(|name| !known.iter().any(|state| state.split == **name));
    let changes: Vec<String> = new.map(|name| format!("added split {name}")).collect();
    if changes.is_empty() { Verdict::Same } else { Verdict::Migrates { changes } }
}

/// What is compared.
struct Compared<'a> {
    graph: &'a JobGraph,
    manifest: &'a Manifest,
    archive: &'a Archive,
    key_groups: KeyGroupCount,
}

impl Compared<'_> {
    fn operator_verdict(&self, node: NodeId, record: &OperatorRecord) -> Result<Verdict> {
        let info = self.graph.info(node);
        let recorded = table_schemas(record)?;
        let (entries, tables_with_entries) = self.some_entries(&info.name)?;
        if recorded.is_empty() && !tables_with_entries.is_empty() {
            return Ok(Verdict::Unrecorded);
        }
        let present = self.tables(node)?;
        let migrations = self.graph.upgrades.migrations_of(&info.name);
        let mut all_changes = Vec::new();
        for (id, schema) in &recorded {
            let Some(types) = present.get(id) else {
                all_changes.push(format!("removed table {id}"));
                continue;
            };
            match types.fit(schema, &migrations) {
                Fit::Same => {}
                Fit::Migrates { changes } => {
                    all_changes.extend(changes.iter().map(|what| format!("table {id}: {what}")));
                }
                Fit::Refused { reason } => {
                    return Ok(Verdict::Refused { reason: format!("table {id}: {reason}") });
                }
            }
        }
        for id in present.keys().filter(|id| !recorded.contains_key(id)) {
            all_changes.push(format!("added table {id}"));
        }
        let restored: Vec<RestoreSource> = entries.into_iter().collect();
        if let Err(error) = self.open(node, &restored) {
            return Ok(Verdict::Refused { reason: error.to_string() });
        }
        Ok(match all_changes.is_empty() {
            true => Verdict::Same,
            false => Verdict::Migrates { changes: all_changes },
        })
    }

    /// The operator's tables.
    fn tables(&self, node: NodeId) -> Result<BTreeMap<TableId, TableTypes>> {
        let mut tables = BTreeMap::new();
        self.open(node, &[])?.each_table(&mut |table| {
            tables.insert(table.id(), table.types());
            Ok(())
        })?;
        Ok(tables)
    }

    fn open(&self, node: NodeId, restored: &[RestoreSource]) -> Result<Box<dyn ErasedOperator>> {
        let NodeInfo { name, kind, .. } = self.graph.info(node);
        debug_assert_eq!(*kind, NodeKind::Operator);
        let Make::Operator(factory) = &self.graph.graph[node.0].make else {
            return Err(crate::Error::bug("only operators are opened"));
        };
        let mut operator = guard(name, || Ok(factory()))?;
        let mut context = OpenContext {
            operator: name,
            subtask_index: 0,
            parallelism: 1,
            key_groups: KeyGroupRange::all(self.key_groups),
            key_group_count: self.key_groups,
            backend: BackendConfig::Memory,
            restored,
            restored_watermark: EventTime::MIN,
            restored_from: (!restored.is_empty()).then_some(self.manifest.id),
            is_checkpointed: true,
            leave_from: None,
            waker: Waker::default(),
            stream: RefCell::default(),
            notified: None,
            external: External::new(Arc::new(Nobody)),
        };
        guard(name, || operator.open(&mut context))?;
        Ok(operator)
    }

    /// Some entries of an operator as a snapshot, and which tables they are of.
    fn some_entries(&self, operator: &str) -> Result<(Option<RestoreSource>, Vec<TableId>)> {
        let Ok(count) = KeyGroupCount::try_from(self.manifest.key_group_count) else {
            return Ok((None, Vec::new()));
        };
        let (mut tables, mut tried) = (Vec::new(), 0);
        let mut writer = PortableWriter::new(count);
        let parts = self.manifest.subtasks.iter().flat_map(|record| &record.snapshot.operators);
        let mut parts: Vec<_> = parts.filter(|part| part.operator == operator).collect();
        parts.sort_by_key(|part| part.key_groups);
        for part in parts {
            let source = open_part(part, &mut |file| Ok(self.archive.part(file)?))?;
            for group in part.key_groups.0..part.key_groups.1 {
                if tried >= TRIED_ENTRIES {
                    break;
                }
                source.for_each(KeyGroupRange::new(group, group + 1), |key, value| {
                    if !tables.contains(&key.table) {
                        tables.push(key.table);
                    }
                    tried += 1;
                    let mut state_key = Vec::new();
                    key.encode(&mut state_key);
                    writer.push(&state_key, value)
                })?;
            }
        }
        if tables.is_empty() {
            return Ok((None, tables));
        }
        let recorded = recorded_of(self.graph, self.manifest, operator)?;
        let reader = PortableReader::of_bytes(&writer.finish()?)?;
        let source = RestoreSource::new(vec![(reader, KeyGroupRange::all(count))]);
        Ok((Some(source.recorded(recorded)), tables))
    }
}

/// Nobody carries out calls: no record is processed.
struct Nobody;

impl Executor for Nobody {
    fn spawn(&self, _call: ExternalCall) {}
}
