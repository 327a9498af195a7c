//! The shape of a file of Rust: its first line, its length, the width of its lines, its name.

use crate::tree::File;

/// Columns of a line.
const COLUMNS: usize = 100;
/// Lines of a file, tests included.
const LINES: usize = 1_000;
/// Lines of a file without its tests, unless it is among the exceptions.
const LINES_WITHOUT_TESTS: usize = 600;
/// Files that may be longer, and why.
const LONG_FILES: [(&str, &str); 0] = [];

/// Complaints about a file.
pub(crate) fn check(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let first = file.text.lines().next().unwrap_or_default();
    if first.strip_prefix("//! ").is_none_or(|text| text.trim().is_empty()) {
        complaints.push(file.at(0, "the first line says what the file owns, after `//! `"));
    }
    if file.path.rsplit('/').next() == Some(concat!("mod", ".rs")) {
        complaints.push(file.at(0, "a folder's head is `foo.rs` beside `foo/`"));
    }
    for (number, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS {
            complaints.push(file.at(number, &format!("{columns} columns, more than {COLUMNS}")));
        }
    }
    let (all, without_tests) = lengths(file);
    if all > LINES {
        complaints.push(file.at(0, &format!("{all} lines, more than {LINES}")));
    }
    let is_exception = LONG_FILES.iter().any(|(path, _)| *path == file.path);
    if (without_tests > LINES_WITHOUT_TESTS) != is_exception {
        let what = format!(
            "{without_tests} lines without tests: above {LINES_WITHOUT_TESTS} a file has a reason \
             in `LONG_FILES`, below it has none"
        );
        complaints.push(file.at(0, &what));
    }
    complaints
}

/// The lines of a file, and those that are not tests.
fn lengths(file: &File) -> (usize, usize) {
    let all = file.text.lines().count();
    let is_test = file.path.ends_with("/tests.rs")
        || file.path.contains("/tests/")
        || file.path.starts_with("tests/");
    if is_test {
        return (all, 0);
    }
    let mut lines = file.text.lines().zip(file.text.lines().skip(1));
    let tests = lines.position(|(line, next)| {
        line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{')
    });
    (all, tests.unwrap_or(all))
}

#[test]
fn files_of_bad_shape_are_found() {
    let count = |path: &str, text: &str| check(&File::new(path, text)).len();
    assert_eq!(count("a/src/b.rs", "//! Owns b.\n"), 0);
    for first in ["", "use std::fs;\n", "//!\n", "// Owns b.\n", "\n//! Owns b.\n"] {
        assert_eq!(count("a/src/b.rs", first), 1, "{first:?}");
    }
    assert_eq!(count(concat!("a/src/b/mod", ".rs"), "//! Owns b.\n"), 1);
    let wide = |columns| format!("//! Owns b.\n{}\n", "ä".repeat(columns));
    assert_eq!((count("b.rs", &wide(100)), count("b.rs", &wide(101))), (0, 1));
}

#[test]
fn long_files_are_found_and_tests_are_not_counted() {
    let lines = |count: usize| format!("//! Owns b.\n{}", "\n".repeat(count - 1));
    let count = |path: &str, text: &str| check(&File::new(path, text)).len();
    assert_eq!((count("b.rs", &lines(600)), count("b.rs", &lines(601))), (0, 1));
    assert_eq!(count("b.rs", &lines(1_001)), 2);
    let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(600), "\n".repeat(300));
    assert_eq!(count("b.rs", &tested), 0);
    let tested = format!("{}#[cfg(test)]\nmod tests;\n", lines(600));
    assert_eq!(count("b.rs", &tested), 1);
    assert_eq!((count("b/tests.rs", &lines(1_000)), count("b/tests.rs", &lines(1_001))), (0, 1));
}
