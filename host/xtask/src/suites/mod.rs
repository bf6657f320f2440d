//! `cargo xtask test`: every test there is, in one command, with time per suite and a total.
//!
//! Owns the order of the suites and the counting; what is tested belongs to the tests. A suite that cannot be run on this
//! machine is said to be so in the summary and never counts as passed.

mod clients;
mod count;
mod private_toolchain;
mod setup;
mod start;
#[cfg(unix)]
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::arguments::Arguments;
use crate::fingerprint::files_below;
use crate::interpreter::{self, Interpreter};
use crate::repository::Repository;
use crate::{agent, plugins, stand_in, ui};

pub(crate) use count::Count;
use count::{Format, run_counted};

/// How a suite ended.
pub(crate) enum Outcome {
    /// It ran to its end.
    Ran(Count),
    /// This machine lacks something; the text says what, and how to get it.
    NotRun(String),
}

struct Suite {
    name: &'static str,
    summary: &'static str,
    /// Whether the leanclaw binary, the agent and the example plugins are needed.
    needs_build: bool,
    /// Whether there is anything to run in this clone.
    present: fn(&Repository) -> bool,
    run: fn(&Repository) -> Result<Outcome>,
}

/// In the order they run: quick ones first.
const SUITES: &[Suite] = &[
    Suite { name: "unit", summary: "unit tests of the host crates", needs_build: true, present: |_| true, run: unit },
    Suite {
        name: "integration",
        summary: "the host as a black box: real binary, real sockets, hostile guests",
        needs_build: true,
        present: |_| true,
        run: integration,
    },
    Suite { name: "doc", summary: "examples in the documentation", needs_build: false, present: |_| true, run: doc },
    Suite {
        name: "plugins",
        summary: "the example plugins' own tests, natively",
        needs_build: false,
        present: |repository| repository.examples().join("Cargo.toml").is_file(),
        run: example_plugins,
    },
    Suite {
        name: "js",
        summary: "the JavaScript plugin kit and plugins",
        needs_build: false,
        present: |repository| javascript_tests(repository).is_ok_and(|found| !found.is_empty()),
        run: javascript,
    },
    Suite {
        name: "py",
        summary: "the Python plugin kit and plugins",
        needs_build: false,
        present: |repository| python_tests(repository).is_ok_and(|found| !found.is_empty()),
        run: python,
    },
    Suite {
        name: "clients",
        summary: "foreign gateway clients against the real gateway",
        needs_build: true,
        present: clients::present,
        run: clients::run,
    },
    Suite {
        name: "start",
        summary: "`cargo xtask start`, twice: the example plugins granted and served, nothing left behind",
        needs_build: true,
        present: |_| true,
        run: start::run,
    },
    // The machine that it pretends is made of scripts and links.
    #[cfg(unix)]
    Suite {
        name: "tools",
        summary: "the example plugins built with neither Node.js nor Python",
        needs_build: true,
        present: |_| true,
        run: tools::run,
    },
    Suite {
        name: "setup",
        summary: "every way to provide the wasm32-wasip2 target, on private copies of the toolchain",
        needs_build: false,
        present: |_| true,
        run: setup::run,
    },
];

/// Runs the command.
pub(crate) fn run(repository: &Repository, mut arguments: Arguments) -> Result<ExitCode> {
    if arguments.flag("--list") {
        for suite in SUITES {
            ui::print(&format!("{:<12} {}", suite.name, suite.summary));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let suites = chosen(repository, &arguments.rest())?;
    crate::setup::ensure(repository)?;
    if suites.iter().any(|suite| suite.needs_build) {
        plugins::build_host(repository)?;
        agent::build(repository)?;
        plugins::build_examples(repository)?;
    }
    empty(&frames(repository))?;
    let mut report = Report::default();
    for suite in suites {
        ui::say(&format!("suite {}: {}", suite.name, suite.summary));
        let started = Instant::now();
        let outcome = (suite.run)(repository);
        report.add(suite.name, started.elapsed(), outcome);
    }
    Ok(report.print())
}

fn chosen(repository: &Repository, names: &[String]) -> Result<Vec<&'static Suite>> {
    if let Some(unknown) = names.iter().find(|name| !SUITES.iter().any(|suite| suite.name == name.as_str())) {
        bail!("there is no test suite `{unknown}`; `cargo xtask test --list` names them all");
    }
    for suite in SUITES {
        if names.iter().any(|name| name == suite.name) && !(suite.present)(repository) {
            bail!("this clone has nothing for the suite `{}`", suite.name);
        }
    }
    let wanted = |suite: &&Suite| {
        (names.is_empty() || names.iter().any(|name| name == suite.name)) && (suite.present)(repository)
    };
    Ok(SUITES.iter().filter(wanted).collect())
}

/// What happened so far.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    total: Count,
    failed: Vec<&'static str>,
}

impl Report {
    fn add(&mut self, name: &'static str, duration: Duration, outcome: Result<Outcome>) {
        let time = ui::seconds(duration);
        let text = match outcome {
            Ok(Outcome::Ran(count)) => {
                self.total.add(count);
                if count.failed > 0 {
                    self.failed.push(name);
                }
                let skipped = if count.ignored > 0 { format!(", {} NOT RUN", count.ignored) } else { String::new() };
                format!("{} passed, {} failed{skipped}", count.passed, count.failed)
            }
            Ok(Outcome::NotRun(reason)) => {
                ui::warn(&format!("suite {name} was not run: {reason}"));
                format!("NOT RUN: {reason}")
            }
            Err(error) => {
                ui::error(&format!("suite {name}: {error:#}"));
                self.total.failed += 1;
                self.failed.push(name);
                "did not run to its end".to_owned()
            }
        };
        ui::say(&format!("suite {name}: {text} in {time}"));
        self.lines.push(format!("  {name:<12} {time:>8}  {text}"));
    }

    fn print(self) -> ExitCode {
        ui::print(&format!("\n{}", self.lines.join("\n")));
        if !self.failed.is_empty() {
            ui::print(&format!("failed suites: {}", self.failed.join(", ")));
        }
        let not_run = if self.total.ignored > 0 { format!(", {} NOT RUN", self.total.ignored) } else { String::new() };
        ui::print(&format!("{} passed, {} failed{not_run}", self.total.passed, self.total.failed));
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// `cargo test` on the whole workspace, whatever part of the tests is run: another choice of packages would choose other
/// features and build the dependencies again.
fn cargo_test(repository: &Repository, part: &[&str]) -> Result<Outcome> {
    let mut cargo = repository.cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]).args(part);
    point_at_builds(repository, &mut cargo);
    let list = repository.state_folder().join("not-run");
    std::fs::create_dir_all(repository.state_folder()).context("cannot make the folder for notes")?;
    std::fs::write(&list, "").with_context(|| format!("cannot write {}", list.display()))?;
    cargo.env("LEANCLAW_TEST_NOT_RUN", &list);
    let count = run_counted(&mut cargo, Format::Cargo)?;
    let told = std::fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    for test in told.lines() {
        ui::warn(&format!("NOT RUN: {test}"));
    }
    Ok(Outcome::Ran(count.without(told.lines().count())))
}

/// Tells black-box tests where the built things lie, and where to keep and find what clients of this run have heard.
fn point_at_builds(repository: &Repository, command: &mut Command) {
    command.env("LEANCLAW_TEST_BINARY", repository.binary("debug", "leanclaw"));
    command.env("LEANCLAW_TEST_PLUGINS", repository.plugins());
    command.env(agent::VARIABLE, agent::path(repository));
    command.env("LEANCLAW_TEST_FAKE_MODEL", repository.binary("debug", stand_in::PROGRAM));
    command.env("LEANCLAW_TEST_FRAMES", frames(repository));
}

/// What the clients of the unit and the integration tests hear in a run, for the suite `clients` to check.
fn frames(repository: &Repository) -> PathBuf {
    repository.state_folder().join("frames")
}

/// Makes a folder that holds nothing.
fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

fn unit(repository: &Repository) -> Result<Outcome> {
    cargo_test(repository, &["--lib", "--bins"])
}

fn integration(repository: &Repository) -> Result<Outcome> {
    cargo_test(repository, &["--test", "*"])
}

fn doc(repository: &Repository) -> Result<Outcome> {
    cargo_test(repository, &["--doc"])
}

fn example_plugins(repository: &Repository) -> Result<Outcome> {
    let mut cargo = repository.cargo();
    cargo.current_dir(repository.examples()).args(["test", "--workspace", "--no-fail-fast"]);
    cargo.env("CARGO_TARGET_DIR", repository.examples_target());
    run_counted(&mut cargo, Format::Cargo).map(Outcome::Ran)
}

/// The kit of a language and the example plugins: those with tests, told by what the tests' names look like.
fn test_files(repository: &Repository, kit: &str, is_test: fn(&str) -> bool) -> Result<Vec<(PathBuf, Vec<PathBuf>)>> {
    let examples = std::fs::read_dir(repository.examples()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = examples.chain([repository.root().join("plugin-sdk").join(kit)]).collect();
    folders.sort();
    let mut found = Vec::new();
    for folder in folders {
        let mut files = files_below(&folder.join("tests"))?;
        files.retain(|path| path.file_name().is_some_and(|name| is_test(&name.to_string_lossy())));
        if !files.is_empty() {
            found.push((folder, files));
        }
    }
    Ok(found)
}

fn javascript_tests(repository: &Repository) -> Result<Vec<(PathBuf, Vec<PathBuf>)>> {
    test_files(repository, "js", |name| name.ends_with(".test.js"))
}

fn python_tests(repository: &Repository) -> Result<Vec<(PathBuf, Vec<PathBuf>)>> {
    test_files(repository, "python", |name| name.starts_with("test_") && name.ends_with(".py"))
}

fn javascript(repository: &Repository) -> Result<Outcome> {
    if let Some(missing) = unusable(repository, &interpreter::NODE) {
        return Ok(missing);
    }
    // Named one by one: what `node --test FOLDER` means differs between versions of Node.js.
    let files = javascript_tests(repository)?.into_iter().flat_map(|(_, files)| files);
    let mut node = repository.command("node");
    node.args(["--test", "--test-reporter=tap"]).args(files);
    plugins::offer_tools(repository, &mut node)?;
    run_counted(&mut node, Format::Node).map(Outcome::Ran)
}

fn python(repository: &Repository) -> Result<Outcome> {
    if let Some(missing) = unusable(repository, &interpreter::PYTHON) {
        return Ok(missing);
    }
    let kit = repository.root().join("plugin-sdk/python");
    let mut count = Count::default();
    for (folder, _) in python_tests(repository)? {
        let mut python = repository.command("python3");
        python.current_dir(&folder).args(["-B", "-m", "unittest", "discover"]);
        python.args(["--start-directory", "tests", "--top-level-directory", "."]);
        python.env("PYTHONPATH", std::env::join_paths([folder.as_path(), kit.as_path()])?);
        plugins::offer_tools(repository, &mut python)?;
        count.add(run_counted(&mut python, Format::Python)?);
    }
    Ok(Outcome::Ran(count))
}

fn unusable(repository: &Repository, interpreter: &Interpreter) -> Option<Outcome> {
    interpreter.require(repository).err().map(|error| Outcome::NotRun(format!("{error:#}")))
}

fn missing_program(repository: &Repository, name: &str) -> Option<Outcome> {
    let missing = ui::capture(repository.command(name).arg("--version")).is_err();
    missing.then(|| Outcome::NotRun(format!("`{name}` is not installed")))
}
