//! A model of a disk: what is durable, what may be lost, and faults at any operation.
//!
//! It knows the promises of a POSIX file system and no more (after Pillai et al., "All file systems
//! are not created equal", OSDI 2014): the contents of a file are durable once the file is synced,
//! an entry of a directory once the directory is. What is not may be there after a power failure,
//! or not, or (contents) in part. After a sync that failed the system counts the pages as written:
//! they are lost, and the next sync succeeds.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::local::disk::{FileSystem, Found, OpenFile};

/// What happens at the operation that a fault is planted at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails without effect.
    Failure,
    /// There is no room for it.
    NoSpace,
    /// A write writes half and says so.
    ShortWrite,
    /// A write writes half, and then there is no room.
    HalfAndNoSpace,
    /// A sync fails, and what it should have made durable is lost at the next power failure.
    FailedSync,
    /// The power fails before it.
    CrashBefore,
    /// The power fails behind it.
    CrashAfter,
}

impl Fault {
    pub(super) const ALL: [Self; 7] = [
        Self::Failure,
        Self::NoSpace,
        Self::ShortWrite,
        Self::HalfAndNoSpace,
        Self::FailedSync,
        Self::CrashBefore,
        Self::CrashAfter,
    ];
}

/// What an operation does, as far as faults tell operations apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Sync,
    /// A change of a directory that may need room.
    Name,
    Remove,
}

/// What is left of unsynced contents.
#[derive(Clone, Copy, Debug)]
pub(super) enum Contents {
    Lost,
    /// The first half, and zeros.
    Torn,
    Present,
}

/// Which of the unsynced changes of directories are left.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entries {
    Lost,
    Even,
    Odd,
    Present,
}

/// The folder that is another file system: nothing is renamed out of it.
pub(super) const ELSEWHERE: &str = "elsewhere";

/// A disk; clones are the same disk.
#[derive(Clone)]
pub(super) struct Model(Arc<Mutex<State>>);

#[derive(Clone)]
struct State {
    nodes: Vec<Node>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    /// The kind of operation that the fault struck.
    struck: Option<Kind>,
    is_off: bool,
    has_links: bool,
}

#[derive(Clone)]
enum Node {
    File { now: Arc<Vec<u8>>, durable: Arc<Vec<u8>>, is_lost: bool },
    Directory(Directory),
}

#[derive(Clone, Default)]
struct Directory {
    now: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Changes since the last sync, in order.
    unsynced: Vec<(String, Option<usize>)>,
}

impl Directory {
    fn change(&mut self, name: &str, node: Option<usize>) {
        match node {
            Some(node) => self.now.insert(name.to_owned(), node),
            None => self.now.remove(name),
        };
        self.unsynced.push((name.to_owned(), node));
    }
}

impl Model {
    /// An empty disk, whose file system knows hard links or not.
    pub(super) fn new(has_links: bool) -> Self {
        Self::of(vec![Node::Directory(Directory::default())], has_links)
    }

    fn of(nodes: Vec<Node>, has_links: bool) -> Self {
        let (operations, fault, struck, is_off) = (0, None, None, false);
        Self(Arc::new(Mutex::new(State { nodes, operations, fault, struck, is_off, has_links })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing fails, and operations are counted from 0.
    pub(super) fn plant(&self, fault: Option<(u64, Fault)>) {
        let mut state = self.lock();
        (state.operations, state.fault, state.struck) = (0, fault, None);
    }

    pub(super) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The operation that the fault struck, if it came to it and the fault fits it.
    pub(super) fn struck(&self) -> Option<Kind> {
        self.lock().struck
    }

    /// True if the power has failed.
    pub(super) fn is_off(&self) -> bool {
        self.lock().is_off
    }

    /// A disk of its own with the same contents, nothing failing.
    pub(super) fn copy(&self) -> Self {
        let state = self.lock();
        Self::of(state.nodes.clone(), state.has_links)
    }

    /// What a disk may hold after a power failure now.
    pub(super) fn after_power_failure(&self, contents: Contents, entries: Entries) -> Self {
        let mut nodes = self.lock().nodes.clone();
        for node in &mut nodes {
            match node {
                Node::File { now, durable, is_lost } => {
                    if !Arc::ptr_eq(now, durable) && now != durable {
                        *now = left_of(now, durable, contents);
                    }
                    (*durable, *is_lost) = (now.clone(), false);
                }
                Node::Directory(directory) => {
                    let unsynced = std::mem::take(&mut directory.unsynced);
                    for (at, (name, node)) in unsynced.into_iter().enumerate() {
                        let stays = match entries {
                            Entries::Lost => false,
                            Entries::Even => at % 2 == 0,
                            Entries::Odd => at % 2 == 1,
                            Entries::Present => true,
                        };
                        match node.filter(|_| stays) {
                            Some(node) => drop(directory.durable.insert(name, node)),
                            None if stays => drop(directory.durable.remove(&name)),
                            None => {}
                        }
                    }
                    directory.now = directory.durable.clone();
                }
            }
        }
        let has_links = self.lock().has_links;
        Self::of(nodes, has_links)
    }

    /// Counts an operation, and lets the planted fault strike. The call is told of faults in which
    /// it has a part.
    fn operate<T>(
        &self,
        kind: Kind,
        call: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        let fault = state.next_fault(kind);
        if state.is_off {
            return Err(io::Error::other("the power is off"));
        }
        match fault {
            Some(Fault::CrashBefore) => {
                state.is_off = true;
                Err(io::Error::other("the power fails"))
            }
            Some(Fault::CrashAfter) => {
                let _ = call(&mut state, None);
                state.is_off = true;
                Err(io::Error::other("the power fails"))
            }
            Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Failure) => Err(io::Error::other("input/output error")),
            fault => call(&mut state, fault),
        }
    }

    fn simple<T>(
        &self,
        kind: Kind,
        call: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.operate(kind, |state, _| call(state))
    }
}

fn left_of(now: &Arc<Vec<u8>>, durable: &Arc<Vec<u8>>, contents: Contents) -> Arc<Vec<u8>> {
    match contents {
        Contents::Lost => durable.clone(),
        Contents::Present => now.clone(),
        Contents::Torn => {
            let mut torn = now.to_vec();
            let half = durable.len().max(torn.len() / 2).min(torn.len());
            torn[half..].fill(0);
            Arc::new(torn)
        }
    }
}

impl State {
    /// The fault that strikes this operation, if one does.
    fn next_fault(&mut self, kind: Kind) -> Option<Fault> {
        let number = self.operations;
        self.operations += 1;
        let (_, fault) = self.fault.filter(|(at, _)| *at == number)?;
        let fits = match fault {
            Fault::Failure | Fault::CrashBefore => true,
            Fault::CrashAfter => kind != Kind::Read,
            Fault::NoSpace => matches!(kind, Kind::Write | Kind::Name),
            Fault::ShortWrite | Fault::HalfAndNoSpace => kind == Kind::Write,
            Fault::FailedSync => kind == Kind::Sync,
        };
        self.struck = fits.then_some(kind);
        fits.then_some(fault)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = 0;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Directory(directory) = &self.nodes[at] else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let name = name.to_str().expect("names are text");
            at = *directory.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// The directory that a path lies in, and its last name.
    fn parent<'a>(&mut self, path: &'a Path) -> io::Result<(&mut Directory, &'a str)> {
        let at = self.find(path.parent().unwrap_or(path))?;
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are text");
        match &mut self.nodes[at] {
            Node::Directory(directory) => Ok((directory, name)),
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let number = self.nodes.len();
        let (directory, name) = self.parent(path)?;
        if directory.now.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        directory.change(name, Some(number));
        self.nodes.push(node);
        Ok(number)
    }

    fn found(&self, at: usize) -> Found {
        match &self.nodes[at] {
            Node::File { now, .. } => Found::File(now.len() as u64),
            Node::Directory(_) => Found::Directory,
        }
    }

    fn contents(&mut self, at: usize) -> io::Result<&mut Arc<Vec<u8>>> {
        match &mut self.nodes[at] {
            Node::File { now, .. } => Ok(now),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn sync(&mut self, at: usize) {
        match &mut self.nodes[at] {
            Node::File { now, durable, is_lost } => {
                if !*is_lost {
                    *durable = now.clone();
                }
            }
            Node::Directory(directory) => {
                directory.durable = directory.now.clone();
                directory.unsynced.clear();
            }
        }
    }

    /// A sync that failed: the next one has nothing to do.
    fn lose(&mut self, at: usize) {
        match &mut self.nodes[at] {
            Node::File { is_lost, .. } => *is_lost = true,
            Node::Directory(directory) => {
                // Seen until the power fails, and not there after it.
                directory.unsynced.clear();
            }
        }
    }
}

impl Model {
    fn sync_node(&self, find: impl Fn(&State) -> io::Result<usize>) -> io::Result<()> {
        self.operate(Kind::Sync, |state, fault| {
            let at = find(state)?;
            if fault.is_some() {
                state.lose(at);
                return Err(io::Error::other("input/output error"));
            }
            state.sync(at);
            Ok(())
        })
    }
}

impl FileSystem for Model {
    fn look(&self, path: &Path) -> io::Result<Found> {
        self.simple(Kind::Read, |state| state.find(path).map(|at| state.found(at)))
    }

    fn entries(&self, dir: &Path) -> io::Result<Vec<(String, Found)>> {
        self.simple(Kind::Read, |state| match &state.nodes[state.find(dir)?] {
            Node::Directory(directory) => {
                let entry = |(name, at): (&String, &usize)| (name.clone(), state.found(*at));
                Ok(directory.now.iter().map(entry).collect())
            }
            Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
        })
    }

    fn read(&self, path: &Path, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        self.simple(Kind::Read, |state| {
            let at = state.find(path)?;
            let contents = state.contents(at)?;
            let start = contents.len().min(offset as usize);
            let end = contents.len().min(start.saturating_add(bytes as usize));
            Ok(contents[start..end].to_vec())
        })
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let node = Node::Directory(Directory::default());
        self.simple(Kind::Name, |state| state.add(path, node).map(drop))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let node = self.simple(Kind::Name, |state| match state.find(path) {
            Ok(at) => {
                let Node::File { now, is_lost, .. } = &mut state.nodes[at] else {
                    return Err(io::ErrorKind::IsADirectory.into());
                };
                (*now, *is_lost) = (Arc::default(), false);
                Ok(at)
            }
            Err(_) => {
                let (now, durable) = (Arc::default(), Arc::default());
                state.add(path, Node::File { now, durable, is_lost: false })
            }
        })?;
        Ok(Box::new(OpenNode { model: self.clone(), node }))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.sync_node(|state| state.find(path))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.simple(Kind::Name, |state| {
            if !state.has_links {
                return Err(io::ErrorKind::Unsupported.into());
            }
            let node = state.find(from)?;
            let (directory, name) = state.parent(to)?;
            if directory.now.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            directory.change(name, Some(node));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.simple(Kind::Name, |state| {
            let node = state.find(from)?;
            if from.starts_with(ELSEWHERE) {
                return Err(io::ErrorKind::CrossesDevices.into());
            }
            let (directory, name) = state.parent(to)?;
            directory.change(name, Some(node));
            let (directory, name) = state.parent(from)?;
            directory.change(name, None);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.simple(Kind::Remove, |state| {
            let at = state.find(path)?;
            state.contents(at)?;
            let (directory, name) = state.parent(path)?;
            directory.change(name, None);
            Ok(())
        })
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.simple(Kind::Remove, |state| {
            let at = state.find(path)?;
            match &state.nodes[at] {
                Node::Directory(directory) if directory.now.is_empty() => {}
                Node::Directory(_) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
                Node::File { .. } => return Err(io::ErrorKind::NotADirectory.into()),
            }
            let (directory, name) = state.parent(path)?;
            directory.change(name, None);
            Ok(())
        })
    }
}

/// A file of the model that is open for writing.
struct OpenNode {
    model: Model,
    node: usize,
}

impl OpenFile for OpenNode {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let node = self.node;
        self.model.operate(Kind::Write, |state, fault| {
            let count = if fault.is_some() { bytes.len().div_ceil(2) } else { bytes.len() };
            Arc::make_mut(state.contents(node)?).extend_from_slice(&bytes[..count]);
            match fault {
                Some(Fault::HalfAndNoSpace) => Err(io::ErrorKind::StorageFull.into()),
                _ => Ok(count),
            }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let node = self.node;
        self.model.sync_node(|_| Ok(node))
    }
}
