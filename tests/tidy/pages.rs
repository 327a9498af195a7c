//! Pages: the paths they name exist, and the code they show is real.

use crate::tree::{self, File};

/// Ends of names that make a piece of code in a page a path.
const PATH_ENDS: [&str; 7] = [".rs", ".md", ".toml", ".py", ".gz", ".csv", ".jsonl"];

/// Complaints about links and paths that lead nowhere.
pub(crate) fn check_paths(file: &File) -> Vec<String> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut complaints = Vec::new();
    for (number, line) in prose(&file.text) {
        for link in links(line) {
            let is_there = tree::exists(&format!("{folder}/{link}").replace("//", "/"))
                || (folder.is_empty() && tree::exists(link));
            if !is_there {
                complaints.push(file.at(number, &format!("the link {link} leads nowhere")));
            }
        }
        for path in line.split('`').skip(1).step_by(2).filter(|span| is_path(span)) {
            if !tree::exists(path) && !tree::exists(&format!("{folder}/{path}")) {
                complaints.push(file.at(number, &format!("`{path}` does not exist")));
            }
        }
    }
    complaints
}

/// Complaints about decisions that comments name and that do not exist.
pub(crate) fn check_decisions(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for (at, folder) in line.match_indices(concat!("docs/", "decisions/")) {
            let name = line[at + folder.len()..].split(['`', ' ', ')', '"']).next();
            let name = name.unwrap_or_default().trim_end_matches(['.', ',']);
            let is_one = name.ends_with(".md") && !name.contains('*');
            if is_one && !tree::exists(&format!("{folder}{name}")) {
                complaints.push(file.at(number, &format!("there is no decision {name}")));
            }
        }
    }
    complaints
}

/// The paths in the section of ARCHITECTURE.md about unsafe code.
pub(crate) fn unsafe_inventory(architecture: &str) -> Vec<String> {
    let Some((_, rest)) = architecture.split_once("## Unsafe inventory\n") else {
        panic!("ARCHITECTURE.md has no section `Unsafe inventory`");
    };
    let section = rest.split("\n## ").next().unwrap_or_default();
    let spans = section.split('`').skip(1).step_by(2);
    spans.filter(|span| span.ends_with(".rs")).map(str::to_owned).collect()
}

/// The blocks of Rust in a page.
pub(crate) fn rust_blocks(page: &str) -> Vec<String> {
    let parts = page.split("```rust\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Complaints about blocks that are in none of the sources.
pub(crate) fn check_blocks(blocks: &[String], sources: &[&str]) -> Vec<String> {
    let is_real = |block: &str| sources.iter().any(|source| source.contains(block.trim_end()));
    let unreal = blocks.iter().filter(|block| !is_real(block));
    unreal.map(|block| format!("this block is in no example:\n{block}")).collect()
}

/// The lines of a page outside of fenced blocks, with their numbers.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_fenced = false;
    page.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    })
}

/// The targets of links within the repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|part| part.split([')', '#']).next());
    targets.filter(|target| !target.contains("://") && !target.is_empty())
}

/// True if a piece of code is meant as a path: by its end, or because it begins with a folder
/// that exists.
fn is_path(span: &str) -> bool {
    let is_plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    let Some((folder, _)) = span.split_once('/') else {
        return is_plain && span.ends_with(".md");
    };
    let is_folder = !folder.is_empty() && !folder.starts_with('.') && tree::is_folder(folder);
    is_plain && (is_folder || PATH_ENDS.iter().any(|end| span.ends_with(end)))
}

#[test]
fn paths_that_lead_nowhere_are_found() {
    let count = |text: &str| check_paths(&File::new("README.md", text)).len();
    for bad in [
        "[gone](src/gone.rs)",
        "[gone](docs/gone.md#part)",
        "see `engine/src/gone.rs`",
        "see `engine/gone`",
        "`engin/src/batch.rs`",
        "`GONE.md`",
        "```text\n`engine/gone`\n```\n`engine/gone`",
    ] {
        assert_eq!(count(bad), 1, "{bad}");
    }
    for good in [
        "[here](src/lib.rs) and [there](https://example.org/x.rs), [below](#part)",
        "`engine/src/batch.rs`, `tests/tidy`, `README.md`, `target.rs`",
        "`cargo test engine/gone`, `part-….csv`, `work/<operator>/x.rs`, `a/b`, `./dev test`",
        "```text\n`engine/gone`\n```",
    ] {
        assert_eq!(count(good), 0, "{good}");
    }
    let decision =
        |text: &str| check_paths(&File::new(concat!("docs/", "decisions/x.md"), text)).len();
    assert_eq!(decision("`src/lib.rs` and [up](../../README.md)"), 0);
    assert_eq!(decision("[gone](../README.md)"), 1);
}

#[test]
fn decisions_that_do_not_exist_are_found() {
    let folder = concat!("docs/", "decisions/");
    let count = |name: &str| {
        check_decisions(&File::new("a.rs", &format!("//! See `{folder}{name}`."))).len()
    };
    assert_eq!(count("0003-lateness-at-the-split.md"), 0);
    assert_eq!(count("0003-lateness.md"), 1);
}

#[test]
fn the_inventory_is_read_from_its_section_alone() {
    let page = "`a.rs`\n## Unsafe inventory\n\n* `b/c.rs`: 4 %; `d`\n\n## More\n`e.rs`\n";
    assert_eq!(unsafe_inventory(page), ["b/c.rs"]);
}

#[test]
fn blocks_that_are_not_real_are_found() {
    let blocks = rust_blocks("```rust\nfn a() {}\n```\n```text\nx\n```\n```rust\nfn b() {}\n```\n");
    assert_eq!(blocks, ["fn a() {}\n", "fn b() {}\n"]);
    assert_eq!(check_blocks(&blocks, &["//! X\nfn a() {}", "fn b() {}\n"]), [""; 0]);
    assert_eq!(check_blocks(&blocks, &["fn a() {}"]).len(), 1);
}
