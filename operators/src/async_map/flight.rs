//! Records in flight: from the question to the answer, in the order in which they came.
//!
//! # Invariants
//! * I1: records stand in the order in which they came, so the first holds the watermark back
//!   furthest. Restored ones, which may come from several subtasks, hold it back altogether.
//! * I2: an answer counts only for the attempt that asked for it: one that was given up may still
//!   answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use thalweg_engine::park::Notifier;
use thalweg_engine::state::KeyGroup;
use thalweg_engine::{EventTime, ProcessingTime, RecordId};

/// A record that waits for its answer, as it is kept in checkpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Question<T> {
    pub(super) record: T,
    pub(super) time: EventTime,
    pub(super) mark: Option<EventTime>,
    pub(super) id: Option<RecordId>,
}

/// Where a question stands.
pub(super) enum Phase<U> {
    /// An attempt is under way, and given up at that time.
    Asked { until: Option<ProcessingTime> },
    /// The next attempt is made at that time.
    Delayed { until: ProcessingTime },
    /// There is an answer, or there will be none.
    Answered(Result<U, String>),
}

/// A question and where it stands.
pub(super) struct InFlight<T, U> {
    pub(super) number: u64,
    /// The key group that keeps the question.
    pub(super) group: KeyGroup,
    pub(super) question: Question<T>,
    /// The watermark before the record: all that may be forwarded until it is answered.
    watermark: EventTime,
    pub(super) attempt: u32,
    pub(super) phase: Phase<U>,
}

/// All questions of a subtask.
pub(super) struct Flight<T, U> {
    queue: VecDeque<InFlight<T, U>>,
    next_number: u64,
}

impl<T, U> Flight<T, U> {
    pub(super) fn new() -> Self {
        Flight { queue: VecDeque::new(), next_number: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Appends a question that came behind `watermark`; the first attempt is yet to be made.
    pub(super) fn push(
        &mut self,
        group: KeyGroup,
        question: Question<T>,
        watermark: EventTime,
        phase: Phase<U>,
    ) {
        let number = self.next_number;
        self.next_number += 1;
        let flight = InFlight { number, group, question, watermark, attempt: 0, phase };
        self.queue.push_back(flight);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &InFlight<T, U>> {
        self.queue.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut InFlight<T, U>> {
        self.queue.iter_mut()
    }

    /// What an answer belongs to, unless its attempt was given up (I2).
    pub(super) fn asked(&mut self, number: u64, attempt: u32) -> Option<&mut InFlight<T, U>> {
        let index = self.queue.binary_search_by_key(&number, |flight| flight.number).ok()?;
        let flight = &mut self.queue[index];
        let is_asked = matches!(flight.phase, Phase::Asked { .. }) && flight.attempt == attempt;
        is_asked.then_some(flight)
    }

    /// Takes the next answered question: the first of all if `is_ordered`, otherwise any.
    pub(super) fn take_answered(&mut self, is_ordered: bool) -> Option<InFlight<T, U>> {
        let is_answered = |flight: &InFlight<T, U>| matches!(flight.phase, Phase::Answered(_));
        match is_ordered {
            true => self.queue.pop_front_if(|flight| is_answered(flight)),
            false => self.queue.remove(self.queue.iter().position(is_answered)?),
        }
    }

    /// The watermark that may be forwarded (I1).
    pub(super) fn watermark(&self) -> Option<EventTime> {
        self.queue.front().map(|flight| flight.watermark)
    }

    /// When the next attempt is made or given up.
    pub(super) fn next_at(&self) -> Option<ProcessingTime> {
        let at = |flight: &InFlight<T, U>| match flight.phase {
            Phase::Asked { until } => until,
            Phase::Delayed { until } => Some(until),
            Phase::Answered(_) => None,
        };
        self.queue.iter().filter_map(at).min()
    }
}

/// An answer, with the number of its question and the attempt.
type Answer<U> = (u64, u32, Result<U, String>);

/// Answers that have come from other threads.
pub(super) struct Answers<U> {
    arrived: Arc<Mutex<Vec<Answer<U>>>>,
    notifier: Notifier,
}

impl<U> Answers<U> {
    pub(super) fn new(notifier: Notifier) -> Self {
        Answers { arrived: Arc::default(), notifier }
    }

    pub(super) fn take(&self) -> Vec<Answer<U>> {
        std::mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What an attempt answers through.
    pub(super) fn address(&self, number: u64, attempt: u32) -> Address<U> {
        let (arrived, notifier) = (self.arrived.clone(), self.notifier.clone());
        Address { arrived, notifier, number, attempt, is_used: false }
    }
}

/// Where an attempt sends its answer. Dropped without one, it answers that there is none: the
/// future has panicked.
pub(super) struct Address<U> {
    arrived: Arc<Mutex<Vec<Answer<U>>>>,
    notifier: Notifier,
    number: u64,
    attempt: u32,
    is_used: bool,
}

impl<U> Address<U> {
    pub(super) fn send(mut self, answer: Result<U, String>) {
        self.put(answer);
    }

    fn put(&mut self, answer: Result<U, String>) {
        self.is_used = true;
        let answer = (self.number, self.attempt, answer);
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        self.notifier.notify();
    }
}

impl<U> Drop for Address<U> {
    fn drop(&mut self) {
        if !self.is_used {
            self.put(Err("the future panicked".to_owned()));
        }
    }
}
