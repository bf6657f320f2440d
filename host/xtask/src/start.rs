//! `cargo xtask start`: from a fresh clone to a running gateway with the example plugins.
//!
//! What it adds to `leanclaw start` are conveniences for development: folders inside the target folder, and grants for
//! the example plugins. What a person set by environment stays as it is.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::repository::Repository;
use crate::{plugins, setup, ui};

const PLUGIN_DIR: &str = "LEANCLAW_PLUGIN_DIR";
const DATA_DIR: &str = "LEANCLAW_DATA_DIR";
/// For the setup and the builds; the program itself would warn about names it does not know.
const BUILD_VARIABLES: &[&str] = &[setup::PACKED_LIBRARY, "LEANCLAW_WIT", "LEANCLAW_TOOLS"];

/// Runs the command; on Unix this process becomes the gateway.
pub(crate) fn run(repository: &Repository, arguments: Arguments) -> Result<ExitCode> {
    setup::ensure(repository)?;
    let program = plugins::build_host(repository)?;
    let ids = plugins::build_examples(repository)?;
    let environment = Environment::choose(repository);
    if environment.plugins == repository.plugins() {
        for id in &ids {
            grant_once(repository, &program, &environment, id)?;
        }
    }
    let mut command = environment.leanclaw(repository, &program);
    command.arg("start").args(arguments.rest());
    ui::say(&format!("plugins from {}, data in {}", environment.plugins.display(), environment.data.display()));
    ui::say(&format!("running {}", ui::shown(&command)));
    become_program(&mut command)
}

/// The folders the gateway runs on.
struct Environment {
    plugins: PathBuf,
    data: PathBuf,
}

impl Environment {
    fn choose(repository: &Repository) -> Self {
        let chosen = |name: &str, default: PathBuf| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map_or(default, PathBuf::from)
        };
        Self {
            plugins: chosen(PLUGIN_DIR, repository.plugins()),
            data: chosen(DATA_DIR, repository.target().join("dev-data")),
        }
    }

    /// The program in the folder the person stands in, so that their `.env` and relative paths count.
    fn leanclaw(&self, repository: &Repository, program: &Path) -> Command {
        let mut command = repository.command(program);
        for name in BUILD_VARIABLES {
            command.env_remove(name);
        }
        if let Ok(folder) = std::env::current_dir() {
            command.current_dir(folder);
        }
        command.env(PLUGIN_DIR, &self.plugins).env(DATA_DIR, &self.data);
        command
    }
}

/// Grants an example plugin what its manifest asks for, unless a grant was ever stored for it: someone who took a right
/// away must not get it back from the next start.
fn grant_once(repository: &Repository, program: &Path, environment: &Environment, id: &str) -> Result<()> {
    let inspected = ui::capture(environment.leanclaw(repository, program).args(["plugin", "inspect", id, "--json"]))
        .with_context(|| format!("cannot ask leanclaw about the plugin {id}"))?;
    let answer: Value = serde_json::from_str(&inspected)
        .with_context(|| format!("`leanclaw plugin inspect {id} --json` did not print JSON"))?;
    if has_grant(&answer) {
        return Ok(());
    }
    ui::capture(environment.leanclaw(repository, program).args(["plugin", "grant", id, "--all", "--yes"]))
        .with_context(|| format!("cannot grant the plugin {id} its rights"))?;
    ui::say(&format!(
        "granted the example plugin {id} all that its manifest asks for, since this is a development start and nothing was \
         granted yet; `leanclaw plugin revoke {id}` takes it back, and it stays so"
    ));
    Ok(())
}

fn has_grant(inspected: &Value) -> bool {
    inspected.get("granted").or_else(|| inspected.get("grant")).is_some_and(|grant| !grant.is_null())
}

#[cfg(unix)]
fn become_program(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", ui::shown(command)))
}

#[cfg(not(unix))]
fn become_program(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot run {}", ui::shown(command)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
