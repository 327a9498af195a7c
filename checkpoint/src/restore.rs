//! Finds in a manifest what a subtask starts from, whatever the parallelism was; pure.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::{Manifest, OperatorPart, SplitState};

/// The parts of an operator whose key groups overlap the range, in the order of their key groups.
///
/// A run may hold more key groups than those asked for, and than its part: the reader skips them.
pub fn operator_parts<'a>(
    manifest: &'a Manifest,
    operator: &str,
    key_groups: Range<u16>,
) -> Vec<&'a OperatorPart> {
    let all = manifest.subtasks.iter().flat_map(|record| &record.snapshot.operators);
    let mut parts: Vec<_> = all
        .filter(|part| part.operator == operator)
        .filter(|part| part.key_groups.0 < key_groups.end && key_groups.start < part.key_groups.1)
        .collect();
    parts.sort_by_key(|part| part.key_groups);
    parts
}

/// The splits of a source, sorted by name, whichever subtasks read them.
pub fn source_splits<'a>(manifest: &'a Manifest, source: &str) -> Vec<&'a SplitState> {
    let all = manifest.subtasks.iter().flat_map(|record| &record.snapshot.splits);
    let mut splits: Vec<_> = all.filter(|split| split.source == source).collect();
    splits.sort_by(|left, right| left.split.cmp(&right.split));
    splits
}

/// The counts that survive a restart, summed over subtasks.
pub fn counters_of(manifest: &Manifest) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::<String, u64>::new();
    for (name, count) in manifest.subtasks.iter().flat_map(|record| &record.snapshot.counters) {
        let sum = sums.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::{counters_of, operator_parts, source_splits};
    use crate::manifest::sample;

    #[test]
    fn parts_that_overlap_are_found_and_no_others() {
        // The sample's operator "count" lies on three subtasks: 0..43, 43..86, 86..128.
        let manifest = sample::manifest();
        let starts = |range| -> Vec<u16> {
            let parts = operator_parts(&manifest, "count", range);
            parts.iter().map(|part| part.key_groups.0).collect()
        };
        assert_eq!(starts(0..128), [0, 43, 86]);
        assert_eq!(starts(0..43), [0]);
        assert_eq!(starts(42..44), [0, 43]);
        assert_eq!(starts(43..86), [43]);
        assert_eq!(starts(127..128), [86]);
        assert_eq!(starts(128..128), [0; 0]);
        assert!(operator_parts(&manifest, "other", 0..128).is_empty());
    }

    #[test]
    fn splits_are_sorted_by_name_over_all_subtasks() {
        let manifest = sample::manifest();
        let splits = source_splits(&manifest, "input");
        let names: Vec<_> = splits.iter().map(|split| split.split.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(source_splits(&manifest, "inpu").is_empty());
    }

    #[test]
    fn counters_are_summed() {
        let sums = counters_of(&sample::manifest());
        assert_eq!(sums.get("read"), Some(&30));
        assert_eq!(sums.len(), 1);
    }
}
