//! `Decider`: the one door for everything that is not a function of a subtask's input and state.

/// Decides what a subtask may not decide itself.
///
/// The live decider goes round-robin; the simulated one draws from a seed. Time reaches a subtask
/// beside it, as an argument of its step.
pub(crate) trait Decider {
    /// Which of `count` (at least two) ready inputs is taken next, from 0.
    fn choose(&mut self, count: usize) -> usize;
}

/// The live decider: every ready input in turn.
#[derive(Default)]
pub(crate) struct RoundRobin {
    turn: usize,
}

impl Decider for RoundRobin {
    fn choose(&mut self, count: usize) -> usize {
        self.turn = self.turn.wrapping_add(1);
        self.turn % count
    }
}
