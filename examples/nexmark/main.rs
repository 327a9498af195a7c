//! NEXMark, the benchmark of stream engines, as a job binary: one query over generated events or
//! over a file of them.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter};
use std::process::ExitCode;

use clap::Parser as _;

mod bench;
mod canonical;
mod event;
mod generate;
mod jobs;
mod nxm1;
mod options;
mod oracle;
mod output;
mod query;
mod record;
mod reference;
mod rows;
mod run;
#[cfg(test)]
mod tests;

use canonical::write_lines;
use event::Event;
use generate::Generation;
use options::Options;
use oracle::{Answer, Splitting};

/// Records come and go on different threads: an allocator that is made for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", described(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error and what caused it, on one line.
fn described(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let events = load(options)?;
    if options.oracle {
        return ask_oracle(options, &events);
    }
    // The job passes references to the events, on all its threads, until the process ends.
    let events: &'static [Event] = events.leak();
    match options.bench {
        Some(runs) => bench::bench(options, events, runs.get(), io::stdout().lock())?,
        None => eprintln!("nexmark {}: {}", options.query.name(), run::answer(options, events)?),
    }
    Ok(())
}

fn ask_oracle(options: &Options, events: &[Event]) -> Result<(), Box<dyn Error>> {
    let bound_ms = i64::try_from(options.bound_ms())?;
    let splitting = Splitting { splits: options.splits, bound_ms };
    let Answer { lines, digest, late } = oracle::answer(options.query, events, splitting);
    let name = options.query.name();
    eprintln!(
        "oracle {name}: {} events, {late} late, {} results, digest {digest}",
        events.len(),
        lines.len()
    );
    if let Some(path) = &options.out {
        let wrote = File::create(path).and_then(|file| write_lines(&lines, BufWriter::new(file)));
        wrote.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn load(options: &Options) -> Result<Vec<Event>, Box<dyn Error>> {
    if let Some(path) = &options.input {
        return nxm1::read(path).map_err(|error| format!("{}: {error}", path.display()).into());
    }
    let Options { events, rate, out_of_order_group, .. } = *options;
    Ok(Generation { events, rate, out_of_order_group }.iter().collect())
}
