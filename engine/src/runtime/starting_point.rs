//! What a run starts from: a checkpoint of its directory, a savepoint, or nothing.

use thalweg_checkpoint::{Archive, CheckpointId, CheckpointStore, Manifest};

use crate::error::{Error, Result};
use crate::graph::JobGraph;
use crate::options::{CheckpointConfig, Restore};
use crate::savepoint::import;

/// Finds it, under the names that `graph` has. A savepoint is taken into the store.
pub(super) fn starting_point(
    graph: &JobGraph,
    job: &str,
    store: &mut dyn CheckpointStore,
    checkpoints: &CheckpointConfig,
) -> Result<Option<Manifest>> {
    let Some(manifest) = choose(job, store, checkpoints)? else { return Ok(None) };
    let is_committed = store.is_committed(manifest.id)?;
    Ok(Some(graph.upgrades.apply(manifest, is_committed)?))
}

fn choose(
    job: &str,
    store: &mut dyn CheckpointStore,
    checkpoints: &CheckpointConfig,
) -> Result<Option<Manifest>> {
    let dir = checkpoints.dir.display();
    match &checkpoints.restore {
        Restore::Latest => Ok(store.latest()?),
        Restore::Checkpoint(id) => Ok(Some(store.load(CheckpointId(*id))?)),
        Restore::Nothing => match store.list()?.last() {
            None => Ok(None),
            Some(id) => Err(Error::config(format!(
                "{dir} holds checkpoint {id}: to start from nothing choose another checkpoint \
                 directory, or remove it"
            ))),
        },
        Restore::Savepoint(path) => {
            let archive = Archive::open(path, None)?;
            if !archive.is_savepoint() {
                let path = path.display();
                return Err(Error::config(format!("there is no savepoint at {path}")));
            }
            match store.latest()? {
                None => Ok(Some(import(&archive, store, job)?)),
                // Started again by the same command: what came after the savepoint counts.
                Some(latest) if latest.savepoint == Some(archive.manifest().identity()) => {
                    Ok(Some(latest))
                }
                Some(latest) => Err(Error::config(format!(
                    "{dir} holds checkpoint {}, which does not come from that savepoint: to start \
                     from the savepoint choose another checkpoint directory",
                    latest.id
                ))),
            }
        }
    }
}
