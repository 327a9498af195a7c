//! The files of checkpoints: their names, the packing of small parts, and when a file goes.
//!
//! *Names:* `e<epoch>-c<checkpoint>-<number>-<name>`. The epoch belongs to one process and one
//! opening of the store, the number counts its files: no name comes twice, neither from a process
//! that does not know that it has been replaced, nor when a checkpoint's number is used again.
//!
//! *Packing:* parts of less than [`SMALL`] bytes are gathered in memory and written as one file,
//! when a manifest that names one of them is published, or when [`PACK_LIMIT`] is reached. So a
//! checkpoint of a hundred small operators costs one file and one sync. A pack stays as long as
//! one of its parts is needed; what it holds besides is dead weight, at most [`PACK_LIMIT`] bytes,
//! until the last of its parts has been merged into a newer run.
//!
//! *Reference counting* is by file, over the manifests that are kept. A file that none of them
//! names may belong to a checkpoint that is being taken, or be a run that was written for one that
//! was given up, and be named by the next. It goes when two checkpoints have been published since
//! it was written and neither names it: a subtask's next snapshot names all its runs, and that
//! snapshot is part of the second of them at the latest.

use std::collections::{BTreeMap, BTreeSet};

use crate::{CheckpointId, PartFile};

pub(super) const FOLDER: &str = "files";
/// Parts of fewer bytes share a file.
pub(super) const SMALL: usize = 64 << 10;
/// A pack that has reached this length is written, in bytes.
pub(super) const PACK_LIMIT: usize = 4 << 20;

/// What is known of the files of a store.
#[derive(Debug)]
pub(super) struct Files {
    epoch: u64,
    written: u64,
    /// Checkpoints published since the store was opened.
    publications: u64,
    known: BTreeMap<String, Known>,
    packs: BTreeMap<CheckpointId, Pack>,
}

/// A file that is there.
#[derive(Debug)]
struct Known {
    bytes: u64,
    /// How many checkpoints had been published when it was written.
    since: u64,
}

/// Small parts that are not in a file yet.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    since: u64,
}

pub(crate) fn key_of(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Epoch and checkpoint in the name of a file; none if no store made that name.
pub(super) fn parse_name(name: &str) -> Option<(u64, CheckpointId)> {
    let (epoch, rest) = name.strip_prefix('e')?.split_once("-c")?;
    let (id, _) = rest.split_once('-')?;
    Some((epoch.parse().ok()?, CheckpointId(id.parse().ok()?)))
}

impl Files {
    /// Those found when the store was opened.
    pub(super) fn new(epoch: u64, found: impl IntoIterator<Item = (String, u64)>) -> Self {
        let known = found.into_iter().map(|(name, bytes)| (name, Known { bytes, since: 0 }));
        let (known, packs) = (known.collect(), BTreeMap::new());
        Self { epoch, written: 0, publications: 0, known, packs }
    }

    /// Forgets all but those that were found.
    pub(super) fn reset(&mut self, found: &[(String, u64)]) {
        self.packs.clear();
        self.known.clear();
        found.iter().for_each(|(name, bytes)| self.remember(name, *bytes));
    }

    /// A name that was never used.
    pub(super) fn new_name(&mut self, id: CheckpointId, name: &str) -> String {
        let Self { epoch, written, .. } = self;
        let unique = format!("e{epoch}-c{id}-{written}-{name}");
        self.written += 1;
        unique
    }

    /// A file has been written, or was found.
    pub(super) fn remember(&mut self, name: &str, bytes: u64) {
        let known = Known { bytes, since: self.publications };
        self.known.insert(name.to_owned(), known);
    }

    /// The length of a file that is known to be there.
    pub(super) fn length(&self, name: &str) -> Option<u64> {
        self.known.get(name).map(|known| known.bytes)
    }

    /// Puts a small part into the checkpoint's pack.
    pub(super) fn pack(&mut self, id: CheckpointId, bytes: &[u8]) -> PartFile {
        if !self.packs.contains_key(&id) {
            let pack = Pack {
                name: self.new_name(id, "pack"),
                bytes: Vec::new(),
                since: self.publications,
            };
            self.packs.insert(id, pack);
        }
        let (mut name, mut offset) = (String::new(), 0);
        if let Some(pack) = self.packs.get_mut(&id) {
            (name, offset) = (pack.name.clone(), pack.bytes.len() as u64);
            pack.bytes.extend_from_slice(bytes);
        }
        PartFile { name, offset, bytes: bytes.len() as u64, crc32: crc32fast::hash(bytes) }
    }

    /// The pack of a checkpoint that has to be written before more goes into it.
    pub(super) fn full_pack(&self, id: CheckpointId) -> Option<&Pack> {
        self.packs.get(&id).filter(|pack| pack.bytes.len() >= PACK_LIMIT)
    }

    /// The packs that are not in a file yet.
    pub(super) fn packs(&self) -> impl Iterator<Item = &Pack> {
        self.packs.values()
    }

    /// A pack is in its file now.
    pub(super) fn pack_is_written(&mut self, name: &str) {
        let id = self.packs.iter().find(|(_, pack)| pack.name == name).map(|(id, _)| *id);
        if let Some(pack) = id.and_then(|id| self.packs.remove(&id)) {
            self.remember(name, pack.bytes.len() as u64);
        }
    }

    /// A checkpoint has been published.
    pub(super) fn handle_publication(&mut self) {
        self.publications += 1;
    }

    /// The files that can go, and forgets the packs that can: not named, and old enough.
    pub(super) fn unneeded(&mut self, named: &BTreeSet<&str>) -> Vec<String> {
        let publications = self.publications;
        let is_old = |since: u64| publications - since >= 2;
        self.packs.retain(|_, pack| !is_old(pack.since));
        let all = self.known.iter();
        all.filter(|(name, known)| is_old(known.since) && !named.contains(name.as_str()))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// A file is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.known.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Files, parse_name};
    use crate::CheckpointId;

    #[test]
    fn names_are_unique_and_say_where_they_come_from() {
        let mut files = Files::new(3, []);
        let names = ["a", "a", "pack"].map(|name| files.new_name(CheckpointId(12), name));
        assert_eq!(names, ["e3-c12-0-a", "e3-c12-1-a", "e3-c12-2-pack"]);
        assert_eq!(parse_name(&names[0]), Some((3, CheckpointId(12))));
        for foreign in
            ["", "mine", "e3", "e3-c12", "e-c1-0-a", "ex-c1-0-a", "e1-cx-0-a", "a-e1-c1-"]
        {
            assert_eq!(parse_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_file_goes_after_two_checkpoints_that_do_not_name_it() {
        let mut files = Files::new(1, []);
        let unneeded = |files: &mut Files, named: &[&str]| {
            files.unneeded(&named.iter().copied().collect::<BTreeSet<_>>())
        };
        files.remember("old", 1);
        files.pack(CheckpointId(1), b"x");
        files.handle_publication();
        files.remember("run", 1);
        assert_eq!(unneeded(&mut files, &[]), [""; 0]);
        files.handle_publication();
        assert_eq!(unneeded(&mut files, &["old"]), [""; 0]);
        assert_eq!(files.packs().count(), 0, "nobody has named the pack");
        assert_eq!(unneeded(&mut files, &[]), ["old"]);
        files.handle_publication();
        assert_eq!(unneeded(&mut files, &["old"]), ["run"]);
    }
}
