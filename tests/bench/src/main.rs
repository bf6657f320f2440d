//! `leanclaw-bench`: measures what the program promises, each figure beside a reference from the same run.
//!
//! A reference is a separate minimal program or function, never the measured one with something switched off. Rounds of
//! both are interleaved, so that a busy machine hits both alike; what is printed are medians and 99th percentiles. It
//! owns no build of the host (`cargo xtask bench` makes that) and asserts nothing: a figure that misses its target is
//! marked, and only `--check` makes that a failure.

mod bare;
mod guests;
mod memory;
mod options;
mod report;
mod runtime;
mod server;
mod suites;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use options::{Command, Options, Suite};
use report::{Figure, say};

fn main() -> Result<ExitCode> {
    match Options::parse().command {
        Command::Plugins(plugins) => run_plugins(&plugins),
        Command::Gateway(gateway) => run_gateway(&gateway),
        Command::ReferenceEngine { components } => bare::hold(&components),
    }
}

fn run_plugins(options: &options::Plugins) -> Result<ExitCode> {
    let places = options::Places::find()?;
    let mut run = Run::default();
    for suite in Suite::ALL.into_iter().filter(|suite| options.only.is_none_or(|only| only == *suite)) {
        run.measure(suite.name(), suite.describe(), || match suite {
            Suite::Fresh => suites::instances::fresh(&places, options.quick),
            Suite::Resident => suites::instances::resident(&places, options.quick),
            Suite::Socket => suites::socket::run(&places, options.quick),
            Suite::Start => suites::start::run(&places, options.quick),
            Suite::Beside => suites::beside::run(&places, options.quick),
            Suite::Folder => suites::folder::run(&places, options.quick),
            Suite::Soak => suites::soak::run(&places, options.soak_calls()),
        });
    }
    run.end(&places.output.join("plugins.json"), options.check)
}

fn run_gateway(options: &options::Gateway) -> Result<ExitCode> {
    let places = options::Places::find()?;
    raise_open_files();
    let mut run = Run::default();
    for part in options.parts() {
        run.measure(part.name(), part.describe(), || suites::gateway::run(part, &places, options));
    }
    run.end(&places.output.join("gateway.json"), options.check)
}

/// The servers and the client take a file per connection; they inherit what this process may have.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Who may not have more finds out when a connection fails.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What was found so far.
#[derive(Default)]
struct Run {
    figures: Vec<Figure>,
    failed: Vec<&'static str>,
}

impl Run {
    /// Measures one part. The figures of the others are worth having even if it fails.
    fn measure(&mut self, name: &'static str, what: &str, measure: impl FnOnce() -> Result<Vec<Figure>>) {
        say(&format!("{name}: {what}"));
        match measure() {
            Ok(measured) => self.figures.extend(measured),
            Err(error) => {
                say(&format!("the suite `{name}` failed: {error:#}"));
                self.failed.push(name);
            }
        }
    }

    /// Prints and keeps the figures.
    fn end(self, path: &Path, check: bool) -> Result<ExitCode> {
        report::write(&self.figures, path)?;
        writeln!(std::io::stdout(), "{}", report::table(&self.figures))?;
        say(&format!("written to {}", path.display()));
        let missed = self.figures.iter().filter(|figure| !figure.good()).count();
        if missed > 0 {
            say(&format!("{missed} of {} figures miss their target", self.figures.len()));
        }
        anyhow::ensure!(self.failed.is_empty(), "these suites failed: {}", self.failed.join(", "));
        Ok(if missed > 0 && check { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}
