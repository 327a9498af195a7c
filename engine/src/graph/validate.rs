//! What is wrong with a graph: found before anything runs, named with operator and line.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::is_cyclic_directed;

use super::logical::{JobGraph, NodeId, NodeKind, Partition, Port};
use crate::error::{Error, Result};

impl JobGraph {
    /// Checks the graph as a whole.
    ///
    /// # Errors
    /// `Config`, naming the operator and the line that declared it: no source, a name used twice,
    /// options that make no sense, a stream without a sink, event time missing or assigned too
    /// late, a cycle.
    pub fn validate(&self) -> Result<()> {
        if self.graph.node_count() == 0 {
            return Err(Error::config("the job is empty: add a source and a sink"));
        }
        if is_cyclic_directed(&self.graph) {
            return Err(Error::bug("the job graph has a cycle"));
        }
        self.validate_names()?;
        for node in self.nodes() {
            self.validate_options(node)?;
            self.validate_consumed(node)?;
            self.validate_event_time(node)?;
        }
        self.upgrades.validate(self)
    }

    fn validate_names(&self) -> Result<()> {
        let mut seen: BTreeMap<&str, NodeId> = BTreeMap::new();
        for node in self.nodes() {
            let info = self.info(node);
            let is_plain =
                info.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            if info.name.is_empty() || info.name.len() > 100 || !is_plain {
                return Err(Error::config(format!(
                    "the name {} may have letters, digits, `-`, `_` and `.`, up to 100 of them",
                    info.whereabouts()
                )));
            }
            if let Some(first) = seen.insert(&info.name, node) {
                return Err(Error::config(format!(
                    "two operators have the name `{}`: {} and {}; a name is the identity of an \
                     operator's state, give one of them another",
                    info.name,
                    self.info(first).whereabouts(),
                    info.whereabouts()
                )));
            }
        }
        Ok(())
    }

    fn validate_options(&self, node: NodeId) -> Result<()> {
        let info = self.info(node);
        match info.problems.first() {
            Some(problem) => Err(Error::config(format!("{}: {problem}", info.whereabouts()))),
            None => Ok(()),
        }
    }

    fn validate_consumed(&self, node: NodeId) -> Result<()> {
        let info = self.info(node);
        // Of an operator with an own stream on its side, such as updates, that may be all.
        let uses_port = |port| self.outputs(node).iter().any(|(_, edge)| edge.port == port);
        let is_consumed = uses_port(Port::Main) || (info.has_side_results && uses_port(Port::Side));
        if info.kind != NodeKind::Sink && !is_consumed {
            return Err(Error::config(format!(
                "the stream of {} leads nowhere: add a `.sink(…)`, or remove the operator",
                info.whereabouts()
            )));
        }
        Ok(())
    }

    fn validate_event_time(&self, node: NodeId) -> Result<()> {
        let info = self.info(node);
        if info.needs_event_time
            && let Some(source) = self.source_without_event_time(node)
        {
            return Err(Error::config(format!(
                "{} works in event time, but records of source {} reach it without one: call \
                 `.event_time(…)` behind the source",
                info.whereabouts(),
                self.info(source).whereabouts()
            )));
        }
        let mut inputs = self.inputs(node).into_iter().map(|(from, _)| self.has_event_time(from));
        if let Some(first) = inputs.next()
            && inputs.any(|other| other != first)
        {
            return Err(Error::config(format!(
                "{} takes records with and without an event time: call `.event_time(…)` behind \
                 each source, or none",
                info.whereabouts()
            )));
        }
        if info.assigns_event_time {
            let mut at = node;
            while self.info(at).kind != NodeKind::Source {
                let inputs = self.inputs(at);
                let [(from, edge)] = inputs[..] else {
                    return Err(self.too_late(node, "a union"));
                };
                if edge.partition != Partition::Forward {
                    return Err(self.too_late(node, "an exchange"));
                }
                let before = self.info(from);
                if before.assigns_event_time {
                    return Err(self.too_late(node, "another `.event_time(…)`"));
                }
                if before.is_stateful && before.kind == NodeKind::Operator {
                    // Records it keeps come out when another split is read, or has ended.
                    let what = format!("{}, which keeps records", before.whereabouts());
                    return Err(self.too_late(node, &what));
                }
                at = from;
            }
        }
        Ok(())
    }

    fn too_late(&self, node: NodeId, after: &str) -> Error {
        Error::config(format!(
            "{} assigns event time after {after}, where results would depend on scheduling: \
             call `.event_time(…)` directly behind each source",
            self.info(node).whereabouts()
        ))
    }

    fn has_event_time(&self, node: NodeId) -> bool {
        self.source_without_event_time(node).is_none()
    }

    /// A source from which records reach `node` without an event time.
    fn source_without_event_time(&self, node: NodeId) -> Option<NodeId> {
        let (mut seen, mut next) = (BTreeSet::new(), vec![node]);
        while let Some(node) = next.pop() {
            let info = self.info(node);
            if info.assigns_event_time || !seen.insert(node) {
                continue;
            }
            if info.kind == NodeKind::Source {
                return Some(node);
            }
            next.extend(self.inputs(node).into_iter().rev().map(|(from, _)| from));
        }
        None
    }
}
