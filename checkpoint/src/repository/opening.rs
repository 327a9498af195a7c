//! Opening a store: whose it is, what is published, the claim of an epoch, and what can go.

use std::collections::{BTreeMap, BTreeSet};

use crate::objects::Objects;
use crate::{CheckpointId, Error, Manifest, Result};

use super::epochs::{self, Epochs};
use super::files::{self, Files};
use super::{CHECKPOINTS, MANIFEST, Published, Repository, StoreOptions};
use super::{folder_of, manifest_key, parse_key};

/// What lies in the folder `checkpoints`.
struct Found {
    /// With a manifest, in the order of their numbers.
    published: BTreeMap<CheckpointId, Published>,
    /// Without one.
    unfinished: BTreeSet<CheckpointId>,
}

impl Found {
    fn read(objects: &dyn Objects, job: &str) -> Result<Self> {
        let listed = objects.list(CHECKPOINTS)?;
        let keys = || listed.iter().filter_map(|(key, _)| parse_key(key));
        let with_manifest = keys().filter(|(_, rest)| *rest == MANIFEST).map(|(id, _)| id);
        let mut found = Self { published: BTreeMap::new(), unfinished: BTreeSet::new() };
        for id in with_manifest {
            if let Some(published) = read_published(objects, job, id)? {
                found.published.insert(id, published);
            }
        }
        let all = keys().map(|(id, _)| id);
        found.unfinished = all.filter(|id| !found.published.contains_key(id)).collect();
        Ok(found)
    }

    fn greatest(&self) -> Option<CheckpointId> {
        let published = self.published.last_key_value().map(|(id, _)| *id);
        published.max(self.unfinished.last().copied())
    }

    /// Takes out what is void.
    fn remove_void(&mut self, epochs: &Epochs) {
        self.published.retain(|id, published| {
            let is_void = epochs.is_void(published.epoch, *id);
            if is_void {
                tracing::warn!(
                    checkpoint = id.0,
                    "passed over: published by a process after another had taken over"
                );
            }
            !is_void
        });
    }

    fn newest(&self) -> CheckpointId {
        self.published.last_key_value().map(|(id, _)| *id).unwrap_or_default()
    }
}

/// A manifest that is listed; none if it has gone meanwhile. One that cannot be understood counts
/// as published, whatever is in it; that of another job is an error.
fn read_published(objects: &dyn Objects, job: &str, id: CheckpointId) -> Result<Option<Published>> {
    let Some(bytes) = objects.read(&manifest_key(id))? else { return Ok(None) };
    match decode_manifest(objects, job, id, &bytes) {
        Ok(manifest) => Ok(Some(Published::of(&manifest))),
        Err(error @ Error::OtherJob { .. }) => Err(error),
        // Nothing makes it void: its epoch is not known.
        Err(_) => Ok(Some(Published { epoch: u64::MAX, files: None })),
    }
}

/// The manifest of a checkpoint of this job.
pub(super) fn decode_manifest(
    objects: &dyn Objects,
    job: &str,
    id: CheckpointId,
    bytes: &[u8],
) -> Result<Manifest> {
    let path = objects.locate(&manifest_key(id));
    match Manifest::decode_published(id, &path, bytes) {
        Ok(manifest) if manifest.job != job => {
            let (dir, expected) = (objects.locate(""), job.to_owned());
            Err(Error::OtherJob { dir, found: manifest.job, expected })
        }
        other => other,
    }
}

impl Repository {
    /// Opens the checkpoints of a job: claims the next epoch, and deletes what no checkpoint names,
    /// unless one cannot be read.
    ///
    /// # Errors
    ///
    /// They belong to another job, the place cannot be read and written, or another process has
    /// taken over at once. A damaged checkpoint is not an error here but in
    /// [`crate::CheckpointStore::latest`].
    pub(crate) fn open(mut objects: Box<dyn Objects>, options: &StoreOptions) -> Result<Self> {
        // Nothing is changed before they are known to be this job's.
        Found::read(&*objects, &options.job)?;
        let (epoch, epochs) = Epochs::claim(&mut *objects, &options.owner)?;
        let mut found = Found::read(&*objects, &options.job)?;
        let mut next_id = found.greatest().unwrap_or_default().next();
        found.remove_void(&epochs);
        epochs::note_start(&mut *objects, epoch, found.newest())?;
        let listed = objects.list(files::FOLDER)?;
        let names = listed.iter().filter_map(|(key, bytes)| {
            let name = key.strip_prefix(files::FOLDER)?.strip_prefix('/')?;
            let (_, id) = files::parse_name(name)?;
            next_id = next_id.max(id.next());
            Some((name.to_owned(), *bytes))
        });
        let names: Vec<_> = names.collect();
        let mut store = Self {
            objects,
            job: options.job.clone(),
            epoch,
            epochs,
            files: Files::new(epoch, names.iter().cloned()),
            published: found.published,
            next_id,
            successor: None,
        };
        store.clean(&names, &found.unfinished)?;
        Ok(store)
    }

    /// Gives up all that was not published, and finds out what is.
    pub(super) fn open_again(&mut self) -> Result<()> {
        self.objects.recover()?;
        self.look_for_successor()?;
        let mut found = Found::read(&*self.objects, &self.job)?;
        found.remove_void(&self.epochs);
        let listed = self.objects.list(files::FOLDER)?;
        let names = listed.iter().filter_map(|(key, bytes)| {
            let name = key.strip_prefix(files::FOLDER)?.strip_prefix('/')?;
            files::parse_name(name).map(|_| (name.to_owned(), *bytes))
        });
        let names: Vec<_> = names.collect();
        self.files.reset(&names);
        self.published = found.published;
        self.clean(&names, &found.unfinished)
    }

    /// Deletes what earlier processes did not finish.
    fn clean(
        &mut self,
        files: &[(String, u64)],
        unfinished: &BTreeSet<CheckpointId>,
    ) -> Result<()> {
        self.objects.sweep(epochs::FOLDER)?;
        if self.published.values().any(|published| published.files.is_none()) {
            // R2
            return Ok(());
        }
        for id in unfinished {
            tracing::info!(checkpoint = id.0, "deleting an unfinished checkpoint");
            self.objects.sweep(&folder_of(*id))?;
        }
        let named: BTreeSet<_> =
            self.published.values().flat_map(|one| &one.files).flatten().cloned().collect();
        // E4
        self.look_for_successor()?;
        let is_old = |name| files::parse_name(name).is_some_and(|(epoch, _)| epoch < self.epoch);
        let unnamed = files.iter().map(|(name, _)| name).filter(|name| !named.contains(*name));
        for name in unnamed.filter(|name| is_old(name)).collect::<Vec<_>>() {
            self.objects.delete(&files::key_of(name))?;
            self.files.forget(name);
        }
        self.delete_old_claims()
    }
}
