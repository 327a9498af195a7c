//! The repository's own rules: crate edges, shape of files, names, and paths that pages name.
//!
//! Each check is a function from text to complaints, and is tested here on small bad inputs.

mod edges;
mod pages;
mod shape;
mod tree;
mod words;

use tree::{File, files};

/// Fails with all complaints, one per line.
fn expect_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn over_rust(check: impl Fn(&File) -> Vec<String>) {
    let files: Vec<File> = files().into_iter().filter(File::is_rust).collect();
    assert!(files.len() > 100, "only {} files of Rust were found", files.len());
    expect_none(files.iter().flat_map(check).collect());
}

fn over_pages(check: impl Fn(&File) -> Vec<String>) {
    let files: Vec<File> = files().into_iter().filter(File::is_page).collect();
    assert!(files.len() > 10, "only {} pages were found", files.len());
    expect_none(files.iter().flat_map(check).collect());
}

#[test]
fn crates_depend_on_each_other_one_way() {
    expect_none(edges::members().iter().flat_map(edges::check).collect());
}

#[test]
fn files_say_what_they_own_and_have_a_bounded_shape() {
    over_rust(shape::check);
}

#[test]
fn words_that_must_not_be_written_are_not() {
    expect_none(files().iter().flat_map(words::check_everywhere).collect());
    over_rust(words::check_type_names);
}

#[test]
fn libraries_are_named_only_where_they_belong() {
    over_rust(words::check_confined);
}

#[test]
fn unsafe_code_is_in_the_inventory_and_nowhere_else() {
    let architecture = tree::read("ARCHITECTURE.md");
    let inventory = pages::unsafe_inventory(&architecture);
    over_rust(|file| words::check_unsafe(file, &inventory));
    for path in &inventory {
        assert!(words::has_unsafe(&tree::read(path)), "{path} is in the inventory without cause");
    }
}

#[test]
fn paths_that_pages_name_exist() {
    over_pages(pages::check_paths);
}

#[test]
fn decisions_that_comments_name_exist() {
    over_rust(pages::check_decisions);
}

#[test]
fn the_architecture_lists_every_decision() {
    let architecture = tree::read("ARCHITECTURE.md");
    let decisions: Vec<String> = files()
        .into_iter()
        .map(|file| file.path)
        .filter(|path| path.starts_with("docs/decisions/"))
        .collect();
    assert!(!decisions.is_empty(), "there are decisions");
    for path in decisions {
        assert!(architecture.contains(&format!("]({path})")), "ARCHITECTURE.md lacks {path}");
    }
}

#[test]
fn jobs_in_the_readme_are_verbatim_pieces_of_examples() {
    let flights = tree::read("examples/flights/main.rs");
    let others = tree::read("examples/wordcount.rs");
    let readme = tree::read("README.md");
    let blocks = pages::rust_blocks(&readme);
    expect_none(pages::check_blocks(&blocks, &[&flights, &others]));
    let is_flights = |block: &&String| flights.contains(block.trim_end());
    assert!(blocks.iter().find(is_flights).is_some(), "the README shows the flights job");
}
