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
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use options::{Command, Options, Suite};
use report::{Figure, say};

fn main() -> Result<ExitCode> {
    match Options::parse().command {
        Command::Plugins(plugins) => run(&plugins),
        Command::ReferenceEngine { components } => bare::hold(&components),
    }
}

fn run(options: &options::Plugins) -> Result<ExitCode> {
    let places = options::Places::find()?;
    let mut figures: Vec<Figure> = Vec::new();
    let mut failed: Vec<&str> = Vec::new();
    for suite in Suite::ALL.into_iter().filter(|suite| options.only.is_none_or(|only| only == *suite)) {
        say(&format!("{}: {}", suite.name(), suite.describe()));
        let measured = match suite {
            Suite::Fresh => suites::instances::fresh(&places, options.quick),
            Suite::Resident => suites::instances::resident(&places, options.quick),
            Suite::Socket => suites::socket::run(&places, options.quick),
            Suite::Start => suites::start::run(&places, options.quick),
            Suite::Soak => suites::soak::run(&places, options.soak_calls()),
        };
        // The figures of the others are worth having all the same.
        match measured {
            Ok(measured) => figures.extend(measured),
            Err(error) => {
                say(&format!("the suite `{}` failed: {error:#}", suite.name()));
                failed.push(suite.name());
            }
        }
    }
    let path = places.output.join("plugins.json");
    report::write(&figures, &path)?;
    writeln!(std::io::stdout(), "{}", report::table(&figures))?;
    say(&format!("written to {}", path.display()));
    let missed = figures.iter().filter(|figure| !figure.good()).count();
    if missed > 0 {
        say(&format!("{missed} of {} figures miss their target", figures.len()));
    }
    anyhow::ensure!(failed.is_empty(), "these suites failed: {}", failed.join(", "));
    Ok(if missed > 0 && options.check { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
