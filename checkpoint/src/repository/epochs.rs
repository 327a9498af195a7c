//! Epochs: which process may publish.
//!
//! Every process that opens a store claims the next number, its epoch, by creating
//! `epochs/<number, ten digits>`; of two that try the same number one wins. The claim says who
//! claims, and which checkpoint was the newest then. The process with the greatest epoch is the one
//! that may publish.
//!
//! *Invariants*
//! * E1: nobody publishes who has seen a greater epoch than the own. It is looked for before the
//!   manifest is created, and again behind it: only then the checkpoint counts as published.
//! * E2: the newest checkpoint that a claim names is still the newest after the claim was created
//!   ([`claim`] looks again, and claims another number if not).
//! * E3: a manifest is void if a claim of a greater epoch names an older checkpoint: its writer had
//!   lost the right when the manifest came into being.
//!
//! *Why that is enough.* An old process creates manifest *m*, then looks for claims. A new one
//! creates its claim, then looks for manifests. At least one of the two sees what the other wrote.
//! If the new one sees *m*, it starts from it. If not, the old one sees the claim, does not report
//! *m* as published, and so nothing of *m* is committed; and *m* is void for all who come later.
//! This needs a place where a listing shows every object created before it began: file systems
//! do, and so do S3, Google Cloud Storage and Azure.

use serde::{Deserialize, Serialize};

use crate::objects::Objects;
use crate::{CheckpointId, Error, Owner, Result};

pub(super) const FOLDER: &str = "epochs";

/// What a process says when it opens a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) epoch: u64,
    /// The newest checkpoint then; 0 if there was none.
    pub(super) newest: CheckpointId,
    pub(super) owner: Owner,
}

pub(super) fn key_of(epoch: u64) -> String {
    format!("{FOLDER}/{epoch:010}")
}

fn parse_key(key: &str) -> Option<u64> {
    let epoch = key.strip_prefix(FOLDER)?.strip_prefix('/')?.parse().ok()?;
    (key_of(epoch) == key).then_some(epoch)
}

/// The claims there are, oldest first.
pub(super) fn read_claims(objects: &dyn Objects) -> Result<Vec<Claim>> {
    let listed = objects.list(FOLDER)?;
    let mut claims = Vec::new();
    for key in listed.iter().map(|(key, _)| key).filter(|key| parse_key(key).is_some()) {
        // One that has gone meanwhile was older than others.
        let Some(bytes) = objects.read(key)? else { continue };
        claims.push(decode(objects, key, &bytes)?);
    }
    claims.sort_unstable_by_key(|claim| claim.epoch);
    Ok(claims)
}

fn decode(objects: &dyn Objects, key: &str, bytes: &[u8]) -> Result<Claim> {
    let claim = serde_json::from_slice(bytes).ok();
    claim.filter(|claim: &Claim| key_of(claim.epoch) == key).ok_or_else(|| Error::Corrupt {
        path: objects.locate(key),
        detail: "is no claim of an epoch; delete it if no other process uses these checkpoints"
            .to_owned(),
    })
}

/// Claims the epoch behind these; none if another process was faster.
pub(super) fn claim(
    objects: &mut dyn Objects,
    claims: &[Claim],
    newest: CheckpointId,
    owner: &Owner,
) -> Result<Option<Claim>> {
    let epoch = claims.last().map_or(1, |claim| claim.epoch + 1);
    let claim = Claim { epoch, newest, owner: owner.clone() };
    // A struct of numbers and text always has a JSON form.
    let bytes = serde_json::to_vec(&claim).unwrap_or_default();
    Ok(objects.create(&key_of(epoch), &bytes)?.then_some(claim))
}

/// The claim of a process that took over from that of `epoch`, if there is one.
pub(super) fn successor(objects: &dyn Objects, epoch: u64) -> Result<Option<Claim>> {
    let listed = objects.list(FOLDER)?;
    let greatest = listed.iter().filter_map(|(key, _)| parse_key(key)).max();
    let Some(greatest) = greatest.filter(|greatest| *greatest > epoch) else { return Ok(None) };
    let key = key_of(greatest);
    let bytes = objects.read(&key)?.unwrap_or_default();
    decode(objects, &key, &bytes).map(Some)
}

/// Whether a manifest of this epoch and number is void (E3).
pub(super) fn is_void(claims: &[Claim], epoch: u64, id: CheckpointId) -> bool {
    claims.iter().any(|claim| claim.epoch > epoch && claim.newest < id)
}
