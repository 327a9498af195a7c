//! Records that make an operator fail each time: how they are found, and when a job gives up.
//!
//! # Place
//! The thread driver tells [`PoisonWatch`] of failures and checkpoints (`runtime/attempts.rs`,
//! `runtime/coordinate.rs`). Under suspicion an attempt is deployed with identities on all records,
//! and the suspected operator is given them one at a time (`subtask/chain.rs`): if it fails again,
//! the error says at which. Nothing of this costs anything in an attempt without a suspicion.
//!
//! # Invariants
//! * I1: only failures of user functions are suspicious, and no error that says itself that it may
//!   pass ([`Error::is_passing`]). A job is ended only by those that were watched: at a record, or
//!   at what is due at a watermark. What fails by the clock, at a barrier or outside is left to the
//!   restart policy.
//! * I2: a suspicion ends when a checkpoint covers all that had been read when it arose: then the
//!   record was processed without a failure. Identities and single records end with it.

use std::any::Any;
use std::collections::BTreeMap;

use thalweg_checkpoint::{Manifest, source_splits};

use crate::batch::RecordId;
use crate::deploy::records_read;
use crate::error::{Error, ErrorKind};
use crate::graph::{JobGraph, Make};
use crate::source::{RestoredSplit, Split};
use crate::subtask::guard;
use crate::time::{EventTime, ProcessingTime};

/// What an operator was working on when it failed, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct RecordAt {
    /// Which record, unless it was made from several.
    pub(crate) id: Option<RecordId>,
    /// Its event time.
    pub(crate) time: Option<EventTime>,
    /// Where its source has it, if the source can tell.
    pub(crate) place: Option<String>,
    /// The record itself, if its type can be shown.
    pub(crate) shown: Option<String>,
    /// No record, but what was due at this watermark.
    pub(crate) watermark: Option<EventTime>,
}

/// How far a split had been read when an attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SplitRead {
    pub(crate) source: String,
    pub(crate) split: String,
    /// The split in the identities of its records.
    pub(crate) number: u64,
    /// The number of records read.
    pub(crate) read: u64,
}

/// What is suspected, after one failure or several of the same cause.
#[derive(Debug)]
struct Suspicion {
    operator: String,
    message: String,
    record: Option<RecordAt>,
    /// The failures so far.
    count: u32,
    /// What had been read of each source's splits at the newest of them.
    read: BTreeMap<(String, String), u64>,
}

/// Watches the failures of one run.
#[derive(Debug)]
pub(crate) struct PoisonWatch {
    after: u32,
    suspicion: Option<Suspicion>,
}

impl PoisonWatch {
    /// Gives up after so many failures; never, if that is 0.
    pub(crate) fn new(after: u32) -> Self {
        PoisonWatch { after, suspicion: None }
    }

    /// The operator that is to get its records one at a time.
    pub(crate) fn suspect(&self) -> Option<&str> {
        self.suspicion.as_ref().map(|suspicion| suspicion.operator.as_str())
    }

    /// The job has failed, after it had read so much. The error that it ends with, if it was for
    /// the same cause once too often.
    pub(crate) fn handle_failure(&mut self, error: &Error, read: &[SplitRead]) -> Option<Error> {
        let is_suspicious = error.kind() == ErrorKind::User && !error.is_passing();
        let operator = error.operator().filter(|_| is_suspicious && self.after > 0)?;
        let before = self.suspicion.take().filter(|before| before.is_cause_of(operator, error));
        let suspicion = Suspicion {
            operator: operator.to_owned(),
            message: error.message().to_owned(),
            record: error.record().cloned(),
            count: before.map_or(0, |before| before.count) + 1,
            read: read.iter().map(|s| ((s.source.clone(), s.split.clone()), s.read)).collect(),
        };
        let is_due = suspicion.count >= self.after;
        let verdict = suspicion.record.as_ref().filter(|_| is_due);
        let verdict = verdict.map(|record| suspicion.verdict(&record.describe(read)));
        self.suspicion = Some(suspicion);
        verdict
    }

    /// A checkpoint was published; true if it ends the suspicion (I2).
    pub(crate) fn handle_checkpoint(&mut self, manifest: &Manifest) -> bool {
        let Some(suspicion) = &self.suspicion else { return false };
        let splits = manifest.subtasks.iter().flat_map(|record| &record.snapshot.splits);
        let is_behind = |(source, split): (&String, &String), read: u64| {
            splits.clone().any(|state| {
                let is_it = state.source == *source && state.split == *split;
                is_it && !state.finished && records_read(state).is_ok_and(|now| now < read)
            })
        };
        let is_over =
            !suspicion.read.iter().any(|((source, split), read)| is_behind((source, split), *read));
        if is_over {
            self.suspicion = None;
        }
        is_over
    }
}

impl Suspicion {
    /// True if `error` is what was to be expected if the suspicion is right.
    fn is_cause_of(&self, operator: &str, error: &Error) -> bool {
        let is_same_message = self.message == error.message();
        let is_same_record = match (&self.record, error.record()) {
            (Some(before), Some(now)) if before.id.is_some() || now.id.is_some() => {
                before.id == now.id
            }
            (Some(before), Some(now)) => {
                before.watermark.is_some() == now.watermark.is_some() && is_same_message
            }
            (None, None) => is_same_message,
            // The first of them was not watched.
            _ => true,
        };
        self.operator == operator && is_same_record
    }

    fn verdict(&self, what: &str) -> Error {
        Error::user(format!(
            "{what} makes it fail each time, {} so far: {}; mend the function or the input, or \
             send such records to a dead-letter stream (`try_map` with `OnError::DeadLetter`)",
            match self.count {
                1 => "once".to_owned(),
                count => format!("{count} times"),
            },
            self.message
        ))
        .fatal()
        .in_operator(&self.operator)
    }
}

impl RecordAt {
    /// The record as messages name it: `record 4711 of split `a.csv` of `lines``.
    pub(crate) fn describe(&self, read: &[SplitRead]) -> String {
        if let Some(watermark) = self.watermark {
            return format!("what is due at the watermark {} ms", watermark.millis());
        }
        let split = self.id.and_then(|id| {
            let split = read.iter().find(|split| split.number == id.split)?;
            Some(format!(
                "record {} of split `{}` of `{}`",
                id.offset + 1,
                split.split,
                split.source
            ))
        });
        let mut text = split.unwrap_or_else(|| "a record".to_owned());
        let is_timed = |time: &EventTime| time.is_valid_for_record();
        let time =
            self.time.filter(is_timed).map(|time| format!("event time {} ms", time.millis()));
        let known = [self.place.clone(), self.shown.clone(), time];
        let known: Vec<String> = known.into_iter().flatten().collect();
        if !known.is_empty() {
            text.push_str(&format!(" ({})", known.join(", ")));
        }
        text
    }
}

/// Where the source has the record at which `error` arose, if it can tell: read again from the
/// checkpoint that the next attempt starts from.
pub(crate) fn locate(
    error: &Error,
    read: &[SplitRead],
    graph: &JobGraph,
    newest: Option<&Manifest>,
    now: ProcessingTime,
) -> Option<String> {
    let id = error.record()?.id?;
    let at = read.iter().find(|at| at.number == id.split)?;
    let node = graph.nodes().find(|node| graph.info(*node).name == at.source)?;
    let Make::Source(source) = &graph.graph[node.0].make else { return None };
    let states = newest.map(|manifest| source_splits(manifest, &at.source)).unwrap_or_default();
    let restored = match states.iter().find(|state| state.split == at.split) {
        Some(state) => RestoredSplit {
            position: state.position.clone(),
            is_finished: state.finished,
            read: records_read(state).ok()?,
        },
        None => RestoredSplit::default(),
    };
    // Nothing is made worse by a source that fails here, too.
    let split = Split::new(at.split.as_str());
    guard(&at.source, || source.locate(&split, &restored, id.offset, now)).ok()?
}

/// A record as text, if it is of a type that has one for certain: text, or a number.
pub(crate) fn show<T: 'static>(record: &T) -> Option<String> {
    /// The longest text that is shown, in characters.
    const LONGEST: usize = 200;
    let record: &dyn Any = record;
    macro_rules! number {
        ($($number:ty),*) => { $(
            if let Some(number) = record.downcast_ref::<$number>() {
                return Some(number.to_string());
            }
        )* };
    }
    number!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, bool, char);
    let text = match (record.downcast_ref::<String>(), record.downcast_ref::<&'static str>()) {
        (Some(text), _) => text,
        (None, Some(text)) => *text,
        (None, None) => return None,
    };
    Some(match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}, cut short", &text[..end]),
        None => format!("{text:?}"),
    })
}

#[cfg(test)]
mod tests;
