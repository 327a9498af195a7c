//! Decides which published checkpoints are deleted; pure, deletes nothing.

use crate::CheckpointId;

/// The published checkpoints to delete so that the newest `keep` stay, oldest first.
///
/// The newest one is never among them, even if `keep` is 0.
pub fn to_delete(published: &[CheckpointId], keep: usize) -> Vec<CheckpointId> {
    let mut oldest_first = published.to_vec();
    oldest_first.sort_unstable();
    oldest_first.dedup();
    oldest_first.truncate(oldest_first.len().saturating_sub(keep.max(1)));
    oldest_first
}

#[cfg(test)]
mod tests {
    use super::to_delete;
    use crate::CheckpointId;

    fn deleted(published: &[u64], keep: usize) -> Vec<u64> {
        let published: Vec<_> = published.iter().copied().map(CheckpointId).collect();
        to_delete(&published, keep).into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn the_newest_stay() {
        assert_eq!(deleted(&[9, 2, 7, 4], 2), [2, 4]);
        assert_eq!(deleted(&[9, 2, 7, 4], 4), [0; 0]);
        assert_eq!(deleted(&[9, 2, 7, 4], 9), [0; 0]);
        assert_eq!(deleted(&[], 1), [0; 0]);
    }

    #[test]
    fn the_newest_one_always_stays() {
        assert_eq!(deleted(&[2, 7, 4], 0), [2, 4]);
        assert_eq!(deleted(&[7, 7, 4], 1), [4]);
    }
}
