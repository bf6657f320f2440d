//! `cargo xtask start`: from a fresh clone to a running gateway with the example plugins.
//!
//! What it adds to `leanclaw start` are conveniences for development: folders inside the target folder, and grants for
//! the example plugins there. What a person set, by environment or by argument, stays as it is, and nothing is granted in
//! a data folder that a person chose. Where no model can be asked, `stand_in.rs` provides what is none.
//!
//! To run the examples of this very tree is to agree to what they ask for: they are granted that at the first start, and
//! again when an example asks for something else than it did then. Between the two, a right that was taken back stays so;
//! a plugin from which all was taken back stays without.
//!
//! Grants are given through the gateway's own command line, which needs the running program. A second process of this
//! program waits for it and ends when all is granted, so that the first can become the gateway. The gateway knows nothing
//! of it and would never collect it, so a third process starts it and ends: the system collects it then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::fingerprint::Fingerprint;
use crate::repository::Repository;
use crate::{agent, plugins, setup, stand_in, ui};

/// The command of the second process, which is told the gateway's process id and the plugins; not for people.
pub(crate) const GRANT_COMMAND: &str = "grant-examples";
/// The command of the third process: starts the program that its arguments name and ends; not for people.
pub(crate) const DETACH_COMMAND: &str = "detach";
/// Another development data folder, for the test of this command.
pub(crate) const OTHER_DEVELOPMENT_DATA: &str = "LEANCLAW_TEST_DEV_DATA";
const PLUGIN_DIR: &str = "LEANCLAW_PLUGIN_DIR";
const DATA_DIR: &str = "LEANCLAW_DATA_DIR";
/// For the setup and the builds; the program itself would warn about names it does not know.
const BUILD_VARIABLES: &[&str] = &[setup::PACKED_LIBRARY, "LEANCLAW_WIT", "LEANCLAW_TOOLS"];
/// In the development data folder: which plugins were granted what they ask for, and a fingerprint of that, so that taking
/// a right away lasts.
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
    let agent = agent::build(repository)?;
    let ids = plugins::build_examples(repository)?;
    let environment = Environment::choose(repository);
    let arguments = arguments.rest();
    let mut command = environment.leanclaw(repository, &program);
    command.arg("start").args(&arguments);
    let mut looks = environment.leanclaw(repository, &program);
    looks.args(&arguments);
    stand_in::provide(repository, looks, &mut command)?;
    if std::env::var_os(agent::VARIABLE).is_none_or(|value| value.is_empty()) {
        command.env(agent::VARIABLE, agent);
    }
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

    /// The plugins that were granted what they ask for, and what that was; nothing is known of the latter in a folder from
    /// before it was written down.
    fn granted(&self) -> BTreeMap<String, String> {
        let list = std::fs::read_to_string(self.data.join(GRANTED_LIST)).unwrap_or_default();
        let entry = |line: &str| {
            let (id, asked) = line.split_once(' ').unwrap_or((line, ""));
            (id.to_owned(), asked.to_owned())
        };
        list.lines().map(entry).collect()
    }

    fn remember(&self, id: &str, asked: &str) -> Result<()> {
        let mut granted = self.granted();
        granted.insert(id.to_owned(), asked.to_owned());
        let path = self.data.join(GRANTED_LIST);
        let list: String = granted.iter().map(|(id, asked)| format!("{id} {asked}\n")).collect();
        std::fs::write(&path, list).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A fingerprint of what a built plugin asks for.
    fn asked(&self, id: &str) -> Result<String> {
        let path = self.plugins.join(id).join("leanclaw.plugin.json");
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: Value =
            serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let mut asked = Fingerprint::new("what a plugin asks for");
        for field in ["permissions", "limits"] {
            asked.text(&manifest.get(field).unwrap_or(&Value::Null).to_string());
        }
        Ok(asked.finish())
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

/// Starts the second process if an example plugin asks for something else than it was granted in this data folder.
fn grant_in_background(repository: &Repository, ids: &[String], environment: &Environment) -> Result<()> {
    let granted = environment.granted();
    let mut missing = Vec::new();
    for id in ids {
        if granted.get(id) != Some(&environment.asked(id)?) {
            missing.push(id);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let own = std::env::current_exe().context(NO_OWN_PATH)?;
    let mut command = repository.command(&own);
    // This process becomes the gateway and keeps its id.
    command.arg(DETACH_COMMAND).arg(own).args([GRANT_COMMAND, &std::process::id().to_string()]).args(missing);
    let status = command.status().context(CANNOT_GRANT)?;
    ensure!(status.success(), "{CANNOT_GRANT} ({status})");
    Ok(())
}

/// The third process: starts the second, or another program that is to go on beside the gateway, and ends.
pub(crate) fn detach(mut arguments: Arguments) -> Result<ExitCode> {
    let program = arguments.next().context("the program to start is missing")?;
    let started = Command::new(&program).args(arguments.rest()).stdin(Stdio::null()).spawn();
    started.with_context(|| format!("cannot run {program}"))?;
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
                Ok(()) => environment.remember(&id, &environment.asked(&id)?)?,
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

/// What is to be done about a plugin that asks for something else than when it was granted last.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// It cannot be told yet.
    Later,
    Nothing,
    Grant,
}

/// Judges `plugin`, as `leanclaw plugin inspect` shows it.
fn due(plugin: &Value, was_granted: bool) -> Due {
    let has_grant = plugin.get("granted").is_some_and(|granted| !granted.is_null());
    let is_whole = plugin.get("missing").and_then(Value::as_array).is_some_and(Vec::is_empty);
    match plugin.get("state").and_then(Value::as_str) {
        None | Some("loading") => Due::Later,
        // Approved as a whole already; or all was taken back, which is for good.
        Some(_) if (has_grant && is_whole) || (!has_grant && was_granted) => Due::Nothing,
        Some(_) => Due::Grant,
    }
}

/// Grants one plugin everything it asks for, unless it has that or was left without any right.
fn grant(repository: &Repository, program: &Path, environment: &Environment, id: &str) -> Result<()> {
    let leanclaw = || environment.leanclaw(repository, program);
    let inspected = ui::capture(leanclaw().args(["plugin", "inspect", id, "--json"]))?;
    let plugin: Value =
        serde_json::from_str(&inspected).context("`leanclaw plugin inspect --json` did not print JSON")?;
    let was_granted = environment.granted().contains_key(id);
    match due(&plugin, was_granted) {
        Due::Later => bail!("{id} is being loaded"),
        Due::Nothing => return Ok(()),
        Due::Grant => {}
    }
    ui::capture(leanclaw().args(["plugin", "grant", id, "--all", "--yes"]))?;
    let why = if was_granted {
        "it asks for something else than when it was granted last"
    } else {
        "this is its first start in a development folder"
    };
    ui::say(&format!(
        "granted the example plugin {id} all that its manifest asks for: {why} \
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_taken_back_whole_stays_so_and_what_is_newly_asked_for_is_granted() {
        let plugin = |state: &str, granted: Value, missing: Value| json!({"state": state, "granted": granted, "missing": missing});
        let cases = [
            (plugin("loading", Value::Null, json!([])), true, Due::Later),
            (plugin("needs-grant", Value::Null, json!(["kv:1"])), false, Due::Grant),
            (plugin("needs-grant", Value::Null, json!(["kv:1"])), true, Due::Nothing),
            (plugin("needs-grant", json!({}), json!(["limit:memoryMib=128"])), true, Due::Grant),
            (plugin("ready", json!({}), json!(["kv:1"])), true, Due::Grant),
            (plugin("ready", json!({"inbox": true}), json!([])), false, Due::Nothing),
        ];
        for (plugin, was_granted, expected) in cases {
            assert_eq!(due(&plugin, was_granted), expected, "{plugin} {was_granted}");
        }
    }
}
