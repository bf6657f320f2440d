//! `cargo xtask start`: from a fresh clone to a running gateway with the example plugins.
//!
//! What it adds to `leanclaw start` are conveniences for development: folders inside the target folder, and grants for
//! the example plugins there. What a person set, by environment or by argument, stays as it is, and nothing is granted in
//! a data folder that a person chose.
//!
//! Grants are given through the gateway's own command line, which needs the running program. A second process of this
//! program waits for it and ends when all is granted, so that the first can become the gateway. The gateway knows nothing
//! of it and would never collect it, so a third process starts it and ends: the system collects it then.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::repository::Repository;
use crate::{plugins, setup, ui};

/// The command of the second process, which is told the gateway's process id and the plugins; not for people.
pub(crate) const GRANT_COMMAND: &str = "grant-examples";
/// The command of the third process: starts the second with its own arguments; not for people.
pub(crate) const DETACH_COMMAND: &str = "detach";
/// Another development data folder, for the test of this command.
pub(crate) const OTHER_DEVELOPMENT_DATA: &str = "LEANCLAW_TEST_DEV_DATA";
const PLUGIN_DIR: &str = "LEANCLAW_PLUGIN_DIR";
const DATA_DIR: &str = "LEANCLAW_DATA_DIR";
/// For the setup and the builds; the program itself would warn about names it does not know.
const BUILD_VARIABLES: &[&str] = &[setup::PACKED_LIBRARY, "LEANCLAW_WIT", "LEANCLAW_TOOLS"];
/// In the development data folder: which plugins were granted once, so that taking a right away lasts.
const GRANTED_LIST: &str = "granted-by-xtask";
/// The first start compiles every plugin before it is ready to be asked about.
const PATIENCE: Duration = Duration::from_secs(600);
const NO_OWN_PATH: &str = "cannot find this program's own path";
const CANNOT_GRANT: &str = "cannot start the process that grants the example plugins their rights";
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Runs the command; on Unix this process becomes the gateway.
pub(crate) fn run(repository: &Repository, arguments: Arguments) -> Result<ExitCode> {
    setup::ensure(repository)?;
    let program = plugins::build_host(repository)?;
    let ids = plugins::build_examples(repository)?;
    let environment = Environment::choose(repository);
    let arguments = arguments.rest();
    let mut command = environment.leanclaw(repository, &program);
    command.arg("start").args(&arguments);
    ui::say(&format!("plugins from {}, data in {}", environment.plugins.display(), environment.data.display()));
    if environment.is_ours(repository) && !names_a_folder(&arguments) {
        grant_in_background(repository, &ids, &environment)?;
    } else {
        ui::say("the folders are your own, so nothing is granted for you: `leanclaw plugin grant ID --all` does it");
    }
    ui::say(&format!("running {}", ui::shown(&command)));
    become_program(&mut command)
}

fn names_a_folder(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| argument.starts_with("--data-dir") || argument.starts_with("--plugin-dir"))
}

/// The data folder that is this program's own.
fn development_data(repository: &Repository) -> PathBuf {
    std::env::var_os(OTHER_DEVELOPMENT_DATA).map_or_else(|| repository.target().join("dev-data"), PathBuf::from)
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
        Self { plugins: chosen(PLUGIN_DIR, repository.plugins()), data: chosen(DATA_DIR, development_data(repository)) }
    }

    /// Whether a person chose neither folder.
    fn is_ours(&self, repository: &Repository) -> bool {
        self.plugins == repository.plugins() && self.data == development_data(repository)
    }

    /// Whether the gateway with this process id listens. Before that, a command would do its work on the data folder
    /// itself, and have the gateway wait for it.
    fn is_served_by(&self, gateway: u32) -> bool {
        let note = std::fs::read_to_string(self.data.join("leanclaw.lock")).unwrap_or_default();
        let mut lines = note.lines();
        lines.next() == Some(gateway.to_string().as_str()) && lines.next().is_some()
    }

    fn granted(&self) -> BTreeSet<String> {
        let list = std::fs::read_to_string(self.data.join(GRANTED_LIST)).unwrap_or_default();
        list.lines().map(str::to_owned).collect()
    }

    fn remember(&self, id: &str) -> Result<()> {
        let mut granted = self.granted();
        granted.insert(id.to_owned());
        let path = self.data.join(GRANTED_LIST);
        let list: String = granted.iter().map(|id| format!("{id}\n")).collect();
        std::fs::write(&path, list).with_context(|| format!("cannot write {}", path.display()))
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

/// Starts the second process if an example plugin was never granted anything in this data folder.
fn grant_in_background(repository: &Repository, ids: &[String], environment: &Environment) -> Result<()> {
    let granted = environment.granted();
    let missing: Vec<&String> = ids.iter().filter(|id| !granted.contains(*id)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let own = std::env::current_exe().context(NO_OWN_PATH)?;
    let mut command = repository.command(own);
    // This process becomes the gateway and keeps its id.
    command.args([DETACH_COMMAND, &std::process::id().to_string()]).args(missing);
    let status = command.status().context(CANNOT_GRANT)?;
    ensure!(status.success(), "{CANNOT_GRANT} ({status})");
    Ok(())
}

/// The third process: starts the second and ends.
pub(crate) fn detach(arguments: Arguments) -> Result<ExitCode> {
    let own = std::env::current_exe().context(NO_OWN_PATH)?;
    Command::new(own).arg(GRANT_COMMAND).args(arguments.rest()).stdin(Stdio::null()).spawn().context(CANNOT_GRANT)?;
    Ok(ExitCode::SUCCESS)
}

/// The second process: waits for the gateway and grants each of the named plugins what its manifest asks for.
pub(crate) fn grant_examples(repository: &Repository, mut arguments: Arguments) -> Result<ExitCode> {
    let environment = Environment::choose(repository);
    let program = repository.binary("debug", "leanclaw");
    let gateway = arguments.next().and_then(|id| id.parse().ok()).context("the gateway's process id is missing")?;
    let started = Instant::now();
    let mut waiting = arguments.rest();
    while !waiting.is_empty() && started.elapsed() < PATIENCE && is_running(gateway) {
        if !environment.is_served_by(gateway) {
            std::thread::sleep(POLL_INTERVAL);
            continue;
        }
        let mut still = Vec::new();
        for id in waiting {
            match grant(repository, &program, &environment, &id) {
                Ok(()) => environment.remember(&id)?,
                // Not listening yet, or the plugin is still being compiled.
                Err(_) => still.push(id),
            }
        }
        waiting = still;
        std::thread::sleep(POLL_INTERVAL);
    }
    if !waiting.is_empty() && is_running(gateway) {
        ui::warn(&format!("not granted, since leanclaw does not show them: {}", waiting.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Grants one plugin everything unless it has a grant.
fn grant(repository: &Repository, program: &Path, environment: &Environment, id: &str) -> Result<()> {
    let leanclaw = || environment.leanclaw(repository, program);
    let inspected = ui::capture(leanclaw().args(["plugin", "inspect", id, "--json"]))?;
    let plugin: Value =
        serde_json::from_str(&inspected).context("`leanclaw plugin inspect --json` did not print JSON")?;
    if plugin.get("granted").is_some_and(|granted| !granted.is_null()) {
        return Ok(());
    }
    ui::capture(leanclaw().args(["plugin", "grant", id, "--all", "--yes"]))?;
    ui::say(&format!(
        "granted the example plugin {id} all that its manifest asks for: this is its first start in a development folder \
         (`leanclaw plugin revoke {id} --all` takes it back for good)"
    ));
    Ok(())
}

/// Whether there is a process with this id.
fn is_running(process: u32) -> bool {
    ui::capture(Command::new("kill").args(["-0", &process.to_string()])).is_ok()
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
