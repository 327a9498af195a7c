//! What the README shows is what the repository holds.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a page in `language`.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let parts = page.split(&fence).skip(1);
    parts.map(|part| part.split("```").next().expect("split gives one at least")).collect()
}

#[test]
fn every_rust_block_of_the_readme_is_a_piece_of_an_example() {
    let readme = read("README.md");
    let blocks = blocks(&readme, "rust");
    assert!(!blocks.is_empty(), "the README shows a job");
    let examples = ["examples/flights/main.rs", "examples/wordcount.rs"].map(read);
    for block in blocks {
        let is_real = examples.iter().any(|example| example.contains(block.trim_end()));
        assert!(is_real, "this block of the README is in no example:\n{block}");
    }
}

#[test]
fn every_path_that_the_readme_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["README.md", "CONTRIBUTING.md"] {
        let text = read(page);
        let links = text.split("](").skip(1).filter_map(|part| part.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            assert!(root.join(link).exists(), "{page} links to {link}, which does not exist");
        }
    }
}
