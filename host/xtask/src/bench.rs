//! `cargo xtask bench`: builds the benchmark programs in release mode and hands over to them.
//!
//! What is measured, against what, and how it is printed is the business of the package `leanclaw-bench`.

use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::repository::Repository;
use crate::{plugins, setup, ui};

/// The benchmarks that need the component tools and the example plugins.
const WITH_PLUGINS: &str = "plugins";

/// Runs the command.
pub(crate) fn run(repository: &Repository, arguments: Arguments) -> Result<ExitCode> {
    if arguments.names(WITH_PLUGINS) {
        setup::ensure(repository)?;
        plugins::build_examples(repository)?;
    }
    ui::say("building leanclaw and the benchmarks (release)");
    let mut cargo = repository.cargo();
    // Together, so that both agree on the features of what they share.
    cargo.args(["build", "--release", "--package", "leanclaw", "--package", "leanclaw-bench"]);
    ui::run_visibly(&mut cargo, "building the benchmarks")?;
    let mut program = repository.command(repository.binary("release", "leanclaw-bench"));
    ui::run_visibly(program.args(arguments.rest()), "the benchmark")?;
    Ok(ExitCode::SUCCESS)
}
