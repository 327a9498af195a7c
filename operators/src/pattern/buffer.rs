//! `SharedBuffer`: the events of all partial matches of a key, each kept once.
//!
//! After the versioned shared buffer of Agrawal, Diao, Gyllstrom, Immerman: *Efficient Pattern
//! Matching over Event Streams* (SASE+, SIGMOD 2008). There the runs of a buffer share nodes with
//! several predecessors, and version numbers tell which edges belong to which run. Here a node has
//! one predecessor, so that a run is the chain that ends at its node and needs no version; runs
//! share their common beginnings, and the payloads of all events.
//!
//! # Invariants
//! * I1: an event is stored as long as a node refers to it, a node as long as a run or a later
//!   node does: what nothing refers to is gone at once.
//! * I2: a node's predecessor holds an earlier event.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The place of a node.
pub(super) type NodeId = u32;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored<T> {
    sequence: u64,
    time: i64,
    value: T,
    references: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Node {
    event: u32,
    step: u8,
    previous: Option<NodeId>,
    references: u32,
}

/// Entries with fixed places, which are used again.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn add(&mut self, entry: T) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.entries[place as usize] = Some(entry);
                place
            }
            None => {
                self.entries.push(Some(entry));
                (self.entries.len() - 1) as u32
            }
        }
    }

    fn get(&self, place: u32) -> &T {
        self.entries[place as usize].as_ref().expect("it is referred to")
    }

    fn get_mut(&mut self, place: u32) -> &mut T {
        self.entries[place as usize].as_mut().expect("it is referred to")
    }

    fn remove(&mut self, place: u32) {
        self.entries[place as usize] = None;
        self.free.push(place);
        if self.free.len() == self.entries.len() {
            self.entries.clear();
            self.free.clear();
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

/// See the module's documentation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SharedBuffer<T> {
    events: Slab<Stored<T>>,
    nodes: Slab<Node>,
}

impl<T> Default for SharedBuffer<T> {
    fn default() -> Self {
        SharedBuffer { events: Slab::default(), nodes: Slab::default() }
    }
}

/// An event of a chain.
pub(super) struct Link<'a, T> {
    pub(super) step: usize,
    pub(super) sequence: u64,
    pub(super) time: i64,
    pub(super) value: &'a T,
}

impl<T> SharedBuffer<T> {
    /// Stores an event; a node has to refer to it before anything is released.
    pub(super) fn store(&mut self, sequence: u64, time: i64, value: T) -> u32 {
        self.events.add(Stored { sequence, time, value, references: 0 })
    }

    /// Adds a node, which the caller refers to.
    pub(super) fn link(&mut self, event: u32, step: usize, previous: Option<NodeId>) -> NodeId {
        self.events.get_mut(event).references += 1;
        if let Some(previous) = previous {
            self.retain(previous);
        }
        self.nodes.add(Node { event, step: step as u8, previous, references: 1 })
    }

    /// Refers to a node once more.
    pub(super) fn retain(&mut self, node: NodeId) {
        self.nodes.get_mut(node).references += 1;
    }

    /// Refers to a node no longer.
    pub(super) fn release(&mut self, node: NodeId) {
        let mut next = Some(node);
        while let Some(node) = next {
            let entry = self.nodes.get_mut(node);
            entry.references -= 1;
            if entry.references > 0 {
                return;
            }
            let event = entry.event;
            next = entry.previous;
            self.nodes.remove(node);
            let stored = self.events.get_mut(event);
            stored.references -= 1;
            if stored.references == 0 {
                self.events.remove(event);
            }
        }
    }

    /// The chain that ends at `node`, its last event first.
    pub(super) fn chain(&self, node: Option<NodeId>) -> impl Iterator<Item = Link<'_, T>> {
        let mut next = node;
        std::iter::from_fn(move || {
            let node = self.nodes.get(next?);
            next = node.previous;
            let stored = self.events.get(node.event);
            Some(Link {
                step: usize::from(node.step),
                sequence: stored.sequence,
                time: stored.time,
                value: &stored.value,
            })
        })
    }

    /// The number of events and of nodes.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.events.len(), self.nodes.len())
    }
}

/// What a partial match has taken before the event that a condition is asked about.
pub struct Earlier<'a, T> {
    pub(super) buffer: &'a SharedBuffer<T>,
    pub(super) node: Option<NodeId>,
    pub(super) names: &'a [Arc<str>],
}

impl<'a, T> Earlier<'a, T> {
    /// The events taken by stage `name`, the latest first.
    ///
    /// # Cost
    /// Walks over the partial match's events.
    pub fn latest_first(&self, name: &str) -> impl Iterator<Item = &'a T> {
        let step = self.names.iter().position(|n| **n == *name);
        let links = self.buffer.chain(self.node);
        links.filter(move |link| Some(link.step) == step).map(|link| link.value)
    }

    /// The events taken by stage `name`, in order.
    ///
    /// # Cost
    /// Allocates, and walks over the partial match's events.
    pub fn events(&self, name: &str) -> Vec<&'a T> {
        let mut events: Vec<&T> = self.latest_first(name).collect();
        events.reverse();
        events
    }

    /// The latest event taken by stage `name`.
    pub fn last(&self, name: &str) -> Option<&'a T> {
        self.latest_first(name).next()
    }
}
