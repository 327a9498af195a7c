//! Words: those that must not be written, and those that belong to a few files.

use crate::tree::{File, code_of};

/// Marks of unfinished work, in pieces so that they are not written here.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// The folders at the root of a machine in which people keep their work.
const MACHINE_FOLDERS: [&str; 6] = ["home", "root", "Users", "work", "workspace", "mnt"];
/// Words that say nothing in the name of a type.
const EMPTY_WORDS: [&str; 4] = ["Manager", "Helper", "Util", "Utils"];
/// What begins the declaration of a type that others see.
const TYPES: [&str; 5] = ["struct", "enum", "trait", "type", "union"];
/// Words of code, and the beginnings of the paths of the files that may have them.
const CONFINED: [(&str, &[&str]); 9] = [
    ("bincode", &["state/src/codec.rs"]),
    ("rocksdb::", &["state/src/rocks.rs", "state/benches/"]),
    ("petgraph", &["engine/src/graph/"]),
    ("crossbeam", &["engine/src/channel.rs", "engine/src/runtime/"]),
    ("clap", &["src/", "examples/"]),
    ("tokio", &["src/signals.rs", "engine/src/runtime/external.rs", "checkpoint/src/remote.rs"]),
    ("object_store::", &["checkpoint/src/remote", "checkpoint/src/repository/tests.rs"]),
    (
        "Instant::now",
        &[
            "engine/src/runtime/clock.rs",
            "benches/",
            "examples/nexmark/",
            "state/benches/",
            "operators/benches/",
        ],
    ),
    ("SystemTime::now", &["engine/src/runtime/clock.rs"]),
];

/// Complaints about marks of unfinished work and paths of one machine.
pub(crate) fn check_everywhere(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for mark in UNFINISHED {
            if has_word(line, mark) {
                complaints.push(file.at(number, &format!("{mark}: decide it, or leave it out")));
            }
        }
        for folder in MACHINE_FOLDERS {
            if names_folder(line, folder) {
                complaints.push(file.at(number, &format!("names /{folder}/ of some machine")));
            }
        }
    }
    complaints
}

/// Complaints about names of types that say nothing.
pub(crate) fn check_type_names(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let Some(name) = public_type(&code_of(line)) else { continue };
        for word in EMPTY_WORDS.into_iter().filter(|word| has_camel_word(&name, word)) {
            complaints.push(file.at(number, &format!("`{word}` in `{name}` says nothing")));
        }
    }
    complaints
}

/// Complaints about words of code outside of the files they belong to.
pub(crate) fn check_confined(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let code = code_of(line);
        for (word, places) in CONFINED {
            if code.contains(word) && !places.iter().any(|place| file.path.starts_with(place)) {
                complaints.push(file.at(number, &format!("{word} belongs to {places:?}")));
            }
        }
    }
    complaints
}

/// Complaints about unsafe code in a file that the inventory does not name.
pub(crate) fn check_unsafe(file: &File, inventory: &[String]) -> Vec<String> {
    if !has_unsafe(&file.text) || inventory.contains(&file.path) {
        return Vec::new();
    }
    vec![file.at(0, "has unsafe code and is not in the inventory of ARCHITECTURE.md")]
}

/// True if a file has unsafe code.
pub(crate) fn has_unsafe(text: &str) -> bool {
    text.lines().any(|line| has_word(&code_of(line), "unsafe"))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// True if `word` stands in `line`, not as a piece of another word.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word)
    })
}

/// True if an absolute path into `folder` stands in `line`.
fn names_folder(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}/");
    line.match_indices(&path).any(|(at, _)| {
        // Behind a name or a dot it is a piece of a relative path or of an address.
        !line[..at].ends_with(|c: char| is_word(c) || "./-})*".contains(c))
    })
}

/// The name that a line declares a visible type by.
fn public_type(code: &str) -> Option<String> {
    let mut words = code.split(|c: char| !is_word(c)).filter(|word| !word.is_empty());
    if words.next()? != "pub" {
        return None;
    }
    words.find(|word| TYPES.contains(word))?;
    words.next().map(str::to_owned)
}

/// True if `word` is one of the words of a name in camel case.
fn has_camel_word(name: &str, word: &str) -> bool {
    name.match_indices(word)
        .any(|(at, _)| !name[at + word.len()..].starts_with(|c: char| c.is_ascii_lowercase()))
}

#[test]
fn unfinished_work_and_machine_paths_are_found() {
    let count = |line: &str| check_everywhere(&File::new("a.md", line)).len();
    for mark in UNFINISHED {
        assert_eq!(count(&format!("// {mark}: later")), 1);
        assert_eq!(count(&format!("// {mark}S and _{mark}")), 0);
    }
    for folder in MACHINE_FOLDERS {
        assert_eq!(count(&format!("see /{folder}/me/notes")), 1, "{folder}");
        assert_eq!(count(&format!("`/{folder}/me`")), 1, "{folder}");
        assert_eq!(count(&format!("a/{folder}/b and https://x.org/{folder}/y")), 0, "{folder}");
    }
}

#[test]
fn empty_words_in_names_are_found() {
    let count = |line: &str| check_type_names(&File::new("a.rs", line)).len();
    for bad in ["pub struct StateManager;", "pub(crate) trait HelperOf<T> {", "pub type Util = ();"]
    {
        assert_eq!(count(bad), 1, "{bad}");
    }
    for good in ["struct StateManager;", "pub struct Utility;", "pub fn f(x: WriteManager) {}"] {
        assert_eq!(count(good), 0, "{good}");
    }
}

#[test]
fn libraries_out_of_place_and_unsafe_code_are_found() {
    let confined = |path: &str, line: &str| check_confined(&File::new(path, line)).len();
    assert_eq!(confined("state/src/codec.rs", "use bincode::config;"), 0);
    assert_eq!(confined("engine/src/batch.rs", "use bincode::config;"), 1);
    assert_eq!(confined("engine/src/batch.rs", "// like bincode"), 0);
    assert_eq!(confined("engine/src/sim.rs", "let now = Instant::now();"), 1);
    let count = |line: &str, inventory: &[String]| {
        check_unsafe(&File::new("a/src/b.rs", line), inventory).len()
    };
    assert_eq!(count("unsafe { f() }", &[]), 1);
    assert_eq!(count("unsafe impl Send for A {}", &["a/src/b.rs".to_owned()]), 0);
    for harmless in ["// unsafe", "#![deny(unsafe_code)]", "fn is_unsafe() {}", "f(\"unsafe\");"] {
        assert_eq!(count(harmless, &[]), 0, "{harmless}");
    }
}
