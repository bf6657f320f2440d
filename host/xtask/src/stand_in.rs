//! What `cargo xtask start` does where no key for a model is set: it starts a scripted stand-in beside the gateway, and says so.
//!
//! Whether a key is set is asked of the program itself, which knows every place where one can stand. The stand-in is a program
//! of the tests (`tests/fakes`), is part of nothing that is given away, and ends when the gateway has ended.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::repository::Repository;
use crate::start::DETACH_COMMAND;
use crate::ui;

/// The program's settings: its key for models, and where it asks for them.
pub(crate) const KEY: &str = "LEANCLAW_ANTHROPIC_API_KEY";
pub(crate) const BASE_URL: &str = "LEANCLAW_ANTHROPIC_BASE_URL";
/// The program's setting for a server of another kind, whose models answer as well.
const LOCAL_URL: &str = "LEANCLAW_LOCAL_LLM_BASE_URL";
/// What other programs call the key.
pub(crate) const FOREIGN_KEY: &str = "ANTHROPIC_API_KEY";
/// The stand-in.
pub(crate) const PROGRAM: &str = "fake-model";
const CANNOT_START: &str = "the stand-in for a model does not start";

/// Starts the stand-in if nothing is said about models, for as long as this process lives, and tells `start` where it is.
/// `leanclaw` is the program as it will be started.
pub(crate) fn provide(repository: &Repository, mut leanclaw: Command, start: &mut Command) -> Result<()> {
    // What is wrong with the settings is said by the start itself.
    let Ok(settings) = ui::capture(leanclaw.args(["config", "--json"])) else { return Ok(()) };
    let settings: Value = serde_json::from_str(&settings).context("`leanclaw config --json` did not print JSON")?;
    if says_something(&settings) {
        return Ok(());
    }
    if std::env::var_os(FOREIGN_KEY).is_some_and(|value| !value.is_empty()) {
        ui::say(&format!("{FOREIGN_KEY} is set, and LeanClaw uses {KEY}: set that as well, and a model answers"));
        return Ok(());
    }
    let url = run(repository)?;
    ui::say(&format!(
        "no key for a model is set ({KEY}), so a SCRIPTED STAND-IN answers in place of a model, at {url}: it uses real tools \
         when it is asked about files, and thinks nothing"
    ));
    start.env(KEY, "fake").env(BASE_URL, url);
    Ok(())
}

/// Whether a person gave a key or an address, wherever they wrote it.
fn says_something(settings: &Value) -> bool {
    let settings = settings.get("settings").and_then(Value::as_array).into_iter().flatten();
    let is_about_models = |setting: &&Value| {
        [KEY, BASE_URL, LOCAL_URL].iter().any(|name| setting.get("name").is_some_and(|own| own == name))
    };
    let mut sources = settings.filter(is_about_models).filter_map(|setting| setting.pointer("/source/kind"));
    sources.any(|kind| kind != "default")
}

/// Starts it through a third process, as the gateway would never collect it; where it listens.
fn run(repository: &Repository) -> Result<String> {
    let own = std::env::current_exe().context("cannot find this program's own path")?;
    let mut command = repository.command(own);
    command.arg(DETACH_COMMAND).arg(repository.binary("debug", PROGRAM));
    // This process becomes the gateway and keeps its id.
    command.args(["--while", &std::process::id().to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context(CANNOT_START)?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).context(CANNOT_START)?;
    }
    let status = child.wait().context(CANNOT_START)?;
    let url = line.trim();
    ensure!(status.success() && url.starts_with("http://"), "{CANNOT_START} ({status})");
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_counts_wherever_it_is_written() {
        let setting = |name: &str, kind: &str| {
            let other = json!({"name": "OTHER", "value": "x", "source": {"kind": "environment"}});
            json!({"settings": [other, {"name": name, "value": null, "source": {"kind": kind}}]})
        };
        assert!(!says_something(&setting(KEY, "default")));
        assert!(!says_something(&setting("ANOTHER", "file")));
        assert!(!says_something(&json!({})));
        assert!(says_something(&setting(KEY, ".env")));
        assert!(says_something(&setting(BASE_URL, "file")));
        assert!(says_something(&setting(LOCAL_URL, "environment")));
    }
}
