//! Patterns: the documented examples, an oracle that enumerates, the operator in every awkward
//! mode, and whole jobs under the simulator.

mod examples;
mod operator;
mod oracle;
mod problems;
mod simulated;

use thalweg_engine::Data;

use super::Pattern;
use super::nfa::{Automaton, Found, Matcher, Matching};

/// The matcher of one key, driven as the operator drives it.
struct Driver<T> {
    matcher: Matcher<T>,
    matching: Matching<T>,
}

impl<T: Data> Driver<T> {
    fn new(pattern: &Pattern<T>) -> Self {
        assert_eq!(pattern.problems(), Vec::<String>::new());
        Driver { matcher: Matcher::new(Automaton::new(pattern)), matching: Matching::default() }
    }

    /// Cuts off what is due at `time`.
    fn advance(&mut self, time: i64) {
        while let Some(start) = self.matching.oldest_start()
            && let Some(at) = self.matcher.automaton().deadline(start)
            && at <= time
        {
            self.matcher.expire(&mut self.matching, at);
        }
    }

    fn feed(&mut self, time: i64, event: T) {
        self.advance(time);
        self.matcher.feed(&mut self.matching, time, event);
    }

    /// What was found, when no event comes any more.
    fn finish(mut self) -> Vec<Found<T>> {
        self.advance(i64::MAX);
        self.matcher.end(&mut self.matching, i64::MAX);
        assert_eq!(self.matching.sizes(), (0, 0, 0), "all that was stored has been released");
        self.matcher.found
    }
}
