//! `RunSet`: the runs of one operator in one subtask, and which of them are to be merged next.
//!
//! The policy is RocksDB's universal compaction: from the newest run backwards, runs are taken
//! together as long as the next one is not much larger than all before it. So a change is written
//! again about once for each doubling of the state, and the number of runs grows with the logarithm
//! of the state's size over that of a run.

use std::ops::Range;

/// So many runs are merged at the least.
const FEWEST: usize = 4;

/// A run is taken along that is at most so many times as large as the newer ones together.
const RATIO: u64 = 2;

/// With more runs than this the newest are merged whatever their sizes.
const MOST: usize = 24;

/// The runs of one operator in one subtask, oldest first; `R` tells where one is.
#[derive(Clone, Debug)]
pub struct RunSet<R> {
    runs: Vec<Placed<R>>,
    next: u64,
}

#[derive(Clone, Debug)]
struct Placed<R> {
    number: u64,
    epoch: u64,
    bytes: u64,
    run: R,
}

/// Runs that are to be merged.
#[derive(Clone, Debug)]
pub struct MergePlan<R> {
    numbers: Vec<u64>,
    /// The runs, oldest first.
    pub runs: Vec<R>,
    /// The length of all, in bytes.
    pub bytes: u64,
    /// Whether there is no older run.
    pub lies_over_nothing: bool,
}

impl<R> Default for RunSet<R> {
    fn default() -> Self {
        RunSet { runs: Vec::new(), next: 0 }
    }
}

impl<R: Clone> RunSet<R> {
    /// Adds a run of an epoch: the changes that followed those in the last run of the epoch. Runs
    /// that were restored are of epoch 0.
    pub fn add(&mut self, epoch: u64, bytes: u64, run: R) {
        let at = self.runs.partition_point(|placed| placed.epoch <= epoch);
        self.runs.insert(at, Placed { number: self.next, epoch, bytes, run });
        self.next += 1;
    }

    /// The state was empty at the end of this epoch: forgets all runs up to it.
    pub fn empty(&mut self, epoch: u64) {
        self.runs.retain(|placed| placed.epoch > epoch);
    }

    /// The runs up to an epoch, oldest first.
    pub fn up_to(&self, epoch: u64) -> impl Iterator<Item = &R> {
        self.runs.iter().take_while(move |placed| placed.epoch <= epoch).map(|placed| &placed.run)
    }

    /// Which runs of complete epochs, those up to `epoch`, are to be merged; none if all is well.
    pub fn plan(&self, epoch: u64) -> Option<MergePlan<R>> {
        let end = self.runs.partition_point(|placed| placed.epoch <= epoch);
        let mut start = end;
        let mut bytes = 0_u64;
        while let Some(older) = start.checked_sub(1).map(|before| &self.runs[before]) {
            let is_forced = end > MOST && end - start < MOST / 2;
            let fits = end - start < 2 || older.bytes <= RATIO * bytes;
            if !(fits || is_forced) {
                break;
            }
            bytes += older.bytes;
            start -= 1;
        }
        // Two of unlike sizes are where every window begins.
        (end - start >= FEWEST).then(|| self.plan_of(start..end))
    }

    fn plan_of(&self, range: Range<usize>) -> MergePlan<R> {
        let runs = &self.runs[range.clone()];
        MergePlan {
            numbers: runs.iter().map(|placed| placed.number).collect(),
            runs: runs.iter().map(|placed| placed.run.clone()).collect(),
            bytes: runs.iter().map(|placed| placed.bytes).sum(),
            lies_over_nothing: range.start == 0,
        }
    }

    /// Puts the merged run in the place of those it was made of; none if nothing was left of them.
    /// False if they are no longer there.
    pub fn replace(&mut self, plan: &MergePlan<R>, merged: Option<(u64, R)>) -> bool {
        let is_first = |placed: &Placed<R>| Some(&placed.number) == plan.numbers.first();
        let Some(start) = self.runs.iter().position(is_first) else { return false };
        let range = start..start + plan.numbers.len();
        let found = self.runs.get(range.clone());
        let is_same = found.is_some_and(|found| {
            found.iter().map(|placed| placed.number).eq(plan.numbers.iter().copied())
        });
        if !is_same || plan.lies_over_nothing != (start == 0) {
            return false;
        }
        let epoch = self.runs[range.end - 1].epoch;
        let number = self.next;
        self.next += 1;
        let placed = merged.map(|(bytes, run)| Placed { number, epoch, bytes, run });
        self.runs.splice(range, placed);
        true
    }

    /// How many runs there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::RunSet;

    /// Runs of these sizes, oldest first, one an epoch.
    fn set(sizes: &[u64]) -> RunSet<usize> {
        let mut set = RunSet::default();
        for (run, &bytes) in sizes.iter().enumerate() {
            set.add(run as u64 + 1, bytes, run);
        }
        set
    }

    fn planned(sizes: &[u64]) -> Option<Vec<usize>> {
        set(sizes).plan(u64::MAX).map(|plan| plan.runs)
    }

    #[test]
    fn runs_of_like_size_are_merged() {
        assert_eq!(planned(&[]), None);
        assert_eq!(planned(&[5, 5, 5]), None);
        assert_eq!(planned(&[5, 5, 5, 5]), Some(vec![0, 1, 2, 3]));
        assert_eq!(planned(&[1_000, 5, 5, 5]), None);
        assert_eq!(planned(&[1_000, 5, 5, 5, 5]), Some(vec![1, 2, 3, 4]));
        assert_eq!(planned(&[30, 5, 5, 5]), Some(vec![0, 1, 2, 3]));
        let many: Vec<u64> = (0..30).map(|age| 1 << (2 * (30 - age))).collect();
        assert_eq!(planned(&many).map(|runs| runs.len()), Some(12));
    }

    #[test]
    fn the_number_of_runs_and_the_work_stay_small() {
        let (mut set, mut written, mut most) = (RunSet::default(), 0, 0);
        for epoch in 1..=2_000 {
            set.add(epoch, 100, 0);
            while let Some(plan) = set.plan(epoch) {
                written += plan.bytes;
                assert!(set.replace(&plan, Some((plan.bytes, 0))));
            }
            most = most.max(set.len());
        }
        assert!(most < 24, "{most}");
        assert!(written < 2_000 * 100 * 12, "{written}");
    }

    #[test]
    fn runs_are_in_the_order_of_their_epochs() {
        let mut set = RunSet::default();
        for (run, epoch) in [(0, 0), (1, 2), (2, 1), (3, 2), (4, 1)] {
            set.add(epoch, 1, run);
        }
        assert_eq!(set.up_to(1).copied().collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(set.up_to(9).copied().collect::<Vec<_>>(), [0, 2, 4, 1, 3]);
        let plan = set.plan(2).expect("five alike");
        set.add(3, 1, 5);
        assert!(set.replace(&plan, Some((5, 6))));
        assert_eq!(set.up_to(9).copied().collect::<Vec<_>>(), [6, 5]);
        assert!(!set.replace(&plan, None), "they are gone");
        set.empty(2);
        assert_eq!(set.up_to(9).copied().collect::<Vec<_>>(), [5]);
    }
}
