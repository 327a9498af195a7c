//! The wordcount example, in a pipe.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::process::{Ended, example};

#[test]
fn counts_run_up_to_the_number_of_occurrences() {
    let mut command = Command::new(example("wordcount"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("is piped");
    stdin.write_all(b"to be or not\n\nTo BE\n").expect("takes lines");
    drop(stdin);
    let ended = Ended::from(child.wait_with_output().expect("ends")).expect_success();
    let mut last = BTreeMap::new();
    for line in ended.stdout.lines() {
        let (word, count) = line.split_once(' ').expect("a word and a count");
        let count: u64 = count.parse().expect("a count");
        assert_eq!(count, last.get(word).copied().unwrap_or(0) + 1, "{word} is counted in order");
        last.insert(word.to_owned(), count);
    }
    let expected = [("be", 2), ("not", 1), ("or", 1), ("to", 2)];
    assert!(last.iter().map(|(word, count)| (&**word, *count)).eq(expected), "{last:?}");
}
