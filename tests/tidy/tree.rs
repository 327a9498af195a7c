//! The files of the repository, as text, without what is built or not under version control.

use std::fs;
use std::path::Path;

/// A file of the repository.
pub(crate) struct File {
    /// Its path from the root, with `/`.
    pub(crate) path: String,
    /// Its contents.
    pub(crate) text: String,
}

/// Folders that are not looked into.
const SKIPPED: [&str; 4] = [".git", "target", "golden", "data"];
/// Ends of the names of files that are read.
const TEXT: [&str; 5] = [".rs", ".md", ".toml", ".py", ".yml"];

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn is_page(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// A complaint about a line, counted from 0.
    pub(crate) fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// True if the path from the root is a file or folder.
pub(crate) fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// True if the path from the root is a folder.
pub(crate) fn is_folder(path: &str) -> bool {
    root().join(path).is_dir()
}

/// The contents of a file, by its path from the root.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All text files, sorted by path.
pub(crate) fn files() -> Vec<File> {
    let mut found = Vec::new();
    walk("", &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(folder: &str, found: &mut Vec<File>) {
    let entries = fs::read_dir(root().join(folder)).expect("a folder of the repository");
    for entry in entries {
        let entry = entry.expect("an entry of the repository");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_dir() && !SKIPPED.contains(&&*name) {
            walk(&path, found);
        } else if kind.is_file() && is_text(&path) {
            found.push(File { text: read(&path), path });
        }
    }
}

fn is_text(path: &str) -> bool {
    TEXT.iter().any(|end| path.ends_with(end)) || path == "dev" || path.starts_with(".ci/")
}

/// The code of a line of Rust: without its comment, and without what stands in string literals.
///
/// A literal over several lines is taken for code, except for its quotes.
pub(crate) fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => break,
            '"' => {
                code.push_str("\"\"");
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '\'' => {
                // A quoted quote is a character, anything else may be a lifetime.
                let rest: String = chars.clone().take(3).collect();
                if rest.starts_with("\"'") || rest.starts_with("\\\"'") {
                    chars.by_ref().find(|c| *c == '\'');
                }
            }
            c => code.push(c),
        }
    }
    code
}

#[test]
fn code_is_what_is_left_without_comments_and_literals() {
    assert_eq!(code_of("let a = 1; // unsafe"), "let a = 1; ");
    assert_eq!(code_of("/// unsafe"), "");
    assert_eq!(code_of(r#"f("un\"safe", '"', x) // y"#), r#"f("", , x) "#);
    assert_eq!(code_of("fn f<'a>(x: &'a str)"), "fn f<a>(x: &a str)");
}

#[test]
fn the_walk_finds_code_and_pages_and_nothing_that_was_built() {
    let paths: Vec<String> = files().into_iter().map(|file| file.path).collect();
    for path in ["README.md", "src/lib.rs", "engine/Cargo.toml", "tests/tidy/main.rs", "dev"] {
        assert!(paths.iter().any(|found| found == path), "{path}");
    }
    assert!(!paths.iter().any(|path| path.starts_with("target/")));
}
