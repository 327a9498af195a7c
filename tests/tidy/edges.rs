//! Crate edges: which member may depend on which, as `docs/decisions/0001-*.md` says.

use crate::tree::{self, File};

/// A member and what it may depend on.
pub(crate) struct Member {
    name: &'static str,
    manifest: File,
    edges: &'static [&'static str],
    /// Further edges of tests and examples.
    test_edges: &'static [&'static str],
}

const CONNECTORS: &str = "thalweg-connectors";
const ENGINE: &str = "thalweg-engine";
const OPERATORS: &str = "thalweg-operators";

/// All members of the workspace.
pub(crate) fn members() -> Vec<Member> {
    let member = |name, folder: &str, edges, test_edges| {
        let path = format!("{folder}Cargo.toml");
        Member { name, manifest: File::new(&path, &tree::read(&path)), edges, test_edges }
    };
    let members = vec![
        member("thalweg-state", "state/", &[], &[]),
        member("thalweg-checkpoint", "checkpoint/", &[], &[]),
        member(ENGINE, "engine/", &["thalweg-state", "thalweg-checkpoint"], &[]),
        member(OPERATORS, "operators/", &[ENGINE], &[CONNECTORS]),
        member(CONNECTORS, "connectors/", &[ENGINE], &[]),
        member("thalweg", "", &[ENGINE, OPERATORS, CONNECTORS], &[]),
    ];
    let declared = tree::read("Cargo.toml");
    let list = declared.lines().find(|line| line.starts_with("members = ")).expect("a workspace");
    assert_eq!(list.matches('"').count(), 2 * members.len(), "a member is not known here: {list}");
    members
}

/// Complaints about the dependencies of a member.
pub(crate) fn check(member: &Member) -> Vec<String> {
    let mut complaints = Vec::new();
    let name = format!("name = \"{}\"", member.name);
    if !member.manifest.text.lines().any(|line| line == name) {
        complaints.push(member.manifest.at(0, &format!("is not the manifest of {}", member.name)));
    }
    for (line, is_test, dependency) in dependencies(&member.manifest.text) {
        let is_allowed = member.edges.contains(&dependency)
            || (is_test && member.test_edges.contains(&dependency));
        if dependency.starts_with("thalweg") && !is_allowed {
            let what = format!("{} may not depend on {dependency}", member.name);
            complaints.push(member.manifest.at(line, &what));
        }
    }
    complaints
}

/// Line, whether it is for tests only, and name of each dependency in a manifest.
///
/// Knows the forms `name = …`, `name.workspace = true` and `[dependencies.name]`.
fn dependencies(manifest: &str) -> Vec<(usize, bool, &str)> {
    let mut found = Vec::new();
    let mut section: Option<bool> = None;
    for (number, line) in manifest.lines().enumerate() {
        if let Some(head) = line.trim().strip_prefix('[') {
            let head = head.trim_end_matches(']');
            let (_, tail) = head.split_once("dependencies").unwrap_or(("", ""));
            let is_test = head.contains("dev-dependencies");
            let is_list = head.ends_with("dependencies") && !head.starts_with("workspace");
            section = is_list.then_some(is_test);
            if let Some(name) = tail.strip_prefix('.') {
                found.push((number, is_test, name));
            }
        } else if let Some(is_test) = section
            && let Some((key, _)) = line.split_once('=')
        {
            let name = key.trim().split('.').next().unwrap_or_default();
            found.push((number, is_test, name.trim_matches('"')));
        }
    }
    found
}

#[test]
fn forbidden_edges_are_found_in_every_form() {
    let complaints = |manifest: &str| {
        let manifest = format!("[package]\nname = \"thalweg-operators\"\n{manifest}");
        check(&Member {
            name: OPERATORS,
            manifest: File::new("operators/Cargo.toml", &manifest),
            edges: &[ENGINE],
            test_edges: &[CONNECTORS],
        })
    };
    for good in [
        "[dependencies]\nthalweg-engine.workspace = true\nserde = \"1\"",
        "[dev-dependencies]\nthalweg-connectors.workspace = true",
        "[features]\nrocksdb = [\"thalweg-state/rocksdb\"]\nthalweg-state = []",
    ] {
        assert_eq!(complaints(good), [""; 0]);
    }
    for bad in [
        "[dependencies]\nthalweg-connectors.workspace = true",
        "[dependencies]\nthalweg-state = { path = \"../state\" }",
        "[dependencies.thalweg-state]\npath = \"../state\"",
        "[dev-dependencies]\nthalweg-state.workspace = true",
        "[build-dependencies]\nthalweg = \"0.1\"",
        "[target.'cfg(unix)'.dependencies]\nthalweg-checkpoint.workspace = true",
    ] {
        assert_eq!(complaints(bad).len(), 1, "{bad}");
    }
}
