//! Counts words as they come in: `cat README.md | cargo run --release --example wordcount`.

use std::io::Write;

use thalweg::prelude::*;

fn wordcount(job: &Job) -> thalweg::Result<()> {
    job.source("lines", stdin::lines())
        .flat_map(|line| line.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>())
        .key_by(|word| word.clone())
        .aggregate("counts", Count)
        .sink("print", sink::for_each(print));
    Ok(())
}

fn print(counts: &[Keyed<String, u64>]) {
    let mut out = std::io::stdout().lock();
    for Keyed { key: word, value: count } in counts {
        if writeln!(out, "{word} {count}").is_err() {
            // Who reads the output has gone, as `head` does.
            std::process::exit(0);
        }
    }
}

fn main() -> thalweg::ExitCode {
    thalweg::run("wordcount", wordcount)
}
