//! `run` and `JobMain`: the `main` of a job binary.

use std::io::Write;
use std::marker::PhantomData;
use std::process::ExitCode;
use std::sync::PoisonError;

use clap::Args;
use thalweg_engine::graph::PlanFormat;
use thalweg_engine::options::JobOptions;
use thalweg_engine::progress::RunReport;
use thalweg_engine::runtime::StopSignal;
use thalweg_engine::{ErrorKind, Result};
use thalweg_operators::Job;

use crate::command_line::{self, Request, RunOptions};
use crate::control::{ControlSocket, Shown, socket_path};
use crate::execute::{build_graph, plan, run_graph};
use crate::progress_bar::JobProgressBar;
use crate::saved;
use crate::signals;
use crate::summary::{error_line, summary};

/// The `main` of a job without options of its own: reads the command line, runs the job, shows
/// its progress, and stops it in order at Ctrl-C.
///
/// The status is 0 if the job finished or was stopped in order, 1 if it failed, and 2 if the job,
/// its options or its surroundings have to be mended.
///
/// ```no_run
/// use thalweg::prelude::*;
///
/// fn numbers(job: &Job) -> thalweg::Result<()> {
///     job.source("numbers", generator(Some(10), |i| i)).sink("nowhere", sink::discard());
///     Ok(())
/// }
///
/// fn main() -> thalweg::ExitCode {
///     thalweg::run("numbers", numbers)
/// }
/// ```
pub fn run(name: &'static str, build: impl Fn(&Job) -> Result<()>) -> ExitCode {
    JobMain::<NoOptions>::new(name, |job, _| build(job)).run()
}

/// The options of a job that has none.
#[derive(Args, Debug)]
struct NoOptions {}

type Build<'a, A> = Box<dyn Fn(&Job, &A) -> Result<()> + 'a>;
type Summary<'a, A> = Box<dyn Fn(&A, &RunReport) -> Result<String> + 'a>;

/// The `main` of a job with options `A` of its own, which stand beside those that every job has.
///
/// ```no_run
/// use thalweg::clap::{self, Args};
/// use thalweg::prelude::*;
///
/// #[derive(Args)]
/// struct Options {
///     /// How many numbers
///     #[arg(long, default_value_t = 10)]
///     count: u64,
/// }
///
/// fn numbers(job: &Job, options: &Options) -> thalweg::Result<()> {
///     let numbers = generator(Some(options.count), |i| i);
///     job.source("numbers", numbers).sink("nowhere", sink::discard());
///     Ok(())
/// }
///
/// fn main() -> thalweg::ExitCode {
///     thalweg::JobMain::<Options>::new("numbers", numbers)
///         .about("Counts")
///         .summary(|options, _report| Ok(format!("{} numbers", options.count)))
///         .run()
/// }
/// ```
pub struct JobMain<'a, A: Args> {
    name: &'static str,
    about: &'static str,
    build: Build<'a, A>,
    summary: Option<Summary<'a, A>>,
    options: PhantomData<fn() -> A>,
}

impl<'a, A: Args> JobMain<'a, A> {
    /// The job that `build` declares; `name` is its identity in its checkpoint directory.
    pub fn new(name: &'static str, build: impl Fn(&Job, &A) -> Result<()> + 'a) -> Self {
        JobMain { name, about: "", build: Box::new(build), summary: None, options: PhantomData }
    }

    /// One sentence for `--help`.
    #[must_use]
    pub fn about(self, about: &'static str) -> Self {
        JobMain { about, ..self }
    }

    /// Calls `summary` after a run, however it ended, unless with an error. The text it returns
    /// is printed to the standard output, except with `--quiet`; its error fails the process.
    #[must_use]
    pub fn summary(self, summary: impl Fn(&A, &RunReport) -> Result<String> + 'a) -> Self {
        JobMain { summary: Some(Box::new(summary)), ..self }
    }

    /// Does what the command line says. The status is that of [`run`](fn@run).
    pub fn run(self) -> ExitCode {
        let matched = command_line::command::<A>(self.name, self.about)
            .try_get_matches()
            .and_then(|matches| command_line::request::<A>(&matches));
        let done = match matched {
            Ok(Request::Run(args, options)) => self.run_job(&args, &options),
            Ok(Request::Plan(args, placement, format)) => {
                self.show_plan(&args, &placement.job_options(), format)
            }
            Ok(Request::Saved(request)) => saved::run(&request),
            Ok(Request::Check(args, options)) => {
                let graph = build_graph(|job| (self.build)(job, &args));
                match graph.and_then(|graph| saved::check::check(self.name, &graph, &options)) {
                    Ok(true) => Ok(()),
                    Ok(false) => return ExitCode::FAILURE,
                    Err(error) => Err(error),
                }
            }
            Err(error) => {
                // A closed output cannot be told about it.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{}", error_line(&error));
                ExitCode::from(if error.kind() == ErrorKind::Config { 2 } else { 1 })
            }
        }
    }

    fn run_job(&self, args: &A, options: &RunOptions) -> Result<()> {
        let mut bar = JobProgressBar::new(!options.quiet);
        // Tests and services may have a subscriber of their own.
        let _ = tracing_subscriber::fmt()
            .with_max_level(options.log)
            .with_writer(bar.clone())
            .try_init();
        let stop = StopSignal::default();
        let (quiet, sayer) = (options.quiet, bar.clone());
        signals::install(stop.clone(), move |line| {
            if !quiet {
                sayer.say(line);
            }
        })?;
        let job_options = options.job_options();
        let graph = build_graph(|job| (self.build)(job, args))?;
        let shown = Shown::default();
        let directory = job_options.checkpoint_dir.as_deref();
        let path = socket_path(directory, options.control.as_deref());
        let socket = path.and_then(|path| {
            let socket = ControlSocket::listen(path, self.name, &stop, &shown);
            // A job does without: signals stop it all the same.
            socket.unwrap_or_else(|error| {
                if !options.quiet {
                    bar.say(&format!("warning: {error}: `stop` and `savepoint` do not reach it"));
                }
                None
            })
        });
        let ended = run_graph(self.name, &graph, &job_options, &stop, &mut |now| {
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(now.clone());
            bar.show(now);
        });
        bar.clear();
        if let Some(socket) = socket {
            socket.finish(&ended);
        }
        let report = ended?;
        if !options.quiet {
            let has_directory = job_options.checkpoint_dir.is_some();
            let text = summary(self.name, &graph, &report, has_directory);
            let _ = writeln!(std::io::stderr(), "{text}");
        }
        match &self.summary {
            Some(summary) => print(&summary(args, &report)?, options.quiet),
            None => Ok(()),
        }
    }

    fn show_plan(&self, args: &A, options: &JobOptions, format: PlanFormat) -> Result<()> {
        let text = plan(self.name, |job| (self.build)(job, args), options, format)?;
        print(text.trim_end(), false)
    }
}

/// Prints to the standard output if there is something to say to someone.
fn print(text: &str, is_quiet: bool) -> Result<()> {
    if is_quiet || text.is_empty() { Ok(()) } else { saved::print(text) }
}
