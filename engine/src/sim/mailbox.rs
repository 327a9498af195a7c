//! Messages on their way: late, lost, doubled, out of order.

use super::random::Random;
use crate::time::ProcessingTime;

/// Messages that have been sent and not delivered.
pub(super) struct Mailbox<M> {
    messages: Vec<(ProcessingTime, M)>,
}

/// What may happen to a message.
#[derive(Clone, Copy)]
pub(super) struct Unreliable {
    pub(super) lost_percent: u32,
    pub(super) doubled_percent: u32,
    pub(super) delay_ms: i64,
}

impl Unreliable {
    /// Nothing but delay.
    pub(super) fn reliable(self) -> Self {
        Unreliable { lost_percent: 0, ..self }
    }
}

impl<M: Clone> Mailbox<M> {
    pub(super) fn new() -> Self {
        Mailbox { messages: Vec::new() }
    }

    pub(super) fn send(
        &mut self,
        message: M,
        how: Unreliable,
        now: ProcessingTime,
        random: &mut Random,
    ) {
        if random.is_chosen(how.lost_percent) {
            return;
        }
        let copies = if random.is_chosen(how.doubled_percent) { 2 } else { 1 };
        for _ in 0..copies {
            let at = now.plus_millis(random.between(0, how.delay_ms));
            self.messages.push((at, message.clone()));
        }
    }

    /// One of the messages whose time has come.
    pub(super) fn take(&mut self, now: ProcessingTime, random: &mut Random) -> Option<M> {
        let due: Vec<usize> =
            (0..self.messages.len()).filter(|&i| self.messages[i].0 <= now).collect();
        let index = *due.get(random.below(due.len()))?;
        Some(self.messages.swap_remove(index).1)
    }

    /// When the next message arrives.
    pub(super) fn next_at(&self) -> Option<ProcessingTime> {
        self.messages.iter().map(|(at, _)| *at).min()
    }
}
