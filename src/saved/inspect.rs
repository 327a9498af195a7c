//! `inspect`: what is in a savepoint or checkpoint; entries by their recorded schemas.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};
use thalweg_engine::checkpoint::{Archive, CheckpointId, Manifest, OperatorPart};
use thalweg_engine::savepoint::{Entries, read_entries};
use thalweg_engine::state::schema::Dynamic;
use thalweg_engine::state::{Namespace, StateKey, TableId, TableSchema};
use thalweg_engine::upgrade::table_schemas;
use thalweg_engine::{Error, Result};

use super::print;
use crate::command_line::saved::{InspectFormat, InspectOptions};

/// How many entries of a table are shown if not all are asked for.
const SHOWN_ENTRIES: u64 = 100;

pub(super) fn inspect(options: &InspectOptions) -> Result<()> {
    let archive = Archive::open(&options.path, options.checkpoint.map(CheckpointId))?;
    match &options.operator {
        Some(operator) => show_entries(&archive, operator, options),
        None => match options.format {
            InspectFormat::Text => print(overview(&archive)?.trim_end()),
            InspectFormat::Jsonl => lines(&archive)?.iter().try_for_each(|l| print(&l.to_string())),
        },
    }
}

/// The number of entries of a part, its bytes, and its number of runs.
fn size_of(archive: &Archive, part: &OperatorPart) -> Result<(u64, u64, usize)> {
    let mut entries = 0;
    read_entries(archive, part, &mut |_, _| {
        entries += 1;
        Ok(Entries::Continue)
    })?;
    Ok((entries, part.runs.iter().map(|run| run.file.bytes).sum(), part.runs.len()))
}

fn parts(manifest: &Manifest) -> impl Iterator<Item = (String, &OperatorPart)> {
    manifest.subtasks.iter().flat_map(|record| {
        let subtask = record.subtask.to_string();
        record.snapshot.operators.iter().map(move |part| (subtask.clone(), part))
    })
}

fn has_state(manifest: &Manifest, part: &OperatorPart) -> bool {
    !part.runs.is_empty()
        || manifest
            .operators
            .iter()
            .any(|record| record.name == part.operator && !record.tables.is_empty())
}

fn watermark(millis: i64) -> Value {
    if millis == i64::MIN { Value::Null } else { json!(millis) }
}

/// What there is, for programs: a line each.
fn lines(archive: &Archive) -> Result<Vec<Value>> {
    let manifest = archive.manifest();
    let mut lines = vec![json!({
        "what": "checkpoint",
        "job": manifest.job,
        "checkpoint": manifest.id,
        "kind": manifest.kind,
        "created_ms": manifest.created_ms,
        "version": manifest.thalweg_version,
        "key_groups": manifest.key_group_count,
        "parallelism": manifest.parallelism,
        "finished": manifest.finished,
        "committed": archive.is_committed(),
        "savepoint": manifest.savepoint,
    })];
    for record in &manifest.operators {
        lines.push(json!({
            "what": record.kind, "name": record.name, "state": record.state,
            "tables": record.tables,
        }));
    }
    for (subtask, part) in parts(manifest).filter(|(_, part)| has_state(manifest, part)) {
        let (entries, bytes, runs) = size_of(archive, part)?;
        lines.push(json!({
            "what": "part", "operator": part.operator, "subtask": subtask,
            "key_groups": [part.key_groups.0, part.key_groups.1],
            "entries": entries, "bytes": bytes, "runs": runs,
            "watermark_ms": watermark(part.watermark),
        }));
    }
    for split in manifest.subtasks.iter().flat_map(|record| &record.snapshot.splits) {
        lines.push(json!({
            "what": "split", "source": split.source, "split": split.split,
            "position": readable(&split.position), "finished": split.finished,
        }));
    }
    for sink in &manifest.committables {
        lines.push(json!({
            "what": "committables", "sink": sink.sink,
            "committables": sink.committables.iter().map(|c| readable(c)).collect::<Vec<_>>(),
        }));
    }
    Ok(lines)
}

/// Bytes as text if they are one, otherwise as hexadecimal digits.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control()) => text.to_owned(),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// What there is, for people.
fn overview(archive: &Archive) -> Result<String> {
    let manifest = archive.manifest();
    let mut text = format!(
        "{}: job {}, checkpoint {} ({}), {} key groups, parallelism {}\n",
        archive.path().display(),
        manifest.job,
        manifest.id,
        manifest.kind,
        manifest.key_group_count,
        manifest.parallelism
    );
    let mut add = |line: String| text.push_str(&format!("  {line}\n"));
    for record in &manifest.operators {
        let mine = parts(manifest)
            .filter(|(_, part)| part.operator == record.name && has_state(manifest, part));
        for (i, (subtask, part)) in mine.enumerate() {
            if i == 0 {
                add(format!("{} {}", record.kind, record.name));
                for table in table_schemas(record)? {
                    add(format!("  table {}: {} -> {}", table.0, table.1.key, table.1.value));
                }
            }
            let (entries, bytes, runs) = size_of(archive, part)?;
            let (start, end) = part.key_groups;
            let time = match watermark(part.watermark) {
                Value::Null => "no watermark".to_owned(),
                millis => format!("watermark {millis}"),
            };
            add(format!(
                "  subtask {subtask}, key groups {start}..{end}: {entries} entries, {bytes} bytes \
                 in {runs} runs, {time}"
            ));
        }
    }
    for split in manifest.subtasks.iter().flat_map(|record| &record.snapshot.splits) {
        let end = if split.finished { ", read to its end" } else { "" };
        let position = readable(&split.position);
        add(format!("source {}: split {} at {position}{end}", split.source, split.split));
    }
    for sink in &manifest.committables {
        let count = sink.committables.len();
        let state = if archive.is_committed() { "committed" } else { "waiting for their commit" };
        add(format!("sink {}: {count} committables, {state}", sink.sink));
    }
    Ok(text)
}

/// Prints entries as lines of JSON.
fn show_entries(archive: &Archive, operator: &str, options: &InspectOptions) -> Result<()> {
    let manifest = archive.manifest();
    let Some(record) = manifest.operators.iter().find(|record| record.name == operator) else {
        let names: Vec<&str> = manifest.operators.iter().map(|r| r.name.as_str()).collect();
        return Err(Error::config(format!(
            "there is no operator `{operator}`: there are {}",
            names.join(", ")
        )));
    };
    let key = options.key.as_ref().map(|key| {
        serde_json::from_str(key).map_err(|error| {
            Error::config(format!("`{key}` is no JSON: a text has quotes")).with_source(error)
        })
    });
    let printer = Printer {
        schemas: table_schemas(record)?,
        key: key.transpose()?,
        limit: if options.all || options.key.is_some() { u64::MAX } else { SHOWN_ENTRIES },
        shown: RefCell::default(),
        out: RefCell::new(BufWriter::new(io::stdout().lock())),
    };
    for (_, part) in parts(manifest).filter(|(_, part)| part.operator == operator) {
        read_entries(archive, part, &mut |key, value| printer.entry(key, value))?;
    }
    match printer.out.into_inner().flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(error)),
        _ => Ok(()),
    }
}

fn unwritable(error: io::Error) -> Error {
    Error::unavailable("cannot write to the standard output").with_source(error)
}

/// Prints the entries of one operator.
struct Printer<W: Write> {
    schemas: BTreeMap<TableId, TableSchema>,
    key: Option<Value>,
    /// How many entries of a table are shown.
    limit: u64,
    shown: RefCell<BTreeMap<TableId, u64>>,
    out: RefCell<W>,
}

impl<W: Write> Printer<W> {
    fn entry(&self, state_key: &StateKey<'_>, value: &[u8]) -> Result<Entries> {
        let mut shown = self.shown.borrow_mut();
        let shown = shown.entry(state_key.table).or_default();
        if *shown == self.limit {
            return Ok(Entries::Continue);
        }
        let schema = self.schemas.get(&state_key.table);
        let key = schema.map(|schema| Dynamic::decode_key(&schema.key, state_key.key));
        let key = in_json(key, state_key.key);
        // In a table of parts the key is the first of a pair.
        let is_asked_for = |asked: &Value| key == *asked || key.get(0) == Some(asked);
        if !self.key.as_ref().is_none_or(is_asked_for) {
            return Ok(Entries::Continue);
        }
        *shown += 1;
        let value = in_json(schema.map(|schema| Dynamic::decode(&schema.value, value)), value);
        let mut line = json!({ "table": state_key.table.0, "key": key, "value": value });
        if state_key.namespace != Namespace::default() {
            let Namespace(start, end) = state_key.namespace;
            line["slice"] = json!([start, end]);
        }
        match writeln!(self.out.borrow_mut(), "{line}") {
            Ok(()) => Ok(Entries::Continue),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Entries::Stop),
            Err(error) => Err(unwritable(error)),
        }
    }
}

/// What was decoded; bytes that cannot be, as hexadecimal digits.
fn in_json<E>(decoded: Option<Result<Dynamic<'_>, E>>, bytes: &[u8]) -> Value {
    let decoded = decoded.and_then(Result::ok);
    let value = decoded.and_then(|decoded| serde_json::to_value(decoded).ok());
    value.unwrap_or_else(|| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "encoded": digits })
    })
}
