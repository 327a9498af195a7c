//! Epochs: which process may publish.
//!
//! Every process that opens a store claims the next number, its epoch, by creating
//! `epochs/<epoch, ten digits>`, which says who claims; of two that try the same number one wins.
//! Then it looks for manifests, and notes from which one it starts, by creating
//! `epochs/<epoch>-from-<checkpoint, ten digits>`. The process with the greatest epoch is the one
//! that may publish.
//!
//! *Invariants*
//! * E1: nobody publishes who has seen a greater epoch than the own. It is looked for before the
//!   manifest is created, and again behind it: only then the checkpoint counts as published.
//! * E2: where a process starts from is noted after its claim, and is the newest checkpoint that it
//!   found after its claim.
//! * E3: a manifest is void if a process of a greater epoch starts from an older checkpoint: its
//!   writer had lost the right when the manifest came into being.
//! * E4: a process deletes files of older epochs only, and at open only if it has noted where it
//!   starts and then seen no greater epoch: whoever comes later knows the same manifests as void.
//!
//! *Why that is enough.* An old process creates manifest *m*, then looks for claims. A new one
//! creates its claim, then looks for manifests. At least one of the two sees what the other wrote.
//! If the new one sees *m*, it starts from it. If not, the old one sees the claim, does not report
//! *m* as published, and so nothing of *m* is committed; and *m* is void for all who come later.
//! This needs a place where a listing shows every object created before it began: file systems
//! do, and so do S3, Google Cloud Storage and Azure.

use serde::{Deserialize, Serialize};

use crate::objects::Objects;
use crate::{CheckpointId, Owner, Result};

pub(super) const FOLDER: &str = "epochs";
const FROM: &str = "-from-";

/// What a process says when it opens a store.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    owner: Owner,
}

/// What is known of the processes that have opened a store.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    /// Each key below `epochs`, and the epoch that it belongs to, in order.
    keys: Vec<(u64, String)>,
    /// From which checkpoint processes started, by epoch.
    starts: Vec<(u64, CheckpointId)>,
}

fn key_of(epoch: u64) -> String {
    format!("{FOLDER}/{epoch:010}")
}

fn start_key(epoch: u64, from: CheckpointId) -> String {
    format!("{}{FROM}{from:010}", key_of(epoch))
}

/// The epoch of a key, and from where it starts if the key says that; none if no store made it.
fn parse_key(key: &str) -> Option<(u64, Option<CheckpointId>)> {
    let name = key.strip_prefix(FOLDER)?.strip_prefix('/')?;
    let (epoch, from) = match name.split_once(FROM) {
        Some((epoch, from)) => (epoch.parse().ok()?, Some(CheckpointId(from.parse().ok()?))),
        None => (name.parse().ok()?, None),
    };
    let made = from.map_or_else(|| key_of(epoch), |from| start_key(epoch, from));
    (made == key).then_some((epoch, from))
}

impl Epochs {
    fn read(objects: &dyn Objects) -> Result<Self> {
        let mut epochs = Self::default();
        for (key, _) in objects.list(FOLDER)? {
            let Some((epoch, from)) = parse_key(&key) else { continue };
            epochs.starts.extend(from.map(|from| (epoch, from)));
            epochs.keys.push((epoch, key));
        }
        epochs.keys.sort_unstable();
        Ok(epochs)
    }

    /// Claims the next epoch; also gives what is known right after.
    pub(super) fn claim(objects: &mut dyn Objects, owner: &Owner) -> Result<(u64, Self)> {
        // A struct of numbers and text always has a JSON form.
        let claim = serde_json::to_vec(&Claim { owner: owner.clone() }).unwrap_or_default();
        loop {
            let before = Self::read(objects)?;
            let epoch = before.keys.last().map_or(1, |(epoch, _)| epoch + 1);
            if objects.create(&key_of(epoch), &claim)? {
                return Ok((epoch, Self::read(objects)?));
            }
        }
    }

    /// Whether a manifest of this epoch and number is void (E3).
    pub(super) fn is_void(&self, epoch: u64, id: CheckpointId) -> bool {
        self.starts.iter().any(|(later, from)| *later > epoch && *from < id)
    }

    /// Deletes claims and starts of epochs before this one.
    pub(super) fn delete_before(&mut self, objects: &mut dyn Objects, epoch: u64) -> Result<()> {
        while let Some((_, key)) = self.keys.first().filter(|(old, _)| *old < epoch) {
            objects.delete(key)?;
            self.keys.remove(0);
        }
        Ok(())
    }
}

/// Notes from which checkpoint the process of an epoch starts.
pub(super) fn note_start(objects: &mut dyn Objects, epoch: u64, from: CheckpointId) -> Result<()> {
    // Nobody else writes it.
    objects.create(&start_key(epoch, from), b"").map(drop)
}

/// Who has claimed an epoch greater than this one, if someone has.
pub(super) fn successor(objects: &dyn Objects, epoch: u64) -> Result<Option<String>> {
    let greatest = Epochs::read(objects)?.keys.into_iter().map(|(epoch, _)| epoch).max();
    let Some(greatest) = greatest.filter(|greatest| *greatest > epoch) else { return Ok(None) };
    // Who it is only matters to people: a claim that cannot be understood is one all the same.
    let bytes = objects.read(&key_of(greatest))?.unwrap_or_default();
    let claim = serde_json::from_slice(&bytes).ok();
    let owner = claim.map(|claim: Claim| claim.owner.to_string());
    Ok(Some(owner.unwrap_or_else(|| "another process".to_owned())))
}
